//! The service over a metadata plane in memory: three nodes that share one image, each with logs of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::nodes::{Asking, Nodes};
use super::proto::admin_server::Admin;
use super::proto::*;
use super::service::{AdminOptions, AdminService, HeldReplicas, Totals};
use super::{Claim, GrpcNodes, LeaderView};
use crate::config::{Settings, load};
use crate::ids::{BrokerEpoch, NodeId, PartitionIndex, TopicId, TopicPartition};
use crate::io::clock::SystemClock;
use crate::io::net::real::RealNetwork;
use crate::metadata::one_member::OneMember;
use crate::metadata::testing::{InstantPlane, node};
use crate::metadata::{
    AlterPartition, Command, ConfigResource, Endpoint, Image, MetadataPlane, NewTopic, Node as Registered, Outcome,
};

mod links;

/// What a node holds, as a test says.
#[derive(Default)]
struct Logs(Mutex<BTreeMap<TopicPartition, u64>>);

impl HeldReplicas for Logs {
    fn bytes(&self, partition: &TopicPartition) -> Option<u64> {
        self.0.lock().get(partition).copied()
    }

    fn totals(&self) -> Totals {
        let logs = self.0.lock();
        Totals { replicas: logs.len() as u32, leaders: 0, bytes: logs.values().sum() }
    }
}

/// The other nodes' services, called without a network.
#[derive(Default)]
struct Direct(OnceLock<Weak<Vec<AdminService>>>);

impl Direct {
    fn service(&self, address: &str) -> Result<AdminService, Status> {
        let services = self.0.get().and_then(Weak::upgrade).expect("the test holds the services");
        let of = |id: &usize| address == grpc(*id as i32).to_string();
        let id = (0..services.len()).find(of).ok_or_else(|| Status::unavailable("nobody there"))?;
        Ok(services[id].clone())
    }
}

impl Nodes for Direct {
    fn raft<'a>(&'a self, _node: NodeId, address: &'a str) -> Asking<'a, RaftGroup> {
        Box::pin(async move {
            Ok(self.service(address)?.describe_raft(Request::new(DescribeRaftRequest {})).await?.into_inner())
        })
    }

    fn replicas<'a>(&'a self, _node: NodeId, address: &'a str) -> Asking<'a, DescribeReplicasResponse> {
        Box::pin(async move {
            Ok(self.service(address)?.describe_replicas(Request::new(DescribeReplicasRequest {})).await?.into_inner())
        })
    }
}

fn grpc(id: i32) -> Endpoint {
    Endpoint { host: format!("node{id}.example"), port: 9391 }
}

fn id(number: i32) -> NodeId {
    NodeId::new(number)
}

/// A cluster in which node 0 leads Raft, and all that are given vote.
struct Cluster {
    plane: Arc<InstantPlane>,
    logs: Vec<Arc<Logs>>,
    services: Arc<Vec<AdminService>>,
}

impl Cluster {
    async fn of(count: i32) -> Self {
        let plane = InstantPlane::new();
        for number in 0..count {
            let node = Registered { grpc: Some(grpc(number)), ..node(number) };
            let admit = Command::AdmitMember {
                node: node.id,
                directory: node.directory,
                address: grpc(number).to_string(),
                vote: true,
            };
            let register = Command::RegisterNode { node, acked_may_be_lost: false };
            for command in [register, admit] {
                let outcome = plane.propose(command).await.expect("applied at once");
                assert_eq!(outcome.refused(), None);
            }
        }
        let logs: Vec<Arc<Logs>> = (0..count).map(|_| Arc::default()).collect();
        let nodes = Arc::new(Direct::default());
        let service = |(number, (member, logs)): (i32, (Arc<OneMember>, &Arc<Logs>))| {
            AdminService::new(AdminOptions {
                node: id(number),
                directory: node(number).directory,
                clock: Arc::new(SystemClock::start()),
                quorum: Arc::new(LeaderView::new(member.clone(), nodes.clone())),
                metadata: member,
                replicas: logs.clone(),
                nodes: nodes.clone(),
                settings: Arc::new(Settings::new(load(None, [], []).expect("the defaults are valid"))),
            })
        };
        let members = OneMember::of_all(&plane, (0..count).map(id));
        let services: Vec<AdminService> = (0..count).zip(members.into_iter().zip(&logs)).map(service).collect();
        let services = Arc::new(services);
        nodes.0.set(Arc::downgrade(&services)).expect("set once");
        Self { plane, logs, services }
    }

