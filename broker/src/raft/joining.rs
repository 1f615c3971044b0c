//! How a leader lets a node in.
//!
//! A node that comes with another data folder than the roster names is either a wiped one, or a second process with the
//! same id. The leader tells them apart by whether it still hears the first: while it does, the second is refused. A
//! wiped voter is removed before it is let in again, since what its old folder had, and voted, is gone.

use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::Input;
use super::node::RaftNode;
use super::peers::Who;
use crate::io::flood::Flood;
use crate::metadata::{Command, Member, MetadataPlane as _, Outcome, ProposeError, Target};

/// Lines about ids in use.
static IN_USE: Flood = Flood::new("node ids that are in use");

/// A member that was not heard of for so long is taken for gone when its id comes with another data folder.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// What a node that asks to be let in is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// It is a member: the roster.
    Admitted(Vec<Member>),
    /// This node does not lead; who does, as it knows.
    Elsewhere(Option<Member>),
    /// Another process with this id was heard of so long ago.
    InUse {
        /// How long.
        heard_ago: Duration,
    },
    /// What was its member is being removed: it should ask again.
    Leaving,
}

impl RaftNode {
    /// Lets a node in, or says why not.
    pub(super) async fn admit(&self, who: Who, address: String, vote: bool) -> Result<Joined, ProposeError> {
        let image = self.image();
        if self.leadership.borrow().is_none() {
            let leader = self.leader().and_then(|leader| image.member(leader));
            return Ok(Joined::Elsewhere(leader.filter(|leader| leader.node != self.me.node).cloned()));
        }
        match image.member(who.node) {
            Some(member) if member.target == Target::Gone => return Ok(Joined::Leaving),
            Some(member) if member.directory != who.directory => {
                let heard_ago = self.silent_for(who).await?;
                if heard_ago < GONE_AFTER || who.node == self.me.node {
                    if let Some(line) = IN_USE.line() {
                        let (node, left_out) = (who.node.get(), line.left_out());
                        tracing::warn!(node, address, left_out, "refused a second process with a node's id");
                    }
                    return Ok(Joined::InUse { heard_ago });
                }
                tracing::warn!(
                    node = who.node.get(),
                    address,
                    "a node has another data folder: removing its old member"
                );
                self.propose(Command::RemoveMember { node: who.node, directory: member.directory }).await?;
                return Ok(Joined::Leaving);
            }
            _ => {}
        }
        let (node, directory) = (who.node, who.directory);
        let admitted = self.propose(Command::AdmitMember { node, directory, address, vote }).await?;
        if admitted != Outcome::Done {
            // Something else was faster.
            return Ok(Joined::Leaving);
        }
        Ok(Joined::Admitted(self.image().roster().cloned().collect()))
    }

    async fn silent_for(&self, who: Who) -> Result<Duration, ProposeError> {
        let (answer, answered) = oneshot::channel();
        let asked = self.inputs.send(Input::SilentFor { node: who.node, answer });
        asked.map_err(|_ended| ProposeError::Stopping)?;
        // One that leads no more knows nothing: the next leader is asked.
        Ok(answered.await.map_err(|_ended| ProposeError::Stopping)?.unwrap_or(Duration::ZERO))
    }
}
