//! The memory of Fetch responses from the moment their records are read until they are sent, shared by all connections.
//!
//! Whoever has records has reserved them. Who has none waits in line for its first; who has some takes what there is and
//! never waits, so reservations do not wait for each other. As memory runs low, each fetch gets less: many short answers
//! instead of a few long ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All responses of a node: twice what one may have (`fetch.max.bytes`), and a bit.
const RESPONSE_BYTES: usize = 128 << 20;
/// Read at once: holds a batch of the default `max.message.bytes`, and is no long delay for other connections.
pub const STEP: usize = (1 << 20) + (64 << 10);

/// The memory of a node's Fetch responses.
#[derive(Debug, Clone)]
pub struct ResponseMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: Arc<Semaphore>,
    capacity: usize,
    waiting: AtomicUsize,
}

impl Default for ResponseMemory {
    fn default() -> Self {
        Self::new(RESPONSE_BYTES)
    }
}

impl ResponseMemory {
    /// So many bytes.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared { bytes: Arc::new(Semaphore::new(capacity)), capacity, waiting: AtomicUsize::new(0) }))
    }

    /// A response without records.
    pub fn response(&self) -> Held {
        Held { memory: self.clone(), permit: None, used: 0 }
    }

    /// Bytes that nobody has reserved.
    pub fn available(&self) -> usize {
        self.0.bytes.available_permits()
    }
}

/// What one response has reserved; given back when dropped.
#[derive(Debug)]
pub struct Held {
    memory: ResponseMemory,
    permit: Option<OwnedSemaphorePermit>,
    used: usize,
}

impl Held {
    fn reserved(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    fn take(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
    }

    /// How many of `wanted` bytes, at most a step, may be read now. The first bytes are waited for.
    pub async fn room(&mut self, wanted: usize) -> usize {
        let wanted = wanted.min(STEP);
        let missing = wanted.saturating_sub(self.reserved().saturating_sub(self.used));
        if missing > 0 {
            // The second half of the memory is for the first bytes of many.
            let plenty = self.memory.available() >= self.memory.0.capacity / 2;
            if (self.used > 0 && !plenty) || !self.try_reserve(missing) {
                if self.used == 0 {
                    self.wait(wanted).await;
                }
                return wanted.min(self.reserved().saturating_sub(self.used));
            }
        }
        wanted
    }

    /// Counts bytes that were read. False: that is more than is reserved or to be had now, and they must be let go.
    #[must_use]
    pub fn add(&mut self, bytes: usize) -> bool {
        let missing = (self.used + bytes).min(self.memory.0.capacity).saturating_sub(self.reserved());
        if missing > 0 && !self.try_reserve(missing) {
            return false;
        }
        self.used += bytes;
        true
    }

    fn try_reserve(&mut self, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).expect("capacities are below 4 GiB");
        match Arc::clone(&self.memory.0.bytes).try_acquire_many_owned(bytes) {
            Ok(permit) => {
                self.take(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// Waits for memory; first come, first served. What is more than the whole takes the whole.
    ///
    /// # Panics
    /// When it holds records: who waits must not keep others waiting.
    pub async fn wait(&mut self, bytes: usize) {
        assert_eq!(self.used, 0, "a response with records does not wait for more");
        self.permit = None;
        let bytes = u32::try_from(bytes.min(self.memory.0.capacity)).expect("capacities are below 4 GiB");
        let _waiting = Waiting::new(&self.memory.0);
        let permit = Arc::clone(&self.memory.0.bytes).acquire_many_owned(bytes).await;
        self.permit = Some(permit.expect("the semaphore is open because nobody closes it"));
    }

    /// Gives back what is reserved beyond what was read.
    pub fn settle(&mut self) {
        let spare = self.reserved().saturating_sub(self.used);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(spare));
        }
    }

    /// Whether others wait for what it holds.
    pub fn is_contended(&self) -> bool {
        self.memory.0.waiting.load(Ordering::Relaxed) > 0
    }
}

/// One who waits, as long as it does.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    async fn read(memory: &ResponseMemory, bytes: usize) -> Held {
        let mut held = memory.response();
        assert_eq!(held.room(bytes).await, bytes.min(STEP));
        assert!(held.add(bytes));
        held.settle();
        held
    }

    #[tokio::test]
    async fn what_was_read_is_reserved_until_it_is_dropped() {
        let memory = ResponseMemory::new(10 * STEP);
        let mut held = memory.response();
        assert_eq!(held.room(usize::MAX).await, STEP);
        assert!(held.add(100));
        held.settle();
        assert_eq!(memory.available(), 10 * STEP - 100);
        drop(held);
        assert_eq!(memory.available(), 10 * STEP);
    }

    #[tokio::test]
    async fn the_second_half_is_for_the_first_bytes_of_many() {
        let memory = ResponseMemory::new(4 * STEP);
        let mut greedy = memory.response();
        while greedy.room(STEP).await == STEP {
            assert!(greedy.add(STEP));
        }
        assert_eq!(memory.available(), STEP);
        let _other = read(&memory, STEP).await;
        assert_eq!(greedy.room(STEP).await, 0, "who has some does not wait");
    }

    #[tokio::test]
    async fn who_has_nothing_waits_in_line() {
        let memory = ResponseMemory::new(STEP);
        let holder = read(&memory, STEP).await;
        let (mut first, mut second) = (memory.response(), memory.response());
        let mut large = Box::pin(first.room(STEP));
        let mut small = Box::pin(second.room(1));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(small.as_mut().now_or_never().is_none());
        assert!(holder.is_contended());
        drop(holder);
        assert_eq!(large.as_mut().now_or_never(), Some(STEP));
        assert!(small.as_mut().now_or_never().is_none(), "the first has all");
        drop(large);
        drop(first);
        assert_eq!(small.await, 1);
        assert!(!second.is_contended());
    }

    #[tokio::test]
    async fn one_who_gives_up_waiting_leaves_nothing_behind() {
        let memory = ResponseMemory::new(STEP);
        let holder = read(&memory, 1).await;
        let mut impatient = memory.response();
        assert!(impatient.room(STEP).now_or_never().is_none());
        assert!(!holder.is_contended());
        drop((impatient, holder));
        assert_eq!(memory.available(), STEP);
    }

    #[tokio::test]
    async fn a_batch_beyond_the_whole_waits_until_it_is_alone() {
        let memory = ResponseMemory::new(2 * STEP);
        let holder = read(&memory, STEP).await;
        let mut large = memory.response();
        assert_eq!(large.room(STEP).await, STEP);
        assert!(!large.add(5 * STEP));
        assert!(large.wait(5 * STEP).now_or_never().is_none());
        drop(holder);
        large.wait(5 * STEP).await;
        assert!(large.add(5 * STEP));
        assert_eq!(memory.available(), 0);
        large.settle();
        assert_eq!(memory.available(), 0);
        drop(large);
        assert_eq!(memory.available(), 2 * STEP);
    }
}
