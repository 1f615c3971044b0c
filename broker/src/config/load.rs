//! Reads a node's configuration: defaults ← YAML file ← environment ← command line, each over the one before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::node::listener;
use super::{Config, HostPort, Layers, NODE_SETTINGS, broker_definition, broker_definitions};
use crate::ids::NodeId;
use crate::wal::Durability;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In this file.
    File(PathBuf),
    /// In this environment variable.
    Environment(String),
    /// On the command line.
    CommandLine,
}

impl Origin {
    fn layer(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Environment(_) => 1,
            Self::CommandLine => 2,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Environment(variable) => write!(f, "in {variable}"),
            Self::CommandLine => f.write_str("on the command line"),
        }
    }
}

/// Why a configuration is refused. One line each, naming the setting.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a map of settings.
    #[error("{path} is not a map of settings: {what}")]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No such setting.
    #[error("unknown setting {name} ({origin}){}", suggestion.map(|it| format!("; did you mean {it}?")).unwrap_or_default())]
    Unknown {
        /// As it was given.
        name: String,
        /// Where.
        origin: Origin,
        /// The setting that looks most alike.
        suggestion: Option<&'static str>,
    },
    /// A value that the setting doesn't take.
    #[error("invalid value {value:?} for {name} ({origin}): {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value.
        value: String,
        /// Where.
        origin: Origin,
        /// What is wrong.
        reason: String,
    },
    /// Settings that can't hold together.
    #[error("contradictory settings: {0}")]
    Contradiction(String),
}

/// One value as it was given.
#[derive(Debug, Clone)]
struct Given {
    name: String,
    value: String,
    origin: Origin,
}

/// Reads the configuration: `file` (YAML), the environment's variables (others than `CHRONIK_*` are passed over), and
/// the command line's settings by name.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    command_line: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut given = Vec::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        read_yaml(path, &text, &mut given)?;
    }
    read_environment(environment, &mut given)?;
    let on_command_line = |(name, value)| Given { name, value, origin: Origin::CommandLine };
    given.extend(command_line.into_iter().map(on_command_line));
    assemble(given)
}

/// The file: a map of settings; those with Kafka's names may also stand in a map `config`.
fn read_yaml(path: &Path, text: &str, given: &mut Vec<Given>) -> Result<(), ConfigError> {
    let wrong = |what: String| ConfigError::Shape { path: path.into(), what };
    let document: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|error| wrong(error.to_string().replace('\n', " ")))?;
    let origin = Origin::File(path.into());
    let top = match document {
        serde_yaml::Value::Null => return Ok(()),
        serde_yaml::Value::Mapping(map) => map,
        _ => return Err(wrong("it has no names at its top".to_owned())),
    };
    let mut take = |name: &serde_yaml::Value, value: &serde_yaml::Value| -> Result<(), ConfigError> {
        let name = scalar(name).ok_or_else(|| wrong("a name is not text".to_owned()))?;
        let value = plain(value).ok_or_else(|| wrong(format!("the value of {name} is not a text, number or list")))?;
        given.push(Given { name, value, origin: origin.clone() });
        Ok(())
    };
    for (name, value) in &top {
        match value {
            serde_yaml::Value::Mapping(settings) if name.as_str() == Some("config") => {
                for (name, value) in settings {
                    take(name, value)?;
                }
            }
            serde_yaml::Value::Null if name.as_str() == Some("config") => {}
            _ => take(name, value)?,
        }
    }
    Ok(())
}

