//! How a node with an empty `__meta` becomes part of a cluster.
//!
//! Of the initial voters only the one listed first forms a group, of itself, and only after every other one has answered
//! that it is empty too; everybody else finds the leader and asks to be let in. So one cluster is formed, however the
//! nodes start: if any of them has metadata, there is a group already, and the first has lost its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::node::RaftNode;
use super::peers;
use super::peers::peers_client::PeersClient;
use super::peers::{JoinRequest, Me, Peer, ProbeRequest, Who, join_response, who_of};
use super::roster::Roster;
use crate::ids::NodeId;
use crate::io::grpc;
use crate::io::net::Network;
use crate::io::rng::Rng;
use crate::metadata::{Command, Member, Membership as _, MetadataPlane as _, Target};

/// A node that does not answer within this is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two rounds of asking, at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Of the nodes that a seed's name stands for, so many are asked.
const MOST_ASKED: usize = 16;
/// How long another process may be heard with this node's id before this one gives up: its own process before a
/// restart is heard for a while.
const IN_USE_FOR: Duration = Duration::from_secs(10);
/// Rounds after which a node tells again what it is waiting for.
const ROUNDS_BETWEEN_WARNINGS: u32 = 50;

/// Where a node finds its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The voters that the cluster begins with, in the order that is configured on all of them: ids and addresses.
    pub initial_voters: Vec<(NodeId, String)>,
    /// Addresses (`host:port`; a name may stand for many nodes) of members, for nodes that come later.
    pub seeds: Vec<String>,
}

impl Cluster {
    /// Whether this node is to vote.
    fn wants_vote(&self, me: NodeId) -> bool {
        self.initial_voters.iter().any(|(node, _)| *node == me)
    }

    /// Whom to ask, each once, this node aside.
    pub(super) fn addresses(&self, me: NodeId) -> Vec<(Option<NodeId>, &str)> {
        let others = self.initial_voters.iter().filter(|(node, _)| *node != me);
        let voters = others.map(|(node, address)| (Some(*node), address.as_str()));
        voters.chain(self.seeds.iter().map(|seed| (None, seed.as_str()))).collect()
    }
}

/// How a node begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// It forms a group of itself.
    Form,
    /// It was let into a group: the roster.
    Join(Vec<Member>),
}

/// Why a node can't become part of a cluster. Each is one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// A second process.
    #[error("another process takes part in the cluster as node {node}; it was heard of {heard_ms_ago} ms ago")]
    NodeIdInUse {
        /// The id.
        node: NodeId,
        /// When.
        heard_ms_ago: u64,
    },
    /// Nowhere to ask.
    #[error("node {0} is none of the initial voters, and there are no seeds: it can't find its cluster")]
    NobodyToAsk(NodeId),
}

/// What one asked node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Probed {
    /// Whom this node expected there; `None` at a seed's address.
    expected: Option<NodeId>,
    who: Who,
    empty: bool,
    /// The leader's address, as it knows.
    leader: Option<String>,
    /// The members, as it knows.
    pub(super) roster: Option<Roster>,
}

/// What a round of asking leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Form,
    /// Ask at this address to be let in.
    Ask(String),
    /// Ask again; this is what is waited for.
    Wait(String),
}

/// Decides by what those that could be asked answered.
fn decide(me: Who, cluster: &Cluster, answers: &[Probed]) -> Step {
    let answers = || answers.iter().filter(|answer| answer.who != me);
    if let Some(leader) = answers().find_map(|answer| answer.leader.clone()) {
        return Step::Ask(leader);
    }
    if let Some(formed) = answers().find(|answer| !answer.empty) {
        return Step::Wait(format!("node {} knows no leader yet", formed.who.node));
    }
    let first = cluster.initial_voters.first().map(|(node, _)| *node);
    if first != Some(me.node) {
        return Step::Wait("no node has formed the cluster yet".to_owned());
    }
    let is_empty = |node: NodeId| answers().any(|answer| answer.expected == Some(node) && answer.who.node == node);
    let mut missing = cluster.initial_voters.iter().filter(|(node, _)| *node != me.node && !is_empty(*node));
    match missing.next() {
        Some((node, address)) => Step::Wait(format!("node {node} has not answered at {address}")),
        None => Step::Form,
    }
}

