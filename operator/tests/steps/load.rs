//! A steady idempotent load that verifies itself: the program of the tests in pods, beside the brokers.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::operator::append;

/// How long it may take to begin, or to acknowledge what it should.
const PATIENCE: Duration = Duration::from_mins(2);
/// Records a second: brokers of a debug build, and what they share their machine with, are to have no trouble with it.
const RATE: &str = "120";
/// The topic.
pub(super) const TOPIC: &str = "load";

/// The running load.
pub(super) struct Load {
    child: Child,
    control: SocketAddr,
}

/// What it says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) acked: u64,
    refused: u64,
    disordered: u64,
    lost: Option<u64>,
    doubled: Option<u64>,
    pub(super) longest_pause_ms: u64,
    errors: Vec<String>,
}

impl Report {
    fn assert_clean(&self) {
        let wrong = self.refused + self.disordered + self.lost.unwrap_or(0) + self.doubled.unwrap_or(0);
        assert_eq!(wrong, 0, "{self:?} {}", self.errors.join("; "));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended by itself: then something has failed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Load {
    /// Starts it, and waits until records are acknowledged.
    pub(super) async fn start(program: &Path, bootstrap: &str, control: SocketAddr, folder: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(["run", "--bootstrap", bootstrap, "--topic", TOPIC, "--rate", RATE]);
        command.args(["--control", &control.to_string()]);
        command.stdin(Stdio::null()).stdout(append(&folder.join("load.log"))).stderr(append(&folder.join("load.log")));
        let load = Self { child: command.spawn().expect("the load can be started"), control };
        load.reaches(100).await;
        load
    }

    async fn ask(&self, word: &str) -> std::io::Result<Report> {
        let mut stream = TcpStream::connect(self.control).await?;
        stream.write_all(format!("{word}\n").as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    }

    async fn reaches(&self, goal: u64) {
        let mut last = None;
        let reached = async {
            loop {
                // It does not listen before it has its topic.
                if let Ok(report) = self.ask("progress").await {
                    report.assert_clean();
                    if report.acked >= goal {
                        return;
                    }
                    last = Some(report);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{goal} records are not acknowledged in {PATIENCE:?}: {last:?}");
    }

    /// Waits until so many more records are acknowledged, and nothing has gone wrong.
    pub(super) async fn goes_on(&self, records: u64) {
        let report = self.ask("progress").await.expect("the load answers");
        report.assert_clean();
        self.reaches(report.acked + records).await;
    }

    /// Ends it: all that was acknowledged is there, once, and nothing was refused.
    pub(super) async fn verify(self) -> Report {
        let report = self.ask("stop").await.expect("the load answers");
        report.assert_clean();
        assert!(report.acked > 0 && report.lost == Some(0), "{report:?}");
        report
    }
}
