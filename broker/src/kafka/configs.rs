//! Dynamic settings as clients change them: which resource is meant, what its settings would become, whether they may.
//!
//! `AlterConfigs` replaces all of a resource's settings, `IncrementalAlterConfigs` changes some; both end here.

use std::collections::HashMap;

use super::admin::{Admin, Deadline, Refusal};
use super::topics::check_name;
use super::wire::ErrorCode;
use crate::config::check::{
    CheckError, Own, check_broker, check_client_match, check_client_metrics, check_group, check_topic,
};
use crate::config::{CLIENT_METRICS, Definition, GROUP, Kind, broker_definition, topic_definition};
use crate::metadata::{Command, ConfigChange, ConfigResource, Image};

/// `ConfigResource.Type` of the protocol.
pub(super) mod resource_type {
    pub(in crate::kafka) const TOPIC: i8 = 2;
    pub(in crate::kafka) const BROKER: i8 = 4;
    pub(in crate::kafka) const BROKER_LOGGER: i8 = 8;
    pub(in crate::kafka) const CLIENT_METRICS: i8 = 16;
    pub(in crate::kafka) const GROUP: i8 = 32;
}

/// While ELR is on (KIP-966) it is a setting of the whole cluster: no broker has its own, and there always is one.
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// One operation on one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// Takes this value.
    Set(String),
    /// Has no own value any more.
    Delete,
    /// A list has these items too.
    Append(String),
    /// A list loses these items.
    Subtract(String),
}

/// What a client asks of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Alteration {
    /// These settings in place of all that there are.
    Replace(Vec<(String, Option<String>)>),
    /// These changes.
    Change(Vec<(String, Operation)>),
}

/// The resource of a request, for changes.
pub(super) fn resource(admin: Admin<'_>, image: &Image, kind: i8, name: &str) -> Result<ConfigResource, Refusal> {
    let invalid = |message: String| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    match kind {
        resource_type::TOPIC | resource_type::GROUP | resource_type::CLIENT_METRICS if name.is_empty() => {
            invalid("Resources of this type have no default: the name is empty.".to_owned())
        }
        resource_type::TOPIC => {
            check_name(name)?;
            if image.topic(name).is_none() {
                let message = format!("The topic '{name}' does not exist.");
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            Ok(ConfigResource::Topic(name.into()))
        }
        resource_type::BROKER if name.is_empty() => Ok(ConfigResource::BrokerDefault),
        resource_type::BROKER => match name.parse::<i32>() {
            Err(_) => invalid(format!("Node id must be an integer, but it is: {name}")),
            Ok(id) if id != admin.settings.node().get() => {
                invalid(format!("Unexpected broker id, expected {}, but received {name}", admin.settings.node()))
            }
            Ok(_) => Ok(ConfigResource::Broker(admin.settings.node())),
        },
        resource_type::GROUP => Ok(ConfigResource::Group(name.into())),
        resource_type::CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name.into())),
        resource_type::BROKER_LOGGER => {
            invalid("Log levels are not changed by requests: see the broker's log setting.".to_owned())
        }
        other => invalid(format!("Unknown resource type {other}")),
    }
}

/// Checks an alteration of a resource and makes it, unless only the check is asked for.
pub(super) async fn alter(
    admin: Admin<'_>,
    resource: &ConfigResource,
    alteration: &Alteration,
    validate_only: bool,
    deadline: Deadline,
) -> Result<(), Refusal> {
    let image = admin.metadata.image();
    let own: Own = image.configs(resource).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let wanted = altered(resource, &own, alteration)?;
    check(admin, &image, resource, &own, &wanted)?;
    let changes = difference(&own, &wanted);
    if validate_only || changes.is_empty() {
        return Ok(());
    }
    admin.propose(Command::SetConfigs { resource: resource.clone(), changes }, deadline).await
}

/// What a resource's settings become.
fn altered(resource: &ConfigResource, own: &Own, alteration: &Alteration) -> Result<Own, Refusal> {
    match alteration {
        Alteration::Replace(settings) => {
            unique(settings.iter().map(|(name, _)| name))?;
            let value = |(name, value): &(String, Option<String>)| match value {
                Some(value) => Ok((name.clone(), value.clone())),
                None => Err(null_value(name)),
            };
            settings.iter().map(value).collect()
        }
        Alteration::Change(changes) => {
            unique(changes.iter().map(|(name, _)| name))?;
            let mut wanted = own.clone();
            for (name, operation) in changes {
                match operation {
                    Operation::Set(value) => {
                        wanted.insert(name.clone(), value.clone());
                    }
                    Operation::Delete => {
                        wanted.remove(name);
                    }
                    Operation::Append(items) | Operation::Subtract(items) => {
                        let mut list = list(resource, own, name, operation)?;
                        change_list(&mut list, items, matches!(operation, Operation::Append(_)));
                        wanted.insert(name.clone(), list.join(","));
                    }
                }
            }
            Ok(wanted)
        }
    }
}

/// What a null value is told, where one is needed.
pub(super) fn null_value(name: &str) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, format!("Null value not supported for : {name}"))
}

fn unique<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Refusal> {
    let mut counts: HashMap<&String, usize> = HashMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    if counts.values().any(|count| *count > 1) {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"));
    }
    Ok(())
}

