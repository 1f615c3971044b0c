//! The metadata plane with as much as it is built for, in a process of its own: time and memory have room to spare on
//! a busy machine without optimization, so a failure means a change in kind, not in degree.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronik_broker::ids::{BrokerEpoch, NodeId, TopicId};
use chronik_broker::io::clock::SystemClock;
use chronik_broker::io::disk::real::RealDisk;
use chronik_broker::io::grpc;
use chronik_broker::io::net::Network as _;
use chronik_broker::io::net::real::RealNetwork;
use chronik_broker::io::rng::Rng;
use chronik_broker::metadata::controller::moves::next_moves;
use chronik_broker::metadata::{
    ClusterVersion, Command, Image, Membership as _, MetadataPlane, NewTopic, Node, Outcome, State, is_safe_to_stop,
    snapshot,
};
use chronik_broker::raft::{
    Beginning, Cluster, Drive, Limits, Me, PeersService, RaftNode, RaftOptions, Serving, bootstrap,
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

fn node(id: i32) -> Node {
    Node {
        id: NodeId::new(id),
        directory: uuid::Uuid::from_u128(id as u128),
        epoch: BrokerEpoch::FIRST,
        fenced: false,
        stopping: false,
        host: "localhost".to_owned(),
        port: 9092,
        wal: None,
        grpc: None,
        rack: None,
        version: "test".to_owned(),
        newest_version: ClusterVersion::NEWEST,
    }
}

fn topic(number: usize, assignment: Vec<Vec<NodeId>>) -> Command {
    Command::CreateTopic(NewTopic {
        name: format!("topic-{number}"),
        id: TopicId::from_uuid(uuid::Uuid::from_u128(number as u128 + 1)).expect("not nil"),
        assignment,
        configs: Vec::new(),
    })
}

/// Bytes of memory that this process occupies.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4096
}

fn assert_below(what: &str, took: Duration, limit: Duration) {
    println!("{what}: {took:?}");
    assert!(took < limit, "{what}: {took:?}, more than {limit:?}");
}

/// One process measures its own memory: the parts run one after the other.
#[test]
fn the_metadata_plane_at_scale() {
    a_state_of_100_000_partitions();
    a_thousand_topics_are_created();
    three_nodes_commit();
}

fn a_state_of_100_000_partitions() {
    let before = resident_bytes();
    let mut state = State::new(Image::empty("cluster"));
    for id in 0..3 {
        state.apply(state.index() + 1, Command::RegisterNode { node: node(id), acked_may_be_lost: false });
    }
    let replicas = |partition: i32| (0..3).map(|step| NodeId::new((partition + step) % 3)).collect();
    for number in 0..10_000 {
        let outcome = state.apply(state.index() + 1, topic(number, (0..10).map(replicas).collect()));
        assert_eq!(outcome, Outcome::Done);
    }
    let image = state.image();
    let image_bytes = resident_bytes().saturating_sub(before);
    println!("image of 100,000 partitions: {} MB", image_bytes >> 20);
    assert!(image_bytes < 200 << 20, "{image_bytes} bytes");

    let start = Instant::now();
    let bytes = snapshot::encode(&image);
    assert_below("snapshot of 100,000 partitions", start.elapsed(), Duration::from_secs(2));
    println!("snapshot: {} kB", bytes.len() >> 10);
    let start = Instant::now();
    let decoded = snapshot::decode(bytes.into()).expect("what was encoded");
    assert_below("reading it", start.elapsed(), Duration::from_secs(2));
    assert_eq!(decoded, *image);

    let start = Instant::now();
    state.apply(state.index() + 1, topic(10_000, vec![vec![NodeId::new(0)]]));
    assert_eq!(state.image().changed_topics(&image).count(), 1);
    assert_below("one more topic, and what it changed", start.elapsed(), Duration::from_millis(50));

    let start = Instant::now();
    state.apply(state.index() + 1, Command::RegisterNode { node: node(0), acked_may_be_lost: false });
    assert_below("electing a third of 100,000 partitions anew", start.elapsed(), Duration::from_secs(2));

    a_node_of_100_000_partitions_is_drained_and_dies(state);
}

fn a_node_of_100_000_partitions_is_drained_and_dies(mut state: State) {
    state.apply(state.index() + 1, Command::RegisterNode { node: node(3), acked_may_be_lost: false });
    let drained = NodeId::new(0);
    let start = Instant::now();
    assert_eq!(state.apply(state.index() + 1, Command::BeginDrain(drained)), Outcome::Done);
    let moves = next_moves(&state.image(), 20);
    assert_below("planning a drain among 100,000 partitions", start.elapsed(), Duration::from_secs(1));
    assert_eq!(moves.len(), 20);

    let start = Instant::now();
    assert!(is_safe_to_stop(&state.image(), drained).is_safe());
    assert_below("asking whether a stop is safe", start.elapsed(), Duration::from_secs(1));

    let epoch = state.image().node(drained).expect("registered").epoch;
    let start = Instant::now();
    assert_eq!(state.apply(state.index() + 1, Command::FenceNode { node: drained, epoch }), Outcome::Done);
    assert_below("fencing a replica of 100,000 partitions", start.elapsed(), Duration::from_secs(2));
}