/// Asks until it is decided how this node, whose `__meta` is empty, begins. Resolves only then: nodes may start in any
/// order, at any time. Peers must be able to ask this node meanwhile.
pub async fn begin(
    me: &Me,
    cluster: &Cluster,
    network: &Arc<dyn Network>,
    rng: &Rng,
) -> Result<Beginning, BootstrapError> {
    let is_first = cluster.initial_voters.first().is_some_and(|(node, _)| *node == me.node);
    if cluster.addresses(me.node).is_empty() && !is_first {
        return Err(BootstrapError::NobodyToAsk(me.node));
    }
    let asking = Asking { me, cluster, network };
    let mut in_use_since = None;
    for round in 0_u32.. {
        let waiting_for = match asking.step().await {
            Step::Form => return Ok(Beginning::Form),
            Step::Wait(what) => what,
            Step::Ask(address) => match asking.join(&address).await {
                Answered::Admitted(roster) => return Ok(Beginning::Join(roster)),
                Answered::Again(what) => what,
                Answered::InUse { heard_ms_ago } => {
                    let since = *in_use_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > IN_USE_FOR {
                        return Err(BootstrapError::NodeIdInUse { node: me.node, heard_ms_ago });
                    }
                    format!("another process is heard as node {}", me.node)
                }
            },
        };
        if round % ROUNDS_BETWEEN_WARNINGS == 0 {
            tracing::info!(node = me.node.get(), "waiting to become part of the cluster: {waiting_for}");
        }
        tokio::time::sleep(PAUSE + Duration::from_millis(rng.below(PAUSE.as_millis() as u64))).await;
    }
    unreachable!("the rounds do not end before it is decided")
}

/// Tells the cluster where this node, which takes part already, is reached now. Resolves when the leader has noted it;
/// at once when nothing has changed.
pub async fn announce(
    node: &RaftNode,
    cluster: &Cluster,
    network: &Arc<dyn Network>,
    rng: &Rng,
) -> Result<(), BootstrapError> {
    let asking = Asking { me: &node.me, cluster, network };
    loop {
        let me = &node.me;
        let known = |member: &Member| member.directory == me.directory && member.address == me.address;
        if node.image().member(me.node).is_some_and(known) {
            return Ok(());
        }
        let wanted = if node.leadership().borrow().is_some() {
            let vote = cluster.wants_vote(me.node);
            let (directory, address) = (me.directory, me.address.clone());
            let told = node.propose(Command::AdmitMember { node: me.node, directory, address, vote }).await;
            format!("{told:?}")
        } else if let Step::Ask(leader) = asking.step().await {
            match asking.join(&leader).await {
                Answered::Admitted(_) => return Ok(()),
                Answered::Again(what) => what,
                Answered::InUse { heard_ms_ago } => {
                    return Err(BootstrapError::NodeIdInUse { node: me.node, heard_ms_ago });
                }
            }
        } else {
            "no leader is known".to_owned()
        };
        tracing::debug!(wanted, "this node's address is not in the roster yet");
        tokio::time::sleep(PAUSE + Duration::from_millis(rng.below(PAUSE.as_millis() as u64))).await;
    }
}

/// What a leader answered.
enum Answered {
    Admitted(Vec<Member>),
    InUse {
        heard_ms_ago: u64,
    },
    /// Ask again, because of this.
    Again(String),
}

/// Asks other nodes.
pub(super) struct Asking<'a> {
    pub(super) me: &'a Me,
    pub(super) cluster: &'a Cluster,
    pub(super) network: &'a Arc<dyn Network>,
}

