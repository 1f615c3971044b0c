//! The links between nodes: who has no certificate of the cluster is refused on each, and authorities change under load.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chronik_k8s_tests::cluster::spec;
use chronik_k8s_tests::knock::{Answer, Answers};
use chronik_k8s_tests::{ClientPod, Cluster, LoadPod, Namespace, Operator};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair, SanType, SigningKey};
use serde_json::json;

/// A certificate and its key, PEM.
struct Pair {
    certificate: String,
    key: String,
}

/// A certificate of this name.
fn signed(authority: &Issuer<'_, impl SigningKey>, uri: &str) -> Pair {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI is ASCII"))];
    let key = KeyPair::generate().expect("a key can be made");
    let certificate = params.signed_by(&key, authority).expect("an authority signs");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// A certificate of this name by an authority that nobody knows.
fn of_a_stranger(uri: &str) -> Pair {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key can be made");
    signed(&CertifiedIssuer::self_signed(params, key).expect("an authority can be made"), uri)
}

/// What a Secret holds, by name.
fn secret(namespace: &Namespace, name: &str) -> BTreeMap<String, String> {
    let data = namespace.get("secret", name).expect("there is such a Secret")["data"].clone();
    let data: BTreeMap<String, String> = serde_json::from_value(data).expect("a Secret holds texts");
    let text =
        |value: &String| String::from_utf8(STANDARD.decode(value).expect("Secrets are base64")).expect("PEM is text");
    data.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// The certificate of a pod, as its pool's Secret holds it.
fn of_pod(cluster: &Cluster, ordinal: usize) -> Pair {
    let pool = secret(&cluster.namespace, &format!("{}-main-tls", cluster.name));
    let file = |ending| pool[&format!("{}.{ending}", cluster.pod(ordinal))].clone();
    Pair { certificate: file("crt"), key: file("key") }
}

fn all(answers: &Answers) -> [(&str, &Answer); 3] {
    [("WAL", &answers.wal), ("Raft", &answers.raft), ("admin", &answers.admin)]
}

/// A pod that says that it is node 1 of the cluster knocks at node 0, with one certificate after the other: all that differs
/// is the certificate.
#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn each_port_lets_in_whose_certificate_proves_what_they_say() {
    let operator = Operator::install();
    let namespace = operator.clusters();
    let ours = Cluster::start(&namespace, "ours", &spec(3));
    let theirs = Cluster::start(&namespace, "theirs", &spec(1));
    let id = ours.resource()["status"]["clusterId"].as_str().expect("it has an id").to_owned();
    let host = format!("{}.ours-nodes.{}.svc", ours.pod(0), namespace.name());
    let (wal, grpc) = (format!("{host}:9291"), format!("{host}:9391"));
    let at = ["--wal", &wal, "--grpc", &grpc, "--to", "0", "--cluster", &id, "--node", "1"];

    let asked =
        ClientPod::knock(&namespace, "knock-operator", &[&at[..], &["--operator"]].concat(), Some("ours-operator-tls"));
    assert!(asked.admin.let_in, "the operator's certificate is for the admin port: {asked:?}");
    assert!(!asked.wal.let_in && !asked.raft.let_in, "and for no other: {asked:?}");
    let one = asked.nodes.iter().find(|node| node.node == 1).expect("node 1 is registered");
    let epoch = one.epoch.to_string();
    let as_one = [&at[..], &["--directory", &one.directory, "--epoch", &epoch]].concat();

    let with = |name: &str, pair: &Pair| {
        let data = json!({ "tls.crt": pair.certificate, "tls.key": pair.key });
        let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
        namespace.apply(&object.to_string());
        let answers = ClientPod::knock(&namespace, name, &as_one, Some(name));
        namespace.kubectl(&["delete", "secret", name]);
        println!("{name}: {answers:?}");
        answers
    };
    let let_in = |name: &str| {
        for (port, answer) in all(&with(name, &of_pod(&ours, 1))) {
            assert!(answer.let_in, "{port}, with the node's own certificate: {}", answer.why);
        }
    };
    let refused = |answers: &Answers, what: &str| {
        for (port, answer) in all(answers) {
            assert!(!answer.let_in, "{port} let in: {what}");
        }
    };
    let_in("knock-node-1");
    for (name, more) in [("knock-plaintext", &["--plaintext"][..]), ("knock-nobody", &[])] {
        let answers = ClientPod::knock(&namespace, name, &[&as_one, more].concat(), None);
        println!("{name}: {answers:?}");
        refused(&answers, "no certificate");
    }
    let node_1 = format!("chronik://{id}/node/1");
    refused(&with("knock-stranger", &of_a_stranger(&node_1)), "a certificate of an unknown authority");
    refused(&with("knock-theirs", &of_pod(&theirs, 0)), "a certificate of another cluster's authority");
    let authority = secret(&namespace, "ours-authority");
    let key = KeyPair::from_pem(&authority["ca.key"]).expect("an authority has a key");
    let authority = Issuer::from_ca_cert_pem(&authority["ca.crt"], key).expect("an authority has a certificate");
    let elsewhere = with("knock-elsewhere", &signed(&authority, "chronik://elsewhere/node/1"));
    refused(&elsewhere, "a certificate of this authority for another cluster");
    let other = with("knock-node-2", &of_pod(&ours, 2));
    refused(&other, "another node's certificate");
    // Whose certificate it was is what they mind.
    for (port, answer) in all(&elsewhere) {
        assert!(answer.why.contains("certificate"), "{port}: {answer:?}");
    }
    for (port, answer) in all(&other) {
        assert!(answer.why.contains("certificate") && answer.why.contains("node"), "{port}: {answer:?}");
    }
    // It was none of the other things that are checked.
    let_in("knock-node-1-again");
    drop(theirs);
}

/// Nodes get new certificates of a new authority, one after the other, while both are trusted.
#[test]
#[ignore = "needs Kubernetes, and ten minutes: make e2e-long"]
fn authorities_change_under_load() {
    if std::env::var_os("CHRONIK_E2E_LONG").is_none() {
        eprintln!("skipped: it takes ten minutes (make e2e-long)");
        return;
    }
    let operator = Operator::install();
    let cluster = Cluster::start(&operator.clusters(), "rotated", &spec(3));
    let before = cluster.uids();
    let load = LoadPod::start(&cluster);
    let authority =
        || cluster.namespace.get("secret", "rotated-authority").expect("there is an authority")["data"].clone();
    let former = authority()["ca.crt"].clone();
    cluster.namespace.kubectl(&["annotate", "secret", "rotated-authority", "chronik.io/rotate-authority=1"]);
    let ten_minutes = std::time::Duration::from_mins(10);
    chronik_k8s_tests::wait_for("the former authority is no longer trusted", ten_minutes, || {
        let now = authority();
        (now["ca.crt"] != former && now["former.crt"].is_null()).then_some(())
    });
    // A node that starts now has only the new one.
    cluster.namespace.kubectl(&["delete", "pod", &cluster.pod(2)]);
    cluster.await_settled();
    load.goes_on(1000);
    load.verify();
    let after = cluster.uids();
    assert_eq!(after[..2], before[..2], "new certificates restart nothing");
}
