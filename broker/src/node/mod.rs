//! A node of a cluster: its two planes, put together. The Kafka side, HTTP and signals are not here (`server`), so that
//! the simulation can start nodes, too: all that a node has of the world is its [`Io`].
//!
//! Reading order: [`Planes`] (start-up and shutdown, in order), [`addresses`] (where its ports are), `group` (how it becomes
//! part of its cluster's Raft group), `storage` (its WAL and logs), `streaming` (its links to the other nodes), `presence` (how it
//! registers, and leaves), `grpc` (what its gRPC port serves).

pub mod addresses;
mod group;
mod grpc;
mod presence;
mod storage;
mod streaming;
pub(crate) mod tasks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{HostPort, Settings};
use crate::datadir::DataDir;
use crate::ids::{BrokerEpoch, NodeId};
use crate::io::blocking;
use crate::io::clock::Clock;
use crate::io::disk::Disk;
use crate::io::net::{Listener, Network};
use crate::io::rng::Rng;
use crate::log::LogStore;
use crate::metadata::controller::{ControllerOptions, ControllerService};
use crate::metadata::quorum::QuorumView;
use crate::metadata::{Image, MetadataPlane};
use crate::raft::{Drive, Limits, Me, RaftNode};
use crate::stream::Partitions;
use crate::stream::links::LinkMetrics;
use crate::wal::{self, GroupCommitWal, WalOptions};

use addresses::{Addresses, Bound};
use grpc::GrpcPort;
use tasks::Tasks;

pub use storage::{JOURNAL_DIR, wal_options};

/// All that a node has of the world.
#[derive(Clone)]
pub struct Io {
    /// Where it stores.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the other nodes are.
    pub network: Arc<dyn Network>,
    /// Chance.
    pub rng: Rng,
    /// Where its Raft loop runs.
    pub drive: Drive,
    /// Where its message WAL works.
    pub wal: wal::Drive,
}

/// Why a node did not start, or ended. One line each.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// What it was given can't be served: settings, data folder, addresses.
    #[error("{0}")]
    Refused(String),
    /// It failed at work.
    #[error("{0}")]
    Failed(String),
}

pub(crate) fn refused(why: impl std::fmt::Display) -> NodeError {
    NodeError::Refused(why.to_string())
}

pub(crate) fn failed(why: impl std::fmt::Display) -> NodeError {
    NodeError::Failed(why.to_string())
}

/// What a node's planes are started with.
pub struct PlanesOptions {
    /// The world.
    pub io: Io,
    /// The message WAL's sizes.
    pub wal: WalOptions,
    /// The metadata log's.
    pub raft: Limits,
    /// Its data folder, in nobody else's use.
    pub dir: DataDir,
    /// What it was given.
    pub settings: Arc<Settings>,
    /// Where Kafka clients are told to reach it.
    pub kafka: HostPort,
}

/// Both planes of a node that is registered: it leads and follows partitions, and its image is kept up.
pub struct Planes {
    /// Which node.
    pub node: NodeId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Its member of the metadata plane.
    pub raft: Arc<RaftNode>,
    /// The Raft group, as its leader sees it.
    pub quorum: Arc<dyn QuorumView>,
    /// The message WAL.
    pub wal: Arc<GroupCommitWal>,
    /// Its logs.
    pub logs: Arc<LogStore>,
    /// Its replicas.
    pub partitions: Arc<Partitions>,
    /// What its links count.
    pub link_metrics: LinkMetrics,
    /// Where its ports are.
    pub addresses: Addresses,
    dir: DataDir,
    /// Whether the cluster was there when this node stepped aside: without a quorum nobody can be told more.
    heard: bool,
    /// Follows the image and works on the logs.
    back: Tasks,
    /// Streams to and from other nodes.
    links: Tasks,
    /// Tells the controller that this node is alive.
    heartbeats: Tasks,
    /// Serves peers and administrators, and controls the cluster while this node leads; ends last.
    metadata: Tasks,
    fatal: mpsc::Receiver<String>,
}

impl Planes {
    /// Brings both planes up; resolves once the node is registered and its replicas are what its image says. A node of a
    /// cluster that has no majority waits for it.
    pub async fn start(options: PlanesOptions) -> Result<Self, NodeError> {
        let PlanesOptions { io, wal, raft: limits, mut dir, settings, kafka } = options;
        let (fatal_sender, fatal) = mpsc::channel(1);
        let MetadataSide { me, addresses, wal_port, port, raft, controller, tasks: metadata } =
            MetadataSide::start(&io, limits, &mut dir, &settings, &kafka, fatal_sender.clone()).await?;
        let storage::Storage { wal, logs } = storage::open(&io, wal, &dir, settings.clone(), fatal_sender).await?;
        group::catch_up(&raft).await?;
        let registration = presence::registration(&dir, &settings, &kafka, &addresses)?;
        let epoch = presence::register(&raft, registration.clone(), &dir, &settings).await?;
        let mut heartbeats = Tasks::new();
        heartbeats.spawn("tell the controller that this node is alive", |stop| {
            presence::keep_alive(raft.clone(), registration, epoch, controller_options(&settings), stop)
        });

        let partitions = Partitions::new(me.node, epoch, logs.clone(), wal.clone(), settings.clone());
        let mut back = Tasks::new();
        let images = raft.subscribe();
        back.spawn("follow the metadata", |stop| follow_images(partitions.clone(), images, stop));
        storage::maintain(&logs, &mut back);
        let index = raft.image().index();
        tokio::select! {
            biased;
            () = partitions.applied(index) => {}
            why = back.ended() => return Err(failed(why)),
        }
        let mut links = Tasks::new();
        let link_metrics = LinkMetrics::default();
        let streaming = streaming::Streaming {
            io: &io,
            me: &me,
            epoch,
            raft: &raft,
            controller: &controller,
            partitions: &partitions,
            settings: &settings,
            metrics: &link_metrics,
        };
        streaming.start(wal_port, &mut links);
        let quorum = port.serve_admin(&me, &io, &raft, &partitions, &settings);
        Ok(Self {
            node: me.node,
            epoch,
            raft,
            quorum,
            wal,
            logs,
            partitions,
            link_metrics,
            addresses,
            dir,
            heard: true,
            back,
            links,
            heartbeats,
            metadata,
            fatal,
        })
    }

