//! One typed configuration: defaults ← YAML file ← `CHRONIK_*` ← flags; and Kafka's topic and broker settings.

/// The node's settings: the static ones and Kafka's broker and topic settings.
pub struct Settings {}
