//! Links under mutual TLS between real processes: who is let in, who is not, and a change of the authority under load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chronik_tests::certificates::{Authority, replace};
use chronik_tests::cluster::{CLUSTER_ID, PartitionState, wait_for};
use chronik_tests::load::{BETWEEN_FAULTS, Load, TOPIC, aside};
use chronik_tests::process::ANY_PORTS;
use chronik_tests::{Cluster, Finished, chronik, chronik_in};
use tempfile::TempDir;

/// Credentials of three nodes and an operator, in folders of their own.
struct Credentials {
    dir: TempDir,
}

impl Credentials {
    fn issue(authority: &Authority) -> Self {
        let new = Self { dir: TempDir::new().expect("a temporary folder") };
        for id in 0..3 {
            authority.issue(&new.node(id), &node_uri(id), &authority.pem());
        }
        authority.issue(&new.operator(), &format!("chronik://{CLUSTER_ID}/operator"), &authority.pem());
        new
    }

    fn node(&self, id: usize) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    fn operator(&self) -> PathBuf {
        self.dir.path().join("operator")
    }

    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::build_each(3, |id, node| node.set("tls_dir", &self.node(id).to_string_lossy()));
        cluster.start_all();
        cluster
    }
}

fn node_uri(id: usize) -> String {
    format!("chronik://{CLUSTER_ID}/node/{id}")
}

/// `chronik cluster nodes` with these credentials.
fn nodes(cluster: &Cluster, credentials: &Path) -> Finished {
    cluster.administer(&["nodes", "--output", "json", "--tls-dir", &credentials.to_string_lossy()])
}

