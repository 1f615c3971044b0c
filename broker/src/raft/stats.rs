//! Counters of the metadata plane for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the commit latency's buckets, in microseconds; a last bucket takes what is slower.
pub const COMMIT_BUCKETS_US: [u64; 11] =
    [250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000];

/// Counters that only grow, and gauges. Read at any time, from any thread.
#[derive(Debug, Default)]
pub struct RaftStats {
    commits: [AtomicU64; COMMIT_BUCKETS_US.len() + 1],
    commit_us: AtomicU64,
    snapshots: AtomicU64,
    term: AtomicU64,
    applied: AtomicU64,
}

impl RaftStats {
    /// Commits by latency, from proposal to apply: one count for each bucket, not cumulative.
    pub fn commit_buckets(&self) -> [u64; COMMIT_BUCKETS_US.len() + 1] {
        self.commits.each_ref().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// The sum of all commits' latencies in microseconds.
    pub fn commit_us(&self) -> u64 {
        self.commit_us.load(Ordering::Relaxed)
    }

    /// Snapshots written.
    pub fn snapshots(&self) -> u64 {
        self.snapshots.load(Ordering::Relaxed)
    }

    /// The Raft term.
    pub fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    /// The index of the last entry applied.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    pub(super) fn committed(&self, latency: Duration) {
        let us = latency.as_micros() as u64;
        let bucket = COMMIT_BUCKETS_US.partition_point(|&bound| bound < us);
        self.commits[bucket].fetch_add(1, Ordering::Relaxed);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(super) fn snapshot_written(&self) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn moved(&self, term: u64, applied: u64) {
        self.term.store(term, Ordering::Relaxed);
        self.applied.store(applied, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_counts_in_the_bucket_of_its_latency() {
        let stats = RaftStats::default();
        for us in [250, 251, 2_000_000] {
            stats.committed(Duration::from_micros(us));
        }
        let buckets = stats.commit_buckets();
        assert_eq!((buckets[0], buckets[1], buckets[11]), (1, 1, 1));
        assert_eq!(stats.commit_us(), 2_000_501);
    }
}