    /// Why the node can't go on; resolves when something it needs ends or fails.
    pub async fn failure(&mut self) -> String {
        tokio::select! {
            biased;
            Some(why) = self.fatal.recv() => why,
            why = self.back.ended() => why,
            why = self.links.ended() => why,
            why = self.heartbeats.ended() => why,
            why = self.metadata.ended() => why,
        }
    }

    /// The first half of an orderly stop, while clients are still served: leaders move to other nodes, as far as there are
    /// any that can lead.
    pub async fn step_aside(&mut self) {
        self.heard = presence::step_aside(&self.raft, &self.partitions, self.epoch).await;
    }

    /// The second half, when nobody is served any more: the node leaves the ISRs, hands Raft's leadership over, stores what
    /// it has, and marks the stop as clean, unless something has failed on the way. The folder stays this process's until what is returned is dropped.
    pub async fn stop(self) -> Result<DataDir, NodeError> {
        self.heartbeats.stop().await;
        if self.heard {
            presence::depart(&self.raft, self.epoch).await;
        }
        self.links.stop().await;
        self.logs.stop_background();
        self.back.stop().await;
        let (wal, logs) = (self.wal, self.logs);
        blocking(move || storage::close(&wal, &logs)).await?;
        if self.heard {
            presence::hand_over(&self.raft).await;
        }
        self.metadata.stop().await;
        let (raft, dir, epoch, mut fatal) = (self.raft, self.dir, self.epoch, self.fatal);
        blocking(move || {
            raft.shutdown();
            // What failed meanwhile may have left half a record, which the start after a clean stop would not mend.
            if let Ok(why) = fatal.try_recv() {
                return Err(failed(why));
            }
            dir.set_clean_shutdown(epoch).map_err(failed)?;
            Ok(dir)
        })
        .await
    }
}

/// A node that takes part in its cluster's Raft group, and is not registered yet.
struct MetadataSide {
    me: Me,
    addresses: Addresses,
    wal_port: Box<dyn Listener>,
    port: GrpcPort,
    raft: Arc<RaftNode>,
    controller: Arc<ControllerService>,
    tasks: Tasks,
}

impl MetadataSide {
    /// Takes the ports, answers peers, and enters the group.
    async fn start(
        io: &Io,
        limits: Limits,
        dir: &mut DataDir,
        settings: &Settings,
        kafka: &HostPort,
        fatal: mpsc::Sender<String>,
    ) -> Result<Self, NodeError> {
        let config = settings.config();
        let Bound { addresses, grpc, wal: wal_port } = addresses::bind(io.network.as_ref(), config, kafka).await?;
        let identity = dir.identity();
        let me = Me {
            cluster_id: identity.cluster_id.clone(),
            node: identity.node,
            directory: identity.directory,
            address: addresses.grpc.to_string(),
        };
        let options = group::raft_options(io, limits, dir, &me, fatal);
        let empty = group::open(&options, dir)?;
        let mut tasks = Tasks::new();
        let port = GrpcPort::serve(grpc, me.clone(), empty, &mut tasks);
        let raft = tokio::select! {
            biased;
            raft = group::enter(options, dir, &config.cluster, port.peers()) => raft?,
            why = tasks.ended() => return Err(failed(why)),
        };
        let controller = ControllerService::new(me.node, raft.clone(), controller_options(settings));
        raft.set_heartbeats(controller.clone());
        tasks.spawn("control the cluster", |stop| presence::control(controller.clone(), raft.clone(), &me, io, stop));
        Ok(Self { me, addresses, wal_port, port, raft, controller, tasks })
    }
}

/// The controller's measures, as this node was given them.
fn controller_options(settings: &Settings) -> ControllerOptions {
    let given = settings.at_start();
    let interval = u64::try_from(given.leader_imbalance_check_interval_seconds).unwrap_or(0).max(1);
    ControllerOptions {
        balance: given.auto_leader_rebalance_enable.then(|| Duration::from_secs(interval)),
        unclean: given.unclean_leader_election_enable,
        ..ControllerOptions::default()
    }
}

/// How long a replica that found no room on the disk stays offline before it is tried again.
const OFFLINE_RETRY: Duration = Duration::from_secs(1);

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
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = images.changed() => changed.map_err(|_| "the metadata plane has ended".to_owned())?,
            () = tokio::time::sleep(OFFLINE_RETRY), if partitions.has_offline() => {}
        }
    }
}
