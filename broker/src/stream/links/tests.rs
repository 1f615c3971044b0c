//! Both ends together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::frame::{Frame, Hello, Lane};
use super::liveness::SILENT_AFTER;
use super::pipe::{FrameReader, FrameWriter, pipe};
use super::testing::{CLUSTER, FakeFollowers, FakeLeaders, MemoryNetwork, Told, about, large_record, record};
use super::*;
use crate::io::net::Network;
use crate::io::net::real::RealNetwork;
use crate::io::net::tls::TlsNetwork;
use crate::io::net::tls::testing::Authority;
use crate::metadata::testing::node as registration;
use crate::metadata::{Command, Image, State};
use crate::stream::replication::Reject;

/// Nodes 1 to 3, all registered.
struct Cluster {
    network: Arc<dyn Network>,
    images: watch::Sender<Arc<Image>>,
    tasks: JoinSet<()>,
}

/// A node's receiving end.
struct Receiver {
    followers: Arc<FakeFollowers>,
    address: String,
    stop: DropGuard,
}

/// A node's sending end.
struct Sender {
    leaders: Arc<FakeLeaders>,
    lost: tokio::sync::broadcast::Receiver<PeerLost>,
    _stop: DropGuard,
}

impl Cluster {
    fn on(network: impl Network) -> Self {
        let mut state = State::new(Image::empty(CLUSTER));
        for id in 1..=3 {
            state.apply(id as u64, Command::RegisterNode { node: registration(id), acked_may_be_lost: false });
        }
        let images = watch::Sender::new(state.image());
        Self { network: Arc::new(network), images, tasks: JoinSet::new() }
    }

    /// As the image knows a node.
    fn myself(&self, id: i32) -> Myself {
        let image = self.images.borrow();
        let node = image.node(NodeId::new(id)).expect("it is registered");
        let epoch = watch::Sender::new(node.epoch).subscribe();
        Myself { cluster: CLUSTER.to_owned(), node: node.id, directory: node.directory, epoch }
    }

    async fn receiver(&mut self, id: i32, address: &str) -> Receiver {
        self.receiver_of(id, address, Arc::default()).await
    }

    async fn receiver_of(&mut self, id: i32, address: &str, followers: Arc<FakeFollowers>) -> Receiver {
        let (network, images) = (self.network.as_ref(), self.images.subscribe());
        let myself = self.myself(id);
        let listener = network.listen(address).await.unwrap();
        let receiver = WalReceiver::new(listener, myself, followers.clone(), images, LinkMetrics::default());
        let stop = CancellationToken::new();
        let address = receiver.local_addr().to_string();
        self.tasks.spawn(receiver.serve(stop.clone()));
        Receiver { followers, address, stop: stop.drop_guard() }
    }

    fn sender(&mut self, id: i32, to: &[&Receiver]) -> Sender {
        let leaders = Arc::new(FakeLeaders::default());
        let senders = Senders::new(SenderOptions {
            myself: self.myself(id),
            network: Arc::clone(&self.network),
            leaders: leaders.clone(),
            images: self.images.subscribe(),
            followers: to.iter().map(|receiver| receiver.address.clone()).collect(),
            metrics: LinkMetrics::default(),
        });
        let lost = senders.lost();
        let stop = CancellationToken::new();
        self.tasks.spawn(senders.run(stop.clone()));
        Sender { leaders, lost, _stop: stop.drop_guard() }
    }

    /// A stranger's connection.
    async fn dial(&self, receiver: &Receiver) -> (FrameReader, FrameWriter) {
        pipe(self.network.dial(&receiver.address).await.unwrap().stream)
    }

    fn hello(&self, from: i32, to: i32) -> Hello {
        let cluster = CLUSTER.to_owned();
        Hello { cluster, from: self.myself(from).identity(), to: NodeId::new(to), lane: Lane::Live }
    }
}

/// Says Hello; what is answered.
async fn answer(link: &mut (FrameReader, FrameWriter), hello: Hello) -> Result<Frame, LinkError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    link.1.push(&Frame::Hello(hello));
    link.1.write_by(deadline, Duration::from_secs(5)).await?;
    link.0.frame_by(deadline, Duration::from_secs(5)).await
}