/// The items of a list setting: its own, or its default's.
fn list(resource: &ConfigResource, own: &Own, name: &str, operation: &Operation) -> Result<Vec<String>, Refusal> {
    let definition = definition(resource, name).filter(|it| it.kind == Kind::List);
    let Some(definition) = definition else {
        let what = if matches!(operation, Operation::Append(_)) { "APPEND to" } else { "SUBTRACT from" };
        let message = format!("Can't {what} key {name} because its type is not LIST.");
        return Err(Refusal::new(ErrorCode::InvalidConfig, message));
    };
    let text = own.get(name).map(String::as_str).or(definition.default).unwrap_or_default();
    Ok(items(text))
}

fn items(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn change_list(list: &mut Vec<String>, changed: &str, append: bool) {
    for item in items(changed) {
        if !append {
            list.retain(|other| *other != item);
        } else if !list.contains(&item) {
            list.push(item);
        }
    }
}

fn definition(resource: &ConfigResource, name: &str) -> Option<&'static Definition> {
    let find = |table: &'static [Definition]| table.iter().find(|it| it.name == name);
    match resource {
        ConfigResource::Topic(_) => topic_definition(name),
        ConfigResource::Broker(_) | ConfigResource::BrokerDefault => broker_definition(name),
        ConfigResource::Group(_) => find(GROUP),
        ConfigResource::ClientMetrics(_) => find(CLIENT_METRICS),
    }
}

fn check(admin: Admin<'_>, image: &Image, resource: &ConfigResource, own: &Own, wanted: &Own) -> Result<(), Refusal> {
    let layers = admin.settings.layers(image);
    let with = |code: ErrorCode| move |error: CheckError| Refusal::new(code, error.to_string());
    match resource {
        ConfigResource::Topic(_) => check_topic(&layers, wanted).map_err(with(ErrorCode::InvalidConfig)),
        ConfigResource::Broker(_) | ConfigResource::BrokerDefault => {
            let of_all = *resource == ConfigResource::BrokerDefault;
            check_broker(&layers, wanted, of_all).map_err(with(ErrorCode::InvalidRequest))?;
            check_min_insync_replicas(of_all, own, wanted)
        }
        ConfigResource::Group(_) => check_group(&layers, wanted).map_err(with(ErrorCode::InvalidConfig)),
        ConfigResource::ClientMetrics(_) => {
            check_client_metrics(wanted).map_err(with(ErrorCode::InvalidRequest))?;
            let patterns = wanted.get("match").map_or("", String::as_str);
            check_client_match(patterns).map_err(with(ErrorCode::InvalidConfig))
        }
    }
}

fn check_min_insync_replicas(of_all: bool, own: &Own, wanted: &Own) -> Result<(), Refusal> {
    let refuse = |message: &str| Err(Refusal::new(ErrorCode::InvalidConfig, message));
    match (own.get(MIN_INSYNC_REPLICAS), wanted.get(MIN_INSYNC_REPLICAS)) {
        (Some(_), None) if of_all => refuse("The cluster's min.insync.replicas cannot be removed."),
        (before, after) if !of_all && before != after => {
            refuse("min.insync.replicas is a setting of the cluster: a broker cannot have its own.")
        }
        _ => Ok(()),
    }
}

fn difference(own: &Own, wanted: &Own) -> Vec<ConfigChange> {
    let removed = own.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), None));
    let set = wanted.iter().filter(|(name, value)| own.get(*name) != Some(*value));
    removed.chain(set.map(|(name, value)| (name.clone(), Some(value.clone())))).collect()
}

/// What a new cluster begins with: the setting that is kept for the cluster takes the value that the first broker was
/// given. `None` when it is there already.
pub fn initial_settings(image: &Image, min_insync_replicas: i32) -> Option<Command> {
    let resource = ConfigResource::BrokerDefault;
    if image.config(&resource, MIN_INSYNC_REPLICAS).is_some() {
        return None;
    }
    let changes = vec![(MIN_INSYNC_REPLICAS.to_owned(), Some(min_insync_replicas.to_string()))];
    Some(Command::SetConfigs { resource, changes })
}

/// What a request asks of one resource.
pub(super) struct Asked<'a> {
    /// The resource's type on the wire.
    pub kind: i8,
    /// Its name.
    pub name: &'a str,
    /// What is to become of its settings, or why that can't be.
    pub alteration: Result<Alteration, Refusal>,
}

/// Alters each resource by itself, in their order. One that is named more than once is refused each time.
pub(super) async fn alter_each(
    admin: Admin<'_>,
    asked: Vec<Asked<'_>>,
    validate_only: bool,
    deadline: Deadline,
) -> Vec<Result<(), Refusal>> {
    let mut counts: HashMap<(i8, &str), usize> = HashMap::new();
    for Asked { kind, name, .. } in &asked {
        *counts.entry((*kind, *name)).or_default() += 1;
    }
    let mut outcomes = Vec::with_capacity(asked.len());
    for Asked { kind, name, alteration } in asked {
        outcomes.push(match alteration {
            _ if counts[&(kind, name)] > 1 => Err(twice()),
            Ok(alteration) => alter_one(admin, kind, name, &alteration, validate_only, deadline).await,
            Err(refusal) => Err(refusal),
        });
    }
    outcomes
}

async fn alter_one(
    admin: Admin<'_>,
    kind: i8,
    name: &str,
    alteration: &Alteration,
    validate_only: bool,
    deadline: Deadline,
) -> Result<(), Refusal> {
    let resource = resource(admin, &admin.metadata.image(), kind, name)?;
    alter(admin, &resource, alteration, validate_only, deadline).await
}

/// What a resource that is named twice is told.
fn twice() -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")
}
