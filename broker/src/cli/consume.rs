//! `chronik consume`: prints records, alone or as a member of a group.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::format::{self, Format};
use super::output::OutputFormat;
use super::{Failure, Shared};
use crate::client::consumer::{Consumer, Place, Polled, Start, offsets_at};
use crate::client::group::{GroupMember, HEARTBEAT_EVERY};
use crate::client::records::Record;
use crate::client::{Client, ClientError};

#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    /// The topic
    topic: String,
    /// Begin at the first record, where the group has no offset
    #[arg(long)]
    from_beginning: bool,
    /// Begin at the first record at or after this time, milliseconds since the Unix epoch
    #[arg(long, value_name = "MS", conflicts_with = "from_beginning", value_parser = clap::value_parser!(i64).range(0..))]
    from_timestamp: Option<i64>,
    /// Only this partition
    #[arg(long, value_name = "N", conflicts_with = "group", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Share the partitions with the group's other members, and remember what was printed
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// What to print of a record, then a newline: %k key, %v value, %t topic, %p partition, %o offset, %T timestamp, %h headers
    #[arg(long, value_name = "FORMAT", default_value = "%v", value_parser = format::parse)]
    format: Format,
    /// End after so many records
    #[arg(long, value_name = "N")]
    max_messages: Option<u64>,
    /// End at what was the end when it began
    #[arg(long)]
    exit_at_end: bool,
    /// End when nothing came for so many milliseconds
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
}

impl ConsumeArgs {
    /// Nothing is printed until something new comes: a new user may wait for what is there already.
    fn tell_what_is_waited_for(&self) {
        let new_only = matches!(self.start(), Start::Latest) && self.group.is_none() && !self.exit_at_end;
        if new_only && io::stderr().is_terminal() {
            eprintln!("waiting for new records (--from-beginning prints those before, too); Ctrl-C ends");
        }
    }

    fn start(&self) -> Start {
        match (self.from_beginning, self.from_timestamp) {
            (_, Some(ms)) => Start::Timestamp(ms),
            (true, None) => Start::Earliest,
            (false, None) => Start::Latest,
        }
    }
}

pub(super) async fn run(args: ConsumeArgs, shared: &Shared) -> Result<(), Failure> {
    let client = shared.connect().await?;
    // A group would wait for a topic that does not exist yet.
    client.topic(&args.topic).await?;
    let mut session = Session {
        consumer: Consumer::new(client.clone(), args.start()),
        printer: Printer::new(&args, shared.output),
        ends: ends(&client, &args).await?,
        client,
        args,
    };
    if session.ends.is_some() {
        session.consumer.give_up();
    }
    session.args.tell_what_is_waited_for();
    match session.args.group.clone() {
        None => session.consume_alone().await,
        Some(group) => session.consume_in_group(&group).await,
    }
}

/// Where each partition ends now, when that is where to stop.
async fn ends(client: &Arc<Client>, args: &ConsumeArgs) -> Result<Option<BTreeMap<Place, i64>>, Failure> {
    if !args.exit_at_end {
        return Ok(None);
    }
    Ok(Some(offsets_at(client, &places(client, args).await?, Start::Latest).await?))
}

async fn places(client: &Arc<Client>, args: &ConsumeArgs) -> Result<Vec<Place>, Failure> {
    let topic = client.topic(&args.topic).await?;
    let wanted = topic.partitions.iter().filter(|p| args.partition.is_none_or(|only| only == p.index));
    let places: Vec<Place> = wanted.map(|partition| (args.topic.clone(), partition.index)).collect();
    if let (true, Some(wanted)) = (places.is_empty(), args.partition) {
        let (name, last) = (&args.topic, topic.partitions.len().saturating_sub(1));
        return Err(Failure::Failed(format!("topic {name} has no partition {wanted}: its last is {last}")));
    }
    Ok(places)
}

/// One run of `consume`.
struct Session {
    client: Arc<Client>,
    consumer: Consumer,
    printer: Printer,
    ends: Option<BTreeMap<Place, i64>>,
    args: ConsumeArgs,
}

