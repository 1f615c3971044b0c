//! Whether dynamic settings may be what they would become.

use std::collections::BTreeMap;

use super::{CLIENT_METRICS, Definition, GROUP, InvalidValue, Layers, Update, broker_definition, topic_definition};

/// Why dynamic settings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No such setting.
    #[error("Unknown {kind} config name: {name}")]
    Unknown {
        /// Of what.
        kind: &'static str,
        /// As it was given.
        name: String,
    },
    /// A value that the setting doesn't take.
    #[error(transparent)]
    Value(#[from] InvalidValue),
    /// A broker's setting that can be given only at its start.
    #[error("Cannot update this config dynamically: {0}")]
    ReadOnly(&'static str),
    /// A setting that each broker has for itself.
    #[error("Cannot update this config as the default of all brokers: {0}")]
    PerBroker(&'static str),
    /// Settings that can't hold together.
    #[error("{0}")]
    Contradiction(String),
}

/// A resource's own settings, as they would become.
pub type Own = BTreeMap<String, String>;

/// Those of a topic.
pub fn check_topic(layers: &Layers, own: &Own) -> Result<(), CheckError> {
    for (name, value) in own {
        known("topic", topic_definition(name), name)?.parse(value)?;
    }
    let config = layers.topic_config(|name| own.get(name).map(String::as_str));
    let (least, most) = (config.min_compaction_lag_ms, config.max_compaction_lag_ms);
    if least > most {
        return Err(CheckError::Contradiction(format!(
            "min.compaction.lag.ms ({least}) is more than max.compaction.lag.ms ({most})"
        )));
    }
    if own.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err(CheckError::Contradiction("this broker has no tiered storage".to_owned()));
    }
    Ok(())
}

/// Those of one broker, or of all when `of_all`.
pub fn check_broker(layers: &Layers, own: &Own, of_all: bool) -> Result<(), CheckError> {
    for (name, value) in own {
        let definition = known("broker", broker_definition(name), name)?;
        match definition.update {
            Update::ReadOnly => return Err(CheckError::ReadOnly(definition.name)),
            Update::PerBroker if of_all => return Err(CheckError::PerBroker(definition.name)),
            Update::PerBroker | Update::ClusterWide => definition.parse(value)?,
        };
    }
    let (broker, all) = if of_all { (Own::new(), own.clone()) } else { (own.clone(), Own::new()) };
    layers.with(broker, all).broker_settings().check().map_err(CheckError::Contradiction)
}

/// Those of a group: within the bounds that the broker sets.
pub fn check_group(layers: &Layers, own: &Own) -> Result<(), CheckError> {
    for (name, value) in own {
        let definition = known("group", GROUP.iter().find(|it| it.name == name), name)?;
        let Some(number) = definition.parse(value)?.integer() else { continue };
        let (least, most) = (group_bound(layers, name, "min"), group_bound(layers, name, "max"));
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let show = |bound: Option<i64>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
            return Err(CheckError::Contradiction(format!(
                "{name} must be in the range {} to {} inclusive",
                show(least),
                show(most)
            )));
        }
    }
    Ok(())
}

/// The broker's bound of a group setting: `group.consumer.min.session.timeout.ms` for `consumer.session.timeout.ms`.
fn group_bound(layers: &Layers, name: &str, which: &str) -> Option<i64> {
    let (protocol, rest) = name.split_once('.')?;
    let rest = rest.strip_prefix("num.").unwrap_or(rest);
    layers.value(broker_definition(&format!("group.{protocol}.{which}.{rest}"))?)?.integer()
}

/// Those of a client-metrics subscription (KIP-714).
pub fn check_client_metrics(own: &Own) -> Result<(), CheckError> {
    for (name, value) in own {
        let definition = CLIENT_METRICS.iter().find(|it| it.name == name);
        known("client metrics", definition, name)?.parse(value)?;
    }
    Ok(())
}

