//! The reader beside the writers, and the one that reads everything at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::writer::{Outcome, Written};
use super::{LoadArgs, Shared, client};

/// Reading everything may take so long.
const READ_WITHIN: Duration = Duration::from_mins(2);

/// What is wrong with what the topic holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// What was lost, in words.
    pub(super) losses: Vec<String>,
}

/// The number that a record carries.
fn number(message: &BorrowedMessage<'_>) -> Option<u64> {
    let text = std::str::from_utf8(message.payload()?).ok()?;
    text.split(' ').next()?.parse().ok()
}

/// Reads as a group's only member while the writers write, and counts what comes out of order: numbers only ever rise by
/// one, but for those that are delivered again after the group has moved.
pub(super) async fn follow(args: LoadArgs, shared: Arc<Shared>) {
    let mut config = client(&args);
    config
        .set("group.id", format!("{}-follower", args.topic))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("session.timeout.ms", "10000");
    let consumer: StreamConsumer = match config.create() {
        Ok(consumer) => consumer,
        Err(why) => return shared.error(format!("reader: {why}")),
    };
    if let Err(why) = consumer.subscribe(&[&args.topic]) {
        return shared.error(format!("reader: {why}"));
    }
    let mut next: HashMap<i32, u64> = HashMap::new();
    loop {
        // Errors on the way (a broker that is away) are the client's to get over; what counts is what arrives.
        let Ok(message) = consumer.recv().await else { continue };
        let Some(number) = number(&message) else {
            shared.disordered.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let expected = next.entry(message.partition()).or_insert(0);
        if number == *expected {
            shared.read.fetch_add(1, Ordering::Relaxed);
            *expected += 1;
        } else if number > *expected {
            shared.disordered.fetch_add(1, Ordering::Relaxed);
            shared.error(format!("partition {}: {number} came for {expected}", message.partition()));
            *expected = number + 1;
        }
    }
}

/// Reads the topic from its beginning until all that was acknowledged is there, or time is up, and compares.
pub(super) async fn all(args: &LoadArgs, written: &[Written]) -> Result<Found, String> {
    let mut config = client(args);
    config.set("group.id", "chronik-load-verifier").set("enable.auto.commit", "false");
    let consumer: StreamConsumer = config.create().map_err(|why| why.to_string())?;
    let mut assignment = TopicPartitionList::new();
    for writer in written {
        let added = assignment.add_partition_offset(&args.topic, writer.partition, Offset::Beginning);
        added.map_err(|why| why.to_string())?;
    }
    consumer.assign(&assignment).map_err(|why| why.to_string())?;

    let mut read: Read = HashMap::new();
    let mut open: HashMap<i32, u64> =
        written.iter().filter_map(|writer| Some((writer.partition, writer.last()?))).collect();
    let deadline = tokio::time::Instant::now() + READ_WITHIN;
    while !open.is_empty() {
        // Errors on the way are the client's to get over; what does not come in time is lost.
        let Ok(received) = tokio::time::timeout_at(deadline, consumer.recv()).await else { break };
        let Ok(message) = received else { continue };
        let number = number(&message).ok_or_else(|| format!("offset {} is no number", message.offset()))?;
        let seen = read.entry(message.partition()).or_default().entry(number).or_insert((0, message.offset()));
        seen.0 += 1;
        if open.get(&message.partition()).is_some_and(|last| number >= *last) {
            open.remove(&message.partition());
        }
    }
    Ok(compare(written, &read))
}

/// By partition and number: how often it was read, and its first offset.
type Read = HashMap<i32, HashMap<u64, (u64, i64)>>;

/// Compares what was acknowledged with what is there.
fn compare(written: &[Written], read: &Read) -> Found {
    let mut found = Found::default();
    let nothing = HashMap::new();
    for writer in written {
        let there = read.get(&writer.partition).unwrap_or(&nothing);
        found.doubled += there.values().map(|(times, _)| times - 1).sum::<u64>();
        for (number, outcome) in (0_u64..).zip(&writer.outcomes) {
            let at = there.get(&number).map(|(_, offset)| *offset);
            let is_there = match *outcome {
                Outcome::Refused => true,
                Outcome::At(offset) => at == Some(offset),
                Outcome::Somewhere => at.is_some(),
            };
            if !is_there {
                found.lost += 1;
                found.losses.push(format!("partition {}: {number} {outcome:?} was found at {at:?}", writer.partition));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_lost_and_what_came_twice_is_doubled() {
        use Outcome::{At, Refused, Somewhere};
        let written = [Written { partition: 3, outcomes: vec![At(0), At(1), Refused, At(2), At(5), Somewhere] }];
        let read = |numbers: &[(u64, u64, i64)]| -> Read {
            HashMap::from([(3, numbers.iter().map(|(number, times, offset)| (*number, (*times, *offset))).collect())])
        };
        let found = |numbers| {
            let found = compare(&written, &read(numbers));
            assert_eq!(found.losses.len() as u64, found.lost);
            (found.lost, found.doubled)
        };
        assert_eq!(found(&[(0, 1, 0), (1, 1, 1), (3, 1, 2), (4, 1, 5), (5, 1, 6)]), (0, 0));
        // A refused record may be there all the same.
        assert_eq!(found(&[(0, 1, 0), (1, 1, 1), (2, 1, 3), (3, 1, 2), (4, 1, 5), (5, 1, 6)]), (0, 0));
        // One is missing, one is elsewhere, and the last is missing, wherever it should be.
        assert_eq!(found(&[(0, 3, 0), (3, 1, 2), (4, 1, 6)]), (3, 2));
        assert_eq!(found(&[]), (5, 0));
        assert_eq!(written[0].last(), Some(5));
        assert_eq!(Written { partition: 3, outcomes: vec![At(0), Refused] }.last(), Some(0));
    }
}
