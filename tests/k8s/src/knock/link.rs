//! A caller's connections: with a certificate, under TLS without one, or plaintext. Whoever answers is talked to: what is
//! asked is whether the caller is let in, and a certificate of another authority must reach the one who refuses it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use chronik_broker::io::net::real::RealNetwork;
use chronik_broker::io::net::{Connecting, Connection, Listener, Network};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_rustls::TlsConnector;

/// The caller's end. It only dials.
pub(super) struct Link(Option<Arc<ClientConfig>>);

impl Link {
    /// With the `tls.crt` and `tls.key` in `dir`.
    pub(super) fn open(dir: Option<&Path>, plaintext: bool) -> Result<Self, String> {
        if plaintext {
            return Ok(Self(None));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| why.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match dir {
            None => config.with_no_client_auth(),
            Some(dir) => {
                let chain = CertificateDer::pem_file_iter(dir.join("tls.crt")).and_then(Iterator::collect);
                let chain: Vec<_> = chain.map_err(|why| format!("tls.crt: {why}"))?;
                let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).map_err(|why| format!("tls.key: {why}"))?;
                config.with_client_auth_cert(chain, key).map_err(|why| why.to_string())?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Self(Some(Arc::new(config))))
    }
}

impl Network for Link {
    fn listen<'a>(&'a self, _: &'a str) -> Connecting<'a, Box<dyn Listener>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::Unsupported.into())))
    }

    fn dial<'a>(&'a self, address: &'a str) -> Connecting<'a, Connection> {
        Box::pin(async move {
            let connection = RealNetwork.dial(address).await?;
            let Some(config) = &self.0 else { return Ok(connection) };
            let name = ServerName::IpAddress(connection.peer.ip().into());
            let stream = TlsConnector::from(Arc::clone(config)).connect(name, connection.stream).await?;
            Ok(Connection { stream: Box::new(stream), peer: connection.peer, identity: None })
        })
    }
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
