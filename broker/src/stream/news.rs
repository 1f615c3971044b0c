//! What partitions tell the tasks beside them: that leaderships changed, and who may join an ISR.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::ids::TopicPartition;

/// Told by partitions, also from the WAL thread; read by the links' senders and by the ISR keeper.
#[derive(Debug)]
pub(super) struct News {
    leaderships: watch::Sender<u64>,
    candidates: Mutex<BTreeSet<TopicPartition>>,
    wake: Notify,
}

impl Default for News {
    fn default() -> Self {
        Self { leaderships: watch::Sender::new(0), candidates: Mutex::default(), wake: Notify::new() }
    }
}

impl News {
    /// What this node leads, and for whom, is not what it was.
    pub(super) fn leaderships_changed(&self) {
        self.leaderships.send_modify(|count| *count += 1);
    }

    /// Sees whenever `leaderships_changed` is told.
    pub(super) fn leaderships(&self) -> watch::Receiver<u64> {
        self.leaderships.subscribe()
    }

    /// The ISR of a partition may have to change.
    pub(super) fn candidate(&self, partition: TopicPartition) {
        if self.candidates.lock().insert(partition) {
            self.wake.notify_one();
        }
    }

    /// Waits until there are candidates.
    pub(super) async fn candidates(&self) {
        self.wake.notified().await;
    }

    /// Takes the candidates.
    pub(super) fn take_candidates(&self) -> BTreeSet<TopicPartition> {
        std::mem::take(&mut self.candidates.lock())
    }
}
