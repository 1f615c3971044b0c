//! A broker's settings in their layers: dynamic for this broker, dynamic for all, given at start, defaults (KIP-226).

use std::collections::BTreeMap;

use super::value::Value;
use super::{
    BrokerSettings, Config, Definition, Kind, TopicConfig, alternatives, broker_definition, broker_synonym,
    group_synonym, topic_definition,
};
use crate::ids::NodeId;
use crate::metadata::{ConfigResource, Image};

/// Which layer a value comes from, as DescribeConfigs numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Set on the topic.
    Topic,
    /// Set dynamically for one broker.
    Broker,
    /// Set dynamically for all brokers.
    BrokerDefault,
    /// Given at start.
    Start,
    /// Kafka's default.
    Default,
    /// Set on a client-metrics subscription.
    ClientMetrics,
    /// Set on a group.
    Group,
}

impl Source {
    /// The number on the wire.
    pub const fn wire(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Broker => 2,
            Self::BrokerDefault => 3,
            Self::Start => 4,
            Self::Default => 5,
            Self::ClientMetrics => 7,
            Self::Group => 8,
        }
    }
}

/// A value that a setting has, or would have without the ones before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// Under which name.
    pub name: &'static str,
    /// The value as it was set; `None` when it is a secret.
    pub value: Option<String>,
    /// In which layer.
    pub source: Source,
}

/// The layers of one broker.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    broker: BTreeMap<String, String>,
    broker_default: BTreeMap<String, String>,
    start: BTreeMap<&'static str, String>,
}

impl Layers {
    /// Without dynamic settings. The node's own settings appear under Kafka's names.
    pub fn of_start(config: &Config) -> Self {
        let mut start = config.broker.clone();
        start.insert("node.id", config.node_id.to_string());
        start.insert("broker.id", config.node_id.to_string());
        start.insert("listeners", format!("PLAINTEXT://{}", config.kafka_addr));
        start.insert("log.dirs", config.data_dir.display().to_string());
        if let Some(address) = &config.advertised_addr {
            start.insert("advertised.listeners", format!("PLAINTEXT://{address}"));
        }
        Self { start, ..Self::default() }
    }

    /// With the dynamic settings of an image.
    #[must_use]
    pub fn with_dynamic(&self, image: &Image, node: NodeId) -> Self {
        let of = |resource: &ConfigResource| -> BTreeMap<String, String> {
            image.configs(resource).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        self.with(of(&ConfigResource::Broker(node)), of(&ConfigResource::BrokerDefault))
    }

    /// With these dynamic settings.
    #[must_use]
    pub fn with(&self, broker: BTreeMap<String, String>, broker_default: BTreeMap<String, String>) -> Self {
        Self { broker, broker_default, start: self.start.clone() }
    }

    /// The layers above the defaults, the strongest first.
    fn set(&self, name: &str) -> impl Iterator<Item = (Source, &str)> {
        [
            (Source::Broker, self.broker.get(name)),
            (Source::BrokerDefault, self.broker_default.get(name)),
            (Source::Start, self.start.get(name)),
        ]
        .into_iter()
        .filter_map(|(source, value)| Some((source, value?.as_str())))
    }

    /// Whether a setting was given, at start or since.
    pub fn is_set(&self, name: &str) -> bool {
        self.set(name).next().is_some()
    }

    /// A setting's effective value; `None` is null. A dynamic value that this version doesn't take is passed over.
    pub fn value(&self, definition: &Definition) -> Option<Value> {
        self.set(definition.name)
            .find_map(|(_, text)| definition.parse(text).ok())
            .or_else(|| definition.default_value())
    }

    /// All effective settings of the broker.
    pub fn broker_settings(&self) -> BrokerSettings {
        BrokerSettings::read(|name| self.value(broker_definition(name).expect("the table's own name")))
    }

    /// Every value of a broker setting and of its alternatives in other units, the strongest first; from the first of
    /// this very name on, as Kafka answers them.
    pub fn synonyms(&self, definition: &'static Definition) -> Vec<Synonym> {
        let own = [definition.name];
        let names = match alternatives(definition.name) {
            [] => &own[..],
            several => several,
        };
        let of = |source: Source| {
            names.iter().filter_map(move |name| {
                let found = broker_definition(name)?;
                let value = match source {
                    Source::Default => found.default,
                    other => self.set(name).find(|(layer, _)| *layer == other).map(|(_, value)| value),
                }?;
                let value = (!found.sensitive()).then(|| value.to_owned());
                Some(Synonym { name: found.name, value, source })
            })
        };
        [Source::Broker, Source::BrokerDefault, Source::Start, Source::Default]
            .into_iter()
            .flat_map(of)
            .skip_while(|synonym| synonym.name != definition.name)
            .collect()
    }

    /// What topics take that don't say otherwise.
    pub fn topic_default(&self, definition: &Definition) -> Option<Value> {
        let Some(synonym) = broker_synonym(definition.name) else { return definition.default_value() };
        let milliseconds = |value: i64, unit: i64| Value::Long(if value < 0 { -1 } else { value.saturating_mul(unit) });
        let own = [synonym];
        let names = match alternatives(synonym) {
            [] => &own[..],
            several => several,
        };
        let found = names.iter().find_map(|name| {
            let definition = broker_definition(name).expect("synonyms are broker settings: a test looks them up");
            let value = self.value(definition)?;
            Some(match (value.integer(), name.rsplit('.').next()) {
                (Some(number), Some("hours")) => milliseconds(number, 3_600_000),
                (Some(number), Some("minutes")) => milliseconds(number, 60_000),
                (Some(number), Some("ms")) if definition.kind == Kind::Long && synonym == "log.retention.ms" => {
                    milliseconds(number, 1)
                }
                _ => value,
            })
        });
        found.or_else(|| definition.default_value())
    }

    /// From which layer a topic without its own value takes it.
    pub fn topic_source(&self, definition: &Definition) -> Source {
        let Some(synonym) = broker_synonym(definition.name) else { return Source::Default };
        let own = [synonym];
        let names = match alternatives(synonym) {
            [] => &own[..],
            several => several,
        };
        names.iter().find_map(|name| self.set(name).next()).map_or(Source::Default, |(source, _)| source)
    }

    /// A topic setting's effective value under the topic's own settings.
    pub fn topic_value<'a>(&self, own: impl Fn(&str) -> Option<&'a str>, definition: &Definition) -> Option<Value> {
        own(definition.name).and_then(|text| definition.parse(text).ok()).or_else(|| self.topic_default(definition))
    }

