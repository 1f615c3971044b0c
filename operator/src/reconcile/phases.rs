//! The phases, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType};
use kube::{Resource, ResourceExt};
use serde_json::json;

use super::context::{Context, Memory};
use super::dereference::{Observed, dereference};
use super::error::Attempt;
use super::identity::{self, Identity};
use super::status::{Told, status};
use super::step::Outcome;
use super::{ReconcileError, apply, claims, orphans, racks, secrets, settings, situation, step, validate};
use crate::admin::{Answers, Credentials, Links};
use crate::build::{self, Desired, DesiredPool};
use crate::crd::{ChronikCluster, ChronikClusterStatus, RECONCILING, STALLED};
use crate::lifecycle::{self, Decision, Situation, Step};
use crate::names;

/// How often a cluster is looked at that is as it should be: watches tell what changes in Kubernetes, only brokers are
/// asked.
const SETTLED: Duration = Duration::from_secs(20);
/// How often while something is under way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// An event's note may have so many bytes; a character has up to four.
const NOTE_CHARACTERS: usize = 250;

/// Makes a cluster what its resource says, as far as one step goes.
pub async fn reconcile(cluster: Arc<ChronikCluster>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    context.stores.ready().await?;
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    if cluster.metadata.deletion_timestamp.is_some() {
        // Owner references clean up.
        context.forget(&namespace, &name);
        return Ok(Action::await_change());
    }
    let memory = context.memory(&namespace, &name);
    let mut memory = memory.lock().await;
    if memory.uid != cluster.uid().unwrap_or_default() {
        *memory = Memory { uid: cluster.uid().unwrap_or_default(), ..Memory::default() };
    }
    let action = phases(&context, cluster, &mut memory).await?;
    memory.failures = 0;
    context.metrics.reconciled();
    Ok(action)
}

/// What is done after a failure: it is told, and tried again, later each time.
pub fn failed(cluster: Arc<ChronikCluster>, why: &ReconcileError, context: Arc<Context>) -> Action {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    tracing::warn!(cluster = name, namespace, %why, "a reconciliation failed; it is tried again");
    context.metrics.failed();
    let memory = context.memory(&namespace, &name);
    let failures = memory.try_lock().map_or(1, |mut memory| {
        memory.failures = (memory.failures + 1).min(6);
        memory.failures
    });
    Action::requeue(Duration::from_millis(500 << failures))
}

async fn phases(
    context: &Context,
    cluster: Arc<ChronikCluster>,
    memory: &mut Memory,
) -> Result<Action, ReconcileError> {
    let now = Timestamp::now();
    let observed = dereference(context, cluster)?;
    let identity = match identity::identity(&observed, &context.settings.default_image) {
        Ok(identity) => identity,
        Err(problem) => {
            let decision = Decision { problems: vec![problem], ..Decision::default() };
            return tell(context, &observed, None, None, &Answers::default(), &decision, memory, now).await;
        }
    };
    let mut problems = validate::problems(&observed, &identity);
    if problems.is_empty() {
        problems = validate::unlabelled_volumes(context, &observed).await?;
    }
    if problems.is_empty() && settle_identity(context, &observed, &identity).await? {
        return Ok(Action::requeue(Duration::ZERO));
    }
    let base = desired(&observed, &identity, &Decision::default());
    if !problems.is_empty() {
        let credentials = secrets::present_credentials(&observed, &identity.cluster_id);
        let answers = ask(context, &observed, memory, credentials).await?;
        let seen = situation::situation(&observed, &identity, &answers, &BTreeMap::new(), &BTreeMap::new(), memory);
        let decision = Decision { problems, ..Decision::default() };
        return tell(context, &observed, Some(&identity), Some(&seen), &answers, &decision, memory, now).await;
    }

    let trust = secrets::trust(context, &observed, &base, now).await?;
    let answers = ask(context, &observed, memory, Some(trust.credentials.clone())).await?;
    let expandable = claims::expandable(context, &observed, memory, now).await;
    let seen =
        situation::situation(&observed, &identity, &answers, &build::template_hashes(&base), &expandable, memory);
    memory.filled.retain(|id| seen.is_to_be_filled(*id));
    let mut decision = lifecycle::decide(&seen);

    let mut desired = desired(&observed, &identity, &decision);
    let owned = settings::owned(&observed);
    desired.owned_settings = settings::noted(&desired.spec.config, &owned, seen.settings.as_ref());
    let mut objects = trust.objects;
    objects.extend(secrets::of_pools(context, &observed, &desired, &trust.authorities, now).await?);
    objects.extend(build::build(&desired));
    for object in &objects {
        decision.problems.extend(apply::apply(context, &observed, object).await?);
    }
    orphans::orphans(context, &observed, &objects).await?;
    claims::follow_policy(context, &observed, &identity.cluster_id).await?;
    if let Some(next) = decision.step.clone()
        && may_be_taken(&next, &decision)
    {
        let outcome = step::take(context, &observed, memory, &next).await?;
        note(&mut decision, outcome, &answers);
    }
    racks::annotate(context, &observed, memory).await?;
    tell(context, &observed, Some(&identity), Some(&seen), &answers, &decision, memory, now).await
}