#[tokio::test]
async fn each_follower_has_what_the_leader_appends_and_answers_as_itself() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let three = cluster.receiver(3, "127.0.0.1:0").await;
    let one = cluster.sender(1, &[&two, &three]);
    one.leaders.lead(0, &[2, 3]);
    one.leaders.lead(1, &[3]);
    for base in 0..100 {
        one.leaders.append(0, record(base, base + 1));
        one.leaders.append(1, record(base, base + 1));
    }
    one.leaders.all_acked(0).await;
    one.leaders.all_acked(1).await;
    let records: Vec<_> = (0..100).map(|base| record(base, base + 1)).collect();
    assert_eq!(two.followers.log(0).records, records);
    assert_eq!(three.followers.log(1).records, records);
    assert_eq!(three.followers.log(0).from, Some(NodeId::new(1)));
    let told = one.leaders.told();
    assert!(told.contains(&Told::Acked(0, 2, 100)) && told.contains(&Told::Acked(0, 3, 100)));
    assert!(!told.iter().any(|told| matches!(told, Told::Acked(1, 2, _))), "node 2 does not follow partition 1");
    two.followers.until(0, |log| log.marks.is_some_and(|marks| marks.high_watermark.get() == 100)).await;
}

#[tokio::test]
async fn a_follower_far_behind_catches_up_on_its_own_lane_and_comes_back() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let one = cluster.sender(1, &[&two]);
    one.leaders.lead(0, &[2]);
    one.leaders.lead(1, &[2]);
    one.leaders.all_acked(0).await;
    two.followers.until(0, |log| !log.sessions.is_empty()).await;
    one.leaders.resign(0);
    one.leaders.lead(2, &[]);
    for base in 0..20 {
        one.leaders.append(2, large_record(base, 1 << 20));
    }
    one.leaders.follow(2, 2);
    one.leaders.all_acked(2).await;
    one.leaders.append(2, record(20, 21));
    one.leaders.all_acked(2).await;
    let log = two.followers.log(2);
    assert_eq!(log.end().get(), 21);
    assert!(log.sessions.len() >= 3, "live, catching up, and live again: {:?}", log.sessions);
    assert!(log.sessions.is_sorted(), "each session is newer than the one before");
    two.followers.until(2, |_| one.leaders.is_tailed(2)).await;
}

#[tokio::test]
async fn a_follower_that_comes_back_is_found_again_and_goes_on_where_it_was() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let mut one = cluster.sender(1, &[&two]);
    one.leaders.lead(0, &[2]);
    one.leaders.append(0, record(0, 1));
    one.leaders.all_acked(0).await;
    let Receiver { followers, address, stop } = two;
    drop(stop);
    assert_eq!(one.lost.recv().await, Ok(PeerLost { node: NodeId::new(2) }));
    assert!(one.leaders.told().contains(&Told::Lost(0, 2, None)));
    one.leaders.append(0, record(1, 2));
    let two = cluster.receiver_of(2, &address, followers).await;
    one.leaders.all_acked(0).await;
    assert_eq!(two.followers.log(0).records, [record(0, 1), record(1, 2)]);
}

#[tokio::test]
async fn a_refused_session_is_told_with_its_reason_and_tried_again() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let one = cluster.sender(1, &[&two]);
    one.leaders.lead(0, &[2]);
    one.leaders.append(0, record(0, 1));
    one.leaders.all_acked(0).await;
    *two.followers.refuse.lock() = Some(Reject::DiskFull);
    one.leaders.append(0, record(1, 2));
    one.leaders.append(0, record(2, 3));
    one.leaders.all_acked(0).await;
    assert!(one.leaders.told().contains(&Told::Lost(0, 2, Some(Reject::DiskFull))));
    assert_eq!(two.followers.log(0).end().get(), 3);
}

#[tokio::test]
async fn a_leader_that_is_not_who_it_says_is_told_why_it_is_refused() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let good = cluster.hello(1, 2);
    let mut old = good.clone();
    old.from.epoch = old.from.epoch.next();
    let mut elsewhere = good.clone();
    elsewhere.cluster = "other".to_owned();
    let mut wiped = good.clone();
    wiped.from.directory = Uuid::from_u128(99);
    let cases = [
        (old, "epoch"),
        (elsewhere, "the cluster other"),
        (wiped, "the directory"),
        (cluster.hello(1, 3), "node 2 answers where node 3 was expected"),
        (cluster.hello(2, 2), "own id"),
    ];
    for (hello, why) in cases {
        let mut link = cluster.dial(&two).await;
        let answer = answer(&mut link, hello).await;
        assert!(matches!(&answer, Ok(Frame::Refused(reason)) if reason.contains(why)), "{answer:?}");
        assert!(matches!(link.0.more().await, Err(LinkError::Closed)));
    }
    let answered = answer(&mut cluster.dial(&two).await, good).await;
    assert_eq!(answered.unwrap(), Frame::HelloAck(cluster.myself(2).identity()));
}

