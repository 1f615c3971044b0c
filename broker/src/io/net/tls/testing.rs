//! Certificates for tests.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority can be made"))
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes credentials with these names into a folder, which trust this authority.
    pub(crate) fn issue(&self, dir: &Path, uris: &[&str]) {
        let name = |uri: &&str| SanType::URI((*uri).try_into().expect("a URI is ASCII"));
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(name).collect();
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("an authority signs");
        write(dir, "ca.crt", &self.pem());
        write(dir, "tls.crt", &certificate.pem());
        write(dir, "tls.key", &key.serialize_pem());
    }
}

/// Writes a file of a folder.
pub(crate) fn write(dir: &Path, name: &str, content: &str) {
    std::fs::write(dir.join(name), content).expect("a temporary folder can be written");
}