    fn any(&self) -> &AdminService {
        self.services.last().expect("there is a node")
    }

    fn image(&self) -> Arc<Image> {
        self.plane.image()
    }

    async fn apply(&self, command: Command) -> Outcome {
        self.plane.propose(command).await.expect("applied at once")
    }

    /// A topic `t` with these replicas, all logs of this size.
    async fn topic(&self, assignment: &[&[i32]], bytes: u64) {
        let topic = NewTopic {
            name: "t".to_owned(),
            id: TopicId::from_uuid(Uuid::from_u128(7)).expect("not zero"),
            assignment: assignment.iter().map(|replicas| replicas.iter().copied().map(id).collect()).collect(),
            configs: vec![],
        };
        assert_eq!(self.apply(Command::CreateTopic(topic)).await, Outcome::Done);
        for (index, replicas) in assignment.iter().enumerate() {
            for &replica in *replicas {
                self.holds(replica, index as i32, bytes);
            }
        }
    }

    fn holds(&self, node: i32, partition: i32, bytes: u64) {
        self.logs[node as usize].0.lock().insert(self.partition(partition), bytes);
    }

    fn partition(&self, index: i32) -> TopicPartition {
        let topic = self.image().topic("t").expect("the topic is there").id;
        TopicPartition { topic, partition: PartitionIndex::new(index) }
    }

    /// The added replicas of a partition are in sync, and its reassignment done.
    async fn complete(&self, index: i32) {
        let partition = self.partition(index);
        let image = self.image();
        let registration = image.partition(&partition).expect("it is there");
        let epoch = |node: NodeId| image.node(node).map_or(BrokerEpoch::FIRST, |node| node.epoch);
        let alter = AlterPartition {
            partition,
            leader: registration.leader.expect("it has a leader"),
            leader_broker_epoch: registration.leader_broker_epoch.expect("it has a leader"),
            leader_epoch: registration.leader_epoch,
            partition_epoch: registration.partition_epoch,
            isr: registration.replicas.iter().map(|&node| (node, epoch(node))).collect(),
        };
        assert_eq!(self.apply(Command::AlterPartition(alter)).await, Outcome::Done);
        let partition_epoch = self.image().partition(&partition).expect("it is there").partition_epoch;
        assert_eq!(self.apply(Command::CompleteReassignment { partition, partition_epoch }).await, Outcome::Done);
    }

    async fn fence(&self, number: i32) {
        let epoch = self.image().node(id(number)).expect("registered").epoch;
        assert_eq!(self.apply(Command::FenceNode { node: id(number), epoch }).await, Outcome::Done);
    }

    async fn describe(&self) -> DescribeClusterResponse {
        self.any()
            .describe_cluster(Request::new(DescribeClusterRequest { latest: true }))
            .await
            .expect("told")
            .into_inner()
    }

    async fn reassign(&self, partition: i32, replicas: &[i32]) -> String {
        let target = Target { topic: "t".to_owned(), partition, replicas: replicas.to_vec(), ..Default::default() };
        let request = ReassignPartitionsRequest { targets: vec![target], ..Default::default() };
        let answer = self.any().reassign_partitions(Request::new(request)).await.expect("answered").into_inner();
        answer.results.into_iter().next().expect("one result").error
    }
}

