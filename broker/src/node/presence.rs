//! A node's presence in its cluster: it controls it while it leads, registers, is heard of, steps aside and leaves.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::addresses::Addresses;
use super::{Io, NodeError, failed, refused};
use crate::config::{HostPort, Settings};
use crate::datadir::DataDir;
use crate::ids::{BrokerEpoch, NodeId};
use crate::kafka::configs::initial_settings;
use crate::metadata::controller::{
    self, ControllerOptions, ControllerService, LeaveError, RegisterError, register_node,
};
use crate::metadata::{ClusterVersion, Endpoint, Image, Membership as _, MetadataPlane as _, Node, Seat};
use crate::raft::{Me, ProbeDialler, RaftNode};
use crate::stream::Partitions;
use crate::wal::Durability;

/// How long an orderly stop waits until leaders have moved. A cluster that has a quorum takes far less, also when it must
/// elect a leader first; without one a stop must not take long: all of a cluster may be stopping at once.
const STEP_ASIDE_WITHIN: Duration = Duration::from_secs(2);
/// How long it waits until the node has left the ISRs; others notice its end anyway.
const DEPART_WITHIN: Duration = Duration::from_secs(1);
/// How long it waits until another voter leads Raft; others elect one anyway.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(1);
/// The longest name of a rack, bytes.
const RACK_BYTES: u64 = 4096;

/// Controls the cluster whenever this node leads the metadata plane.
pub(super) fn control(
    controller: Arc<ControllerService>,
    raft: Arc<RaftNode>,
    me: &Me,
    io: &Io,
    stop: CancellationToken,
) -> impl Future<Output = Result<(), String>> + Send + 'static {
    let dialler = Arc::new(ProbeDialler::new(me.clone(), io.network.clone()));
    async move {
        let (leadership, lost) = (raft.leadership(), raft.lost_peers());
        match stop.run_until_cancelled(controller.run(leadership, lost, dialler)).await {
            None => Ok(()),
            Some(()) => Err("the metadata plane has ended".to_owned()),
        }
    }
}

/// What this process registers as.
pub(super) fn registration(
    dir: &DataDir,
    settings: &Settings,
    kafka: &HostPort,
    addresses: &Addresses,
) -> Result<Node, NodeError> {
    let endpoint = |address: &HostPort| Endpoint { host: address.host.clone(), port: address.port };
    let rack = match &settings.config().rack_file {
        Some(file) => rack_in(file).map_err(|why| refused(format!("broker_rack_file {}: {why}", file.display())))?,
        None => settings.at_start().broker_rack,
    };
    Ok(Node {
        id: settings.node(),
        directory: dir.identity().directory,
        // Decided when the command is applied.
        epoch: BrokerEpoch::FIRST,
        fenced: false,
        stopping: false,
        host: kafka.host.clone(),
        port: kafka.port,
        wal: Some(endpoint(&addresses.wal)),
        grpc: Some(endpoint(&addresses.grpc)),
        rack,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        newest_version: ClusterVersion::NEWEST,
    })
}

/// The rack that a file names: its text, without white space around it. Kubernetes makes the file of a pod's annotation,
/// empty where there is none.
fn rack_in(file: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(file) {
        Ok(file) => file.take(RACK_BYTES + 1).read_to_string(&mut text)?,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why),
    };
    let rack = text.trim();
    if text.len() as u64 > RACK_BYTES || rack.chars().any(char::is_control) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it must hold one short line"));
    }
    Ok((!rack.is_empty()).then(|| rack.to_owned()))
}

/// Registers this process; gives a new cluster its first settings.
pub(super) async fn register(
    raft: &RaftNode,
    node: Node,
    dir: &DataDir,
    settings: &Settings,
) -> Result<BrokerEpoch, NodeError> {
    let acked_may_be_lost = settings.config().durability == Durability::Os && dir.clean_shutdown().is_none();
    let epoch = register_node(raft, node, acked_may_be_lost).await.map_err(|why| match why {
        RegisterError::Refused { .. } => refused(why),
        RegisterError::Failed { .. } => failed(why),
    })?;
    if let Some(command) = initial_settings(&raft.image(), settings.at_start().min_insync_replicas) {
        raft.propose(command).await.map_err(failed)?;
    }
    Ok(epoch)
}

/// Sends heartbeats. A process that another has taken the place of must end.
pub(super) async fn keep_alive(
    raft: Arc<RaftNode>,
    node: Node,
    epoch: BrokerEpoch,
    options: ControllerOptions,
    stop: CancellationToken,
) -> Result<(), String> {
    let beats = controller::keep_alive(raft.clone(), raft, &node, epoch, &options);
    stop.run_until_cancelled(beats).await.map_or(Ok(()), |superseded| Err(superseded.to_string()))
}

/// Moves leaders away from this node, which still serves, and waits until its replicas know. Whether the cluster was there
/// to be told.
pub(super) async fn step_aside(raft: &RaftNode, partitions: &Partitions, epoch: BrokerEpoch) -> bool {
    let stepped = controller::step_aside(raft, raft.node(), epoch, STEP_ASIDE_WITHIN).await;
    match &stepped {
        Ok(()) => partitions.applied(raft.image().index()).await,
        Err(why) => tracing::warn!(%why, "leaders were not moved before the stop"),
    }
    !matches!(stepped, Err(LeaveError::TimedOut))
}

/// Leaves every ISR.
pub(super) async fn depart(raft: &RaftNode, epoch: BrokerEpoch) {
    if let Err(why) = controller::depart(raft, raft.node(), epoch, DEPART_WITHIN).await {
        tracing::warn!(%why, "the ISRs were not left before the stop");
    }
}

/// Hands Raft's leadership, if this node has it, to the voter that has most of the log.
pub(super) async fn hand_over(raft: &RaftNode) {
    if raft.leadership().borrow().is_none() {
        return;
    }
    let Some(heir) = heir(raft) else { return };
    match tokio::time::timeout(HAND_OVER_WITHIN, raft.transfer_leadership(heir)).await {
        Ok(Ok(())) => tracing::info!(to = heir.get(), "handed the metadata plane's leadership over"),
        Ok(Err(why)) => tracing::warn!(%why, "the metadata plane's leadership was not handed over"),
        Err(_elapsed) => tracing::warn!("the metadata plane's leadership was not handed over in time"),
    }
}

/// The voter that is alive and has most of the log.
fn heir(raft: &RaftNode) -> Option<NodeId> {
    let image: Arc<Image> = raft.image();
    let alive = |node: NodeId| image.node(node).is_some_and(|node| !node.fenced && !node.stopping);
    let status = raft.status();
    let others = status.peers.iter().filter(|peer| peer.node != raft.node());
    let voters = others.filter(|peer| image.seat_of(peer.node) == Some(Seat::Voter) && alive(peer.node));
    voters.max_by_key(|peer| peer.matched).map(|peer| peer.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_the_rack_or_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("rack");
        assert_eq!(rack_in(&file).expect("a missing file names none"), None);
        for (text, rack) in [("", None), (" \n", None), ("eu-central-1a\n", Some("eu-central-1a")), ("b", Some("b"))] {
            std::fs::write(&file, text).expect("it is writable");
            assert_eq!(rack_in(&file).expect("valid").as_deref(), rack, "{text:?}");
        }
        for text in ["a\nb".to_owned(), "r".repeat(5000)] {
            std::fs::write(&file, text).expect("it is writable");
            assert!(rack_in(&file).is_err());
        }
        assert!(rack_in(folder.path()).is_err(), "a folder is no file");
    }
}
