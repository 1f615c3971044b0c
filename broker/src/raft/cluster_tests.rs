//! Whole nodes: bootstrap, forwarding, identity and failover, over gRPC on a network in memory and on real TCP.

use std::sync::Arc;
use std::time::Duration;

use super::bootstrap::{BootstrapError, Cluster, announce};
use super::testing::{ALL_NODES, Process, Site};
use super::{Drive, Me};
use crate::ids::NodeId;
use crate::io::disk::sim::SimDisk;
use crate::io::net::Network as _;
use crate::io::net::real::RealNetwork;
use crate::io::rng::Rng;
use crate::metadata::{
    Command, ConfigResource, Membership as _, MembershipError, MetadataPlane as _, Outcome, ProposeError, RaftRole,
    Refused, Seat,
};

fn id(node: i32) -> NodeId {
    NodeId::new(node)
}

fn set(value: &str) -> Command {
    let changes = vec![("name".to_owned(), Some(value.to_owned()))];
    Command::SetConfigs { resource: ConfigResource::BrokerDefault, changes }
}

/// Starts the nodes at once, and waits until all vote.
async fn start_all(site: &Site, nodes: &[Me]) -> Vec<Process> {
    let starting = nodes.iter().map(|me| site.start(me.clone(), SimDisk::new()));
    let processes: Vec<Process> =
        futures::future::join_all(starting).await.into_iter().map(|started| started.expect("it starts")).collect();
    for process in &processes {
        all_vote(process, nodes.len()).await;
    }
    processes
}

async fn all_vote(process: &Process, count: usize) {
    let mut images = process.node.subscribe();
    let waited = images.wait_for(|image| image.members().voters.len() == count);
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("in time").expect("the node runs");
}

async fn three_voters() -> (Site, Vec<Process>) {
    let site = Site::of_voters(3);
    let nodes: Vec<Me> = (0..3).map(|node| Site::me(node, 100 + node as u128)).collect();
    let processes = start_all(&site, &nodes).await;
    (site, processes)
}

fn leader_of(processes: &[Process]) -> usize {
    let leads = |process: &Process| process.node.leadership().borrow().is_some();
    processes.iter().position(leads).expect("one leads")
}

#[tokio::test(start_paused = true)]
async fn the_first_listed_forms_the_cluster_and_all_become_voters() {
    let (_, processes) = three_voters().await;
    for process in &processes {
        let index = process.node.barrier().await.expect("a leader answers");
        let image = process.node.image();
        assert!(image.index() >= index);
        assert_eq!(image.roster().map(|member| member.directory.as_u128()).collect::<Vec<_>>(), [100, 101, 102]);
        assert!(image.members().all_vote((0..3).map(id)));
    }
    let status = processes[leader_of(&processes)].node.status();
    assert_eq!((status.role, status.peers.len()), (RaftRole::Leader, 3));
}

