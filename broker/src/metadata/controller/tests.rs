//! What the controller does, by table and by story; its driver and a node's presence in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::{broadcast, watch};

use super::duties::{Controller, Duty, Effect};
use super::moves::{Obstacle, drain_progress, next_moves};
use super::*;
use crate::ids::{BrokerEpoch, NodeId};
use crate::metadata::heartbeat::{Heartbeat, HeartbeatLink, HeartbeatReply, HeartbeatSink, Sending};
use crate::metadata::testing::{Cluster, InstantPlane, ids, node};
use crate::metadata::{Command, ElectionKind, MetadataPlane, Node, Outcome};

/// A controller on node 0, the cluster whose commands it proposes, and time.
struct Story {
    cluster: Cluster,
    controller: Controller,
    now: Duration,
    /// What dialling a node shows; `Silent` for others.
    dials: BTreeMap<i32, Dialled>,
    /// All that was proposed.
    proposed: Vec<Command>,
}

fn options() -> ControllerOptions {
    let (suspect, session) = (Duration::from_secs(1), Duration::from_secs(2));
    ControllerOptions { session, suspect, ..ControllerOptions::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Story {
    fn new(cluster: Cluster) -> Self {
        Self::with(cluster, options())
    }

    fn with(cluster: Cluster, options: ControllerOptions) -> Self {
        let now = Duration::from_secs(1000);
        let controller = Controller::new(NodeId::new(0), options, cluster.image(), now);
        Self { cluster, controller, now, dials: BTreeMap::new(), proposed: Vec::new() }
    }

    /// Carries out what the controller wants, until it wants nothing more.
    fn settle(&mut self) {
        loop {
            let effects = self.controller.look(self.now);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Dial(node) => {
                        let dialled = self.dials.get(&node.id.get()).copied().unwrap_or(Dialled::Silent);
                        self.controller.dialled(node.id, node.epoch, dialled, self.now);
                    }
                    Effect::Propose(duty, command) => {
                        self.cluster.apply(command.clone());
                        self.proposed.push(command);
                        self.controller.follow(self.cluster.image(), self.now);
                        self.controller.proposed(duty);
                    }
                }
            }
        }
    }

    /// Lets time pass, in which these nodes are heard.
    fn pass(&mut self, time: Duration, heard: &[i32]) {
        let until = self.now + time;
        while self.now < until {
            self.now += ms(50);
            for &id in heard {
                self.hear(id);
            }
            self.settle();
        }
    }

    fn hear(&mut self, id: i32) -> HeartbeatReply {
        let applied = self.cluster.image().index();
        let heartbeat = Heartbeat { epoch: self.cluster.epoch(id), applied, ..heartbeat(id) };
        self.controller.heartbeat(&heartbeat, self.now)
    }

    fn fenced(&self, id: i32) -> bool {
        self.cluster.image().node(NodeId::new(id)).expect("registered").fenced
    }

    fn change(&mut self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster);
        self.controller.follow(self.cluster.image(), self.now);
    }
}

fn heartbeat(id: i32) -> Heartbeat {
    Heartbeat { node: NodeId::new(id), directory: node(id).directory, epoch: BrokerEpoch::FIRST, applied: 0 }
}

#[test]
fn a_new_controller_dials_every_node_and_fences_those_where_nobody_listens() {
    let mut story = Story::new(Cluster::of(3));
    story.dials = BTreeMap::from([(1, Dialled::Refused), (2, Dialled::Answered)]);
    story.settle();
    assert!(story.fenced(1), "it died with the controller before this one: it is not waited for");
    assert!(!story.fenced(2) && !story.fenced(0));
}

#[test]
fn a_node_that_is_heard_is_never_fenced_nor_dialled() {
    let mut story = Story::new(Cluster::of(3));
    story.dials = BTreeMap::from([(1, Dialled::Answered), (2, Dialled::Answered)]);
    story.settle();
    story.dials.clear();
    story.pass(Duration::from_mins(1), &[1, 2]);
    assert_eq!(story.proposed, []);
}

