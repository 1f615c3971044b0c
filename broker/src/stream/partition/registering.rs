//! How a replica takes what metadata says of it: who leads, who is in sync, its topic's settings; and the end of it.

use std::sync::Arc;

use super::{Due, Partition, Progress};
use crate::ids::LeaderEpoch;
use crate::log::{LogConfig, LogError};
use crate::metadata::PartitionRegistration;
use crate::stream::Isr;
use crate::stream::membership::Membership;
use crate::stream::replication::Led;

impl Partition {
    /// Takes new settings of its topic. `minimum` is the smallest ISR that acknowledges.
    pub(in crate::stream) fn configure(&self, config: Arc<LogConfig>, minimum: usize) {
        self.log.set_config(config);
        let mut leadership = self.leadership.write();
        let due = {
            let mut progress = self.progress.lock();
            progress.isr.set_minimum(minimum);
            leadership.has_minimum = progress.isr.has_minimum();
            self.advance(&mut progress)
        };
        drop(leadership);
        due.settle();
    }

    /// Takes a registration, with the `min.insync.replicas` of the same image: an ISR is enough, or not, by the minimum
    /// that it was committed under. `leads` says whether this node leads by it. Returns the epoch when a leadership of
    /// this node began. Waits for a cut of the log that a leader before has ordered.
    pub(in crate::stream) fn register(
        &self,
        registration: &PartitionRegistration,
        leads: bool,
        min_insync: usize,
    ) -> Result<Option<LeaderEpoch>, LogError> {
        let follower = self.follower.lock();
        let mut leadership = self.leadership.write();
        let epoch = registration.leader_epoch;
        debug_assert!(leadership.epoch.is_none_or(|known| known <= epoch), "leader epochs only grow");
        let begins = leads && !(leadership.leading && leadership.epoch == Some(epoch));
        if begins {
            self.log.begin_epoch(epoch)?;
        }
        let mut due = Due::default();
        {
            let mut progress = self.progress.lock();
            if begins || !leads {
                self.end_leadership(&mut progress, &mut due);
            }
            if leadership.epoch != Some(epoch) {
                progress.following = None;
            }
            let minimum = registration.minimum_isr(min_insync);
            progress.isr.set_minimum(minimum);
            if begins {
                self.begin_leadership(&mut progress, registration, minimum);
            } else if leads && registration.partition_epoch != progress.partition_epoch {
                // The registration that is known already is no proposal's outcome (rule 6).
                progress.isr.commit(&registration.replicas, &registration.isr);
                progress.membership.commit(&registration.replicas);
                self.tails.keep(&registration.replicas);
                if !progress.replicated {
                    self.begin_tails(&mut progress, registration);
                }
            }
            progress.is_led = leads || registration.leader.is_some_and(|leader| leader != self.node);
            progress.partition_epoch = registration.partition_epoch;
            progress.elr.clone_from(&registration.elr);
            leadership.epoch = Some(epoch);
            leadership.leading = leads;
            leadership.leader = registration.leader.filter(|leader| *leader != self.node);
            leadership.has_minimum = leads && progress.isr.has_minimum();
            due.append(self.advance(&mut progress));
        }
        drop(leadership);
        drop(follower);
        due.settle();
        self.low_watermark_moves.notify_waiters();
        Ok(begins.then_some(epoch))
    }

    fn begin_leadership(&self, progress: &mut Progress, registration: &PartitionRegistration, minimum: usize) {
        let offsets = self.log.offsets();
        progress.epoch = Some(registration.leader_epoch);
        progress.epoch_start = offsets.log_end;
        progress.isr = Isr::new(&registration.replicas, &registration.isr, minimum);
        progress.membership = Membership::new(self.node, &registration.replicas);
        progress.batch_before = None;
        progress.flushed_end = offsets.flushed_end;
        progress.high_watermark = offsets.high_watermark;
        progress.isr.flushed(self.node, offsets.flushed_end);
        self.begin_tails(progress, registration);
    }

    /// Lets the tails see what is appended from now on, if anybody follows. Nobody appends meanwhile.
    fn begin_tails(&self, progress: &mut Progress, registration: &PartitionRegistration) {
        if registration.replicas.len() > 1 {
            let led = Led { partition: self.id, epoch: registration.leader_epoch };
            let offsets = self.log.offsets();
            self.tails.begin(led, offsets.flushed_end, offsets.log_end);
            self.log.observe(Some(Arc::clone(&self.tails) as _));
            progress.replicated = true;
        }
    }

    /// Ends this node's leadership for good: the replica goes away, or the process stops.
    pub(in crate::stream) fn resign(&self) {
        let mut due = Due::default();
        let mut follower = self.follower.lock();
        follower.end();
        let mut leadership = self.leadership.write();
        leadership.leading = false;
        leadership.leader = None;
        {
            let mut progress = self.progress.lock();
            progress.following = None;
            progress.is_led = false;
            self.end_leadership(&mut progress, &mut due);
        }
        drop(leadership);
        drop(follower);
        due.settle();
        self.low_watermark_moves.notify_waiters();
    }

    /// Ends the epoch of the waiters: offsets that the next leader fills again must not satisfy them.
    fn end_leadership(&self, progress: &mut Progress, due: &mut Due) {
        progress.epoch = None;
        if std::mem::take(&mut progress.replicated) {
            self.log.observe(None);
            self.tails.end();
        }
        #[cfg(test)]
        if crate::sim::planted(crate::sim::Plant::WaiterSurvivesEpoch) {
            return;
        }
        progress.waiting_for_flush.take_all(&mut due.deposed);
        progress.waiting_for_commit.take_all(&mut due.deposed);
        progress.readers.take_all(&mut due.readers);
    }
}
