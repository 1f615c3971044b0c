//! The membership and the leadership, as the rest of the broker asks for them; and heartbeats on their way.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, oneshot, watch};

use super::driver::Input;
use super::node::RaftNode;
use super::peers::HeartbeatRequest;
use super::peers::peers_client::PeersClient;
use crate::ids::NodeId;
use crate::metadata::heartbeat::{HeartbeatLost, Sending};
use crate::metadata::membership::Changing;
use crate::metadata::{
    Command, Heartbeat, HeartbeatLink, Image, Membership, MembershipError, MetadataPlane as _, Outcome, RaftStatus,
    Seat, codec,
};

/// How long a caller waits for a change of the membership, which goes on by itself.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a caller waits for another leader, and for a read.
const LEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request to the leader that may have been lost is repeated after this.
const REPEAT_AFTER: Duration = Duration::from_millis(250);

impl RaftNode {
    /// Changes a member and waits until the image shows it.
    async fn change(
        &self,
        node: NodeId,
        what: &str,
        command: impl FnOnce(uuid::Uuid) -> Command,
        shown: impl Fn(&Image) -> bool,
    ) -> Result<(), MembershipError> {
        let member = self.image().member(node).cloned().ok_or(MembershipError::UnknownMember(node))?;
        let outcome = self.propose(command(member.directory)).await?;
        if let Outcome::Refused { why, .. } = outcome {
            return Err(MembershipError::Refused(why));
        }
        let mut images = self.images.clone();
        let seen = tokio::time::timeout(CHANGE_TIMEOUT, images.wait_for(|image| shown(image))).await;
        match seen {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_ended)) => Err(MembershipError::Stopping),
            Err(_elapsed) => Err(MembershipError::Unfinished(format!("{what} node {node}"))),
        }
    }

    fn tell(&self, input: Input) -> Result<(), MembershipError> {
        self.inputs.send(input).map_err(|_ended| MembershipError::Stopping)
    }
}

impl Membership for RaftNode {
    fn status(&self) -> RaftStatus {
        self.status.lock().clone()
    }

    fn promote(&self, node: NodeId) -> Changing<'_, ()> {
        let command = move |directory| Command::SetMemberVote { node, directory, vote: true };
        Box::pin(self.change(node, "promoting", command, move |image| image.seat_of(node) == Some(Seat::Voter)))
    }

    fn demote(&self, node: NodeId) -> Changing<'_, ()> {
        let command = move |directory| Command::SetMemberVote { node, directory, vote: false };
        Box::pin(self.change(node, "demoting", command, move |image| image.seat_of(node) != Some(Seat::Voter)))
    }

    fn remove(&self, node: NodeId) -> Changing<'_, ()> {
        let command = move |directory| Command::RemoveMember { node, directory };
        Box::pin(self.change(node, "removing", command, move |image| image.member(node).is_none()))
    }

    fn transfer_leadership(&self, to: NodeId) -> Changing<'_, ()> {
        Box::pin(async move {
            if self.image().seat_of(to) != Some(Seat::Voter) {
                return Err(MembershipError::NotAVoter(to));
            }
            let mut leader = self.leader.clone();
            let transferred = async {
                loop {
                    self.tell(Input::Transfer(to))?;
                    let known = leader.wait_for(|leader| leader.node == Some(to));
                    match tokio::time::timeout(REPEAT_AFTER, known).await {
                        Ok(Ok(_)) => return Ok(()),
                        Ok(Err(_ended)) => return Err(MembershipError::Stopping),
                        Err(_elapsed) => {}
                    }
                }
            };
            let unfinished = || MembershipError::Unfinished(format!("handing the leadership to node {to}"));
            tokio::time::timeout(LEADER_TIMEOUT, transferred).await.unwrap_or_else(|_| Err(unfinished()))
        })
    }

    fn barrier(&self) -> Changing<'_, u64> {
        Box::pin(async move {
            let reached = async {
                loop {
                    let (answer, answered) = oneshot::channel();
                    self.tell(Input::Read(answer))?;
                    match tokio::time::timeout(REPEAT_AFTER, answered).await {
                        Ok(Ok(())) => return Ok(self.image().index()),
                        Ok(Err(_ended)) => return Err(MembershipError::Stopping),
                        // Lost on the way, or there is no leader: a new read asks the next one.
                        Err(_elapsed) => {}
                    }
                }
            };
            tokio::time::timeout(LEADER_TIMEOUT, reached).await.unwrap_or(Err(MembershipError::NoLeader))
        })
    }

    fn leadership(&self) -> watch::Receiver<Option<u64>> {
        self.leadership.clone()
    }

    fn lost_peers(&self) -> broadcast::Receiver<NodeId> {
        self.transport.lost()
    }

    fn suspect(&self, node: NodeId) {
        // An error means that the node has stopped.
        let _ = self.inputs.send(Input::Suspect(node));
    }
}

impl HeartbeatLink for RaftNode {
    fn send<'a>(&'a self, to: NodeId, heartbeat: &'a Heartbeat) -> Sending<'a> {
        Box::pin(async move {
            let lost = |why: &str| HeartbeatLost { to, why: why.to_owned() };
            if to == self.me.node {
                let sink = self.heartbeats.get().ok_or_else(|| lost("this node is starting"))?;
                return Ok(sink.heartbeat(heartbeat));
            }
            let (channel, who) = self.transport.channel(to).ok_or_else(|| lost("not connected"))?;
            let request = HeartbeatRequest {
                envelope: Some(self.me.envelope(Some(who))),
                heartbeat: Bytes::from(codec::encode_heartbeat(heartbeat)),
            };
            let reply = PeersClient::new(channel).heartbeat(request).await;
            let reply = reply.map_err(|status| lost(status.message()))?.into_inner().reply;
            codec::decode_reply(reply).map_err(|why| lost(&why.to_string()))
        })
    }
}
