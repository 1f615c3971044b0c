//! Gives up what this node is to lead and can't, because its log found no room: another replica leads instead.
//!
//! Nobody was ever acknowledged anything by a leader without a log, so any other member of the ISR may lead.

use std::sync::Arc;

use futures::future::join_all;

use super::Partitions;
use crate::metadata::{AlterPartition, Command, MetadataPlane, Outcome};

/// Proposals at a time; what more there is follows with the next image, or the next attempt to open the logs.
const MOST_PROPOSALS: usize = 1000;

/// Looks whenever an image was applied, which is also how offline replicas are tried again; until it is dropped.
pub async fn give_up_offline(partitions: Arc<Partitions>, plane: Arc<dyn MetadataPlane>) {
    let mut applied = partitions.applied.subscribe();
    loop {
        let proposals = partitions.given_up().into_iter().map(|proposal| propose(&*plane, proposal));
        join_all(proposals).await;
        if applied.changed().await.is_err() {
            return;
        }
    }
}

/// Proposes once: whatever became of it, what is still offline is looked at again.
async fn propose(plane: &dyn MetadataPlane, proposal: AlterPartition) {
    let partition = proposal.partition;
    match plane.propose(Command::AlterPartition(proposal)).await {
        Ok(Outcome::Refused { why, .. }) => tracing::info!(%partition, %why, "an offline replica is not given up"),
        Ok(_) => tracing::warn!(%partition, "gave up the leadership of a replica that is offline"),
        Err(error) => tracing::debug!(%partition, %error, "an offline replica is not given up yet"),
    }
}

impl Partitions {
    /// The ISRs of offline replicas that this node leads, without it; those that others are in.
    fn given_up(&self) -> Vec<AlterPartition> {
        let replicas = self.replicas.load();
        let Some(image) = self.image.load_full() else { return Vec::new() };
        let given_up = |id| {
            let registration = image.partition(id)?;
            let leads =
                registration.leader == Some(self.node) && registration.leader_broker_epoch == Some(self.broker_epoch);
            let others = registration.isr.iter().filter(|member| **member != self.node);
            let alive = others.filter_map(|&member| image.node(member).filter(|node| !node.fenced));
            let isr: Vec<_> = alive.map(|node| (node.id, node.epoch)).collect();
            (leads && !isr.is_empty()).then_some(AlterPartition {
                partition: *id,
                leader: self.node,
                leader_broker_epoch: self.broker_epoch,
                leader_epoch: registration.leader_epoch,
                partition_epoch: registration.partition_epoch,
                isr,
            })
        };
        replicas.offline.iter().filter_map(given_up).take(MOST_PROPOSALS).collect()
    }
}
