//! `chronik bench produce`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use clap::builder::{RangedU64ValueParser, TypedValueParser};
use parking_lot::Mutex;
use rand::RngCore;
use serde::Serialize;

use super::super::produce::{Acks, now_ms};
use super::super::progress::Progress;
use super::super::{Codec, Failure, Shared};
use super::histogram::Histogram;
use super::rate;
use crate::client::producer::{Delivery, Producer, ProducerOptions};
use crate::client::records::NewRecord;

/// Different values that records take turns with: they compress about as text does.
const VALUES: usize = 256;
/// Bytes that they take together, at most; one may be larger.
const VALUES_BYTES: usize = 32 << 20;
/// No broker with default settings takes a request of that size.
const MAX_VALUE_BYTES: u64 = 100 << 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchProduceArgs {
    /// The topic
    topic: String,
    /// How many records
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = value_bytes())]
    size: usize,
    /// Records a second (default: as many as go)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Which acknowledgement to wait for
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Bytes of one batch
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10)]
    batch_bytes: usize,
}

fn value_bytes() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::new().range(..=MAX_VALUE_BYTES)
}

#[derive(Serialize)]
struct Report {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
    latency_ms: Latency,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

pub(super) async fn run(args: BenchProduceArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let latencies = Arc::new(Mutex::new(Histogram::new()));
    let observed = latencies.clone();
    let on_delivery = Arc::new(move |delivery: &Delivery| {
        let mut latencies = observed.lock();
        for queued_at in &delivery.queued_at {
            latencies.record(queued_at.elapsed());
        }
    });
    let options =
        ProducerOptions { acks: args.acks.into(), compression: args.compression.into(), batch_bytes: args.batch_bytes };
    let producer = Producer::open(client, &args.topic, options, on_delivery).await?;
    let started = Instant::now();
    send_all(&producer, &args, started).await?;
    producer.close().await?;
    let elapsed = started.elapsed();
    let report = report(&args, elapsed, &latencies.lock());
    shared.open().document(&report, people)
}

async fn send_all(producer: &Producer, args: &BenchProduceArgs, started: Instant) -> Result<(), Failure> {
    let values = values(args.size);
    let mut progress = Progress::new(Some(args.records));
    for number in 0..args.records {
        if let Some(rate) = args.rate {
            let due = started + Duration::from_secs_f64(number as f64 / rate as f64);
            if due > Instant::now() {
                tokio::time::sleep_until(due.into()).await;
            }
        } else if number.is_multiple_of(64) {
            // The tasks that send share this thread.
            tokio::task::yield_now().await;
        }
        let value = values[number as usize % values.len()].clone();
        producer.send(NewRecord { value: Some(value), timestamp_ms: now_ms(), ..NewRecord::default() }).await?;
        progress.tick();
    }
    Ok(())
}

/// Random text of an alphabet of 16 letters.
fn values(size: usize) -> Vec<Bytes> {
    let mut random = rand::rng();
    let mut value = |_| {
        let mut bytes = vec![0; size];
        random.fill_bytes(&mut bytes);
        bytes.into_iter().map(|byte: u8| b'a' + (byte & 0x0f)).collect()
    };
    (0..(VALUES_BYTES / size.max(1)).clamp(1, VALUES)).map(&mut value).collect()
}

fn report(args: &BenchProduceArgs, elapsed: Duration, latencies: &Histogram) -> Report {
    let bytes = args.records.saturating_mul(args.size as u64);
    Report {
        records: args.records,
        bytes,
        seconds: elapsed.as_secs_f64(),
        records_per_second: rate(args.records, elapsed),
        megabytes_per_second: rate(bytes, elapsed) / 1e6,
        latency_ms: Latency {
            p50: latencies.quantile_ms(0.5),
            p95: latencies.quantile_ms(0.95),
            p99: latencies.quantile_ms(0.99),
            p999: latencies.quantile_ms(0.999),
            max: latencies.max_ms(),
        },
    }
}

fn people(report: &Report) -> String {
    let latency = &report.latency_ms;
    format!(
        "{} records in {:.2} s: {:.0} records/s, {:.1} MB/s\n\
         latency ms: p50 {:.2}, p95 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}\n",
        report.records,
        report.seconds,
        report.records_per_second,
        report.megabytes_per_second,
        latency.p50,
        latency.p95,
        latency.p99,
        latency.p999,
        latency.max
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_as_far_as_memory_allows() {
        assert_eq!(values(0).len(), VALUES);
        assert_eq!(values(256).len(), VALUES);
        for size in [1 << 20, 20 << 20] {
            let values = values(size);
            assert!(values.iter().map(Bytes::len).sum::<usize>() <= VALUES_BYTES && values[0].len() == size);
        }
        assert_eq!(values(VALUES_BYTES + 1).len(), 1, "there must be one");
    }
}
