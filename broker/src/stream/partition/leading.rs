//! A replica as the leader: what its followers are sent, what their acknowledgements move, and whom it wants in sync.

use std::sync::Arc;
use std::time::Duration;

use super::{Partition, Progress};
use crate::ids::{BrokerEpoch, LeaderEpoch, NodeId, Offset};
use crate::log::empty_from;
use crate::metadata::{AlterPartition, Image, Node};
use crate::stream::beginning::{Offer, beginning};
use crate::stream::membership::Standing;
use crate::stream::replication::{CanonicalRecord, Deposed, Elected, Extent, FollowerState, Led, Marks, Reject, Tail};
use crate::stream::tails::split;

impl Partition {
    /// This node's leadership, if `follower` replicates it and may come.
    pub(in crate::stream) fn led_for(&self, follower: NodeId) -> Option<Led> {
        let progress = self.progress.lock();
        let epoch = progress.epoch.filter(|_| follower != self.node && progress.isr.has(follower))?;
        self.tails.is_open().then_some(Led { partition: self.id, epoch })
    }

    /// The state of this leadership, if it is still held and `follower` replicates it.
    fn leading_for(
        &self,
        epoch: LeaderEpoch,
        follower: NodeId,
    ) -> Result<parking_lot::MutexGuard<'_, Progress>, Deposed> {
        let progress = self.progress.lock();
        let follows = follower != self.node && progress.isr.has(follower);
        if progress.epoch == Some(epoch) && follows { Ok(progress) } else { Err(Deposed) }
    }

    /// Says where a follower's session begins. From here on only what it acknowledges in this session counts.
    pub(in crate::stream) fn elect(
        &self,
        epoch: LeaderEpoch,
        follower: NodeId,
        state: &FollowerState,
    ) -> Result<Elected, Deposed> {
        let mut progress = self.leading_for(epoch, follower)?;
        if !self.tails.is_open() {
            return Err(Deposed);
        }
        progress.isr.forget(follower);
        let offsets = self.log.offsets();
        let epochs = self.log.epochs_below(offsets.flushed_end);
        let eligible = progress.isr.is_member(follower) || progress.elr.contains(&follower);
        let batch_before = progress.batch_before.take().filter(|base| *base < offsets.log_start);
        let offer = Offer {
            epochs,
            start: batch_before.unwrap_or(offsets.log_start),
            high_watermark: progress.high_watermark,
            end: offsets.flushed_end,
            eligible,
        };
        Ok(beginning(&offer, state))
    }

    /// From now on `tail` is told of appends.
    pub(in crate::stream) fn tail(
        &self,
        epoch: LeaderEpoch,
        follower: NodeId,
        tail: Arc<dyn Tail>,
    ) -> Result<Offset, Deposed> {
        let _progress = self.leading_for(epoch, follower)?;
        self.tails.tail(Led { partition: self.id, epoch }, follower, tail)
    }

    /// Ends `tail`.
    pub(in crate::stream) fn untail(&self, epoch: LeaderEpoch, follower: NodeId) {
        self.tails.untail(Led { partition: self.id, epoch }, follower);
    }

    /// Records for a follower that is behind. Blocks on files.
    pub(in crate::stream) fn read_records(
        &self,
        epoch: LeaderEpoch,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<CanonicalRecord>, Deposed> {
        if self.leading() != Some(epoch) {
            return Err(Deposed);
        }
        let read = self.log.read_for_follower(from, self.log.offsets().flushed_end, max_bytes).map_err(|error| {
            tracing::warn!(topic = %self.topic, partition = %self.index(), %from, %error, "a follower cannot go on here");
            Deposed
        })?;
        let mut records = Vec::new();
        let mut previous = from;
        for data in read.data {
            for record in split(previous, data) {
                let base = record.base;
                let Some(record) = continued(record) else {
                    // Where the log starts within a batch, a follower that begins anew begins with that, next time.
                    tracing::debug!(topic = %self.topic, partition = %self.index(), %from, %base, "no batch begins here");
                    let mut progress = self.progress.lock();
                    if progress.epoch == Some(epoch) {
                        progress.batch_before = Some(base);
                    }
                    return Err(Deposed);
                };
                previous = record.end;
                records.push(record);
            }
        }
        Ok(records)
    }

    /// What followers are told beside records.
    pub(in crate::stream) fn marks(&self, epoch: LeaderEpoch) -> Result<Marks, Deposed> {
        let progress = self.progress.lock();
        if progress.epoch == Some(epoch) { Ok(self.marks_of(&progress)) } else { Err(Deposed) }
    }

    fn marks_of(&self, progress: &Progress) -> Marks {
        Marks { high_watermark: progress.high_watermark, log_start: self.log.offsets().log_start }
    }

    /// Tells the tails how far the log is committed, and where it begins.
    pub(super) fn tell_marks(&self, progress: &Progress) {
        if progress.replicated {
            self.tails.moved(self.marks_of(progress));
        }
    }

    /// A follower, in this registration, has this on its disk.
    pub(in crate::stream) fn acked(
        &self,
        epoch: LeaderEpoch,
        follower: NodeId,
        follower_epoch: BrokerEpoch,
        extent: Extent,
    ) {
        let (due, starts_later) = {
            let Ok(mut progress) = self.leading_for(epoch, follower) else { return };
            // Nobody has more than its leader has sent, which is on the leader's disk.
            let end = extent.flushed_end.min(progress.flushed_end);
            if progress.membership.acked(follower, follower_epoch, end) {
                progress.isr.forget(follower);
            }
            progress.isr.flushed(follower, end);
            let starts_later = progress.isr.starts(follower, extent.log_start);
            if progress.membership.may_join(follower, self.standing(&progress, Duration::MAX)) {
                self.news.candidate(self.id);
            }
            (self.advance(&mut progress), starts_later)
        };
        due.settle();
        if starts_later {
            self.low_watermark_moves.notify_waiters();
        }
    }

    /// What was to be appended here found no room: somebody else should lead.
    pub(super) fn has_no_room(&self, progress: &mut Progress) {
        if progress.epoch.is_some() {
            progress.membership.leader_is_full(true);
            self.news.candidate(self.id);
        }
    }

    /// A follower's session ended.
    pub(in crate::stream) fn lost(&self, epoch: LeaderEpoch, follower: NodeId, why: Option<&Reject>) {
        let Ok(mut progress) = self.leading_for(epoch, follower) else { return };
        if why == Some(&Reject::DiskFull) {
            progress.membership.is_full(follower, self.log.offsets().log_end);
            self.news.candidate(self.id);
        }
    }

    fn standing<'a>(&self, progress: &'a Progress, lag_max: Duration) -> Standing<'a> {
        Standing {
            isr: &progress.isr,
            log_end: self.log.offsets().log_end,
            high_watermark: progress.high_watermark,
            epoch_start: progress.epoch_start,
            lag_max,
        }
    }

    /// The followers that have everything below `offset`, and how far each has flushed; none where this node does not
    /// lead.
    pub fn followers_with(&self, offset: Offset) -> Vec<(NodeId, Offset)> {
        let progress = self.progress.lock();
        if progress.epoch.is_none() {
            return Vec::new();
        }
        let followers = progress.isr.replicas().filter(|node| *node != self.node);
        let known = followers.filter_map(|node| Some((node, progress.isr.flushed_end(node)?)));
        known.filter(|(_, end)| *end >= offset).collect()
    }

    /// Looks at the clock: who lags. Tells the tails the marks, of which retention moves the log start by itself.
    pub(in crate::stream) fn tick(&self, now: Duration, lag_max: Duration) {
        let mut progress = self.progress.lock();
        if !progress.replicated {
            return;
        }
        let Progress { isr, membership, high_watermark, epoch_start, .. } = &mut *progress;
        let log_end = self.log.offsets().log_end;
        let (high_watermark, epoch_start) = (*high_watermark, *epoch_start);
        membership.tick(now, Standing { isr, log_end, high_watermark, epoch_start, lag_max });
        self.tell_marks(&progress);
    }

    /// The change of the ISR that this leader wants by now, if any. It is under way from here on.
    pub(in crate::stream) fn propose(
        &self,
        now: Duration,
        lag_max: Duration,
        image: &Image,
        leader_broker_epoch: BrokerEpoch,
    ) -> Option<AlterPartition> {
        let mut progress = self.progress.lock();
        let leader_epoch = progress.epoch?;
        let alive = |node| image.node(node).filter(|node: &&Node| !node.fenced).map(|node| node.epoch);
        let isr = progress.membership.wanted(now, self.standing(&progress, lag_max), alive)?;
        let nodes: Vec<NodeId> = isr.iter().map(|(node, _)| *node).collect();
        let partition_epoch = progress.partition_epoch;
        progress.membership.propose(partition_epoch);
        progress.isr.propose(&nodes);
        Some(AlterPartition {
            partition: self.id,
            leader: self.node,
            leader_broker_epoch,
            leader_epoch,
            partition_epoch,
            isr,
        })
    }

    /// Whether a proposal is still without an outcome here.
    pub(in crate::stream) fn is_open(&self, proposal: &AlterPartition) -> bool {
        let progress = self.progress.lock();
        progress.epoch == Some(proposal.leader_epoch) && progress.membership.is_open(proposal.partition_epoch)
    }

    /// A proposal was refused, and this node has applied the image of that moment: it never took effect.
    pub(in crate::stream) fn withdraw(&self, proposal: &AlterPartition) {
        let due = {
            let mut progress = self.progress.lock();
            let open = progress.membership.is_open(proposal.partition_epoch);
            if progress.epoch != Some(proposal.leader_epoch) || !open {
                return;
            }
            progress.membership.withdraw(proposal.partition_epoch);
            progress.isr.propose(&[]);
            self.advance(&mut progress)
        };
        due.settle();
    }
}

/// The record as one that begins where the follower is. The two logs' batches are the same but for those that fill what
/// compaction left: a follower may end within one of its leader's.
fn continued(record: CanonicalRecord) -> Option<CanonicalRecord> {
    if record.base >= record.previous {
        return Some(record);
    }
    let batch = empty_from(&record.batch, record.previous)?;
    Some(CanonicalRecord { base: record.previous, batch, ..record })
}
