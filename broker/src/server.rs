//! Start-up and shutdown of a node's process, in one place, in order: signals, HTTP, both planes (`node`), Kafka's front.
//! Every task is owned here or there; the end of any is the node's.

mod address;
mod hint;
mod links;
mod system;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Config, Settings};
use crate::coordinator::producer_ids::ProducerIds;
use crate::coordinator::{GroupCoordinator, GroupOptions};
use crate::datadir::{DataDir, DataDirError};
use crate::http::metrics::NodeMetrics;
use crate::http::{self, Pages, Phase, Readiness};
use crate::io::blocking;
use crate::io::clock::SystemClock;
use crate::io::disk::Disk;
use crate::io::disk::real::RealDisk;
use crate::io::flood;
use crate::io::rng::Rng;
use crate::kafka::Broker;
use crate::kafka::fetch_session::FetchSessions;
use crate::kafka::limits::Limits;
use crate::kafka::listener::Listener;
use crate::kafka::metrics::Metrics;
use crate::kafka::offload::Offload;
use crate::kafka::response_memory::ResponseMemory;
use crate::metadata::MetadataPlane;
use crate::node::tasks::Tasks;
use crate::node::{Io, NodeError, Planes, PlanesOptions, failed, refused, wal_options};
use crate::raft::{self, Drive};
use crate::telemetry::LogLevel;
use crate::wal;

/// An orderly stop takes no longer: what is not finished then is recovered at the next start.
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// How long a start waits for a data folder that another process uses: one that is ending lets go of it.
const FREE_WITHIN: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Runs a node until it is told to stop (SIGTERM or SIGINT), or fails.
pub async fn run(config: Config, log_level: LogLevel) -> Result<(), NodeError> {
    let started = Instant::now();
    let mut signals = system::Signals::listen().map_err(failed)?;
    system::raise_file_limit();
    system::keep_pages_small();
    for name in config.without_effect() {
        tracing::warn!(setting = name, "this setting has no effect in Chronik");
    }
    let mut node = tokio::select! {
        started = Node::start(config, log_level) => started?,
        signal = signals.next() => return Err(failed(format!("{signal} while starting: stopped at once, not cleanly"))),
    };
    node.tell_ready(started.elapsed());
    tokio::select! {
        signal = signals.next() => tracing::info!(signal, "stopping"),
        why = node.failure() => return Err(failed(why)),
    }
    tokio::select! {
        stopped = tokio::time::timeout(STOP_WITHIN, node.stop()) => {
            stopped.map_err(|_| failed(format!("not stopped within {} s", STOP_WITHIN.as_secs())))??;
        }
        signal = signals.next() => return Err(failed(format!("{signal} again: stopped at once, not cleanly"))),
    }
    tracing::info!("stopped");
    Ok(())
}

/// The name that this program was called by.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "chronik".to_owned())
}

/// A node that serves.
struct Node {
    cluster: String,
    kafka_address: SocketAddr,
    http_address: SocketAddr,
    advertised: String,
    planes: Planes,
    groups: Arc<GroupCoordinator>,
    readiness: Arc<Readiness>,
    /// Serves clients; ends first.
    front: Tasks,
    /// Health and metrics; end last.
    pages: Tasks,
}

impl Node {
    async fn start(config: Config, log_level: LogLevel) -> Result<Self, NodeError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dir = open_data_dir(&disk, &config).await?;
        let kafka = address::bind_kafka(&config).await?;
        let http = address::bind_http(&config).await?;
        let (kafka_address, http_address) = (kafka.local_addr(), http.local_addr().map_err(failed)?);

        let readiness = Arc::new(Readiness::default());
        let metrics = Arc::new(OnceLock::new());
        let mut pages = Tasks::new();
        let shown = Pages { readiness: readiness.clone(), metrics: metrics.clone(), log_level };
        pages.spawn("http", |stop| serve_http(http, shown, stop));
        pages.spawn("count what the log leaves out", |stop| async move {
            flood::tell_ends(stop).await;
            Ok(())
        });

        let cluster = dir.identity().cluster_id.clone();
        let network = links::network(&config, &cluster, &mut pages).await?;
        let clock = Arc::new(SystemClock::start());
        let settings = Arc::new(Settings::new(config));
        let files = system::FileBudget::of_process();
        let advertised = address::advertised(settings.config(), kafka_address).await;
        let planes = Planes::start(PlanesOptions {
            io: Io {
                disk,
                clock: clock.clone(),
                network,
                rng: Rng::from_os(),
                drive: Drive::Thread,
                wal: wal::Drive::Threads,
            },
            wal: wal_options(settings.config(), files.log_files),
            raft: raft::Limits::default(),
            dir,
            settings: settings.clone(),
            kafka: advertised.clone(),
        })
        .await?;

