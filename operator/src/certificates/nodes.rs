//! The certificates of nodes and of the operator: those that are good stay as they are.

use jiff::Timestamp;

use super::authority::Authorities;
use super::issue::{self, CertificateError, Pair, Subject};
use super::{CA, CERTIFICATE, Data, KEY, host_name};

/// One year.
const LIFETIME_SECONDS: i64 = 365 * 24 * 3600;

/// A certificate for a subject: the one that there is, if it is this subject's, of the present authority, and not due.
fn renewed(
    authorities: &Authorities,
    subject: &Subject,
    found: Option<Pair>,
    now: Timestamp,
) -> Result<Pair, CertificateError> {
    let issuer = authorities.issuer();
    let issued_by = issue::read(&issuer.certificate).map(|certificate| certificate.subject);
    let good = |pair: &Pair| {
        let content = issue::read(&pair.certificate);
        content.is_some_and(|it| {
            it.uris == [subject.uri.clone()] && Some(&it.issuer) == issued_by.as_ref() && !it.is_due(now)
        })
    };
    match found.filter(good) {
        Some(pair) => Ok(pair),
        None => issue::signed(&issuer, subject, now, LIFETIME_SECONDS),
    }
}

fn found(data: Option<&Data>, certificate: &str, key: &str) -> Option<Pair> {
    let data = data?;
    Some(Pair { certificate: data.get(certificate)?.clone(), key: data.get(key)?.clone() })
}

/// What the Secret of a pool should hold: for each pod its certificate and key under its name, and who is trusted.
pub fn node_certificates(
    authorities: &Authorities,
    cluster_id: &str,
    pods: &[(String, i32)],
    data: Option<&Data>,
    now: Timestamp,
) -> Result<Data, CertificateError> {
    let mut wanted = Data::from([(CA.to_owned(), authorities.trusted())]);
    for (pod, node) in pods {
        let (certificate, key) = (format!("{pod}.crt"), format!("{pod}.key"));
        let subject =
            Subject { uri: format!("chronik://{cluster_id}/node/{node}"), host: Some(host_name(cluster_id, *node)) };
        let pair = renewed(authorities, &subject, found(data, &certificate, &key), now)?;
        wanted.insert(certificate, pair.certificate);
        wanted.insert(key, pair.key);
    }
    Ok(wanted)
}

/// What the Secret of the operator should hold.
pub fn operator_certificate(
    authorities: &Authorities,
    cluster_id: &str,
    data: Option<&Data>,
    now: Timestamp,
) -> Result<Data, CertificateError> {
    let subject = Subject { uri: format!("chronik://{cluster_id}/operator"), host: None };
    let pair = renewed(authorities, &subject, found(data, CERTIFICATE, KEY), now)?;
    Ok(Data::from([
        (CA.to_owned(), authorities.trusted()),
        (CERTIFICATE.to_owned(), pair.certificate),
        (KEY.to_owned(), pair.key),
    ]))
}
