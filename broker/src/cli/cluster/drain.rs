//! `chronik cluster drain`: begins a drain and shows how far it is.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tonic::Code;

use super::connect::{Connected, ordered};
use crate::admin::proto::{Drain, DrainNodeRequest, DrainState, WatchDrainRequest};
use crate::cli::Failure;
use crate::cli::output::Output;

/// What is quicker shows no progress.
const SHOW_AFTER: Duration = Duration::from_secs(2);
/// How long it is tried to reach another node when the one that is watched through goes away.
const RECONNECT_FOR: Duration = Duration::from_mins(1);
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The node's id
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(i32).range(0..))]
    node: i32,
    /// Begin it and return; it goes on by itself
    #[arg(long)]
    detach: bool,
}

/// A drain as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct DrainRow {
    node: i32,
    state: &'static str,
    partitions_total: u32,
    partitions_left: u32,
    partitions_moving: u32,
    bytes_left: Option<u64>,
    bytes_per_second: Option<u64>,
    blocked: Option<String>,
}

impl From<Drain> for DrainRow {
    fn from(drain: Drain) -> Self {
        let state = match drain.state() {
            DrainState::Done => "done",
            DrainState::Ended => "ended",
            DrainState::Moving | DrainState::Unspecified => "moving",
        };
        Self {
            node: drain.node,
            state,
            partitions_total: drain.partitions_total,
            partitions_left: drain.partitions_left,
            partitions_moving: drain.partitions_moving,
            bytes_left: drain.bytes_left,
            bytes_per_second: drain.bytes_per_second,
            blocked: (!drain.blocked.is_empty()).then_some(drain.blocked),
        }
    }
}

impl DrainRow {
    /// One line about it.
    pub(super) fn people(&self) -> String {
        let node = self.node;
        let mut text = match self.state {
            "done" => return format!("node {node} holds no replicas"),
            "ended" => return format!("node {node} is not being drained any more"),
            _ => format!("node {node}: {} of {} partitions left", self.partitions_left, self.partitions_total),
        };
        if let Some(bytes) = self.bytes_left {
            text.extend([", ", &bytes_text(bytes)]);
        }
        if let Some(why) = &self.blocked {
            text.extend(["; ", why]);
        }
        text
    }
}

/// Bytes as people read them.
pub(super) fn bytes_text(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

pub(super) async fn run(args: &DrainArgs, connected: &Connected, out: Output) -> Result<(), Failure> {
    let request = DrainNodeRequest { node: args.node, ..Default::default() };
    let begun = ordered(connected.client.clone().drain_node(request)).await?.drain.unwrap_or_default();
    let drain = if args.detach { begun } else { watch(connected, args.node, begun).await? };
    let ended = drain.state() == DrainState::Ended;
    out.document(&DrainRow::from(drain), |drain| drain.people() + "\n")?;
    if ended {
        return Err(Failure::Failed(format!("the drain of node {} was cancelled", args.node)));
    }
    Ok(())
}

/// Follows a drain to its end, through another node when the one that told of it is gone.
async fn watch(connected: &Connected, node: i32, mut drain: Drain) -> Result<Drain, Failure> {
    let bar = Bar::new();
    let mut client = connected.client.clone();
    let mut heard = Instant::now();
    while drain.state() == DrainState::Moving {
        let watched = async {
            let mut progress = client.watch_drain(WatchDrainRequest { node }).await?.into_inner();
            while let Some(next) = progress.message().await? {
                drain = next;
                heard = Instant::now();
                bar.show(&drain);
            }
            Ok::<(), tonic::Status>(())
        };
        match watched.await {
            Ok(()) => {}
            Err(status) if status.code() == Code::NotFound => {
                return Ok(Drain { node, state: DrainState::Ended.into(), ..Default::default() });
            }
            Err(status) if heard.elapsed() > RECONNECT_FOR => return Err(status.into()),
            Err(_) => {
                tokio::time::sleep(RECONNECT_PAUSE).await;
                if let Ok(other) = connected.anew().await {
                    client = other.client;
                }
            }
        }
    }
    Ok(drain)
}

/// Shows itself after two seconds when standard error is a terminal.
struct Bar {
    started: Instant,
    bar: ProgressBar,
}

impl Bar {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} partitions{msg}, {eta} left")
            .expect("the template is valid, because it is a constant");
        Self { started: Instant::now(), bar: ProgressBar::hidden().with_style(style) }
    }

    fn show(&self, drain: &Drain) {
        if self.started.elapsed() > SHOW_AFTER && self.bar.is_hidden() && std::io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(u64::from(drain.partitions_total));
        self.bar.set_position(u64::from(drain.partitions_total - drain.partitions_left));
        self.bar.set_message(message(drain));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What the bar tells beside the partitions.
fn message(drain: &Drain) -> String {
    let left = drain.bytes_left.map(|bytes| format!(", {} to send", bytes_text(bytes)));
    let rate = drain.bytes_per_second.map(|rate| format!(" at {}/s", bytes_text(rate)));
    let blocked = (!drain.blocked.is_empty()).then(|| format!(" ({})", drain.blocked));
    [left, rate, blocked].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moving() -> Drain {
        Drain {
            node: 3,
            state: DrainState::Moving.into(),
            partitions_total: 10,
            partitions_left: 4,
            bytes_left: Some(3 << 20),
            bytes_per_second: Some(1 << 20),
            ..Default::default()
        }
    }

    #[test]
    fn a_drain_in_words() {
        assert_eq!(DrainRow::from(moving()).people(), "node 3: 4 of 10 partitions left, 3.00 MiB");
        assert_eq!(message(&moving()), ", 3.00 MiB to send at 1.00 MiB/s");
        let blocked = Drain { bytes_left: None, bytes_per_second: None, blocked: "no leader".to_owned(), ..moving() };
        assert_eq!(DrainRow::from(blocked.clone()).people(), "node 3: 4 of 10 partitions left; no leader");
        assert_eq!(message(&blocked), " (no leader)");
        let done = Drain { state: DrainState::Done.into(), ..moving() };
        assert_eq!(DrainRow::from(done).people(), "node 3 holds no replicas");
    }
}
