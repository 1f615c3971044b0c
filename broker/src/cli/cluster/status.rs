//! `chronik cluster status`: the cluster at one look, by the image of the node that is asked and what Raft's leader says.

use serde::Serialize;

use super::connect::Connected;
use super::drain::{DrainRow, bytes_text};
use super::nodes::{self, NodeRow};
use super::reassign::{self, Move};
use super::voters::{self, Group};
use crate::admin::proto::{
    DescribeClusterRequest, DescribeClusterResponse, ListUnhealthyPartitionsRequest, ListUnhealthyPartitionsResponse,
    PartitionCounts, PartitionHealth, UnhealthyPartition,
};
use crate::cli::Failure;
use crate::cli::output::{Output, counted, list, table};

/// Rows of a list that people are shown; programs get all of it.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Status {
    cluster_id: String,
    answered_by: i32,
    cluster_version: u32,
    metadata: Group,
    nodes: Vec<NodeRow>,
    topics: u32,
    partitions: u32,
    offline: u32,
    under_minimum: u32,
    at_minimum: u32,
    under_replicated: u32,
    reassigning: u32,
    not_preferred: u32,
    /// The worst first; of very many, the first thousand.
    unhealthy: Vec<Unhealthy>,
    /// How many there are.
    unhealthy_total: u32,
    drains: Vec<DrainRow>,
    moves: Vec<Move>,
    stop_granted_to: Option<i32>,
    operator: Option<String>,
    throttle_bytes_per_second: Option<u64>,
}

#[derive(Serialize)]
struct Unhealthy {
    topic: String,
    partition: i32,
    health: &'static str,
    leader: Option<i32>,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    /// In-sync replicas that acks=all asks for.
    minimum: u32,
}

impl From<UnhealthyPartition> for Unhealthy {
    fn from(it: UnhealthyPartition) -> Self {
        Self {
            health: match it.health() {
                PartitionHealth::Offline => "offline",
                PartitionHealth::UnderMinimum => "under minimum",
                PartitionHealth::UnderReplicated => "under-replicated",
                PartitionHealth::Unspecified => "-",
            },
            topic: it.topic,
            partition: it.partition,
            leader: it.leader,
            replicas: it.replicas,
            isr: it.in_sync,
            minimum: it.minimum,
        }
    }
}

impl Status {
    fn new(answer: DescribeClusterResponse, unhealthy: ListUnhealthyPartitionsResponse, moves: Vec<Move>) -> Self {
        let PartitionCounts {
            topics,
            partitions,
            under_replicated,
            under_minimum,
            at_minimum,
            offline,
            reassigning,
            not_preferred,
        } = answer.partitions.unwrap_or_default();
        Self {
            cluster_id: answer.cluster_id,
            answered_by: answer.answered_by,
            cluster_version: answer.cluster_version,
            metadata: Group::from(answer.raft.unwrap_or_default()),
            nodes: answer.nodes.into_iter().map(NodeRow::from).collect(),
            topics,
            partitions,
            offline,
            under_minimum,
            at_minimum,
            under_replicated,
            reassigning,
            not_preferred,
            unhealthy: unhealthy.partitions.into_iter().map(Unhealthy::from).collect(),
            unhealthy_total: unhealthy.total,
            moves,
            drains: answer.drains.into_iter().map(DrainRow::from).collect(),
            stop_granted_to: answer.stop.map(|stop| stop.node),
            operator: answer.operator.map(|lease| lease.holder),
            throttle_bytes_per_second: answer.throttle_bytes_per_second,
        }
    }
}

pub(super) async fn show(connected: &Connected, out: Output) -> Result<(), Failure> {
    let mut client = connected.client.clone();
    let answer = client.describe_cluster(DescribeClusterRequest { latest: false }).await?.into_inner();
    let unhealthy = client.list_unhealthy_partitions(ListUnhealthyPartitionsRequest {}).await?.into_inner();
    let moves = reassign::under_way(connected).await?.into_iter().map(Move::from).collect();
    let status = Status::new(answer, unhealthy, moves);
    out.document(&status, people)?;
    status.metadata.led(connected).await
}

