//! Work that would hold up a reactor, and with it every connection that lives there: reads that wait for the disk, and
//! unpacking large batches. It is done on threads beside the reactors, little of each kind at once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::io::blocking;

/// Reads that wait for the disk at once: enough to keep an NVMe disk busy. Each has reserved its memory before.
const READS: usize = 8;

/// The two kinds of long work; neither keeps the other waiting.
#[derive(Debug)]
pub struct Offload {
    /// What waits for the disk.
    pub disk: Lane,
    /// What takes a core for long.
    pub cores: Lane,
}

impl Default for Offload {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { disk: Lane::new(READS), cores: Lane::new(cores) }
    }
}

/// So much work of one kind at once; the rest waits in line without a thread.
#[derive(Debug)]
pub struct Lane(Arc<Semaphore>);

impl Lane {
    fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }

    /// Does the work on a thread that it may hold up. Dropped before its turn, it is never begun; begun, it is finished.
    ///
    /// # Panics
    /// When the work does.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = Arc::clone(&self.0).acquire_owned().await.expect("it is open because nobody closes it");
        blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_thread_that_waits_goes_on_and_only_so_much_is_done_at_once() {
        let lane = Lane::new(1);
        let (release, released) = mpsc::channel::<()>();
        let mut first = Box::pin(lane.run(move || released.recv().is_ok()));
        assert!(first.as_mut().now_or_never().is_none(), "it is done elsewhere");
        let mut second = Box::pin(lane.run(|| 2));
        assert!(second.as_mut().now_or_never().is_none(), "it waits for its turn");
        let given_up = lane.run(|| unreachable!("nobody waits for it"));
        drop(Box::pin(given_up));
        release.send(()).expect("the work waits for it");
        assert!(first.await);
        assert_eq!(second.await, 2);
        assert_eq!(lane.0.available_permits(), 1);
    }
}
