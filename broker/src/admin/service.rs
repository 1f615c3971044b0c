//! The service: an RPC a function. What it answers is made elsewhere; here requests are checked and sent on.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::future::join_all;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::nodes::Nodes;
use super::progress::{self, Held, Rate};
use super::proto::admin_server::Admin;
use super::proto::{self, DrainState};
use super::refusal::{not_changed, refused};
use super::write::{node_id, outcome, propose, propose_each, until};
use super::{configs, describe, health, safety, targets};
use crate::config::Settings;
use crate::ids::{NodeId, TopicPartition};
use crate::io::blocking;
use crate::io::clock::Clock;
use crate::metadata::quorum::QuorumView;
use crate::metadata::{
    ClusterVersion, Command, ConfigResource, ElectionKind, Image, Membership, Outcome, Refused, Seat,
};
use crate::stream::Partitions;

/// How often a watched drain is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many moves one command begins; each takes some 100 bytes of it.
const MOVES_AT_ONCE: usize = 1000;
/// The longest name of an operator.
const HOLDER_BYTES: usize = 256;

/// What a node holds, for answers about this process.
pub trait HeldReplicas: Send + Sync + 'static {
    /// The bytes of this node's log of a partition; `None` where it has none.
    fn bytes(&self, partition: &TopicPartition) -> Option<u64>;

    /// All of it.
    fn totals(&self) -> Totals;
}

/// What a node holds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Replicas.
    pub replicas: u32,
    /// Those that it leads.
    pub leaders: u32,
    /// The bytes of their logs.
    pub bytes: u64,
}

impl HeldReplicas for Partitions {
    fn bytes(&self, partition: &TopicPartition) -> Option<u64> {
        self.get(partition).map(|partition| partition.log().size_bytes())
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for partition in self.all() {
            totals.replicas += 1;
            totals.leaders += u32::from(partition.leading().is_some());
            totals.bytes += partition.log().size_bytes();
        }
        totals
    }
}

/// What the service works with.
pub struct AdminOptions {
    /// This node.
    pub node: NodeId,
    /// The identity of its data folder.
    pub directory: Uuid,
    /// Time; its start is taken for that of the process.
    pub clock: Arc<dyn Clock>,
    /// The metadata plane and its members.
    pub metadata: Arc<dyn Membership>,
    /// The Raft group as its leader sees it.
    pub quorum: Arc<dyn QuorumView>,
    /// This node's replicas.
    pub replicas: Arc<dyn HeldReplicas>,
    /// The other nodes.
    pub nodes: Arc<dyn Nodes>,
    /// What this node was given.
    pub settings: Arc<Settings>,
}

/// The admin service of one node. Cheap to clone.
#[derive(Clone)]
pub struct AdminService(Arc<AdminOptions>);

type Answer<T> = Result<Response<T>, Status>;

#[expect(clippy::unnecessary_wraps, reason = "each call ends in an answer")]
fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

impl AdminService {
    /// The service of a node.
    pub fn new(options: AdminOptions) -> Self {
        Self(Arc::new(options))
    }

    fn image(&self) -> Arc<Image> {
        self.0.metadata.image()
    }

    /// Waits until this node's image is at least as new as the cluster's is now.
    async fn catch_up(&self, attempt: &str) -> Result<(), Status> {
        self.0.metadata.barrier().await.map(drop).map_err(|why| not_changed(attempt, &why))
    }

    async fn propose(&self, attempt: &str, operator_epoch: Option<u64>, command: Command) -> Result<Outcome, Status> {
        propose(&*self.0.metadata, attempt, operator_epoch, command).await
    }

