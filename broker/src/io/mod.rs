//! The seam to the world: disk and clock, real or simulated; and threads that may wait for them.

mod blocking;
pub mod clock;
pub mod disk;

pub use blocking::blocking;
