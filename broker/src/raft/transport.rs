//! Raft's messages to the other members: a connection to each, kept up, and what its end tells.
//!
//! Messages wait in a bounded queue for each peer; when it is full, or the peer away, they are dropped and Raft is told
//! so: it sends again by itself. Snapshots travel on streams of their own, so that no heartbeat waits behind one. A
//! peer whose connection ended and that refuses the next is dead: that is told at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use raft::eraftpb::{Message, MessageType};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use super::RaftId;
use super::driver::{Input, Inputs};
use super::peers::peers_client::PeersClient;
use super::peers::{Me, RaftFrame, Who, frames_of};
use super::roster::Roster;
use crate::ids::NodeId;
use crate::io::grpc;
use crate::io::net::Network;
use crate::io::rng::Rng;
use crate::metadata::Member;

/// Messages that wait for one peer at most; each is 1 MiB at most, but for a proposal that is larger.
const QUEUE: usize = 256;
/// Frames between a peer's queue and its connection.
const FRAMES: usize = 8;
/// A connection that does not stand after this is given up.
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause before the second attempt; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Lost peers that a slow listener may not have taken up yet.
const LOST: usize = 256;

/// The connections of one node to its peers.
pub(super) struct Transport {
    links: Arc<Links>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What each connection needs.
struct Links {
    me: Me,
    network: Arc<dyn Network>,
    rng: Rng,
    inputs: Inputs,
    lost: broadcast::Sender<NodeId>,
}

struct Peer {
    who: Who,
    address: String,
    queue: mpsc::Sender<Message>,
    channel: Arc<ArcSwapOption<Channel>>,
    stop: CancellationToken,
}

impl Transport {
    pub(super) fn new(me: Me, network: Arc<dyn Network>, rng: Rng, inputs: Inputs) -> Self {
        let links = Arc::new(Links { me, network, rng, inputs, lost: broadcast::Sender::new(LOST) });
        Self { links, peers: Mutex::default(), tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Tells of each peer that is lost.
    pub(super) fn lost(&self) -> broadcast::Receiver<NodeId> {
        self.links.lost.subscribe()
    }

    /// Keeps connections to exactly the members of the roster, this node aside. Runs in the ambient runtime.
    pub(super) fn follow(&self, roster: &Roster) {
        let mut peers = self.peers.lock();
        peers.retain(|&node, peer| {
            let member = roster.members.get(&node);
            let stays = member.is_some_and(|it| it.directory == peer.who.directory && it.address == peer.address);
            if !stays {
                peer.stop.cancel();
            }
            stays
        });
        for member in roster.members.values() {
            if member.node != self.links.me.node && !peers.contains_key(&member.node) {
                peers.insert(member.node, self.connect(member));
            }
        }
    }

    /// Sends a message, or drops it.
    pub(super) fn send(&self, message: Message) {
        let Some(node) = RaftId(message.to).node() else { return };
        let is_snapshot = message.get_msg_type() == MessageType::MsgSnapshot;
        let sent = self.peers.lock().get(&node).is_some_and(|peer| peer.queue.try_send(message).is_ok());
        if !sent {
            self.links.dropped(node, is_snapshot);
        }
    }

    /// The connection to a peer, while it stands.
    pub(super) fn channel(&self, node: NodeId) -> Option<(Channel, Who)> {
        let peers = self.peers.lock();
        let peer = peers.get(&node)?;
        Some((Channel::clone(peer.channel.load().as_deref()?), peer.who))
    }

    /// Ends the connections.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    fn connect(&self, member: &Member) -> Peer {
        let (queue, messages) = mpsc::channel(QUEUE);
        let stop = self.stop.child_token();
        let channel = Arc::new(ArcSwapOption::empty());
        let who = Who { node: member.node, directory: member.directory };
        let connection = PeerConnection {
            links: self.links.clone(),
            who,
            address: member.address.clone(),
            messages,
            channel: channel.clone(),
            stop: stop.clone(),
        };
        self.tasks.spawn(async move {
            let stop = connection.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = connection.keep() => {}
            }
        });
        Peer { who, address: member.address.clone(), queue, channel, stop }
    }
}

impl Links {
    fn dropped(&self, node: NodeId, is_snapshot: bool) {
        // An error means that the node has stopped.
        let _ = self.inputs.send(Input::Unreachable(node));
        if is_snapshot {
            let _ = self.inputs.send(Input::SnapshotSent { to: node, delivered: false });
        }
    }
}

/// The task that keeps one peer connected.
struct PeerConnection {
    links: Arc<Links>,
    who: Who,
    address: String,
    messages: mpsc::Receiver<Message>,
    channel: Arc<ArcSwapOption<Channel>>,
    stop: CancellationToken,
}

impl PeerConnection {
    async fn keep(mut self) {
        let mut was_connected = false;
        let mut pause = FIRST_PAUSE;
        loop {
            match tokio::time::timeout(DIAL_TIMEOUT, self.dial()).await {
                Ok(Ok(channel)) => {
                    self.channel.store(Some(Arc::new(channel.clone())));
                    let ended = self.carry(channel).await;
                    self.channel.store(None);
                    was_connected = ended.stood;
                    if ended.stood {
                        pause = FIRST_PAUSE;
                        tracing::debug!(peer = self.who.node.get(), why = %ended.why, "a peer's connection has ended");
                        // The next attempt tells whether the peer is dead or only the connection.
                        continue;
                    }
                    tracing::warn!(peer = self.who.node.get(), why = %ended.why, "a peer refuses this node's messages");
                }
                Ok(Err(why)) => {
                    if was_connected {
                        tracing::info!(peer = self.who.node.get(), %why, "a peer is gone");
                        let _ = self.links.inputs.send(Input::Suspect(self.who.node));
                        // Nobody may listen.
                        let _ = self.links.lost.send(self.who.node);
                    }
                    was_connected = false;
                }
                // The network is silent: that tells nothing of the peer.
                Err(_elapsed) => was_connected = false,
            }
            self.rest(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn dial(&self) -> io::Result<Channel> {
        let expected = self.links.me.expects(Some(self.who.node));
        Ok(grpc::dial(self.links.network.as_ref(), &self.address, &expected).await?.channel)
    }

    /// Drops what waits for the peer until the next attempt.
    async fn rest(&mut self, pause: Duration) {
        // Not all at once after the end of a node that all were connected to.
        let pause = pause + Duration::from_millis(self.links.rng.below(pause.as_millis() as u64 / 2 + 1));
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                () = &mut over => return,
                Some(message) = self.messages.recv() => {
                    self.links.dropped(self.who.node, message.get_msg_type() == MessageType::MsgSnapshot);
                }
            }
        }
    }

    /// Sends messages until the connection ends.
    async fn carry(&mut self, channel: Channel) -> Ended {
        let mut client = PeersClient::new(channel.clone());
        let (frames, outgoing) = mpsc::channel(FRAMES);
        let first = RaftFrame { envelope: Some(self.links.me.envelope(Some(self.who))), ..RaftFrame::default() };
        let _ = frames.try_send(first).inspect_err(|_| unreachable!("the channel is new and has room"));
        let call = client.raft(ReceiverStream::new(outgoing));
        tokio::pin!(call);
        loop {
            let message = tokio::select! {
                biased;
                end = &mut call => return Ended::of(end.map(|_| ())),
                Some(message) = self.messages.recv() => message,
            };
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.send_snapshot(channel.clone(), &message);
                continue;
            }
            let Ok(parts) = frames_of(&message) else { unreachable!("a message that was made here can be encoded") };
            for part in parts {
                tokio::select! {
                    biased;
                    end = &mut call => return Ended::of(end.map(|_| ())),
                    // An error shows in `call` next.
                    _ = frames.send(part) => {}
                }
            }
        }
    }

