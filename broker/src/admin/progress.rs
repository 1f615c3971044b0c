//! How far drains and reassignments are: which partitions are left, by the image, and how many bytes, by what the nodes
//! hold of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::proto::{self, DrainState};
use crate::ids::{NodeId, PartitionIndex, TopicPartition};
use crate::metadata::{Image, PartitionRegistration, Topic};

/// Offline partitions that a drain's reason names; more are counted.
const NAMED: usize = 3;
/// A rate covers so much of the past.
const RATE_OVER: Duration = Duration::from_secs(10);

/// The bytes that nodes hold of partitions on their way, by the nodes that answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held(BTreeMap<NodeId, BTreeMap<TopicPartition, u64>>);

impl Held {
    /// Takes one node's answer; partitions that the image does not know any more are passed over.
    pub fn insert(&mut self, image: &Image, answer: &proto::DescribeReplicasResponse) {
        let Ok(node) = NodeId::try_from(answer.node) else { return };
        let replica = |replica: &proto::Replica| {
            let topic = image.topic(&replica.topic)?.id;
            let partition = PartitionIndex::try_from(replica.partition).ok()?;
            Some((TopicPartition { topic, partition }, replica.bytes))
        };
        self.0.insert(node, answer.replicas.iter().filter_map(replica).collect());
    }

    /// What a node holds of a partition: nothing where it answered without naming it; `None` where it did not answer.
    fn of(&self, node: NodeId, partition: &TopicPartition) -> Option<u64> {
        self.0.get(&node).map(|held| held.get(partition).copied().unwrap_or(0))
    }

    /// What has yet to reach the replicas that a reassignment adds. `None` where the leader, or one of them, did not
    /// answer.
    fn left_of(&self, id: &TopicPartition, partition: &PartitionRegistration) -> Option<u64> {
        let all = self.of(partition.leader?, id)?;
        partition.adding().map(|node| Some(all.saturating_sub(self.of(node, id)?))).sum()
    }

    /// What the replicas that reassignments add hold now.
    pub fn arrived(&self, image: &Image) -> BTreeMap<(TopicPartition, NodeId), u64> {
        let mut arrived = BTreeMap::new();
        for (id, partition) in moving(image) {
            for node in partition.adding() {
                if let Some(bytes) = self.of(node, &id) {
                    arrived.insert((id, node), bytes);
                }
            }
        }
        arrived
    }
}

/// All partitions with their ids.
fn partitions(image: &Image) -> impl Iterator<Item = (&Topic, TopicPartition, &PartitionRegistration)> {
    image
        .topics()
        .flat_map(|topic| topic.indexed().map(move |(id, partition)| (topic.as_ref(), id, partition.as_ref())))
}

fn moving(image: &Image) -> impl Iterator<Item = (TopicPartition, &PartitionRegistration)> {
    partitions(image).filter(|(_, _, partition)| partition.reassignment.is_some()).map(|(_, id, it)| (id, it))
}

/// The partitions that are being moved, or that a drain is going to move.
pub fn on_their_way(image: &Image) -> impl Iterator<Item = (&Topic, TopicPartition, &PartitionRegistration)> {
    let drained: BTreeSet<NodeId> = image.drains().map(|(node, _)| node).collect();
    partitions(image).filter(move |(_, _, partition)| {
        partition.reassignment.is_some() || partition.replicas.iter().any(|replica| drained.contains(replica))
    })
}

/// The nodes that hold, or will hold, partitions on their way.
pub fn concerned(image: &Image) -> BTreeSet<NodeId> {
    on_their_way(image).flat_map(|(_, _, partition)| partition.replicas.iter().copied()).collect()
}