/// The items of a subscription's `match`: `selector=pattern`, of the selectors that KIP-714 knows.
pub fn check_client_match(value: &str) -> Result<(), CheckError> {
    const SELECTORS: &[&str] = &[
        "client_instance_id",
        "client_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let valid = item
            .split_once('=')
            .is_some_and(|(selector, pattern)| SELECTORS.contains(&selector.trim()) && !pattern.trim().is_empty());
        if !valid {
            return Err(CheckError::Contradiction(format!("Illegal client matching pattern: {item}")));
        }
    }
    Ok(())
}

fn known(
    kind: &'static str,
    definition: Option<&'static Definition>,
    name: &str,
) -> Result<&'static Definition, CheckError> {
    definition.ok_or_else(|| CheckError::Unknown { kind, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(settings: &[(&str, &str)]) -> Own {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn topics() {
        let layers = Layers::default();
        let error = |settings: &[(&str, &str)]| check_topic(&layers, &own(settings)).err().map(|it| it.to_string());
        for fine in
            [&[][..], &[("cleanup.policy", "")], &[("cleanup.policy", "delete,delete")], &[("retention.ms", " 5 ")]]
        {
            assert_eq!(error(fine), None);
        }
        for (wrong, part) in [
            (&[("no.such", "1")][..], "Unknown topic config name: no.such"),
            (&[("retention.ms", "soon")], "must be a whole number"),
            (&[("segment.bytes", "1")], "at least 1048576"),
            (&[("cleanup.policy", "delete,x")], "one of compact, delete"),
            (&[("cleanup.policy", "delete,")], "one of compact, delete"),
            (&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")], "(10) is more than"),
            (&[("remote.storage.enable", "true")], "no tiered storage"),
        ] {
            assert!(error(wrong).is_some_and(|text| text.contains(part)), "{wrong:?}");
        }
    }

    #[test]
    fn brokers() {
        let layers = Layers::default();
        let check = |settings: &[(&str, &str)], of_all| check_broker(&layers, &own(settings), of_all);
        assert_eq!(check(&[("log.cleaner.threads", "2")], true), Ok(()));
        assert_eq!(check(&[("ssl.keystore.location", "x")], false), Ok(()));
        assert_eq!(check(&[("num.partitions", "2")], false), Err(CheckError::ReadOnly("num.partitions")));
        let each = CheckError::PerBroker("ssl.keystore.location");
        assert_eq!(check(&[("ssl.keystore.location", "x")], true), Err(each));
        assert!(matches!(check(&[("message.max.bytes", "-1")], true), Err(CheckError::Value(_))));
        assert!(matches!(check(&[("log.retention.ms", "0")], true), Err(CheckError::Contradiction(_))));
        assert!(matches!(check(&[("no.such", "0")], true), Err(CheckError::Unknown { .. })));
    }

    #[test]
    fn groups_stay_within_the_brokers_bounds() {
        let layers = Layers::default();
        let check = |name: &str, value: &str| check_group(&layers, &own(&[(name, value)]));
        assert_eq!(check("consumer.session.timeout.ms", "45000"), Ok(()));
        let error = check("consumer.session.timeout.ms", "1").expect_err("too short").to_string();
        assert_eq!(error, "consumer.session.timeout.ms must be in the range 45000 to 60000 inclusive");
        assert!(check("streams.num.standby.replicas", "3").is_err());
        assert!(matches!(check("no.such", "1"), Err(CheckError::Unknown { .. })));
    }

    #[test]
    fn client_metrics() {
        assert_eq!(check_client_metrics(&own(&[("interval.ms", "100")])), Ok(()));
        for (name, value) in [("interval.ms", "99"), ("interval.ms", "3600001"), ("no.such", "1")] {
            assert!(check_client_metrics(&own(&[(name, value)])).is_err(), "{name}={value}");
        }
        assert_eq!(check_client_match("client_id=a.*, client_source_port=1"), Ok(()));
        for wrong in ["foo", "client_id=", "planet=x"] {
            assert!(check_client_match(wrong).is_err(), "{wrong}");
        }
    }
}
