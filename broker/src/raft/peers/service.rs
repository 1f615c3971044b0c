//! The service itself: each request is checked, then handed to the node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::peers_server::{Peers, PeersServer};
use super::{
    Accepted, Assembler, HeartbeatRequest, HeartbeatResponse, JoinRequest, JoinResponse, Leaving, Me, NoLeader,
    NodeIdInUse, NotLeader, ProbeRequest, ProbeResponse, ProposeRequest, ProposeResponse, RaftClosed, RaftFrame,
    Refusal, Roster, Who, identity_of, join_response, peer_of, propose_response,
};
use crate::ids::NodeId;
use crate::io::grpc::Link;
use crate::io::net::PeerIdentity;
use crate::metadata::{MetadataPlane as _, codec};
use crate::raft::RaftId;
use crate::raft::joining::Joined;
use crate::raft::node::{COMMAND_BYTES, RaftNode};
use crate::raft::proposals::ProposalId;

/// A stream's first frame must come within this.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(5);

/// What a process answers its peers with. It serves from its start on: peers that are about to form a group ask it
/// whether it is empty before it has a Raft node.
pub struct Serving {
    me: Me,
    node: OnceLock<Arc<RaftNode>>,
    empty: bool,
    stop: CancellationToken,
}

impl Serving {
    /// For a process whose metadata is, or is not, empty at its start. Streams end with `stop`.
    pub fn new(me: Me, empty: bool, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { me, node: OnceLock::new(), empty, stop })
    }

    /// From now on this node takes part. To be called once.
    pub fn set_node(&self, node: Arc<RaftNode>) {
        assert!(self.node.set(node).is_ok(), "a process starts one Raft node");
    }

    fn node(&self) -> Result<&Arc<RaftNode>, Status> {
        self.node.get().ok_or_else(|| Status::unavailable("this node is starting"))
    }

    /// The sender, if it is a member.
    fn member(&self, envelope: Option<&super::Envelope>, link: Option<&PeerIdentity>) -> Result<Who, Status> {
        let from = self.me.sender(envelope, link)?;
        self.node()?.check_sender(from)?;
        Ok(from)
    }
}

/// `Peers` as tonic serves it.
pub struct PeersService(Arc<Serving>);

impl PeersService {
    /// The service, to be added to the gRPC port's routes.
    pub fn server(serving: Arc<Serving>) -> PeersServer<Self> {
        PeersServer::new(Self(serving)).max_decoding_message_size(COMMAND_BYTES + 4096)
    }
}

/// Who the connection proved to be from.
fn proven<T>(request: &Request<T>) -> Option<PeerIdentity> {
    request.extensions().get::<Link>().and_then(|link| link.identity.clone())
}

#[tonic::async_trait]
impl Peers for PeersService {
    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let me = &self.0.me;
        me.sender(request.get_ref().envelope.as_ref(), proven(&request).as_ref())?;
        let leader = self.0.node.get().and_then(|node| Some(peer_of(node.image().member(node.leader()?)?)));
        Ok(Response::new(ProbeResponse {
            cluster_id: me.cluster_id.clone(),
            node: Some(identity_of(Who { node: me.node, directory: me.directory })),
            empty: self.0.empty && self.0.node.get().is_none(),
            leader,
            roster: self.0.node.get().map(|node| {
                let image = node.image();
                Roster { members: image.roster().map(peer_of).collect(), index: image.index() }
            }),
        }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let link = proven(&request);
        let JoinRequest { envelope, address, wants_vote } = request.into_inner();
        let from = self.0.me.sender(envelope.as_ref(), link.as_ref())?;
        if from.node == self.0.me.node && from.directory != self.0.me.directory {
            // This very process is the other one.
            return Ok(joined(Joined::InUse { heard_ago: Duration::ZERO }));
        }
        let answer = self.0.node()?.admit(from, address, wants_vote).await;
        Ok(joined(answer.map_err(|why| Status::unavailable(why.to_string()))?))
    }

    async fn raft(&self, request: Request<Streaming<RaftFrame>>) -> Result<Response<RaftClosed>, Status> {
        let link = proven(&request);
        let mut frames = request.into_inner();
        let first = tokio::time::timeout(FIRST_FRAME_WITHIN, frames.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first frame"))??;
        let envelope = first.and_then(|frame| frame.envelope);
        let from = self.0.member(envelope.as_ref(), link.as_ref())?;
        let node = self.0.node()?;
        let mut assembler = Assembler::default();
        loop {
            let frame = tokio::select! {
                biased;
                () = self.0.stop.cancelled() => return Ok(Response::new(RaftClosed {})),
                frame = frames.message() => frame?,
            };
            let Some(frame) = frame else { return Ok(Response::new(RaftClosed {})) };
            let Some((message, bytes)) = assembler.take(frame)? else { continue };
            // The roster may have changed since the stream began.
            node.check_sender(from)?;
            // A request to hand the leadership over is passed on in the name of who is to have it.
            let passed_on = message.get_msg_type() == raft::eraftpb::MessageType::MsgTransferLeader;
            if message.from != RaftId::of(from.node).0 && !passed_on {
                return Err(Refusal::Malformed("a message in another node's name").into());
            }
            node.deliver(message, bytes);
        }
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let link = proven(&request);
        let ProposeRequest { envelope, term, id, command } = request.into_inner();
        self.0.member(envelope.as_ref(), link.as_ref())?;
        let node = self.0.node()?;
        let id = ProposalId::from_bytes(&id).ok_or(Refusal::Malformed("a proposal's id has 16 bytes"))?;
        // What can't be read would stop every node that applies it.
        codec::decode(command.clone()).map_err(|why| Status::invalid_argument(why.to_string()))?;
        let taken = node.take_forwarded(term, id, command.into()).await;
        let result = match taken.map_err(|why| Status::unavailable(why.to_string()))? {
            Some(index) => propose_response::Result::Accepted(Accepted { index }),
            None => propose_response::Result::NotLeader(NotLeader { leader: node.leader().map(NodeId::get) }),
        };
        Ok(Response::new(ProposeResponse { result: Some(result) }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
        let link = proven(&request);
        let HeartbeatRequest { envelope, heartbeat } = request.into_inner();
        let from = self.0.member(envelope.as_ref(), link.as_ref())?;
        let heartbeat = codec::decode_heartbeat(heartbeat).map_err(|why| Status::invalid_argument(why.to_string()))?;
        if (heartbeat.node, heartbeat.directory) != (from.node, from.directory) {
            return Err(Refusal::Malformed("a heartbeat in another node's name").into());
        }
        let sink = self.0.node()?.heartbeats.get().ok_or_else(|| Status::unavailable("this node is starting"))?;
        let reply = codec::encode_reply(&sink.heartbeat(&heartbeat));
        Ok(Response::new(HeartbeatResponse { reply: Bytes::from(reply) }))
    }
}

fn joined(answer: Joined) -> Response<JoinResponse> {
    use join_response::Result;
    let result = match answer {
        Joined::Admitted(roster) => {
            Result::Admitted(Roster { members: roster.iter().map(peer_of).collect(), index: 0 })
        }
        Joined::Elsewhere(Some(leader)) => Result::Leader(peer_of(&leader)),
        Joined::Elsewhere(None) => Result::NoLeader(NoLeader {}),
        Joined::InUse { heard_ago } => Result::InUse(NodeIdInUse { heard_ms_ago: heard_ago.as_millis() as u64 }),
        Joined::Leaving => Result::Leaving(Leaving {}),
    };
    Response::new(JoinResponse { result: Some(result) })
}
