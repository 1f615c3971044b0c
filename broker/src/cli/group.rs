//! `chronik group list|describe|reset|delete`.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Done, list, table};
use super::{Failure, Shared};
use crate::client::consumer::{Place, Start, offsets_at};
use crate::client::group::read_assignment;
use crate::client::{Client, ClientError, admin};

#[derive(Debug, Subcommand)]
pub(super) enum GroupCommand {
    /// List groups
    List,
    /// Show a group's members, offsets and lag
    Describe(DescribeArgs),
    /// Move a group's offsets; the group must have no members
    Reset(ResetArgs),
    /// Delete groups with their offsets
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// The group
    group: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub(super) struct ResetArgs {
    /// The group
    group: String,
    /// Only this topic (default: all that the group has offsets in)
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// To the first record
    #[arg(long, group = "where")]
    to_earliest: bool,
    /// After the last record
    #[arg(long, group = "where")]
    to_latest: bool,
    /// To this offset, within what there is
    #[arg(long, group = "where", value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record at or after this time, milliseconds since the Unix epoch
    #[arg(long, group = "where", value_name = "MS", value_parser = clap::value_parser!(i64).range(0..))]
    to_timestamp: Option<i64>,
    /// By so many records, back when negative
    #[arg(long, group = "where", value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The groups
    #[arg(required = true)]
    groups: Vec<String>,
}

pub(super) async fn run(command: GroupCommand, shared: &Shared) -> Result<(), Failure> {
    match command {
        GroupCommand::List => list_groups(shared).await,
        GroupCommand::Describe(args) => describe(args, shared).await,
        GroupCommand::Reset(args) => reset(args, shared).await,
        GroupCommand::Delete(args) => delete(args, shared).await,
    }
}

#[derive(Serialize)]
struct Listed {
    group: String,
    state: String,
    protocol_type: String,
    r#type: String,
}

async fn list_groups(shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let groups = admin::list_groups(&client).await?;
    let rows: Vec<Listed> = groups
        .iter()
        .map(|group| Listed {
            group: group.group_id.to_string(),
            state: group.group_state.to_string(),
            protocol_type: group.protocol_type.to_string(),
            r#type: group.group_type.to_string(),
        })
        .collect();
    shared.open().rows(&["GROUP", "STATE", "PROTOCOL", "TYPE"], &rows, |group| {
        vec![group.group.clone(), group.state.clone(), group.protocol_type.clone(), group.r#type.clone()]
    })
}

async fn delete(args: DeleteArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let mut deleted = Vec::new();
    let mut outcome = Ok(());
    for group in args.groups {
        outcome = admin::delete_group(&client, &group).await;
        if outcome.is_err() {
            break;
        }
        deleted.push(Done::new("deleted", "group", group));
    }
    // Those before one that failed are gone.
    shared.open().done(&deleted)?;
    Ok(outcome?)
}

#[derive(Serialize)]
struct Described {
    group: String,
    state: String,
    protocol: String,
    members: Vec<Member>,
    offsets: Vec<Position>,
}

#[derive(Serialize)]
struct Member {
    #[serde(rename = "member")]
    id: String,
    client: String,
    host: String,
    assignment: BTreeMap<String, Vec<i32>>,
}

#[derive(Serialize)]
struct Position {
    topic: String,
    partition: i32,
    offset: i64,
    end_offset: Option<i64>,
    lag: Option<i64>,
    member: Option<String>,
}

async fn describe(args: DescribeArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let group = admin::describe_group(&client, &args.group).await?;
    let committed = admin::committed_offsets(&client, &args.group, None).await?;
    if group.group_state.as_str() == "Dead" && committed.is_empty() {
        return Err(ClientError::no_group(&args.group).into());
    }
    let members: Vec<Member> = group
        .members
        .iter()
        .map(|member| Member {
            id: member.member_id.to_string(),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assignment: read_assignment(member.member_assignment.clone()),
        })
        .collect();
    let ends = ends_of_existing(&client, committed.keys()).await?;
    let offsets = committed
        .iter()
        .map(|(place, offset)| Position {
            topic: place.0.clone(),
            partition: place.1,
            offset: *offset,
            end_offset: ends.get(place).copied(),
            lag: ends.get(place).map(|end| (end - offset).max(0)),
            member: holder(&members, place),
        })
        .collect();
    let described = Described {
        group: args.group,
        state: group.group_state.to_string(),
        protocol: group.protocol_data.to_string(),
        members,
        offsets,
    };
    shared.open().document(&described, people)
}

/// The end offsets of those partitions that still exist.
async fn ends_of_existing(
    client: &Arc<Client>,
    places: impl Iterator<Item = &Place>,
) -> Result<BTreeMap<Place, i64>, Failure> {
    let topics = client.topics().await?;
    let exists = |place: &&Place| {
        let topic = topics.iter().find(|topic| topic.name == place.0);
        topic.is_some_and(|topic| topic.partitions.iter().any(|p| p.index == place.1 && p.leader.is_some()))
    };
    let places: Vec<Place> = places.filter(exists).cloned().collect();
    Ok(offsets_at(client, &places, Start::Latest).await?)
}

fn holder(members: &[Member], place: &Place) -> Option<String> {
    let holds = |member: &&Member| member.assignment.get(&place.0).is_some_and(|held| held.contains(&place.1));
    members.iter().find(holds).map(|member| member.id.clone())
}

fn people(group: &Described) -> String {
    let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let offsets = group.offsets.iter().map(|position| {
        vec![
            position.topic.clone(),
            position.partition.to_string(),
            position.offset.to_string(),
            number(position.end_offset),
            number(position.lag),
            position.member.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let members = group.members.iter().map(|member| {
        let held = member.assignment.iter().map(|(topic, partitions)| format!("{topic}[{}]", list(partitions)));
        vec![member.id.clone(), member.client.clone(), member.host.clone(), held.collect::<Vec<_>>().join(" ")]
    });
    format!(
        "group {}: {}\n\n{}\n{}",
        group.group,
        group.state,
        table(&["TOPIC", "PARTITION", "OFFSET", "END", "LAG", "MEMBER"], offsets),
        table(&["MEMBER", "CLIENT", "HOST", "ASSIGNMENT"], members)
    )
}

#[derive(Serialize)]
struct Moved {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
    /// What was asked for, when there is no such offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    beyond: Option<i64>,
}

/// Where an offset moves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target {
    to: i64,
    /// What was asked for, when that is before the first record or after the last.
    beyond: Option<i64>,
}

impl Target {
    /// The nearest to `wanted` within what there is.
    fn within(start: i64, end: i64, wanted: i64) -> Self {
        let to = wanted.clamp(start, end.max(start));
        Self { to, beyond: (to != wanted).then_some(wanted) }
    }
}

impl From<i64> for Target {
    fn from(to: i64) -> Self {
        Self { to, beyond: None }
    }
}

impl Moved {
    fn note(&self) -> String {
        match self.beyond {
            Some(wanted) if wanted > self.to => format!("{wanted} is after the end"),
            Some(wanted) => format!("{wanted} is before the start"),
            None => String::new(),
        }
    }
}

async fn reset(args: ResetArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let mut committed = admin::committed_offsets(&client, &args.group, None).await?;
    let places = match &args.topic {
        Some(topic) => {
            committed.retain(|place, _| place.0 == *topic);
            let metadata = client.topic(topic).await?;
            metadata.partitions.iter().map(|partition| (topic.clone(), partition.index)).collect()
        }
        None => committed.keys().cloned().collect::<Vec<_>>(),
    };
    if places.is_empty() {
        let hint = "name a topic with --topic to give it some (see: chronik group list)";
        return Err(Failure::Failed(format!("group {} has no offsets, or does not exist: {hint}", args.group)));
    }
    let targets = targets(&client, &args, &places, &committed).await?;
    if !args.dry_run {
        let positions = targets.iter().map(|(place, target)| (place.clone(), target.to)).collect();
        admin::commit_offsets(&client, &args.group, None, &positions).await?;
    }
    let moved = |(place, Target { to, beyond }): (Place, Target)| Moved {
        from: committed.get(&place).copied(),
        topic: place.0,
        partition: place.1,
        to,
        beyond,
    };
    let moved: Vec<Moved> = targets.into_iter().map(moved).collect();
    let to = if args.dry_run { "WOULD MOVE TO" } else { "TO" };
    shared.open().rows(&["TOPIC", "PARTITION", "FROM", to, ""], &moved, |moved| {
        let from = moved.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
        vec![moved.topic.clone(), moved.partition.to_string(), from, moved.to.to_string(), moved.note()]
    })
}

/// Where each partition's offset moves to: always within what there is.
async fn targets(
    client: &Arc<Client>,
    args: &ResetArgs,
    places: &[Place],
    committed: &BTreeMap<Place, i64>,
) -> Result<BTreeMap<Place, Target>, Failure> {
    let exactly = |offsets: BTreeMap<Place, i64>| offsets.into_iter().map(|(place, to)| (place, to.into())).collect();
    if args.to_latest {
        return Ok(exactly(offsets_at(client, places, Start::Latest).await?));
    }
    if let Some(ms) = args.to_timestamp {
        return Ok(exactly(offsets_at(client, places, Start::Timestamp(ms)).await?));
    }
    let starts = offsets_at(client, places, Start::Earliest).await?;
    if args.to_earliest {
        return Ok(exactly(starts));
    }
    let ends = offsets_at(client, places, Start::Latest).await?;
    let mut targets = BTreeMap::new();
    for (place, &start) in &starts {
        let end = ends.get(place).copied().unwrap_or(start);
        let current = committed.get(place).copied().unwrap_or(start);
        let wanted = args.to_offset.unwrap_or_else(|| current.saturating_add(args.shift_by.unwrap_or(0)));
        targets.insert(place.clone(), Target::within(start, end, wanted));
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_does_not_exist_becomes_the_nearest_and_is_told() {
        for (wanted, to, note) in
            [(3, 3, ""), (2, 2, ""), (9, 9, ""), (1, 2, "1 is before the start"), (100, 9, "100 is after the end")]
        {
            let Target { to: found, beyond } = Target::within(2, 9, wanted);
            let moved = Moved { topic: "t".to_owned(), partition: 0, from: None, to: found, beyond };
            assert_eq!((found, moved.note().as_str()), (to, note));
        }
    }
}
