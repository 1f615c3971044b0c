//! The seam to the world: disk and clock, real or simulated.

pub mod clock;
pub mod disk;