    /// All effective settings of a topic.
    pub fn topic_config<'a>(&self, own: impl Fn(&str) -> Option<&'a str>) -> TopicConfig {
        TopicConfig::read(|name| self.topic_value(&own, topic_definition(name).expect("the table's own name")))
    }

    /// What groups take that don't say otherwise.
    pub fn group_default(&self, definition: &Definition) -> Option<Value> {
        group_synonym(definition.name)
            .and_then(broker_definition)
            .and_then(|synonym| self.value(synonym))
            .or_else(|| definition.default_value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(start: &[(&'static str, &str)]) -> Layers {
        let start = start.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Layers { start, ..Layers::default() }
    }

    fn dynamic(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn retention_in_ms_goes_before_minutes_before_hours() {
        let week = 604_800_000;
        for (given, expected) in [
            (&[][..], week),
            (&[("log.retention.hours", "1")][..], 3_600_000),
            (&[("log.retention.hours", "1"), ("log.retention.minutes", "1")][..], 60_000),
            (&[("log.retention.hours", "1"), ("log.retention.ms", "5")][..], 5),
            (&[("log.retention.hours", "1"), ("log.retention.minutes", "-1")][..], -1),
            (&[("log.retention.hours", "-1")][..], -1),
        ] {
            assert_eq!(layers(given).topic_config(|_| None).retention_ms, expected, "{given:?}");
        }
    }

    #[test]
    fn stronger_layers_win() {
        let start = layers(&[("message.max.bytes", "1"), ("min.insync.replicas", "2")]);
        let all = start.with(dynamic(&[]), dynamic(&[("message.max.bytes", "2")]));
        let one = start.with(dynamic(&[("message.max.bytes", "3")]), dynamic(&[("message.max.bytes", "2")]));
        assert_eq!(start.broker_settings().message_max_bytes, 1);
        assert_eq!(all.broker_settings().message_max_bytes, 2);
        assert_eq!(one.broker_settings().message_max_bytes, 3);
        assert_eq!(one.topic_config(|_| None).max_message_bytes, 3);
        let own = |name: &str| (name == "max.message.bytes").then_some("4");
        assert_eq!(one.topic_config(own).max_message_bytes, 4);
        assert_eq!(one.topic_config(|_| None).min_insync_replicas, 2);
        let definition = broker_definition("message.max.bytes").expect("exists");
        let sources: Vec<_> = one.synonyms(definition).into_iter().map(|it| (it.source, it.value)).collect();
        assert_eq!(
            sources,
            [
                (Source::Broker, Some("3".to_owned())),
                (Source::BrokerDefault, Some("2".to_owned())),
                (Source::Start, Some("1".to_owned())),
                (Source::Default, Some("1048588".to_owned())),
            ]
        );
    }

    #[test]
    fn synonyms_begin_with_the_setting_itself() {
        let layers = layers(&[("log.retention.hours", "9")]);
        let names = |name: &str| -> Vec<_> {
            let synonyms = layers.synonyms(broker_definition(name).expect("exists"));
            synonyms.into_iter().map(|it| (it.name, it.source)).collect()
        };
        assert_eq!(names("log.retention.ms"), []);
        let hours = "log.retention.hours";
        assert_eq!(names(hours), [(hours, Source::Start), (hours, Source::Default)]);
    }

    #[test]
    fn a_value_of_another_version_is_passed_over() {
        let layers =
            layers(&[("message.max.bytes", "7")]).with(dynamic(&[("message.max.bytes", "many")]), dynamic(&[]));
        assert_eq!(layers.broker_settings().message_max_bytes, 7);
    }

    #[test]
    fn every_synonym_is_a_broker_setting_of_the_same_type() {
        for definition in super::super::topic_definitions() {
            if let Some(synonym) = broker_synonym(definition.name) {
                let found = broker_definition(synonym).unwrap_or_else(|| panic!("{synonym} is not in the table"));
                assert_eq!(found.kind, definition.kind, "{synonym}");
            }
            layers(&[]).topic_default(definition);
        }
        for definition in super::super::GROUP {
            if let Some(synonym) = group_synonym(definition.name).filter(|it| *it != definition.name) {
                assert!(broker_definition(synonym).is_some(), "{synonym} is not in the table");
            }
            layers(&[]).group_default(definition);
        }
    }
}
