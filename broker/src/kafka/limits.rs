//! What one client, one address and all of them together may take.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::BrokerSettings;

/// The bounds of a listener and its connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `max.connections`.
    pub max_connections: usize,
    /// `max.connections.per.ip`.
    pub max_connections_per_ip: usize,
    /// `connections.max.idle.ms`: a connection that asks nothing for so long is closed. `None`: never.
    pub max_idle: Option<Duration>,
    /// `socket.request.max.bytes`: the longest request.
    pub max_request_bytes: usize,
    /// All requests that are being read or answered, together (as Kafka's `queued.max.request.bytes`, but bounded).
    /// Those above `LARGE_REQUEST` have as much as one of `max_request_bytes` takes for themselves.
    pub max_queued_bytes: usize,
    /// A request must arrive, and responses must be taken, within this and what `min_bytes_per_second` adds.
    pub transfer_grace: Duration,
    /// The same for a request that has arrived in part, while others wait for the memory that it was promised.
    pub contended_grace: Duration,
    /// The same for responses that hold memory, while others wait for that.
    pub contended_reader_grace: Duration,
    /// The slowest transfer that is put up with.
    pub min_bytes_per_second: usize,
    /// How long a stopping listener waits for requests under way.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    /// Kafka's defaults where Kafka has the setting.
    fn default() -> Self {
        Self {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_idle: Some(Duration::from_mins(10)),
            max_request_bytes: 100 << 20,
            max_queued_bytes: 128 << 20,
            transfer_grace: Duration::from_secs(30),
            contended_grace: Duration::from_secs(1),
            contended_reader_grace: Duration::from_secs(2),
            min_bytes_per_second: 64 << 10,
            shutdown_grace: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// As the node's settings say.
    pub fn of(settings: &BrokerSettings) -> Self {
        Self {
            max_connections: usize::try_from(settings.max_connections).unwrap_or(0),
            max_connections_per_ip: usize::try_from(settings.max_connections_per_ip).unwrap_or(0),
            max_idle: u64::try_from(settings.connections_max_idle_ms).ok().map(Duration::from_millis),
            max_request_bytes: usize::try_from(settings.socket_request_max_bytes).unwrap_or(0),
            ..Self::default()
        }
    }

    /// With no more connections than there are file descriptors for.
    #[must_use]
    pub fn within(self, connections: usize) -> Self {
        Self { max_connections: self.max_connections.min(connections), ..self }
    }

    /// How long a transfer of so many bytes may take.
    pub fn transfer_time(&self, bytes: usize) -> Duration {
        self.transfer_grace + self.slowest(bytes)
    }

    /// How long a request may have taken of which so many bytes have arrived, while others wait for its memory.
    pub fn contended_time(&self, arrived: usize) -> Duration {
        self.contended_grace + self.slowest(arrived)
    }

    /// How long a response may have taken of which so many bytes were taken, while others wait for its memory.
    pub fn contended_reader_time(&self, taken: usize) -> Duration {
        self.contended_reader_grace + self.slowest(taken)
    }

    fn slowest(&self, bytes: usize) -> Duration {
        Duration::from_millis((bytes as u64).saturating_mul(1000) / self.min_bytes_per_second as u64)
    }
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// `max.connections`.
    #[error("max.connections, or the limit of open files, is reached")]
    TooMany,
    /// `max.connections.per.ip`.
    #[error("max.connections.per.ip is reached")]
    TooManyFromAddress,
}

/// Counts open connections.
#[derive(Debug)]
pub struct Admissions {
    max: usize,
    max_per_ip: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Admissions {
    /// None open.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max: limits.max_connections,
            max_per_ip: limits.max_connections_per_ip,
            open: Mutex::default(),
        })
    }

    /// Lets a connection in until the ticket is dropped.
    pub fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Ticket, Rejected> {
        let mut open = self.open.lock();
        if open.total >= self.max {
            return Err(Rejected::TooMany);
        }
        let from_ip = open.by_ip.get(&ip).copied().unwrap_or(0);
        if from_ip >= self.max_per_ip {
            return Err(Rejected::TooManyFromAddress);
        }
        open.total += 1;
        open.by_ip.insert(ip, from_ip + 1);
        Ok(Ticket { admissions: Arc::clone(self), ip })
    }
}

