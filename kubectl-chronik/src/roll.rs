//! `roll`: a note on the pods' template, which outdates every pod: the operator replaces them in its order.

use serde_json::{Value, json};

use crate::kubectl::Kubectl;

/// What kubectl itself uses to restart.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

pub(crate) fn roll(kubectl: &Kubectl, cluster: &str, pool: Option<&str>) -> Result<(), String> {
    let resource = kubectl.cluster(cluster)?;
    let patch = patch(&resource, pool, &jiff::Timestamp::now().to_string())?;
    kubectl.text(&["patch", "chronikclusters.chronik.io", cluster, "--type", "merge", "-p", &patch.to_string()])?;
    println!("{cluster} rolls; `kubectl chronik status {cluster}` tells how far it is");
    Ok(())
}

/// The pools as they are, with the note; refused by the API server when somebody has changed the resource meanwhile.
fn patch(resource: &Value, pool: Option<&str>, now: &str) -> Result<Value, String> {
    let mut pools = resource["spec"]["pools"].as_array().cloned().unwrap_or_default();
    let mut noted = 0;
    for found in &mut pools {
        if pool.is_none_or(|wanted| found["name"] == wanted) {
            found["template"]["annotations"][RESTARTED_AT] = json!(now);
            noted += 1;
        }
    }
    if noted == 0 {
        return Err(format!("there is no pool {}", pool.unwrap_or_default()));
    }
    Ok(
        json!({ "metadata": { "resourceVersion": resource["metadata"]["resourceVersion"] }, "spec": { "pools": pools } }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_made_on_the_pools_that_are_meant_and_nothing_else_changes() {
        let resource = json!({
            "metadata": { "resourceVersion": "7" },
            "spec": { "pools": [
                { "name": "a", "replicas": 3, "template": { "annotations": { "x": "y" } } },
                { "name": "b", "replicas": 1 },
            ] },
        });
        let one = patch(&resource, Some("a"), "now").unwrap();
        assert_eq!(one["metadata"]["resourceVersion"], "7");
        assert_eq!(one["spec"]["pools"][0]["template"]["annotations"], json!({ "x": "y", RESTARTED_AT: "now" }));
        assert_eq!(one["spec"]["pools"][1], resource["spec"]["pools"][1]);
        let all = patch(&resource, None, "now").unwrap();
        assert_eq!(all["spec"]["pools"][1]["template"]["annotations"][RESTARTED_AT], "now");
        assert!(patch(&resource, Some("c"), "now").unwrap_err().contains("no pool c"));
    }
}
