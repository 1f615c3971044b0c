//! The seam to the world: disk, clock and network, real or simulated.

pub mod clock;
pub mod disk;
pub mod net;