#[tokio::test]
async fn any_node_tells_the_whole_cluster_as_the_leader_sees_it() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1], &[1, 2], &[2, 0]], 10).await;
    cluster.fence(1).await;
    let told = cluster.describe().await;
    assert_eq!((told.cluster_id.as_str(), told.answered_by), ("test-cluster", 2));
    let raft = told.raft.expect("there is a group");
    assert_eq!(raft.leader, Some(0));
    assert_eq!(
        raft.members.iter().map(super::proto::RaftMember::role).collect::<Vec<_>>(),
        [RaftRole::Leader, RaftRole::Voter, RaftRole::Voter]
    );
    assert!(raft.members.iter().all(|member| member.progress.is_some()), "asked of the leader");
    let counts = told.partitions.expect("counted");
    assert_eq!((counts.topics, counts.partitions, counts.under_replicated, counts.offline), (1, 3, 2, 0));
    assert_eq!(counts.not_preferred, 1);
    let nodes: Vec<_> =
        told.nodes.iter().map(|node| (node.leaders, node.replicas, node.out_of_sync, node.fenced)).collect();
    assert_eq!(nodes, [(1, 2, 0, false), (0, 2, 2, true), (2, 2, 0, false)]);
    assert_eq!(told.nodes[0].grpc_address, "node0.example:9391");
}

#[tokio::test]
async fn unhealthy_partitions_are_named_with_what_is_worst_about_each() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 2], &[0, 1], &[1], &[0, 1, 2]], 10).await;
    let minimum = vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))];
    let set = Command::SetConfigs { resource: ConfigResource::Topic("t".into()), changes: minimum };
    assert_eq!(cluster.apply(set).await, Outcome::Done);
    let named = async || {
        let request = Request::new(ListUnhealthyPartitionsRequest {});
        let told = cluster.any().list_unhealthy_partitions(request).await.expect("told").into_inner();
        assert_eq!(told.total as usize, told.partitions.len());
        told.partitions
    };
    assert_eq!(named().await, []);
    cluster.fence(1).await;
    let partitions = named().await;
    let told: Vec<_> = partitions.iter().map(|it| (it.partition, it.health(), it.leader, it.minimum)).collect();
    let expected = [
        (2, PartitionHealth::Offline, None, 1),
        (1, PartitionHealth::UnderMinimum, Some(0), 2),
        (3, PartitionHealth::UnderReplicated, Some(0), 2),
    ];
    assert_eq!(told, expected);
    assert_eq!((&partitions[2].replicas, &partitions[2].in_sync), (&vec![0, 1, 2], &vec![0, 2]));
}

#[tokio::test]
async fn a_process_tells_who_it_is_not_who_it_is_taken_for() {
    let cluster = Cluster::of(2).await;
    cluster.topic(&[&[0, 1]], 10).await;
    let ask = |number: usize| cluster.services[number].describe_node(Request::new(DescribeNodeRequest {}));
    let one = ask(1).await.expect("told").into_inner();
    assert_eq!((one.id, one.registered, one.replicas, one.log_bytes), (1, true, 1, 10));
    assert_eq!((one.role(), one.leader), (RaftRole::Voter, Some(0)));
    // Another data folder has the id now: this process is not the registered one.
    cluster.fence(1).await;
    let other = Registered { directory: Uuid::from_u128(99), ..node(1) };
    cluster.apply(Command::RegisterNode { node: other, acked_may_be_lost: false }).await;
    let one = ask(1).await.expect("told").into_inner();
    assert!(!one.registered && one.epoch == 0);
    assert_eq!(one.directory, node(1).directory.to_string());
}

#[tokio::test]
async fn a_move_is_begun_told_with_its_bytes_and_cancelled() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1]], 100).await;
    assert_eq!(cluster.reassign(0, &[0, 2]).await, "");
    cluster.holds(2, 0, 30);
    let list = || async {
        let request = Request::new(ListReassignmentsRequest::default());
        cluster.any().list_reassignments(request).await.expect("listed").into_inner().reassignments
    };
    let told = list().await;
    assert_eq!((told[0].adding.as_slice(), told[0].removing.as_slice()), (&[2][..], &[1][..]));
    assert_eq!(told[0].bytes_left, Some(70));
    assert_eq!(cluster.reassign(0, &[]).await, "");
    assert_eq!(list().await, []);
    assert_ne!(cluster.reassign(0, &[]).await, "", "there is nothing to cancel");
}

