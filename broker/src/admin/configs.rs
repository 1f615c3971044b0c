//! Kafka's settings of all nodes, as the operator changes them: told with what can be changed while nodes run, and set under
//! its lease.

use std::collections::BTreeSet;

use tonic::Status;

use super::proto::{DescribeConfigsResponse, NodesConfig, SetConfigsRequest};
use crate::config::check::{Own, check_broker};
use crate::config::{Settings, Update, broker_definitions};
use crate::metadata::{ConfigChange, ConfigResource, Image};

/// The setting that the cluster always has (KIP-966).
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Every setting that there is, by name.
pub fn describe(image: &Image) -> DescribeConfigsResponse {
    let set = own(image);
    let config = |definition: &crate::config::Definition| NodesConfig {
        name: definition.name.to_owned(),
        value: set.get(definition.name).filter(|_| !definition.sensitive()).cloned(),
        is_set: set.contains_key(definition.name),
        dynamic: definition.update == Update::ClusterWide,
        has_effect: definition.has_effect(),
    };
    let mut configs: Vec<NodesConfig> = broker_definitions().iter().map(config).collect();
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    DescribeConfigsResponse { configs }
}

/// What a request changes; nothing where all is as it wants.
pub fn changes(settings: &Settings, image: &Image, request: &SetConfigsRequest) -> Result<Vec<ConfigChange>, Status> {
    let twice: BTreeSet<&String> = request.reset.iter().filter(|name| request.values.contains_key(*name)).collect();
    if let Some(name) = twice.first() {
        return Err(Status::invalid_argument(format!("{name} is to be set and to be reset")));
    }
    let own = own(image);
    let mut wanted = own.clone();
    for name in &request.reset {
        // Without a wish it is what nodes are started with.
        if name == MIN_INSYNC_REPLICAS {
            wanted.insert(name.clone(), settings.at_start().min_insync_replicas.to_string());
        } else {
            wanted.remove(name);
        }
    }
    wanted.extend(request.values.iter().map(|(name, value)| (name.clone(), value.clone())));
    check_broker(&settings.layers(image), &wanted, true).map_err(|why| Status::invalid_argument(why.to_string()))?;
    let removed = own.keys().filter(|name| !wanted.contains_key(*name)).map(|name| (name.clone(), None));
    let set = wanted.iter().filter(|(name, value)| own.get(*name) != Some(*value));
    Ok(removed.chain(set.map(|(name, value)| (name.clone(), Some(value.clone())))).collect())
}

fn own(image: &Image) -> Own {
    let own = image.configs(&ConfigResource::BrokerDefault);
    own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
