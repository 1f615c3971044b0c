//! The committed offsets of one group: those that are visible, and which are being written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, GroupState};
use super::records::{CommittedOffset, StateRecord};

/// What an offset is committed for: a partition of a topic, by name as in Kafka's records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OffsetKey {
    pub topic: Arc<str>,
    pub partition: i32,
}

/// The offsets of a group.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    /// Durable ones: these are what others see.
    committed: BTreeMap<OffsetKey, CommittedOffset>,
    /// How many commits of a key are on their way to the log.
    pending: BTreeMap<OffsetKey, u32>,
}

impl Offsets {
    /// Whether there are none, not even on the way.
    pub(crate) fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// How many are committed.
    pub(crate) fn len(&self) -> usize {
        self.committed.len()
    }

    /// A committed offset.
    pub(crate) fn get(&self, key: &OffsetKey) -> Option<&CommittedOffset> {
        self.committed.get(key)
    }

    /// All committed offsets, by topic and partition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&OffsetKey, &CommittedOffset)> {
        self.committed.iter()
    }

    /// All keys that the log may have a value of once the writes on the way are done.
    pub(crate) fn keys(&self) -> Vec<OffsetKey> {
        let mut keys: Vec<_> = self.committed.keys().chain(self.pending.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Whether the log may have a value of a key once the writes on the way are done.
    pub(crate) fn may_have(&self, key: &OffsetKey) -> bool {
        self.committed.contains_key(key) || self.pending.contains_key(key)
    }

    /// A commit is on its way to the log.
    pub(crate) fn begin_commit(&mut self, key: &OffsetKey) {
        *self.pending.entry(key.clone()).or_default() += 1;
    }

    /// A commit has arrived, or failed (`None`).
    pub(crate) fn end_commit(&mut self, key: &OffsetKey, value: Option<CommittedOffset>) {
        let pending = self.pending.get_mut(key).expect("a commit ends after it began");
        *pending -= 1;
        if *pending == 0 {
            self.pending.remove(key);
        }
        if let Some(value) = value {
            self.committed.insert(key.clone(), value);
        }
    }

    /// Sets what the log says, at loading.
    pub(crate) fn replay(&mut self, key: OffsetKey, value: Option<CommittedOffset>) {
        match value {
            Some(value) => drop(self.committed.insert(key, value)),
            None => drop(self.committed.remove(&key)),
        }
    }

    /// Forgets what was deleted from the log.
    pub(crate) fn remove(&mut self, key: &OffsetKey) {
        self.committed.remove(key);
    }

    /// The keys whose retention is over: counted from when the group became empty, or for groups without members'
    /// protocol and for topics that a stable group no longer subscribes to, from the commit (KIP-211). A commit on
    /// its way keeps its key.
    pub(crate) fn expired(&self, group: &Group, now_ms: i64, retention: Duration) -> Vec<OffsetKey> {
        let over = |since: i64| now_ms.saturating_sub(since) >= retention.as_millis() as i64;
        let is_expired = |key: &OffsetKey, value: &CommittedOffset| {
            let base = if group.protocol_type().is_none() {
                value.commit_timestamp_ms
            } else if group.state() == GroupState::Empty {
                group.state_timestamp_ms().unwrap_or(value.commit_timestamp_ms)
            } else if group.state() == GroupState::Stable
                && group.knows_subscriptions()
                && !group.is_subscribed_to(&key.topic)
            {
                value.commit_timestamp_ms
            } else {
                return false;
            };
            value.expire_timestamp_ms.map_or_else(|| over(base), |at| now_ms >= at)
        };
        self.committed
            .iter()
            .filter(|(key, value)| !self.pending.contains_key(key) && is_expired(key, value))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

impl OffsetKey {
    /// The record that sets or, without a value, deletes this key.
    pub(crate) fn record(&self, group: &Arc<str>, value: Option<CommittedOffset>) -> StateRecord {
        StateRecord::Offset { group: group.clone(), topic: self.topic.clone(), partition: self.partition, value }
    }
}
