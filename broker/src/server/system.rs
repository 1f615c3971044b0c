//! What the node asks of the operating system: signals, file descriptors, small pages.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// File descriptors for what is neither a log file nor a Kafka connection: HTTP, journals, metadata, work on logs.
const KEPT_FOR_OTHERS: u64 = 512;
/// A limit below this is worth a warning.
const LOW_FILE_LIMIT: u64 = 8192;
/// Log files kept open at most.
const MOST_LOG_FILES: u64 = 16_384;

/// The signals that ask a node to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and names it. Can be dropped without loss.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Lets the process open as many files as it may: partitions and connections need many.
pub(super) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(why) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%why, limit = limit.current, "the limit of open files can't be raised");
    }
}

/// Keeps memory in small pages: the kernel makes a huge page of 2 MiB in which one small page is used, and so lets a
/// node that serves thousands of connections grow to several times what it has allocated.
pub(super) fn keep_pages_small() {
    if let Err(why) = disable_transparent_huge_pages(true) {
        tracing::debug!(%why, "huge pages can't be turned off");
    }
}

/// How the file descriptors of this process are shared out: no kind takes another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileBudget {
    /// Log files that may stay open.
    pub(super) log_files: usize,
    /// Kafka connections that may be open.
    pub(super) connections: usize,
}

impl FileBudget {
    /// Below the limit of this process; says so when that is low.
    pub(super) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let budget = Self::of(limit);
        if limit < LOW_FILE_LIMIT {
            tracing::warn!(
                limit,
                connections = budget.connections,
                log_files = budget.log_files,
                "the limit of open files is low: raise it (ulimit -n, LimitNOFILE) to serve more connections at once"
            );
        }
        budget
    }

    fn of(limit: u64) -> Self {
        let shared = limit - KEPT_FOR_OTHERS.min(limit / 4);
        // A log file that is closed can be opened again; a connection that is refused is a client without service.
        let log_files = (shared / 3).min(MOST_LOG_FILES);
        let connections = usize::try_from(shared - log_files).unwrap_or(usize::MAX);
        Self { log_files: log_files as usize, connections }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_files_connections_and_all_else_stay_below_the_limit_together() {
        for (limit, log_files, connections) in [
            (0, 0, 0),
            (64, 16, 32),
            (400, 100, 200),
            (1024, 256, 512),
            (20_000, 6496, 12_992),
            (1 << 20, 16_384, 1_031_680),
        ] {
            assert_eq!(FileBudget::of(limit), FileBudget { log_files, connections }, "{limit}");
        }
    }
}