#[test]
fn a_silent_node_is_fenced_after_its_session_when_dialling_is_in_vain() {
    let mut story = Story::new(Cluster::of(2));
    story.pass(ms(1900), &[]);
    assert!(!story.fenced(1), "a new controller starts the sessions afresh");
    story.pass(ms(200), &[]);
    assert!(story.fenced(1));
}

#[test]
fn a_silent_node_that_answers_when_dialled_gets_more_time_but_not_for_ever() {
    let mut story = Story::new(Cluster::of(2));
    story.dials = BTreeMap::from([(1, Dialled::Answered)]);
    story.pass(ms(5900), &[]);
    assert!(!story.fenced(1));
    story.pass(ms(200), &[]);
    assert!(story.fenced(1), "it can't reach the controller");
}

#[test]
fn a_closed_connection_and_nobody_listening_is_death_at_once() {
    let mut story = Story::new(Cluster::of(3));
    story.dials = BTreeMap::from([(1, Dialled::Answered), (2, Dialled::Answered)]);
    story.settle();
    story.controller.lost(NodeId::new(1));
    story.settle();
    assert!(!story.fenced(1), "only the connection is gone");
    story.dials.insert(1, Dialled::Refused);
    story.controller.lost(NodeId::new(1));
    story.settle();
    assert!(story.fenced(1) && !story.fenced(2));
}

#[test]
fn what_the_controller_slept_is_nobodys_silence() {
    let mut story = Story::new(Cluster::of(2));
    story.pass(ms(500), &[1]);
    story.now += Duration::from_secs(30);
    story.settle();
    assert!(!story.fenced(1));
    story.pass(ms(2100), &[]);
    assert!(story.fenced(1));
}

#[test]
fn a_fenced_node_that_is_heard_comes_back_once_it_knows_that_it_was_fenced() {
    let mut story = Story::new(Cluster::of(2));
    let before = story.cluster.image().index();
    story.pass(ms(2100), &[]);
    let epoch = story.cluster.epoch(1);
    let late = Heartbeat { epoch, applied: before, ..heartbeat(1) };
    assert_eq!(story.controller.heartbeat(&late, story.now), HeartbeatReply::Alive { fenced: true });
    story.settle();
    assert!(story.fenced(1), "it may think still that it leads");
    story.hear(1);
    story.settle();
    assert!(!story.fenced(1));
    assert_eq!(story.cluster.epoch(1), epoch, "in the same registration");
}

#[test]
fn a_controller_that_was_fenced_by_the_one_before_it_brings_itself_back() {
    let mut cluster = Cluster::of(2);
    cluster.fence(0);
    let mut story = Story::new(cluster);
    story.pass(ms(300), &[0, 1]);
    assert!(!story.fenced(0));
    story.pass(Duration::from_secs(10), &[1]);
    assert!(!story.fenced(0), "it is alive as long as it controls");
}

#[test]
fn a_node_that_is_stopping_does_not_come_back_by_a_late_heartbeat() {
    let mut story = Story::new(Cluster::of(2));
    story.change(|cluster| cluster.begin_stop(1));
    story.change(|cluster| cluster.fence(1));
    story.hear(1);
    story.settle();
    assert!(story.fenced(1));
}

#[test]
fn a_heartbeat_of_another_registration_is_superseded_unless_it_is_newer_than_the_image() {
    let mut story = Story::new(Cluster::of(2));
    let image = story.cluster.image();
    let current = story.cluster.epoch(1);
    let with = |epoch: i64| Heartbeat { epoch: BrokerEpoch::new(epoch), ..heartbeat(1) };
    let alive = HeartbeatReply::Alive { fenced: false };
    let cases = [
        (with(current.get()), alive),
        (with(current.get() - 1), HeartbeatReply::Superseded),
        (with(image.index() as i64 + 1), alive),
        (Heartbeat { directory: uuid::Uuid::from_u128(9), ..with(current.get()) }, HeartbeatReply::Superseded),
        (heartbeat(5), HeartbeatReply::Superseded),
    ];
    for (heartbeat, reply) in cases {
        assert_eq!(story.controller.heartbeat(&heartbeat, story.now), reply, "{heartbeat:?}");
    }
}

