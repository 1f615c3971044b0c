//! Ends of links for tests: identities, records, and replicas in memory.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::frame::{Conversation, Identity};
use super::handshake::{Registered, Roster};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicId, TopicPartition};
use crate::io::net::{Connecting, Connection, Listener, Network};
use crate::stream::replication::{
    AckSink, CanonicalRecord, Deposed, Elected, Extent, FollowerState, Followers, Leaders, Led, Marks, Reject, Session,
    Tail,
};
use crate::wal::Admission;

pub(super) const CLUSTER: &str = "test-cluster";

/// A node with the directory that its number gives it.
pub(super) fn identity(node: i32, epoch: i64) -> Identity {
    Identity { node: NodeId::new(node), directory: Uuid::from_u128(node as u128), epoch: BrokerEpoch::new(epoch) }
}

/// A roster of these, without addresses.
pub(super) fn roster(nodes: &[Identity]) -> Roster {
    let registered = |it: &Identity| Registered { directory: it.directory, epoch: it.epoch, wal: None };
    nodes.iter().map(|it| (it.node, registered(it))).collect()
}

/// A partition of the one topic.
pub(super) fn partition(index: i32) -> TopicPartition {
    let topic = TopicId::from_uuid(Uuid::from_u128(0x70)).expect("it is not nil");
    TopicPartition { topic, partition: PartitionIndex::new(index) }
}

/// A partition in its epoch 3.
pub(super) fn led(index: i32) -> Led {
    Led { partition: partition(index), epoch: LeaderEpoch::new(3) }
}

/// A conversation about it.
pub(super) fn about(index: i32, session: u64) -> Conversation {
    Conversation { partition: partition(index), session: Session { epoch: LeaderEpoch::new(3), number: session } }
}

/// A record without a hole before it.
pub(super) fn record(base: i64, end: i64) -> CanonicalRecord {
    let batch = Bytes::from(format!("records {base} to {end}"));
    CanonicalRecord { previous: Offset::new(base), base: Offset::new(base), end: Offset::new(end), batch }
}

/// A record of this size.
pub(super) fn large_record(base: i64, bytes: usize) -> CanonicalRecord {
    CanonicalRecord { batch: vec![base as u8; bytes].into(), ..record(base, base + 1) }
}

/// What a leader was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Acked(i32, i32, i64),
    Lost(i32, i32, Option<Reject>),
}

/// Logs in memory that a node leads. All that is appended is on disk at once.
#[derive(Default)]
pub(super) struct FakeLeaders {
    logs: Mutex<BTreeMap<TopicPartition, LedLog>>,
    changes: watch::Sender<u64>,
    pub(super) told: watch::Sender<Vec<Told>>,
}

struct LedLog {
    led: Led,
    followers: Vec<NodeId>,
    records: Vec<CanonicalRecord>,
    tails: BTreeMap<NodeId, Arc<dyn Tail>>,
    acked: BTreeMap<NodeId, Offset>,
}

impl LedLog {
    fn end(&self) -> Offset {
        self.records.last().map_or(Offset::FIRST, |record| record.end)
    }

    fn marks(&self) -> Marks {
        let high_watermark = self.acked.values().copied().min().unwrap_or(Offset::FIRST);
        Marks { high_watermark, log_start: Offset::FIRST }
    }
}

