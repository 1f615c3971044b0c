//! The logs, and the two WALs below: messages and metadata.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::write::{counter, gauge, histogram};
use crate::log::LogStore;
use crate::raft::RaftNode;
use crate::raft::stats::COMMIT_BUCKETS_US;
use crate::wal::{FSYNC_BUCKETS_US, GroupCommitWal};

/// Reads the logs' counters.
pub(super) struct LogsCollector(Arc<LogStore>);

impl LogsCollector {
    pub(super) fn new(logs: &Arc<LogStore>) -> Self {
        Self(logs.clone())
    }
}

impl fmt::Debug for LogsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogsCollector")
    }
}

impl Collector for LogsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let logs = self.0.counters();
        let figures = [
            ("kafka_server_brokertopicmetrics_messagesin", "Records appended", &logs.records_in),
            ("kafka_server_brokertopicmetrics_bytesin", "Bytes of batches appended", &logs.bytes_in),
            ("kafka_server_brokertopicmetrics_bytesout", "Bytes of batches read for fetches", &logs.bytes_out),
            ("chronik_log_segments_rolled", "Segments begun", &logs.segments_rolled),
            ("chronik_log_segments_deleted", "Segments removed by retention and DeleteRecords", &logs.segments_deleted),
            ("chronik_log_compaction_read_bytes", "Bytes read by compaction", &logs.compaction_bytes_read),
            ("chronik_log_compaction_written_bytes", "Bytes written by compaction", &logs.compaction_bytes_written),
            ("chronik_log_appends_refused", "Appends taken back because the disk was full", &logs.appends_refused),
        ];
        for (name, help, value) in figures {
            counter(&mut encoder, (name, help), value.load(Ordering::Relaxed) as f64)?;
        }
        Ok(())
    }
}

/// Reads the message WAL's counters.
pub(super) struct WalCollector(Arc<GroupCommitWal>);

impl WalCollector {
    pub(super) fn new(wal: &Arc<GroupCommitWal>) -> Self {
        Self(wal.clone())
    }
}

impl fmt::Debug for WalCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WalCollector")
    }
}

impl Collector for WalCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.stats();
        let encoder = &mut encoder;
        let counters = [
            ("chronik_wal_commits", "Commit rounds: one fsync each", stats.rounds),
            ("chronik_wal_appends", "Appends committed", stats.appends),
            ("chronik_wal_journal_bytes", "Bytes written to the journal, padding included", stats.journalled_bytes),
            (
                "chronik_wal_direct_sync_bytes",
                "Bytes made durable in their segment, without the journal",
                stats.directly_synced_bytes,
            ),
            ("chronik_wal_refused_appends", "Appends refused because the disk was full", stats.refused),
            ("chronik_wal_background_syncs", "Passes that synced segments in the background", stats.sync_passes),
        ];
        for (name, help, value) in counters {
            counter(encoder, (name, help), value as f64)?;
        }
        let queue = ("chronik_wal_queue_bytes", "Bytes admitted and not yet committed");
        gauge(encoder, queue, stats.queue_bytes as f64)?;
        let full = ("chronik_wal_disk_full", "1 while appends are refused because the disk is full");
        gauge(encoder, full, f64::from(u8::from(self.0.is_full())))?;
        let fsyncs = ("chronik_wal_fsync_seconds", "Time of the journal's fsyncs");
        histogram(encoder, fsyncs, &FSYNC_BUCKETS_US, &stats.fsyncs, stats.fsync_us)
    }
}

/// Reads the metadata plane's counters.
pub(super) struct RaftCollector(Arc<RaftNode>);

impl RaftCollector {
    pub(super) fn new(raft: &Arc<RaftNode>) -> Self {
        Self(raft.clone())
    }
}

impl fmt::Debug for RaftCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RaftCollector")
    }
}

impl Collector for RaftCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.stats();
        let encoder = &mut encoder;
        gauge(encoder, ("chronik_raft_term", "The metadata plane's term"), stats.term() as f64)?;
        let applied = ("chronik_raft_applied_index", "Index of the last metadata command applied");
        gauge(encoder, applied, stats.applied() as f64)?;
        counter(encoder, ("chronik_raft_snapshots", "Metadata snapshots written"), stats.snapshots() as f64)?;
        let commits = ("chronik_raft_commit_seconds", "Time of metadata commands from proposal to apply");
        histogram(encoder, commits, &COMMIT_BUCKETS_US, &stats.commit_buckets(), stats.commit_us())
    }
}