#[test]
fn a_new_registration_begins_a_new_session() {
    let mut story = Story::new(Cluster::of(2));
    story.pass(ms(1900), &[]);
    story.change(|cluster| {
        cluster.register(node(1), false);
    });
    story.pass(ms(1900), &[]);
    assert!(!story.fenced(1));
    story.pass(ms(200), &[]);
    assert!(story.fenced(1));
}

#[test]
fn a_stop_that_does_not_happen_ends_after_its_time() {
    let options = ControllerOptions { stop: Duration::from_secs(10), ..options() };
    let mut story = Story::with(Cluster::of(2), options);
    let epoch = story.cluster.epoch(1);
    story.change(|cluster| cluster.done(Command::PrepareStop { node: NodeId::new(1), epoch }));
    story.pass(Duration::from_secs(9), &[1]);
    assert!(story.cluster.image().stop_grant().is_some());
    story.pass(Duration::from_secs(2), &[1]);
    assert_eq!(story.cluster.image().stop_grant(), None);
    assert_eq!(story.proposed, [Command::EndStop { node: NodeId::new(1), epoch }]);
}

#[test]
fn leaders_go_back_to_preferred_replicas_now_and_then() {
    let mut cluster = Cluster::of(3);
    cluster.create("t", 1, &[&[1, 2]], 1);
    cluster.begin_stop(1);
    cluster.register(node(1), false);
    assert_eq!(cluster.partition("t").leader, Some(NodeId::new(2)));
    let mut story = Story::new(cluster);
    story.pass(Duration::from_secs(299), &[1, 2]);
    assert_eq!(story.cluster.partition("t").leader, Some(NodeId::new(2)));
    story.pass(Duration::from_secs(2), &[1, 2]);
    assert_eq!(story.cluster.partition("t").leader, Some(NodeId::new(1)));
}

#[test]
fn rule_11_unclean_elections_happen_only_where_somebody_turned_them_on() {
    let mut cluster = Cluster::of(3);
    cluster.create("t", 1, &[&[1, 2]], 1);
    cluster.set_isr("t", &[1]);
    let mut story = Story::new(cluster);
    story.dials = BTreeMap::from([(2, Dialled::Answered), (1, Dialled::Refused)]);
    story.pass(ms(3000), &[2]);
    assert_eq!(story.cluster.partition("t").leader, None, "off by default");
    let changes = vec![("unclean.leader.election.enable".to_owned(), Some("true".to_owned()))];
    let resource = crate::metadata::ConfigResource::Topic("t".into());
    story.change(|cluster| cluster.done(Command::SetConfigs { resource, changes }));
    story.pass(ms(100), &[2]);
    assert_eq!(story.cluster.partition("t").leader, Some(NodeId::new(2)));
    let elections = |command: &&Command| matches!(command, Command::ElectLeaders { kind: ElectionKind::Unclean, .. });
    assert_eq!(story.proposed.iter().filter(elections).count(), 1);
}

#[test]
fn rule_15_a_reassignment_is_completed_when_the_added_replicas_are_in_sync() {
    let mut cluster = Cluster::of(3);
    cluster.create("t", 1, &[&[0, 1]], 1);
    let mut story = Story::new(cluster);
    story.change(|cluster| {
        cluster.reassign("t", &[0, 2]);
    });
    story.pass(ms(500), &[1, 2]);
    assert!(story.cluster.partition("t").reassignment.is_some());
    story.change(|cluster| cluster.set_isr("t", &[0, 1, 2]));
    story.pass(ms(100), &[1, 2]);
    assert_eq!(story.cluster.partition("t").replicas, ids(&[0, 2]));
}