fn scalar(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::Bool(flag) => Some(flag.to_string()),
        serde_yaml::Value::Number(number) => Some(number.to_string()),
        serde_yaml::Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// A text, or a list of texts as Kafka writes it.
fn plain(value: &serde_yaml::Value) -> Option<String> {
    match value {
        serde_yaml::Value::Sequence(items) => Some(items.iter().map(scalar).collect::<Option<Vec<_>>>()?.join(",")),
        other => scalar(other),
    }
}

/// Variables that begin with `CHRONIK_` and are not a node's settings: of the client commands and of the tests.
const FOREIGN: &[&str] = &[
    "CONFIG",
    "LOG",
    "LOG_FORMAT",
    "BOOTSTRAP",
    "OUTPUT",
    "BIN",
    "PEER",
    "LAB",
    "CASES",
    "SEED",
    "KILL_ROUNDS",
    "SOAK_CLIENTS",
    "SOAK_SECONDS",
];

/// Kubernetes sets such variables for every Service of a namespace, thus for one named `chronik` too.
fn of_a_kubernetes_service(name: &str) -> bool {
    name == "PORT" || name.ends_with("SERVICE_HOST") || name.contains("SERVICE_PORT") || name.contains("PORT_")
}

fn read_environment(
    environment: impl IntoIterator<Item = (String, String)>,
    given: &mut Vec<Given>,
) -> Result<(), ConfigError> {
    for (variable, value) in environment {
        let Some(short) = variable.strip_prefix("CHRONIK_") else { continue };
        if FOREIGN.contains(&short) || of_a_kubernetes_service(short) {
            continue;
        }
        let underscored = short.to_ascii_lowercase();
        let dotted = underscored.replace('_', ".");
        let full = format!("chronik.{dotted}");
        let known = [&underscored, &dotted, &full].into_iter().find(|name| canonical(name).is_some());
        let origin = Origin::Environment(variable.clone());
        match known {
            Some(name) => given.push(Given { name: name.clone(), value, origin }),
            None => return Err(ConfigError::Unknown { suggestion: suggest(&dotted), name: variable, origin }),
        }
    }
    Ok(())
}

/// The name that a setting is kept by: Kafka's names for the node's own settings become Chronik's.
fn canonical(name: &str) -> Option<&'static str> {
    NODE_SETTINGS
        .iter()
        .find(|setting| setting.name == name || setting.synonyms.contains(&name))
        .map(|setting| setting.name)
        .or_else(|| broker_definition(name).map(|definition| definition.name))
}

/// The known name nearest to a wrong one, when it is near.
fn suggest(wrong: &str) -> Option<&'static str> {
    let node = NODE_SETTINGS.iter().map(|setting| setting.name);
    let broker = broker_definitions().iter().filter(|it| it.has_effect()).map(|it| it.name);
    node.chain(broker)
        .map(|name| (edit_distance(&name.replace('_', "."), &wrong.replace('_', ".")), name))
        .min()
        .filter(|(distance, name)| *distance <= 3.min(name.len() / 3))
        .map(|(_, name)| name)
}

/// Levenshtein's, on bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let cost = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cost);
        }
    }
    row[b.len()]
}

/// Lays the values over each other and reads them.
fn assemble(given: Vec<Given>) -> Result<Config, ConfigError> {
    let mut chosen: BTreeMap<&'static str, Given> = BTreeMap::new();
    for next in given {
        let Some(name) = canonical(&next.name) else {
            return Err(ConfigError::Unknown { suggestion: suggest(&next.name), name: next.name, origin: next.origin });
        };
        if let Some(previous) = chosen.get(name)
            && previous.origin.layer() == next.origin.layer()
            && previous.value != next.value
            && matches!(next.origin, Origin::File(_) | Origin::Environment(_))
        {
            return Err(ConfigError::Contradiction(format!(
                "{}={} ({}) and {}={} ({})",
                previous.name, previous.value, previous.origin, next.name, next.value, next.origin
            )));
        }
        chosen.insert(name, next);
    }
    let config = Config {
        kafka_addr: node_setting(&chosen, "kafka_addr", address)?,
        advertised_addr: optional_setting(&chosen, "advertised_addr", advertised)?,
        http_addr: node_setting(&chosen, "http_addr", str::parse)?,
        data_dir: node_setting(&chosen, "data_dir", data_dir)?,
        node_id: node_setting(&chosen, "node_id", node_id)?,
        cluster_id: optional_setting(&chosen, "cluster_id", cluster_id)?,
        durability: node_setting(&chosen, "chronik.durability", durability)?,
        broker: broker_settings(&chosen)?,
    };
    check_together(&config)?;
    Ok(config)
}

fn invalid(given: &Given, reason: String) -> ConfigError {
    let secret = broker_definition(&given.name).is_some_and(super::Definition::sensitive);
    let value = if secret { "[hidden]".to_owned() } else { given.value.clone() };
    ConfigError::Invalid { name: given.name.clone(), value, origin: given.origin.clone(), reason }
}

