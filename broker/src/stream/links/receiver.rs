//! The WAL receiver: where leaders connect to push what this node's replicas are to have.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Myself;
use super::codec::FrameError;
use super::frame::{Frame, Hello, Lane};
use super::handshake::{Roster, check_hello};
use super::inbound::Inbound;
use super::liveness::HANDSHAKE_WITHIN;
use super::metrics::LinkMetrics;
use super::pipe::{FrameReader, FrameWriter, LinkError, pipe};
use super::tasks::propagate_panic;
use crate::ids::NodeId;
use crate::io::net::{Connection, Listener, PeerIdentity};
use crate::metadata::Image;
use crate::stream::replication::Followers;

/// Connections at once: two of every leader, and strangers. More wait.
const MAX_CONNECTIONS: usize = 1_024;
/// How long accepting pauses after it failed: the process may be out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound WAL receiver. It answers as the node that it was built with, and as no other.
pub struct WalReceiver {
    listener: Box<dyn Listener>,
    context: Arc<Context>,
}

/// What every connection needs.
struct Context {
    myself: Myself,
    followers: Arc<dyn Followers>,
    images: watch::Receiver<Arc<Image>>,
    metrics: LinkMetrics,
    current: Current,
}

impl WalReceiver {
    /// Takes leaders' connections from `listener`. `images` knows who may connect.
    pub fn new(
        listener: Box<dyn Listener>,
        myself: Myself,
        followers: Arc<dyn Followers>,
        images: watch::Receiver<Arc<Image>>,
        metrics: LinkMetrics,
    ) -> Self {
        let context = Context { myself, followers, images, metrics, current: Current::default() };
        Self { listener, context: Arc::new(context) }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop`, which ends all connections.
    ///
    /// # Panics
    /// When a connection's task panics: that is a defect, and takes the process down.
    pub async fn serve(mut self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(ended) = connections.join_next() => drop(propagate_panic(ended)),
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok(connection) => drop(connections.spawn(serve(Arc::clone(&self.context), connection))),
                    Err(error) => {
                        tracing::warn!(%error, "a leader's connection can't be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// One connection, from its Hello to its end.
async fn serve(context: Arc<Context>, connection: Connection) {
    let peer = connection.peer;
    let (mut reader, mut writer) = pipe(connection.stream);
    let hello = match greeted(&context, connection.identity.as_ref(), &mut reader, &mut writer).await {
        Ok(hello) => hello,
        Err(why) => return tracing::debug!(%peer, "no link: {why}"),
    };
    let (leader, lane) = (hello.from.node, hello.lane);
    tracing::info!(%leader, %lane, %peer, "linked to a leader");
    let counters = context.metrics.of_leader(leader, lane);
    let place = context.current.take((leader, lane));
    let inbound = Inbound::new(leader, Arc::clone(&context.followers), reader, writer, counters);
    let why = tokio::select! {
        biased;
        () = place.superseded.cancelled() => LinkError::Superseded,
        why = inbound.serve() => why,
    };
    context.current.leave(&place);
    tracing::info!(%leader, %lane, %peer, "link to a leader ended: {why}");
}

/// Takes a Hello, checks it, and answers.
async fn greeted(
    context: &Context,
    proven: Option<&PeerIdentity>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Result<Hello, LinkError> {
    let deadline = Instant::now() + HANDSHAKE_WITHIN;
    let checked = match reader.frame_by(deadline, HANDSHAKE_WITHIN).await {
        Ok(Frame::Hello(hello)) => {
            let roster = Roster::of(&context.images.borrow());
            let (cluster, node) = (&context.myself.cluster, context.myself.node);
            check_hello(&hello, proven, cluster, node, &roster).map(|()| hello).map_err(LinkError::from)
        }
        Ok(other) => return Err(LinkError::Unexpected(other.name())),
        Err(error @ LinkError::Frame(FrameError::Version(_))) => Err(error),
        Err(error) => return Err(error),
    };
    writer.push(&match &checked {
        Ok(_) => Frame::HelloAck(context.myself.identity()),
        Err(why) => Frame::Refused(why.to_string()),
    });
    writer.write_by(deadline, HANDSHAKE_WITHIN).await?;
    reader.trust();
    checked
}

/// The connection of each leader's lane that counts: the newest. One that a network swallowed is not waited for.
#[derive(Default)]
struct Current {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    taken: u64,
    held: BTreeMap<(NodeId, Lane), (u64, CancellationToken)>,
}

/// A connection's right to serve.
struct Place {
    of: (NodeId, Lane),
    number: u64,
    superseded: CancellationToken,
}

impl Current {
    /// Takes the place from an earlier connection.
    fn take(&self, of: (NodeId, Lane)) -> Place {
        let superseded = CancellationToken::new();
        let mut places = self.places.lock();
        places.taken += 1;
        let number = places.taken;
        if let Some((_, earlier)) = places.held.insert(of, (number, superseded.clone())) {
            earlier.cancel();
        }
        Place { of, number, superseded }
    }

    /// Frees it, unless a later connection has it.
    fn leave(&self, place: &Place) {
        let mut places = self.places.lock();
        if places.held.get(&place.of).is_some_and(|(number, _)| *number == place.number) {
            places.held.remove(&place.of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connection_of_a_lane_has_its_place() {
        let current = Current::default();
        let leader = NodeId::new(2);
        let first = current.take((leader, Lane::Live));
        let other_lane = current.take((leader, Lane::CatchUp));
        let second = current.take((leader, Lane::Live));
        assert!(first.superseded.is_cancelled());
        assert!(!second.superseded.is_cancelled() && !other_lane.superseded.is_cancelled());
        current.leave(&first);
        let third = current.take((leader, Lane::Live));
        assert!(second.superseded.is_cancelled(), "leaving freed only what was its own");
        current.leave(&third);
        current.leave(&other_lane);
        assert!(current.places.lock().held.is_empty());
    }
}