/// Brings every partition's replicas in sync, as their leaders do.
fn catch_up(cluster: &mut Cluster) {
    let names: Vec<String> = cluster.image().topics().map(|topic| topic.name.to_string()).collect();
    for name in names {
        let all: Vec<i32> = cluster.partition(&name).replicas.iter().map(|node| node.get()).collect();
        let alive = |id: &i32| cluster.image().node(NodeId::new(*id)).is_some_and(|node| !node.fenced);
        let isr: Vec<i32> = all.into_iter().filter(alive).collect();
        if cluster.partition(&name).leader.is_some() {
            cluster.set_isr(&name, &isr);
        }
    }
}

#[test]
fn a_drain_moves_everything_a_few_at_a_time_also_under_a_new_controller() {
    let mut cluster = Cluster::of(5);
    for number in 0..10 {
        cluster.create(&format!("t{number}"), 1 + number, &[&[4, 0, 1]], 2);
    }
    cluster.done(Command::BeginDrain(NodeId::new(4)));
    let options = ControllerOptions { moves: 3, ..options() };
    let mut story = Story::with(cluster, options.clone());
    for round in 0..20 {
        story.pass(ms(300), &[1, 2, 3, 4]);
        let progress = drain_progress(&story.cluster.image(), NodeId::new(4));
        assert!(progress.moving <= 3, "{progress:?}");
        story.change(catch_up);
        if round == 3 {
            story.controller = Controller::new(NodeId::new(0), options.clone(), story.cluster.image(), story.now);
        }
    }
    let image = story.cluster.image();
    assert_eq!(drain_progress(&image, NodeId::new(4)).left, 0);
    let held = |id: i32| image.partitions().filter(|(_, p)| p.replicas.contains(&NodeId::new(id))).count();
    assert_eq!([held(2), held(3)], [5, 5], "spread over those that had the fewest");
}

#[test]
fn a_drain_goes_to_a_rack_that_has_no_replica_yet() {
    let mut cluster = Cluster::of(0);
    for (id, rack) in [(0, "a"), (1, "b"), (2, "a"), (3, "c"), (4, "c")] {
        cluster.register(Node { rack: Some(rack.to_owned()), ..node(id) }, false);
    }
    cluster.create("t", 1, &[&[0, 1, 3]], 1);
    cluster.create("u", 2, &[&[4, 1]], 1);
    cluster.done(Command::BeginDrain(NodeId::new(3)));
    let moves = next_moves(&cluster.image(), 10);
    assert_eq!(moves.len(), 1);
    assert_eq!(moves[0].target, ids(&[0, 1, 4]), "node 4 is in the rack of the drained one");
    cluster.done(Command::BeginDrain(NodeId::new(4)));
    let targets: Vec<_> = next_moves(&cluster.image(), 10).into_iter().map(|wanted| wanted.target).collect();
    assert_eq!(targets, [ids(&[0, 1, 2]), ids(&[0, 1])].map(|target| target).to_vec());
}

#[test]
fn a_drain_says_what_stands_in_its_way() {
    let mut cluster = Cluster::of(3);
    cluster.create("t", 1, &[&[0, 1]], 1);
    cluster.done(Command::BeginDrain(NodeId::new(0)));
    cluster.fence(2);
    let obstacles = |cluster: &Cluster| drain_progress(&cluster.image(), NodeId::new(0)).obstacles;
    assert_eq!(obstacles(&cluster), [Obstacle::NoNode(cluster.first_of("t"))]);
    assert_eq!(next_moves(&cluster.image(), 10), []);
    cluster.fence(0);
    cluster.fence(1);
    assert_eq!(obstacles(&cluster), [Obstacle::Leaderless(cluster.first_of("t"))]);
}

