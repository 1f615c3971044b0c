//! Installed by helm, from nothing to messages; uninstalled, installed again, upgraded: clusters run on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chronik_k8s_tests::cluster::spec;
use chronik_k8s_tests::kube::condition;
use chronik_k8s_tests::operator::{image, tag};
use chronik_k8s_tests::tool::path;
use chronik_k8s_tests::{ClientPod, Cluster, Operator, PodWatch, api_server, wait_for};

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn from_nothing_to_messages_within_a_minute() {
    let operator = Operator::install();
    let namespace = operator.clusters();
    let small = Cluster { namespace: namespace.clone(), name: "small".to_owned() };
    let started = Instant::now();
    namespace.kubectl(&["apply", "-f", &path("deploy/samples/small.yaml")]);
    namespace.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", "chronikcluster/small"]);
    println!("ready {:?} after kubectl apply", started.elapsed());

    let shown = namespace.kubectl(&["get", "chronikclusters"]);
    println!("{shown}");
    assert!(shown.contains("READY") && shown.contains("3/3"), "{shown}");

    let bootstrap = small.bootstrap();
    let client = |name: &str, arguments: &[&str]| {
        let (ok, out) = ClientPod::run(&namespace, name, &[arguments, &["--bootstrap", &bootstrap]].concat(), None);
        assert!(ok, "{arguments:?}: {out}");
        out
    };
    client("creates", &["topic", "create", "greetings", "--partitions", "3"]);
    let line = "hello from a pod";
    let override_pod = format!(
        "{{\"spec\": {{\"securityContext\": {{\"runAsNonRoot\": true, \"runAsUser\": 65532, \"seccompProfile\": {{\"type\": \
         \"RuntimeDefault\"}}}}, \"containers\": [{{\"name\": \"produces\", \"image\": \"{}\", \"stdin\": true, \"stdinOnce\": true, \
         \"args\": [\"produce\", \"greetings\", \"--bootstrap\", \"{bootstrap}\"], \"securityContext\": \
         {{\"allowPrivilegeEscalation\": false, \"capabilities\": {{\"drop\": [\"ALL\"]}}}}}}]}}}}",
        image("chronik")
    );
    let broker = image("chronik");
    let run = [
        "run",
        "produces",
        "--image",
        &broker,
        "--restart=Never",
        "-i",
        "--rm",
        "--quiet",
        "--overrides",
        &override_pod,
    ];
    namespace.attempt(&run, &format!("{line}\n")).expect("a pod produces");
    let consumed = client("consumes", &["consume", "greetings", "--from-beginning", "--exit-at-end"]);
    assert_eq!(consumed.trim_end(), line);
    client(
        "consumes-in-a-group",
        &["consume", "greetings", "--from-beginning", "--group", "readers", "--max-messages", "1"],
    );
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn an_uninstall_leaves_clusters_running_and_an_installation_takes_them_up_again() {
    let operator = Operator::install();
    let cluster = Cluster::start(&operator.clusters(), "orphaned", &spec(3));
    let before = cluster.uids();
    operator.uninstall();
    wait_for("the operator is gone", Duration::from_mins(1), || operator.pods().is_empty().then_some(()));
    cluster.chronik(0, &["topic", "create", "while-alone", "--replication-factor", "3"]);
    assert_eq!(cluster.uids(), before, "the pods run on");

    let operator = Operator::install();
    operator.await_ready();
    cluster.await_settled();
    assert_eq!(cluster.uids(), before, "nothing was restarted");
    // It is taken up: what is changed now is made so.
    let mut changed = spec(3);
    changed["config"]["num.partitions"] = "7".into();
    cluster.apply(&changed);
    let resource = cluster.await_settled();
    assert_eq!(resource["status"]["ready"], "3/3");
    assert_ne!(cluster.uids(), before, "a setting that is read at the start rolls the nodes");
}

#[test]
#[ignore = "needs Kubernetes: make e2e"]
fn an_upgrade_of_the_operator_restarts_no_pod_and_a_settled_cluster_is_left_alone() {
    let operator = Operator::install();
    let cluster = Cluster::start(&operator.clusters(), "upgraded", &spec(3));
    let before = cluster.uids();
    let watch = PodWatch::start(&cluster, 3);
    let (next, broker) = (format!("image.tag={}-next", tag()), format!("brokerImage.tag={}-next", tag()));
    operator.upgrade(&[&next, &broker]);
    operator.await_ready();
    let resource = cluster.await_resource("it tells of the upgrade", Duration::from_mins(1), |resource| {
        Cluster::is_settled(resource) && !resource["status"]["upgradeAvailable"].is_null()
    });
    assert_eq!(resource["status"]["image"], image("chronik").as_str(), "the image was chosen once");

    // Converged means quiet: whatever came with the change of operators has had its time.
    let quiet = |seconds: u64| -> BTreeMap<String, u64> {
        let before = api_server::writes();
        std::thread::sleep(Duration::from_secs(seconds));
        api_server::between(&before, &api_server::writes())
    };
    wait_for("the change of operators is over", Duration::from_mins(1), || quiet(5).is_empty().then_some(()));
    let written = quiet(60);
    println!("writes in 60 s: {written:?}");
    assert!(written.is_empty(), "a settled cluster is written to: {written:?}");

    assert_eq!(cluster.uids(), before);
    assert_eq!(watch.falls(), 0, "no pod was restarted");
    assert_eq!(condition(&cluster.resource(), "Ready"), Some("True"));
    operator.upgrade(&[]);
}
