//! One member of a group.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{JoinAnswer, Reply, SyncAnswer, respond};
use crate::coordinator::records::MemberRecord;

/// A member, with the requests of its that wait for an answer.
#[derive(Debug)]
pub(crate) struct Member {
    pub id: Arc<str>,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    pub client_id: Arc<str>,
    /// As Java prints an address: `/127.0.0.1`.
    pub client_host: Arc<str>,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    /// What it can speak, the preferred first, each with its metadata.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    pub assignment: Bytes,
    /// Whether its first join has not been answered: then it does not know its id and can't heartbeat.
    pub is_new: bool,
    pub awaiting_join: Option<Reply<JoinAnswer>>,
    pub awaiting_sync: Option<Reply<SyncAnswer>>,
}

impl Member {
    pub(crate) fn from_record(record: MemberRecord, protocol: Arc<str>) -> Self {
        Self {
            id: record.member_id,
            instance_id: record.instance_id,
            client_id: record.client_id,
            client_host: record.client_host,
            session_timeout: millis(record.session_timeout_ms),
            rebalance_timeout: millis(record.rebalance_timeout_ms),
            protocols: vec![(protocol, record.subscription)],
            assignment: record.assignment,
            is_new: false,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }

    pub(crate) fn to_record(&self, protocol: &str, assignment: Bytes) -> MemberRecord {
        MemberRecord {
            member_id: self.id.clone(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout.as_millis() as i32,
            session_timeout_ms: self.session_timeout.as_millis() as i32,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// What it attached to a protocol; empty when it does not speak it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| **name == *protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    pub(crate) fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| **name == *protocol)
    }

    /// Whether its session may end now: not while a rebalance keeps it waiting, unless it is new.
    pub(crate) fn may_expire(&self) -> bool {
        self.is_new || (self.awaiting_join.is_none() && self.awaiting_sync.is_none())
    }

    /// Answers its JoinGroup, if one waits.
    pub(crate) fn answer_join(&mut self, answer: JoinAnswer) {
        if let Some(reply) = self.awaiting_join.take() {
            respond(reply, answer);
        }
    }

    /// Answers its SyncGroup, if one waits; tells whether one did.
    pub(crate) fn answer_sync(&mut self, answer: SyncAnswer) -> bool {
        let Some(reply) = self.awaiting_sync.take() else { return false };
        respond(reply, answer);
        true
    }
}

/// Milliseconds of the wire; Kafka takes negative ones as none.
pub(crate) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
