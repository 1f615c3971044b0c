//! `docs/reference/configs.md`, generated from the tables.

use std::fmt::Write;

use super::{
    CLIENT_METRICS, Definition, GROUP, NODE_SETTINGS, Update, Valid, broker_definitions, broker_synonym,
    topic_definitions,
};

const HEAD: &str = "# Settings\n\n\
    Generated from the program; `make docs` writes it anew.\n\n\
    A setting is given in the YAML file (`chronik start --config FILE`), over that in the environment, over that on the \
    command line (`--set name=value`). Kafka's settings may stand in the file's map `config`. A variable's name is \
    `CHRONIK_` and the setting's name in capitals, with `_` for `.`: `CHRONIK_LOG_RETENTION_MS`. An unknown or \
    contradictory setting is an error that names it, with exit code 2: so are two names of one setting (`data_dir` and \
    `log.dirs`) with different values, wherever they were given.\n\n\
    ```yaml\n\
    kafka_addr: 0.0.0.0:9092\n\
    data_dir: /var/lib/chronik\n\
    config:\n  log.retention.hours: 24\n  num.partitions: 3\n\
    ```\n";

const BROKER: &str = "\n## Brokers\n\n\
    Kafka's names, types and defaults. *Dynamic* settings can be changed while the broker runs, for one broker or as the \
    default of all (`kafka-configs --entity-type brokers`).\n";

const TOPIC: &str = "\n## Topics\n\n\
    Set at the topic's creation or later (`chronik topic config`). Without its own value a topic takes that of the broker \
    setting.\n";

const INERT: &str = "\n## Without effect\n\n\
    These settings of Apache Kafka are accepted, checked and shown, so that its configurations and tools work. They do \
    nothing in Chronik; a node that is given one says so at its start.\n\n";

/// The reference of every setting, as Markdown.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    page.push_str("\n## The node\n\n| setting | meaning | default | Kafka's name |\n| --- | --- | --- | --- |\n");
    for setting in NODE_SETTINGS {
        let synonyms: Vec<String> = setting.synonyms.iter().map(|name| format!("`{name}`")).collect();
        let (name, meaning) = (setting.name, setting.documentation);
        let _ = writeln!(page, "| `{name}` | {meaning} | {} | {} |", code(setting.default), synonyms.join(", "));
    }
    page.push_str(BROKER);
    let effective = |table: &'static [Definition]| table.iter().filter(|definition| definition.has_effect());
    table(&mut page, effective(broker_definitions()), "dynamic", |definition| match definition.update {
        Update::ReadOnly => String::new(),
        Update::PerBroker => "of one broker".to_owned(),
        Update::ClusterWide => "yes".to_owned(),
    });
    page.push_str(TOPIC);
    let synonym = |name: Option<&str>| name.map_or_else(String::new, code);
    table(&mut page, effective(topic_definitions()), "broker setting", |it| synonym(broker_synonym(it.name)));
    page.push_str(INERT);
    for (what, definitions) in [
        ("Brokers", broker_definitions()),
        ("Topics", topic_definitions()),
        ("Groups", GROUP),
        ("Client metrics", CLIENT_METRICS),
    ] {
        let names: Vec<String> =
            definitions.iter().filter(|it| !it.has_effect()).map(|it| format!("`{}`", it.name)).collect();
        let _ = write!(page, "{what}: {}.\n\n", names.join(", "));
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn table<'a>(
    page: &mut String,
    definitions: impl Iterator<Item = &'a Definition>,
    last: &str,
    cell: impl Fn(&Definition) -> String,
) {
    let _ = write!(page, "\n| setting | meaning | type | default | {last} |\n| --- | --- | --- | --- | --- |\n");
    for definition in definitions {
        let kind = match definition.valid {
            Valid::Any => definition.kind.name().to_owned(),
            valid => format!("{}, {valid}", definition.kind.name()),
        };
        let default = definition.default.map_or_else(|| "none".to_owned(), code);
        let (name, meaning) = (definition.name, definition.documentation);
        let _ = writeln!(page, "| `{name}` | {meaning} | {kind} | {default} | {} |", cell(definition));
    }
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_reference_of_the_settings_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/configs.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs/reference is writable");
        }
        let written = std::fs::read_to_string(path).expect("docs/reference/configs.md exists");
        assert!(written == markdown(), "docs/reference/configs.md is stale: make docs");
    }

    /// Names, types, defaults and what may change are those that Apache Kafka 4.4 answers.
    #[test]
    fn settings_are_kafkas() {
        let tables: [(&str, &[Definition]); 4] = [
            ("broker", broker_definitions()),
            ("client_metrics", CLIENT_METRICS),
            ("group", GROUP),
            ("topic", topic_definitions()),
        ];
        let mut ours = Vec::new();
        for (resource, definitions) in tables {
            for it in definitions {
                let update = if it.update == Update::ReadOnly { "read-only" } else { "dynamic" };
                let secrecy = if it.sensitive() { "secret" } else { "shown" };
                let default = match (resource, it.name) {
                    // Told as what the broker has.
                    ("group", "streams.assignor.name") => "sticky",
                    _ => it.default.unwrap_or("null"),
                };
                ours.push([resource, it.name, it.kind.name(), default, update, secrecy].join("\t"));
            }
        }
        let kafkas = include_str!("testdata/kafka-4.4.tsv").lines().filter(|line| !line.starts_with('#'));
        // Chronik's listener can't be moved while it serves.
        let kafkas = kafkas.map(|line| match line.strip_prefix("broker\tlisteners\t") {
            Some(rest) => format!("broker\tlisteners\t{}", rest.replace("dynamic", "read-only")),
            None => line.to_owned(),
        });
        let kafkas: Vec<String> = kafkas.collect();
        let differing: Vec<_> = ours.iter().filter(|it| !kafkas.contains(it)).collect();
        assert!(differing.is_empty(), "not Kafka's: {differing:#?}");
        assert_eq!(ours.len(), kafkas.len());
    }
}
