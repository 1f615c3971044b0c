//! How a node becomes part of its cluster's Raft group, and catches up with it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Io, NodeError, failed, refused};
use crate::config::ClusterConfig;
use crate::datadir::DataDir;
use crate::io::blocking;
use crate::metadata::{Image, Membership as _, MembershipError, MetadataPlane as _, Seat, Target};
use crate::raft::{Beginning, Cluster, Limits, Me, RaftError, RaftNode, RaftOptions, Serving, bootstrap};

/// Damaged or missing metadata is for the operator to put right: the node does not start with less than it had.
fn not_opened(why: RaftError) -> NodeError {
    match why {
        RaftError::Corrupt { .. } | RaftError::Empty(_) => refused(why),
        _ => failed(why),
    }
}

/// What the node's member of the group is started with. `fatal` hears why it can't go on.
pub(super) fn raft_options(
    io: &Io,
    limits: Limits,
    dir: &DataDir,
    me: &Me,
    fatal: mpsc::Sender<String>,
) -> RaftOptions {
    RaftOptions {
        me: me.clone(),
        dir: dir.meta_dir(),
        limits,
        disk: io.disk.clone(),
        clock: io.clock.clone(),
        rng: io.rng.clone(),
        network: io.network.clone(),
        drive: io.drive,
        // When the channel is full the reason is known already.
        fatal: Arc::new(move |why| drop(fatal.try_send(why.to_string()))),
    }
}

/// Begins to use the folder, unless it lacks metadata that its clean stop left. Whether it holds none: peers ask. Blocks on
/// files, for a moment.
pub(super) fn open(options: &RaftOptions, dir: &mut DataDir) -> Result<bool, NodeError> {
    if dir.clean_shutdown().is_some() && dir.is_formed() {
        RaftNode::check_whole(options).map_err(not_opened)?;
    }
    // Only now: a start that was refused leaves the mark, and so is refused again.
    dir.begin_use().map_err(failed)?;
    Ok(!RaftNode::is_formed(options).map_err(not_opened)?)
}

/// Takes part in the group: in the one that the folder knows, in one that is formed now, or in one that lets this node in.
/// Resolves when the cluster knows where this node is, and a new one has all its voters.
pub(super) async fn enter(
    options: RaftOptions,
    dir: &mut DataDir,
    cluster: &ClusterConfig,
    serving: Arc<Serving>,
) -> Result<Arc<RaftNode>, NodeError> {
    let others = Cluster {
        initial_voters: cluster.initial_voters.iter().map(|voter| (voter.node, voter.address.to_string())).collect(),
        seeds: cluster.seeds.iter().map(ToString::to_string).collect(),
    };
    let (me, network, rng) = (options.me.clone(), options.network.clone(), options.rng.clone());
    let mut begun = None;
    if !dir.is_formed() {
        if !RaftNode::is_formed(&options).map_err(not_opened)? {
            let beginning = if cluster.is_standalone() {
                Beginning::Form
            } else {
                bootstrap::begin(&me, &others, &network, &rng).await.map_err(refused)?
            };
            match &beginning {
                Beginning::Form => RaftNode::form(&options),
                Beginning::Join(roster) => RaftNode::join(&options, roster.iter().cloned()),
            }
            .map_err(failed)?;
            begun = Some(beginning);
        }
        dir.set_formed().map_err(failed)?;
    }
    let raft = blocking(move || RaftNode::start(options)).await.map_err(not_opened)?;
    serving.set_node(raft.clone());
    bootstrap::announce(&raft, &others, &network, &rng).await.map_err(refused)?;
    seated(&raft, &me, cluster, begun.as_ref()).await?;
    Ok(raft)
}

/// Waits until a node that has just become part of the group votes, if it is to; all voters, in a group that it formed.
/// Whether it is to vote the group says: an administrator may have made it a learner before it was one of them.
async fn seated(raft: &RaftNode, me: &Me, cluster: &ClusterConfig, begun: Option<&Beginning>) -> Result<(), NodeError> {
    let voters = || cluster.initial_voters.iter().map(|voter| voter.node);
    let mut images = raft.subscribe();
    let all_seated = images.wait_for(|image| match begun {
        None => true,
        Some(Beginning::Form) => image.members().all_vote(voters()),
        Some(Beginning::Join(_)) => cluster.as_voter(me.node).is_none() || is_what_it_is_to_be(image, me),
    });
    all_seated.await.map(drop).map_err(|_| failed("the metadata plane has ended"))
}

/// Whether a member that was let in votes or is to learn only. Until it was sent the roster it knows nothing of that.
fn is_what_it_is_to_be(image: &Image, me: &Me) -> bool {
    let known = image.member(me.node).filter(|member| member.directory == me.directory && image.index() > 0);
    match known.map(|member| member.target) {
        Some(Target::Learner) => true,
        Some(Target::Voter) => image.seat_of(me.node) == Some(Seat::Voter),
        Some(Target::Gone) | None => false,
    }
}

/// Waits until this node's image is as new as the cluster's, for as long as there is no leader to ask.
pub(super) async fn catch_up(raft: &RaftNode) -> Result<(), NodeError> {
    loop {
        match raft.barrier().await {
            Ok(_) => return Ok(()),
            Err(why @ MembershipError::NoLeader) => tracing::warn!("waiting for a majority of the voters: {why}"),
            Err(why) => return Err(failed(why)),
        }
    }
}
