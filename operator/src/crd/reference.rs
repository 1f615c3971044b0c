//! The reference page of the resources, from their schemas: `docs/reference/crd.md`.

use std::fmt::Write;

use serde_json::Value;

use super::yaml::definitions;

/// Fields whose types are Kubernetes' own, told by its reference.
const KUBERNETES: [&str; 5] = ["affinity", "conditions", "resources", "tolerations", "topologySpreadConstraints"];

/// The page.
///
/// # Panics
/// Never: a definition made of types is JSON, with a schema.
pub fn markdown() -> String {
    let mut page = "# Resources\n\nGenerated from the types; `make docs` writes it anew.\n".to_owned();
    for definition in definitions() {
        let definition = serde_json::to_value(&definition).expect("a definition can be written as JSON");
        let (spec, version) = (&definition["spec"], &definition["spec"]["versions"][0]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, group, name) = (text(&spec["names"]["kind"]), text(&spec["group"]), text(&version["name"]));
        let schema = &version["schema"]["openAPIV3Schema"];
        let short = text(&spec["names"]["shortNames"][0]);
        let _ =
            write!(page, "\n## {kind}\n\n`{group}/{name}`, short name `{short}`. {}\n", text(&schema["description"]));
        rules(&mut page, schema);
        for part in ["spec", "status"] {
            section(&mut page, part, &schema["properties"][part]);
        }
    }
    page
}

/// A table of an object's fields, then those of the objects in it.
fn section(page: &mut String, path: &str, schema: &Value) {
    let Some(fields) = schema["properties"].as_object() else { return };
    let _ = write!(page, "\n### {path}\n\n{}\n", one_line(&schema["description"]));
    rules(page, schema);
    page.push_str("\n| field | type | default | meaning |\n| --- | --- | --- | --- |\n");
    let required = schema["required"].as_array();
    for (name, field) in fields {
        let is_required = required.is_some_and(|all| all.iter().any(|it| it == name));
        let default = match (&field["default"], is_required) {
            (Value::Null, true) => "required".to_owned(),
            (Value::Null, false) => String::new(),
            (default, _) => format!("`{default}`"),
        };
        let mut meaning = one_line(&field["description"]);
        for rule in messages(field) {
            meaning = format!("{meaning} {rule}");
        }
        let _ = writeln!(page, "| `{name}` | {} | {default} | {} |", kind(name, field), meaning.replace('|', "\\|"));
    }
    for (name, field) in fields.iter().filter(|(name, _)| !KUBERNETES.contains(&name.as_str())) {
        section(page, &format!("{path}.{name}"), field);
        section(page, &format!("{path}.{name}[]"), &field["items"]);
    }
}

/// What is refused beyond the types, in the API server's words.
fn rules(page: &mut String, schema: &Value) {
    let messages = messages(schema);
    if !messages.is_empty() {
        page.push('\n');
    }
    for message in messages {
        let _ = writeln!(page, "- {message}");
    }
}

fn messages(schema: &Value) -> Vec<String> {
    let rules = schema["x-kubernetes-validations"].as_array();
    rules.into_iter().flatten().map(|rule| one_line(&rule["message"])).collect()
}

fn one_line(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn kind(name: &str, schema: &Value) -> String {
    if KUBERNETES.contains(&name) {
        return "Kubernetes' own".to_owned();
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return values.join(", ");
    }
    let of = |schema: &Value| schema["type"].as_str().unwrap_or("any").to_owned();
    let mut text = match schema["type"].as_str() {
        Some("array") => format!("list of {}", of(&schema["items"])),
        Some("object") if schema["additionalProperties"].is_object() => {
            format!("map to {}", of(&schema["additionalProperties"]))
        }
        _ => of(schema),
    };
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), Some(most)) => drop(write!(text, ", {least} to {most}")),
        (Some(least), None) => drop(write!(text, ", at least {least}")),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_reference_of_the_resources_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/crd.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs/reference is writable");
        }
        let written = std::fs::read_to_string(path).expect("docs/reference/crd.md exists");
        assert!(written == markdown(), "docs/reference/crd.md is stale: make docs");
    }
}
