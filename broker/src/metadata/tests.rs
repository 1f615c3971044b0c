//! Properties of the state machine as a whole: deterministic, total, the same through a snapshot, and its invariants.

use proptest::prelude::*;

use super::testing::node;
use super::{
    AlterPartition, ClusterVersion, Command, ConfigResource, ElectionKind, Image, Move, NewTopic, Node,
    PartitionRegistration, State, TopicChange, codec, snapshot,
};
use crate::ids::{BrokerEpoch, NodeId, PartitionIndex, TopicId, TopicPartition};

/// Random numbers that [`command`] turns into a command which has a chance of being carried out.
type Choice = [u8; 8];

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    prop::collection::vec(any::<Choice>(), 0..60)
}

fn topic_id(number: u8) -> TopicId {
    TopicId::from_uuid(uuid::Uuid::from_u128(1 + u128::from(number % 4))).expect("never nil")
}

fn topic_name(number: u8) -> String {
    format!("topic-{}", number % 5)
}

/// A node's registration as it is, or a stale one.
fn epoch(image: &Image, node: NodeId, stale: u8) -> BrokerEpoch {
    let current = image.node(node).map_or(0, |node| node.epoch.get());
    BrokerEpoch::new(if stale.is_multiple_of(8) { current / 2 } else { current })
}

fn replicas(number: u8) -> Vec<NodeId> {
    let first = i32::from(number % 4);
    (0..i32::from(number / 4 % 4)).map(|step| NodeId::new((first + step) % 4)).collect()
}

fn alter_partition(image: &Image, choice: Choice) -> AlterPartition {
    let [_, topic, partition, members, stale, ..] = choice;
    let id = partition_id(topic, partition);
    let is = image.partition(&id);
    let leader = is.and_then(|is| is.leader).unwrap_or(NodeId::new(0));
    let all = is.map(|is| is.replicas.clone()).unwrap_or_default();
    let chosen = |(at, node): (usize, NodeId)| (node == leader || members >> at & 1 == 1).then_some(node);
    AlterPartition {
        partition: id,
        leader,
        leader_broker_epoch: epoch(image, leader, stale),
        leader_epoch: is.map_or(crate::ids::LeaderEpoch::FIRST, |is| is.leader_epoch),
        partition_epoch: is.map_or(crate::ids::PartitionEpoch::FIRST, |is| is.partition_epoch),
        isr: all.into_iter().enumerate().filter_map(chosen).map(|node| (node, epoch(image, node, stale / 8))).collect(),
    }
}

fn command(image: &Image, choice: Choice) -> Command {
    let [kind, a, b, c, d, ..] = choice;
    let id = NodeId::new(i32::from(a % 4));
    match kind % 29 {
        0 | 1 => {
            let directory = uuid::Uuid::from_u128(u128::from(b % 2));
            Command::RegisterNode { node: Node { directory, ..node(id.get()) }, acked_may_be_lost: c % 4 == 0 }
        }
        2 => Command::FenceNode { node: id, epoch: epoch(image, id, b) },
        3 | 4 => Command::CreateTopic(NewTopic {
            name: topic_name(a),
            id: topic_id(b),
            assignment: (0..c % 4).map(|at| replicas(d.wrapping_add(at))).collect(),
            configs: if c > 200 { vec![("min.insync.replicas".to_owned(), "2".to_owned())] } else { Vec::new() },
        }),
        5 => Command::DeleteTopic(topic_id(a)),
        6 => Command::CreatePartitions {
            topic: topic_id(a),
            existing: PartitionIndex::new(i32::from(b % 4)),
            assignment: vec![replicas(c)],
        },
        7 | 8 => Command::AlterPartition(alter_partition(image, choice)),
        9 => Command::SetConfigs {
            resource: match a % 5 {
                0 => ConfigResource::Topic(topic_name(b).into()),
                1 => ConfigResource::Broker(id),
                2 => ConfigResource::BrokerDefault,
                3 => ConfigResource::Group("group".into()),
                _ => ConfigResource::ClientMetrics("metrics".into()),
            },
            changes: vec![("min.insync.replicas".to_owned(), (c % 4 != 0).then(|| (c % 3).to_string()))],
        },
        10 => Command::AllocateProducerIds { node: id, epoch: epoch(image, id, b) },
        11 | 12 => Command::UnfenceNode { node: id, epoch: epoch(image, id, b) },
        13 => Command::UnregisterNode { node: id, only_if_empty: b % 2 == 0 },
        14 => Command::BeginStop { node: id, epoch: epoch(image, id, b) },
        15 => Command::PrepareStop { node: id, epoch: epoch(image, id, b) },
        16 => Command::EndStop { node: id, epoch: epoch(image, id, b) },
        17 => Command::ElectLeaders {
            kind: if b % 3 == 0 { ElectionKind::Unclean } else { ElectionKind::Preferred },
            partitions: vec![partition_id(c, d), partition_id(d, c)],
        },
        18 | 19 => Command::BeginReassignment(vec![Move {
            partition: partition_id(b, c),
            target: replicas(d),
            partition_epoch: None,
        }]),
        20 | 21 => complete_reassignment(image, partition_id(b, c)),
        22 => Command::CancelReassignment(vec![partition_id(b, c)]),
        23 => Command::BeginDrain(id),
        24 => Command::CancelDrain(id),
        25 => Command::AcquireOperatorLease { holder: format!("operator-{b}") },
        27 => Command::SetClusterVersion(ClusterVersion::NEWEST),
        26 => Command::SetThrottle((b % 2 == 0).then_some(u64::from(c))),
        _ => {
            let epoch =
                image.operator().map_or(0, |lease| lease.epoch) - u64::from(b % 4 == 0 && image.operator().is_some());
            Command::UnderLease { epoch, command: Box::new(Command::BeginDrain(id)) }
        }
    }
}

