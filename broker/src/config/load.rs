//! Reads a node's configuration: defaults ← YAML file ← environment ← command line, each over the one before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cluster::{self, ClusterConfig, Identity, Links};
use super::error::ConfigError;
use super::given::{Given, canonical, read_environment, read_yaml, suggest};
use super::node::listener;
use super::origin::Origin;
use super::{Config, HostPort, Layers, NODE_SETTINGS, broker_definition};
use crate::ids::NodeId;
use crate::wal::Durability;

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

/// The id of the node whose environment this is; `None` where it names none. What else is there is passed over.
///
/// # Errors
/// It names a node by half, twice, or by what is no id.
pub fn node_id_in_environment(
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Option<NodeId>, ConfigError> {
    const NAMES: [&str; 4] =
        ["CHRONIK_NODE_ID", "CHRONIK_BROKER_ID", "CHRONIK_POOL_FIRST_NODE_ID", "CHRONIK_POD_INDEX"];
    let mut given = Vec::new();
    read_environment(environment.into_iter().filter(|(name, _)| NAMES.contains(&name.as_str())), &mut given)?;
    let chosen = choose(given)?;
    if chosen.is_empty() { Ok(None) } else { node_id_in(&chosen).map(Some) }
}

/// The value that counts for each setting, by the name that it is kept by. Under one name the later source counts;
/// several names of one setting must agree, wherever they were given.
fn choose(given: Vec<Given>) -> Result<BTreeMap<&'static str, Given>, ConfigError> {
    let contradiction = |one: &Given, other: &Given| {
        ConfigError::Contradiction(format!("{one} and {other} are one setting: leave one of them out"))
    };
    let mut by_name: BTreeMap<(&'static str, String), Given> = BTreeMap::new();
    for next in given {
        let Some(setting) = canonical(&next.name) else {
            return Err(ConfigError::Unknown { suggestion: suggest(&next.name), name: next.name, origin: next.origin });
        };
        let place = (setting, next.name.clone());
        if let Some(previous) = by_name.get(&place)
            && previous.origin.layer() == next.origin.layer()
            && next.origin != Origin::CommandLine
            && !agree(setting, previous, &next)
        {
            return Err(contradiction(previous, &next));
        }
        by_name.insert(place, next);
    }
    let mut chosen: BTreeMap<&'static str, Given> = BTreeMap::new();
    for ((setting, _), next) in by_name {
        if let Some(previous) = chosen.get(setting)
            && !agree(setting, previous, &next)
        {
            return Err(contradiction(previous, &next));
        }
        chosen.insert(setting, next);
    }
    Ok(chosen)
}

/// Whether two values of a setting say the same, each in the words of its name.
fn agree(setting: &str, one: &Given, other: &Given) -> bool {
    let (one, other) = (one.value.trim(), other.value.trim());
    let same_address = || match (address(one), address(other)) {
        (Ok(one), Ok(other)) => one == other,
        // What is no address is refused as such.
        _ => false,
    };
    match setting {
        "kafka_addr" | "advertised_addr" => one == other || same_address(),
        "data_dir" => Path::new(one) == Path::new(other),
        _ => one == other,
    }
}

/// Reads the values that were chosen.
fn assemble(given: Vec<Given>) -> Result<Config, ConfigError> {
    let chosen = choose(given)?;
    let config = Config {
        kafka_addr: node_setting(&chosen, "kafka_addr", address)?,
        advertised_addr: optional_setting(&chosen, "advertised_addr", advertised)?,
        http_addr: node_setting(&chosen, "http_addr", str::parse)?,
        data_dir: node_setting(&chosen, "data_dir", data_dir)?,
        node_id: node_id_in(&chosen)?,
        rack_file: rack_file(&chosen)?,
        cluster_id: optional_setting(&chosen, "cluster_id", cluster_id)?,
        cluster: cluster_settings(&chosen)?,
        durability: node_setting(&chosen, "chronik.durability", durability)?,
        broker: broker_settings(&chosen)?,
    };
    check_together(&config)?;
    let identity = Identity {
        node: chosen.contains_key("node_id") || chosen.contains_key(POOL),
        cluster: chosen.contains_key("cluster_id"),
    };
    config.cluster.check(config.node_id, identity).map_err(ConfigError::Contradiction)?;
    Ok(config)
}

fn cluster_settings(chosen: &BTreeMap<&'static str, Given>) -> Result<ClusterConfig, ConfigError> {
    let tls_dir = optional_setting(chosen, "tls_dir", cluster::folder)?;
    let links = Links::of(tls_dir, node_setting(chosen, "insecure_links", cluster::flag)?);
    let links = links.map_err(ConfigError::Contradiction)?;
    let listen_at = |name| {
        let given = optional_setting(chosen, name, str::parse)?;
        let default = default_of(name).parse().expect("the table's defaults are valid because a test loads them");
        links.listen_at(name, given, default).map_err(ConfigError::Contradiction)
    };
    Ok(ClusterConfig {
        grpc_addr: listen_at("grpc_addr")?,
        grpc_advertised_addr: optional_setting(chosen, "grpc_advertised_addr", cluster::reachable)?,
        wal_receiver_addr: listen_at("wal_receiver_addr")?,
        wal_receiver_advertised_addr: optional_setting(chosen, "wal_receiver_advertised_addr", cluster::reachable)?,
        initial_voters: optional_setting(chosen, "initial_voters", cluster::voters)?.unwrap_or_default(),
        seeds: optional_setting(chosen, "seeds", cluster::addresses)?.unwrap_or_default(),
        replication_followers: optional_setting(chosen, "replication_followers", cluster::addresses)?
            .unwrap_or_default(),
        links,
    })
}

fn invalid(given: &Given, reason: String) -> ConfigError {
    ConfigError::Invalid {
        name: given.name.clone(),
        value: given.shown().to_owned(),
        origin: given.origin.clone(),
        reason,
    }
}

fn node_setting<T>(
    chosen: &BTreeMap<&'static str, Given>,
    name: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    if let Some(value) = optional_setting(chosen, name, &read)? {
        return Ok(value);
    }
    Ok(read(default_of(name)).expect("the table's defaults are valid because a test loads them"))
}

fn default_of(name: &str) -> &'static str {
    NODE_SETTINGS.iter().find(|setting| setting.name == name).expect("it is in the table").default
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

/// The first half of a node's id on Kubernetes.
const POOL: &str = "pool_first_node_id";
/// The second half.
const POD: &str = "pod_index";

/// The node's id: given as such, or by its pool and its pod, but never by both, so that there is nothing to guess.
fn node_id_in(chosen: &BTreeMap<&'static str, Given>) -> Result<NodeId, ConfigError> {
    let contradiction = |what: String| Err(ConfigError::Contradiction(what));
    let (pool, pod) = match (chosen.get(POOL), chosen.get(POD)) {
        (None, None) => return node_setting(chosen, "node_id", node_id),
        (Some(half), None) => return contradiction(format!("{half} is given without {POD}")),
        (None, Some(half)) => return contradiction(format!("{half} is given without {POOL}")),
        (Some(pool), Some(pod)) => (pool, pod),
    };
    if let Some(id) = chosen.get("node_id") {
        return contradiction(format!("{id} is given beside {pool} and {pod}: leave one or the others out"));
    }
    let half = |given: &Given| node_id(given.value.trim()).map_err(|reason| invalid(given, reason));
    let (first, index) = (half(pool)?.get(), half(pod)?.get());
    match first.checked_add(index).map(NodeId::try_from) {
        Some(Ok(id)) => Ok(id),
        _ => contradiction(format!("{pool} and {pod} together are beyond the largest node id, {}", i32::MAX)),
    }
}

/// Where the rack is named, when it is not named in `broker.rack`.
fn rack_file(chosen: &BTreeMap<&'static str, Given>) -> Result<Option<PathBuf>, ConfigError> {
    let (file, rack) = ("broker_rack_file", chosen.get("broker.rack"));
    if let (Some(file), Some(rack)) = (chosen.get(file), rack) {
        return Err(ConfigError::Contradiction(format!("{file} and {rack} both name the rack: leave one of them out")));
    }
    optional_setting(chosen, file, cluster::file)
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
    fn a_pool_and_a_pod_make_a_node_id() {
        let pod = |first: &str, index: &str, more: &[(&str, &str)]| {
            let both = [("CHRONIK_POOL_FIRST_NODE_ID", first), ("CHRONIK_POD_INDEX", index)];
            loaded("", &[&both[..], more].concat(), &[])
        };
        assert_eq!(pod("100", "2", &[]).expect("valid").node_id, NodeId::new(102));
        assert_eq!(pod("0", "2147483647", &[]).expect("valid").node_id, NodeId::new(i32::MAX));
        let of_cluster = [("CHRONIK_CLUSTER_ID", "c"), ("CHRONIK_SEEDS", "a:1")];
        assert_eq!(pod("3", "0", &of_cluster).expect("it is an id in a cluster").node_id, NodeId::new(3));
        for (first, index, more, parts) in [
            ("1", "2147483647", &[][..], &["pool_first_node_id=1", "pod_index=2147483647", "2147483647"][..]),
            ("-1", "2", &[], &["pool_first_node_id", "-1"]),
            ("1", "-2", &[], &["pod_index", "-2"]),
            ("1", "chronik-2", &[], &["pod_index", "whole number"]),
            ("1", "2", &[("CHRONIK_NODE_ID", "3")], &["node_id=3 (in CHRONIK_NODE_ID)", "pod_index=2"]),
            ("1", "2", &[("CHRONIK_BROKER_ID", "3")], &["broker.id=3", "pool_first_node_id=1"]),
        ] {
            let error = pod(first, index, more).expect_err("it is refused").to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
            for part in parts {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        }
        for (given, missing) in
            [("CHRONIK_POOL_FIRST_NODE_ID", "without pod_index"), ("CHRONIK_POD_INDEX", "without pool_first_node_id")]
        {
            let error = loaded("", &[(given, "1")], &[]).expect_err("one half is no id").to_string();
            assert!(error.contains(given) && error.contains(missing), "{error}");
        }
    }

    #[test]
    fn the_environment_alone_may_name_the_node() {
        let named = |environment: &[(&str, &str)]| {
            let named = node_id_in_environment(pairs(environment)).map_err(|why| why.to_string());
            named.map(|id| id.map(NodeId::get))
        };
        assert_eq!(named(&[("CHRONIK_NO_SETTING", "1"), ("HOME", "/")]), Ok(None));
        assert_eq!(named(&[("CHRONIK_NODE_ID", "2")]), Ok(Some(2)));
        assert_eq!(named(&[("CHRONIK_BROKER_ID", "2"), ("CHRONIK_NODE_ID", "2")]), Ok(Some(2)));
        assert_eq!(named(&[("CHRONIK_POOL_FIRST_NODE_ID", "100"), ("CHRONIK_POD_INDEX", "2")]), Ok(Some(102)));
        assert!(named(&[("CHRONIK_POD_INDEX", "2")]).is_err_and(|why| why.contains("without pool_first_node_id")));
        assert!(named(&[("CHRONIK_NODE_ID", "x")]).is_err_and(|why| why.contains("whole number")));
    }

    #[test]
    fn one_place_names_the_rack() {
        let config = loaded("broker_rack_file: /etc/pod/rack", &[], &[]).expect("valid");
        assert_eq!(config.rack_file.as_deref(), Some(Path::new("/etc/pod/rack")));
        let both =
            loaded("broker_rack_file: /etc/pod/rack\nbroker.rack: a", &[], &[]).expect_err("two places").to_string();
        assert!(both.contains("broker_rack_file=/etc/pod/rack") && both.contains("broker.rack=a"), "{both}");
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
            ("CHRONIK_ADMIN", "localhost:9391"),
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
            ("num.partitions: 0", &[], &[], &["\"0\" for num.partitions", "at least 1", "chronik.yaml, line 1"]),
            ("kafka_addr: nowhere", &[], &[], &["kafka_addr", "host:port"]),
            ("listeners: SSL://:1", &[], &[], &["listeners", "PLAINTEXT"]),
            ("advertised_addr: 0.0.0.0:1", &[], &[], &["advertised_addr", "wildcard"]),
            ("node_id: -1", &[], &[], &["node_id", "-1"]),
            ("cluster_id: a b", &[], &[], &["cluster_id"]),
            ("chronik.durability: maybe", &[], &[], &["chronik.durability", "fsync or os"]),
            ("node_id: 1\nbroker.id: 2", &[], &[], &["contradictory", "node_id=1", "broker.id=2"]),
            ("log.retention.ms: 0", &[], &[], &["contradictory", "log.retention.ms=0"]),
            ("group.min.session.timeout.ms: 9999999", &[], &[], &["group.min.session.timeout.ms", "group.max"]),
            ("ssl.key.password: [a, {b: c}]", &[], &[], &["ssl.key.password (line 1)", "not a text"]),
            ("node_id: 1\nconfig:\n  log.dirs:\n    a: b", &[], &[], &["log.dirs (line 3)", "not a text"]),
            ("node_id: 1\n\nnum.partitions:\n", &[], &[], &["num.partitions (line 3) has no value"]),
            ("config:\n  num.partitions: many", &[], &[], &["\"many\" for num.partitions", "chronik.yaml, line 2"]),
            ("node_id: 1\nnum.partition: 1", &[], &[], &["unknown setting num.partition", "chronik.yaml, line 2"]),
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

    /// Two names of one setting: the later source does not silently win over the other name.
    #[test]
    fn two_names_of_one_setting_must_agree_wherever_they_were_given() {
        let flag = |name: &str, value: &str| pairs(&[(name, value)]);
        for (yaml, environment, name, value, other) in [
            ("", &[("CHRONIK_LOG_DIRS", "/a")][..], "data_dir", "/b", "log.dirs=/a (in CHRONIK_LOG_DIRS)"),
            ("log.dirs: /a", &[], "data_dir", "/b", "log.dirs=/a (in "),
            ("listeners: PLAINTEXT://:9092", &[], "kafka_addr", "127.0.0.1:9092", "listeners=PLAINTEXT://:9092"),
            ("advertised_addr: a:1", &[], "advertised.listeners", "PLAINTEXT://b:1", "advertised_addr=a:1"),
            ("config: {node.id: 1}", &[], "node_id", "2", "node.id=1"),
        ] {
            let error = loaded(yaml, environment, &[(name, value)]).expect_err(name).to_string();
            let own = format!("{name}={value} (on the command line)");
            assert!(error.starts_with("contradictory settings: "), "{error}");
            assert!(error.contains(&own) && error.contains(other), "{error:?} names both");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let both = [flag("data_dir", "/a"), flag("log.dirs", "/b")].concat();
        assert!(load(None, [], both).is_err(), "on the command line, too");
    }

    #[test]
    fn names_that_agree_and_one_name_given_again_are_no_contradiction() {
        let yaml = "listeners: PLAINTEXT://:9092\nlog.dirs: /a/\nnum.partitions: 1";
        let environment = [("CHRONIK_KAFKA_ADDR", "0.0.0.0:9092"), ("CHRONIK_NUM_PARTITIONS", "2")];
        let config = loaded(yaml, &environment, &[("data_dir", "/a"), ("num.partitions", "3")]).expect("they agree");
        assert_eq!(config.kafka_addr.to_string(), "0.0.0.0:9092");
        assert_eq!(config.broker["num.partitions"], "3");
        let overridden = loaded("log.dirs: /a", &[("CHRONIK_LOG_DIRS", "/b")], &[("data_dir", "/b")]);
        assert_eq!(overridden.expect("the file's is overridden").data_dir, Path::new("/b"));
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
