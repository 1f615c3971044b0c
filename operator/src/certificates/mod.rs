//! Who is who: an authority for each cluster, a certificate for each node, one for the operator.
//!
//! A certificate's name holds the cluster's id and the node's, so that a broker's identity on its links is proven, not
//! claimed. All of it lives in Secrets. Nothing here does I/O: it is given what the Secrets hold and the time, and says what
//! they should hold. Reading order: [`issue`] (one certificate), [`authority`] (the authority and its succession), [`nodes`].

mod authority;
mod issue;
mod nodes;
#[cfg(test)]
mod tests;

pub use authority::{Authorities, Phase, ROTATE};
pub use issue::{CertificateError, host_name};
pub use nodes::{node_certificates, operator_certificate};

/// What a Secret holds.
pub type Data = std::collections::BTreeMap<String, Vec<u8>>;

/// The authorities that are trusted.
pub const CA: &str = "ca.crt";
/// A certificate, and those between it and the authority.
pub const CERTIFICATE: &str = "tls.crt";
/// A key.
pub const KEY: &str = "tls.key";
