//! What is decided in which situation: tables, then random situations.

mod fill;
mod fixture;
mod random;
mod roll;
mod scale;
mod volumes;
mod voters;
