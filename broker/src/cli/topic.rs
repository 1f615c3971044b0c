//! `chronik topic list|create|describe|config|delete`; `reassign` has a file of its own.

use std::fmt::Write;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::output::{Done, counted, list, table};
use super::topic_reassign::{self, ReassignArgs};
use super::{Failure, Shared};
use crate::client::admin::{self, TopicSpec};
use crate::client::consumer::{Start, offsets_at};
use crate::client::{Client, TopicMetadata};
use crate::kafka::wire::ErrorCode;

/// Kafka's number of a setting that was made for the topic itself.
const SOURCE_TOPIC: i8 = 1;

#[derive(Debug, Subcommand)]
pub(super) enum TopicCommand {
    /// List topics
    List(ListArgs),
    /// Create a topic
    Create(CreateArgs),
    /// Show a topic's partitions, offsets and changed settings
    Describe(DescribeArgs),
    /// Show a topic's settings, or change them
    Config(ConfigArgs),
    /// Move a topic's replicas to other nodes, or change how many there are
    Reassign(ReassignArgs),
    /// Delete topics with all they hold
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Also those that the broker keeps for itself
    #[arg(long)]
    internal: bool,
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The topic's name
    name: String,
    /// How many partitions (default: the broker's num.partitions)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas of each (default: the broker's default.replication.factor)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topic, by Kafka's name; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    config: Vec<(String, String)>,
    /// Succeed when the topic exists already
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// The topic's name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    /// The topic's name
    name: String,
    /// Change a setting; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
    /// Take a setting back to its default; may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The topics' names
    #[arg(required = true)]
    names: Vec<String>,
}

/// Parses `NAME=VALUE`; the value may hold more equals signs.
pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("must be NAME=VALUE".to_owned()),
    }
}

pub(super) async fn run(command: TopicCommand, shared: &Shared) -> Result<(), Failure> {
    match command {
        TopicCommand::List(args) => list_topics(args, shared).await,
        TopicCommand::Create(args) => create(args, shared).await,
        TopicCommand::Describe(args) => describe(args, shared).await,
        TopicCommand::Config(args) => config(args, shared).await,
        TopicCommand::Reassign(args) => topic_reassign::run(args, shared).await,
        TopicCommand::Delete(args) => delete(args, shared).await,
    }
}

#[derive(Serialize)]
struct Listed {
    name: String,
    id: String,
    partitions: usize,
    replication_factor: usize,
    internal: bool,
}

async fn list_topics(args: ListArgs, shared: &Shared) -> Result<(), Failure> {
    let topics = shared.connect().await?.topics().await?;
    let shown = topics.into_iter().filter(|topic| args.internal || !topic.internal);
    let rows: Vec<Listed> = shown
        .map(|topic| Listed {
            id: id(&topic),
            partitions: topic.partitions.len(),
            replication_factor: topic.partitions.first().map_or(0, |partition| partition.replicas.len()),
            internal: topic.internal,
            name: topic.name,
        })
        .collect();
    shared.open().rows(&["TOPIC", "PARTITIONS", "REPLICAS", "ID"], &rows, |topic| {
        vec![topic.name.clone(), topic.partitions.to_string(), topic.replication_factor.to_string(), topic.id.clone()]
    })
}

fn id(topic: &TopicMetadata) -> String {
    uuid::Uuid::from_bytes(topic.id.to_bytes()).to_string()
}

async fn create(args: CreateArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let spec = TopicSpec {
        name: args.name,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        configs: args.config,
    };
    let done = match admin::create_topic(&client, &spec).await {
        Err(why) if args.if_not_exists && why.is(ErrorCode::TopicAlreadyExists) => {
            Done::new("unchanged", "topic", spec.name).detail("it exists already")
        }
        outcome => {
            let partitions = u64::try_from(outcome?).unwrap_or(0);
            Done::new("created", "topic", spec.name).detail(counted(partitions, "partition"))
        }
    };
    shared.open().done(&[done])
}