/// The reassignments under way: of `topics`, or all where that is empty.
pub fn reassignments(image: &Image, held: &Held, topics: &[String]) -> Vec<proto::Reassignment> {
    let asked: BTreeSet<&str> = topics.iter().map(String::as_str).collect();
    let wanted = |topic: &Topic| asked.is_empty() || asked.contains(&*topic.name);
    let ids = |nodes: &mut dyn Iterator<Item = NodeId>| nodes.map(NodeId::get).collect();
    partitions(image)
        .filter(|(topic, _, partition)| partition.reassignment.is_some() && wanted(topic))
        .map(|(topic, id, partition)| proto::Reassignment {
            topic: topic.name.to_string(),
            partition: id.partition.get(),
            replicas: ids(&mut partition.replicas.iter().copied()),
            adding: ids(&mut partition.adding()),
            removing: ids(&mut partition.removing()),
            bytes_left: held.left_of(&id, partition),
        })
        .collect()
}

/// How far a node's drain is; `None` where it is not being drained.
pub fn drain(image: &Image, held: &Held, node: NodeId) -> Option<proto::Drain> {
    let plan = image.drain(node)?;
    let mut moving = 0;
    let mut left = 0;
    let mut bytes_left = Some(0_u64);
    let mut offline = Vec::new();
    for (topic, id, partition) in partitions(image).filter(|(_, _, it)| it.replicas.contains(&node)) {
        left += 1;
        let bytes = if partition.removing().any(|it| it == node) {
            moving += 1;
            held.left_of(&id, partition)
        } else {
            partition.leader.and_then(|leader| held.of(leader, &id))
        };
        bytes_left = bytes_left.zip(bytes).map(|(sum, bytes)| sum.saturating_add(bytes));
        if partition.leader.is_none() {
            offline.push(format!("{}-{}", topic.name, id.partition));
        }
    }
    let state = if left == 0 { DrainState::Done } else { DrainState::Moving };
    Some(proto::Drain {
        node: node.get(),
        state: state.into(),
        // Partitions may have been added after the drain began.
        partitions_total: plan.partitions.max(left),
        partitions_left: left,
        partitions_moving: moving,
        bytes_left,
        bytes_per_second: None,
        blocked: blocked(&offline),
    })
}

/// A drain that was ended.
pub fn ended(node: NodeId) -> proto::Drain {
    proto::Drain { node: node.get(), state: DrainState::Ended.into(), ..Default::default() }
}

fn blocked(offline: &[String]) -> String {
    let named = offline.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match offline.len() {
        0 => String::new(),
        count if count > NAMED => format!("{count} partitions have no leader to copy from: {named}, …"),
        _ => format!("no leader to copy from: {named}"),
    }
}

/// How fast bytes arrive, over the last ten seconds.
#[derive(Debug, Default)]
pub struct Rate {
    arrived: BTreeMap<(TopicPartition, NodeId), u64>,
    /// When, and how many bytes had arrived since the first look.
    looks: Vec<(Duration, u64)>,
}

impl Rate {
    /// Looks at what has arrived, at a time that never goes back. Bytes a second, from the second look on.
    pub fn look(&mut self, now: Duration, arrived: BTreeMap<(TopicPartition, NodeId), u64>) -> Option<u64> {
        let before = self.looks.last().map_or(0, |&(_, bytes)| bytes);
        let grown = arrived.iter().map(|(replica, &bytes)| {
            // A replica that is new is so since the last look, once there was one.
            let known = self.arrived.get(replica).copied().unwrap_or(if self.looks.is_empty() { bytes } else { 0 });
            bytes.saturating_sub(known)
        });
        let total = before.saturating_add(grown.sum());
        self.arrived = arrived;
        self.looks.push((now, total));
        // One look from before the time that counts remains, so that all of it is covered.
        let stale = self.looks.iter().filter(|(at, _)| now.saturating_sub(*at) >= RATE_OVER).count();
        self.looks.drain(..stale.saturating_sub(1));
        let &(from, bytes) = self.looks.first()?;
        let elapsed = now.saturating_sub(from).as_millis() as u64;
        (elapsed > 0).then(|| ((u128::from(total - bytes) * 1000) / u128::from(elapsed)) as u64)
    }
}