#[tokio::test]
async fn a_target_that_can_not_be_is_refused_in_words() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1]], 100).await;
    cluster.any().drain_node(Request::new(DrainNodeRequest { node: 2, ..Default::default() })).await.expect("begun");
    for (replicas, words) in
        [(&[0, 9][..], "there is no node 9"), (&[0, 0], "node 0 is named twice"), (&[0, 2], "node 2 is being drained")]
    {
        assert_eq!(cluster.reassign(0, replicas).await, words);
    }
    assert_eq!(cluster.reassign(5, &[0]).await, "the topic has 1 partitions");
    let twice = [vec![0], vec![1]].map(|replicas| Target { topic: "t".to_owned(), replicas, ..Default::default() });
    let request = ReassignPartitionsRequest { targets: twice.to_vec(), ..Default::default() };
    let answer = cluster.any().reassign_partitions(Request::new(request)).await.expect("answered").into_inner();
    let errors: Vec<&str> = answer.results.iter().map(|it| it.error.as_str()).collect();
    assert_eq!(errors, ["it is named 2 times"; 2], "nobody knows which is meant");
    let stale = Target { topic: "t".to_owned(), replicas: vec![1, 0], partition_epoch: Some(77), ..Default::default() };
    let request = ReassignPartitionsRequest { targets: vec![stale], ..Default::default() };
    let answer = cluster.any().reassign_partitions(Request::new(request)).await.expect("answered").into_inner();
    assert_eq!(answer.results[0].error, "the partition epoch has changed");
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_watched_until_it_is_done() {
    let cluster = Cluster::of(4).await;
    cluster.topic(&[&[0, 1], &[1, 0], &[0, 2]], 100).await;
    let begin = DrainNodeRequest { node: 0, ..Default::default() };
    let begun = cluster.any().drain_node(Request::new(begin)).await.expect("begun").into_inner().drain.expect("told");
    assert_eq!((begun.state(), begun.partitions_total, begun.partitions_left), (DrainState::Moving, 3, 3));
    assert_eq!(begun.bytes_left, Some(300));
    let watch = Request::new(WatchDrainRequest { node: 0 });
    let mut watched = cluster.any().watch_drain(watch).await.expect("watched").into_inner();
    let first = watched.next().await.expect("at once").expect("no error");
    assert_eq!((first.partitions_left, first.bytes_per_second), (3, None));
    // What the controller would do.
    for (partition, replicas) in [(0, [1, 3]), (1, [1, 3]), (2, [3, 2])] {
        assert_eq!(cluster.reassign(partition, &replicas).await, "");
        cluster.holds(3, partition, 40);
    }
    let moving = watched.next().await.expect("a second later").expect("no error");
    assert_eq!((moving.partitions_moving, moving.bytes_left), (3, Some(180)));
    for partition in 0..3 {
        cluster.complete(partition).await;
    }
    let done = watched.next().await.expect("a second later").expect("no error");
    assert_eq!((done.state(), done.partitions_left, done.bytes_left), (DrainState::Done, 0, Some(0)));
    assert!(watched.next().await.is_none(), "the stream ends with the drain");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_drain_ends_for_those_who_watch_it() {
    let cluster = Cluster::of(2).await;
    cluster.topic(&[&[0]], 100).await;
    cluster.any().drain_node(Request::new(DrainNodeRequest { node: 0, ..Default::default() })).await.expect("begun");
    let watch = || cluster.any().watch_drain(Request::new(WatchDrainRequest { node: 0 }));
    let mut watched = watch().await.expect("watched").into_inner();
    watched.next().await.expect("at once").expect("no error");
    cluster
        .any()
        .cancel_drain(Request::new(CancelDrainRequest { node: 0, ..Default::default() }))
        .await
        .expect("ended");
    assert_eq!(watched.next().await.expect("a second later").expect("no error").state(), DrainState::Ended);
    assert!(watched.next().await.is_none());
    assert_eq!(watch().await.err().map(|status| status.code()), Some(Code::NotFound));
}

#[tokio::test]
async fn a_leader_that_can_not_be_asked_leaves_the_bytes_open() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1], &[1, 0]], 100).await;
    cluster.fence(0).await;
    cluster.fence(1).await;
    cluster.any().drain_node(Request::new(DrainNodeRequest { node: 1, ..Default::default() })).await.expect("begun");
    let drain =
        cluster.any().describe_drain(Request::new(DescribeDrainRequest { node: 1 })).await.expect("told").into_inner();
    assert_eq!(drain.bytes_left, None);
    assert_eq!(drain.blocked, "no leader to copy from: t-0, t-1");
}

