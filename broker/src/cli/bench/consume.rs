//! `chronik bench consume`.

use std::time::Instant;

use bytes::Bytes;
use clap::Args;
use serde::Serialize;

use super::super::progress::Progress;
use super::super::{Failure, Shared};
use super::rate;
use crate::client::consumer::{Consumer, Place, Polled, Start, offsets_at};

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchConsumeArgs {
    /// The topic
    topic: String,
    /// End after so many records (default: at the end)
    #[arg(long, value_name = "N")]
    records: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
}

pub(super) async fn run(args: BenchConsumeArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let topic = client.topic(&args.topic).await?;
    let places: Vec<Place> = topic.partitions.iter().map(|p| (args.topic.clone(), p.index)).collect();
    let ends = offsets_at(&client, &places, Start::Latest).await?;
    let starts = offsets_at(&client, &places, Start::Earliest).await?;
    let there: i64 = ends.iter().map(|(place, end)| end - starts.get(place).copied().unwrap_or(0)).sum();
    let most = args.records.unwrap_or(u64::MAX);
    let mut progress = Progress::new(Some(most.min(there.unsigned_abs())));
    let mut consumer = Consumer::new(client, Start::Earliest);
    consumer.assign(starts);
    let mut bytes = 0;
    let started = Instant::now();
    let at_end = |consumer: &Consumer| consumer.positions().iter().all(|(place, at)| ends.get(place) <= Some(at));
    while progress.done() < most && !at_end(&consumer) {
        for part in consumer.poll().await? {
            bytes += size(&part);
            part.records.iter().for_each(|_| progress.tick());
        }
    }
    let elapsed = started.elapsed();
    let report = Report {
        records: progress.done(),
        bytes,
        seconds: elapsed.as_secs_f64(),
        records_per_second: rate(progress.done(), elapsed),
        megabytes_per_second: rate(bytes, elapsed) / 1e6,
    };
    drop(progress);
    shared.open().document(&report, |report| {
        format!(
            "{} records in {:.2} s: {:.0} records/s, {:.1} MB/s\n",
            report.records, report.seconds, report.records_per_second, report.megabytes_per_second
        )
    })
}

fn size(part: &Polled) -> u64 {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len) as u64;
    part.records.iter().map(|record| length(&record.key) + length(&record.value)).sum()
}