#[tokio::test]
async fn a_newer_connection_takes_the_place_of_an_older_one() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let mut older = cluster.dial(&two).await;
    answer(&mut older, cluster.hello(1, 2)).await.unwrap();
    let mut newer = cluster.dial(&two).await;
    answer(&mut newer, cluster.hello(1, 2)).await.unwrap();
    while older.0.more().await.is_ok() {}
    newer.1.push(&Frame::Greet(about(0, 1)));
    let deadline = Instant::now() + Duration::from_secs(5);
    newer.1.write_by(deadline, Duration::from_secs(5)).await.unwrap();
    let state = newer.0.frame_by(deadline, Duration::from_secs(5)).await;
    assert!(matches!(state, Ok(Frame::State(..))), "{state:?}");
}

#[tokio::test]
async fn strangers_that_say_nothing_or_nonsense_are_turned_away() {
    let mut cluster = Cluster::on(RealNetwork);
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    let mut early = cluster.dial(&two).await;
    early.1.push(&Frame::Greet(about(0, 1)));
    early.1.write().await.unwrap();
    assert!(early.0.more().await.is_err(), "a session before the handshake");
    let mut stream = cluster.network.dial(&two.address).await.unwrap().stream;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(pipe(stream).0.more().await.is_err(), "no frame");
    let mut silent = cluster.dial(&two).await;
    tokio::time::pause();
    assert!(silent.0.more().await.is_err(), "nothing at all");
}

#[tokio::test(start_paused = true)]
async fn a_silent_link_is_closed_and_made_anew() {
    let network = MemoryNetwork::default();
    let mut cluster = Cluster::on(network.clone());
    let two = cluster.receiver(2, "10.0.0.2:9291").await;
    let one = cluster.sender(1, &[&two]);
    one.leaders.lead(0, &[2]);
    one.leaders.append(0, record(0, 1));
    one.leaders.all_acked(0).await;
    let (start, links) = (Instant::now(), network.dialled());
    tokio::time::sleep(10 * SILENT_AFTER).await;
    assert_eq!(network.dialled(), links, "an idle link stands");
    assert!(start.elapsed() >= SILENT_AFTER);
    network.swallow();
    let cut = Instant::now();
    one.leaders.append(0, record(1, 2));
    one.leaders.all_acked(0).await;
    // The last that was heard before may have been a heartbeat's interval earlier.
    let silence = Duration::from_millis(1_200)..Duration::from_millis(1_800);
    assert!(silence.contains(&cut.elapsed()), "{:?}", cut.elapsed());
    assert_eq!(two.followers.log(0).end().get(), 2);
}

/// Encrypted, as this node.
async fn encrypted(authority: &Authority, id: i32) -> Arc<dyn Network> {
    let dir = tempfile::tempdir().unwrap();
    authority.issue(dir.path(), &[&format!("chronik://{CLUSTER}/node/{id}")]);
    Arc::new(TlsNetwork::open(Arc::new(RealNetwork), dir.path()).await.unwrap())
}

#[tokio::test]
async fn records_go_over_tls_and_each_end_is_who_its_certificate_says() {
    let authority = Authority::new();
    let mut cluster = Cluster::on(RealNetwork);
    cluster.network = encrypted(&authority, 2).await;
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    cluster.network = encrypted(&authority, 1).await;
    let one = cluster.sender(1, &[&two]);
    one.leaders.lead(0, &[2]);
    for base in 0..5 {
        one.leaders.append(0, large_record(base, 1 << 20));
    }
    one.leaders.all_acked(0).await;
    assert_eq!(two.followers.log(0).end().get(), 5);

    cluster.network = encrypted(&authority, 3).await;
    let refused = answer(&mut cluster.dial(&two).await, cluster.hello(1, 2)).await;
    assert!(
        matches!(&refused, Ok(Frame::Refused(reason)) if reason.contains("its certificate is of node 3")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_follower_with_the_certificate_of_another_gets_nothing() {
    let authority = Authority::new();
    let mut cluster = Cluster::on(RealNetwork);
    cluster.network = encrypted(&authority, 3).await;
    let false_two = cluster.receiver(2, "127.0.0.1:0").await;
    cluster.network = encrypted(&authority, 2).await;
    let two = cluster.receiver(2, "127.0.0.1:0").await;
    cluster.network = encrypted(&authority, 1).await;
    // Both addresses are tried, the false one first.
    let one = cluster.sender(1, &[&false_two, &two]);
    one.leaders.lead(0, &[2]);
    one.leaders.append(0, record(0, 1));
    one.leaders.all_acked(0).await;
    assert_eq!(two.followers.log(0).end().get(), 1);
    assert!(false_two.followers.is_empty());
}
