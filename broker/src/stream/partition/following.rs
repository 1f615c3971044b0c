//! A replica as a follower: it obeys its leader's newest session, and acknowledges what is on its disk.

use std::sync::Weak;

use super::{Due, Partition, Progress};
use crate::ids::{LeaderEpoch, NodeId, Offset, TopicPartition};
use crate::log::{AppendError, LogError};
use crate::stream::replication::{AckSink, CanonicalRecord, Elected, Extent, FollowerState, Marks, Reject, Session};
use crate::wal::Admission;

/// A session whose records are acknowledged.
#[derive(Clone)]
pub(super) struct Following {
    session: Session,
    acks: Weak<dyn AckSink>,
    /// The leader's marks, which may lie beyond what is flushed here.
    marks: Marks,
    /// Where the log began when the leader was told last.
    log_start: Offset,
}

impl Following {
    /// Tells the leader what is on the disk.
    pub(super) fn send(&self, partition: TopicPartition, flushed_end: Offset) {
        if let Some(acks) = self.acks.upgrade() {
            acks.flushed(partition, self.session, Extent { log_start: self.log_start, flushed_end });
        }
    }

    /// Tells the leader that the session is over.
    pub(super) fn reject(&self, partition: TopicPartition, why: Reject) {
        if let Some(acks) = self.acks.upgrade() {
            acks.rejected(partition, self.session, why);
        }
    }
}

impl Partition {
    /// A leader opens a session; the sessions before are over. Says what is here.
    pub(in crate::stream) fn greet(
        &self,
        from: NodeId,
        session: Session,
        acks: Weak<dyn AckSink>,
    ) -> Result<FollowerState, Reject> {
        let mut follower = self.follower.lock();
        follower.greet(self.leadership.read().view(), from, session, acks)?;
        self.progress.lock().following = None;
        let offsets = self.log.offsets();
        let epochs = self.log.epochs_below(offsets.flushed_end).entries().to_vec();
        Ok(FollowerState { epochs, log_start: offsets.log_start, flushed_end: offsets.flushed_end })
    }

    /// Cuts the log as the leader says, durably, and acknowledges what is left. Blocks.
    pub(in crate::stream) fn elected(&self, session: Session, elected: &Elected) -> Result<(), Reject> {
        let mut follower = self.follower.lock();
        let acks = follower.begin(self.leadership.read().view(), session)?;
        let offsets = self.log.offsets();
        if elected.truncate_to < offsets.high_watermark {
            tracing::warn!(
                topic = %self.topic, partition = %self.index(), high_watermark = %offsets.high_watermark,
                to = %elected.truncate_to, "the leader's log parts from this one below the high watermark"
            );
        }
        self.cut(session, elected).map_err(rejection)?;
        let offsets = self.log.offsets();
        if offsets.log_end != elected.start_at {
            return Err(Reject::NotContiguous { at: offsets.log_end, got: elected.start_at });
        }
        follower.ready(session, elected.start_at);
        let (following, end) = {
            let mut progress = self.progress.lock();
            let offsets = self.log.offsets();
            let marks = Marks { high_watermark: Offset::FIRST, log_start: Offset::FIRST };
            let following = Following { session, acks, marks, log_start: offsets.log_start };
            progress.flushed_end = offsets.flushed_end;
            progress.high_watermark = offsets.high_watermark;
            progress.following = Some(following.clone());
            (following, offsets.flushed_end)
        };
        following.send(self.id, end);
        Ok(())
    }

    /// Makes the log end where the session begins.
    fn cut(&self, session: Session, elected: &Elected) -> Result<(), CutError> {
        let before = self.log.offsets();
        let (keep, start) = (elected.truncate_to, elected.start_at);
        if keep < start || keep < before.log_start {
            // What is here does not reach the leader's log, or lies beside it: nothing of it is kept (rule 4).
            if before.log_start != start || before.log_end != start {
                self.log.restart_at(start)?;
                return Ok(());
            }
        }
        self.log.truncate_to(keep.max(before.log_start))?;
        if before.log_end >= start && self.log.offsets().log_end < start {
            // The cut lies where compaction has left nothing.
            let newest = self.log.epochs_below(start).newest().map(|newest| newest.epoch);
            self.log.fill_to(start, newest.unwrap_or_else(|| epoch_before(elected, session)))?;
        }
        Ok(())
    }

