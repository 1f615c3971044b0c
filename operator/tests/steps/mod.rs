//! The operator is killed at every step of every operation, with real brokers under a steady load, against a real API
//! server: at every write that it asks for, before it is made and after.
//!
//! The operator is a process, and so are the brokers; what stands in is the machine (see [`machine`]). All that the operator
//! asks of the API server and of the brokers goes through [`front`], where [`gate`] decides whether it dies of it. With
//! `CHRONIK_E2E_LONG` it dies everywhere, else at one step of each operation, drawn from `CHRONIK_SEED`.

mod front;
mod gate;
mod load;
mod machine;
mod operation;
mod operator;
mod process;
mod volumes;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use chronik_operator::crd::{ChronikCluster, DATA_SAFE, READY, RECONCILING};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::fixture::{Lab, cluster, free_address, lab, pool, reconciliations};
use gate::Plan;
use load::Load;
use machine::{Machine, Place};
use operation::Operation;
use operator::{Operator, Program, Writes, program};

/// The cluster.
const NAME: &str = "events";
/// How long an operation may take in which the operator dies all the time.
const PATIENCE: Duration = Duration::from_mins(4);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Records between two faults.
const BETWEEN: u64 = 100;
/// So many operators may find something to write before one finds nothing: what settles late (preferred leaders) is told.
const LATE: usize = 5;

/// What is walked through.
struct Walk {
    lab: Lab,
    machine: Machine,
    place: Place,
    writes: Writes,
    pages: SocketAddr,
    load: Option<Load>,
    operator: Operator,
    folder: Folder,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kubernetes and the programs of this build: tests/k8s/run"]
async fn the_operator_may_die_at_every_step_of_every_operation() {
    let Some(lab) = lab().await else { return };
    let (Some(broker), Some(load)) = (program("chronik", "CHRONIK_BIN"), program("chronik-load", "CHRONIK_LOAD_BIN"))
    else {
        panic!("chronik or chronik-load is not built: cargo build --workspace --bins")
    };
    let seed: u64 = std::env::var("CHRONIK_SEED").map_or(1, |seed| seed.parse().expect("CHRONIK_SEED is a number"));
    let everywhere = std::env::var_os("CHRONIK_E2E_LONG").is_some();
    println!("CHRONIK_SEED={seed}");
    let mut walk = Walk::start(lab, broker).await;
    for operation in Operation::ALL {
        if operation == Operation::ImageRoll {
            let control = free_address();
            walk.load = Some(Load::start(&load, &walk.place.bootstrap(), control, walk.folder.path()).await);
        }
        let name = operation.name();
        let plan = if everywhere { Plan::Every } else { gate::draw(seed, name, operation.steps()) };
        println!("{name}: the operator dies at {plan:?}");
        let begun = Instant::now();
        walk.writes.follow(plan);
        operation.perform(&walk).await;
        let (made, deaths) = walk.writes.counts();
        println!("{name}: {deaths} deaths, {made} writes in {:.1} s", begun.elapsed().as_secs_f64());
        assert!(deaths > 0 && made >= operation.steps(), "{name} has {} steps at least", operation.steps());
        walk.writes.follow(Plan::Never);
        walk.is_quiet().await;
        if let Some(load) = &walk.load {
            load.goes_on(BETWEEN).await;
        }
    }
    walk.end().await;
}

impl Walk {
    /// An operator and a machine, and no cluster yet.
    async fn start(lab: Lab, broker: PathBuf) -> Self {
        let folder = Folder(TempDir::with_prefix("chronik-steps-").expect("a temporary folder"));
        let class: StorageClass = serde_json::from_value(json!({
            "metadata": { "name": lab.namespace() }, "provisioner": "chronik.io/none",
            "volumeBindingMode": "Immediate", "allowVolumeExpansion": true,
        }))
        .expect("a class");
        Api::all(lab.client()).create(&PostParams::default(), &class).await.expect("a class can be made");
        let (writes, deaths) = Writes::new();
        let place = Place {
            client: lab.client(),
            namespace: lab.namespace().to_owned(),
            cluster: NAME.to_owned(),
            program: broker,
            folder: folder.path().to_owned(),
            admin_port: free_address().port(),
            number: (std::process::id() % 250) as u8,
        };
        let machine = Machine::start(place.clone(), 3, writes.clone());
        let pages = free_address();
        let program = Program {
            path: env!("CARGO_BIN_EXE_chronik-operator").into(),
            namespace: lab.namespace().to_owned(),
            admin_port: place.admin_port,
            pages,
            api: front::api(lab.client(), writes.clone()).await,
            folder: folder.path().to_owned(),
        };
        let operator = Operator::start(program, writes.clone(), deaths);
        Self { lab, machine, place, writes, pages, load: None, operator, folder }
    }

