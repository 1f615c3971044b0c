//! One node of a development cluster: its process, which is started again when it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::failed;
use super::layout::Layout;
use crate::cli::Failure;

/// How often a node is asked whether it serves.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// A node that ends sooner after its start is not started again: it would not do better.
const SHORT_LIFE: Duration = Duration::from_secs(2);
/// The exit code of a node that can't start with its settings or its data folder: it would not do better either.
const REFUSED: i32 = 2;
/// Bytes of a log's end that are shown when a node can't go on.
const LOG_TAIL: u64 = 2000;

pub(super) struct Member {
    node: u16,
    log: PathBuf,
    http_port: u16,
    settings: Vec<(String, String)>,
    process: Child,
    started: Instant,
}

impl Member {
    pub(super) fn start(layout: &Layout, node: u16) -> Result<Self, Failure> {
        let folder = layout.folder(node);
        std::fs::create_dir_all(&folder).map_err(|why| failed(format!("create {}: {why}", folder.display())))?;
        let (log, settings) = (folder.join("log"), layout.settings(node));
        let process = spawn(&settings, &log)?;
        Ok(Self { node, log, http_port: layout.http_port(node), settings, process, started: Instant::now() })
    }

    /// The process's id; 0 when it has ended.
    pub(super) fn pid(&self) -> u32 {
        self.process.id().unwrap_or(0)
    }

    /// Resolves when the node is ready; an error when its process ends before.
    pub(super) async fn until_it_serves(&mut self) -> Result<(), Failure> {
        let port = self.http_port;
        let ready = async {
            while !is_ready(port).await {
                sleep(ASK_EVERY).await;
            }
        };
        tokio::select! {
            biased;
            status = self.process.wait() => Err(self.cannot(status.map_err(failed)?)),
            () = ready => Ok(()),
        }
    }

    /// Resolves when the process ends.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        self.process.wait().await.map_err(failed)
    }

    /// Starts the node again after its process ended so, unless it had hardly begun.
    pub(super) fn start_again(&mut self, status: ExitStatus) -> Result<(), Failure> {
        if self.started.elapsed() < SHORT_LIFE || status.code() == Some(REFUSED) {
            return Err(self.cannot(status));
        }
        eprintln!("node {} ended ({status}); starting it again", self.node);
        self.process = spawn(&self.settings, &self.log)?;
        self.started = Instant::now();
        Ok(())
    }

    /// Asks the process to stop, and waits until it has.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        let pid = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        // Without an id it has ended.
        let Some(pid) = pid else { return Ok(()) };
        kill_process(pid, Signal::TERM).map_err(|why| failed(format!("stop node {}: {why}", self.node)))?;
        let status = self.ended().await?;
        if status.success() { Ok(()) } else { Err(self.cannot(status)) }
    }

    fn cannot(&self, status: ExitStatus) -> Failure {
        let shown = self.log.display();
        if status.code() == Some(REFUSED) {
            // Its last words are the reason.
            let log = tail(&self.log);
            let why = log.lines().last().unwrap_or("it has left no reason");
            return Failure::Usage(format!("node {}: {}", self.node, why.trim_start_matches("chronik: ")));
        }
        failed(format!("node {} ended ({status}); the end of {shown}:\n{}", self.node, tail(&self.log)))
    }
}

/// Starts a node. It has its own process group: Ctrl-C stops it through its parent, in order.
fn spawn(settings: &[(String, String)], log: &Path) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(|why| failed(format!("find this program: {why}")))?;
    let output = OpenOptions::new().create(true).append(true).open(log);
    let output = output.map_err(|why| failed(format!("open {}: {why}", log.display())))?;
    let mut command = Command::new(program);
    command.args(["start", "--log-format", "text"]);
    for (name, value) in settings {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).process_group(0).kill_on_drop(true);
    command.spawn().map_err(|why| failed(format!("start a node: {why}")))
}

/// Whether `/readyz` says so.
async fn is_ready(port: u16) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.take(1024).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    // Nobody listens yet, or it is starting.
    asked.await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

/// The end of a log, as far as it can be read: it is shown beside the reason why.
fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|why| format!("it can't be read: {why}"))
}
