//! Who a certificate belongs to: a URI among its subject alternative names, `chronik://CLUSTER/node/ID` for a node and
//! `chronik://CLUSTER/operator` for the operator. Host names play no part: a node is who it is wherever it runs.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::io::net::PeerIdentity;

const SCHEME: &str = "chronik://";

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoIdentity {
    /// No X.509.
    #[error("the certificate can't be read: {0}")]
    Unreadable(String),
    /// None of its names is of the form.
    #[error("the certificate has no name of the form {SCHEME}CLUSTER/node/ID or {SCHEME}CLUSTER/operator")]
    Missing,
    /// More than one is: it could be either.
    #[error("the certificate has more than one {SCHEME} name")]
    Ambiguous,
    /// One that says `chronik://`, and then something else.
    #[error("the certificate's name {0} is not of the form {SCHEME}CLUSTER/node/ID or {SCHEME}CLUSTER/operator")]
    Malformed(String),
}

/// Reads the name off a certificate. It is worth what its signatures are: those were checked before.
pub(super) fn identity(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, NoIdentity> {
    let unreadable = |why: &dyn fmt::Display| NoIdentity::Unreadable(why.to_string());
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|why| unreadable(&why))?;
    let names = certificate.subject_alternative_name().map_err(|why| unreadable(&why))?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let mut ours = uris.filter(|uri| uri.starts_with(SCHEME));
    let uri = ours.next().ok_or(NoIdentity::Missing)?;
    if ours.next().is_some() {
        return Err(NoIdentity::Ambiguous);
    }
    parse(uri).ok_or_else(|| NoIdentity::Malformed(uri.to_owned()))
}

fn parse(uri: &str) -> Option<PeerIdentity> {
    let mut parts = uri.strip_prefix(SCHEME)?.split('/');
    let (cluster, kind, id, end) = (parts.next()?, parts.next()?, parts.next(), parts.next());
    if cluster.is_empty() || end.is_some() {
        return None;
    }
    let node = match (kind, id) {
        ("operator", None) => None,
        // One way to write each number: no sign, no zero in front.
        ("node", Some(id)) => Some(id.parse::<i32>().ok().filter(|node| *node >= 0 && node.to_string() == id)?),
        _ => return None,
    };
    Some(PeerIdentity { cluster: cluster.to_owned(), node })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_and_operators() {
        let name = |cluster: &str, node| Some(PeerIdentity { cluster: cluster.to_owned(), node });
        for (uri, expected) in [
            ("chronik://c1/node/3", name("c1", Some(3))),
            ("chronik://c1/node/0", name("c1", Some(0))),
            ("chronik://c1/operator", name("c1", None)),
            ("chronik://c1/node/-1", None),
            ("chronik://c1/node/+1", None),
            ("chronik://c1/node/01", None),
            ("chronik://c1/node/2147483648", None),
            ("chronik://c1/node", None),
            ("chronik://c1/node/3/", None),
            ("chronik://c1/operator/3", None),
            ("chronik:///node/3", None),
            ("chronik://c1/admin", None),
        ] {
            assert_eq!(parse(uri), expected, "{uri}");
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert!(matches!(identity(&CertificateDer::from_slice(b"nonsense")), Err(NoIdentity::Unreadable(_))));
    }
}
