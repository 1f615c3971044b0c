//! Start-up and shutdown of a node, in one place, in order. Every task is owned here; the end of any is the node's.

mod address;
mod hint;
mod system;
mod tasks;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Config, Settings};
use crate::coordinator::producer_ids::ProducerIds;
use crate::coordinator::{GroupCoordinator, GroupOptions};
use crate::datadir::DataDir;
use crate::http::metrics::NodeMetrics;
use crate::http::{self, Pages, Phase, Readiness};
use crate::ids::{BrokerEpoch, NodeId};
use crate::io::blocking;
use crate::io::clock::{Clock, SystemClock};
use crate::io::disk::Disk;
use crate::io::disk::real::RealDisk;
use crate::kafka::Broker;
use crate::kafka::configs::initial_settings;
use crate::kafka::fetch_session::FetchSessions;
use crate::kafka::limits::Limits;
use crate::kafka::metrics::Metrics;
use crate::kafka::offload::Offload;
use crate::kafka::response_memory::ResponseMemory;
use crate::log::{LogError, LogStore};
use crate::metadata::controller::{RegisterError, register_node};
use crate::metadata::{Image, MetadataPlane, Node as Registration};
use crate::raft::{RaftError, RaftNode, RaftOptions};
use crate::stream::Partitions;
use crate::telemetry::LogLevel;
use crate::wal::{Durability, GroupCommitWal, WalOptions};
use tasks::Tasks;

/// An orderly stop takes no longer: what is not finished then is recovered at the next start.
const STOP_WITHIN: Duration = Duration::from_secs(25);
/// The message WAL's journal, in the folder of the WALs.
pub(crate) const JOURNAL_DIR: &str = "__commit";
/// How often background work on the logs is looked for; each kind has its own interval.
const MAINTAIN_EVERY: Duration = Duration::from_secs(1);

/// Why a node did not start, or ended. One line each.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// What it was given can't be served: settings, data folder, addresses.
    #[error("{0}")]
    Refused(String),
    /// It failed at work.
    #[error("{0}")]
    Failed(String),
}

fn refused(why: impl std::fmt::Display) -> ServerError {
    ServerError::Refused(why.to_string())
}

fn failed(why: impl std::fmt::Display) -> ServerError {
    ServerError::Failed(why.to_string())
}

/// Damaged metadata is for the operator to put right: the node does not start with less than it had.
fn not_opened(why: RaftError) -> ServerError {
    if let RaftError::Corrupt { .. } = why { refused(why) } else { failed(why) }
}

