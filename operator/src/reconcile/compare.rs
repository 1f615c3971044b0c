//! Whether an object is what it should be, so that nothing is written that changes nothing.

use serde_json::Value;

use crate::quantity;

/// Whether `live` has all that `desired` says. What the API server adds (defaults, what others own) does not count; texts
/// that stand for the same quantity are the same.
pub(super) fn covers(live: &Value, desired: &Value) -> bool {
    covers_at(live, desired, false)
}

fn covers_at(live: &Value, desired: &Value, quantities: bool) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, wanted)| {
            let quantities = quantities || matches!(key.as_str(), "requests" | "limits" | "sizeLimit");
            match live.get(key) {
                Some(found) => covers_at(found, wanted, quantities),
                // The API server leaves out what is empty.
                None => is_empty(wanted),
            }
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(found, wanted)| covers_at(found, wanted, quantities))
        }
        (Value::String(found), Value::String(wanted)) if quantities => quantity::same(found, wanted),
        (found, wanted) => found == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_do_not_count_and_differences_do() {
        let live =
            json!({"spec": {"ports": [{"name": "a", "port": 1, "protocol": "TCP"}], "type": "ClusterIP", "n": 1}});
        assert!(covers(&live, &json!({"spec": {"ports": [{"name": "a", "port": 1}], "labels": {}}})));
        assert!(!covers(&live, &json!({"spec": {"ports": [{"name": "a", "port": 2}]}})));
        assert!(!covers(&live, &json!({"spec": {"ports": []}})), "a list is as it is");
        assert!(!covers(&live, &json!({"spec": {"more": 1}})));
    }

    #[test]
    fn quantities_are_what_they_stand_for() {
        let live = json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "name": "1000m"});
        assert!(covers(&live, &json!({"requests": {"cpu": "0.5", "memory": "1024Mi"}})));
        assert!(!covers(&live, &json!({"requests": {"cpu": "0.6"}})));
        assert!(!covers(&live, &json!({"name": "1"})), "only where quantities stand");
    }
}
