//! Settings of running brokers: the operator owns exactly the keys of the spec. Those that it owns are noted on the ConfigMap
//! before they are set, so that one that goes from the spec is reset, and one that somebody else set is left alone.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::dereference::Observed;
use crate::admin::proto::NodesConfig;
use crate::build::{Kind, config};
use crate::lifecycle::Settings;
use crate::names;

/// The setting that a cluster always has (KIP-966): reset, it has Kafka's default.
const ALWAYS_SET: (&str, &str) = ("min.insync.replicas", "1");

/// The keys that the operator has set, or was about to.
pub(super) fn owned(observed: &Observed) -> BTreeSet<String> {
    let config_map = observed.objects.get(&(Kind::ConfigMap, names::config_map(&observed.name)));
    let noted = config_map.and_then(|map| map.annotations().get(names::OWNED_SETTINGS)).map_or("", String::as_str);
    noted.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What is to change.
pub(super) fn changes(spec: &BTreeMap<String, String>, owned: &BTreeSet<String>, there: &[NodesConfig]) -> Settings {
    let wanted = config::dynamic(spec);
    let value = |name: &str| there.iter().find(|it| it.name == name).and_then(|it| it.value.as_deref());
    let is_set = |name: &str| match ALWAYS_SET {
        (always, default) if always == name => value(name).is_some_and(|value| value != default),
        _ => there.iter().any(|it| it.name == name && it.is_set),
    };
    let reset = owned.iter().filter(|name| !wanted.contains_key(*name) && is_set(name)).cloned().collect();
    let differs = |(name, wanted): &(String, String)| value(name) != Some(wanted.as_str());
    Settings { values: wanted.into_iter().filter(differs).collect(), reset }
}

/// The keys to be noted: those of the spec, and those that are not reset yet.
pub(super) fn noted(
    spec: &BTreeMap<String, String>,
    owned: &BTreeSet<String>,
    settings: Option<&Settings>,
) -> BTreeSet<String> {
    let mut noted: BTreeSet<String> = config::dynamic(spec).into_keys().collect();
    match settings {
        Some(settings) => noted.extend(settings.reset.iter().cloned()),
        // Nobody can say what is reset.
        None => noted.extend(owned.iter().cloned()),
    }
    noted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(values: &[(&str, &str)]) -> Vec<NodesConfig> {
        let of = |(name, value): &(&str, &str)| NodesConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            is_set: true,
            dynamic: true,
            has_effect: true,
        };
        values.iter().map(of).collect()
    }

    fn spec(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn names(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn exactly_the_keys_of_the_spec_are_owned() {
        let wanted = spec(&[("log.retention.ms", "1"), ("message.max.bytes", "2"), ("num.partitions", "3")]);
        let found = there(&[("log.retention.ms", "1"), ("log.roll.ms", "9"), ("log.segment.bytes", "7")]);
        let owned = names(&["log.roll.ms", "log.retention.bytes"]);
        let settings = changes(&wanted, &owned, &found);
        assert_eq!(settings.values, spec(&[("message.max.bytes", "2")]), "what brokers start with is not set");
        assert_eq!(settings.reset, names(&["log.roll.ms"]), "log.segment.bytes is somebody else's");
        let kept = noted(&wanted, &owned, Some(&settings));
        assert_eq!(kept, names(&["log.retention.ms", "log.roll.ms", "message.max.bytes"]));
        let unknown = noted(&wanted, &owned, None);
        assert!(unknown.contains("log.retention.bytes"), "nobody can say that it is reset");
    }

    #[test]
    fn a_setting_that_is_always_there_is_reset_to_its_default() {
        let owned = names(&["min.insync.replicas"]);
        assert_eq!(changes(&spec(&[]), &owned, &there(&[("min.insync.replicas", "2")])).reset, owned);
        assert_eq!(changes(&spec(&[]), &owned, &there(&[("min.insync.replicas", "1")])).reset, names(&[]));
    }
}