    async fn set_vote(&self, request: proto::PromoteVoterRequest, vote: bool) -> Result<(), Status> {
        let node = node_id(request.node)?;
        let attempt = format!("{} node {node}", if vote { "promote" } else { "demote" });
        let directory = match &request.directory {
            Some(text) => Uuid::parse_str(text).map_err(|why| Status::invalid_argument(format!("{text}: {why}")))?,
            None => self.directory_of(&attempt, node)?,
        };
        let command = Command::SetMemberVote { node, directory, vote };
        self.propose(&attempt, request.operator_epoch, command).await?;
        let seat = if vote { Seat::Voter } else { Seat::Learner };
        until(&*self.0.metadata, &attempt, |image| image.seat_of(node) == Some(seat)).await
    }

    fn directory_of(&self, attempt: &str, node: NodeId) -> Result<Uuid, Status> {
        let image = self.image();
        let member = image.member(node).ok_or_else(|| refused(attempt, Refused::UnknownMember))?;
        Ok(member.directory)
    }

    /// What is held of partitions on their way, by every node that answers and that this is about.
    async fn held(&self, image: &Image) -> Held {
        let others = progress::concerned(image).into_iter().filter(|node| *node != self.0.node);
        let alive = others.filter_map(|node| image.node(node).filter(|node| !node.fenced));
        let asked = alive.filter_map(|node| Some((node.id, node.grpc.as_ref()?.to_string())));
        let answers = asked.map(|(node, address)| async move {
            match self.0.nodes.replicas(node, &address).await {
                // Another node at this address would answer for itself.
                Ok(answer) if answer.node == node.get() => Some(answer),
                Ok(_) => None,
                Err(status) => {
                    tracing::debug!(node = node.get(), address, %status, "it is not known what the node holds");
                    None
                }
            }
        });
        let mut held = Held::default();
        for answer in join_all(answers).await.into_iter().flatten() {
            held.insert(image, &answer);
        }
        held.insert(image, &self.own_replicas(image));
        held
    }

    fn own_replicas(&self, image: &Image) -> proto::DescribeReplicasResponse {
        let replica = |(topic, id): (&str, TopicPartition)| {
            let bytes = self.0.replicas.bytes(&id)?;
            Some(proto::Replica { topic: topic.to_owned(), partition: id.partition.get(), bytes })
        };
        let replicas = progress::on_their_way(image).filter_map(|(topic, id, _)| replica((&topic.name, id)));
        proto::DescribeReplicasResponse { node: self.0.node.get(), replicas: replicas.collect() }
    }

    async fn drain(&self, node: NodeId) -> Result<proto::Drain, Status> {
        let image = self.image();
        let not_draining = || refused(&format!("the drain of node {node}"), Refused::NotDraining);
        if image.drain(node).is_none() {
            return Err(not_draining());
        }
        progress::drain(&image, &self.held(&image).await, node).ok_or_else(not_draining)
    }

    async fn describe_cluster(&self) -> proto::DescribeClusterResponse {
        let status = self.0.quorum.describe().await;
        let image = self.image();
        let held = if image.drains().next().is_some() { self.held(&image).await } else { Held::default() };
        let drains = image.drains().filter_map(|(node, _)| progress::drain(&image, &held, node)).collect();
        proto::DescribeClusterResponse {
            cluster_id: image.cluster_id().to_owned(),
            answered_by: self.0.node.get(),
            index: image.index(),
            cluster_version: image.cluster_version().get(),
            raft: Some(describe::raft_group(&image, &status)),
            nodes: describe::nodes(&image, status.leader),
            partitions: Some(health::partition_counts(&image)),
            drains,
            stop: describe::stop_grant(&image),
            operator: image
                .operator()
                .map(|lease| proto::OperatorLease { holder: lease.holder.clone(), epoch: lease.epoch }),
            throttle_bytes_per_second: image.reassignment_throttle(),
            widest_topic: describe::widest_topic(&image),
        }
    }