        let kafka_metrics = Arc::new(Metrics::default());
        let broker = broker(&planes, settings, clock);
        let gathered = NodeMetrics::new(&broker, &planes, &kafka_metrics);
        metrics.set(gathered).unwrap_or_else(|_| unreachable!("metrics are set once, because a node starts once"));
        let groups = broker.groups.clone();
        let mut front = Tasks::new();
        front.spawn("serve Kafka clients", |stop| serve_kafka(kafka, broker, kafka_metrics, files, stop));
        readiness.enter(Phase::Ready);
        Ok(Self {
            cluster,
            kafka_address,
            http_address,
            advertised: advertised.to_string(),
            planes,
            groups,
            readiness,
            front,
            pages,
        })
    }

    fn tell_ready(&self, took: Duration) {
        tracing::info!(
            node = self.planes.node.get(),
            epoch = self.planes.epoch.get(),
            cluster = self.cluster,
            kafka = %self.kafka_address,
            advertised = self.advertised,
            wal = %self.planes.addresses.wal,
            grpc = %self.planes.addresses.grpc,
            http = %self.http_address,
            ms = took.as_millis() as u64,
            "ready"
        );
        hint::Hint::of(&program(), self.kafka_address).tell();
    }

    /// Why the node can't go on; resolves when something it needs ends or fails.
    async fn failure(&mut self) -> String {
        tokio::select! {
            why = self.planes.failure() => why,
            why = self.front.ended() => why,
            why = self.pages.ended() => why,
        }
    }

    /// The way back: leaders move away first, then clients, the mark of a clean stop last.
    async fn stop(mut self) -> Result<(), NodeError> {
        self.readiness.enter(Phase::Stopping);
        self.planes.step_aside().await;
        self.groups.release();
        self.front.stop().await;
        self.groups.stop().await;
        let dir = self.planes.stop().await?;
        self.pages.stop().await;
        // Last of all: whoever gets the folder finds the ports free, too.
        drop(dir);
        Ok(())
    }
}

/// Takes the data folder. One that a process uses may be about to become free, when that process is ending.
async fn open_data_dir(disk: &Arc<dyn Disk>, config: &Config) -> Result<DataDir, NodeError> {
    let attempt = || {
        let (disk, path, node, cluster) =
            (disk.clone(), config.data_dir.clone(), config.node_id, config.cluster_id.clone());
        blocking(move || DataDir::open(disk, &path, node, cluster.as_deref(), Uuid::new_v4))
    };
    when_free(attempt).await.map_err(refused)
}

/// Tries again, for a short while, what is in use.
async fn when_free<T, A: Future<Output = Result<T, DataDirError>>>(
    mut attempt: impl FnMut() -> A,
) -> Result<T, DataDirError> {
    let until = tokio::time::Instant::now() + FREE_WITHIN;
    let mut told = false;
    loop {
        match attempt().await {
            Err(why @ DataDirError::InUse(_)) if tokio::time::Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!("{why}: waiting a moment, in case that it is ending");
                }
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
            settled => return settled,
        }
    }
}

/// What clients' requests are answered with.
fn broker(planes: &Planes, settings: Arc<Settings>, clock: Arc<SystemClock>) -> Arc<Broker> {
    let metadata: Arc<dyn MetadataPlane> = planes.raft.clone();
    let at_start = settings.at_start();
    let slots = usize::try_from(at_start.max_incremental_fetch_session_cache_slots).unwrap_or(0);
    let options = GroupOptions::of(&at_start);
    Arc::new(Broker {
        node: planes.node,
        groups: GroupCoordinator::start(options, clock.clone(), metadata.clone(), planes.partitions.clone()),
        producer_ids: ProducerIds::start(planes.node, metadata.clone()),
        metadata,
        quorum: planes.quorum.clone(),
        partitions: planes.partitions.clone(),
        logs: planes.logs.clone(),
        wal: planes.wal.clone(),
        fetch_sessions: Arc::new(FetchSessions::new(slots)),
        offload: Offload::default(),
        response_memory: ResponseMemory::default(),
        settings,
        clock,
    })
}

async fn serve_kafka(
    listener: Listener,
    broker: Arc<Broker>,
    metrics: Arc<Metrics>,
    files: system::FileBudget,
    stop: CancellationToken,
) -> Result<(), String> {
    let limits = Limits::of(&broker.settings.at_start()).within(files.connections);
    let served = listener.serve(broker, limits, metrics, stop).await;
    served.map_err(|why| format!("start the threads for connections: {why}"))
}

async fn serve_http(listener: TcpListener, pages: Pages, stop: CancellationToken) -> Result<(), String> {
    http::serve(listener, pages, stop).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In use for so many attempts: the outcome, and how many were made.
    async fn in_use_for(busy: u32) -> (Result<u32, DataDirError>, u32) {
        let mut attempts = 0;
        let outcome = when_free(|| {
            attempts += 1;
            std::future::ready(if attempts <= busy { Err(DataDirError::InUse("d".into())) } else { Ok(attempts) })
        });
        let outcome = outcome.await;
        (outcome, attempts)
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_whose_process_is_ending_is_waited_for_briefly() {
        assert!(matches!(in_use_for(0).await, (Ok(1), 1)));
        assert!(matches!(in_use_for(5).await, (Ok(6), 6)));
        let begun = tokio::time::Instant::now();
        let (outcome, attempts) = in_use_for(u32::MAX).await;
        assert_eq!(outcome.expect_err("it stays in use").to_string(), "the data folder d is in use by another process");
        assert!(attempts > 10 && begun.elapsed() >= FREE_WITHIN && begun.elapsed() < 2 * FREE_WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn any_other_refusal_is_told_at_once() {
        let mut attempts = 0;
        let outcome = when_free(|| {
            attempts += 1;
            std::future::ready(Err::<(), _>(DataDirError::NoIdentity("d".into())))
        });
        assert!(outcome.await.is_err());
        assert_eq!(attempts, 1);
    }
}
