//! The load: writers, a reader, what is kept of both, and the local port through which they are asked.

mod control;
mod topic;
mod verify;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Args;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

pub use control::ask;

/// How a load is run.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Where the cluster is
    #[arg(long, value_name = "HOST:PORT[,…]")]
    pub bootstrap: String,
    /// The topic; it is created
    #[arg(long)]
    pub topic: String,
    /// Its partitions
    #[arg(long, default_value_t = 6)]
    pub partitions: i32,
    /// Its replicas
    #[arg(long, default_value_t = 3)]
    pub replicas: i32,
    /// Records a second, over all partitions
    #[arg(long, default_value_t = 300)]
    pub rate: u32,
    /// Bytes of a record
    #[arg(long, default_value_t = 200)]
    pub bytes: usize,
    /// Where it is asked for its progress, and told to stop
    #[arg(long, default_value = control::ADDRESS)]
    pub control: String,
}

/// How far a load is, and at its end what was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Records acknowledged.
    pub acked: u64,
    /// Records that the reader beside the writers has seen.
    pub read: u64,
    /// Records that the producer gave back to the application with an error.
    pub refused: u64,
    /// Records out of their order, as the reader beside the writers saw them.
    pub disordered: u64,
    /// Acknowledged records that are not there; known at the end only.
    pub lost: Option<u64>,
    /// Records that are there more than once; known at the end only.
    pub doubled: Option<u64>,
    /// The longest time between two acknowledgements, ms.
    pub longest_pause_ms: u64,
    /// The first few errors, as the client said them.
    pub errors: Vec<String>,
}

impl Report {
    /// Whether the load met nothing that an application would notice.
    pub fn is_clean(&self) -> bool {
        self.refused == 0 && self.disordered == 0 && self.lost.unwrap_or(0) == 0 && self.doubled.unwrap_or(0) == 0
    }
}

/// Errors that a report names.
const ERRORS_SHOWN: usize = 10;

/// What writers and reader share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    acked: AtomicU64,
    read: AtomicU64,
    refused: AtomicU64,
    disordered: AtomicU64,
    longest_pause_ms: AtomicU64,
    errors: Mutex<Vec<String>>,
}

impl Shared {
    fn error(&self, what: impl Into<String>) {
        let mut errors = self.errors.lock();
        if errors.len() < ERRORS_SHOWN {
            errors.push(what.into());
        }
    }

    fn report(&self) -> Report {
        Report {
            acked: self.acked.load(Ordering::Relaxed),
            read: self.read.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            disordered: self.disordered.load(Ordering::Relaxed),
            lost: None,
            doubled: None,
            longest_pause_ms: self.longest_pause_ms.load(Ordering::Relaxed),
            errors: self.errors.lock().clone(),
        }
    }
}

/// What every client of the load has in common.
fn client(args: &LoadArgs) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &args.bootstrap)
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", "5000");
    config
}

/// Runs the load until it is asked to stop; from then on it only tells its report.
pub async fn run(args: LoadArgs) -> Result<(), String> {
    let control = control::listen(&args.control).await?;
    topic::create(&args).await?;
    let shared = Arc::new(Shared::default());
    let writers = writer::spawn(&args, &shared)?;
    let reader = tokio::spawn(verify::follow(args.clone(), shared.clone()));
    let stop = control::serve(&control, || shared.report()).await?;

    shared.stop.store(true, Ordering::Relaxed);
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.map_err(|why| format!("a writer: {why}"))?);
    }
    reader.abort();
    let mut report = shared.report();
    match verify::all(&args, &written).await {
        Ok(found) => {
            (report.lost, report.doubled) = (Some(found.lost), Some(found.doubled));
            report.errors.extend(found.losses.into_iter().take(ERRORS_SHOWN));
        }
        Err(why) => {
            report.errors.push(why);
            report.lost = Some(report.acked);
        }
    }
    control::answer(stop, &report).await?;
    // With the end of a container's first process everybody else in it is killed, who has just been answered too. So it
    // goes on until it is killed itself.
    loop {
        let again = control::serve(&control, || report.clone()).await?;
        control::answer(again, &report).await?;
    }
}
