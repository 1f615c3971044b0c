//! kubectl, run with the caller's configuration.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// How kubectl is run.
#[derive(Debug)]
pub(crate) struct Kubectl {
    options: Vec<String>,
}

impl Kubectl {
    pub(crate) fn new(namespace: Option<String>, context: Option<String>, kubeconfig: Option<PathBuf>) -> Self {
        let kubeconfig = kubeconfig.map(|path| path.to_string_lossy().into_owned());
        let given = [("--namespace", namespace), ("--context", context), ("--kubeconfig", kubeconfig)];
        let options = given.into_iter().filter_map(|(option, value)| Some([option.to_owned(), value?])).flatten();
        Self { options: options.collect() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(&self.options).args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Result<Output, String> {
        self.command(arguments).output().map_err(|why| format!("kubectl can't be run: {why}"))
    }

    /// What it prints.
    pub(crate) fn text(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.output(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// What it prints, as JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.text(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).map_err(|why| format!("kubectl {}: {why}", arguments.join(" ")))
    }

    /// Lets it use this process's terminal.
    pub(crate) fn hand_over(&self, arguments: &[&str]) -> Result<(), String> {
        let status = self.command(arguments).status().map_err(|why| format!("kubectl can't be run: {why}"))?;
        status.success().then_some(()).ok_or_else(|| format!("kubectl {} failed", arguments.join(" ")))
    }

    /// A cluster's resource.
    pub(crate) fn cluster(&self, name: &str) -> Result<Value, String> {
        self.json(&["get", "chronikclusters.chronik.io", name])
    }
}

/// What selects a cluster's objects.
pub(crate) fn selector(cluster: &str) -> String {
    format!("app.kubernetes.io/name=chronik,app.kubernetes.io/instance={cluster}")
}
