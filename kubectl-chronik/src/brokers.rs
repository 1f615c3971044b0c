//! `nodes`, `drain`, `logs`: what the brokers say. Questions are asked inside of a pod, whose certificate opens the admin
//! service.

use serde_json::Value;

use crate::kubectl::{Kubectl, selector};

/// The pods of a cluster: name, node id where the resource tells it, whether it is ready. Those that are ready come first.
pub(crate) fn pods(kubectl: &Kubectl, cluster: &str) -> Result<Vec<(String, Option<i64>, bool)>, String> {
    let resource = kubectl.cluster(cluster)?;
    let list = kubectl.json(&["get", "pods", "-l", &selector(cluster)])?;
    let pods = sorted(&resource, &list);
    if pods.is_empty() {
        return Err(format!("the cluster {cluster} has no pods"));
    }
    Ok(pods)
}

fn sorted(resource: &Value, list: &Value) -> Vec<(String, Option<i64>, bool)> {
    let nodes = resource["status"]["nodes"].as_array();
    let id = |name: &str| nodes?.iter().find(|node| node["pod"] == name)?["nodeId"].as_i64();
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"))
    };
    let items = list["items"].as_array().into_iter().flatten();
    let mut pods: Vec<_> = items
        .filter_map(|pod| {
            let name = pod["metadata"]["name"].as_str()?;
            Some((name.to_owned(), id(name), is_ready(pod)))
        })
        .collect();
    pods.sort_by_key(|(name, id, ready)| (!ready, id.unwrap_or(i64::MAX), name.clone()));
    pods
}

/// Runs `chronik` with these arguments in a pod that is ready.
pub(crate) fn ask(kubectl: &Kubectl, cluster: &str, arguments: &[&str]) -> Result<(), String> {
    let pods = pods(kubectl, cluster)?;
    let (pod, ..) =
        pods.iter().find(|(_, _, ready)| *ready).ok_or("no pod is ready: `kubectl chronik status` tells why")?;
    kubectl.hand_over(&[&["exec", pod, "-c", "chronik", "--", "/chronik"], arguments].concat())
}

pub(crate) fn logs(
    kubectl: &Kubectl,
    cluster: &str,
    node: Option<i32>,
    follow: bool,
    since: Option<&str>,
) -> Result<(), String> {
    let mut arguments = vec!["logs", "-c", "chronik"];
    if follow {
        arguments.push("--follow");
    }
    if let Some(since) = since {
        arguments.extend(["--since", since]);
    }
    let pods = pods(kubectl, cluster)?;
    let selected = selector(cluster);
    if let Some(node) = node {
        let found = pods.iter().find(|(_, id, _)| *id == Some(i64::from(node)));
        let (pod, ..) = found.ok_or_else(|| format!("the cluster {cluster} has no pod for node {node}"))?;
        arguments.push(pod);
        return kubectl.hand_over(&arguments);
    }
    let at_once = pods.len().to_string();
    arguments.extend(["-l", &selected, "--prefix", "--max-log-requests", &at_once, "--tail", "-1"]);
    kubectl.hand_over(&arguments)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_that_are_ready_come_first_in_the_order_of_their_ids() {
        let pod = |name: &str, ready: &str| json!({ "metadata": { "name": name }, "status": { "conditions": [{ "type": "Ready", "status": ready }] } });
        let resource = json!({ "status": { "nodes": [{ "nodeId": 10, "pod": "c" }, { "nodeId": 2, "pod": "b" }] } });
        let list = json!({ "items": [pod("a", "False"), pod("c", "True"), pod("b", "True")] });
        let names: Vec<_> = sorted(&resource, &list).into_iter().map(|(name, id, _)| (name, id)).collect();
        assert_eq!(names, [("b".to_owned(), Some(2)), ("c".to_owned(), Some(10)), ("a".to_owned(), None)]);
    }
}
