//! `chronik topic reassign`: a topic's replicas on other nodes, or more or fewer of them. Kafka's own APIs do it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::output::{Done, list};
use super::{Failure, Shared};
use crate::client::admin::{self, Moving};
use crate::client::{Client, PartitionMetadata};

/// How often the moves under way are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is quicker shows no progress.
const SHOW_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct ReassignArgs {
    /// The topic's name
    name: String,
    /// The nodes that may hold replicas; all that are active when not given
    #[arg(long, value_name = "NODE[,…]", value_delimiter = ',', value_parser = clap::value_parser!(i32).range(0..))]
    to: Vec<i32>,
    /// How many replicas; as many as now when not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    replication_factor: Option<u16>,
    /// Go back to the replicas before the move under way
    #[arg(long, conflicts_with_all = ["to", "replication_factor", "dry_run"])]
    cancel: bool,
    /// Show what would move, and move nothing
    #[arg(long)]
    dry_run: bool,
    /// Begin it and return; it goes on by itself
    #[arg(long)]
    detach: bool,
}

/// A node that may hold replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    node: i32,
    rack: Option<String>,
}

#[derive(Serialize)]
struct Row {
    partition: i32,
    from: Vec<i32>,
    to: Vec<i32>,
}

pub(super) async fn run(args: ReassignArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    if args.cancel {
        return cancel(&client, &args.name, shared).await;
    }
    let topic = client.topic(&args.name).await?;
    let places = places(&client, &args.to).await?;
    let replicas = args.replication_factor.map(usize::from);
    let current: Vec<Vec<i32>> = topic.partitions.iter().map(|partition| partition.replicas.clone()).collect();
    let planned = spread(&current, &places, replicas)?;
    let rows = changes(&topic.partitions, planned);
    if !args.dry_run && !rows.is_empty() {
        let targets: Vec<(i32, Option<Vec<i32>>)> =
            rows.iter().map(|row| (row.partition, Some(row.to.clone()))).collect();
        admin::alter_reassignments(&client, &args.name, &targets).await?;
        if !args.detach {
            follow(&client, &args.name, rows.len()).await?;
        }
    }
    shared.open().rows(&["PARTITION", "FROM", "TO"], &rows, |row| {
        vec![row.partition.to_string(), list(&row.from), list(&row.to)]
    })
}

async fn cancel(client: &Arc<Client>, topic: &str, shared: &Shared) -> Result<(), Failure> {
    let moving = admin::list_reassignments(client, topic).await?;
    let targets: Vec<(i32, Option<Vec<i32>>)> = moving.iter().map(|it| (it.partition, None)).collect();
    if targets.is_empty() {
        return Err(Failure::Failed(format!("topic {topic}: no move is under way")));
    }
    admin::alter_reassignments(client, topic, &targets).await?;
    let cancelled = moving.iter().map(|it| Done::new("cancelled", "move", format!("{topic}-{}", it.partition)));
    shared.open().done(&cancelled.collect::<Vec<_>>())
}

/// The nodes that are asked for, or all that are active.
async fn places(client: &Arc<Client>, asked: &[i32]) -> Result<Vec<Place>, Failure> {
    let cluster = admin::describe_cluster(client).await?;
    let known: BTreeMap<i32, (Place, bool)> = cluster
        .brokers
        .iter()
        .map(|it| {
            let place = Place { node: it.broker_id, rack: it.rack.as_ref().map(ToString::to_string) };
            (it.broker_id, (place, it.is_fenced))
        })
        .collect();
    if asked.is_empty() {
        return Ok(known.into_values().filter(|(_, fenced)| !fenced).map(|(place, _)| place).collect());
    }
    let place = |node: &i32| {
        let place = known.get(node).map(|(place, _)| place.clone());
        place.ok_or_else(|| {
            let nodes: Vec<i32> = known.keys().copied().collect();
            Failure::Usage(format!("there is no node {node}; there are the nodes {}", list(&nodes)))
        })
    };
    asked.iter().map(place).collect()
}

/// Those partitions whose replicas change.
fn changes(partitions: &[PartitionMetadata], planned: Vec<Vec<i32>>) -> Vec<Row> {
    let rows =
        partitions.iter().zip(planned).map(|(now, to)| Row { partition: now.index, from: now.replicas.clone(), to });
    rows.filter(|row| row.from != row.to).collect()
}