    /// The spec that the cluster begins with.
    async fn create(&self) {
        let mut pool = pool("main", 0);
        pool["storage"]["storageClassName"] = self.lab.namespace().into();
        let config = json!({
            "default.replication.factor": "3", "min.insync.replicas": "2", "offsets.topic.num.partitions": "4",
        });
        let more = json!({
            "pools": [pool], "config": config, "deletionPolicy": "Delete", "rebalance": "OnScale",
        });
        self.lab.api().create(&PostParams::default(), &cluster(NAME, more)).await.expect("created");
    }

    /// Changes the spec as a JSON patch does: what is at a path.
    async fn change(&self, path: &str, value: Value) {
        let patch = json!([{ "op": "add", "path": format!("/spec{path}"), "value": value }]);
        let patch: Patch<ChronikCluster> = Patch::Json(serde_json::from_value(patch).expect("a patch"));
        self.lab.api::<ChronikCluster>().patch(NAME, &PatchParams::default(), &patch).await.expect("patched");
    }

    /// Waits until something is so, and nothing has happened that nobody asked for.
    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await {
            let problems = self.writes.problems();
            let late = Instant::now() > deadline;
            if late || !problems.is_empty() {
                self.give_up(&format!("{what}: {problems:?}")).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Fails, with all that can be told.
    async fn give_up(&self, what: &str) -> ! {
        let resource = self.lab.get::<ChronikCluster>(NAME).await;
        let status = serde_json::to_string_pretty(&resource.status).expect("JSON");
        panic!("{what}\n{status}\nlogs are in {}", self.folder.path().display())
    }

    /// Waits until the newest spec is what is.
    async fn settled(&self) {
        self.until("it is settled", async || {
            let resource = self.lab.get::<ChronikCluster>(NAME).await;
            let Some(status) = &resource.status else { return false };
            let is = |kind: &str| status.conditions.iter().any(|it| it.type_ == kind && it.status == "True");
            status.observed_generation == resource.metadata.generation
                && is(READY)
                && is(DATA_SAFE)
                && !is(RECONCILING)
                && status.operation.is_none()
        })
        .await;
    }

    /// A new operator finds nothing to write.
    async fn is_quiet(&self) {
        for _ in 0..LATE {
            let ((before, _), started) = (self.writes.counts(), self.writes.started());
            self.writes.kill();
            self.until("another operator runs", async || self.writes.started() > started).await;
            self.has_looked(1).await;
            if self.writes.counts().0 == before {
                return;
            }
            self.settled().await;
        }
        self.give_up("every new operator finds something to write").await;
    }

    /// An operator that runs on finds nothing to write, either.
    async fn stays_quiet(&self) {
        for _ in 0..LATE {
            let ((before, _), looked) = (self.writes.counts(), reconciliations(self.pages).await);
            self.has_looked(looked + 2).await;
            if self.writes.counts().0 == before {
                return;
            }
        }
        self.give_up("the operator writes again and again").await;
    }

    /// Waits until the operator that runs has looked so often.
    async fn has_looked(&self, times: u64) {
        self.until("it has looked", async || reconciliations(self.pages).await >= times).await;
    }

    /// The nodes' pods, when all of them serve: their UIDs, and how often their processes were started again.
    fn serving(&self, nodes: u8) -> Option<Vec<(String, i32)>> {
        (0..nodes).map(|node| self.machine.serving(node)).collect()
    }

    /// Runs `chronik` against the cluster; what it prints.
    async fn chronik(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.place.program);
        command.args(arguments).args(["--bootstrap", &self.place.bootstrap()]);
        let done = tokio::task::spawn_blocking(move || command.output()).await.expect("it does not panic");
        let done = done.expect("chronik can be run");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("it prints text")
    }

    async fn end(mut self) {
        self.stays_quiet().await;
        let report = self.load.take().expect("the load runs").verify().await;
        println!("{} records, the longest pause {} ms", report.acked, report.longest_pause_ms);
        assert_eq!(self.writes.problems(), [""; 0]);
        let classes: Api<StorageClass> = Api::all(self.lab.client());
        classes.delete(self.lab.namespace(), &DeleteParams::default()).await.expect("deleted");
        drop(self.operator);
        self.machine.end().await;
        self.lab.end().await;
    }
}

/// Logs, settings, data. It stays where a test fails.
struct Folder(TempDir);

impl Folder {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.disable_cleanup(true);
            eprintln!("logs stay in {}", self.path().display());
        }
    }
}
