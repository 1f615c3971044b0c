//! The operator as a process that is killed where the gate says, and started anew each time.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::gate::{Gate, Plan, Way, Write};
use crate::fixture::process::arguments;

/// How a process of the operator is started.
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) namespace: String,
    pub(super) admin_port: u16,
    /// Where its pages are.
    pub(super) pages: SocketAddr,
    /// Where it finds the API server.
    pub(super) api: SocketAddr,
    /// What it says, and its kubeconfig.
    pub(super) folder: PathBuf,
}

/// Through which all writes of the operator go.
#[derive(Clone)]
pub(super) struct Writes(Arc<Shared>);

struct Shared {
    gate: Mutex<Gate>,
    /// Why a process is to be killed: it is not to get any answer from then on.
    deaths: mpsc::UnboundedSender<String>,
    /// What nobody has asked for.
    problems: Mutex<Vec<String>>,
    /// Processes that were started.
    started: AtomicUsize,
}

impl Writes {
    /// Returns where deaths are told, too.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<String>) {
        let (deaths, told) = mpsc::unbounded_channel();
        let shared =
            Shared { gate: Mutex::default(), deaths, problems: Mutex::default(), started: AtomicUsize::new(0) };
        (Self(Arc::new(shared)), told)
    }

    /// From now on the operator dies so.
    pub(super) fn follow(&self, plan: Plan) {
        self.0.gate.lock().follow(plan);
    }

    /// Writes made, and deaths, under the present plan.
    pub(super) fn counts(&self) -> (usize, usize) {
        let gate = self.0.gate.lock();
        (gate.made(), gate.deaths())
    }

    /// How many processes of the operator were started so far.
    pub(super) fn started(&self) -> usize {
        self.0.started.load(Ordering::Relaxed)
    }

    /// Kills the operator; another is started.
    pub(super) fn kill(&self) {
        self.die("by the test".to_owned());
    }

    fn die(&self, why: String) {
        // Without a supervisor the test is over.
        drop(self.0.deaths.send(why));
    }

    /// Makes a write, unless the operator dies before it: then, and when it dies after it, it gets no answer.
    pub(super) async fn through<T>(&self, write: Write, call: impl Future<Output = T>) -> T {
        let way = self.0.gate.lock().arrives(&write);
        match way {
            None => return call.await,
            Some(Way::Before) => self.die(format!("before {}", write.name)),
            Some(Way::After) => {
                call.await;
                self.die(format!("after {}", write.name));
            }
        }
        std::future::pending().await
    }

    pub(super) fn problem(&self, what: String) {
        eprintln!("{what}");
        self.0.problems.lock().push(what);
    }

    /// What nobody has asked for.
    pub(super) fn problems(&self) -> Vec<String> {
        self.0.problems.lock().clone()
    }
}

/// The operator; its process ends when this is dropped.
pub(super) struct Operator(JoinHandle<()>);

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Operator {
    /// Starts it, and starts it again whenever it dies.
    pub(super) fn start(program: Program, writes: Writes, deaths: mpsc::UnboundedReceiver<String>) -> Self {
        program.write_kubeconfig();
        Self(tokio::spawn(supervise(program, writes, deaths)))
    }
}

async fn supervise(program: Program, writes: Writes, mut deaths: mpsc::UnboundedReceiver<String>) {
    loop {
        let mut child = program.start();
        writes.0.started.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            why = deaths.recv() => {
                let Some(why) = why else { return };
                child.kill().await.expect("a child can be killed");
                println!("  the operator is killed {why}");
                // Whatever else the dead one was about to die of.
                while deaths.try_recv().is_ok() {}
            }
            ended = child.wait() => {
                let log = program.log();
                writes.problem(format!("the operator has ended by itself ({ended:?}); it says so in {}", log.display()));
            }
        }
    }
}

impl Program {
    fn log(&self) -> PathBuf {
        self.folder.join("operator.log")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    fn write_kubeconfig(&self) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "steps",
            "clusters": [{ "name": "steps", "cluster": { "server": format!("http://{}", self.api) } }],
            "users": [{ "name": "steps", "user": {} }],
            "contexts": [{ "name": "steps", "context": { "cluster": "steps", "user": "steps" } }],
        });
        std::fs::write(self.kubeconfig(), config.to_string()).expect("the folder can be written");
    }

    fn start(&self) -> Child {
        let mut command = Command::new(&self.path);
        command.args(arguments(&self.namespace, &self.pages.to_string(), self.admin_port, "info"));
        command.env("KUBECONFIG", self.kubeconfig()).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(append(&self.log())).stderr(append(&self.log()));
        command.spawn().expect("the operator can be started")
    }
}

/// A log to which every process adds.
pub(super) fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a log can be written")
}

/// A program that is built beside this test, or that the variable names.
pub(super) fn program(name: &str, variable: &str) -> Option<PathBuf> {
    let built = || {
        let mut folder = std::env::current_exe().ok()?;
        folder.pop();
        if folder.ends_with("deps") {
            folder.pop();
        }
        Some(OsString::from(folder.join(name)))
    };
    let path = PathBuf::from(std::env::var_os(variable).or_else(built)?);
    path.exists().then_some(path)
}
