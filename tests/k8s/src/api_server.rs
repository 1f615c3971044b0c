//! Writes that the API server has counted.

use std::collections::BTreeMap;

use crate::kube::kubectl;

/// Verbs that write.
const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];
/// What is written by others all the time: Leases are heartbeats, reviews are questions, and machines report themselves.
const NOT_COUNTED: [&str; 4] = ["leases", "subjectaccessreviews", "tokenreviews", "nodes"];

/// The writes so far, by verb and resource.
///
/// # Panics
/// When the API server does not show its metrics.
pub fn writes() -> BTreeMap<String, u64> {
    let metrics = kubectl(&["get", "--raw", "/metrics"], "").expect("the API server's metrics");
    count(&metrics)
}

/// The writes between two counts.
pub fn between(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let grown = |(what, count): (&String, &u64)| {
        let more = count - before.get(what).unwrap_or(&0);
        (more > 0).then(|| (what.clone(), more))
    };
    after.iter().filter_map(grown).collect()
}

fn count(metrics: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
        let Some((labels, value)) = line.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            // One name ends as another: `subresource`, `resource`.
            let value =
                |pair: &'_ str| Some(pair.strip_prefix(name)?.strip_prefix("=\"")?.trim_end_matches('"').to_owned());
            labels.split(',').find_map(value)
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        if WRITES.contains(&verb.as_str()) && !NOT_COUNTED.contains(&resource.as_str()) {
            let subresource = label("subresource").unwrap_or_default();
            let value: f64 = value.trim().parse().unwrap_or(0.0);
            *counts.entry(format!("{verb} {resource}/{subresource}")).or_insert(0) += value as u64;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_and_leases_are_not() {
        let metrics = "\
# TYPE apiserver_request_total counter
apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"status\",verb=\"PATCH\",version=\"v1\"} 3
apiserver_request_total{code=\"409\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"status\",verb=\"PATCH\",version=\"v1\"} 1
apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 9
apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"coordination.k8s.io\",resource=\"leases\",scope=\"resource\",subresource=\"\",verb=\"PUT\",version=\"v1\"} 40
apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"apps\",resource=\"statefulsets\",scope=\"resource\",subresource=\"\",verb=\"APPLY\",version=\"v1\"} 2
";
        let before = count(metrics);
        assert_eq!(
            before,
            BTreeMap::from([("PATCH pods/status".to_owned(), 4), ("APPLY statefulsets/".to_owned(), 2)])
        );
        let after = BTreeMap::from([("PATCH pods/status".to_owned(), 4), ("APPLY statefulsets/".to_owned(), 5)]);
        assert_eq!(between(&before, &after), BTreeMap::from([("APPLY statefulsets/".to_owned(), 3)]));
    }
}
