//! Takes the one step that was decided. Each is safe to repeat, and fails when what it was decided on has changed.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, EvictParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tonic::{Code, Status};

use super::ReconcileError;
use super::context::{Context, Memory};
use super::dereference::Observed;
use super::error::{Attempt, has_changed};
use crate::admin::proto;
use crate::admin::{text, written};
use crate::lifecycle::{ClaimRef, PodRef, Problem, Step};
use crate::names;

/// The reason of the problem that nodes can't be spared.
pub(super) const DRAIN_REFUSED: &str = "DrainRefused";

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done.
    Done,
    /// Not now: tried again.
    NotNow(String),
    /// Not before somebody does something.
    Refused(Problem),
}

pub(super) async fn take(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    step: &Step,
) -> Result<Outcome, ReconcileError> {
    tracing::info!(cluster = observed.name, namespace = observed.namespace, ?step, "takes a step");
    context.metrics.stepped(name_of(step));
    match step {
        Step::GrowClaims { claims, size } => grow(context, observed, claims, size).await,
        Step::RecreateStatefulSet { pool } => recreate(context, observed, pool).await,
        Step::ReplaceDead(pods) => {
            for pod in pods {
                if let Outcome::NotNow(why) = evict(context, observed, pod).await? {
                    return Ok(Outcome::NotNow(why));
                }
            }
            Ok(Outcome::Done)
        }
        Step::Evict(pod) => evict(context, observed, pod).await,
        Step::DeleteClaim(claim) => delete_claim(context, observed, claim).await,
        asked => {
            let outcome = ask(context, memory, asked).await;
            if let (Step::Fill(nodes), Outcome::Done) = (asked, &outcome) {
                memory.filled.extend(nodes);
            }
            Ok(outcome)
        }
    }
}

/// A step's name, for metrics.
fn name_of(step: &Step) -> &'static str {
    match step {
        Step::GrowClaims { .. } => "grow_claims",
        Step::RecreateStatefulSet { .. } => "recreate_stateful_set",
        Step::ReplaceDead(_) => "replace_dead",
        Step::PrepareStop(_) => "prepare_stop",
        Step::TransferRaftLeadership => "transfer_raft_leadership",
        Step::Evict(_) => "evict",
        Step::DeleteClaim(_) => "delete_claim",
        Step::Drain(_) => "drain",
        Step::CancelDrain(_) => "cancel_drain",
        Step::Fill(_) => "fill",
        Step::Promote(_) => "promote",
        Step::Demote(_) => "demote",
        Step::Remove(_) => "remove",
        Step::SetConfigs { .. } => "set_configs",
        Step::SetClusterVersion(_) => "set_cluster_version",
    }
}

async fn grow(
    context: &Context,
    observed: &Observed,
    claims: &[ClaimRef],
    size: &str,
) -> Result<Outcome, ReconcileError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &observed.namespace);
    for claim in claims {
        let patch = json!({
            "metadata": { "uid": claim.uid },
            "spec": { "resources": { "requests": { "storage": size } } },
        });
        let params = PatchParams { field_manager: Some(names::MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&claim.name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => {}
            Err(why) if has_changed(&why) => return Ok(Outcome::NotNow(why.to_string())),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
                return Ok(Outcome::Refused(Problem {
                    reason: "VolumeCannotGrow",
                    message: format!(
                        "The volume claim {} can't grow to {size}: {}. Give the former size back, or add a pool with larger \
                         volumes and remove this one: it is drained first.",
                        claim.name, status.message
                    ),
                }));
            }
            Err(why) => return Err(why).attempt(|| format!("grow the claim {}", claim.name)),
        }
    }
    Ok(Outcome::Done)
}

/// Its pods stay, and belong to the StatefulSet that is made next.
async fn recreate(context: &Context, observed: &Observed, pool: &str) -> Result<Outcome, ReconcileError> {
    let Some(set) = observed.sets.get(pool) else { return Ok(Outcome::Done) };
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), &observed.namespace);
    let name = set.name_any();
    let preconditions = Preconditions { uid: set.uid(), resource_version: set.resource_version() };
    let params = DeleteParams::orphan().preconditions(preconditions);
    match api.delete(&name, &params).await {
        Err(why) if has_changed(&why) => Ok(Outcome::NotNow(why.to_string())),
        outcome => outcome.attempt(|| format!("delete the StatefulSet {name}")).map(|_| Outcome::Done),
    }
}