fn people(status: &Status) -> String {
    let mut lines = vec![format!(
        "cluster {}: {}, {}, {}",
        status.cluster_id,
        counted(status.nodes.len() as u64, "node"),
        counted(status.topics.into(), "topic"),
        counted(status.partitions.into(), "partition"),
    )];
    let led = status.metadata.leader.is_some();
    if !led {
        let by = status.answered_by;
        lines.push(format!("THE METADATA HAS NO LEADER: what follows is what node {by} knew last"));
    }
    lines.extend(attention(status).or(led.then(|| "all partitions are in sync".to_owned())));
    lines.extend(status.drains.iter().map(|drain| format!("drain of {}", drain.people())));
    lines.extend(status.stop_granted_to.map(|node| format!("node {node} may stop: it hands its leaders over")));
    lines.extend(status.operator.as_ref().map(|holder| format!("an operator looks after it: {holder}")));
    let throttle = status.throttle_bytes_per_second;
    lines.extend(throttle.map(|rate| format!("moves are throttled to {}/s a node", bytes_text(rate))));
    let (nodes, metadata) = (nodes::people(&status.nodes), voters::people(&status.metadata));
    let mut text = format!("{}\n\n{nodes}\nmetadata: {metadata}", lines.join("\n"));
    if !status.unhealthy.is_empty() {
        let shown = &status.unhealthy[..SHOWN.min(status.unhealthy.len())];
        text.extend(["\n", &unhealthy_table(shown), &cut(status.unhealthy_total as usize, shown.len())]);
    }
    if !status.moves.is_empty() {
        let shown = &status.moves[..SHOWN.min(status.moves.len())];
        let moves = table(&Move::HEADINGS, shown.iter().map(Move::cells));
        text.extend(["\nunder way\n", &moves, &cut(status.moves.len(), shown.len())]);
    }
    text
}

fn unhealthy_table(partitions: &[Unhealthy]) -> String {
    let rows = partitions.iter().map(|it| {
        vec![
            it.topic.clone(),
            it.partition.to_string(),
            it.health.to_owned(),
            it.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string()),
            list(&it.replicas),
            list(&it.isr),
            it.minimum.to_string(),
        ]
    });
    table(&["TOPIC", "PARTITION", "HEALTH", "LEADER", "REPLICAS", "IN SYNC", "MINIMUM"], rows)
}

/// How many rows a list has beyond those shown.
fn cut(all: usize, shown: usize) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        more => format!("and {more} more: --output json\n"),
    }
}

