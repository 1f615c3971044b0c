//! The seam to the world: disk, clock, network and chance, real or simulated; and threads that may wait for them.

mod blocking;
pub mod clock;
pub mod disk;
pub mod flood;
pub mod grpc;
pub mod net;
pub mod rng;

#[cfg(test)]
pub(crate) use blocking::simulated;
pub use blocking::{blocking, threads};