impl Asking<'_> {
    /// One round: asks everybody, and decides.
    async fn step(&self) -> Step {
        let addresses = self.cluster.addresses(self.me.node);
        let asked = join_all(addresses.iter().map(|(expected, address)| self.ask(*expected, address))).await;
        let (mut answers, mut unheard) = (Vec::new(), Vec::new());
        for probed in asked.into_iter().flatten() {
            match probed {
                Ok(answer) => answers.push(answer),
                Err(why) => unheard.push(why),
            }
        }
        let me = Who { node: self.me.node, directory: self.me.directory };
        match decide(me, self.cluster, &answers) {
            Step::Wait(what) if !unheard.is_empty() => Step::Wait(format!("{what} ({})", unheard.join("; "))),
            step => step,
        }
    }

    /// Asks a voter, or every node that a seed's name stands for: this node itself may be the first of them.
    async fn ask(&self, expected: Option<NodeId>, address: &str) -> Vec<Result<Probed, String>> {
        if expected.is_some() {
            return vec![self.probe(expected, address).await];
        }
        let resolved = tokio::time::timeout(ASK_TIMEOUT, self.network.resolve(address)).await;
        let addresses = match resolved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(addresses) => addresses,
            Err(why) => return vec![Err(format!("{address}: {why}"))],
        };
        let some = addresses.iter().take(MOST_ASKED);
        join_all(some.map(|address| self.probe(None, address))).await
    }

    /// Asks a node who it is and what it knows; an error says where, and why it tells nothing.
    pub(super) async fn probe(&self, expected: Option<NodeId>, address: &str) -> Result<Probed, String> {
        let asked = async {
            let grpc::Dialled { channel, identity } = self.dial(address).await?;
            let request = ProbeRequest { envelope: Some(self.me.envelope(None)) };
            let answer = PeersClient::new(channel).probe(request).await;
            let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
            let who = answer.node.as_ref().ok_or("it does not say who it is")?;
            let who = who_of(who).map_err(|why| why.to_string())?;
            let proven = self.me.expects(Some(who.node)).check(address, identity.as_ref());
            proven.map_err(|why| why.to_string())?;
            let leader = answer.leader.map(|leader| leader.address);
            let roster = answer.roster.and_then(roster_of);
            Ok::<_, String>(Probed { expected, who, empty: answer.empty, leader, roster })
        };
        let probed = tokio::time::timeout(ASK_TIMEOUT, asked).await.unwrap_or_else(|_| Err("no answer".to_owned()));
        let probed = probed.map_err(|why| format!("{address}: {why}"))?;
        if let Some(expected) = expected
            && probed.who.node != expected
        {
            tracing::warn!(address, expected = expected.get(), found = probed.who.node.get(), "another node answers");
        }
        Ok(probed)
    }

    /// Any node of the cluster may be there.
    async fn dial(&self, address: &str) -> Result<grpc::Dialled, String> {
        grpc::dial(self.network.as_ref(), address, &self.me.expects(None)).await.map_err(|why| why.to_string())
    }

    async fn join(&self, address: &str) -> Answered {
        let asked = async {
            let channel = self.dial(address).await?.channel;
            let request = JoinRequest {
                envelope: Some(self.me.envelope(None)),
                address: self.me.address.clone(),
                wants_vote: self.cluster.wants_vote(self.me.node),
            };
            let answer = PeersClient::new(channel).join(request).await;
            Ok::<_, String>(answer.map_err(|status| status.message().to_owned())?.into_inner().result)
        };
        let answered = tokio::time::timeout(ASK_TIMEOUT * 5, asked).await;
        let result = match answered.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(result) => result,
            Err(why) => return Answered::Again(format!("asked {address} to be let in: {why}")),
        };
        match result {
            Some(join_response::Result::Admitted(roster)) => match roster.members.iter().map(member_of).collect() {
                Some(members) => Answered::Admitted(members),
                None => Answered::Again(format!("{address} answered with a roster that can't be read")),
            },
            Some(join_response::Result::InUse(in_use)) => Answered::InUse { heard_ms_ago: in_use.heard_ms_ago },
            Some(join_response::Result::Leader(_) | join_response::Result::NoLeader(_)) => {
                Answered::Again("the leader is changing".to_owned())
            }
            Some(join_response::Result::Leaving(_)) => {
                Answered::Again("what was this node's member is being removed".to_owned())
            }
            None => Answered::Again(format!("{address} answered nothing that this version knows")),
        }
    }
}

