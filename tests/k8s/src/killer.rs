//! The operator is killed at a step of an operation: one that the seed draws, or each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::{Cluster, Operator};

/// Steps of one operation of which the seed draws one.
const DRAWN_OF: u64 = 4;
/// Between two looks at what the operator is doing.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Kills the operator while a cluster is being changed, until dropped.
#[derive(Debug)]
pub struct Killer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

/// Whether every step is meant.
fn at_every_step() -> bool {
    std::env::var_os("CHRONIK_E2E_LONG").is_some()
}

/// The seed of this run.
fn seed() -> u64 {
    std::env::var("CHRONIK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// What the operator is doing, in words that change with each step.
fn step(resource: &Value) -> Option<String> {
    let operation = &resource["status"]["operation"];
    Some(format!("{} {} {}", operation["kind"].as_str()?, operation["step"], operation["progress"]))
}

impl Killer {
    /// Begins to look at what the operator does with a cluster. `operation` makes the draw another for each.
    pub fn start(operator: &Operator, cluster: &Cluster, operation: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let salt: u64 = operation.bytes().map(u64::from).sum();
        let drawn = (seed().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(salt) >> 7) % DRAWN_OF;
        let (stopped, operator, namespace, name) =
            (stop.clone(), operator.clone(), cluster.namespace.clone(), cluster.name.clone());
        let operation = operation.to_owned();
        let thread = std::thread::spawn(move || {
            let (mut last, mut steps, mut kills) = (None, 0, 0);
            while !stopped.load(Ordering::Relaxed) {
                let now = namespace.get("chronikcluster", &name).and_then(|resource| step(&resource));
                if now.is_some() && now != last {
                    if at_every_step() || steps == drawn {
                        println!("{operation}: the operator is killed at {}", now.as_deref().unwrap_or_default());
                        operator.kill();
                        kills += 1;
                    }
                    steps += 1;
                }
                last = now;
                std::thread::sleep(LOOK_EVERY);
            }
            kills
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it; tells how often the operator was killed.
    ///
    /// # Panics
    /// When it could not be killed.
    pub fn stop(mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the operator can be killed")
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A test that fails has its own reason.
            drop(thread.join());
        }
    }
}
