//! The threads that connections live on, each a runtime of one thread.
//!
//! A connection is woken once per commit round by the WAL thread. On a runtime of many threads such a wake-up goes to one
//! thread, which wakes another before it looks what there is to do; on a runtime of one thread it costs one context
//! switch, and a connection's memory stays with one core.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// The stack of a reactor's thread, bytes.
const STACK_BYTES: usize = 1 << 20;

/// One thread and its runtime.
struct Reactor {
    handle: Handle,
    /// Cloned for every connection: how many there are is how often it is shared.
    tenants: Arc<()>,
    thread: Option<JoinHandle<()>>,
}

/// Kept by a connection as long as it lives on its reactor.
#[derive(Debug)]
pub(super) struct Tenancy {
    _counted: Arc<()>,
}

/// All reactors of a listener. Dropping it ends their threads; the connections must have ended before.
pub(super) struct Reactors {
    reactors: Vec<Reactor>,
    stop: CancellationToken,
}

impl Reactors {
    /// Starts one thread for each core.
    ///
    /// # Errors
    /// The system gives no thread, or no event queue.
    pub(super) fn start() -> io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut reactors = Self { reactors: Vec::with_capacity(count), stop: CancellationToken::new() };
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let stop = reactors.stop.clone();
            let thread = std::thread::Builder::new()
                .name(format!("kafka-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || runtime.block_on(stop.cancelled()))?;
            reactors.reactors.push(Reactor { handle, tenants: Arc::new(()), thread: Some(thread) });
        }
        Ok(reactors)
    }

    /// The reactor with the fewest connections.
    pub(super) fn least_busy(&self) -> (&Handle, Tenancy) {
        let reactor = self
            .reactors
            .iter()
            .min_by_key(|reactor| Arc::strong_count(&reactor.tenants))
            .expect("there is one because every machine has a core");
        (&reactor.handle, Tenancy { _counted: Arc::clone(&reactor.tenants) })
    }
}

impl Drop for Reactors {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.reactors.iter_mut().filter_map(|reactor| reactor.thread.take()) {
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_spread_over_the_threads() {
        let reactors = Reactors::start().expect("the test's machine has threads");
        let count = reactors.reactors.len();
        let tenancies: Vec<_> = (0..3 * count).map(|_| reactors.least_busy().1).collect();
        for reactor in &reactors.reactors {
            assert_eq!(Arc::strong_count(&reactor.tenants), 1 + 3);
        }
        drop(tenancies);
        for reactor in &reactors.reactors {
            assert_eq!(Arc::strong_count(&reactor.tenants), 1);
        }
    }

    #[test]
    fn a_task_runs_on_its_reactors_thread() {
        let reactors = Reactors::start().expect("the test's machine has threads");
        let (handle, _tenancy) = reactors.least_busy();
        let (tell, told) = std::sync::mpsc::channel();
        handle.spawn(async move { tell.send(std::thread::current().name().map(str::to_owned)) });
        let name = told.recv().expect("the task runs").expect("the thread has a name");
        assert!(name.starts_with("kafka-"), "{name}");
    }
}
