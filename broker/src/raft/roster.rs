//! Whom a node takes for members: those that its image names, or a newer roster that a peer has told it.
//!
//! A node that was away may have missed that another one came back with an empty disk, and leads by now. It refuses
//! that leader's messages, as those of a data folder that it does not know, and no others could tell it. So a node that
//! hears no leader asks the members that it knows for their roster. Each of them tells what was committed, so the
//! newest counts, until the image is as new.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bootstrap::{Asking, Cluster};
use super::node::RaftNode;
use super::peers::{Me, Refusal, Who, check_member};
use super::transport::Transport;
use crate::ids::NodeId;
use crate::io::net::Network;
use crate::metadata::{Image, Member, MetadataPlane as _};

/// A node that knows no leader asks so often: an election takes less.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The members at an index of the metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roster {
    pub(super) index: u64,
    pub(super) members: BTreeMap<NodeId, Member>,
}

impl Roster {
    pub(super) fn of(image: &Image) -> Self {
        Self { index: image.index(), members: image.roster().map(|member| (member.node, member.clone())).collect() }
    }
}

/// What a peer has told, unless the image is as new.
fn newer<'a>(told: Option<&'a Roster>, image: &Image) -> Option<&'a Roster> {
    told.filter(|told| told.index > image.index())
}

impl RaftNode {
    /// Whether a sender is a member, as far as this node knows.
    pub(super) fn check_sender(&self, from: Who) -> Result<(), Refusal> {
        let image = self.image();
        let told = self.told.borrow();
        let known = newer(told.as_deref(), &image);
        check_member(from, known.map_or_else(|| image.member(from.node), |told| told.members.get(&from.node)))
    }
}

/// Keeps connections to whom the newest known roster names.
pub(super) async fn follow(
    mut images: watch::Receiver<Arc<Image>>,
    mut told: watch::Receiver<Option<Arc<Roster>>>,
    transport: Arc<Transport>,
    stop: CancellationToken,
) {
    loop {
        let image = images.borrow_and_update().clone();
        let newest = told.borrow_and_update().clone();
        match newer(newest.as_deref(), &image) {
            Some(told) => transport.follow(told),
            None => transport.follow(&Roster::of(&image)),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}

/// Asks for the newest roster whenever no leader is known.
pub(super) async fn ask(node: Weak<RaftNode>, me: Me, network: Arc<dyn Network>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(ASK_EVERY)).await.is_some() {
        let Some(image) = node.upgrade().filter(|node| node.leader().is_none()).map(|node| node.image()) else {
            if node.strong_count() == 0 {
                return;
            }
            continue;
        };
        let others = image.roster().map(|member| (member.node, member.address.clone())).collect();
        let others = Cluster { initial_voters: others, seeds: Vec::new() };
        let asking = Asking { me: &me, cluster: &others, network: &network };
        let addresses = others.addresses(me.node);
        let asked = join_all(addresses.iter().map(|(expected, address)| asking.probe(*expected, address))).await;
        let newest = asked.into_iter().flatten().filter_map(|answer| answer.roster).max_by_key(|roster| roster.index);
        if let (Some(told), Some(node)) = (newest, node.upgrade())
            && newer(Some(&told), &node.image()).is_some()
        {
            tracing::info!(node = me.node.get(), index = told.index, "took over a newer roster than this node's own");
            node.told.send_replace(Some(Arc::new(told)));
        }
    }
}
