//! A node's certificate, its key, and whom it trusts: three files in a folder, as Kubernetes mounts a TLS secret.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, PeerMisbehaved, RootCertStore, ServerConfig, SignatureScheme,
};

use super::identity::{NoIdentity, identity};
use crate::io::net::PeerIdentity;

/// The certificate authorities that sign nodes and operators; two, while one replaces the other.
const CA: &str = "ca.crt";
/// This node's certificate, and those between it and the authority.
const CERTIFICATE: &str = "tls.crt";
/// Its key.
const KEY: &str = "tls.key";
/// What gRPC asks for (RFC 7301).
const ALPN: &[u8] = b"h2";

/// Why a folder holds no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file can't be read.
    #[error("read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it must.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate does not say whose it is.
    #[error("{}: {source}", path.display())]
    Identity {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: NoIdentity,
    },
}

/// The files as they are: to notice that they change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Files {
    dir: PathBuf,
    ca: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    /// Reads them.
    pub(super) async fn read(dir: &Path) -> Result<Self, CredentialsError> {
        let (ca, certificate, key) =
            tokio::try_join!(read(dir.join(CA)), read(dir.join(CERTIFICATE)), read(dir.join(KEY)))?;
        Ok(Self { dir: dir.to_owned(), ca, certificate, key })
    }
}

async fn read(path: PathBuf) -> Result<Vec<u8>, CredentialsError> {
    tokio::fs::read(&path).await.map_err(|source| CredentialsError::Read { path, source })
}

/// What both ends of a connection are configured with.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) files: Files,
    pub(super) identity: PeerIdentity,
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

impl Credentials {
    /// Checks and takes what the files hold. A session is never resumed: who is trusted may have changed.
    pub(super) fn of(files: Files) -> Result<Self, CredentialsError> {
        let path = |name| files.dir.join(name);
        let bad = |name| move |why: &dyn ToString| CredentialsError::Content { path: path(name), why: why.to_string() };
        let chain = certificates(&files.certificate).map_err(|why| bad(CERTIFICATE)(&why))?;
        let identity =
            identity(&chain[0]).map_err(|source| CredentialsError::Identity { path: path(CERTIFICATE), source })?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|why| bad(KEY)(&why))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&files.ca).map_err(|why| bad(CA)(&why))? {
            roots.add(authority).map_err(|why| bad(CA)(&why))?;
        }
        let (provider, roots) = (Arc::new(ring::default_provider()), Arc::new(roots));

        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = clients.build().map_err(|why| bad(CA)(&why))?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.clone(), key.clone_key());
        let mut server = server.map_err(|why| bad(KEY)(&why))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;

        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(SignedByAuthority { roots, provider }))
            .with_client_auth_cert(chain, key);
        let mut client = client.map_err(|why| bad(KEY)(&why))?;
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        Ok(Self { identity, client: Arc::new(client), server: Arc::new(server), files })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|why| why.to_string())?;
    if all.is_empty() {
        return Err("no certificate in it".to_owned());
    }
    Ok(all)
}

/// Checks that a server's certificate was signed by an authority. Not its host names: what counts is the identity in
/// it, and that is checked by whoever knows whom it dialled.
#[derive(Debug)]
struct SignedByAuthority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SignedByAuthority {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
