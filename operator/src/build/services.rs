//! The Services: one in which every pod has a name, ready or not, and one that clients begin with.

use serde_json::json;

use super::{Desired, Kind, Object};
use crate::names;

pub(super) fn services(desired: &Desired) -> [Object; 2] {
    let port = |name: &str, port: i32| json!({ "name": name, "port": port, "targetPort": name, "protocol": "TCP" });
    let kafka = port(desired.spec.kafka_port_name(), desired.spec.kafka_port());
    let nodes = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": desired.metadata(&names::nodes_service(&desired.name)),
        "spec": {
            "clusterIP": "None",
            // Nodes find each other before any of them is ready.
            "publishNotReadyAddresses": true,
            "selector": names::selector(&desired.name),
            "ports": [
                kafka.clone(),
                port("wal", names::WAL_PORT),
                port("grpc", names::GRPC_PORT),
                port("http", names::HTTP_PORT),
            ],
        },
    });
    let bootstrap = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": desired.metadata(&names::bootstrap_service(&desired.name)),
        "spec": {
            "type": "ClusterIP",
            "selector": names::selector(&desired.name),
            "ports": [kafka],
        },
    });
    [Object::new(Kind::Service, nodes), Object::new(Kind::Service, bootstrap)]
}