/// By the Eviction API, which keeps the disruption budget.
async fn evict(context: &Context, observed: &Observed, pod: &PodRef) -> Result<Outcome, ReconcileError> {
    let api: Api<Pod> = Api::namespaced(context.client.clone(), &observed.namespace);
    let preconditions = Preconditions { uid: Some(pod.uid.clone()), resource_version: pod.resource_version.clone() };
    let params = EvictParams {
        delete_options: Some(DeleteParams::default().preconditions(preconditions)),
        ..Default::default()
    };
    match api.evict(&pod.name, &params).await {
        Ok(_) => Ok(Outcome::Done),
        Err(why) if has_changed(&why) => Ok(Outcome::NotNow(format!("pod {} has changed meanwhile", pod.name))),
        Err(kube::Error::Api(status)) if status.code == 429 => {
            Ok(Outcome::NotNow(format!("the disruption budget keeps pod {} for now: {}", pod.name, status.message)))
        }
        Err(why) => Err(why).attempt(|| format!("evict the pod {}", pod.name)),
    }
}

async fn delete_claim(context: &Context, observed: &Observed, claim: &ClaimRef) -> Result<Outcome, ReconcileError> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &observed.namespace);
    let preconditions = Preconditions { uid: Some(claim.uid.clone()), resource_version: None };
    match api.delete(&claim.name, &DeleteParams::default().preconditions(preconditions)).await {
        Err(why) if has_changed(&why) => Ok(Outcome::NotNow(why.to_string())),
        outcome => outcome.attempt(|| format!("delete the claim {}", claim.name)).map(|_| Outcome::Done),
    }
}

/// What the brokers are asked to do.
async fn ask(context: &Context, memory: &mut Memory, step: &Step) -> Outcome {
    let Some(links) = memory.links.as_mut() else { return Outcome::NotNow("no node can be reached".to_owned()) };
    let outcome = match links.writer(&context.settings.holder).await {
        Ok((client, epoch)) => write(client, Some(epoch), step).await,
        Err(status) => Err(status),
    };
    if links.ended(&outcome) {
        context.succeeded.notify_one();
    }
    match outcome {
        Ok(()) => Outcome::Done,
        Err(status) => refused(step, &status),
    }
}

async fn write(
    mut client: proto::admin_client::AdminClient<tonic::transport::Channel>,
    operator_epoch: Option<u64>,
    step: &Step,
) -> Result<(), Status> {
    match *step {
        Step::SetConfigs { ref values, ref reset } => {
            let (values, reset) = (values.clone().into_iter().collect(), reset.iter().cloned().collect());
            let request = proto::SetConfigsRequest { operator_epoch, values, reset, validate_only: false };
            written(client.set_configs(request)).await.map(drop)
        }
        Step::PrepareStop(node) => {
            written(client.prepare_stop(proto::PrepareStopRequest { operator_epoch, node })).await.map(drop)
        }
        Step::TransferRaftLeadership => {
            let request = proto::TransferRaftLeadershipRequest { operator_epoch, to: None };
            written(client.transfer_raft_leadership(request)).await.map(drop)
        }
        Step::Drain(node) => {
            written(client.drain_node(proto::DrainNodeRequest { operator_epoch, node })).await.map(drop)
        }
        Step::CancelDrain(node) => {
            written(client.cancel_drain(proto::CancelDrainRequest { operator_epoch, node })).await.map(drop)
        }
        Step::Fill(ref nodes) => {
            let request = proto::FillNodesRequest { operator_epoch, nodes: nodes.clone() };
            let results = written(client.fill_nodes(request)).await?.results;
            let changed = results.iter().filter(|result| !result.error.is_empty()).count();
            if changed > 0 {
                return Err(Status::aborted(format!("{changed} of {} partitions changed meanwhile", results.len())));
            }
            Ok(())
        }
        Step::Promote(node) => {
            let request = proto::PromoteVoterRequest { operator_epoch, node, directory: None };
            written(client.promote_voter(request)).await.map(drop)
        }
        Step::Demote(node) => {
            written(client.demote_voter(proto::DemoteVoterRequest { operator_epoch, node })).await.map(drop)
        }
        Step::Remove(node) => {
            written(client.remove_node(proto::RemoveNodeRequest { operator_epoch, node })).await.map(drop)
        }
        Step::SetClusterVersion(version) => {
            let request = proto::SetClusterVersionRequest { operator_epoch, version };
            written(client.set_cluster_version(request)).await.map(drop)
        }
        Step::GrowClaims { .. }
        | Step::RecreateStatefulSet { .. }
        | Step::ReplaceDead(_)
        | Step::Evict(_)
        | Step::DeleteClaim(_) => unreachable!("these are asked of the API server"),
    }
}

fn refused(step: &Step, status: &Status) -> Outcome {
    let why = text(status);
    match (step, status.code()) {
        (Step::Drain(_), Code::FailedPrecondition) => Outcome::Refused(Problem {
            reason: DRAIN_REFUSED,
            message: format!("{why}. Until then nothing is removed; setting replicas back ends this."),
        }),
        (Step::SetConfigs { .. }, Code::InvalidArgument) => Outcome::Refused(Problem {
            reason: "ConfigRefused",
            message: format!(
                "The brokers refuse a setting of spec.config: {why}. Correct it; none of them was changed."
            ),
        }),
        _ => Outcome::NotNow(why),
    }
}
