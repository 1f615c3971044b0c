//! Connections over real sockets, with a toy service behind them.

mod bad_input;
mod bounds;
mod order;
mod toy;
