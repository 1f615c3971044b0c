//! The process: it waits until it leads, then runs a controller for each namespace that it watches, and ends when it no
//! longer leads. Whatever started it starts it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use kube::runtime::Controller;
use kube::runtime::controller::Config;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, ResourceExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Pages};
use crate::leader::Candidate;
use crate::metrics::Metrics;
use crate::names;
use crate::reconcile::{Context, Scope, Settings, Stores, failed, reconcile};

/// Changes that come together are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// So many clusters are looked at together.
const AT_ONCE: u16 = 8;

/// How the operator is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The namespaces whose clusters it runs; all when empty.
    pub namespaces: Vec<String>,
    /// The brokers' image for clusters that name none.
    pub default_image: String,
    /// Where its Lease is.
    pub namespace: String,
    /// Its Lease.
    pub lease: String,
    /// Its name: its pod's.
    pub holder: String,
    /// Where its pages are served.
    pub http: SocketAddr,
    /// The port of the brokers' admin service.
    pub admin_port: u16,
}

/// Runs until a signal, or until it no longer leads: that is an error.
pub async fn run(options: Options) -> Result<(), String> {
    let client = Client::try_default().await.map_err(|why| format!("reach the API server: {why}"))?;
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(false));
    let pages = Pages { metrics: metrics.clone(), ready: ready.clone() };
    let pages = http::serve(options.http, pages).map(|ended| {
        format!("serve {}: {}", options.http, ended.map_or_else(|why| why.to_string(), |()| "ended".to_owned()))
    });
    let version = client.apiserver_version().await.map_err(|why| format!("reach the API server: {why}"))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        kubernetes = version.git_version,
        namespaces = options.namespaces.join(","),
        holder = options.holder,
        "started"
    );
    ready.store(true, Ordering::Release);
    tokio::select! {
        why = pages => Err(why),
        ended = lead(&options, client, metrics) => ended,
    }
}

async fn lead(options: &Options, client: Client, metrics: Arc<Metrics>) -> Result<(), String> {
    let candidate = Candidate::new(client.clone(), &options.namespace, &options.lease, &options.holder);
    let mut signalled = std::pin::pin!(signal().fuse());
    tokio::select! {
        () = candidate.win() => {}
        () = &mut signalled => return Ok(()),
    }
    tracing::info!(lease = options.lease, "leads");
    metrics.leads(true);
    let succeeded = Arc::new(Notify::new());
    let stop = CancellationToken::new();
    let mut controllers = std::pin::pin!(controllers(options, &client, &metrics, &succeeded, &stop));
    let ended = tokio::select! {
        () = &mut controllers => Err("the controllers have ended".to_owned()),
        why = candidate.keep(succeeded.clone()) => Err(why),
        () = &mut signalled => Ok(()),
    };
    if ended.is_ok() {
        stop.cancel();
        controllers.await;
        candidate.give_up().await;
    }
    ended
}

/// A controller for each namespace, or one for all. They end when they are told, with what is under way finished.
async fn controllers(
    options: &Options,
    client: &Client,
    metrics: &Arc<Metrics>,
    succeeded: &Arc<Notify>,
    stop: &CancellationToken,
) {
    let scopes = match options.namespaces[..] {
        [] => vec![Scope::All],
        _ => options.namespaces.iter().cloned().map(Scope::Namespace).collect(),
    };
    join_all(scopes.iter().map(|scope| {
        let (stores, triggers) = Stores::watch(client, scope);
        let reporter = Reporter { controller: names::MANAGER.into(), instance: Some(options.holder.clone()) };
        let settings = Settings {
            default_image: options.default_image.clone(),
            holder: options.holder.clone(),
            admin_port: options.admin_port,
        };
        let recorder = Recorder::new(client.clone(), reporter);
        let context =
            Arc::new(Context::new(client.clone(), stores, settings, recorder, succeeded.clone(), metrics.clone()));
        let (clusters, changes) = Stores::clusters(client, scope);
        let config = Config::default().debounce(DEBOUNCE).concurrency(AT_ONCE);
        let mut controller = Controller::for_stream(changes, clusters).with_config(config);
        for trigger in triggers {
            controller = controller.reconcile_on(trigger);
        }
        controller.graceful_shutdown_on(stop.clone().cancelled_owned()).run(reconcile, failed, context).for_each(
            |done| {
                if let Ok((cluster, _)) = done {
                    tracing::trace!(cluster = cluster.name, "looked at");
                }
                std::future::ready(())
            },
        )
    }))
    .await;
}

/// Resolves at SIGTERM or Ctrl-C.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Applies the definitions of the resources to the API server.
pub async fn apply_definitions() -> Result<(), String> {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{Api, Patch, PatchParams};
    use kube::runtime::wait::{await_condition, conditions};

    let client = Client::try_default().await.map_err(|why| format!("reach the API server: {why}"))?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    for definition in crate::crd::yaml::definitions() {
        let name = definition.name_any();
        let params = PatchParams::apply(names::MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(&definition)).await;
        applied.map_err(|why| format!("apply the definition {name}: {why}"))?;
        let established = await_condition(api.clone(), &name, conditions::is_crd_established());
        match tokio::time::timeout(Duration::from_secs(30), established).await {
            Ok(Ok(_)) => println!("{name}"),
            Ok(Err(why)) => return Err(format!("wait for the definition {name}: {why}")),
            Err(_) => return Err(format!("the definition {name} was applied, and is not served after 30 s")),
        }
    }
    Ok(())
}