#[tokio::test(start_paused = true)]
async fn a_proposal_on_any_node_resolves_when_it_is_applied_there() {
    let (_, processes) = three_voters().await;
    for (at, process) in processes.iter().enumerate() {
        let value = at.to_string();
        assert_eq!(process.node.propose(set(&value)).await, Ok(Outcome::Done));
        assert_eq!(process.node.image().config(&ConfigResource::BrokerDefault, "name"), Some(value.as_str()));
        let refused = process.node.propose(Command::RemoveMember { node: id(9), directory: uuid::Uuid::nil() }).await;
        assert_eq!(refused.map(|outcome| outcome.refused()), Ok(Some(Refused::UnknownMember)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_before_its_lease_expires_and_proposals_go_on() {
    let (_, mut processes) = three_voters().await;
    let dead = processes.remove(leader_of(&processes));
    let dead_id = dead.me.node;
    let mut lost = processes[0].node.lost_peers();
    dead.kill().await;
    let started = tokio::time::Instant::now();
    let decided = processes[1].node.propose(set("after")).await;
    assert_eq!(decided, Ok(Outcome::Done));
    assert!(started.elapsed() < Duration::from_millis(450), "{:?}", started.elapsed());
    assert_eq!(lost.recv().await, Ok(dead_id));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_goes_on_with_what_it_has() {
    let (site, mut processes) = three_voters().await;
    let process = processes.pop().expect("three");
    let me = process.me.clone();
    let disk = process.kill().await;
    assert_eq!(processes[0].node.propose(set("meanwhile")).await, Ok(Outcome::Done));
    let back = site.start(me, disk).await.expect("it has metadata");
    back.node.barrier().await.expect("a leader answers");
    assert_eq!(back.node.image().config(&ConfigResource::BrokerDefault, "name"), Some("meanwhile"));
}

#[tokio::test(start_paused = true)]
async fn a_wiped_voter_comes_back_as_another_member_and_votes_once_it_has_caught_up() {
    let (site, mut processes) = three_voters().await;
    let at = (leader_of(&processes) + 1) % 3;
    let wiped = processes.remove(at);
    let node = wiped.me.node;
    wiped.kill().await;
    let back = site.start(Site::me(node.get(), 999), SimDisk::new()).await.expect("let in after a while");
    let mut images = back.node.subscribe();
    images.wait_for(|image| image.members().voters.len() == 3).await.expect("the node runs");
    let image = processes[0].node.image();
    assert_eq!(image.member(node).expect("a member").directory.as_u128(), 999);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_missed_that_another_was_wiped_hears_it_as_its_leader() {
    let (site, mut processes) = three_voters().await;
    let at = (leader_of(&processes) + 1) % 3;
    let wiped = processes.remove(at);
    let node = wiped.me.node;
    wiped.kill().await;
    let leader = processes.remove(leader_of(&processes));
    // Two of three are needed to let it in again; a fourth lets the third be away meanwhile.
    let fourth = site.start(Site::me(3, 103), SimDisk::new()).await.expect("let in");
    leader.node.promote(id(3)).await.expect("it has caught up");
    let away = processes.remove(0);
    let me = away.me.clone();
    leader.node.barrier().await.expect("it leads");
    let back = site.start(Site::me(node.get(), 999), SimDisk::new());
    let (back, disk) = tokio::join!(back, async {
        // It knows the fourth, and not that the wiped one is another member now.
        away.kill().await
    });
    let back = back.expect("let in after a while");
    back.node.subscribe().wait_for(|image| image.seat_of(node) == Some(Seat::Voter)).await.expect("the node runs");
    leader.node.transfer_leadership(node).await.expect("it votes");
    back.node.leadership().wait_for(Option::is_some).await.expect("the node runs");
    let returned = site.start(me, disk).await.expect("it has metadata");
    let heard = tokio::time::timeout(Duration::from_secs(20), returned.node.barrier()).await;
    heard.expect("in time").expect("the leader answers");
    assert_eq!(fourth.node.propose(set("after")).await, Ok(Outcome::Done));
}

#[tokio::test(start_paused = true)]
async fn a_second_process_with_a_nodes_id_is_refused_and_told_so() {
    let (site, processes) = three_voters().await;
    let second = Me { address: "elsewhere:9391".to_owned(), ..Site::me(2, 999) };
    let refused = site.start(second, SimDisk::new()).await.err().expect("the first is alive");
    assert!(matches!(refused, BootstrapError::NodeIdInUse { node, .. } if node == id(2)), "{refused}");
    assert_eq!(processes[0].node.image().member(id(2)).expect("a member").directory.as_u128(), 102);
}

#[tokio::test(start_paused = true)]
async fn later_nodes_find_the_cluster_by_seeds_and_learn() {
    let (site, processes) = three_voters().await;
    let site = Site { cluster: Cluster { initial_voters: Vec::new(), seeds: site.cluster.seeds.clone() }, ..site };
    let learner = site.start(Site::me(7, 107), SimDisk::new()).await.expect("let in");
    let mut images = learner.node.subscribe();
    images.wait_for(|image| image.members().learners.len() == 1).await.expect("the node runs");
    assert_eq!(learner.node.propose(set("learnt")).await, Ok(Outcome::Done));
    processes[0].node.promote(id(7)).await.expect("it has caught up");
    assert_eq!(processes[0].node.image().members().voters.len(), 4);
    learner.node.demote(id(7)).await.expect("three others vote");
    learner.node.remove(id(2)).await.expect("two others vote");
    assert!(processes[0].node.barrier().await.is_ok());
    assert_eq!(processes[0].node.image().members().voters.len(), 2);
    assert_eq!(learner.node.promote(id(2)).await, Err(MembershipError::UnknownMember(id(2))));
}

#[tokio::test(start_paused = true)]
async fn a_seed_that_is_a_name_of_all_nodes_leads_to_each_of_them() {
    let (site, _processes) = three_voters().await;
    let seeds = vec![ALL_NODES.to_owned()];
    let site = Site { cluster: Cluster { initial_voters: Vec::new(), seeds }, ..site };
    let joined = tokio::time::timeout(Duration::from_secs(5), site.start(Site::me(7, 107), SimDisk::new())).await;
    let learner = joined.expect("though the name leads to the node itself first").expect("let in");
    let mut images = learner.node.subscribe();
    images.wait_for(|image| image.members().learners.len() == 1).await.expect("the node runs");
    assert_eq!(learner.node.propose(set("learnt")).await, Ok(Outcome::Done));
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_cluster_is_heard_by_nobody() {
    let (site, processes) = three_voters().await;
    let stranger = Me { cluster_id: "cluster-2".to_owned(), ..Site::me(8, 108) };
    let site = Site { cluster: Cluster { initial_voters: Vec::new(), seeds: site.cluster.seeds.clone() }, ..site };
    let joined = tokio::time::timeout(Duration::from_secs(5), site.start(stranger, SimDisk::new())).await;
    assert!(joined.is_err(), "it waits for its own cluster");
    assert!(processes[0].node.image().member(id(8)).is_none());
}

#[tokio::test(start_paused = true)]
async fn leadership_is_handed_over_from_any_node_to_a_voter() {
    let (_, processes) = three_voters().await;
    let old = leader_of(&processes);
    let (to, asked) = ((old + 1) % 3, (old + 2) % 3);
    let target = processes[to].me.node;
    processes[asked].node.transfer_leadership(target).await.expect("it votes");
    processes[to].node.leadership().wait_for(Option::is_some).await.expect("the node runs");
    assert_eq!(processes[asked].node.transfer_leadership(id(9)).await, Err(MembershipError::NotAVoter(id(9))));
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_a_proposal_times_out_and_a_read_finds_no_leader() {
    let (_, mut processes) = three_voters().await;
    let left = processes.pop().expect("three");
    for process in processes {
        process.kill().await;
    }
    assert_eq!(left.node.propose(set("lost")).await, Err(ProposeError::TimedOut));
    assert_eq!(left.node.barrier().await, Err(MembershipError::NoLeader));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moved_tells_the_cluster_its_new_address() {
    let (site, mut processes) = three_voters().await;
    let at = (leader_of(&processes) + 1) % 3;
    let process = processes.remove(at);
    let me = Me { address: "moved:9391".to_owned(), ..process.me.clone() };
    let disk = process.kill().await;
    let moved = site.start(me.clone(), disk).await.expect("it has metadata");
    announce(&moved.node, &site.cluster, &site.network, &Rng::seeded(1)).await.expect("it is the member");
    let mut images = moved.node.subscribe();
    let shown = images.wait_for(|image| image.member(me.node).is_some_and(|member| member.address == me.address));
    tokio::time::timeout(Duration::from_secs(10), shown).await.expect("in time").expect("the node runs");
}

/// Three nodes on loopback, each with its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_real_tcp_form_replicate_and_survive_the_leader() {
    let mut initial_voters = Vec::new();
    for node in 0..3 {
        // The port is free again when the listener is dropped.
        let listener = RealNetwork.listen("127.0.0.1:0").await.expect("a free port");
        initial_voters.push((id(node), listener.local_addr().to_string()));
    }
    let nodes: Vec<Me> = initial_voters
        .iter()
        .map(|(node, address)| Me { address: address.clone(), ..Site::me(node.get(), 100 + node.get() as u128) })
        .collect();
    let cluster = Cluster { initial_voters, seeds: Vec::new() };
    let site = Site { network: Arc::new(RealNetwork), cluster, drive: Drive::Thread };
    let mut processes = start_all(&site, &nodes).await;
    for round in 0..20 {
        let node = &processes[round % 3].node;
        assert_eq!(node.propose(set(&round.to_string())).await, Ok(Outcome::Done));
    }
    let dead = processes.remove(leader_of(&processes));
    dead.kill().await;
    assert_eq!(processes[0].node.propose(set("after")).await, Ok(Outcome::Done));
    processes[1].node.barrier().await.expect("a leader answers");
    assert_eq!(processes[1].node.image().config(&ConfigResource::BrokerDefault, "name"), Some("after"));
    for process in processes {
        process.kill().await;
    }
}