/// Replicas of each partition on `places`. What lies there stays; what is missing goes where there is least, to other
/// racks first; what is too much leaves where there is most. The preferred leader stays the first if it stays at all,
/// otherwise the node that is first least often becomes it.
fn spread(current: &[Vec<i32>], places: &[Place], replicas: Option<usize>) -> Result<Vec<Vec<i32>>, Failure> {
    let rack = |node: i32| places.iter().find(|place| place.node == node).and_then(|place| place.rack.as_deref());
    let mut load: BTreeMap<i32, usize> = places.iter().map(|place| (place.node, 0)).collect();
    let mut kept: Vec<Vec<i32>> = current.to_vec();
    for replicas in &mut kept {
        replicas.retain(|node| load.contains_key(node));
        for node in replicas {
            *load.entry(*node).or_default() += 1;
        }
    }
    for (replicas_now, kept) in current.iter().zip(&mut kept) {
        let wanted = replicas.unwrap_or(replicas_now.len());
        if wanted > load.len() {
            return Err(Failure::Usage(format!("{wanted} replicas need {wanted} nodes, and there are {}", load.len())));
        }
        while kept.len() > wanted {
            // The first stays: it is the preferred leader.
            let Some((at, node)) = kept.iter().copied().enumerate().skip(1).max_by_key(|(_, node)| load[node]) else {
                break;
            };
            kept.remove(at);
            *load.entry(node).or_default() -= 1;
        }
        while kept.len() < wanted {
            let crowded = |node: i32| kept.iter().filter(|&&held| rack(held) == rack(node)).count();
            let free = load.iter().filter(|(node, _)| !kept.contains(node));
            let best = free.min_by_key(|&(&node, &count)| (crowded(node), count, node)).map(|(&node, _)| node);
            let node =
                best.expect("a node is free, because fewer are kept than wanted, and no more wanted than there are");
            kept.push(node);
            *load.entry(node).or_default() += 1;
        }
    }
    let mut firsts: BTreeMap<i32, usize> = BTreeMap::new();
    for (replicas_now, kept) in current.iter().zip(&mut kept) {
        if kept.first() != replicas_now.first() {
            let least = kept.iter().enumerate().min_by_key(|(_, node)| firsts.get(node).copied().unwrap_or(0));
            let at = least.map_or(0, |(at, _)| at);
            kept.swap(0, at);
        }
        if let Some(first) = kept.first() {
            *firsts.entry(*first).or_default() += 1;
        }
    }
    Ok(kept)
}

/// Waits until no partition of the topic moves any more.
async fn follow(client: &Arc<Client>, topic: &str, moves: usize) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} partitions, {eta} left")
        .expect("the template is valid, because it is a constant");
    let bar = ProgressBar::hidden().with_style(style);
    bar.set_length(moves as u64);
    loop {
        let moving: Vec<Moving> = admin::list_reassignments(client, topic).await?;
        if moving.is_empty() {
            bar.finish_and_clear();
            return Ok(());
        }
        if bar.elapsed() > SHOW_AFTER && bar.is_hidden() && std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.set_position(moves.saturating_sub(moving.len()) as u64);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nodes: &[i32]) -> Vec<Place> {
        nodes.iter().map(|&node| Place { node, rack: None }).collect()
    }

    #[test]
    fn what_may_stay_stays_and_the_rest_goes_where_there_is_least() {
        let current = [vec![0, 1], vec![1, 2], vec![2, 0]];
        assert_eq!(spread(&current, &at(&[0, 1, 2]), None).expect("enough"), current);
        assert_eq!(spread(&current, &at(&[1, 2]), None).expect("enough"), [vec![1, 2], vec![1, 2], vec![2, 1]]);
        let more = spread(&current, &at(&[0, 1, 2]), Some(3)).expect("enough");
        assert_eq!(more, [vec![0, 1, 2], vec![1, 2, 0], vec![2, 0, 1]]);
        let fewer = spread(&current, &at(&[0, 1, 2]), Some(1)).expect("enough");
        assert_eq!(fewer, [vec![0], vec![1], vec![2]]);
        assert!(spread(&current, &at(&[0]), None).is_err());
    }

    #[test]
    fn other_racks_come_first() {
        let place = |node, rack: &str| Place { node, rack: Some(rack.to_owned()) };
        let places = [place(0, "a"), place(1, "a"), place(2, "b")];
        assert_eq!(spread(&[vec![0]], &places, Some(2)).expect("enough"), [vec![0, 2]]);
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_only_where_they_may_be(
            current in prop::collection::vec(prop::collection::btree_set(0..8_i32, 1..4), 1..20),
            nodes in prop::collection::btree_set(0..8_i32, 3..8),
            wanted in prop::option::of(1_usize..4),
        ) {
            let current: Vec<Vec<i32>> = current.into_iter().map(|it| it.into_iter().collect()).collect();
            let nodes: Vec<i32> = nodes.into_iter().collect();
            let planned = spread(&current, &at(&nodes), wanted).expect("three nodes are enough for three replicas");
            for (before, after) in current.iter().zip(&planned) {
                let distinct: std::collections::BTreeSet<_> = after.iter().collect();
                prop_assert_eq!(distinct.len(), wanted.unwrap_or(before.len()));
                prop_assert_eq!(distinct.len(), after.len());
                prop_assert!(after.iter().all(|node| nodes.contains(node)));
                if nodes.contains(&before[0]) {
                    prop_assert_eq!(before[0], after[0], "the preferred leader stays");
                }
            }
        }
    }
}
