//! The `chronik` command line.

fn main() {}
