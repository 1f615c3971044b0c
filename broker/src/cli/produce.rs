//! `chronik produce`: the lines of standard input become records.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::sync::mpsc;

use super::output::counted;
use super::progress::Progress;
use super::{Codec, Failure, Shared};
use crate::client::producer::{Producer, ProducerOptions, RequiredAcks};
use crate::client::records::NewRecord;

/// Bytes of standard input read at a time.
const BUFFER_BYTES: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    /// The topic
    topic: String,
    /// What separates a line's key from its value (default: no keys)
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// How batches are compressed
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
    /// Which acknowledgement to wait for
    #[arg(long, value_enum, default_value_t = Acks::All)]
    acks: Acks,
}

/// Which acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Acks {
    /// None
    #[value(name = "0")]
    None,
    /// The leader's
    #[value(name = "1")]
    Leader,
    /// Every in-sync replica's; sent again after an error, stored once
    #[value(name = "all", alias = "-1")]
    All,
}

impl From<Acks> for RequiredAcks {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::None => Self::None,
            Acks::Leader => Self::Leader,
            Acks::All => Self::All,
        }
    }
}

pub(super) async fn run(args: ProduceArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    let options =
        ProducerOptions { acks: args.acks.into(), compression: args.compression.into(), ..ProducerOptions::default() };
    let producer = Producer::open(client, &args.topic, options, Arc::new(|_| ())).await?;
    let mut lines = read_lines();
    let typed = std::io::stdin().is_terminal();
    if typed && std::io::stderr().is_terminal() {
        eprintln!("each line becomes a record of {}; Ctrl-D ends", args.topic);
    }
    let mut progress = if typed { Progress::hidden() } else { Progress::new(None) };
    while let Some(chunk) = lines.recv().await {
        for line in chunk? {
            producer.send(record(line, args.key_separator.as_deref())).await?;
            progress.tick();
        }
    }
    producer.close().await?;
    let produced = Produced { topic: args.topic, records: progress.done() };
    // A progress line is cleared before anything else is printed.
    drop(progress);
    shared
        .open()
        .document(&produced, |it| format!("produced {} to topic {}\n", counted(it.records, "record"), it.topic))
}

/// What was done.
#[derive(Serialize)]
struct Produced {
    topic: String,
    records: u64,
}

/// Reads standard input on a thread of its own: such reads can't be waited for otherwise.
fn read_lines() -> mpsc::Receiver<std::io::Result<Vec<Bytes>>> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, std::io::stdin().lock());
        loop {
            let chunk = read_chunk(&mut input);
            let last = !matches!(&chunk, Ok(lines) if !lines.is_empty());
            // A receiver that is gone has failed and tells why itself.
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// Waits for a line, then takes those that are there already: a typed line is sent at once, a file in bulk.
fn read_chunk<R: Read>(input: &mut BufReader<R>) -> std::io::Result<Vec<Bytes>> {
    let mut lines = Vec::new();
    while lines.is_empty() || input.buffer().contains(&b'\n') {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        lines.push(Bytes::from(line));
    }
    Ok(lines)
}

fn record(line: Bytes, key_separator: Option<&str>) -> NewRecord {
    let (key, value) = split_key(line, key_separator);
    NewRecord { key, value: Some(value), headers: Vec::new(), timestamp_ms: now_ms() }
}

/// The key and the value of a line; a line without the separator has no key.
fn split_key(line: Bytes, separator: Option<&str>) -> (Option<Bytes>, Bytes) {
    let separator = separator.unwrap_or_default().as_bytes();
    if separator.is_empty() {
        return (None, line);
    }
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
        None => (None, line),
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_chunks_of_what_was_read_and_the_last_needs_no_newline() {
        let mut input = BufReader::with_capacity(8, &b"a\nb\nccc\n\nlast"[..]);
        let mut lines = Vec::new();
        loop {
            let chunk = read_chunk(&mut input).unwrap();
            if chunk.is_empty() {
                break;
            }
            lines.extend(chunk);
        }
        assert_eq!(lines, ["a", "b", "ccc", "", "last"]);
    }

    #[test]
    fn a_line_splits_at_its_first_separator() {
        let split = |line: &'static str, separator| split_key(Bytes::from_static(line.as_bytes()), separator);
        assert_eq!(split("k:v:w", Some(":")), (Some("k".into()), "v:w".into()));
        assert_eq!(split("k=>v", Some("=>")), (Some("k".into()), "v".into()));
        assert_eq!(split("no key", Some(":")), (None, "no key".into()));
        assert_eq!(split("k:v", None), (None, "k:v".into()));
        assert_eq!(split(":", Some(":")), (Some("".into()), "".into()));
    }
}
