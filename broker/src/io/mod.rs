//! The seam to the world: disk, clock and network, real or simulated; and threads that may wait for them.

mod blocking;
pub mod clock;
pub mod disk;
pub mod net;

pub use blocking::blocking;