    /// Sends a snapshot on a stream of its own. Raft sends no other one before it knows what became of it.
    fn send_snapshot(&self, channel: Channel, message: &Message) {
        let first = RaftFrame { envelope: Some(self.links.me.envelope(Some(self.who))), ..RaftFrame::default() };
        let Ok(parts) = frames_of(message) else { unreachable!("a message that was made here can be encoded") };
        let frames = tokio_stream::iter(std::iter::once(first).chain(parts));
        let (links, to, stop) = (self.links.clone(), self.who.node, self.stop.clone());
        tokio::spawn(async move {
            let mut client = PeersClient::new(channel);
            let sent = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                sent = client.raft(frames) => sent,
            };
            if let Err(why) = &sent {
                tracing::info!(peer = to.get(), %why, "a metadata snapshot was not delivered");
            }
            // An error means that the node has stopped.
            let _ = links.inputs.send(Input::SnapshotSent { to, delivered: sent.is_ok() });
        });
    }
}

/// Why a connection carries no more messages.
struct Ended {
    /// Whether it stood: the peer did not refuse this node.
    stood: bool,
    why: String,
}

impl Ended {
    fn of(call: Result<(), tonic::Status>) -> Self {
        use tonic::Code;
        match call {
            Ok(()) => Self { stood: true, why: "the peer is stopping".to_owned() },
            Err(status) => {
                let refused = matches!(
                    status.code(),
                    Code::PermissionDenied | Code::Unauthenticated | Code::FailedPrecondition | Code::InvalidArgument
                );
                // "Unavailable" by the peer itself: it has not finished its start.
                Self { stood: !refused, why: status.message().to_owned() }
            }
        }
    }
}
