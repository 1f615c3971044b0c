//! What the tests share: starting, killing and talking to real `chronik` processes.

pub mod certificates;
pub mod clients;
pub mod cluster;
pub mod load;
pub mod network;
pub mod process;
pub mod small_disk;
pub mod tap;
pub mod wire;

pub use cluster::Cluster;
pub use process::{Finished, Node, NodeBuilder, chronik, chronik_in};

/// Says, past the capture of a test's output, that a test can't run here.
pub fn skip(why: &str) {
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Without a standard error nobody can be told.
    let _ = writeln!(std::io::stderr(), "skipped ({count}): {test}: {why}");
}