async fn delete(args: DeleteArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let mut deleted = Vec::new();
    let mut outcome = Ok(());
    for name in args.names {
        outcome = admin::delete_topic(&client, &name).await;
        if outcome.is_err() {
            break;
        }
        deleted.push(Done::new("deleted", "topic", name));
    }
    // Those before one that failed are gone.
    shared.open().done(&deleted)?;
    Ok(outcome?)
}

#[derive(Serialize)]
struct Setting {
    name: String,
    value: Option<String>,
    default: bool,
}

async fn settings(client: &Arc<Client>, topic: &str) -> Result<Vec<Setting>, Failure> {
    let configs = admin::topic_configs(client, topic).await?;
    let setting = |config: kafka_wire::describe_configs_response::DescribeConfigsResourceResult| Setting {
        name: config.name.to_string(),
        value: config.value.map(|value| value.to_string()),
        default: config.config_source != SOURCE_TOPIC,
    };
    Ok(configs.into_iter().map(setting).collect())
}

async fn config(args: ConfigArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    if args.set.is_empty() && args.unset.is_empty() {
        let settings = settings(&client, &args.name).await?;
        return shared.open().rows(&["SETTING", "VALUE", ""], &settings, |setting| {
            vec![
                setting.name.clone(),
                setting.value.clone().unwrap_or_default(),
                if setting.default { "" } else { "set for this topic" }.to_owned(),
            ]
        });
    }
    check_names(&client, &args.name, &args.unset).await?;
    let mut changes: Vec<(String, Option<String>)> =
        args.set.into_iter().map(|(name, value)| (name, Some(value))).collect();
    changes.extend(args.unset.into_iter().map(|name| (name, None)));
    admin::alter_topic_configs(&client, &args.name, &changes).await?;
    let shown = changes.iter().map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("{name} back to its default"),
    });
    let detail = shown.collect::<Vec<_>>().join(", ");
    shared.open().done(&[Done::new("changed", "topic", args.name).detail(detail)])
}

/// The broker takes any name back to its default, also one that is no setting.
async fn check_names(client: &Arc<Client>, topic: &str, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let settings = settings(client, topic).await?;
    match names.iter().find(|name| settings.iter().all(|setting| setting.name != **name)) {
        Some(name) => {
            Err(Failure::Failed(format!("topics have no setting {name} (see: chronik topic config {topic})")))
        }
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Described {
    name: String,
    id: String,
    internal: bool,
    settings: Vec<Setting>,
    partitions: Vec<DescribedPartition>,
}

#[derive(Serialize)]
struct DescribedPartition {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
}

async fn describe(args: DescribeArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let topic = client.topic(&args.name).await?;
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
    let places: Vec<(String, i32)> = led.map(|partition| (args.name.clone(), partition.index)).collect();
    let starts = offsets_at(&client, &places, Start::Earliest).await?;
    let ends = offsets_at(&client, &places, Start::Latest).await?;
    let partition = |partition: &crate::client::PartitionMetadata| {
        let place = (args.name.clone(), partition.index);
        DescribedPartition {
            partition: partition.index,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            start_offset: starts.get(&place).copied(),
            end_offset: ends.get(&place).copied(),
        }
    };
    let mut changed = settings(&client, &args.name).await?;
    changed.retain(|setting| !setting.default);
    let described = Described {
        id: id(&topic),
        internal: topic.internal,
        settings: changed,
        partitions: topic.partitions.iter().map(partition).collect(),
        name: topic.name,
    };
    shared.open().document(&described, people)
}

fn people(topic: &Described) -> String {
    let number = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
    let rows = topic.partitions.iter().map(|partition| {
        vec![
            partition.partition.to_string(),
            partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            list(&partition.replicas),
            list(&partition.isr),
            number(partition.start_offset),
            number(partition.end_offset),
        ]
    });
    let mut text = format!("topic {} ({})\n", topic.name, topic.id);
    for setting in &topic.settings {
        let _ = writeln!(text, "  {}={}", setting.name, setting.value.as_deref().unwrap_or(""));
    }
    text.push('\n');
    text + &table(&["PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "START", "END"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_splits_at_the_first_equals_sign() {
        assert_eq!(parse_pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_pair("=b").is_err() && parse_pair("a").is_err());
    }
}