/// Runs a node until it is told to stop (SIGTERM or SIGINT), or fails.
pub async fn run(config: Config, log_level: LogLevel) -> Result<(), ServerError> {
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
    tracing::info!(
        node = node.id.get(),
        epoch = node.epoch.get(),
        cluster = node.dir.identity().cluster_id,
        kafka = %node.kafka_address,
        advertised = node.advertised,
        http = %node.http_address,
        ms = started.elapsed().as_millis() as u64,
        "ready"
    );
    hint::Hint::of(&program(), node.kafka_address).tell();
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

/// What a node stores, opened in this order.
struct Storage {
    raft: Arc<RaftNode>,
    wal: Arc<GroupCommitWal>,
    logs: Arc<LogStore>,
}

/// A node that serves.
struct Node {
    id: NodeId,
    epoch: BrokerEpoch,
    dir: DataDir,
    kafka_address: std::net::SocketAddr,
    http_address: std::net::SocketAddr,
    advertised: String,
    storage: Storage,
    groups: Arc<GroupCoordinator>,
    readiness: Arc<Readiness>,
    /// Serves clients; ends first.
    front: Tasks,
    /// Follows the image and works on the logs; ends next.
    back: Tasks,
    /// Health and metrics; end last.
    pages: Tasks,
    fatal: mpsc::Receiver<String>,
}

impl Node {
    async fn start(config: Config, log_level: LogLevel) -> Result<Self, ServerError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let (fatal_sender, fatal) = mpsc::channel(1);

        let dir = open_data_dir(&disk, &config).await?;
        let kafka = address::bind_kafka(&config).await?;
        let http = address::bind_http(&config).await?;
        let (kafka_address, http_address) = (kafka.local_addr(), http.local_addr().map_err(failed)?);

        let readiness = Arc::new(Readiness::default());
        let metrics = Arc::new(OnceLock::new());
        let mut pages = Tasks::new();
        let shown = Pages { readiness: readiness.clone(), metrics: metrics.clone(), log_level };
        pages.spawn("http", |stop| serve_http(http, shown, stop));

        let settings = Arc::new(Settings::new(config));
        let files = system::FileBudget::of_process();
        let (dir, storage) =
            open_storage(dir, disk, clock.clone(), settings.clone(), files.log_files, fatal_sender).await?;
        let advertised = address::advertised(settings.config(), kafka_address).await;
        let epoch = register(&storage.raft, &dir, &settings, &advertised).await?;

        let id = settings.node();
        let logs = storage.logs.clone();
        let partitions = Partitions::new(id, epoch, logs, storage.wal.clone(), settings.clone());
        let mut back = Tasks::new();
        let images = storage.raft.subscribe();
        let index = storage.raft.image().index();
        back.spawn("follow the metadata", |stop| follow_images(partitions.clone(), images, stop));
        back.spawn("maintain the logs", |stop| every_second(storage.logs.clone(), LogStore::maintain, stop));
        back.spawn("compact the logs", |stop| every_second(storage.logs.clone(), LogStore::compact_due, stop));
        tokio::select! {
            () = partitions.applied(index) => {}
            why = back.ended() => return Err(failed(why)),
        }

        let metadata: Arc<dyn MetadataPlane> = storage.raft.clone();
        let options = GroupOptions::of(&settings.at_start());
        let groups = GroupCoordinator::start(options, clock.clone(), metadata.clone(), partitions.clone());
        let producer_ids = ProducerIds::start(id, metadata.clone());
        let slots = usize::try_from(settings.at_start().max_incremental_fetch_session_cache_slots).unwrap_or(0);
        let fetch_sessions = Arc::new(FetchSessions::new(slots));
        let kafka_metrics = Arc::new(Metrics::default());
        let limits = Limits::of(&settings.at_start()).within(files.connections);
        let broker = Arc::new(Broker {
            node: id,
            metadata,
            partitions: partitions.clone(),
            logs: storage.logs.clone(),
            wal: storage.wal.clone(),
            groups: groups.clone(),
            producer_ids,
            fetch_sessions,
            offload: Offload::default(),
            response_memory: ResponseMemory::default(),
            settings,
            clock,
        });
        let gathered = NodeMetrics::new(&broker, &storage.raft, &kafka_metrics);
        metrics.set(gathered).unwrap_or_else(|_| unreachable!("metrics are set once, because a node starts once"));
        let mut front = Tasks::new();
        front.spawn("serve Kafka clients", |stop| async move {
            let served = kafka.serve(broker, limits, kafka_metrics, stop).await;
            served.map_err(|why| format!("start the threads for connections: {why}"))
        });
        readiness.enter(Phase::Ready);
        Ok(Self {
            id,
            epoch,
            dir,
            kafka_address,
            http_address,
            advertised: advertised.to_string(),
            storage,
            groups,
            readiness,
            front,
            back,
            pages,
            fatal,
        })
    }

    /// Why the node can't go on; resolves when something it needs ends or fails.
    async fn failure(&mut self) -> String {
        tokio::select! {
            Some(why) = self.fatal.recv() => why,
            why = self.front.ended() => why,
            why = self.back.ended() => why,
            why = self.pages.ended() => why,
        }
    }

    /// The way back: clients first, the mark of a clean stop last.
    async fn stop(self) -> Result<(), ServerError> {
        self.readiness.enter(Phase::Stopping);
        self.groups.release();
        self.front.stop().await;
        self.groups.stop().await;
        self.storage.logs.stop_background();
        self.back.stop().await;
        let Self { dir, epoch, storage, .. } = self;
        let closed = blocking(move || {
            storage.wal.sync_all().map_err(failed)?;
            storage.logs.close().map_err(failed)?;
            storage.wal.shutdown().map_err(failed)?;
            storage.raft.shutdown();
            dir.set_clean_shutdown(epoch).map_err(failed)
        });
        closed.await?;
        self.pages.stop().await;
        Ok(())
    }
}

async fn open_data_dir(disk: &Arc<dyn Disk>, config: &Config) -> Result<DataDir, ServerError> {
    let (disk, path, node, cluster) =
        (disk.clone(), config.data_dir.clone(), config.node_id, config.cluster_id.clone());
    blocking(move || DataDir::open(disk, &path, node, cluster.as_deref(), Uuid::new_v4).map_err(refused)).await
}