#[tokio::test]
async fn writes_under_an_older_lease_are_refused_whoever_is_asked() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1]], 1).await;
    let acquire = |holder: &str| {
        let request = Request::new(AcquireOperatorLeaseRequest { holder: holder.to_owned() });
        async { cluster.any().acquire_operator_lease(request).await.expect("acquired").into_inner().epoch }
    };
    let (old, new) = (acquire("operator-a").await, acquire("operator-b").await);
    assert!(new > old);
    let drain =
        |epoch| cluster.services[0].drain_node(Request::new(DrainNodeRequest { operator_epoch: epoch, node: 2 }));
    let transfer = |epoch| {
        let request = TransferRaftLeadershipRequest { operator_epoch: epoch, to: Some(1) };
        cluster.services[0].transfer_raft_leadership(Request::new(request))
    };
    assert_eq!(drain(Some(old)).await.err().map(|it| it.code()), Some(Code::PermissionDenied));
    assert_eq!(transfer(Some(old)).await.err().map(|it| it.code()), Some(Code::PermissionDenied));
    drain(Some(new)).await.expect("the current operator may");
    transfer(Some(new)).await.expect("the current operator may");
    drain(None).await.expect("a person has no lease");
    assert_eq!(cluster.describe().await.operator.map(|lease| lease.holder), Some("operator-b".to_owned()));
    let nameless = cluster.any().acquire_operator_lease(Request::new(AcquireOperatorLeaseRequest::default())).await;
    assert_eq!(nameless.err().map(|it| it.code()), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn voters_are_demoted_and_promoted_and_the_last_one_stays() {
    let cluster = Cluster::of(2).await;
    let demote = |node| cluster.any().demote_voter(Request::new(DemoteVoterRequest { node, ..Default::default() }));
    demote(1).await.expect("node 0 votes still");
    assert_eq!(cluster.describe().await.nodes[1].role(), RaftRole::Learner);
    let last = demote(0).await.expect_err("nobody would vote");
    assert_eq!(last.code(), Code::FailedPrecondition);
    assert!(last.message().starts_with("demote node 0: "), "{}", last.message());
    let promote = |directory: Option<&str>| {
        let directory = directory.map(ToOwned::to_owned);
        cluster.any().promote_voter(Request::new(PromoteVoterRequest { node: 1, directory, ..Default::default() }))
    };
    let wiped = promote(Some(&Uuid::from_u128(5).to_string())).await.expect_err("another data folder");
    assert_eq!(wiped.code(), Code::NotFound);
    assert_eq!(promote(Some("no uuid")).await.err().map(|it| it.code()), Some(Code::InvalidArgument));
    promote(None).await.expect("it may vote again");
    assert_eq!(cluster.describe().await.nodes[1].role(), RaftRole::Voter);
}

#[tokio::test]
async fn a_node_is_removed_only_when_it_is_stopped_and_empty_and_halves_are_finished() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1]], 1).await;
    let remove = |node| cluster.any().remove_node(Request::new(RemoveNodeRequest { node, ..Default::default() }));
    assert_eq!(remove(2).await.err().map(|it| it.code()), Some(Code::FailedPrecondition), "it is alive");
    cluster.fence(1).await;
    assert_eq!(remove(1).await.err().map(|it| it.code()), Some(Code::FailedPrecondition), "it holds a replica");
    cluster.fence(2).await;
    // The first half has been done by somebody who did not come to the second.
    let unregister = Command::UnregisterNode { node: id(2), only_if_empty: true };
    assert_eq!(cluster.apply(unregister).await, Outcome::Done);
    remove(2).await.expect("the other half");
    assert_eq!(cluster.image().member(id(2)), None);
    assert_eq!(remove(2).await.err().map(|it| it.code()), Some(Code::NotFound));
}

