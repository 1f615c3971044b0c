//! What a commit costs the machine's disk.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

use super::*;
use crate::io::disk::real::RealDisk;

/// Bytes that this thread has caused to be written to a disk; `None` where the kernel doesn't count.
fn written() -> Option<u64> {
    let counters = fs::read_to_string("/proc/thread-self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

fn takes_direct_writes(folder: &Path) -> bool {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
    options.open(folder.join("probe")).is_ok()
}

#[test]
fn a_small_commit_writes_one_block_and_not_the_page_caches_unit() {
    const COMMITS: u64 = 200;
    const APPEND: u64 = 400;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (Some(_), true) = (written(), takes_direct_writes(folder.path())) else {
        eprintln!("skipped: no direct I/O or no counters here");
        return;
    };
    let options = WalOptions { journal_file_bytes: 8 << 20, direct_sync_bytes: 256 << 10, ..options() };
    let (wal, mut stepper) =
        GroupCommitWal::open_stepped(Arc::new(RealDisk), folder.path().join("wal/__commit"), options).expect("opened");
    let probe = Arc::new(Probe::default());
    let listener: Weak<dyn FlushListener> = Arc::downgrade(&(probe.clone() as Arc<dyn FlushListener>));
    let file = wal.file(folder.path().join("wal/topic/0/0.log"), listener);
    let before = (written().expect("counted"), wal.stats().journalled_bytes);
    for token in 0..COMMITS {
        append(&wal, &file, token * APPEND, &[1; APPEND as usize], token);
        while stepper.commit().expect("committed") {}
    }
    let journalled = wal.stats().journalled_bytes - before.1;
    let to_disk = written().expect("counted") - before.0;
    assert_eq!((probe.told().flushed.len() as u64, journalled), (COMMITS, COMMITS * 4096));
    // Beside the journal: the file itself, through the page cache.
    let rest = 1 << 20;
    assert!(
        (journalled..journalled + rest).contains(&to_disk),
        "{COMMITS} commits of {APPEND} bytes put {journalled} bytes in the journal and {to_disk} on the disk"
    );
}
