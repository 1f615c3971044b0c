//! What DescribeConfigs answers: each setting's value, where it comes from, and what it would be otherwise.

use super::{
    CLIENT_METRICS, Definition, GROUP, Layers, Source, Synonym, broker_definition, broker_definitions, broker_synonym,
    group_synonym, topic_definitions,
};
use crate::config::Update;

/// One setting as it is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which.
    pub definition: &'static Definition,
    /// Its effective value; `None` for null and for secrets.
    pub value: Option<String>,
    /// Where that comes from.
    pub source: Source,
    /// Whether it can't be changed while the broker runs.
    pub read_only: bool,
    /// The values that it has in all layers, the strongest first.
    pub synonyms: Vec<Synonym>,
}

impl Entry {
    fn new(definition: &'static Definition, value: Option<String>, read_only: bool, synonyms: Vec<Synonym>) -> Self {
        let source = synonyms.first().map_or(Source::Default, |first| first.source);
        let value = value.filter(|_| !definition.sensitive());
        Self { definition, value, source, read_only, synonyms }
    }
}

/// Every setting of a topic that has these of its own.
pub fn topic_entries<'a>(layers: &Layers, own: impl Fn(&str) -> Option<&'a str>) -> Vec<Entry> {
    let entry = |definition: &'static Definition| {
        let value = layers.topic_value(&own, definition).map(|value| value.to_string());
        let set = own(definition.name).map(|_| Synonym {
            name: definition.name,
            value: value.clone(),
            source: Source::Topic,
        });
        let broker = broker_synonym(definition.name).and_then(broker_definition);
        let synonyms = set.into_iter().chain(broker.into_iter().flat_map(|it| layers.synonyms(it))).collect();
        Entry::new(definition, value, false, synonyms)
    };
    topic_definitions().iter().map(entry).collect()
}

/// What CreateTopics answers of a new topic (KIP-525): as `topic_entries`, but a value that comes from a setting in other
/// units (`log.retention.hours`) has that one's source.
pub fn new_topic_entries<'a>(layers: &Layers, own: impl Fn(&str) -> Option<&'a str>) -> Vec<Entry> {
    let mut entries = topic_entries(layers, &own);
    for entry in &mut entries {
        if own(entry.definition.name).is_none() {
            entry.source = layers.topic_source(entry.definition);
        }
    }
    entries
}

/// Every setting of this broker.
pub fn broker_entries(layers: &Layers) -> Vec<Entry> {
    let entry = |definition: &'static Definition| {
        let value = layers.value(definition).map(|value| value.to_string());
        Entry::new(definition, value, definition.update == Update::ReadOnly, layers.synonyms(definition))
    };
    broker_definitions().iter().map(entry).collect()
}

/// The dynamic settings of all brokers.
pub fn broker_default_entries(layers: &Layers) -> Vec<Entry> {
    let entry = |definition: &'static Definition| {
        let synonyms: Vec<_> =
            layers.synonyms(definition).into_iter().filter(|it| it.source == Source::BrokerDefault).collect();
        let value = synonyms.first()?.value.clone();
        Some(Entry::new(definition, value, definition.update == Update::ReadOnly, synonyms))
    };
    broker_definitions().iter().filter_map(entry).collect()
}

/// Every setting of a group that has these of its own.
pub fn group_entries<'a>(layers: &Layers, own: impl Fn(&str) -> Option<&'a str>) -> Vec<Entry> {
    let entry = |definition: &'static Definition| {
        let set = own(definition.name).and_then(|text| definition.parse(text).ok()).map(|value| value.to_string());
        let value = set.clone().or_else(|| layers.group_default(definition).map(|value| value.to_string()));
        let first =
            set.map(|value| Synonym { name: definition.name, value: Some(value), source: Source::Group }).into_iter();
        let broker = group_synonym(definition.name).map_or_else(Vec::new, |name| match broker_definition(name) {
            Some(found) => layers.synonyms(found),
            None => vec![Synonym { name, value: definition.default.map(str::to_owned), source: Source::Default }],
        });
        Entry::new(definition, value, false, first.chain(broker).collect())
    };
    GROUP.iter().map(entry).collect()
}

/// Every setting of a client-metrics subscription that has these of its own.
pub fn client_metrics_entries<'a>(own: impl Fn(&str) -> Option<&'a str>) -> Vec<Entry> {
    let entry = |definition: &'static Definition| {
        let set = own(definition.name).and_then(|text| definition.parse(text).ok()).map(|value| value.to_string());
        let synonyms = set
            .iter()
            .map(|value| Synonym { name: definition.name, value: Some(value.clone()), source: Source::ClientMetrics })
            .collect();
        Entry::new(definition, set.or_else(|| definition.default.map(str::to_owned)), false, synonyms)
    };
    CLIENT_METRICS.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
        entries.iter().find(|entry| entry.definition.name == name).unwrap_or_else(|| panic!("{name} is told"))
    }

    /// The names that Apache Kafka 4.4 answers, counted.
    #[test]
    fn as_many_settings_as_kafka() {
        let layers = Layers::default();
        assert_eq!(topic_entries(&layers, |_| None).len(), 37);
        assert_eq!(broker_entries(&layers).len(), 350);
        assert_eq!(group_entries(&layers, |_| None).len(), 21);
        assert_eq!(client_metrics_entries(|_| None).len(), 3);
        assert!(broker_default_entries(&layers).is_empty());
    }

    #[test]
    fn a_topics_own_value_goes_first_and_in_its_normal_form() {
        let own = |name: &str| (name == "cleanup.policy").then_some("compact , delete, compact");
        let entries = topic_entries(&Layers::default(), own);
        let policy = find(&entries, "cleanup.policy");
        assert_eq!((policy.value.as_deref(), policy.source), (Some("compact,delete"), Source::Topic));
        let names: Vec<_> = policy.synonyms.iter().map(|it| it.name).collect();
        assert_eq!(names, ["cleanup.policy", "log.cleanup.policy"]);
        let retention = find(&entries, "retention.ms");
        assert_eq!((retention.value.as_deref(), retention.source), (Some("604800000"), Source::Default));
        assert!(retention.synonyms.is_empty());
    }

    #[test]
    fn secrets_are_not_told() {
        let config =
            crate::config::load(None, [], [("ssl.key.password".to_owned(), "hunter2".to_owned())]).expect("valid");
        let entries = broker_entries(&Layers::of_start(&config));
        let password = find(&entries, "ssl.key.password");
        assert_eq!((password.value.as_deref(), password.source), (None, Source::Start));
        assert!(password.synonyms.iter().all(|it| it.value.is_none()));
    }

    #[test]
    fn groups_take_the_brokers_values() {
        let entries = group_entries(&Layers::default(), |_| None);
        assert_eq!(find(&entries, "consumer.session.timeout.ms").value.as_deref(), Some("45000"));
        assert_eq!(find(&entries, "streams.assignor.name").value.as_deref(), Some("sticky"));
        let reset = find(&entries, "share.auto.offset.reset");
        assert_eq!(reset.synonyms.iter().map(|it| it.name).collect::<Vec<_>>(), ["share.auto.offset.reset"]);
    }
}