/// An open connection's place.
#[derive(Debug)]
pub struct Ticket {
    admissions: Arc<Admissions>,
    ip: IpAddr,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admissions.open.lock();
        open.total -= 1;
        match open.by_ip.get_mut(&self.ip) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

/// Requests above this are rare, and few of them would take all memory: they wait for each other only.
const LARGE_REQUEST: usize = 4 << 20;

/// The memory of requests that are being read or answered, shared by all connections. A request reserves its length
/// when that is known: so whoever has a reservation can finish, and reservations never wait for each other.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    usual: Lane,
    large: Lane,
}

#[derive(Debug, Clone)]
struct Lane {
    bytes: Arc<Semaphore>,
    capacity: u32,
    waiting: Arc<AtomicUsize>,
}

/// A request's part of `RequestMemory`, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    _bytes: OwnedSemaphorePermit,
}

impl RequestMemory {
    /// As the limits say.
    pub fn new(limits: &Limits) -> Self {
        Self { usual: Lane::new(limits.max_queued_bytes), large: Lane::new(limits.max_request_bytes) }
    }

    fn lane(&self, bytes: usize) -> &Lane {
        if bytes > LARGE_REQUEST.min(self.usual.capacity as usize) { &self.large } else { &self.usual }
    }

    /// Reserves at once or not.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let lane = self.lane(bytes);
        let permit = Arc::clone(&lane.bytes).try_acquire_many_owned(lane.part(bytes)).ok()?;
        Some(Reservation { _bytes: permit })
    }

    /// Reserves when there is room; first come, first served.
    pub fn reserve(&self, bytes: usize) -> impl Future<Output = Reservation> + Send + 'static + use<> {
        let lane = self.lane(bytes);
        let acquired = Arc::clone(&lane.bytes).acquire_many_owned(lane.part(bytes));
        let waiting = Waiting::new(&lane.waiting);
        async move {
            let _waiting = waiting;
            Reservation { _bytes: acquired.await.expect("the semaphore is open because nobody closes it") }
        }
    }

    /// Whether others wait for what a request of so many bytes has reserved.
    pub fn is_contended(&self, bytes: usize) -> bool {
        self.lane(bytes).waiting.load(Ordering::Relaxed) > 0
    }
}

impl Lane {
    fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self { bytes: Arc::new(Semaphore::new(capacity as usize)), capacity, waiting: Arc::default() }
    }

    /// A request larger than the whole takes the whole: it waits until it is alone.
    fn part(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity)
    }
}

/// One who waits, as long as it does.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let limits = Limits { max_connections: 3, max_connections_per_ip: 2, ..Limits::default() };
        let admissions = Admissions::new(&limits);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = admissions.admit(a).unwrap();
        let _second = admissions.admit(a).unwrap();
        assert_eq!(admissions.admit(a).unwrap_err(), Rejected::TooManyFromAddress);
        let third = admissions.admit(b).unwrap();
        assert_eq!(admissions.admit(b).unwrap_err(), Rejected::TooMany);
        drop((first, third));
        assert!(admissions.admit(a).is_ok());
        assert_eq!(admissions.open.lock().by_ip.len(), 1, "an address without connections leaves nothing behind");
    }

    #[tokio::test]
    async fn a_request_larger_than_the_memory_waits_until_it_is_alone() {
        let memory = RequestMemory::new(&Limits { max_request_bytes: 200, max_queued_bytes: 100, ..Limits::default() });
        let first = memory.try_reserve(150).unwrap();
        assert!(memory.try_reserve(1000).is_none());
        assert!(!memory.is_contended(150));
        let second = tokio::spawn(memory.reserve(1000));
        assert!(memory.is_contended(150));
        drop(first);
        let second = second.await.unwrap();
        assert!(!memory.is_contended(150));
        assert!(memory.try_reserve(101).is_none());
        drop(second);
        assert!(memory.try_reserve(200).is_some());
    }

    #[test]
    fn large_requests_do_not_take_the_memory_of_the_usual_ones() {
        let memory = RequestMemory::new(&Limits::default());
        let _all = memory.try_reserve(100 << 20).unwrap();
        assert!(memory.try_reserve(LARGE_REQUEST + 1).is_none());
        assert!(memory.try_reserve(LARGE_REQUEST).is_some());
    }
}
