//! A namespace of the cluster under test, through kubectl.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tool::{Finished, run};

/// Between two looks at what a test waits for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until something is there.
///
/// # Panics
/// When it does not come in time.
pub fn wait_for<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in {within:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Runs kubectl.
pub fn kubectl(arguments: &[&str], input: &str) -> Finished {
    run("kubectl", arguments, input)
}

/// A namespace that the tests own.
#[derive(Debug, Clone)]
pub struct Namespace(String);

impl Namespace {
    /// Makes it, where it is not there. What is created into it keeps to the restricted pod security standard.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn create(name: &str) -> Self {
        let object = format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": \"{name}\", \
             \"labels\": {{\"pod-security.kubernetes.io/enforce\": \"restricted\"}}}}}}"
        );
        kubectl(&["apply", "--server-side", "-f", "-"], &object).expect("creating a namespace");
        Self(name.to_owned())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Runs kubectl in it, whatever comes of it.
    pub fn attempt(&self, arguments: &[&str], input: &str) -> Finished {
        kubectl(&[&["--namespace", &self.0], arguments].concat(), input)
    }

    /// Runs kubectl in it.
    ///
    /// # Panics
    /// When that fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.attempt(arguments, "").expect(&arguments.join(" "))
    }

    /// Applies objects.
    ///
    /// # Panics
    /// When they are refused.
    pub fn apply(&self, objects: &str) {
        self.attempt(&["apply", "-f", "-"], objects).expect("kubectl apply");
    }

    /// An object, or nothing.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.attempt(&["get", kind, name, "-o", "json"], "");
        found.ok.then(|| serde_json::from_str(&found.out).expect("kubectl writes JSON"))
    }

    /// All objects of a kind with these labels.
    pub fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let found = self.kubectl(&["get", kind, "-l", selector, "-o", "json"]);
        let mut list: Value = serde_json::from_str(&found).expect("kubectl writes JSON");
        list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Runs a program inside a pod.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Finished {
        self.attempt(&[&["exec", pod, "--"], command].concat(), "")
    }

    /// Deletes it with all that it holds, and waits for its end; tells how long that took.
    ///
    /// # Panics
    /// When it does not end.
    pub fn delete(self) -> Duration {
        let started = Instant::now();
        kubectl(&["delete", "namespace", &self.0, "--timeout", "120s"], "").expect("deleting a namespace");
        started.elapsed()
    }
}

/// The status of a condition of an object: `True`, `False`, `Unknown`, or nothing where it has no such condition.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// The message of a condition.
pub fn condition_message(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["message"].as_str()).unwrap_or_default().to_owned()
}
