//! What the WAL counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the fsync histogram's buckets, µs; one more bucket holds what is slower.
pub const FSYNC_BUCKETS_US: [u64; 13] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];

/// Counters since the start, for /metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalStats {
    /// Commit rounds.
    pub rounds: u64,
    /// Appends committed.
    pub appends: u64,
    /// Bytes written to the journal, padding included.
    pub journalled_bytes: u64,
    /// Bytes made durable by syncing their own file.
    pub directly_synced_bytes: u64,
    /// Appends refused because the disk was full.
    pub refused: u64,
    /// Passes that synced files in the background.
    pub sync_passes: u64,
    /// Journal fsyncs by duration: not cumulative, in the buckets of [`FSYNC_BUCKETS_US`] and one more.
    pub fsyncs: [u64; FSYNC_BUCKETS_US.len() + 1],
    /// Time spent in journal fsyncs, µs.
    pub fsync_us: u64,
    /// Bytes admitted and not committed.
    pub queue_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rounds: AtomicU64,
    pub(super) appends: AtomicU64,
    pub(super) journalled_bytes: AtomicU64,
    pub(super) directly_synced_bytes: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) sync_passes: AtomicU64,
    fsyncs: [AtomicU64; FSYNC_BUCKETS_US.len() + 1],
    fsync_us: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn fsynced(&self, took: Duration) {
        let us = took.as_micros() as u64;
        count(&self.fsyncs[FSYNC_BUCKETS_US.partition_point(|bound| *bound < us)], 1);
        count(&self.fsync_us, us);
    }

    pub(super) fn read(&self, queue_bytes: u64) -> WalStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalStats {
            rounds: get(&self.rounds),
            appends: get(&self.appends),
            journalled_bytes: get(&self.journalled_bytes),
            directly_synced_bytes: get(&self.directly_synced_bytes),
            refused: get(&self.refused),
            sync_passes: get(&self.sync_passes),
            fsyncs: std::array::from_fn(|bucket| get(&self.fsyncs[bucket])),
            fsync_us: get(&self.fsync_us),
            queue_bytes,
        }
    }
}