    /// Appends one batch of the leader.
    pub(in crate::stream) fn append_from_leader(
        &self,
        session: Session,
        record: CanonicalRecord,
        admission: Admission,
    ) -> Result<(), Reject> {
        let mut follower = self.follower.lock();
        let at = follower.position(self.leadership.read().view(), session)?;
        let appended = if self.progress.lock().following.is_none() {
            // The disk was full: what was taken before is lost.
            Err(Reject::DiskFull)
        } else if record.previous != at || record.end <= at {
            Err(Reject::NotContiguous { at, got: record.previous })
        } else {
            self.log.append_as_follower(at, record.batch, admission).map_err(|error| rejection(error.into()))
        };
        if let Ok(end) = appended {
            follower.appended(end);
            #[cfg(test)]
            if crate::sim::planted(crate::sim::Plant::AckBeforeFlush)
                && let Some(following) = self.progress.lock().following.clone()
            {
                following.send(self.id, end);
            }
        } else {
            follower.end();
            self.progress.lock().following = None;
        }
        appended.map(|_| ())
    }

    /// Takes the leader's marks, and tells it when the log begins later by them.
    pub(in crate::stream) fn follow_marks(&self, session: Session, marks: Marks) -> Result<(), Reject> {
        let follower = self.follower.lock();
        follower.position(self.leadership.read().view(), session)?;
        let mut due = Due::default();
        let (told, ack) = {
            let mut progress = self.progress.lock();
            let told = progress.following.as_mut().map(|following| {
                following.marks.high_watermark = following.marks.high_watermark.max(marks.high_watermark);
                following.marks.log_start = following.marks.log_start.max(marks.log_start);
                following.log_start
            });
            (told, self.advance_following(&mut progress, &mut due).map(|ack| (ack, progress.flushed_end)))
        };
        drop(follower);
        due.settle();
        if let Some((ack, end)) = ack.filter(|(ack, _)| Some(ack.log_start) != told) {
            ack.send(self.id, end);
        }
        Ok(())
    }

    /// Moves a follower's high watermark and its log start to its leader's, as far as it has flushed itself. Returns whom
    /// to acknowledge to.
    pub(super) fn advance_following(&self, progress: &mut Progress, due: &mut Due) -> Option<Following> {
        let marks = progress.following.as_ref()?.marks;
        let to = marks.high_watermark.min(progress.flushed_end);
        if to > progress.high_watermark {
            self.move_high_watermark(progress, to, due);
        }
        let following = progress.following.as_mut()?;
        if marks.log_start > following.log_start {
            self.log.follow_start(marks.log_start);
            following.log_start = self.log.offsets().log_start;
        }
        Some(following.clone())
    }
}

/// The epoch of what the leader had last before the session begins, or has there: none that it sends later is older.
/// The session's own where it has nothing.
fn epoch_before(elected: &Elected, session: Session) -> LeaderEpoch {
    let before = elected.epochs.iter().rev().find(|entry| entry.start < elected.start_at);
    before.or(elected.epochs.first()).map_or(session.epoch, |entry| entry.epoch)
}

/// Why a log was not cut.
#[derive(Debug, thiserror::Error)]
enum CutError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

fn rejection(error: CutError) -> Reject {
    match error {
        CutError::Append(AppendError::DiskFull) => Reject::DiskFull,
        CutError::Append(AppendError::Closed) => Reject::UnknownPartition,
        CutError::Append(error) => Reject::Corrupt(error.to_string()),
        CutError::Log(error) if error.is_full() => Reject::DiskFull,
        CutError::Log(error) => {
            tracing::error!(%error, "a follower's log could not be cut");
            Reject::Storage(error.to_string())
        }
    }
}