impl Session {
    async fn consume_alone(&mut self) -> Result<(), Failure> {
        let places = places(&self.client, &self.args).await?;
        let positions = offsets_at(&self.client, &places, self.args.start()).await?;
        self.consumer.assign(positions);
        let mut idle = Idle::new(self.args.timeout_ms);
        while !self.is_done() {
            tokio::select! {
                polled = self.consumer.poll() => self.print(&polled?, &mut idle)?,
                () = idle.over() => return Ok(()),
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
        Ok(())
    }

    async fn consume_in_group(&mut self, group: &str) -> Result<(), Failure> {
        let mut member = GroupMember::new(self.client.clone(), group, &self.args.topic);
        let outcome = self.consume_as(&mut member).await;
        // Whatever ended it, the others get the partitions at once; what was printed is remembered.
        let committed = member.commit(&self.printed()).await;
        let left = member.leave().await;
        outcome?;
        committed?;
        Ok(left?)
    }

    async fn consume_as(&mut self, member: &mut GroupMember) -> Result<(), Failure> {
        self.join(member).await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = Idle::new(self.args.timeout_ms);
        while !self.is_done() {
            tokio::select! {
                polled = self.consumer.poll() => self.print(&polled?, &mut idle)?,
                _ = heartbeat.tick() => {
                    if !member.heartbeat().await? || !member.commit(&self.printed()).await? {
                        self.join(member).await?;
                    }
                }
                () = idle.over() => return Ok(()),
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
        Ok(())
    }

    /// Joins and takes up the partitions where the group left them.
    async fn join(&mut self, member: &mut GroupMember) -> Result<(), ClientError> {
        let assignment = member.join().await?;
        let mut positions = member.committed(&assignment).await?;
        let places = assignment.iter().flat_map(|(topic, held)| held.iter().map(|index| (topic.clone(), *index)));
        let without: Vec<Place> = places.filter(|place| !positions.contains_key(place)).collect();
        positions.extend(offsets_at(&self.client, &without, self.args.start()).await?);
        self.consumer.assign(positions);
        Ok(())
    }

    /// What the group may remember: everything before it was printed.
    fn printed(&self) -> BTreeMap<Place, i64> {
        let mut positions = self.consumer.positions().clone();
        for (place, offset) in &self.printer.stopped_at {
            positions.insert(place.clone(), *offset);
        }
        positions
    }

    fn print(&mut self, polled: &[Polled], idle: &mut Idle) -> Result<(), Failure> {
        for part in polled {
            let end = self.ends.as_ref().map(|ends| ends.get(&part.place).copied().unwrap_or(0));
            self.printer.print(part, end);
            if !part.records.is_empty() {
                idle.restart();
            }
        }
        Ok(self.printer.flush()?)
    }

    fn is_done(&self) -> bool {
        let enough = self.args.max_messages.is_some_and(|most| self.printer.count >= most);
        let at_end = self.ends.as_ref().is_some_and(|ends| {
            let mut positions = self.consumer.positions().iter();
            positions.all(|(place, offset)| ends.get(place).is_none_or(|end| offset >= end))
        });
        enough || at_end
    }
}

/// Ends the wait for more.
struct Idle {
    limit: Option<Duration>,
    since: Instant,
}

impl Idle {
    fn new(limit_ms: Option<u64>) -> Self {
        Self { limit: limit_ms.map(Duration::from_millis), since: Instant::now() }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
    }

    async fn over(&self) {
        match self.limit {
            Some(limit) => tokio::time::sleep(limit.saturating_sub(self.since.elapsed())).await,
            None => std::future::pending().await,
        }
    }
}

/// Writes records to standard output.
struct Printer {
    format: Format,
    json: bool,
    most: u64,
    count: u64,
    /// First offsets that were read but not printed, because there was enough.
    stopped_at: BTreeMap<Place, i64>,
    buffer: Vec<u8>,
}

impl Printer {
    fn new(args: &ConsumeArgs, output: OutputFormat) -> Self {
        Self {
            format: args.format.clone(),
            json: output == OutputFormat::Json,
            most: args.max_messages.unwrap_or(u64::MAX),
            count: 0,
            stopped_at: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }

    fn print(&mut self, part: &Polled, end: Option<i64>) {
        for record in &part.records {
            if self.count >= self.most || end.is_some_and(|end| record.offset >= end) {
                self.stopped_at.entry(part.place.clone()).or_insert(record.offset);
                return;
            }
            self.count += 1;
            if self.json {
                write_json(&part.place, record, &mut self.buffer);
            } else {
                self.format.write(&part.place.0, part.place.1, record, &mut self.buffer);
            }
            self.buffer.push(b'\n');
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&self.buffer)?;
        self.buffer.clear();
        out.flush()
    }
}

#[derive(Serialize)]
struct Printed<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'a str, Option<String>)>,
}

/// One line of JSON; bytes that are no UTF-8 are replaced.
fn write_json(place: &Place, record: &Record, out: &mut Vec<u8>) {
    let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
    let printed = Printed {
        topic: &place.0,
        partition: place.1,
        offset: record.offset,
        timestamp: record.timestamp_ms,
        key: record.key.as_ref().map(text),
        value: record.value.as_ref().map(text),
        headers: record.headers.iter().map(|(name, value)| (name.as_str(), value.as_ref().map(text))).collect(),
    };
    serde_json::to_writer(out, &printed).expect("strings and numbers are always JSON");
}
