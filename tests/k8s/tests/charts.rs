//! The charts without a cluster: linted, rendered, refused. Skipped where helm is not installed.

use chronik_k8s_tests::tool::{Finished, is_installed, path, run};

/// Whether helm is here; says that a test is skipped where it is not.
fn helm_is_here() -> bool {
    let here = is_installed("helm");
    if !here {
        eprintln!("skipped 1 test: helm is not installed");
    }
    here
}

fn template(chart: &str, arguments: &[&str]) -> Finished {
    let chart = path(&format!("charts/{chart}"));
    run("helm", &[&["template", "chronik", &chart, "--namespace", "chronik-system"], arguments].concat(), "")
}

#[test]
fn helm_finds_nothing_to_remark() {
    if !helm_is_here() {
        return;
    }
    for chart in ["chronik-operator", "chronik-cluster"] {
        run("helm", &["lint", "--strict", &path(&format!("charts/{chart}"))], "").expect("helm lint");
    }
}

#[test]
fn the_operator_with_default_values() {
    if !helm_is_here() {
        return;
    }
    insta::assert_snapshot!(template("chronik-operator", &[]).expect("helm template"));
}

#[test]
fn the_operator_of_two_namespaces_has_a_role_in_each_and_none_elsewhere() {
    if !helm_is_here() {
        return;
    }
    let rendered = template(
        "chronik-operator",
        &["--set", "watchNamespaces={orders,payments}", "--show-only", "templates/rbac.yaml"],
    );
    let rendered = rendered.expect("helm template");
    let everywhere = rendered.split("---").filter(|object| object.contains("kind: ClusterRole\n"));
    for role in everywhere {
        for namespaced in ["secrets", "pods", "statefulsets", "chronikclusters"] {
            assert!(!role.contains(namespaced), "{namespaced} in every namespace:\n{role}");
        }
    }
    insta::assert_snapshot!(rendered);
}

#[test]
fn the_operator_with_every_value() {
    if !helm_is_here() {
        return;
    }
    let values = path("tests/k8s/tests/values/operator.yaml");
    insta::assert_snapshot!(template("chronik-operator", &["--values", &values]).expect("helm template"));
}

#[test]
fn a_cluster_with_default_values() {
    if !helm_is_here() {
        return;
    }
    insta::assert_snapshot!(template("chronik-cluster", &[]).expect("helm template"));
}

#[test]
fn a_cluster_with_every_value() {
    if !helm_is_here() {
        return;
    }
    let values = path("tests/k8s/tests/values/cluster.yaml");
    insta::assert_snapshot!(template("chronik-cluster", &["--values", &values]).expect("helm template"));
}

#[test]
fn wrong_values_are_refused_by_name() {
    if !helm_is_here() {
        return;
    }
    for (chart, wrong, named) in [
        ("chronik-operator", "replicas=many", "replicas"),
        ("chronik-operator", "watchNamespace=orders", "watchNamespace"),
        ("chronik-operator", "watchNamespaces={Orders}", "watchNamespaces"),
        ("chronik-operator", "image.pullPolicy=Sometimes", "pullPolicy"),
        ("chronik-cluster", "metadataVoters=2", "metadataVoters"),
        ("chronik-cluster", "deletionPolicy=Keep", "deletionPolicy"),
        ("chronik-cluster", "pools[0].replicas=0", "replicas"),
        ("chronik-cluster", "spec.image=x", "spec"),
    ] {
        let refused = template(chart, &["--set", wrong]);
        assert!(!refused.ok && refused.err.contains(named), "{chart} {wrong}: {refused:?}");
    }
}

/// `deploy/operator` is what the chart makes; `make charts` writes it anew.
#[test]
fn the_kustomization_is_the_chart() {
    if !helm_is_here() {
        return;
    }
    let rendered = template("chronik-operator", &["--no-hooks"]).expect("helm template");
    let text = format!("# Generated from charts/chronik-operator; `make charts` writes it anew.\n{rendered}");
    let file = path("deploy/operator/operator.yaml");
    if std::env::var_os("UPDATE_CHARTS").is_some() {
        std::fs::write(&file, &text).expect("the repository can be written");
    }
    let found = std::fs::read_to_string(&file).expect("the file is there");
    assert!(found == text, "deploy/operator/operator.yaml is stale: run `make charts`");
}

#[test]
fn the_kustomization_can_be_built() {
    if !is_installed("kubectl") {
        eprintln!("skipped 1 test: kubectl is not installed");
        return;
    }
    let built = run("kubectl", &["kustomize", &path("deploy/operator")], "").expect("kubectl kustomize");
    for kind in ["kind: CustomResourceDefinition", "kind: Namespace", "kind: Deployment"] {
        assert!(built.contains(kind), "{kind} is missing");
    }
}
