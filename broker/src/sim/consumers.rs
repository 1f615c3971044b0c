//! Consumers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::checker::read;
use super::cluster::Cluster;
use super::machine::Serving;
use super::scenario::{Cleanup, TopicPlan};
use crate::ids::{Offset, TopicPartition};
use crate::log::ReadError;
use crate::stream::PartitionError;

/// An undisturbed log is read within this.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Reads partitions at leaders and followers, from the beginning on.
pub(super) async fn consume(cluster: Arc<Cluster>, stop: CancellationToken) {
    let mut positions: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    loop {
        let pause = Duration::from_micros(cluster.rng.below(150_000));
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        let partitions = cluster.partitions();
        let Some(node) = cluster.any_serving().filter(|_| !partitions.is_empty()) else { continue };
        let partition = partitions[cluster.rng.below(partitions.len() as u64) as usize].0;
        let position = positions.entry(partition).or_insert(0);
        let from = *position;
        // Who loses an answer asks again.
        if let Ok(Some(next)) = cluster.call(&node, async |node| fetch(&cluster, node, partition, from)).await {
            *position = next;
        }
    }
}

/// Reads a partition at its leader, as a consumer does, until nothing more comes: all that was acknowledged.
pub(super) async fn read_to_end(cluster: &Cluster, id: TopicPartition, plan: &TopicPlan) -> Result<(), String> {
    let what = format!("{}-{}", plan.name, id.partition);
    let leader = cluster.image().and_then(|image| image.partition(&id)?.leader).ok_or(format!("{what} is not led"))?;
    let machine = &cluster.machines[leader.get() as usize];
    let node = machine.serving().ok_or(format!("{what} is led by node {leader}, which does not serve"))?;
    let give_up = Instant::now() + READ_WITHIN;
    let mut position = 0;
    while Instant::now() < give_up {
        match cluster.call(&node, async |node| fetch(cluster, node, id, position)).await {
            Ok(Some(next)) if next > position => position = next,
            Ok(_) => break,
            Err(_lost) => {}
        }
    }
    // The last of a compacted log may be superseded.
    let end = cluster.checker.acked_end(id);
    if position < end && plan.cleanup != Cleanup::Compaction {
        return Err(format!("{what} is read up to {position} only, and acknowledged up to {end}"));
    }
    Ok(())
}

/// Reads once; where to go on.
fn fetch(cluster: &Cluster, node: &Serving, partition: TopicPartition, from: i64) -> Option<i64> {
    let replica = node.partitions.get(&partition)?;
    replica.check_replica(None).ok()?;
    let offsets = replica.offsets();
    cluster.checker.begins(partition, offsets.log_start);
    match replica.read(from, 2_000, true, false) {
        Err(PartitionError::Read(ReadError::OutOfRange { start, .. })) => {
            // A follower may not have it yet.
            return (from < start.get()).then_some(start.get());
        }
        Err(why) => {
            cluster.unreadable(node, partition, &why);
            return None;
        }
        Ok(_) if from >= offsets.high_watermark.get() => return None,
        Ok(_) => {}
    }
    match read(&replica, Offset::new(from), offsets.high_watermark, 2_000) {
        Ok(found) => {
            cluster.checker.seen(partition, node.process.machine, from, &found.records);
            found.end.map(|end| end.get().min(offsets.high_watermark.get()))
        }
        Err(why) => {
            cluster.unreadable(node, partition, &why);
            None
        }
    }
}
