//! The operator, installed by helm as a user does it.

use std::time::Duration;

use serde_json::Value;

use crate::kube::{Namespace, condition, wait_for};
use crate::tool::{path, run};

/// The release.
const RELEASE: &str = "chronik";
/// Where the operator runs.
const NAMESPACE: &str = "chronik-e2e-system";
/// Namespaces whose clusters it runs.
const WATCHED: [&str; 2] = ["chronik-e2e", "chronik-e2e-gone"];
/// How long an operator may take to come up, or to take over.
const PATIENCE: Duration = Duration::from_mins(1);

/// The tag of the images under test.
pub fn tag() -> String {
    std::env::var("CHRONIK_E2E_TAG").unwrap_or_else(|_| "e2e".to_owned())
}

/// An image under test.
pub fn image(name: &str) -> String {
    let repository = std::env::var("CHRONIK_E2E_REPOSITORY").unwrap_or_default();
    format!("{repository}{name}:{}", tag())
}

/// An installed operator.
#[derive(Debug, Clone)]
pub struct Operator {
    namespace: Namespace,
}

impl Operator {
    /// Installs it, or brings what is installed to the version under test; waits until it runs.
    ///
    /// # Panics
    /// When helm fails.
    pub fn install() -> Self {
        for watched in WATCHED {
            Namespace::create(watched);
        }
        let operator = Self { namespace: Namespace::create(NAMESPACE) };
        operator.upgrade(&[]);
        operator
    }

    /// The namespace for clusters.
    pub fn clusters(&self) -> Namespace {
        Namespace::create(WATCHED[0])
    }

    /// A namespace for clusters that a test deletes.
    pub fn doomed(&self) -> Namespace {
        Namespace::create(WATCHED[1])
    }

    /// Where it runs.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Upgrades the release, with further values.
    ///
    /// # Panics
    /// When helm fails.
    pub fn upgrade(&self, values: &[&str]) {
        let chart = path("charts/chronik-operator");
        let repository = std::env::var("CHRONIK_E2E_REPOSITORY").unwrap_or_default();
        let given = [
            format!("watchNamespaces={{{}}}", WATCHED.join(",")),
            format!("image.repository={repository}chronik-operator"),
            format!("image.tag={}", tag()),
            format!("brokerImage.repository={repository}chronik"),
            format!("brokerImage.tag={}", tag()),
        ];
        let mut arguments = vec!["upgrade", "--install", RELEASE, &chart, "--namespace", NAMESPACE];
        arguments.extend(["--wait", "--timeout", "90s"]);
        for value in given.iter().map(String::as_str).chain(values.iter().copied()) {
            arguments.extend(["--set", value]);
        }
        run("helm", &arguments, "").expect("helm upgrade --install");
    }

    /// Uninstalls it.
    ///
    /// # Panics
    /// When helm fails.
    pub fn uninstall(&self) {
        let done = run("helm", &["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"], "");
        done.expect("helm uninstall");
    }

    /// Its pods.
    pub fn pods(&self) -> Vec<Value> {
        self.namespace.list("pods", "app.kubernetes.io/name=chronik-operator")
    }

    /// Kills it without warning; another pod takes its place.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill(&self) {
        let pods = self.pods();
        let name = pods.iter().find_map(|pod| pod["metadata"]["name"].as_str()).expect("the operator has a pod");
        self.namespace.kubectl(&["delete", "pod", name, "--grace-period=0", "--force"]);
    }

    /// Waits until a pod of it is ready.
    ///
    /// # Panics
    /// When none is in time.
    pub fn await_ready(&self) {
        wait_for("the operator is ready", PATIENCE, || {
            self.pods().iter().any(|pod| condition(pod, "Ready") == Some("True")).then_some(())
        });
    }

    /// Its log.
    pub fn log(&self) -> String {
        let logs = ["logs", "-l", "app.kubernetes.io/name=chronik-operator", "--tail", "80"];
        let found = self.namespace.attempt(&logs, "");
        found.out + &found.err
    }
}
