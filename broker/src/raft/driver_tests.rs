//! A group of one: the loop on its thread, and the `MetadataPlane` that it serves.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Drive, Limits, Me, RaftNode, RaftOptions};
use crate::ids::NodeId;
use crate::io::clock::SystemClock;
use crate::io::disk::sim::{Operation, SimDisk};
use crate::io::net::real::RealNetwork;
use crate::io::rng::Rng;
use crate::metadata::testing::node;
use crate::metadata::{Command, ConfigResource, MetadataPlane as _, Outcome, ProposeError, Refused, controller};

type Failures = Arc<Mutex<Vec<String>>>;

fn options(disk: &SimDisk) -> (RaftOptions, Failures) {
    let failures = Failures::default();
    let seen = Arc::clone(&failures);
    let options = RaftOptions {
        me: Me {
            cluster_id: "cluster-1".to_owned(),
            node: NodeId::new(0),
            directory: uuid::Uuid::from_u128(0x1000),
            address: String::new(),
        },
        dir: PathBuf::from("/data/wal/__meta"),
        limits: Limits::default(),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock::start()),
        rng: Rng::seeded(1),
        network: Arc::new(RealNetwork),
        drive: Drive::Thread,
        fatal: Arc::new(move |error| seen.lock().push(error.to_string())),
    };
    (options, failures)
}

fn start(disk: &SimDisk) -> (Arc<RaftNode>, Failures) {
    let (options, failures) = options(disk);
    RaftNode::form(&options).expect("no faults");
    (RaftNode::start(options).expect("formed"), failures)
}

fn set(value: &str) -> Command {
    let changes = vec![("name".to_owned(), Some(value.to_owned()))];
    Command::SetConfigs { resource: ConfigResource::BrokerDefault, changes }
}

#[tokio::test]
async fn a_proposal_is_in_the_image_when_it_resolves() {
    let (plane, _) = start(&SimDisk::new());
    let mut images = plane.subscribe();
    assert_eq!(plane.leader(), Some(NodeId::new(0)));
    assert_eq!(plane.image().cluster_id(), "cluster-1");
    let epoch = controller::register_node(plane.as_ref(), node(0), false).await.expect("nothing refuses it");
    let image = plane.image();
    assert_eq!(image.node(NodeId::new(0)).expect("registered").epoch, epoch);
    let outcome = plane.propose(Command::DeleteTopic(topic())).await.expect("applied");
    assert_eq!(outcome.refused(), Some(Refused::UnknownTopic));
    images.wait_for(|image| image.index() > epoch.get() as u64).await.expect("the node runs");
    assert_eq!(plane.stats().commit_buckets().iter().sum::<u64>(), 2);
    plane.shutdown();
}

fn topic() -> crate::ids::TopicId {
    crate::ids::TopicId::from_uuid(uuid::Uuid::from_u128(1)).expect("not nil")
}

#[tokio::test]
async fn a_restart_finds_everything_applied_at_once() {
    let disk = SimDisk::new();
    let (plane, _) = start(&disk);
    for value in ["a", "b"] {
        assert_eq!(plane.propose(set(value)).await, Ok(Outcome::Done));
    }
    plane.shutdown();
    let (plane, _) = start(&disk.kill());
    assert_eq!(plane.image().config(&ConfigResource::BrokerDefault, "name"), Some("b"));
    plane.shutdown();
}

#[tokio::test]
async fn a_stopped_node_refuses_proposals() {
    let (plane, failures) = start(&SimDisk::new());
    plane.shutdown();
    assert_eq!(plane.propose(set("a")).await, Err(ProposeError::Stopping));
    assert!(failures.lock().is_empty());
}

#[tokio::test]
async fn a_command_that_is_too_large_is_refused() {
    let (plane, _) = start(&SimDisk::new());
    let refused = plane.propose(set(&"x".repeat(9 << 20))).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { limit: 8_388_608, .. })), "{refused:?}");
    plane.shutdown();
}

#[tokio::test]
async fn a_failed_sync_is_fatal_and_answers_nothing() {
    let disk = SimDisk::new();
    let (plane, failures) = start(&disk);
    disk.fail(Operation::Sync, "__meta", 1, 5);
    assert_eq!(plane.propose(set("a")).await, Err(ProposeError::Stopping));
    plane.shutdown();
    let failures = failures.lock();
    assert!(failures[0].starts_with("sync /data/wal/__meta/"), "{failures:?}");
}
