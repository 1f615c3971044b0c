//! Ids for idempotent producers (KIP-98), from blocks that the metadata plane gives out (KIP-730): none is ever given
//! twice, as what is left of a block is dropped at a restart.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::ids::{NodeId, ProducerId};
use crate::io::flood::Flood;
use crate::metadata::{Command, MetadataPlane, Outcome, ProposeError};

/// Lines about ids that there are not.
static NONE_LEFT: Flood = Flood::new("producer ids that there are not");

/// Requests that wait for a block; more make their connections wait.
const QUEUED_REQUESTS: usize = 1024;

/// Why there is no id now. A client may ask again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProducerIdError {
    /// No block could be had.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// This node is not registered, or no longer as this process.
    #[error("the metadata plane gave no block of producer ids: {0}")]
    Refused(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

type Answer = oneshot::Sender<Result<ProducerId, ProducerIdError>>;

/// The node's source of producer ids.
#[derive(Debug, Clone)]
pub struct ProducerIds {
    requests: mpsc::Sender<Answer>,
}

impl ProducerIds {
    /// Starts without a block; the first request fetches one. The task ends with the last handle.
    pub fn start(node: NodeId, metadata: Arc<dyn MetadataPlane>) -> Self {
        let (requests, queue) = mpsc::channel(QUEUED_REQUESTS);
        tokio::spawn(serve(node, metadata, queue));
        Self { requests }
    }

    /// An id that nobody else has or had.
    pub async fn next(&self) -> Result<ProducerId, ProducerIdError> {
        let (sender, answer) = oneshot::channel();
        self.requests.send(sender).await.map_err(|_| ProducerIdError::Stopping)?;
        answer.await.map_err(|_| ProducerIdError::Stopping)?
    }
}

async fn serve(node: NodeId, metadata: Arc<dyn MetadataPlane>, mut queue: mpsc::Receiver<Answer>) {
    let mut block: Range<i64> = 0..0;
    while let Some(answer) = queue.recv().await {
        if block.is_empty() {
            match allocate(node, &*metadata).await {
                Ok(fresh) => block = fresh,
                Err(error) => {
                    if let Some(line) = NONE_LEFT.line() {
                        tracing::warn!(%error, left_out = line.left_out(), "no producer id");
                    }
                    // Who asked may be gone.
                    drop(answer.send(Err(error)));
                    continue;
                }
            }
        }
        let id = block.next().expect("a block that was just given out is not empty");
        drop(answer.send(Ok(ProducerId::new(id))));
    }
}

async fn allocate(node: NodeId, metadata: &dyn MetadataPlane) -> Result<Range<i64>, ProducerIdError> {
    let epoch = metadata.image().node(node).map(|node| node.epoch);
    let epoch = epoch.ok_or_else(|| ProducerIdError::Refused("the node is not registered yet".into()))?;
    match metadata.propose(Command::AllocateProducerIds { node, epoch }).await? {
        Outcome::ProducerIds { first, count } if count > 0 => Ok(first.get()..first.get() + i64::from(count)),
        Outcome::Refused { why, .. } => Err(ProducerIdError::Refused(why.to_string())),
        outcome => Err(ProducerIdError::Refused(format!("{outcome:?}"))),
    }
}
