//! What the node asks of the operating system: signals, file descriptors, small pages.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// File descriptors that are left for connections and everything that is no log file.
const KEPT_FOR_OTHERS: u64 = 4096;
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

/// How many log files may stay open below the limit of this process.
pub(super) fn files_to_keep_open() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = limit.saturating_sub(KEPT_FOR_OTHERS).max(limit / 4);
    left.min(MOST_LOG_FILES) as usize
}
