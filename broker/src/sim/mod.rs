//! The deterministic simulation: whole nodes (`node::Planes`: both planes, unchanged) in one thread, on simulated
//! machines, disks, clocks and a simulated network, under random load and faults; and a checker. A seed repeats a run.
//!
//! It is a part of this crate's tests, not a crate beside it, so that it may hold what the planes show to nobody, and
//! so that planted bugs cost a release nothing. `make sim` runs it.
//!
//! Reading order: `scenario` (what a seed decides), `machine`, `network`, `clock` (the world), `cluster` (all of it),
//! `producers`, `consumers`, `nemesis` and `voters` (faults), `stories` (faults that follow on each other), `checker` (what must
//! hold), `plants` (bugs on purpose), `trace`.

mod checker;
mod clock;
mod cluster;
mod consumers;
mod machine;
mod nemesis;
mod network;
mod plants;
mod producers;
mod scenario;
mod stories;
mod tests;
mod trace;
mod voters;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::io::rng::Rng;
use crate::io::simulated;
use crate::metadata::{self, Proposal, ProposeError};
use crate::stream::Acks;
use checker::Counts;
use cluster::Cluster;
use consumers::{consume, read_to_end};
use machine::World;
use nemesis::Nemesis;
use network::SimNetwork;
pub(crate) use plants::{Plant, planted};
use producers::Producer;
use scenario::Scenario;
use trace::{Event, Trace, note};

/// All nodes serve at the latest so long after the first start, and everything is in order again so long after the last
/// fault: a bound, and far more than it takes.
const CONVERGES_WITHIN: Duration = Duration::from_secs(90);
/// A partition without faults takes a write within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Notes of a failed run that are told.
const TAIL: usize = 300;
/// How often it is looked who leads.
const LOOK_EVERY: Duration = Duration::from_millis(50);

