//! Authorities and certificates for the links between nodes.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// When keys can't be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority can be made"))
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Writes a key and a certificate of this name into a folder, and whom it trusts.
    ///
    /// # Panics
    /// When the folder can't be written.
    pub fn issue(&self, dir: &Path, uri: &str, trusted: &str) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI is ASCII"))];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("an authority signs");
        std::fs::create_dir_all(dir).expect("a folder can be made");
        let files = [("ca.crt", trusted.to_owned()), ("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())];
        for (name, content) in files {
            replace(dir, name, &content);
        }
    }
}

/// Puts a file of a folder in place whole.
///
/// # Panics
/// When the folder can't be written.
pub fn replace(dir: &Path, name: &str, content: &str) {
    let new = dir.join(format!(".{name}.new"));
    std::fs::write(&new, content).expect("the folder can be written");
    std::fs::rename(&new, dir.join(name)).expect("a file can be renamed");
}