proptest! {
    /// Whatever order of deaths, returns and catching up: nobody below the minimum because of a drain, and it ends.
    #[test]
    fn a_drain_never_takes_a_partition_below_its_minimum(steps in prop::collection::vec(0_u8..8, 0..40)) {
        let mut cluster = Cluster::of(5);
        cluster.create("t", 1, &[&[4, 0, 1]], 2);
        cluster.create("u", 2, &[&[1, 4]], 2);
        cluster.done(Command::BeginDrain(NodeId::new(4)));
        let mut story = Story::new(cluster);
        for step in steps {
            match step {
                0 => story.change(catch_up),
                1..=4 => {
                    let id = i32::from(step);
                    let fenced = story.fenced(id);
                    story.change(|cluster| if fenced { cluster.unfence(id) } else { cluster.fence(id) });
                }
                _ => {
                    let before: Vec<_> = story.cluster.image().partitions().map(|(id, p)| (id, p.isr.clone())).collect();
                    story.pass(ms(200), &[1, 2, 3, 4]);
                    let image = story.cluster.image();
                    for (id, isr) in before {
                        let now = image.partition(&id).expect("it is there");
                        prop_assert!(now.isr.len() >= isr.len().min(2), "{isr:?} became {now:?}");
                    }
                }
            }
        }
        for id in 1..5 {
            if story.fenced(id) {
                story.change(|cluster| cluster.unfence(id));
            }
        }
        for _ in 0..5 {
            story.change(catch_up);
            story.pass(ms(300), &[1, 2, 3, 4]);
        }
        prop_assert_eq!(drain_progress(&story.cluster.image(), NodeId::new(4)).left, 0);
    }
}

/// Answers as told; a node that is not named never answers.
#[derive(Default)]
struct Dials(Mutex<BTreeMap<i32, Dialled>>);

impl Dialler for Dials {
    fn dial<'a>(&'a self, node: &'a Node) -> Dialling<'a> {
        let dialled = self.0.lock().get(&node.id.get()).copied();
        Box::pin(async move {
            match dialled {
                Some(dialled) => dialled,
                None => std::future::pending().await,
            }
        })
    }
}

/// Hands heartbeats to one sink.
struct Direct(Arc<ControllerService>);

impl HeartbeatLink for Direct {
    fn send<'a>(&'a self, _to: NodeId, heartbeat: &'a Heartbeat) -> Sending<'a> {
        Box::pin(std::future::ready(Ok(self.0.heartbeat(heartbeat))))
    }
}