thread_local! {
    /// What is drawn for the simulation that runs on this thread.
    static HERE: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// How long each piece of work that blocks takes: mostly nothing, else so many µs at most.
fn pauses(rng: Rng, most_us: u64) -> Box<dyn FnMut() -> Duration> {
    Box::new(move || Duration::from_micros(if rng.below(3) > 0 { 0 } else { rng.below(most_us + 1) }))
}

/// In the simulation an answer is lost now and then, as one that comes after its time: what was asked for happens, or
/// does not.
pub(crate) async fn with_lost_answers(proposal: Proposal<'_>) -> Result<metadata::Outcome, ProposeError> {
    let patience = HERE.with_borrow(|here| {
        let rng = here.as_ref()?;
        (rng.below(4) == 0).then(|| Duration::from_micros(rng.below(50_000)))
    });
    match patience {
        None => proposal.await,
        Some(patience) => timeout(patience, proposal).await.unwrap_or(Err(ProposeError::TimedOut)),
    }
}

/// What came of a run.
struct Outcome {
    events: Vec<(Duration, Event)>,
    violation: Option<String>,
    tail: String,
    counts: Counts,
    took: Duration,
}

impl Outcome {
    fn sum(&self) -> String {
        let (took, events) = (self.took.as_secs_f64(), self.events.len());
        format!("{}, {took:.1} s simulated, {events} events", self.counts)
    }
}

/// Runs a seed.
fn run(seed: u64, plant: Option<Plant>) -> Outcome {
    run_in(seed, Scenario::of(seed), plant)
}

fn run_in(seed: u64, scenario: Scenario, plant: Option<Plant>) -> Outcome {
    plants::plant(plant);
    let here = Rng::seeded(seed ^ 0xb10c);
    simulated::set(Some(pauses(here.clone(), scenario.files_us)));
    HERE.set(Some(here));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // In which order the receivers of a watch channel are woken is drawn by the runtime.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime needs nothing but memory");
    let outcome = runtime.block_on(simulate(seed, scenario));
    drop(runtime);
    HERE.set(None);
    simulated::set(None);
    plants::plant(None);
    outcome
}

async fn simulate(seed: u64, scenario: Scenario) -> Outcome {
    let trace = Trace::begin();
    note!(trace, "{scenario:?}");
    let net = SimNetwork::new(seed ^ 0x0e77, scenario.latency, trace.clone());
    let world =
        World { seed, scenario: Arc::new(scenario), net, trace: trace.clone(), refusals: Arc::new(Mutex::default()) };
    let cluster = Cluster::new(world);
    let ended = {
        let watch = watch(&cluster);
        let story = story(&cluster);
        tokio::select! {
            biased;
            why = watch => Some(why),
            told = story => told.err(),
        }
    };
    let violation = cluster.checker.violation().or(ended);
    let counts = cluster.checker.counts();
    Outcome { events: trace.events(), violation, tail: trace.tail(TAIL), counts, took: trace.elapsed() }
}

/// Resolves when something is wrong.
async fn watch(cluster: &Cluster) -> String {
    loop {
        sleep(LOOK_EVERY).await;
        cluster.note_leaders();
        cluster.note_eligible();
        for machine in &cluster.machines {
            if machine.is_running() && machine.has_crashed() {
                machine.kill(true);
                machine.restart_in(cluster.rng.below(3_000));
            }
            machine.start_if_due();
        }
        if let Some(why) = cluster.checker.violation() {
            return why;
        }
        if let Some(why) = cluster.world.refusals.lock().first() {
            return why.clone();
        }
    }
}

/// A run from the first start to the last look.
async fn story(cluster: &Arc<Cluster>) -> Result<(), String> {
    let scenario = cluster.world.scenario.clone();
    for machine in &cluster.machines {
        machine.start();
    }
    until(CONVERGES_WITHIN, || cluster.not_converged())
        .await
        .map_err(|why| format!("the cluster does not form: {why}"))?;
    for plan in &scenario.topics {
        cluster.create(plan).await;
    }
    let stop = CancellationToken::new();
    let mut clients = tokio::task::JoinSet::new();
    for id in 0..scenario.producers {
        clients.spawn(Producer::new(cluster.clone(), id, Acks::All).run(stop.clone()));
    }
    clients.spawn(Producer::new(cluster.clone(), 1_000, Acks::Leader).run(stop.clone()));
    for _ in 0..scenario.consumers {
        clients.spawn(consume(cluster.clone(), stop.clone()));
    }
    let nemesis = Arc::new(Nemesis::new(cluster.clone()));
    nemesis.clone().run(scenario.faults_for_ms).await;
    note!(cluster.world.trace, "no more faults");
    nemesis.heal();
    sleep(Duration::from_secs(1)).await;
    stop.cancel();
    while clients.join_next().await.is_some() {}
    settle(cluster, &nemesis).await?;
    let mut last = Producer::new(cluster.clone(), 2_000, Acks::All);
    for (partition, plan) in cluster.partitions() {
        if cluster.is_offline(partition) {
            continue;
        }
        if !last.write_within(partition, WRITTEN_WITHIN).await {
            return Err(format!("{}-{} takes no write", plan.name, partition.partition));
        }
    }
    settle(cluster, &nemesis).await?;
    cluster.check_logs();
    for (partition, plan) in cluster.partitions() {
        if !cluster.is_offline(partition) {
            read_to_end(cluster, partition, &plan).await?;
        }
    }
    cluster.checker.violation().map_or(Ok(()), Err)
}

/// Waits until all is as it should be.
async fn settle(cluster: &Cluster, nemesis: &Nemesis) -> Result<(), String> {
    let give_up = Instant::now() + CONVERGES_WITHIN;
    loop {
        let undrained = nemesis.undrain().await;
        // A disturbance of before may end later than all others.
        nemesis.heal();
        match cluster.not_converged() {
            None if undrained => return Ok(()),
            why if Instant::now() > give_up => {
                return Err(format!("not converged: {}", why.unwrap_or_else(|| "a drain goes on".to_owned())));
            }
            _ => sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn until(within: Duration, mut not_yet: impl FnMut() -> Option<String>) -> Result<(), String> {
    let give_up = Instant::now() + within;
    while let Some(why) = not_yet() {
        if Instant::now() > give_up {
            return Err(why);
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
