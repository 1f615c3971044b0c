//! The links between nodes: who has no certificate of the cluster is refused on each, and authorities change under load.

use chronik_k8s_tests::cluster::spec;
use chronik_k8s_tests::{ClientPod, Cluster, LoadPod, Operator};

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn who_has_no_certificate_of_the_cluster_is_refused() {
    let operator = Operator::install();
    let namespace = operator.clusters();
    let ours = Cluster::start(&namespace, "ours", &spec(3));
    let theirs = Cluster::start(&namespace, "theirs", &spec(1));
    let admin = format!("{}.ours-nodes.{}.svc:9391", ours.pod(0), namespace.name());
    let nodes = |name: &str, tls: bool, secret: Option<&str>| {
        let mut arguments = vec!["cluster", "nodes", "--admin", admin.as_str()];
        if tls {
            arguments.extend(["--tls-dir", "/tls"]);
        }
        ClientPod::run(&namespace, name, &arguments, secret)
    };
    let (let_in, out) = nodes("operator-of-ours", true, Some("ours-operator-tls"));
    assert!(let_in, "the operator's certificate is of the cluster: {out}");
    let (let_in, out) = nodes("nobody", false, None);
    assert!(!let_in, "without a certificate: {out}");
    let (let_in, out) = nodes("operator-of-theirs", true, Some("theirs-operator-tls"));
    assert!(!let_in, "with another cluster's certificate: {out}");
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