fn partition_id(topic: u8, partition: u8) -> TopicPartition {
    TopicPartition { topic: topic_id(topic), partition: PartitionIndex::new(i32::from(partition % 3)) }
}

/// As the controller proposes it, or stale.
fn complete_reassignment(image: &Image, asked: TopicPartition) -> Command {
    let moving = image.partitions().find(|(_, partition)| partition.reassignment.is_some());
    let (partition, partition_epoch) =
        moving.map_or((asked, crate::ids::PartitionEpoch::FIRST), |(id, partition)| (id, partition.partition_epoch));
    Command::CompleteReassignment { partition, partition_epoch }
}

/// The commands of a run, each chosen with a look at the state it meets, and the state at the end.
fn run(choices: &[Choice]) -> (Vec<Command>, State) {
    let mut state = State::new(Image::empty("cluster"));
    let mut commands = Vec::new();
    for &choice in choices {
        let command = command(&state.image(), choice);
        state.apply(state.index() + 1, command.clone());
        commands.push(command);
    }
    (commands, state)
}

fn assert_invariants(image: &Image) {
    for topic in image.topics() {
        assert_eq!(image.topic_by_id(topic.id), Some(topic));
        assert!(!topic.partitions.is_empty());
        for partition in &topic.partitions {
            assert_partition(image, partition);
            let minimum = partition.minimum_isr(image.min_insync_replicas(&topic.name));
            let enough = partition.isr.len() >= minimum;
            assert!(
                partition.elr.is_empty() || !enough,
                "rule 10: the ISR acknowledges without the ELR: {partition:?}"
            );
        }
    }
    assert_eq!(image.topics().count(), image.topic_count());
    assert!(image.drains().all(|(node, _)| image.node(node).is_some()));
    assert!(
        image.stop_grant().is_none_or(|grant| image.node(grant.node).is_some_and(|node| node.epoch == grant.epoch))
    );
    for resource in image.config_resources() {
        if let ConfigResource::Topic(name) = resource {
            assert!(image.topic(name).is_some(), "settings of a topic that is not there");
        }
    }
}

fn assert_partition(image: &Image, partition: &PartitionRegistration) {
    let within = |nodes: &[NodeId]| nodes.iter().all(|node| partition.replicas.contains(node));
    assert!(within(&partition.isr) && within(&partition.elr), "{partition:?}");
    assert!(partition.isr.iter().all(|member| !partition.elr.contains(member)), "{partition:?}");
    assert_eq!(partition.leader.is_some(), partition.leader_broker_epoch.is_some());
    if let Some(leader) = partition.leader {
        let node = image.node(leader).expect("only registered nodes lead");
        assert!(!node.fenced, "a fenced node leads");
        assert_eq!(partition.leader_broker_epoch, Some(node.epoch), "rule 14: led in its current registration");
        assert!(partition.isr.contains(&leader), "{partition:?}");
        assert_eq!(partition.last_leader, Some(leader));
    } else {
        let alive = |node: &NodeId| image.node(*node).is_some_and(|node| !node.fenced);
        assert!(!partition.isr.iter().chain(&partition.elr).any(alive), "somebody could lead: {partition:?}");
    }
    assert!(partition.isr.iter().all(|member| image.node(*member).is_some_and(|node| !node.fenced)));
    assert_reassignment(partition);
}

/// Rule 15: nobody who was there, or is to be there, is missing while it runs.
fn assert_reassignment(partition: &PartitionRegistration) {
    let distinct: std::collections::BTreeSet<_> = partition.replicas.iter().collect();
    assert_eq!(distinct.len(), partition.replicas.len(), "{partition:?}");
    if let Some(moving) = &partition.reassignment {
        let within = |nodes: &[NodeId]| nodes.iter().all(|node| partition.replicas.contains(node));
        assert!(within(&moving.original) && within(&moving.target), "{partition:?}");
        assert!(partition.replicas.starts_with(&moving.target), "{partition:?}");
    }
}

