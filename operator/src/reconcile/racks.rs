//! The rack of a node: the zone of the machine that its pod runs on, noted on the pod as soon as that is known. The broker
//! reads it from a downward-API volume.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::ReconcileError;
use super::context::{Context, Memory};
use super::dereference::Observed;
use super::error::{Attempt, has_changed};
use crate::names;

/// The label of a machine's zone.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Machines are asked about again after this time.
const ASKED_FOR: SignedDuration = SignedDuration::from_mins(10);

pub(super) async fn annotate(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
) -> Result<(), ReconcileError> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &observed.namespace);
    for pod in &observed.pods {
        let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let (Some(machine), None) = (machine, &pod.metadata.deletion_timestamp) else { continue };
        // A pod never moves: what was noted holds for its life.
        if pod.annotations().contains_key(names::RACK) {
            continue;
        }
        let Some(rack) = rack_of(context, memory, &machine).await else { continue };
        let name = pod.name_any();
        let note = json!({ "metadata": { "uid": pod.uid(), "annotations": { names::RACK: rack } } });
        let params = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&name, &params, &Patch::Merge(&note)).await {
            Err(why) if has_changed(&why) => {}
            written => drop(written.attempt(|| format!("note the rack of pod {name}"))?),
        }
    }
    Ok(())
}

/// The zone of a machine; `None` where it has none, or where the operator may not look (a Role of one namespace).
async fn rack_of(context: &Context, memory: &mut Memory, machine: &str) -> Option<String> {
    let now = Timestamp::now();
    if let Some((asked, rack)) = memory.racks.get(machine)
        && now.duration_since(*asked) < ASKED_FOR
    {
        return rack.clone();
    }
    let rack = match Api::<Node>::all(context.client.clone()).get_opt(machine).await {
        Ok(found) => found.and_then(|node| node.labels().get(ZONE).cloned()),
        Err(why) => {
            tracing::debug!(%why, machine, "the zone of a machine is not known");
            None
        }
    };
    memory.racks.insert(machine.to_owned(), (now, rack.clone()));
    rack
}