/// Writing goes on with every replica in sync.
async fn holds(cluster: &Cluster, load: &Load) {
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    aside(|| cluster.wait_until_in_sync(0, TOPIC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_streams_under_tls_and_lets_in_whom_its_authority_names() {
    let authority = Authority::new();
    let credentials = Credentials::issue(&authority);
    let mut cluster = credentials.cluster();
    let load = Load::start(&cluster).await;
    holds(&cluster, &load).await;
    aside(|| {
        let own = TempDir::new().expect("a temporary folder");
        assert_eq!(nodes(&cluster, &credentials.operator()).json().as_array().map(Vec::len), Some(3));
        assert_eq!(nodes(&cluster, &credentials.node(1)).json().as_array().map(Vec::len), Some(3));
        // Without a certificate, with another authority's, and with another cluster's of the same authority.
        assert_eq!(cluster.administer(&["nodes"]).code, 1);
        let other = own.path().join("other");
        Authority::new().issue(&other, &format!("chronik://{CLUSTER_ID}/operator"), &authority.pem());
        assert_eq!(nodes(&cluster, &other).code, 1);
        let elsewhere = own.path().join("elsewhere");
        authority.issue(&elsewhere, "chronik://elsewhere/operator", &authority.pem());
        let refused = nodes(&cluster, &elsewhere);
        // The command refuses the node before the node refuses the command: each wants the other to be of its own cluster.
        assert!(refused.code == 1 && refused.err.contains("not of a node of elsewhere"), "{refused:?}");
    });
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

/// A process beside a broker is the node that the broker's settings name, wherever it got its certificate from.
#[test]
fn the_admin_port_refuses_another_nodes_certificate() {
    let credentials = Credentials::issue(&Authority::new());
    let cluster = credentials.cluster();
    let nodes_in = |environment: &[(&str, &str)], folder: &Path| {
        let (admin, folder) = (cluster.admin(), folder.to_string_lossy());
        let arguments = ["cluster", "nodes", "--output", "json", "--admin", &admin, "--tls-dir", &folder];
        chronik_in(environment, &arguments, b"")
    };
    let pod = |index| [("CHRONIK_POOL_FIRST_NODE_ID", "0"), ("CHRONIK_POD_INDEX", index)];
    let let_in = [
        nodes_in(&pod("1"), &credentials.node(1)),
        nodes_in(&[("CHRONIK_NODE_ID", "1")], &credentials.node(1)),
        nodes_in(&[], &credentials.node(1)),
        nodes_in(&pod("1"), &credentials.operator()),
    ];
    for asked in let_in {
        assert_eq!(asked.code, 0, "{asked:?}");
    }
    for environment in [&pod("1")[..], &[("CHRONIK_NODE_ID", "1")]] {
        let refused = nodes_in(environment, &credentials.node(2));
        assert_eq!(refused.code, 1, "{refused:?}");
        let why = format!("the certificate is of node 2 of {CLUSTER_ID}, and the caller says that it is node 1");
        assert!(refused.err.contains(&why), "{refused:?}");
    }
    let unclear = nodes_in(&[("CHRONIK_POD_INDEX", "1")], &credentials.node(1));
    assert!(unclear.code == 2 && unclear.err.contains("without pool_first_node_id"), "{unclear:?}");
}

#[test]
fn a_node_with_another_nodes_certificate_does_not_start() {
    let authority = Authority::new();
    let credentials = Credentials::issue(&authority);
    let own = TempDir::new().expect("a temporary folder");
    let folder = own.path().join("data").to_string_lossy().into_owned();
    let tls_dir = format!("tls_dir={}", credentials.node(2).to_string_lossy());
    let mut arguments = vec!["start", "--data-dir", &folder, "--node-id", "1"];
    arguments.extend(ANY_PORTS);
    let cluster_id = format!("cluster_id={CLUSTER_ID}");
    for setting in [&tls_dir, &cluster_id] {
        arguments.extend(["--set", setting]);
    }
    let refused = chronik(&arguments, b"");
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("the certificate is of node 2"), "{refused:?}");
}

/// The files are looked at every 5 s.
const TAKEN_UP: Duration = Duration::from_secs(6);

/// A certificate that is exchanged for a wrong one while the node runs holds for new connections: those are refused, of
/// both planes, until the right one is back.
async fn is_refused_with(issue: impl FnOnce(&Credentials, usize)) {
    let authority = Authority::new();
    let credentials = Credentials::issue(&authority);
    let mut cluster = credentials.cluster();
    let load = Load::start(&cluster).await;
    holds(&cluster, &load).await;
    // Not the one that leads the metadata: the others would wait for it.
    let leader = aside(|| cluster.raft_leader(&[0, 1, 2]));
    let wrong = (leader + 1) % 3;
    issue(&credentials, wrong);
    load.goes_on_for(TAKEN_UP).await;
    let others = [(leader + 2) % 3, leader];
    for id in others {
        // Links that stand are not touched: those of this node are dialled anew.
        aside(|| {
            assert!(cluster[id].stop().success(), "node {id} stops in order");
            cluster[id].start();
            wait_for("the two are in sync where one of them leads", || {
                let partitions = cluster.describe(id, TOPIC)?;
                let in_sync = |it: &PartitionState| others.iter().all(|id| it.in_sync.contains(id));
                partitions.iter().filter(|it| it.leader != Some(wrong)).all(in_sync).then_some(())
            });
        });
    }
    aside(|| {
        wait_for("the one that is refused leads nothing and is in no ISR", || {
            let partitions = cluster.describe(others[0], TOPIC)?;
            partitions.iter().all(|it| it.leader != Some(wrong) && !it.in_sync.contains(&wrong)).then_some(())
        });
    });
    load.goes_on_everywhere(BETWEEN_FAULTS / 4).await;
    authority.issue(&credentials.node(wrong), &node_uri(wrong), &authority.pem());
    aside(|| cluster.wait_until_in_sync(others[0], TOPIC));
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_to_prove_another_is_refused_on_both_planes() {
    is_refused_with(|credentials, id| {
        let other = credentials.node((id + 1) % 3);
        for name in ["tls.key", "tls.crt"] {
            let content = std::fs::read_to_string(other.join(name)).expect("it was issued");
            replace(&credentials.node(id), name, &content);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_authority_is_refused_on_both_planes() {
    is_refused_with(|credentials, id| {
        let dir = credentials.node(id);
        let trusted = std::fs::read_to_string(dir.join("ca.crt")).expect("it was issued");
        Authority::new().issue(&dir, &node_uri(id), &trusted);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_the_authority_change_under_load() {
    let (old, new) = (Authority::new(), Authority::new());
    let credentials = Credentials::issue(&old);
    let mut cluster = credentials.cluster();
    let load = Load::start(&cluster).await;
    holds(&cluster, &load).await;
    let both = old.pem() + &new.pem();
    // Each step is taken up before the next: both are trusted, then certificates of the new one, then only that.
    let steps: [&dyn Fn(usize); 3] = [
        &|id| replace(&credentials.node(id), "ca.crt", &both),
        &|id| new.issue(&credentials.node(id), &node_uri(id), &both),
        &|id| replace(&credentials.node(id), "ca.crt", &new.pem()),
    ];
    for step in steps {
        (0..3).for_each(step);
        load.goes_on_for(TAKEN_UP).await;
        // New connections of everybody prove what holds by now.
        for id in 0..3 {
            aside(|| {
                assert!(cluster[id].stop().success(), "node {id} stops in order");
                cluster[id].start();
                cluster.wait_until_in_sync(id, TOPIC);
            });
            load.goes_on_everywhere(1).await;
        }
    }
    load.verify(&cluster).await;
    aside(|| cluster.assert_equal_logs(TOPIC));
}
