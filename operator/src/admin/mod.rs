//! The admin service of the brokers, as the operator uses it: the client of the broker's own `admin.proto`.
//!
//! Reading order: [`proto`] (the messages), [`links`] (a connection to each pod, both ends proven by certificates), [`view`]
//! (answers as the lifecycle sees them, pure).

mod links;
pub mod proto;
mod view;

pub use links::{Answers, Credentials, Links, NodeAddress};
pub(crate) use links::{text, written};
pub use view::{brokers, report};
