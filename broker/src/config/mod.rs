//! One typed configuration: defaults ← YAML file ← `CHRONIK_*` ← flags; and Kafka's topic and broker settings.
//!
//! `load` makes the `Config` of a node at its start. `Settings` lays the dynamic settings of the metadata image over it.
//! `broker`, `topic` and `group` are the tables of what may be set; `check` and `describe` are what the admin APIs
//! decide and answer with.

mod broker;
mod broker_inert;
pub mod check;
mod cluster;
mod definition;
pub mod describe;
mod error;
mod given;
mod group;
mod layers;
mod load;
mod log_config;
mod node;
mod origin;
pub mod reference;
mod settings;
mod topic;
mod value;

pub use broker::{BrokerSettings, ReplicaSelector, alternatives, broker_definition, broker_definitions};
pub use cluster::{ClusterConfig, Links, Voter};
pub use definition::{Definition, InvalidValue, Update, Valid};
pub use error::ConfigError;
pub use group::{CLIENT_METRICS, GROUP, group_synonym};
pub use layers::{Layers, Source, Synonym};
pub use load::{load, node_id_in_environment};
pub use node::{Config, HostPort, NODE_SETTINGS, NodeSetting};
pub use settings::Settings;
pub use topic::{TopicConfig, broker_synonym, topic_definition, topic_definitions};
pub use value::{Kind, Value};
