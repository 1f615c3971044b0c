//! Whether a member's process is alive: asked anew, and answered by that process only.

use std::io;
use std::sync::Arc;

use super::peers::peers_client::PeersClient;
use super::peers::{Me, ProbeRequest, Who, who_of};
use crate::io::grpc;
use crate::io::net::Network;
use crate::metadata::Node;
use crate::metadata::controller::{Dialled, Dialler, Dialling};

/// Dials members for the controller.
pub struct ProbeDialler {
    me: Me,
    network: Arc<dyn Network>,
}

impl ProbeDialler {
    /// Dials as this node.
    pub fn new(me: Me, network: Arc<dyn Network>) -> Self {
        Self { me, network }
    }

    /// Whether it is the node's process that answers at its address.
    async fn probe(&self, node: &Node, address: &str) -> Dialled {
        let expected = self.me.expects(Some(node.id));
        let channel = match grpc::dial(self.network.as_ref(), address, &expected).await {
            Ok(dialled) => dialled.channel,
            Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => return Dialled::Refused,
            // Another node's certificate there tells nothing of the node's own process: its heartbeats decide.
            Err(why) => {
                tracing::debug!(node = node.id.get(), address, %why, "a node could not be dialled");
                return Dialled::Silent;
            }
        };
        let request = ProbeRequest { envelope: Some(self.me.envelope(None)) };
        match PeersClient::new(channel).probe(request).await {
            Ok(answer) => {
                let expected = Who { node: node.id, directory: node.directory };
                let who = answer.into_inner().node.as_ref().map(who_of);
                // Another process took its address: its own listens there no more.
                if who == Some(Ok(expected)) { Dialled::Answered } else { Dialled::Refused }
            }
            Err(status) => {
                tracing::debug!(node = node.id.get(), address, why = status.message(), "a node did not answer");
                Dialled::Silent
            }
        }
    }
}

impl Dialler for ProbeDialler {
    fn dial<'a>(&'a self, node: &'a Node) -> Dialling<'a> {
        Box::pin(async move {
            match &node.grpc {
                Some(address) => self.probe(node, &address.to_string()).await,
                // It can't be asked: its heartbeats decide.
                None => Dialled::Silent,
            }
        })
    }
}
