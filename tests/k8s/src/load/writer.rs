//! Writers: one for each partition, each at its share of the rate.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{LoadArgs, Shared, client};

/// A record's life, ms: Kafka's default of `delivery.timeout.ms`. What is refused after that reaches the application.
const DELIVERY_TIMEOUT_MS: &str = "120000";
/// Records that one writer has under way at most.
const WINDOW: usize = 10_000;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Refused,
    /// Acknowledged, at this offset.
    At(i64),
    /// Acknowledged by the success of a later one: its own answer got lost or was an error, and a broker that takes the
    /// next sequence number has this one. librdkafka knows no offset then.
    Somewhere,
}

/// What one writer wrote.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) partition: i32,
    /// By number, from 0 on.
    pub(super) outcomes: Vec<Outcome>,
}

pub(super) fn spawn(args: &LoadArgs, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<Written>>, String> {
    let mut config = client(args);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", DELIVERY_TIMEOUT_MS)
        .set("linger.ms", "5");
    let producer: FutureProducer = config.create().map_err(|why| why.to_string())?;
    let every = Duration::from_secs(1) * u32::try_from(args.partitions).unwrap_or(1) / args.rate.max(1);
    let spawn = |partition| tokio::spawn(write(producer.clone(), args.clone(), partition, every, shared.clone()));
    Ok((0..args.partitions).map(spawn).collect())
}

/// The value of a number: itself, filled up to the size of a record.
fn value(number: usize, bytes: usize) -> String {
    let number = number.to_string();
    let fill = ".".repeat(bytes.saturating_sub(number.len() + 1));
    format!("{number} {fill}")
}

async fn write(
    producer: FutureProducer,
    args: LoadArgs,
    partition: i32,
    every: Duration,
    shared: Arc<Shared>,
) -> Written {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way: VecDeque<DeliveryFuture> = VecDeque::new();
    let mut written = Written { partition, outcomes: Vec::new() };
    let mut number = 0;
    let mut last = Instant::now();
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let has_room = under_way.len() < WINDOW;
        let front = async {
            match under_way.front_mut() {
                Some(oldest) => oldest.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = front => {
                under_way.pop_front();
                take(outcome, &mut written, &shared, &mut last);
            }
            _ = tick.tick(), if has_room => {
                let payload = value(number, args.bytes);
                let record = FutureRecord::<(), _>::to(&args.topic).partition(partition).payload(&payload);
                match producer.send_result(record) {
                    Ok(delivery) => under_way.push_back(delivery),
                    Err((why, _)) => {
                        // A fatal error of the producer ends this writer: nothing more can be sent.
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                        shared.error(format!("partition {partition}: {why}"));
                        break;
                    }
                }
                number += 1;
            }
        }
    }
    for delivery in under_way {
        let outcome = delivery.await;
        take(outcome, &mut written, &shared, &mut last);
    }
    written
}

impl Written {
    /// The last number that was acknowledged.
    pub(super) fn last(&self) -> Option<u64> {
        let last = self.outcomes.iter().rposition(|outcome| *outcome != Outcome::Refused)?;
        u64::try_from(last).ok()
    }
}

/// Notes what became of the oldest record.
fn take(outcome: <DeliveryFuture as Future>::Output, written: &mut Written, shared: &Shared, last: &mut Instant) {
    let refused = |why: String| {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        shared.error(format!("partition {}: {why}", written.partition));
        Outcome::Refused
    };
    let outcome = match outcome {
        Ok(Ok(delivery)) => {
            shared.acked.fetch_add(1, Ordering::Relaxed);
            let pause = u64::try_from(last.elapsed().as_millis()).unwrap_or(u64::MAX);
            shared.longest_pause_ms.fetch_max(pause, Ordering::Relaxed);
            *last = Instant::now();
            if delivery.offset < 0 { Outcome::Somewhere } else { Outcome::At(delivery.offset) }
        }
        Ok(Err((why, _))) => refused(why.to_string()),
        Err(_) => refused("the producer ended".to_owned()),
    };
    written.outcomes.push(outcome);
}
