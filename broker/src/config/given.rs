//! What a node was given, and where: in a file, in the environment, on the command line; under which of its names.

use std::fmt;
use std::path::Path;

use super::error::ConfigError;
use super::origin::Origin;
use super::{Definition, NODE_SETTINGS, broker_definition, broker_definitions};

/// One value as it was given.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

impl Given {
    /// The value, unless it is a secret.
    pub(super) fn shown(&self) -> &str {
        if broker_definition(&self.name).is_some_and(Definition::sensitive) { "[hidden]" } else { &self.value }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} ({})", self.name, self.shown(), self.origin)
    }
}

/// Reads a file: a map of settings; those with Kafka's names may also stand in a map `config`.
pub(super) fn read_yaml(path: &Path, text: &str, given: &mut Vec<Given>) -> Result<(), ConfigError> {
    let wrong = |what: String| ConfigError::Shape { path: path.into(), what };
    let document: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|error| wrong(error.to_string().replace('\n', " ")))?;
    let top = match document {
        serde_yaml::Value::Null => return Ok(()),
        serde_yaml::Value::Mapping(map) => map,
        _ => return Err(wrong("it has no names at its top".to_owned())),
    };
    let mut take = |name: &serde_yaml::Value, value: &serde_yaml::Value, nested: bool| -> Result<(), ConfigError> {
        let name = scalar(name).ok_or_else(|| wrong("a name is not text".to_owned()))?;
        let line = line_of(text, &name, nested);
        let value = plain(value).ok_or_else(|| {
            let at = line.map(|line| format!(" (line {line})")).unwrap_or_default();
            wrong(match value {
                serde_yaml::Value::Null => format!("{name}{at} has no value"),
                _ => format!("the value of {name}{at} is not a text, number or list"),
            })
        })?;
        given.push(Given { name, value, origin: Origin::File(path.into(), line) });
        Ok(())
    };
    for (name, value) in &top {
        match value {
            serde_yaml::Value::Mapping(settings) if name.as_str() == Some("config") => {
                for (name, value) in settings {
                    take(name, value, true)?;
                }
            }
            serde_yaml::Value::Null if name.as_str() == Some("config") => {}
            _ => take(name, value, false)?,
        }
    }
    Ok(())
}

/// The line where a name stands before its value. The parser does not keep it; where the file is not one name a line,
/// it is not found.
fn line_of(text: &str, name: &str, nested: bool) -> Option<usize> {
    let is_it = |line: &str| {
        let name_on = line.trim_start();
        let after = name_on.strip_prefix(name).or_else(|| {
            let quote = name_on.chars().next().filter(|first| matches!(first, '"' | '\''))?;
            name_on[1..].strip_prefix(name)?.strip_prefix(quote)
        });
        (name_on.len() < line.len()) == nested && after.is_some_and(|after| after.trim_start().starts_with(':'))
    };
    text.lines().position(is_it).map(|index| index + 1)
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
    "ADMIN",
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

/// Reads the environment: the variables that begin with `CHRONIK_`.
pub(super) fn read_environment(
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
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    NODE_SETTINGS
        .iter()
        .find(|setting| setting.name == name || setting.synonyms.contains(&name))
        .map(|setting| setting.name)
        .or_else(|| broker_definition(name).map(|definition| definition.name))
}

/// The known name nearest to a wrong one, when it is near.
pub(super) fn suggest(wrong: &str) -> Option<&'static str> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_where_it_stands_before_its_value() {
        let text = "# node_id: 3\nnode_id: 1\nnum.partitions : 2\nconfig:\n  node_id: 7\n  \"log.dirs\": /d\nlist:\n- node_id\n";
        for (name, nested, line) in [
            ("node_id", false, Some(2)),
            ("node_id", true, Some(5)),
            ("num.partitions", false, Some(3)),
            ("num.partition", false, None),
            ("log.dirs", true, Some(6)),
            ("log.dirs", false, None),
            ("", false, None),
        ] {
            assert_eq!(line_of(text, name, nested), line, "{name}");
        }
        assert_eq!(line_of("{node_id: 1}", "node_id", false), None, "not one name a line");
    }
}