    fn describe_node(&self) -> proto::DescribeNodeResponse {
        let image = self.image();
        let status = self.0.metadata.status();
        let registration = image.node(self.0.node).filter(|node| node.directory == self.0.directory);
        let totals = self.0.replicas.totals();
        proto::DescribeNodeResponse {
            cluster_id: image.cluster_id().to_owned(),
            id: self.0.node.get(),
            directory: self.0.directory.to_string(),
            epoch: registration.map_or(0, |node| node.epoch.get()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: describe::raft_role(&image, status.leader, self.0.node).into(),
            term: status.term,
            applied_index: image.index(),
            leader: status.leader.map(NodeId::get),
            registered: registration.is_some_and(|node| !node.fenced),
            supported_cluster_version: ClusterVersion::NEWEST.get(),
            replicas: totals.replicas,
            leaders: totals.leaders,
            log_bytes: totals.bytes,
            uptime_seconds: self.0.clock.monotonic().as_secs(),
        }
    }

    /// Unregisters the node, then unseats it. Repeated after half of it, it does the other half.
    async fn remove(&self, node: NodeId, operator_epoch: Option<u64>) -> Result<(), Status> {
        let attempt = format!("remove node {node}");
        let metadata = &*self.0.metadata;
        let unregister = Command::UnregisterNode { node, only_if_empty: true };
        let unregistered = outcome(metadata, &attempt, operator_epoch, unregister).await?;
        let image = self.image();
        let Some(member) = image.member(node) else {
            return unregistered.map(drop).map_err(|why| refused(&attempt, why));
        };
        match unregistered {
            Ok(_) | Err(Refused::UnknownNode) => {}
            Err(why) => return Err(refused(&attempt, why)),
        }
        let unseat = Command::RemoveMember { node, directory: member.directory };
        self.propose(&attempt, operator_epoch, unseat).await?;
        until(metadata, &attempt, |image| image.member(node).is_none()).await
    }

    /// The voter beside the leader that is alive and furthest.
    async fn successor(&self, attempt: &str) -> Result<NodeId, Status> {
        let status = self.0.quorum.describe().await;
        let image = self.image();
        let may_lead = |node: NodeId| {
            status.leader != Some(node)
                && image.seat_of(node) == Some(Seat::Voter)
                && image.node(node).is_some_and(|node| !node.fenced && !node.stopping)
        };
        let furthest = status.peers.iter().filter(|peer| may_lead(peer.node)).max_by_key(|peer| peer.matched);
        furthest.map(|peer| peer.node).ok_or_else(|| {
            Status::failed_precondition(format!("{attempt}: no other voter is alive; see: chronik cluster voters"))
        })
    }

    /// A leadership is no command: the lease is compared here, with an image as new as the cluster's.
    async fn check_lease(&self, attempt: &str, operator_epoch: Option<u64>) -> Result<(), Status> {
        let Some(epoch) = operator_epoch else { return Ok(()) };
        self.catch_up(attempt).await?;
        match self.image().operator() {
            Some(lease) if lease.epoch == epoch => Ok(()),
            _ => Err(refused(attempt, Refused::StaleOperatorLease)),
        }
    }
}

/// A drain that is watched.
struct Watch {
    service: AdminService,
    node: NodeId,
    rate: Rate,
    next: tokio::time::Instant,
    ended: bool,
}

impl Watch {
    async fn look(mut self) -> Option<(Result<proto::Drain, Status>, Self)> {
        if self.ended {
            return None;
        }
        tokio::time::sleep_until(self.next).await;
        self.next = tokio::time::Instant::now() + LOOK_EVERY;
        let image = self.service.image();
        let held = self.service.held(&image).await;
        let now = self.service.0.clock.monotonic();
        let bytes_per_second = self.rate.look(now, held.arrived(&image));
        let drain = progress::drain(&image, &held, self.node).unwrap_or_else(|| progress::ended(self.node));
        self.ended = drain.state() != DrainState::Moving;
        Some((Ok(proto::Drain { bytes_per_second, ..drain }), self))
    }
}

fn election_kind(kind: proto::ElectionKind) -> Result<ElectionKind, Status> {
    match kind {
        proto::ElectionKind::Preferred => Ok(ElectionKind::Preferred),
        proto::ElectionKind::Unclean => Ok(ElectionKind::Unclean),
        proto::ElectionKind::Unspecified => Err(Status::invalid_argument("say which election: preferred or unclean")),
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn describe_cluster(
        &self,
        request: Request<proto::DescribeClusterRequest>,
    ) -> Answer<proto::DescribeClusterResponse> {
        if request.into_inner().latest {
            self.catch_up("describe the cluster").await?;
        }
        answer(Self::describe_cluster(self).await)
    }

    async fn describe_raft(&self, _request: Request<proto::DescribeRaftRequest>) -> Answer<proto::RaftGroup> {
        answer(describe::raft_group(&self.image(), &self.0.metadata.status()))
    }

    async fn list_unhealthy_partitions(
        &self,
        _request: Request<proto::ListUnhealthyPartitionsRequest>,
    ) -> Answer<proto::ListUnhealthyPartitionsResponse> {
        answer(health::unhealthy_partitions(&self.image()))
    }

    async fn describe_node(
        &self,
        _request: Request<proto::DescribeNodeRequest>,
    ) -> Answer<proto::DescribeNodeResponse> {
        answer(Self::describe_node(self))
    }

    async fn promote_voter(&self, request: Request<proto::PromoteVoterRequest>) -> Answer<proto::PromoteVoterResponse> {
        self.set_vote(request.into_inner(), true).await?;
        answer(proto::PromoteVoterResponse {})
    }

    async fn demote_voter(&self, request: Request<proto::DemoteVoterRequest>) -> Answer<proto::DemoteVoterResponse> {
        let proto::DemoteVoterRequest { operator_epoch, node } = request.into_inner();
        self.set_vote(proto::PromoteVoterRequest { operator_epoch, node, directory: None }, false).await?;
        answer(proto::DemoteVoterResponse {})
    }

    async fn remove_node(&self, request: Request<proto::RemoveNodeRequest>) -> Answer<proto::RemoveNodeResponse> {
        let request = request.into_inner();
        self.remove(node_id(request.node)?, request.operator_epoch).await?;
        answer(proto::RemoveNodeResponse {})
    }

    async fn transfer_raft_leadership(
        &self,
        request: Request<proto::TransferRaftLeadershipRequest>,
    ) -> Answer<proto::TransferRaftLeadershipResponse> {
        let request = request.into_inner();
        let attempt = "transfer the Raft leadership";
        self.check_lease(attempt, request.operator_epoch).await?;
        let to = match request.to {
            Some(to) => node_id(to)?,
            None => self.successor(attempt).await?,
        };
        self.0.metadata.transfer_leadership(to).await.map_err(|why| not_changed(attempt, &why))?;
        answer(proto::TransferRaftLeadershipResponse { leader: to.get() })
    }

    async fn drain_node(&self, request: Request<proto::DrainNodeRequest>) -> Answer<proto::DrainNodeResponse> {
        let request = request.into_inner();
        let node = node_id(request.node)?;
        self.propose(&format!("drain node {node}"), request.operator_epoch, Command::BeginDrain(node)).await?;
        answer(proto::DrainNodeResponse { drain: Some(self.drain(node).await?) })
    }

    async fn cancel_drain(&self, request: Request<proto::CancelDrainRequest>) -> Answer<proto::CancelDrainResponse> {
        let request = request.into_inner();
        let node = node_id(request.node)?;
        let attempt = format!("cancel the drain of node {node}");
        self.propose(&attempt, request.operator_epoch, Command::CancelDrain(node)).await?;
        answer(proto::CancelDrainResponse {})
    }

    async fn describe_drain(&self, request: Request<proto::DescribeDrainRequest>) -> Answer<proto::Drain> {
        answer(self.drain(node_id(request.into_inner().node)?).await?)
    }

    type WatchDrainStream = Pin<Box<dyn Stream<Item = Result<proto::Drain, Status>> + Send>>;

    async fn watch_drain(&self, request: Request<proto::WatchDrainRequest>) -> Answer<Self::WatchDrainStream> {
        let node = node_id(request.into_inner().node)?;
        if self.image().drain(node).is_none() {
            return Err(refused(&format!("the drain of node {node}"), Refused::NotDraining));
        }
        let (rate, next) = (Rate::default(), tokio::time::Instant::now());
        let watch = Watch { service: self.clone(), node, rate, next, ended: false };
        answer(Box::pin(futures::stream::unfold(watch, Watch::look)))
    }

    async fn fill_nodes(&self, request: Request<proto::FillNodesRequest>) -> Answer<proto::FillNodesResponse> {
        let request = request.into_inner();
        let attempt = "fill nodes";
        self.catch_up(attempt).await?;
        // One that plans nothing proposes nothing: the lease is compared all the same.
        self.check_lease(attempt, request.operator_epoch).await?;
        let image = self.image();
        let planning = (Arc::clone(&image), request.nodes);
        let planned = blocking(move || targets::fill(&planning.0, &planning.1)).await?;
        let mut results = Vec::with_capacity(planned.len());
        for moves in planned.chunks(MOVES_AT_ONCE) {
            let command = Some(Command::BeginReassignment(moves.to_vec()));
            let outcomes = propose_each(&*self.0.metadata, attempt, request.operator_epoch, command).await?;
            results.extend(targets::filled(&image, moves, outcomes));
        }
        answer(proto::FillNodesResponse { results })
    }

    async fn reassign_partitions(
        &self,
        request: Request<proto::ReassignPartitionsRequest>,
    ) -> Answer<proto::ReassignPartitionsResponse> {
        let request = request.into_inner();
        let planned = targets::reassignment(&self.image(), &request.targets);
        if request.validate_only {
            return answer(proto::ReassignPartitionsResponse { results: targets::results(planned, |_| Ok(())) });
        }
        let (begin, cancel) = targets::commands(&planned);
        let (metadata, epoch) = (&*self.0.metadata, request.operator_epoch);
        let mut begun = propose_each(metadata, "reassign partitions", epoch, begin).await?.into_iter();
        let mut cancelled = propose_each(metadata, "cancel reassignments", epoch, cancel).await?.into_iter();
        let results = targets::results(planned, |change| {
            let outcome = match change {
                targets::Change::Begin(_) => begun.next(),
                targets::Change::Cancel(_) => cancelled.next(),
            };
            outcome.expect("apply answers each partition of a command")
        });
        answer(proto::ReassignPartitionsResponse { results })
    }

    async fn list_reassignments(
        &self,
        request: Request<proto::ListReassignmentsRequest>,
    ) -> Answer<proto::ListReassignmentsResponse> {
        let image = self.image();
        let held = self.held(&image).await;
        let reassignments = progress::reassignments(&image, &held, &request.into_inner().topics);
        answer(proto::ListReassignmentsResponse { reassignments })
    }

    async fn describe_replicas(
        &self,
        _request: Request<proto::DescribeReplicasRequest>,
    ) -> Answer<proto::DescribeReplicasResponse> {
        answer(self.own_replicas(&self.image()))
    }

    async fn set_throttle(&self, request: Request<proto::SetThrottleRequest>) -> Answer<proto::SetThrottleResponse> {
        let request = request.into_inner();
        if request.bytes_per_second == Some(0) {
            return Err(Status::invalid_argument("0 bytes a second would let no move end; cancel the moves instead"));
        }
        let command = Command::SetThrottle(request.bytes_per_second);
        self.propose("throttle reassignments", request.operator_epoch, command).await?;
        answer(proto::SetThrottleResponse {})
    }

    async fn elect_leaders(&self, request: Request<proto::ElectLeadersRequest>) -> Answer<proto::ElectLeadersResponse> {
        let request = request.into_inner();
        let kind = election_kind(request.kind())?;
        let planned = targets::election(&self.image(), &request, kind);
        let command = targets::elect_command(&planned, kind);
        let elected = propose_each(&*self.0.metadata, "elect leaders", request.operator_epoch, command).await?;
        let mut outcomes = elected.into_iter();
        let results =
            targets::results(planned, |_| outcomes.next().expect("apply answers each partition of a command"));
        answer(proto::ElectLeadersResponse { results })
    }

    async fn is_safe_to_stop(
        &self,
        request: Request<proto::IsSafeToStopRequest>,
    ) -> Answer<proto::IsSafeToStopResponse> {
        let node = node_id(request.into_inner().node)?;
        let attempt = format!("whether node {node} can stop");
        self.catch_up(&attempt).await?;
        let image = self.image();
        image.node(node).ok_or_else(|| refused(&attempt, Refused::UnknownNode))?;
        answer(safety::answer(&image, node))
    }

    async fn prepare_stop(&self, request: Request<proto::PrepareStopRequest>) -> Answer<proto::PrepareStopResponse> {
        let request = request.into_inner();
        let node = node_id(request.node)?;
        let attempt = format!("stop node {node}");
        let epoch = self.image().node(node).ok_or_else(|| refused(&attempt, Refused::UnknownNode))?.epoch;
        self.propose(&attempt, request.operator_epoch, Command::PrepareStop { node, epoch }).await?;
        answer(proto::PrepareStopResponse { grant: describe::stop_grant(&self.image()) })
    }

    async fn describe_configs(
        &self,
        _request: Request<proto::DescribeConfigsRequest>,
    ) -> Answer<proto::DescribeConfigsResponse> {
        answer(configs::describe(&self.image()))
    }

    async fn set_configs(&self, request: Request<proto::SetConfigsRequest>) -> Answer<proto::SetConfigsResponse> {
        let request = request.into_inner();
        let attempt = "set configs";
        // What changes is told by comparing: with an image as new as the cluster's.
        self.catch_up(attempt).await?;
        let changes = configs::changes(&self.0.settings, &self.image(), &request)?;
        let changed = changes.iter().map(|(name, _)| name.clone()).collect();
        if !request.validate_only && !changes.is_empty() {
            let command = Command::SetConfigs { resource: ConfigResource::BrokerDefault, changes };
            self.propose(attempt, request.operator_epoch, command).await?;
        }
        answer(proto::SetConfigsResponse { changed })
    }

    async fn set_cluster_version(
        &self,
        request: Request<proto::SetClusterVersionRequest>,
    ) -> Answer<proto::SetClusterVersionResponse> {
        let request = request.into_inner();
        let version = ClusterVersion::new(request.version)
            .ok_or_else(|| Status::invalid_argument("cluster versions begin at 1"))?;
        let attempt = format!("raise the cluster's version to {}", request.version);
        self.propose(&attempt, request.operator_epoch, Command::SetClusterVersion(version)).await?;
        answer(proto::SetClusterVersionResponse {})
    }

    async fn acquire_operator_lease(
        &self,
        request: Request<proto::AcquireOperatorLeaseRequest>,
    ) -> Answer<proto::AcquireOperatorLeaseResponse> {
        let holder = request.into_inner().holder;
        if holder.is_empty() || holder.len() > HOLDER_BYTES {
            return Err(Status::invalid_argument(format!("a holder's name has 1 to {HOLDER_BYTES} bytes")));
        }
        match self.propose("acquire the operator lease", None, Command::AcquireOperatorLease { holder }).await? {
            Outcome::Leased(epoch) => answer(proto::AcquireOperatorLeaseResponse { epoch }),
            other => unreachable!("a lease is answered with its epoch, not with {other:?}"),
        }
    }
}
