//! One certificate: made, read, judged.

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// Clocks that are a little apart must not refuse a new certificate.
const SKEW_SECONDS: i64 = 300;

/// Why a certificate can't be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Made.
    #[error("make the certificate of {subject}: {source}")]
    Make {
        /// Whose.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) uris: Vec<String>,
}

/// The host name of a node in its certificate. It is no name of DNS: it says which node a connection must reach.
pub fn host_name(cluster_id: &str, node: i32) -> String {
    format!("node-{node}.{cluster_id}.chronik.internal")
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn params(subject: &str, now: Timestamp, lifetime_seconds: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject);
    params.distinguished_name = name;
    params.not_before = moment(now.as_second() - SKEW_SECONDS);
    params.not_after = moment(now.as_second() + lifetime_seconds);
    params
}

/// A new authority.
pub(super) fn authority(subject: &str, now: Timestamp, lifetime_seconds: i64) -> Result<Pair, CertificateError> {
    let failed = |source| CertificateError::Make { subject: subject.to_owned(), source };
    let mut params = params(subject, now, lifetime_seconds);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

/// Whose certificate it is to be.
pub(super) struct Subject {
    pub(super) uri: String,
    pub(super) host: Option<String>,
}

/// A certificate that an authority signs, for both ends of connections.
pub(super) fn signed(
    authority: &Pair,
    subject: &Subject,
    now: Timestamp,
    lifetime_seconds: i64,
) -> Result<Pair, CertificateError> {
    let failed = |source| CertificateError::Make { subject: subject.uri.clone(), source };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let signer = KeyPair::from_pem(&text(&authority.key)).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&text(&authority.certificate), signer).map_err(failed)?;
    let mut params = params("chronik", now, lifetime_seconds);
    params.subject_alt_names.push(SanType::URI(subject.uri.as_str().try_into().map_err(failed)?));
    if let Some(host) = &subject.host {
        params.subject_alt_names.push(SanType::DnsName(host.as_str().try_into().map_err(failed)?));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem().into_bytes(), key: key.serialize_pem().into_bytes() })
}

/// Reads what a certificate says; `None` when it is none.
pub(super) fn read(pem: &[u8]) -> Option<Content> {
    let (_, pem) = parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    Some(Content {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        uris: uris.collect(),
    })
}

impl Content {
    /// Whether less than a third of its time is left.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        let lifetime = self.not_after - self.not_before;
        self.not_after - now.as_second() < lifetime / 3
    }
}