#[tokio::test]
async fn preferred_leaders_come_back_where_they_are_in_sync() {
    let cluster = Cluster::of(2).await;
    cluster.topic(&[&[0, 1], &[1, 0]], 1).await;
    let elect = |kind: ElectionKind, partitions: Vec<Partition>| {
        let request = ElectLeadersRequest { kind: kind.into(), partitions, ..Default::default() };
        async { cluster.any().elect_leaders(Request::new(request)).await.map(|it| it.into_inner().results) }
    };
    assert_eq!(elect(ElectionKind::Preferred, vec![]).await.expect("nothing to do"), []);
    let named =
        vec![Partition { topic: "t".to_owned(), partition: 0 }, Partition { topic: "none".to_owned(), partition: 0 }];
    let results = elect(ElectionKind::Preferred, named).await.expect("answered");
    assert_eq!(results[0].error, "the election is not needed");
    assert_eq!(results[1].error, "no such topic");
    cluster.fence(0).await;
    let results = elect(ElectionKind::Preferred, vec![]).await.expect("answered");
    assert_eq!(
        results.iter().map(|it| (it.partition, it.error.as_str())).collect::<Vec<_>>(),
        [(0, "the preferred leader is not available")]
    );
    let unspecified = elect(ElectionKind::Unspecified, vec![]).await;
    assert_eq!(unspecified.err().map(|it| it.code()), Some(Code::InvalidArgument));
}

#[tokio::test]
async fn one_stop_is_granted_at_a_time_and_unsafe_ones_are_not() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1, 2], &[1]], 1).await;
    let minimum = Command::SetConfigs {
        resource: crate::metadata::ConfigResource::Topic("t".into()),
        changes: vec![("min.insync.replicas".to_owned(), Some("2".to_owned()))],
    };
    assert_eq!(cluster.apply(minimum).await, Outcome::Done);
    let ask = |node| cluster.any().is_safe_to_stop(Request::new(IsSafeToStopRequest { node }));
    let one = ask(1).await.expect("told").into_inner();
    assert!(one.safe, "{one:?}");
    assert_eq!(one.unavoidable, [Partition { topic: "t".to_owned(), partition: 1 }]);
    let prepare = |node| cluster.any().prepare_stop(Request::new(PrepareStopRequest { node, ..Default::default() }));
    let grant = prepare(1).await.expect("granted").into_inner().grant.expect("told");
    // Partition 1 has nobody else to lead it.
    assert_eq!((grant.node, grant.leaders_left), (1, 1));
    let other = prepare(2).await.expect_err("one at a time");
    assert_eq!(other.code(), Code::FailedPrecondition);
    cluster.fence(0).await;
    let two = ask(2).await.expect("told").into_inner();
    assert!(!two.safe && !two.reasons.is_empty(), "{two:?}");
    assert_eq!(two.blocking, [Partition { topic: "t".to_owned(), partition: 0 }]);
    assert_eq!(ask(7).await.err().map(|it| it.code()), Some(Code::NotFound), "nobody knows of a node 7");
}