fn node_setting<T>(
    chosen: &BTreeMap<&'static str, Given>,
    name: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    if let Some(value) = optional_setting(chosen, name, &read)? {
        return Ok(value);
    }
    let default = NODE_SETTINGS.iter().find(|setting| setting.name == name).expect("it is in the table").default;
    Ok(read(default).expect("the table's defaults are valid because a test loads them"))
}

fn optional_setting<T>(
    chosen: &BTreeMap<&'static str, Given>,
    name: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, ConfigError> {
    chosen.get(name).map(|given| read(given.value.trim()).map_err(|reason| invalid(given, reason))).transpose()
}

fn address(text: &str) -> Result<HostPort, String> {
    if text.contains("://") { listener(text) } else { text.parse() }
}

fn advertised(text: &str) -> Result<HostPort, String> {
    let address = address(text)?;
    if address.host == "0.0.0.0" || address.host == "::" {
        return Err("clients can't connect to a wildcard address".to_owned());
    }
    Ok(address)
}

fn data_dir(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("must name a folder".to_owned()),
        several if several.contains(',') => Err("Chronik has one data folder".to_owned()),
        one => Ok(PathBuf::from(one)),
    }
}

fn node_id(text: &str) -> Result<NodeId, String> {
    let number: i32 = text.parse().map_err(|_| "must be a whole number".to_owned())?;
    NodeId::try_from(number).map_err(|error| error.to_string())
}

fn cluster_id(text: &str) -> Result<String, String> {
    let valid =
        (1..=36).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it));
    if valid { Ok(text.to_owned()) } else { Err("must be 1 to 36 letters, digits, - and _".to_owned()) }
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "fsync" => Ok(Durability::Fsync),
        "os" => Ok(Durability::Os),
        _ => Err("must be fsync or os".to_owned()),
    }
}

fn broker_settings(chosen: &BTreeMap<&'static str, Given>) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let mut settings = BTreeMap::new();
    for (name, given) in chosen {
        let Some(definition) = broker_definition(name) else { continue };
        let value = definition.parse(&given.value).map_err(|error| invalid(given, error.reason))?;
        settings.insert(definition.name, value.to_string());
    }
    Ok(settings)
}

