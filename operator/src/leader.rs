//! Leader election by a Lease: one of several operators leads, and ends when it can't be sure any more that it does.
//!
//! The Lease is a courtesy, not the fence: what keeps a paused operator from acting is the epoch that the brokers give out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a lease holds without being renewed.
const HOLDS: Duration = Duration::from_secs(15);
/// How often it is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How often one that another holds is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A Lease, and who wants it.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    holder: String,
}

/// What the Lease's holder was when it was seen first: only this machine's clock counts, since others' may differ.
struct Seen {
    renewed: Option<MicroTime>,
    at: Instant,
}

impl Candidate {
    /// For the Lease `name`. `holder`: a name that no other process has.
    pub fn new(client: Client, namespace: &str, name: &str, holder: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), holder: holder.to_owned() }
    }

    /// Resolves when this process holds the Lease.
    pub async fn win(&self) {
        let mut seen: Option<Seen> = None;
        loop {
            match self.take(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(why) => tracing::warn!(lease = self.name, %why, "the lease can't be taken; it is tried again"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the Lease; resolves when it is lost, with the reason. `recheck`: rung when somebody says that it is lost.
    pub async fn keep(&self, recheck: Arc<Notify>) -> String {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEW_EVERY) => {}
                () = recheck.notified() => tracing::warn!("a broker was written to by another operator; the lease is looked at"),
            }
            match self.renew().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return format!("the lease {} has another holder", self.name),
                Err(why) => tracing::warn!(lease = self.name, %why, "the lease can't be renewed"),
            }
            if renewed.elapsed() + RENEW_EVERY > HOLDS {
                return format!("the lease {} could not be renewed in time", self.name);
            }
        }
    }

    /// Gives it up, so that another need not wait.
    pub async fn give_up(&self) {
        let given = async {
            let Some(mut lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if self.holds(&lease) {
                lease.spec.get_or_insert_default().holder_identity = None;
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Err(why) = given.await {
            tracing::debug!(%why, "the lease was not given up; it runs out");
        }
    }

    fn holds(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.holder)
    }

    async fn take(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let fresh = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            return won(self.api.create(&PostParams::default(), &fresh).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let held = spec.holder_identity.as_ref().is_some_and(|holder| !holder.is_empty()) && !self.holds(&lease);
        if held {
            let same = seen.as_ref().filter(|seen| seen.renewed == spec.renew_time);
            match same {
                Some(seen) if seen.at.elapsed() > HOLDS => {}
                Some(_) => return Ok(false),
                None => {
                    *seen = Some(Seen { renewed: spec.renew_time.clone(), at: Instant::now() });
                    return Ok(false);
                }
            }
        }
        let taken = Lease { spec: Some(self.spec(Some(&spec))), ..lease };
        won(self.api.replace(&self.name, &PostParams::default(), &taken).await)
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else { return self.take(&mut None).await };
        if !self.holds(&lease) {
            return Ok(false);
        }
        lease.spec.get_or_insert_default().renew_time = Some(MicroTime(Timestamp::now()));
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(HOLDS.as_secs() as i32),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(before.and_then(|spec| spec.lease_transitions).unwrap_or(0) + 1),
            ..LeaseSpec::default()
        }
    }
}

/// Somebody else was quicker: that is no failure.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(why) => Err(why),
    }
}