/// Nothing is disturbed while an object is somebody else's; volumes that grow disturb nobody.
fn may_be_taken(step: &Step, decision: &Decision) -> bool {
    decision.problems.iter().all(|problem| problem.reason != "ForeignObject") || matches!(step, Step::GrowClaims { .. })
}

fn note(decision: &mut Decision, outcome: Outcome, answers: &Answers) {
    match outcome {
        Outcome::Done => {}
        Outcome::NotNow(why) => {
            if let Some(operation) = &mut decision.operation {
                operation.step = format!("{}: {why}", operation.step);
            }
        }
        Outcome::Refused(mut problem) => {
            let widest = answers.cluster.as_ref().and_then(|cluster| cluster.widest_topic.as_ref());
            if let Some(widest) = widest.filter(|_| problem.reason == step::DRAIN_REFUSED) {
                let factor = widest.replication_factor;
                problem.message = format!("{} Topic {} has {factor} replicas.", problem.message, widest.topic);
            }
            decision.problems.push(problem);
        }
    }
}

/// What is decided once is in the status before anything is made of it. The API server refuses it when the resource is not
/// the one that was read. Returns whether it was written.
async fn settle_identity(context: &Context, observed: &Observed, identity: &Identity) -> Result<bool, ReconcileError> {
    let before = observed.cluster.status.clone().unwrap_or_default();
    let settled = before.cluster_id.is_some()
        && !before.initial_voters.is_empty()
        && (before.image.is_some() || identity.image.is_none());
    if settled {
        return Ok(false);
    }
    let wanted = ChronikClusterStatus {
        cluster_id: Some(identity.cluster_id.clone()),
        image: identity.image.clone(),
        initial_voters: identity.initial_voters.clone(),
        ..before
    };
    write_status(context, observed, &wanted).await?;
    Ok(true)
}

fn desired(observed: &Observed, identity: &Identity, decision: &Decision) -> Desired {
    let spec = observed.cluster.spec.clone();
    let chosen = spec.image.clone().or_else(|| identity.image.clone());
    let pools = situation::all_pools(observed).into_iter().map(|(pool, wanted)| DesiredPool {
        replicas: decision.replicas.get(&pool.name).copied().unwrap_or(wanted),
        surplus_from: decision.surplus_from.get(&pool.name).copied(),
        fill: decision.fill.get(&pool.name).copied(),
        claim_size: observed.template_size(&pool.name).unwrap_or_else(|| pool.storage.size.clone()),
        pool,
    });
    Desired {
        pools: pools.collect(),
        name: observed.name.clone(),
        namespace: observed.namespace.clone(),
        uid: observed.uid.clone(),
        image: chosen.unwrap_or_default(),
        cluster_id: identity.cluster_id.clone(),
        initial_voters: identity::initial_voters(observed, &identity.initial_voters),
        owned_settings: BTreeSet::new(),
        max_unavailable: decision.max_unavailable,
        spec,
    }
}