/// What no single value can show.
fn check_together(config: &Config) -> Result<(), ConfigError> {
    Layers::of_start(config).broker_settings().check().map_err(ConfigError::Contradiction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(settings: &[(&str, &str)]) -> Vec<(String, String)> {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn loaded(yaml: &str, environment: &[(&str, &str)], command_line: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a temp folder");
        let file = folder.path().join("chronik.yaml");
        std::fs::write(&file, yaml).expect("a temp file");
        load(Some(&file), pairs(environment), pairs(command_line))
    }

    #[test]
    fn defaults() {
        let config = load(None, [], []).expect("the defaults are valid");
        assert_eq!(config.kafka_addr.to_string(), "0.0.0.0:9092");
        assert_eq!(config.http_addr.to_string(), "0.0.0.0:9491");
        assert_eq!(config.data_dir, Path::new("./data"));
        assert_eq!(config.node_id, NodeId::new(0));
        assert_eq!(config.durability, Durability::Fsync);
        assert!(config.broker.is_empty());
    }

    #[test]
    fn flags_go_before_the_environment_before_the_file() {
        let yaml =
            "node_id: 1\nnum.partitions: 1\nconfig:\n  log.retention.ms: 1\n  log.cleanup.policy: [compact, delete]\n";
        let environment = [("CHRONIK_NODE_ID", "2"), ("CHRONIK_LOG_RETENTION_MS", "2"), ("HOME", "/")];
        let config = loaded(yaml, &environment, &[("node_id", "3")]).expect("valid");
        assert_eq!(config.node_id, NodeId::new(3));
        assert_eq!(config.broker["log.retention.ms"], "2");
        assert_eq!(config.broker["num.partitions"], "1");
        assert_eq!(config.broker["log.cleanup.policy"], "compact,delete");
    }

    #[test]
    fn kafkas_names_for_the_nodes_settings() {
        let yaml =
            "node.id: 4\nlisteners: PLAINTEXT://:1234\nadvertised.listeners: PLAINTEXT://broker:1\nlog.dirs: /d\n";
        let config = loaded(yaml, &[("CHRONIK_DURABILITY", "os")], &[]).expect("valid");
        assert_eq!(config.node_id, NodeId::new(4));
        assert_eq!(config.kafka_addr.to_string(), "0.0.0.0:1234");
        assert_eq!(config.advertised_addr.map(|it| it.to_string()).as_deref(), Some("broker:1"));
        assert_eq!(config.data_dir, Path::new("/d"));
        assert_eq!(config.durability, Durability::Os);
    }

    #[test]
    fn settings_without_effect_are_accepted_and_told() {
        let config = loaded("config: {num.network.threads: 3, num.partitions: 2}", &[], &[]).expect("valid");
        assert_eq!(config.without_effect().collect::<Vec<_>>(), ["num.network.threads"]);
    }

    #[test]
    fn variables_of_others_are_passed_over() {
        let environment = [
            ("CHRONIK_SERVICE_HOST", "10.0.0.1"),
            ("CHRONIK_SERVICE_PORT", "9092"),
            ("CHRONIK_PORT", "tcp://10.0.0.1:9092"),
            ("CHRONIK_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("CHRONIK_BOOTSTRAP", "localhost:9092"),
        ];
        assert!(load(None, pairs(&environment), []).is_ok());
    }

    /// Each wrong setting is refused with one line that names it.
    #[test]
    fn errors_name_the_setting() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("num.partition: 1", &[], &[], &["unknown setting num.partition", "did you mean num.partitions?"]),
            ("", &[("CHRONIK_NUM_PARTITION", "1")], &[], &["CHRONIK_NUM_PARTITION", "num.partitions"]),
            ("", &[], &[("quite.another", "1")], &["unknown setting quite.another (on the command line)"]),
            ("num.partitions: 0", &[], &[], &["\"0\" for num.partitions", "at least 1", "chronik.yaml"]),
            ("kafka_addr: nowhere", &[], &[], &["kafka_addr", "host:port"]),
            ("listeners: SSL://:1", &[], &[], &["listeners", "PLAINTEXT"]),
            ("advertised_addr: 0.0.0.0:1", &[], &[], &["advertised_addr", "wildcard"]),
            ("node_id: -1", &[], &[], &["node_id", "-1"]),
            ("cluster_id: a b", &[], &[], &["cluster_id"]),
            ("chronik.durability: maybe", &[], &[], &["chronik.durability", "fsync or os"]),
            ("node_id: 1\nbroker.id: 2", &[], &[], &["contradictory", "node_id=1", "broker.id=2"]),
            ("log.retention.ms: 0", &[], &[], &["contradictory", "log.retention.ms=0"]),
            ("group.min.session.timeout.ms: 9999999", &[], &[], &["group.min.session.timeout.ms", "group.max"]),
            ("ssl.key.password: [a, {b: c}]", &[], &[], &["ssl.key.password", "not a text"]),
            ("- a", &[], &[], &["chronik.yaml", "no names"]),
            ("a: [", &[], &[], &["chronik.yaml"]),
        ];
        for (yaml, environment, command_line, expected) in cases {
            let error = loaded(yaml, environment, command_line).expect_err(yaml).to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            for part in *expected {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        }
        let missing = load(Some(Path::new("/no/such/file")), [], []).expect_err("missing").to_string();
        assert!(missing.contains("/no/such/file"), "{missing}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(
            yaml in "(([a-z_.]{1,12}|num.partitions|config|node_id|listeners): ?([-0-9a-z:/,]{0,12}|\\[a\\])\n){0,4}|\\PC{0,40}",
            variable in "CHRONIK_[A-Z_]{0,20}",
            name in "[a-z_.]{0,20}|log.retention.ms|kafka_addr",
            value in "\\PC{0,12}|-?[0-9]{0,20}",
        ) {
            let mut given = Vec::new();
            if read_yaml(Path::new("x"), &yaml, &mut given).is_ok()
                && read_environment([(variable, value.clone())], &mut given).is_ok()
            {
                given.push(Given { name, value, origin: Origin::CommandLine });
                let _: Result<Config, ConfigError> = assemble(given);
            }
        }
    }
}