impl FakeLeaders {
    /// Leads a partition that these follow.
    pub(super) fn lead(&self, index: i32, followers: &[i32]) {
        let followers: Vec<_> = followers.iter().map(|&id| NodeId::new(id)).collect();
        let acked = followers.iter().map(|&id| (id, Offset::FIRST)).collect();
        let log = LedLog { led: led(index), followers, records: vec![], tails: BTreeMap::new(), acked };
        self.logs.lock().insert(partition(index), log);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Leads it no more.
    pub(super) fn resign(&self, index: i32) {
        self.logs.lock().remove(&partition(index));
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Another node follows it.
    pub(super) fn follow(&self, index: i32, follower: i32) {
        let follower = NodeId::new(follower);
        let followed = self.with(led(index), |log| {
            log.followers.push(follower);
            log.acked.insert(follower, Offset::FIRST);
        });
        followed.expect("it is led");
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Appends what follows the log's end.
    pub(super) fn append(&self, index: i32, record: CanonicalRecord) {
        let mut logs = self.logs.lock();
        let log = logs.get_mut(&partition(index)).expect("it is led");
        assert_eq!(record.previous, log.end());
        log.records.push(record.clone());
        for tail in log.tails.values() {
            tail.appended(log.led, record.clone());
        }
    }

    /// Whether a follower is told of appends.
    pub(super) fn is_tailed(&self, index: i32) -> bool {
        self.logs.lock().get(&partition(index)).is_some_and(|log| !log.tails.is_empty())
    }

    /// What it was told so far.
    pub(super) fn told(&self) -> Vec<Told> {
        self.told.borrow().clone()
    }

    /// Waits until everything is acknowledged by all followers.
    pub(super) async fn all_acked(&self, index: i32) {
        let is_acked = || {
            let logs = self.logs.lock();
            let log = &logs[&partition(index)];
            log.acked.values().all(|acked| *acked == log.end())
        };
        self.told.subscribe().wait_for(|_| is_acked()).await.expect("the sender is here");
    }

    fn with<T>(&self, led: Led, ask: impl FnOnce(&mut LedLog) -> T) -> Result<T, Deposed> {
        let mut logs = self.logs.lock();
        logs.get_mut(&led.partition).filter(|log| log.led == led).map(ask).ok_or(Deposed)
    }
}

impl Leaders for FakeLeaders {
    fn led_for(&self, follower: NodeId) -> Vec<Led> {
        self.logs.lock().values().filter(|log| log.followers.contains(&follower)).map(|log| log.led).collect()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn elect(&self, led: Led, _: NodeId, state: &FollowerState) -> Result<Elected, Deposed> {
        self.with(led, |log| {
            let truncate_to = state.flushed_end.min(log.end());
            Elected { epochs: vec![], truncate_to, start_at: truncate_to }
        })
    }

    fn tail(&self, led: Led, follower: NodeId, tail: Arc<dyn Tail>) -> Result<Offset, Deposed> {
        self.with(led, |log| {
            log.tails.insert(follower, tail);
            log.end()
        })
    }

    fn untail(&self, led: Led, follower: NodeId) {
        let _ = self.with(led, |log| log.tails.remove(&follower));
    }

    fn read(&self, led: Led, from: Offset, max_bytes: usize) -> Result<Vec<CanonicalRecord>, Deposed> {
        self.with(led, |log| {
            let mut bytes = 0;
            let fits = |record: &&CanonicalRecord| {
                let first = bytes == 0;
                bytes += record.batch.len();
                first || bytes <= max_bytes
            };
            log.records.iter().filter(|record| record.base >= from).take_while(fits).cloned().collect()
        })
    }

    fn marks(&self, led: Led) -> Result<Marks, Deposed> {
        self.with(led, |log| log.marks())
    }

    fn acked(&self, led: Led, follower: NodeId, _: BrokerEpoch, extent: Extent) {
        let flushed_end = extent.flushed_end;
        let _ = self.with(led, |log| {
            let before = log.marks();
            let acked = log.acked.entry(follower).or_insert(Offset::FIRST);
            *acked = flushed_end.max(*acked);
            let marks = log.marks();
            for tail in log.tails.values().filter(|_| marks != before) {
                tail.moved(led, marks);
            }
        });
        let told = Told::Acked(led.partition.partition.get(), follower.get(), flushed_end.get());
        self.told.send_modify(|all| all.push(told));
    }

    fn lost(&self, led: Led, follower: NodeId, why: Option<&Reject>) {
        let told = Told::Lost(led.partition.partition.get(), follower.get(), why.cloned());
        self.told.send_modify(|all| all.push(told));
    }
}

/// Replicas in memory that follow. What is appended is acknowledged at once.
#[derive(Default)]
pub(super) struct FakeFollowers {
    logs: watch::Sender<BTreeMap<TopicPartition, FollowedLog>>,
    /// The next append is refused with this.
    pub(super) refuse: Mutex<Option<Reject>>,
}

#[derive(Default, Clone)]
pub(super) struct FollowedLog {
    session: Option<Session>,
    pub(super) from: Option<NodeId>,
    pub(super) sessions: Vec<Session>,
    pub(super) records: Vec<CanonicalRecord>,
    pub(super) marks: Option<Marks>,
    acks: Option<Weak<dyn AckSink>>,
}

impl FollowedLog {
    pub(super) fn end(&self) -> Offset {
        self.records.last().map_or(Offset::FIRST, |record| record.end)
    }
}

impl FakeFollowers {
    /// Waits until a replica is as `is` wants it.
    pub(super) async fn until(&self, index: i32, is: impl Fn(&FollowedLog) -> bool) {
        let mut logs = self.logs.subscribe();
        logs.wait_for(|logs| logs.get(&partition(index)).is_some_and(&is)).await.expect("the sender is here");
    }

    /// Whether no leader ever greeted.
    pub(super) fn is_empty(&self) -> bool {
        self.logs.borrow().is_empty()
    }

    /// A replica.
    pub(super) fn log(&self, index: i32) -> FollowedLog {
        self.logs.borrow()[&partition(index)].clone()
    }

    fn with<T>(
        &self,
        partition: TopicPartition,
        session: Session,
        act: impl FnOnce(&mut FollowedLog) -> Result<T, Reject>,
    ) -> Result<T, Reject> {
        let mut result = Err(Reject::Stale);
        self.logs.send_modify(|logs| {
            if let Some(log) = logs.get_mut(&partition).filter(|log| log.session == Some(session)) {
                result = act(log);
            }
        });
        result
    }
}

impl Followers for FakeFollowers {
    fn greet(
        &self,
        partition: TopicPartition,
        from: NodeId,
        session: Session,
        acks: Weak<dyn AckSink>,
    ) -> Result<FollowerState, Reject> {
        let mut state = Err(Reject::Stale);
        self.logs.send_modify(|logs| {
            let log = logs.entry(partition).or_default();
            if log.session.is_none_or(|newest| newest < session) {
                log.session = Some(session);
                log.sessions.push(session);
                log.from = Some(from);
                log.acks = Some(acks);
                state = Ok(FollowerState { epochs: vec![], log_start: Offset::FIRST, flushed_end: log.end() });
            }
        });
        state
    }

    fn elected(&self, partition: TopicPartition, session: Session, elected: &Elected) -> Result<(), Reject> {
        let acks = self.with(partition, session, |log| {
            log.records.retain(|record| record.end <= elected.truncate_to);
            Ok(log.acks.clone())
        })?;
        if let Some(acks) = acks.and_then(|acks| acks.upgrade()) {
            acks.flushed(partition, session, Extent::upto(elected.start_at));
        }
        Ok(())
    }

    fn admit(&self, _: usize) -> BoxFuture<'_, Admission> {
        std::future::ready(Admission::unbounded()).boxed()
    }

    fn append(
        &self,
        partition: TopicPartition,
        session: Session,
        record: CanonicalRecord,
        _: Admission,
    ) -> Result<(), Reject> {
        if let Some(why) = self.refuse.lock().take() {
            return Err(why);
        }
        let end = record.end;
        let acks = self.with(partition, session, |log| {
            if record.previous != log.end() {
                return Err(Reject::NotContiguous { at: log.end(), got: record.previous });
            }
            log.records.push(record);
            Ok(log.acks.clone())
        })?;
        if let Some(acks) = acks.and_then(|acks| acks.upgrade()) {
            acks.flushed(partition, session, Extent::upto(end));
        }
        Ok(())
    }

    fn progress(&self, partition: TopicPartition, session: Session, marks: Marks) -> Result<(), Reject> {
        self.with(partition, session, |log| {
            log.marks = Some(marks);
            Ok(())
        })
    }
}

/// Connections in memory, of which a broken network can swallow what they carry.
#[derive(Clone, Default)]
pub(super) struct MemoryNetwork(Arc<Mutex<MemoryState>>);

#[derive(Default)]
struct MemoryState {
    listening: BTreeMap<SocketAddr, mpsc::UnboundedSender<DuplexStream>>,
    dialled: usize,
    swallowed: CancellationToken,
}

impl MemoryNetwork {
    /// How many connections were made.
    pub(super) fn dialled(&self) -> usize {
        self.0.lock().dialled
    }

    /// From now on the connections that stand carry nothing.
    pub(super) fn swallow(&self) {
        std::mem::take(&mut self.0.lock().swallowed).cancel();
    }
}

struct MemoryListener {
    address: SocketAddr,
    connections: mpsc::UnboundedReceiver<DuplexStream>,
}

fn memory_connection(stream: DuplexStream, peer: SocketAddr) -> Connection {
    Connection { stream: Box::new(stream), peer, identity: None }
}

impl Network for MemoryNetwork {
    fn listen<'a>(&'a self, address: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        let address = address.parse().expect("an address in memory is numeric");
        let (sender, connections) = mpsc::unbounded_channel();
        self.0.lock().listening.insert(address, sender);
        let listener: Box<dyn Listener> = Box::new(MemoryListener { address, connections });
        Box::pin(std::future::ready(Ok(listener)))
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        let address: SocketAddr = address.parse().expect("an address in memory is numeric");
        let mut state = self.0.lock();
        let (near, mut near_wire) = tokio::io::duplex(1 << 16);
        let (far, mut far_wire) = tokio::io::duplex(1 << 16);
        let sent = state.listening.get(&address).is_some_and(|listening| listening.send(far).is_ok());
        if !sent {
            return Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())));
        }
        state.dialled += 1;
        let swallowed = state.swallowed.clone();
        tokio::spawn(async move {
            tokio::select! {
                // Either end may close first; then the wire is gone.
                _ = tokio::io::copy_bidirectional(&mut near_wire, &mut far_wire) => {}
                () = swallowed.cancelled() => std::future::pending().await,
            }
        });
        Box::pin(std::future::ready(Ok(memory_connection(near, address))))
    }
}

impl Listener for MemoryListener {
    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn accept(&mut self) -> Connecting<'_, Connection> {
        Box::pin(async {
            let stream = self.connections.recv().await.ok_or(io::ErrorKind::NotConnected)?;
            Ok(memory_connection(stream, self.address))
        })
    }
}