/// Recovers the metadata plane, then the message WAL, then the logs.
async fn open_storage(
    mut dir: DataDir,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    settings: Arc<Settings>,
    open_files: usize,
    fatal: mpsc::Sender<String>,
) -> Result<(DataDir, Storage), ServerError> {
    blocking(move || {
        let clean = dir.clean_shutdown().is_some();
        let options = RaftOptions {
            node: settings.node(),
            dir: dir.meta_dir(),
            disk: disk.clone(),
            clock: clock.clone(),
            // When the channel is full the reason is known already.
            fatal: Arc::new(move |why| drop(fatal.try_send(why.to_string()))),
        };
        if clean && dir.is_formed() {
            RaftNode::check_whole(&options).map_err(not_opened)?;
        }
        // Only now: a start that was refused leaves the mark, and so is refused again.
        dir.begin_use().map_err(failed)?;
        if !dir.is_formed() {
            RaftNode::form(&options, &dir.identity().cluster_id).map_err(failed)?;
            dir.set_formed().map_err(failed)?;
        }
        let raft = RaftNode::start(options).map_err(not_opened)?;
        let journal = dir.wal_dir().join(JOURNAL_DIR);
        let wal =
            GroupCommitWal::open(disk.clone(), journal, wal_options(settings.config(), open_files)).map_err(failed)?;
        let data_dir: PathBuf = settings.config().data_dir.clone();
        let store_options = settings.at_start().store_options();
        let logs = LogStore::open(disk, data_dir, wal.clone(), clock, store_options, clean).map_err(failed)?;
        Ok((dir, Storage { raft, wal, logs }))
    })
    .await
}

fn wal_options(config: &Config, open_files: usize) -> WalOptions {
    WalOptions {
        journal_file_bytes: 64 << 20,
        journal_files: 8,
        queue_bytes: 64 << 20,
        direct_sync_bytes: 1 << 20,
        reserve_bytes: 64 << 20,
        open_files,
        durability: config.durability,
    }
}

/// Registers this process in the metadata plane; gives a new cluster its first settings.
async fn register(
    raft: &RaftNode,
    dir: &DataDir,
    settings: &Settings,
    advertised: &crate::config::HostPort,
) -> Result<BrokerEpoch, ServerError> {
    let node = Registration {
        id: settings.node(),
        directory: dir.identity().directory,
        // Decided when the command is applied.
        epoch: BrokerEpoch::FIRST,
        fenced: false,
        host: advertised.host.clone(),
        port: advertised.port,
        rack: settings.at_start().broker_rack,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let acked_may_be_lost = settings.config().durability == Durability::Os && dir.clean_shutdown().is_none();
    let epoch = register_node(raft, node, acked_may_be_lost).await.map_err(|why| match why {
        RegisterError::Refused { .. } => refused(why),
        RegisterError::Failed { .. } => failed(why),
    })?;
    if let Some(command) = initial_settings(&raft.image(), settings.at_start().min_insync_replicas) {
        raft.propose(command).await.map_err(failed)?;
    }
    Ok(epoch)
}

async fn serve_http(listener: TcpListener, pages: Pages, stop: CancellationToken) -> Result<(), String> {
    http::serve(listener, pages, stop).await;
    Ok(())
}

/// Makes the replicas what each image says, one image after the other.
async fn follow_images(
    partitions: Arc<Partitions>,
    mut images: watch::Receiver<Arc<Image>>,
    stop: CancellationToken,
) -> Result<(), String> {
    loop {
        let image = images.borrow_and_update().clone();
        let applying = partitions.clone();
        blocking(move || applying.apply(&image)).await.map_err(|why| why.to_string())?;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = images.changed() => changed.map_err(|_| "the metadata plane has ended".to_owned())?,
        }
    }
}

/// One kind of background work on the logs, which blocks.
async fn every_second(
    logs: Arc<LogStore>,
    work: fn(&LogStore) -> Result<(), LogError>,
    stop: CancellationToken,
) -> Result<(), String> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(MAINTAIN_EVERY) => {}
        }
        let logs = logs.clone();
        blocking(move || work(&logs)).await.map_err(|why| why.to_string())?;
    }
}
