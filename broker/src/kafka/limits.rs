//! What one client, one address and all of them together may take.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
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
    pub max_queued_bytes: usize,
    /// A request must arrive, and responses must be taken, within this and what `min_bytes_per_second` adds.
    pub transfer_grace: Duration,
    /// The slowest transfer that is put up with.
    pub min_bytes_per_second: usize,
    /// How long a stopping listener waits for requests under way.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    /// Kafka's defaults where Kafka has the setting. Connections are bounded by the process's file descriptors too: an
    /// accept that finds none waits.
    fn default() -> Self {
        Self {
            max_connections: usize::MAX,
            max_connections_per_ip: usize::MAX,
            max_idle: Some(Duration::from_mins(10)),
            max_request_bytes: 100 << 20,
            max_queued_bytes: 128 << 20,
            transfer_grace: Duration::from_secs(30),
            min_bytes_per_second: 256 << 10,
            shutdown_grace: Duration::from_secs(10),
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

    /// How long a transfer of so many bytes may take.
    pub fn transfer_time(&self, bytes: usize) -> Duration {
        self.transfer_grace + Duration::from_secs((bytes / self.min_bytes_per_second) as u64)
    }
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// `max.connections`.
    #[error("max.connections is reached")]
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

/// The memory of requests that are being read or answered, shared by all connections.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    bytes: Arc<Semaphore>,
    capacity: u32,
}

/// A request's part of `RequestMemory`, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    _bytes: OwnedSemaphorePermit,
}

impl RequestMemory {
    /// `capacity` bytes, 4 GiB at most.
    pub fn new(capacity: usize) -> Self {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self { bytes: Arc::new(Semaphore::new(capacity as usize)), capacity }
    }

    /// A request larger than the whole takes the whole: it waits until it is alone.
    fn part(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity)
    }

    /// Reserves at once or not.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(self.part(bytes)).ok()?;
        Some(Reservation { _bytes: permit })
    }

    /// Reserves when there is room; first come, first served.
    pub fn reserve(&self, bytes: usize) -> impl Future<Output = Reservation> + Send + 'static + use<> {
        let acquired = Arc::clone(&self.bytes).acquire_many_owned(self.part(bytes));
        async move { Reservation { _bytes: acquired.await.expect("the semaphore is open because nobody closes it") } }
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
        let memory = RequestMemory::new(100);
        let small = memory.try_reserve(10).unwrap();
        assert!(memory.try_reserve(1000).is_none());
        let large = tokio::spawn(memory.reserve(1000));
        drop(small);
        let large = large.await.unwrap();
        assert!(memory.try_reserve(1).is_none());
        drop(large);
        assert!(memory.try_reserve(100).is_some());
    }
}