fn a_thousand_topics_are_created() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let plane = start(folder.path());
    runtime.block_on(async {
        let register = Command::RegisterNode { node: node(0), acked_may_be_lost: false };
        assert!(matches!(plane.propose(register).await, Ok(Outcome::Registered(_))));
        let start = Instant::now();
        for number in 0..1_000 {
            let outcome = plane.propose(topic(number, vec![vec![NodeId::new(0)]; 10])).await;
            assert_eq!(outcome, Ok(Outcome::Done));
        }
        assert_below("1,000 topics, one after the other", start.elapsed(), Duration::from_secs(10));

        let start = Instant::now();
        let mut creations = tokio::task::JoinSet::new();
        for number in 1_000..2_000 {
            let plane = Arc::clone(&plane);
            creations.spawn(async move { plane.propose(topic(number, vec![vec![NodeId::new(0)]; 10])).await });
        }
        while let Some(created) = creations.join_next().await {
            assert_eq!(created.expect("no panic"), Ok(Outcome::Done));
        }
        assert_below("1,000 topics at once", start.elapsed(), Duration::from_secs(10));
    });
    plane.shutdown();
    let restart = Instant::now();
    let plane = self::start(folder.path());
    assert_below("restart with 20,000 partitions", restart.elapsed(), Duration::from_secs(3));
    assert_eq!(plane.image().topic_count(), 2_000);
    plane.shutdown();
}

fn start(folder: &Path) -> Arc<RaftNode> {
    let me = Me {
        cluster_id: "cluster".to_owned(),
        node: NodeId::new(0),
        directory: uuid::Uuid::from_u128(1),
        address: String::new(),
    };
    let options = options(me, folder);
    RaftNode::form(&options).expect("a new folder");
    RaftNode::start(options).expect("formed")
}

fn options(me: Me, folder: &Path) -> RaftOptions {
    RaftOptions {
        rng: Rng::seeded(me.directory.as_u128() as u64),
        me,
        dir: folder.join("__meta"),
        disk: Arc::new(RealDisk),
        clock: Arc::new(SystemClock::start()),
        network: Arc::new(RealNetwork),
        limits: Limits::default(),
        drive: Drive::Thread,
        fatal: Arc::new(|error| panic!("{error}")),
    }
}

/// Three nodes on loopback, each with its own folder and fsyncs.
fn three_nodes_commit() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a temporary folder")).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut initial_voters = Vec::new();
        for id in 0..3 {
            let listener = RealNetwork.listen("127.0.0.1:0").await.expect("a free port");
            initial_voters.push((NodeId::new(id), listener.local_addr().to_string()));
        }
        let cluster = Cluster { initial_voters, seeds: Vec::new() };
        let starting = folders.iter().enumerate().map(|(at, folder)| start_voter(&cluster, at, folder.path()));
        let planes: Vec<Arc<RaftNode>> = futures::future::join_all(starting).await;
        for plane in &planes {
            let mut images = plane.subscribe();
            images.wait_for(|image| image.members().voters.len() == 3).await.expect("the node runs");
        }
        let follower = planes.iter().find(|plane| plane.leadership().borrow().is_none()).expect("two follow").clone();
        let register = Command::RegisterNode { node: node(0), acked_may_be_lost: false };
        assert!(matches!(follower.propose(register).await, Ok(Outcome::Registered(_))));

        let mut latencies = Vec::new();
        for number in 0..200 {
            let start = Instant::now();
            assert_eq!(follower.propose(topic(number, vec![vec![NodeId::new(0)]])).await, Ok(Outcome::Done));
            latencies.push(start.elapsed());
        }
        latencies.sort();
        println!("a commit by a follower of three: median {:?}", latencies[100]);
        assert_below("the 99th of 100", latencies[198], Duration::from_millis(500));

        let start = Instant::now();
        let mut creations = tokio::task::JoinSet::new();
        for number in 1_000..4_000 {
            let plane = planes[number % 3].clone();
            creations.spawn(async move { plane.propose(topic(number, vec![vec![NodeId::new(0)]])).await });
        }
        while let Some(created) = creations.join_next().await {
            assert_eq!(created.expect("no panic"), Ok(Outcome::Done));
        }
        assert_below("3,000 commands at once on all three", start.elapsed(), Duration::from_secs(30));
        for plane in &planes {
            plane.barrier().await.expect("a leader answers");
            assert_eq!(plane.image().topic_count(), 3_200);
        }
        tokio::task::spawn_blocking(move || planes.iter().for_each(|plane| plane.shutdown())).await.expect("no panic");
    });
}

async fn start_voter(cluster: &Cluster, at: usize, folder: &Path) -> Arc<RaftNode> {
    let (id, address) = cluster.initial_voters[at].clone();
    let me =
        Me { cluster_id: "cluster".to_owned(), node: id, directory: uuid::Uuid::from_u128(at as u128 + 1), address };
    let options = options(me.clone(), folder);
    let (network, rng) = (options.network.clone(), options.rng.clone());
    let serving = Serving::new(me.clone(), true, CancellationToken::new());
    let listener = network.listen(&me.address).await.expect("a free port");
    let routes = Routes::new(PeersService::server(serving.clone()));
    tokio::spawn(grpc::serve(listener, routes, CancellationToken::new()));
    match bootstrap::begin(&me, cluster, &network, &rng).await.expect("it becomes part of the cluster") {
        Beginning::Form => RaftNode::form(&options).expect("a new folder"),
        Beginning::Join(roster) => RaftNode::join(&options, roster).expect("a new folder"),
    }
    let plane = RaftNode::start(options).expect("formed or joined");
    serving.set_node(plane.clone());
    plane
}
