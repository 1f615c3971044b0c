//! The loop around [`RaftCore`]: takes inputs up, lets time pass, carries effects out.
//!
//! All proposals that wait when the loop comes round become one write and one sync. It blocks on files, so it runs on a
//! thread of its own ([`Drive::Thread`]); the simulation runs it as a task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft::eraftpb::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::RaftError;
use super::core::{Effects, RaftCore, SnapshotJob, SnapshotWritten, TICK};
use super::node::FatalHandler;
use super::proposals::ProposalId;
use super::transport::Transport;
use crate::ids::NodeId;
use crate::io::clock::Clock;
use crate::metadata::{Image, Outcome, ProposeError, RaftStatus};

/// Inputs taken up for one write at most.
const BATCH: usize = 4096;

/// Where the loop runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// On a thread of its own: it waits for the disk.
    Thread,
    /// As a task of the ambient runtime, everything in it: for the simulation, where no disk is waited for.
    Task,
}

/// Who waits for a proposal's outcome.
pub(super) type Answer = oneshot::Sender<Result<Outcome, ProposeError>>;

/// Who waits, and the room that the proposal takes until it is answered.
pub(super) type Waiting = (Answer, Arc<OwnedSemaphorePermit>);

/// Where inputs are sent. What may come in numbers is bounded by the room that it holds.
pub(super) type Inputs = mpsc::UnboundedSender<Input>;

pub(super) enum Input {
    /// A command of this node, for itself as the leader.
    Propose {
        number: u64,
        command: Vec<u8>,
        waiting: Waiting,
    },
    /// A command of this node that another one, the leader of `term`, is asked to take.
    Expect {
        number: u64,
        term: u64,
        waiting: Waiting,
    },
    /// Nobody waits for it any more.
    Forget {
        number: u64,
    },
    /// Another node's command; answered with its index, if this node leads in that term.
    Forwarded {
        term: u64,
        id: ProposalId,
        command: Vec<u8>,
        taken: oneshot::Sender<Option<u64>>,
        room: OwnedSemaphorePermit,
    },
    /// Tells when the image is at least as new as the cluster's is now.
    Read(oneshot::Sender<()>),
    /// A peer's message.
    Message {
        message: Message,
        room: OwnedSemaphorePermit,
    },
    Unreachable(NodeId),
    SnapshotSent {
        to: NodeId,
        delivered: bool,
    },
    Suspect(NodeId),
    Transfer(NodeId),
    /// Asks how long a node has been silent, if this one leads.
    SilentFor {
        node: NodeId,
        answer: oneshot::Sender<Option<Duration>>,
    },
    SnapshotWritten(Result<SnapshotWritten, RaftError>),
    Stop,
}

/// Who leads, as a node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Leader {
    pub(super) node: Option<NodeId>,
    pub(super) term: u64,
}

/// What the loop tells everybody.
pub(super) struct Published {
    pub(super) images: watch::Sender<Arc<Image>>,
    pub(super) leader: watch::Sender<Leader>,
    pub(super) leadership: watch::Sender<Option<u64>>,
    pub(super) status: Arc<Mutex<RaftStatus>>,
}

pub(super) struct Driver {
    pub(super) core: RaftCore<Waiting>,
    pub(super) inputs: Inputs,
    pub(super) received: mpsc::UnboundedReceiver<Input>,
    pub(super) published: Published,
    pub(super) transport: Arc<Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) fatal: FatalHandler,
    pub(super) drive: Drive,
    pub(super) reads: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Driver {
    /// Runs until it is told to stop, or can't go on.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.rounds().await {
            (self.fatal)(&error);
        }
    }

    async fn rounds(&mut self) -> Result<(), RaftError> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let first = tokio::select! {
                biased;
                input = self.received.recv() => input,
                () = tokio::time::sleep_until(next_tick) => None,
            };
            let mut next = first;
            for _ in 0..BATCH {
                let Some(input) = next else { break };
                if !self.take(input)? {
                    return Ok(());
                }
                next = self.received.try_recv().ok();
            }
            if let Some(input) = next
                && !self.take(input)?
            {
                return Ok(());
            }
            let now = Instant::now();
            let ticked = now >= next_tick;
            if ticked {
                self.core.tick();
                next_tick = now + TICK;
                self.reads.retain(|_, waiting| !waiting.is_closed());
            }
            let effects = self.core.process(self.clock.monotonic(), &mut |message| self.transport.send(message))?;
            self.carry_out(effects, ticked)?;
        }
    }

    /// Takes one input up; false when the node is to stop.
    fn take(&mut self, input: Input) -> Result<bool, RaftError> {
        let core = &mut self.core;
        match input {
            Input::Propose { number, command, waiting } => {
                let refused = core.propose(number, command, waiting, self.clock.monotonic());
                refused.unwrap_or_else(|waiting| answer(waiting, Err(ProposeError::LeaderChanged)));
            }
            Input::Expect { number, term, waiting } => {
                let refused = core.expect(number, term, waiting, self.clock.monotonic());
                refused.unwrap_or_else(|waiting| answer(waiting, Err(ProposeError::LeaderChanged)));
            }
            Input::Forget { number } => drop(core.forget(number)),
            Input::Forwarded { term, id, command, taken, room } => {
                // The one who asked may be gone.
                let _ = taken.send(core.propose_for(term, id, command));
                drop(room);
            }
            Input::Read(waiting) => drop(self.reads.insert(core.read(), waiting)),
            Input::Message { message, room } => {
                core.step(message);
                drop(room);
            }
            Input::Unreachable(node) => core.report_unreachable(node),
            Input::SnapshotSent { to, delivered } => core.report_snapshot(to, delivered),
            Input::Suspect(node) => core.suspect(node),
            Input::Transfer(to) => core.transfer_leadership(to),
            Input::SilentFor { node, answer } => drop(answer.send(core.silent_for(node))),
            Input::SnapshotWritten(written) => core.snapshot_written(written?)?,
            Input::Stop => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn carry_out(&mut self, effects: Effects<Waiting>, ticked: bool) -> Result<(), RaftError> {
        if let Some(image) = effects.image {
            self.published.images.send_replace(image);
        }
        self.tell_leader(ticked);
        for (waiting, outcome) in effects.answers {
            answer(waiting, outcome);
        }
        for number in effects.reads {
            if let Some(waiting) = self.reads.remove(&number) {
                // The reader may be gone.
                let _ = waiting.send(());
            }
        }
        effects.snapshot.map_or(Ok(()), |job| self.write_snapshot(job))
    }

    fn tell_leader(&self, ticked: bool) {
        let leader = Leader { node: self.core.leader(), term: self.core.term() };
        let changed = self.published.leader.send_if_modified(|told| std::mem::replace(told, leader) != leader);
        let leads = self.core.leads();
        self.published.leadership.send_if_modified(|told| std::mem::replace(told, leads) != leads);
        if ticked || changed {
            *self.published.status.lock() = self.core.status();
        }
    }

    fn write_snapshot(&mut self, job: SnapshotJob) -> Result<(), RaftError> {
        match self.drive {
            Drive::Task => self.core.snapshot_written(job.run()?),
            Drive::Thread => {
                let inputs = self.inputs.clone();
                tokio::task::spawn_blocking(move || {
                    // An error means that the node has stopped.
                    let _ = inputs.send(Input::SnapshotWritten(job.run()));
                });
                Ok(())
            }
        }
    }
}

fn answer((answer, _room): Waiting, outcome: Result<Outcome, ProposeError>) {
    // The proposer may be gone.
    let _ = answer.send(outcome);
}