/// Waits, in virtual time, until the image is as wanted; says how long it took.
async fn wait_for(plane: &InstantPlane, wanted: impl Fn(&crate::metadata::Image) -> bool) -> Duration {
    let began = tokio::time::Instant::now();
    let mut images = plane.subscribe();
    let found = images.wait_for(|image| wanted(image));
    tokio::time::timeout(Duration::from_mins(1), found).await.expect("in time").expect("the plane lives");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_node_is_kept_alive_by_its_heartbeats_and_fenced_without_them() {
    let plane = InstantPlane::new();
    let epoch = register_node(plane.as_ref(), node(1), false).await.expect("a new node");
    let service = ControllerService::new(NodeId::FIRST, plane.clone(), ControllerOptions::default());
    assert_eq!(service.heartbeat(&heartbeat(1)), HeartbeatReply::NotLeader { leader: None }, "before it leads");
    let (leadership, leads) = watch::channel(None);
    let (lost, losses) = broadcast::channel(8);
    let dials = Arc::new(Dials::default());
    let running = tokio::spawn({
        let (service, dials) = (service.clone(), dials.clone());
        async move { service.run(leads, losses, dials).await }
    });
    leadership.send_replace(Some(7));
    let presence = tokio::spawn({
        let (plane, service) = (plane.clone(), service.clone());
        let options = ControllerOptions::default();
        async move { keep_alive(plane, Arc::new(Direct(service)), &node(1), epoch, &options).await }
    });
    tokio::time::sleep(Duration::from_secs(30)).await;
    let fenced = |image: &crate::metadata::Image| image.node(NodeId::new(1)).is_some_and(|node| node.fenced);
    assert!(!fenced(&plane.image()));
    presence.abort();
    let took = wait_for(&plane, fenced).await;
    assert!(took < Duration::from_secs(3), "silent for {took:?}");

    let epoch = register_node(plane.as_ref(), node(1), false).await.expect("the same data folder");
    dials.0.lock().insert(1, Dialled::Refused);
    lost.send(NodeId::new(1)).expect("the controller listens");
    let took = wait_for(&plane, fenced).await;
    assert!(took < Duration::from_millis(100), "its connection closed and nobody listens: {took:?}");

    register_node(plane.as_ref(), node(1), false).await.expect("the same data folder");
    let options = ControllerOptions::default();
    let superseded = keep_alive(plane.clone(), Arc::new(Direct(service)), &node(1), epoch, &options).await;
    assert_eq!(superseded, Superseded { node: NodeId::new(1), epoch });
    drop(leadership);
    running.await.expect("it ends with the metadata plane");
}

#[tokio::test(start_paused = true)]
async fn a_registration_from_another_data_folder_waits_until_the_old_session_is_fenced() {
    let plane = InstantPlane::new();
    let epoch = register_node(plane.as_ref(), node(1), false).await.expect("a new node");
    let other = Node { directory: uuid::Uuid::from_u128(7), ..node(1) };
    let waiting = tokio::spawn({
        let (plane, other) = (plane.clone(), other.clone());
        async move { register_node(plane.as_ref(), other, false).await }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished());
    let fence = Command::FenceNode { node: NodeId::new(1), epoch };
    assert_eq!(plane.propose(fence).await, Ok(Outcome::Done));
    waiting.await.expect("no panic").expect("the old session is over");
}

#[tokio::test(start_paused = true)]
async fn a_second_process_with_the_same_node_id_is_refused_and_says_so() {
    let plane = InstantPlane::new();
    let other = Node { directory: uuid::Uuid::from_u128(7), ..node(0) };
    let error = register_node(plane.as_ref(), other, false).await.expect_err("node 0 is alive");
    let text = "the registration of node 0 was refused: the node id is in use by another data folder";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn a_registration_answers_a_newer_broker_epoch_each_time() {
    let plane = InstantPlane::new();
    let first = register_node(plane.as_ref(), node(0), false).await.expect("the same data folder");
    let second = register_node(plane.as_ref(), node(0), false).await.expect("the same data folder");
    assert!(second > first);
}

#[tokio::test]
async fn a_node_that_leaves_steps_aside_first_and_one_that_is_alone_just_stops() {
    let plane = InstantPlane::new();
    let alone = plane.image().node(NodeId::FIRST).expect("registered").epoch;
    let within = Duration::from_secs(1);
    let before = plane.image().index();
    step_aside(plane.as_ref(), NodeId::FIRST, alone, within).await.expect("nothing to do");
    depart(plane.as_ref(), NodeId::FIRST, alone, within).await.expect("nothing to do");
    assert_eq!(plane.image().index(), before);

    let epoch = register_node(plane.as_ref(), node(1), false).await.expect("a new node");
    step_aside(plane.as_ref(), NodeId::new(1), epoch, within).await.expect("a leader is there");
    let state = |plane: &InstantPlane| plane.image().node(NodeId::new(1)).map(|node| (node.stopping, node.fenced));
    assert_eq!(state(&plane), Some((true, false)));
    depart(plane.as_ref(), NodeId::new(1), epoch, within).await.expect("a leader is there");
    assert_eq!(state(&plane), Some((true, true)));
    let stale = depart(plane.as_ref(), NodeId::FIRST, epoch, within).await;
    assert!(stale.is_ok(), "node 0 is alone now");
}

#[test]
fn a_duty_is_proposed_once_at_a_time() {
    let mut cluster = Cluster::of(2);
    cluster.create("t", 1, &[&[1]], 1);
    let mut controller = Controller::new(NodeId::new(0), ControllerOptions::default(), cluster.image(), ms(0));
    let fences = |effects: Vec<Effect>| {
        effects.iter().filter(|effect| matches!(effect, Effect::Propose(Duty::Fence(_), _))).count()
    };
    let epoch = cluster.epoch(1);
    controller.look(ms(0));
    controller.dialled(NodeId::new(1), epoch, Dialled::Refused, ms(10));
    assert_eq!(fences(controller.look(ms(20))), 1);
    assert_eq!(fences(controller.look(ms(40))), 0);
    controller.proposed(Duty::Fence(NodeId::new(1)));
    assert_eq!(fences(controller.look(ms(60))), 1, "it got no outcome: once more");
}
