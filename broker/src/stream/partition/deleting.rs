//! Deleting records at the front (KIP-107): the leader moves its log start, its followers follow by the marks that it
//! tells them, and the low watermark shows how far all of them have come.

use tokio::sync::futures::Notified;

use super::Partition;
use crate::ids::{NodeId, Offset};
use crate::stream::PartitionError;

impl Partition {
    /// Deletes what lies below `to`, as the leader, and tells the followers at once. Returns where the log begins now; its
    /// followers' may begin earlier for a while (`low_watermark`). Blocks on nothing: files go later.
    ///
    /// # Errors
    /// This node does not lead, or `to` lies beyond the high watermark.
    pub fn delete_records(&self, to: Offset) -> Result<Offset, PartitionError> {
        let leadership = self.leadership.read();
        if !leadership.leading {
            return Err(PartitionError::NotLeader);
        }
        let log_start = self.log.delete_records(to)?;
        drop(leadership);
        self.tell_marks(&self.progress.lock());
        Ok(log_start)
    }

    /// The lowest offset that a replica which is alive may still have.
    ///
    /// # Errors
    /// This node does not lead.
    pub fn low_watermark(&self, is_alive: impl Fn(NodeId) -> bool) -> Result<Offset, PartitionError> {
        let progress = self.progress.lock();
        if progress.epoch.is_none() {
            return Err(PartitionError::NotLeader);
        }
        Ok(progress.isr.low_watermark(self.node, self.log.offsets().log_start, is_alive))
    }

    /// Resolves when `low_watermark` may be another one than when this was called, unless only who is alive has changed.
    pub fn low_watermark_moves(&self) -> Notified<'_> {
        self.low_watermark_moves.notified()
    }
}