#[tokio::test]
async fn settings_of_the_cluster_are_checked() {
    let cluster = Cluster::of(1).await;
    let throttle = |bytes_per_second| {
        cluster.any().set_throttle(Request::new(SetThrottleRequest { bytes_per_second, ..Default::default() }))
    };
    throttle(Some(1000)).await.expect("set");
    assert_eq!(cluster.describe().await.throttle_bytes_per_second, Some(1000));
    assert_eq!(throttle(Some(0)).await.err().map(|it| it.code()), Some(Code::InvalidArgument));
    throttle(None).await.expect("unset");
    assert_eq!(cluster.describe().await.throttle_bytes_per_second, None);
    let raise = |version| {
        let request = SetClusterVersionRequest { version, ..Default::default() };
        cluster.any().set_cluster_version(Request::new(request))
    };
    assert_eq!(raise(0).await.err().map(|it| it.code()), Some(Code::InvalidArgument));
    assert_eq!(raise(u32::MAX).await.err().map(|it| it.code()), Some(Code::FailedPrecondition));
    for wrong in [-1, i32::MIN] {
        let asked = cluster.any().is_safe_to_stop(Request::new(IsSafeToStopRequest { node: wrong })).await;
        assert_eq!(asked.err().map(|it| it.code()), Some(Code::InvalidArgument));
    }
}

/// Over real connections: what nodes ask of each other, and what the command line does.
#[tokio::test]
async fn over_the_network() {
    let cluster = Cluster::of(2).await;
    cluster.topic(&[&[0]], 10).await;
    cluster.any().drain_node(Request::new(DrainNodeRequest::default())).await.expect("begun");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let served = admin_server::AdminServer::new(cluster.services[0].clone());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tokio::spawn(tonic::transport::Server::builder().add_service(served).serve_with_incoming(incoming));
    let nodes = GrpcNodes::new(Arc::new(RealNetwork), "c", Claim::node(id(1), None));
    assert_eq!(nodes.raft(id(0), &address).await.expect("answered").leader, Some(0));
    let held = nodes.replicas(id(0), &address).await.expect("answered").replicas;
    assert_eq!(held, [Replica { topic: "t".to_owned(), partition: 0, bytes: 10 }]);
    server.abort();
    assert!(server.await.expect_err("stopped").is_cancelled());
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    let gone = tokio::time::timeout(Duration::from_secs(20), nodes.raft(id(0), &address))
        .await
        .expect("no waiting for the dead");
    assert_eq!(gone.err().map(|status| status.code()), Some(Code::Unavailable));
}

async fn set_configs(
    cluster: &Cluster,
    values: &[(&str, &str)],
    reset: &[&str],
    operator_epoch: Option<u64>,
) -> Result<Vec<String>, Status> {
    let request = SetConfigsRequest {
        operator_epoch,
        values: values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        reset: reset.iter().map(|name| (*name).to_owned()).collect(),
        validate_only: false,
    };
    Ok(cluster.any().set_configs(Request::new(request)).await?.into_inner().changed)
}

async fn config(cluster: &Cluster, name: &str) -> NodesConfig {
    let told =
        cluster.any().describe_configs(Request::new(DescribeConfigsRequest {})).await.expect("told").into_inner();
    told.configs.into_iter().find(|config| config.name == name).expect("it is a setting")
}

#[tokio::test]
async fn settings_of_all_nodes_are_set_and_reset_by_name_and_others_are_left_alone() {
    let cluster = Cluster::of(3).await;
    let (retention, minimum) = ("log.retention.ms", "min.insync.replicas");
    let set = set_configs(&cluster, &[(retention, "1000"), (minimum, "2")], &[], None).await.expect("set");
    assert_eq!(set, [retention, minimum]);
    assert_eq!(config(&cluster, retention).await.value.as_deref(), Some("1000"));
    assert!(set_configs(&cluster, &[(retention, "1000")], &[], None).await.expect("so already").is_empty());

    set_configs(&cluster, &[("log.segment.bytes", "2000000")], &[], None).await.expect("by another");
    assert_eq!(set_configs(&cluster, &[], &[retention, minimum], None).await.expect("reset"), [retention, minimum]);
    assert!(!config(&cluster, retention).await.is_set);
    assert_eq!(config(&cluster, minimum).await.value.as_deref(), Some("1"), "the cluster always has one");
    assert!(config(&cluster, "log.segment.bytes").await.is_set);
}