/// Asks the brokers that run.
async fn ask(
    context: &Context,
    observed: &Observed,
    memory: &mut Memory,
    credentials: Option<Credentials>,
) -> Result<Answers, ReconcileError> {
    let Some(credentials) = credentials else { return Ok(Answers::default()) };
    let links = memory.links.get_or_insert_with(|| Links::new(credentials.clone(), context.settings.admin_port));
    let addresses = situation::addresses(observed);
    links.update(credentials, &addresses).map_err(|status| ReconcileError::Links(Box::new(status)))?;
    Ok(links.ask().await)
}

#[expect(clippy::too_many_arguments, reason = "it is told all that was found")]
async fn tell(
    context: &Context,
    observed: &Observed,
    identity: Option<&Identity>,
    seen: Option<&Situation>,
    answers: &Answers,
    decision: &Decision,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Action, ReconcileError> {
    let port = observed.cluster.spec.kafka_port();
    let service = names::bootstrap_service(&observed.name);
    let told = Told {
        cluster: &observed.cluster,
        identity,
        situation: seen,
        answers,
        decision,
        unavoidable: unavoidable(seen, decision, memory).await,
        bootstrap_servers: format!("{service}.{}.svc:{port}", observed.namespace),
        image_in_use: observed.cluster.spec.image.clone().or_else(|| identity.and_then(|it| it.image.clone())),
        default_image: &context.settings.default_image,
        now,
    };
    let wanted = status(&told);
    if observed.cluster.status.as_ref() != Some(&wanted) {
        write_status(context, observed, &wanted).await?;
    }
    publish(context, observed, decision).await;
    let settled = decision.operation.is_none() && wanted.conditions.first().is_some_and(|ready| ready.status == "True");
    let pause = if settled || decision.step.is_none() && !decision.problems.is_empty() { SETTLED } else { UNDER_WAY };
    Ok(Action::requeue(pause))
}

/// The partitions that the node which stops now takes along.
async fn unavoidable(seen: Option<&Situation>, decision: &Decision, memory: &mut Memory) -> Vec<String> {
    let granted = seen.and_then(|seen| seen.brokers.as_ref()).and_then(|brokers| brokers.grant);
    let stopping = decision.step.as_ref().and_then(Step::takes_down).or(granted.map(|grant| grant.node));
    match (stopping, memory.links.as_mut()) {
        (Some(node), Some(links)) => links.unavoidable(node).await,
        _ => Vec::new(),
    }
}

async fn write_status(
    context: &Context,
    observed: &Observed,
    wanted: &ChronikClusterStatus,
) -> Result<(), ReconcileError> {
    let api: Api<ChronikCluster> = Api::namespaced(context.client.clone(), &observed.namespace);
    let object = json!({
        "apiVersion": ChronikCluster::api_version(&()),
        "kind": ChronikCluster::kind(&()),
        "metadata": { "name": observed.name, "resourceVersion": observed.cluster.metadata.resource_version },
        "status": wanted,
    });
    let params = PatchParams::apply(names::MANAGER).force();
    let written = api.patch_status(&observed.name, &params, &Patch::Apply(&object)).await;
    written.map(drop).attempt(|| format!("write the status of {}", observed.name))
}

/// An event when something begins, or something new is wrong: when that is not what the status says already.
async fn publish(context: &Context, observed: &Observed, decision: &Decision) {
    let (type_, condition, reason, note) = match (decision.problems.first(), &decision.operation) {
        (Some(problem), _) => (EventType::Warning, STALLED, problem.reason, &problem.message),
        (None, Some(operation)) => (EventType::Normal, RECONCILING, operation.kind, &operation.step),
        (None, None) => return,
    };
    let before = observed.cluster.status.iter().flat_map(|status| &status.conditions);
    if before.into_iter().any(|it| it.type_ == condition && it.status == "True" && it.reason == reason) {
        return;
    }
    let note: String = note.chars().take(NOTE_CHARACTERS).collect();
    let event =
        Event { type_, action: reason.to_owned(), reason: reason.to_owned(), note: Some(note), secondary: None };
    let about: ObjectReference = observed.cluster.object_ref(&());
    // An event that is lost changes nothing.
    if let Err(why) = context.recorder.publish(&event, &about).await {
        tracing::debug!(%why, "an event was not published");
    }
}