/// A roster, as it is told on the wire; `None` if it can't be read.
fn roster_of(told: peers::Roster) -> Option<Roster> {
    let members = told.members.iter().map(|peer| member_of(peer).map(|member| (member.node, member)));
    Some(Roster { index: told.index, members: members.collect::<Option<_>>()? })
}

/// A member, as a roster on the wire names it. What each is to be only the replicated roster says.
fn member_of(peer: &Peer) -> Option<Member> {
    let Who { node, directory } = who_of(peer.identity.as_ref()?).ok()?;
    Some(Member { node, directory, address: peer.address.clone(), target: Target::Learner })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn who(node: i32) -> Who {
        Who { node: NodeId::new(node), directory: Uuid::from_u128(node as u128) }
    }

    fn cluster() -> Cluster {
        let initial_voters = (0..3).map(|node| (NodeId::new(node), format!("node{node}:9391"))).collect();
        Cluster { initial_voters, seeds: Vec::new() }
    }

    fn answer(node: i32, empty: bool, leader: Option<i32>) -> Probed {
        Probed {
            expected: Some(NodeId::new(node)),
            who: who(node),
            empty,
            leader: leader.map(|leader| format!("node{leader}:9391")),
            roster: None,
        }
    }

    #[test]
    fn the_first_listed_forms_the_group_once_all_others_are_empty() {
        let all = [answer(1, true, None), answer(2, true, None)];
        assert_eq!(decide(who(0), &cluster(), &all), Step::Form);
        let waits = Step::Wait("node 2 has not answered at node2:9391".to_owned());
        assert_eq!(decide(who(0), &cluster(), &all[..1]), waits, "who does not answer may have metadata");
    }

    #[test]
    fn nobody_else_ever_forms_a_group() {
        let all = [answer(0, true, None), answer(2, true, None)];
        assert!(matches!(decide(who(1), &cluster(), &all), Step::Wait(_)));
        assert!(matches!(decide(who(7), &cluster(), &all), Step::Wait(_)));
    }

    #[test]
    fn a_first_voter_that_lost_its_data_joins_the_group_that_there_is() {
        let formed = [answer(1, false, None), answer(2, true, None)];
        assert_eq!(decide(who(0), &cluster(), &formed), Step::Wait("node 1 knows no leader yet".to_owned()));
        let led = [answer(1, false, Some(1)), answer(2, true, None)];
        assert_eq!(decide(who(0), &cluster(), &led), Step::Ask("node1:9391".to_owned()));
    }

    #[test]
    fn another_node_at_a_listed_address_counts_for_nobody() {
        let misled = Probed { expected: Some(NodeId::new(2)), ..answer(1, true, None) };
        assert!(matches!(decide(who(0), &cluster(), &[answer(1, true, None), misled]), Step::Wait(_)));
    }

    #[test]
    fn a_seed_that_leads_back_to_this_node_is_no_answer() {
        let cluster = Cluster { initial_voters: Vec::new(), seeds: vec!["cluster:9391".to_owned()] };
        let own = Probed { expected: None, leader: None, ..answer(3, false, None) };
        assert!(matches!(decide(who(3), &cluster, &[own]), Step::Wait(what) if what.contains("no node has formed")));
        let leader = Probed { expected: None, ..answer(0, false, Some(1)) };
        assert_eq!(decide(who(3), &cluster, &[leader]), Step::Ask("node1:9391".to_owned()));
        assert!(!cluster.wants_vote(NodeId::new(3)));
    }
}