proptest! {
    #[test]
    fn the_same_log_gives_the_same_state(choices in choices()) {
        let (commands, state) = run(&choices);
        let mut other = State::new(Image::empty("cluster"));
        for (index, command) in commands.into_iter().enumerate() {
            other.apply(index as u64 + 1, command);
        }
        prop_assert_eq!(state, other);
    }

    #[test]
    fn a_snapshot_at_any_point_and_the_rest_give_the_same_state(choices in choices(), at: prop::sample::Index) {
        let (commands, state) = run(&choices);
        let at = at.index(commands.len() + 1);
        let (_, start) = run(&choices[..at]);
        let bytes = snapshot::encode(&start.image());
        prop_assert_eq!(&bytes, &snapshot::encode(&start.image()), "the same state has the same bytes");
        let mut other = State::new(snapshot::decode(bytes.into()).expect("what was encoded"));
        for command in commands.into_iter().skip(at) {
            other.apply(other.index() + 1, command);
        }
        prop_assert_eq!(state, other);
    }

    #[test]
    fn apply_is_total_keeps_its_invariants_and_a_refusal_changes_nothing(choices in choices()) {
        let mut state = State::new(Image::empty("cluster"));
        for choice in choices {
            let before = state.clone();
            let command = command(&state.image(), choice);
            let outcome = state.apply(state.index() + 1, command);
            assert_invariants(&state.image());
            if outcome.refused().is_some() {
                let mut skipped = before;
                skipped.skip(skipped.index() + 1);
                prop_assert_eq!(&state, &skipped);
            }
        }
    }

    #[test]
    fn epochs_only_grow(choices in choices()) {
        let mut state = State::new(Image::empty("cluster"));
        for choice in choices {
            let before = state.image();
            state.apply(state.index() + 1, command(&before, choice));
            for change in state.image().changed_topics(&before) {
                let TopicChange::Changed { before, after } = change else { continue };
                for (before, after) in before.partitions.iter().zip(&after.partitions) {
                    let same = before == after;
                    let step = after.partition_epoch.get() - before.partition_epoch.get();
                    prop_assert_eq!(step, i32::from(!same));
                    prop_assert!(after.leader_epoch >= before.leader_epoch);
                    let led_alike = (before.leader, before.leader_broker_epoch) == (after.leader, after.leader_broker_epoch);
                    prop_assert!(led_alike || after.leader_epoch > before.leader_epoch);
                }
            }
        }
    }

    #[test]
    fn the_changes_between_two_images_lead_from_one_to_the_other(choices in choices(), at: prop::sample::Index) {
        let (_, state) = run(&choices);
        let (_, earlier) = run(&choices[..at.index(choices.len() + 1)]);
        let (now, then) = (state.image(), earlier.image());
        let mut topics: std::collections::BTreeMap<_, _> = then.topics().map(|topic| (topic.id, topic.clone())).collect();
        for change in now.changed_topics(&then) {
            match change {
                TopicChange::Created(topic) => prop_assert!(topics.insert(topic.id, topic.clone()).is_none()),
                TopicChange::Changed { before, after } => {
                    prop_assert!(topics.insert(after.id, after.clone()).as_ref() == Some(before));
                }
                TopicChange::Deleted(topic) => prop_assert!(topics.remove(&topic.id).as_ref() == Some(topic)),
            }
        }
        let expected: std::collections::BTreeMap<_, _> = now.topics().map(|topic| (topic.id, topic.clone())).collect();
        prop_assert_eq!(topics, expected);
        for resource in now.config_resources().chain(then.config_resources()) {
            let differs = !now.configs(resource).eq(then.configs(resource));
            prop_assert_eq!(differs, now.changed_configs(&then).any(|changed| changed == resource));
        }
    }

    #[test]
    fn a_command_survives_its_bytes(choices in choices()) {
        for command in run(&choices).0 {
            let bytes = codec::encode(&command);
            prop_assert_eq!(codec::decode(bytes.into()).expect("what was encoded"), command);
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = bytes::Bytes::from(bytes);
        // Reaching the end without a panic is the point.
        let _ = codec::decode(bytes.clone());
        let _ = snapshot::decode(bytes);
    }

    #[test]
    fn damaged_commands_decode_or_are_refused(choices in choices(), at: prop::sample::Index, flip in 1_u8..) {
        for command in run(&choices).0 {
            let mut bytes = codec::encode(&command);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            let _ = codec::decode(bytes.into());
        }
    }
}

#[test]
fn a_command_of_a_kind_from_a_newer_version_is_an_error_that_says_so() {
    // Field 1000, length-delimited, empty.
    let newer = bytes::Bytes::from_static(&[0xc2, 0x3e, 0x00]);
    let error = codec::decode(newer).expect_err("no such kind");
    assert!(matches!(error, codec::DecodeError::UnknownKind));
    assert!(error.to_string().contains("newer version"));
}
