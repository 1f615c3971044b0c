//! A node whose links are protected: who administers it shows a certificate of its cluster.

use std::path::Path;

use chronik_tests::{Node, NodeBuilder, chronik};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes the credentials of who `uri` names into a folder.
    fn issue(&self, folder: &Path, uri: &str) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::create_dir_all(folder).unwrap();
        for (name, content) in [("ca.crt", self.0.pem()), ("tls.crt", certificate.pem()), ("tls.key", key.serialize_pem())] {
            std::fs::write(folder.join(name), content).unwrap();
        }
    }
}

fn nodes(node: &Node, tls: Option<&Path>) -> chronik_tests::Finished {
    let admin = node.admin();
    let mut arguments = vec!["cluster", "nodes", "--admin", &admin];
    let folder = tls.map(|folder| folder.to_string_lossy().into_owned());
    if let Some(folder) = &folder {
        arguments.extend(["--tls-dir", folder]);
    }
    chronik(&arguments, b"")
}

#[test]
fn only_who_has_a_certificate_of_the_cluster_administers_it() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let of = |name: &str| folder.path().join(name);
    ours.issue(&of("node"), "chronik://protected/node/0");
    ours.issue(&of("operator"), "chronik://protected/operator");
    theirs.issue(&of("stranger"), "chronik://protected/operator");
    let node = NodeBuilder::default()
        .set("cluster_id", "protected")
        .set("tls_dir", &of("node").to_string_lossy())
        .start();

    for name in ["node", "operator"] {
        let listed = nodes(&node, Some(&of(name))).ok();
        assert!(listed.contains("127.0.0.1"), "{name}: {listed}");
    }
    for (who, tls) in [("nobody", None), ("a stranger", Some(of("stranger")))] {
        let refused = nodes(&node, tls.as_deref());
        assert_eq!(refused.code, 1, "{who}: {refused:?}");
    }
    let nothing = nodes(&node, Some(&of("nowhere")));
    assert_eq!(nothing.code, 2, "{nothing:?}");
    assert!(nothing.err.contains("--tls-dir") && nothing.err.contains("nowhere"), "{nothing:?}");
}
