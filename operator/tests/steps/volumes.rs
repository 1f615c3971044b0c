//! Instead of a volume provisioner: every claim gets a volume that nobody mounts, and one that has grown what it asks for.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::machine::Place;
use crate::fixture::pods::patched;

/// On volumes: the namespace whose claims they are for.
const VOLUMES_OF: &str = "chronik.io/steps";

/// The volumes of a namespace.
pub(super) struct Volumes {
    namespace: String,
    api: Api<PersistentVolume>,
    claims: Api<PersistentVolumeClaim>,
}

impl Volumes {
    pub(super) fn new(place: &Place) -> Self {
        Self {
            namespace: place.namespace.clone(),
            api: Api::all(place.client.clone()),
            claims: Api::namespaced(place.client.clone(), &place.namespace),
        }
    }

    /// Gives a claim what it lacks.
    pub(super) async fn provide(&self, claim: &PersistentVolumeClaim) {
        let (name, uid) = (claim.name_any(), claim.uid().expect("a claim has a UID"));
        let volume = format!("{}-{uid}", self.namespace);
        let spec = claim.spec.as_ref().expect("a claim has a spec");
        let requests = spec.resources.as_ref().and_then(|it| it.requests.as_ref());
        let wanted = &requests.expect("a claim asks for something")["storage"];
        let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
        if spec.volume_name.is_none() {
            let made = serde_json::from_value(json!({
                "metadata": { "name": volume, "labels": { VOLUMES_OF: self.namespace } },
                "spec": {
                    "capacity": { "storage": wanted }, "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain", "storageClassName": spec.storage_class_name,
                    "claimRef": {
                        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": uid,
                        "namespace": self.namespace, "name": name,
                    },
                    "hostPath": { "path": format!("/nowhere/{uid}") },
                },
            }));
            patched(self.api.create(&PostParams::default(), &made.expect("a volume")).await);
        } else if capacity.is_some_and(|capacity| capacity != wanted) {
            let params = PatchParams::default();
            let size = json!({ "spec": { "capacity": { "storage": wanted } } });
            patched(self.api.patch(&volume, &params, &Patch::Merge(&size)).await);
            let size = json!({ "metadata": { "uid": uid }, "status": { "capacity": { "storage": wanted } } });
            patched(self.claims.patch_status(&name, &params, &Patch::Merge(&size)).await);
        }
    }

    /// Deletes all of them.
    pub(super) async fn delete(&self) {
        let ours = ListParams::default().labels(&format!("{VOLUMES_OF}={}", self.namespace));
        self.api.delete_collection(&DeleteParams::default(), &ours).await.expect("volumes can be deleted");
    }
}
