//! A metadata plane in memory, for the tests of those that use one.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{ClusterVersion, Command, Image, MetadataPlane, Node, Proposal, State};
use crate::ids::{BrokerEpoch, NodeId};

/// Applies each command at once.
pub(crate) struct InstantPlane {
    state: Mutex<State>,
    images: watch::Sender<Arc<Image>>,
}

impl InstantPlane {
    /// A cluster of one registered node, number 0.
    pub(crate) fn new() -> Arc<Self> {
        let mut state = State::new(Image::empty("test-cluster"));
        state.apply(1, Command::RegisterNode { node: node(0), acked_may_be_lost: false });
        Arc::new(Self { images: watch::Sender::new(state.image()), state: Mutex::new(state) })
    }
}

impl MetadataPlane for InstantPlane {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.images.borrow())
    }

    fn subscribe(&self) -> watch::Receiver<Arc<Image>> {
        self.images.subscribe()
    }

    fn propose(&self, command: Command) -> Proposal<'_> {
        let mut state = self.state.lock();
        let index = state.image().index() + 1;
        let outcome = state.apply(index, command);
        self.images.send_replace(state.image());
        Box::pin(std::future::ready(Ok(outcome)))
    }

    fn leader(&self) -> Option<NodeId> {
        Some(NodeId::FIRST)
    }
}

/// A node as it asks to be registered.
pub(crate) fn node(id: i32) -> Node {
    Node {
        id: NodeId::new(id),
        directory: uuid::Uuid::from_u128(0x1000 + id as u128),
        epoch: BrokerEpoch::FIRST,
        fenced: false,
        stopping: false,
        host: format!("node{id}.example"),
        port: 9092,
        wal: None,
        grpc: None,
        rack: None,
        version: "0.1.0".to_owned(),
        newest_version: ClusterVersion::NEWEST,
    }
}
