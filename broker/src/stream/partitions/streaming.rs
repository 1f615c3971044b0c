//! A node's replicas as its links see them: each call goes to the partition that it is about.

use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::Partitions;
use crate::ids::{BrokerEpoch, NodeId, Offset, TopicPartition};
use crate::stream::Partition;
use crate::stream::replication::{
    AckSink, CanonicalRecord, Deposed, Elected, Extent, FollowerState, Followers, Leaders, Led, Marks, Reject, Session,
    Tail,
};
use crate::wal::Admission;

impl Partitions {
    fn follower(&self, partition: TopicPartition) -> Result<Arc<Partition>, Reject> {
        // A replica that found no room for its log holds nobody up either (rule 16).
        let absent = || if self.is_offline(&partition) { Reject::DiskFull } else { Reject::UnknownPartition };
        self.get(&partition).ok_or_else(absent)
    }

    fn leader(&self, led: Led) -> Result<Arc<Partition>, Deposed> {
        self.get(&led.partition).ok_or(Deposed)
    }
}

impl Followers for Partitions {
    fn greet(
        &self,
        partition: TopicPartition,
        from: NodeId,
        session: Session,
        acks: Weak<dyn AckSink>,
    ) -> Result<FollowerState, Reject> {
        self.follower(partition)?.greet(from, session, acks)
    }

    fn elected(&self, partition: TopicPartition, session: Session, elected: &Elected) -> Result<(), Reject> {
        self.follower(partition)?.elected(session, elected)
    }

    fn admit(&self, bytes: usize) -> BoxFuture<'_, Admission> {
        self.wal.admit(bytes).boxed()
    }

    fn append(
        &self,
        partition: TopicPartition,
        session: Session,
        record: CanonicalRecord,
        admission: Admission,
    ) -> Result<(), Reject> {
        self.follower(partition)?.append_from_leader(session, record, admission)
    }

    fn progress(&self, partition: TopicPartition, session: Session, marks: Marks) -> Result<(), Reject> {
        self.follower(partition)?.follow_marks(session, marks)
    }
}

impl Leaders for Partitions {
    fn led_for(&self, follower: NodeId) -> Vec<Led> {
        let replicas = self.replicas.load();
        let all = replicas.by_id.values().flat_map(|topic| topic.partitions.iter().flatten());
        all.filter_map(|partition| partition.led_for(follower)).collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.news.leaderships()
    }

    fn elect(&self, led: Led, follower: NodeId, state: &FollowerState) -> Result<Elected, Deposed> {
        self.leader(led)?.elect(led.epoch, follower, state)
    }

    fn tail(&self, led: Led, follower: NodeId, tail: Arc<dyn Tail>) -> Result<Offset, Deposed> {
        self.leader(led)?.tail(led.epoch, follower, tail)
    }

    fn untail(&self, led: Led, follower: NodeId) {
        if let Ok(partition) = self.leader(led) {
            partition.untail(led.epoch, follower);
        }
    }

    fn read(&self, led: Led, from: Offset, max_bytes: usize) -> Result<Vec<CanonicalRecord>, Deposed> {
        self.leader(led)?.read_records(led.epoch, from, max_bytes)
    }

    fn marks(&self, led: Led) -> Result<Marks, Deposed> {
        self.leader(led)?.marks(led.epoch)
    }

    fn acked(&self, led: Led, follower: NodeId, follower_epoch: BrokerEpoch, extent: Extent) {
        if let Ok(partition) = self.leader(led) {
            partition.acked(led.epoch, follower, follower_epoch, extent);
        }
    }

    fn lost(&self, led: Led, follower: NodeId, why: Option<&Reject>) {
        if let Ok(partition) = self.leader(led) {
            partition.lost(led.epoch, follower, why);
        }
    }
}