#[tokio::test]
async fn settings_that_need_a_restart_are_told_and_refused() {
    let cluster = Cluster::of(1).await;
    for (name, dynamic) in [("log.retention.ms", true), ("min.insync.replicas", true), ("broker.rack", false)] {
        assert_eq!(config(&cluster, name).await.dynamic, dynamic, "{name}");
    }
    for (values, reset) in [
        (&[("broker.rack", "a")][..], &[][..]),
        (&[("log.retention.ms", "soon")], &[]),
        (&[("no.such.setting", "1")], &[]),
        (&[("log.retention.ms", "1")], &["log.retention.ms"]),
    ] {
        let refused = set_configs(&cluster, values, reset, None).await.expect_err("it is refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(values[0].0), "{refused}");
    }
}

#[tokio::test]
async fn an_operator_that_was_replaced_sets_nothing() {
    let cluster = Cluster::of(1).await;
    let acquire = async || {
        let request = AcquireOperatorLeaseRequest { holder: "operator".to_owned() };
        cluster.any().acquire_operator_lease(Request::new(request)).await.expect("granted").into_inner().epoch
    };
    let (old, new) = (acquire().await, acquire().await);
    let refused = set_configs(&cluster, &[("log.retention.ms", "1")], &[], Some(old)).await.expect_err("it is paused");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(!config(&cluster, "log.retention.ms").await.is_set);
    set_configs(&cluster, &[("log.retention.ms", "1")], &[], Some(new)).await.expect("set");
}

#[tokio::test]
async fn the_topic_that_needs_most_nodes_is_named() {
    let cluster = Cluster::of(3).await;
    assert_eq!(cluster.describe().await.widest_topic, None);
    cluster.topic(&[&[0], &[0, 1]], 10).await;
    let widest = cluster.describe().await.widest_topic.expect("there is a topic");
    assert_eq!((widest.topic.as_str(), widest.replication_factor), ("t", 2));
}

#[tokio::test]
async fn new_nodes_are_filled_once_and_under_the_lease() {
    let cluster = Cluster::of(3).await;
    cluster.topic(&[&[0, 1], &[1, 0], &[0, 1]], 10).await;
    let fill = async |nodes: &[i32], operator_epoch| {
        let request = FillNodesRequest { operator_epoch, nodes: nodes.to_vec() };
        cluster.any().fill_nodes(Request::new(request)).await.map(|answer| answer.into_inner().results)
    };
    let begun = fill(&[2], None).await.expect("begun");
    assert!(begun.len() == 2 && begun.iter().all(|result| result.topic == "t" && result.error.is_empty()), "{begun:?}");
    let moving = |id: &i32| cluster.image().partition(&cluster.partition(*id)).expect("it").reassignment.is_some();
    assert_eq!((0..3).filter(moving).count(), 2, "the moves are in the metadata");
    assert_eq!(fill(&[2], None).await.expect("answered"), [], "nothing is left to do");
    let stale = fill(&[2], Some(77)).await.expect_err("nobody has that lease");
    assert_eq!(stale.code(), Code::PermissionDenied);
    assert_eq!(fill(&[], None).await.expect_err("whom").code(), Code::InvalidArgument);
    let unknown = fill(&[2, 9], None).await.expect_err("there is none");
    assert_eq!(unknown.message(), "fill nodes: there is no node 9; see: chronik cluster nodes");
    cluster.fence(2).await;
    let fenced = fill(&[2], None).await.expect_err("it is not there");
    assert_eq!(fenced.code(), Code::FailedPrecondition);
    let words = "fill nodes: node 2 is fenced: it is not running, or is not heard; see: chronik cluster nodes";
    assert_eq!(fenced.message(), words);
}