/// What of the partitions needs attention, the worst first; `None` where nothing does.
fn attention(status: &Status) -> Option<String> {
    let counts = [
        (status.offline, "offline"),
        (status.under_minimum, "under min.insync.replicas"),
        (status.under_replicated, "under-replicated"),
        (status.reassigning, "moving"),
        (status.not_preferred, "not led by their preferred node"),
    ];
    let told: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    (!told.is_empty()).then(|| format!("partitions: {}", told.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::proto::{
        Drain, DrainState, Node, OperatorLease, RaftGroup, RaftMember, RaftProgress, RaftRole, StopGrant,
    };

    fn answer() -> DescribeClusterResponse {
        let member =
            |node, role: RaftRole, progress| RaftMember { node, role: role.into(), progress, ..Default::default() };
        let progress = RaftProgress { matched_index: 90, last_contact_ms: Some(12), ..Default::default() };
        let node = |id, role: RaftRole| Node {
            id,
            kafka_address: format!("n{id}:9092"),
            role: role.into(),
            version: "0.1.0".to_owned(),
            leaders: 2,
            replicas: 4,
            ..Default::default()
        };
        DescribeClusterResponse {
            cluster_id: "c".to_owned(),
            raft: Some(RaftGroup {
                leader: Some(0),
                term: 2,
                committed: 100,
                members: vec![member(0, RaftRole::Leader, None), member(1, RaftRole::Voter, Some(progress))],
            }),
            nodes: vec![node(0, RaftRole::Leader), Node { fenced: true, ..node(1, RaftRole::Voter) }],
            partitions: Some(PartitionCounts { topics: 1, partitions: 4, ..Default::default() }),
            ..Default::default()
        }
    }

    fn healthy(answer: DescribeClusterResponse) -> Status {
        Status::new(answer, ListUnhealthyPartitionsResponse::default(), Vec::new())
    }

    #[test]
    fn long_lists_are_cut_for_people() {
        let partition = UnhealthyPartition {
            topic: "t".to_owned(),
            health: PartitionHealth::Offline.into(),
            replicas: vec![0, 1],
            minimum: 1,
            ..Default::default()
        };
        let unhealthy = ListUnhealthyPartitionsResponse { partitions: vec![partition; SHOWN + 1], total: 3000 };
        let shown = people(&Status::new(answer(), unhealthy, Vec::new()));
        let lines: Vec<&str> = shown.lines().rev().take(SHOWN + 2).collect();
        assert_eq!(lines[0], "and 2980 more: --output json");
        assert_eq!(lines[1], "t      0          offline  -       0,1                1");
        assert_eq!(lines[SHOWN + 1], "TOPIC  PARTITION  HEALTH   LEADER  REPLICAS  IN SYNC  MINIMUM");
    }

    #[test]
    fn a_cluster_at_one_look() {
        assert_eq!(
            people(&healthy(answer())),
            "cluster c: 2 nodes, 1 topic, 4 partitions\n\
             all partitions are in sync\n\n\
             NODE  ADDRESS  RACK  STATE   METADATA  LEADERS  REPLICAS  OUT OF SYNC  VERSION\n\
             0     n0:9092  -     active  leader    2        4         0            0.1.0\n\
             1     n1:9092  -     fenced  voter     2        4         0            0.1.0\n\n\
             metadata: leader 0, term 2, committed 100\n\n\
             NODE  ROLE    ADDRESS  BEHIND  HEARD      DIRECTORY\n\
             0     leader           -       -\n\
             1     voter            10      12 ms ago\n"
        );
    }

    #[test]
    fn without_a_leader_nothing_is_said_to_be_well() {
        let unled = DescribeClusterResponse {
            answered_by: 1,
            raft: Some(RaftGroup { leader: None, ..answer().raft.expect("a group") }),
            ..answer()
        };
        let shown = people(&healthy(unled));
        let told: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).skip(1).collect();
        assert_eq!(told, ["THE METADATA HAS NO LEADER: what follows is what node 1 knew last"]);
    }

    #[test]
    fn what_needs_attention_comes_worst_first() {
        let partitions = PartitionCounts {
            partitions: 9,
            under_replicated: 3,
            under_minimum: 2,
            offline: 1,
            reassigning: 4,
            not_preferred: 5,
            ..Default::default()
        };
        let troubled = DescribeClusterResponse {
            partitions: Some(partitions),
            drains: vec![Drain {
                node: 1,
                state: DrainState::Moving.into(),
                partitions_total: 9,
                partitions_left: 4,
                ..Default::default()
            }],
            stop: Some(StopGrant { node: 0, leaders_left: 2 }),
            operator: Some(OperatorLease { holder: "operator-0".to_owned(), epoch: 1 }),
            throttle_bytes_per_second: Some(1 << 20),
            ..answer()
        };
        let shown = people(&healthy(troubled));
        let told: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).skip(1).collect();
        assert_eq!(
            told,
            [
                "partitions: 1 offline, 2 under min.insync.replicas, 3 under-replicated, 4 moving, \
                 5 not led by their preferred node",
                "drain of node 1: 4 of 9 partitions left",
                "node 0 may stop: it hands its leaders over",
                "an operator looks after it: operator-0",
                "moves are throttled to 1.00 MiB/s a node",
            ]
        );
    }
}
