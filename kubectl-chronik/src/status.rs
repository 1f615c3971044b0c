//! `status`: a resource's status as people read it.

use serde_json::Value;

use crate::kubectl::Kubectl;

pub(crate) fn show(kubectl: &Kubectl, cluster: Option<&str>) -> Result<(), String> {
    let Some(name) = cluster else { return kubectl.hand_over(&["get", "chronikclusters.chronik.io"]) };
    print!("{}", text(&kubectl.cluster(name)?));
    Ok(())
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn text(resource: &Value) -> String {
    let status = &resource["status"];
    let (namespace, name) = (word(&resource["metadata"]["namespace"]), word(&resource["metadata"]["name"]));
    let mut lines =
        vec![format!("{namespace}/{name}  {} ready  version {}", word(&status["ready"]), word(&status["version"]))];
    if status["observedGeneration"] != resource["metadata"]["generation"] {
        lines.push("The operator has not seen the newest spec yet: is it running?".to_owned());
    }
    let mut told = |name: &str, value: String| lines.push(format!("  {name:<12} {value}"));
    told("bootstrap", word(&status["bootstrapServers"]));
    told("cluster id", word(&status["clusterId"]));
    let metadata = &status["metadata"];
    let voters: Vec<String> = metadata["voters"].as_array().into_iter().flatten().map(word).collect();
    told(
        "metadata",
        format!("leader {}, term {}, voters {}", word(&metadata["leader"]), word(&metadata["term"]), voters.join(",")),
    );
    let operation = &status["operation"];
    if !operation.is_null() {
        let progress = operation["progress"].as_str().map(|progress| format!(" ({progress})")).unwrap_or_default();
        told("operation", format!("{}: {}{progress}", word(&operation["kind"]), word(&operation["step"])));
        let unavoidable: Vec<String> = operation["unavoidable"].as_array().into_iter().flatten().map(word).collect();
        if !unavoidable.is_empty() {
            told("unavoidable", unavoidable.join(", "));
        }
    }
    if !status["upgradeAvailable"].is_null() {
        told("upgrade", format!("{} is newer: set spec.image to it", word(&status["upgradeAvailable"])));
    }
    for condition in status["conditions"].as_array().into_iter().flatten() {
        told(&word(&condition["type"]), format!("{:<8} {}", word(&condition["status"]), word(&condition["message"])));
    }
    lines.push(format!(
        "\n{:<6} {:<24} {:<6} {:<6} {:<10} {:<8} OUT OF SYNC",
        "NODE", "POD", "READY", "VOTER", "VERSION", "LEADERS"
    ));
    for node in status["nodes"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{:<6} {:<24} {:<6} {:<6} {:<10} {:<8} {}",
            word(&node["nodeId"]),
            word(&node["pod"]),
            word(&node["ready"]),
            word(&node["voter"]),
            word(&node["version"]),
            word(&node["leaders"]),
            word(&node["underReplicated"]),
        ));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_tells_what_is_under_way_and_what_needs_attention() {
        let shown = text(&json!({
            "metadata": { "name": "events", "namespace": "kafka", "generation": 3 },
            "status": {
                "observedGeneration": 2,
                "ready": "2/3",
                "version": "0.1.0",
                "bootstrapServers": "events-bootstrap.kafka.svc:9092",
                "metadata": { "leader": 1, "term": 4, "voters": [0, 1, 2] },
                "operation": { "kind": "Roll", "step": "waits until node 2 is back", "progress": "1/3", "unavoidable": ["single-0"] },
                "conditions": [{ "type": "Ready", "status": "False", "message": "2 of 3 nodes are ready." }],
                "nodes": [{ "nodeId": 0, "pod": "events-main-0", "ready": true, "voter": true, "version": "0.1.0", "leaders": 5, "underReplicated": 0 }],
            },
        }));
        for told in [
            "kafka/events  2/3 ready",
            "has not seen the newest spec",
            "leader 1, term 4, voters 0,1,2",
            "Roll: waits until node 2 is back (1/3)",
            "single-0",
            "2 of 3 nodes are ready.",
            "events-main-0",
        ] {
            assert!(shown.contains(told), "{told} is missing:\n{shown}");
        }
    }

    #[test]
    fn a_cluster_without_a_status_is_shown_too() {
        assert!(text(&json!({ "metadata": { "name": "new", "namespace": "a" } })).contains("a/new  - ready"));
    }
}
