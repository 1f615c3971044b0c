//! A node's links to the others: what it streams to its followers, and takes from its leaders.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::Io;
use super::tasks::Tasks;
use crate::config::Settings;
use crate::ids::BrokerEpoch;
use crate::io::net::Listener;
use crate::metadata::controller::ControllerService;
use crate::metadata::{Membership as _, MetadataPlane as _};
use crate::raft::{Me, RaftNode};
use crate::stream::links::{LinkMetrics, Myself, PeerLost, SenderOptions, Senders, WalReceiver};
use crate::stream::{Partitions, give_up_offline, keep_isrs};

/// What the links are made of.
pub(super) struct Streaming<'a> {
    pub(super) io: &'a Io,
    pub(super) me: &'a Me,
    pub(super) epoch: BrokerEpoch,
    pub(super) raft: &'a Arc<RaftNode>,
    pub(super) controller: &'a Arc<ControllerService>,
    pub(super) partitions: &'a Arc<Partitions>,
    pub(super) settings: &'a Settings,
    pub(super) metrics: &'a LinkMetrics,
}

impl Streaming<'_> {
    /// Takes leaders' streams at `listener`, streams to followers, and keeps the ISRs of what this node leads.
    pub(super) fn start(self, listener: Box<dyn Listener>, tasks: &mut Tasks) {
        let myself = Myself {
            cluster: self.me.cluster_id.clone(),
            node: self.me.node,
            directory: self.me.directory,
            epoch: watch::Sender::new(self.epoch).subscribe(),
        };
        let images = self.raft.subscribe();
        let receiver =
            WalReceiver::new(listener, myself.clone(), self.partitions.clone(), images.clone(), self.metrics.clone());
        tasks.spawn("receive from leaders", |stop| async move {
            receiver.serve(stop).await;
            Ok(())
        });
        let followers = self.settings.config().cluster.replication_followers.iter().map(ToString::to_string).collect();
        let senders = Senders::new(SenderOptions {
            myself,
            network: self.io.network.clone(),
            leaders: self.partitions.clone(),
            images,
            followers,
            metrics: self.metrics.clone(),
        });
        let lost = senders.lost();
        tasks.spawn("send to followers", |stop| async move {
            senders.run(stop).await;
            Ok(())
        });
        tasks.spawn("hear of lost followers", |stop| {
            hear_of_lost(lost, self.raft.clone(), self.controller.clone(), stop)
        });
        let lag_max = Duration::from_millis(self.settings.at_start().replica_lag_time_max_ms.max(0).unsigned_abs());
        let isrs = keep_isrs(self.partitions.clone(), self.raft.clone(), self.io.clock.clone(), lag_max);
        tasks.spawn("keep the in-sync replicas", |stop| async move {
            stop.run_until_cancelled(isrs).await;
            Ok(())
        });
        let offline = give_up_offline(self.partitions.clone(), self.raft.clone());
        tasks.spawn("give up what can't be led", |stop| async move {
            stop.run_until_cancelled(offline).await;
            Ok(())
        });
    }
}

/// A follower whose links ended is perhaps dead: the controller finds out, and Raft need not wait for its lease.
async fn hear_of_lost(
    mut lost: broadcast::Receiver<PeerLost>,
    raft: Arc<RaftNode>,
    controller: Arc<ControllerService>,
    stop: CancellationToken,
) -> Result<(), String> {
    use broadcast::error::RecvError;
    loop {
        match stop.run_until_cancelled(lost.recv()).await {
            None | Some(Err(RecvError::Closed)) => return stop.is_cancelled().then_some(()).ok_or("no senders".into()),
            // Heartbeats tell of those that were missed.
            Some(Err(RecvError::Lagged(_))) => {}
            Some(Ok(PeerLost { node })) => {
                raft.suspect(node);
                controller.lost(node);
            }
        }
    }
}
