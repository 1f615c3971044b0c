//! Which nodes are alive: a session for each, kept up by heartbeats. Pure; time is passed in.
//!
//! A node is fenced for its silence only after it was dialled in vain; at once when it is dialled and nobody listens. A
//! new controller has heard nobody yet: it starts every session afresh, and dials every node, so that one that died with
//! the controller before it is not waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ControllerOptions;
use crate::ids::{BrokerEpoch, NodeId};
use crate::metadata::heartbeat::{Heartbeat, HeartbeatReply};
use crate::metadata::image::Image;

/// What dialling a node showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    /// The process answered.
    Answered,
    /// Nobody listens there: the process is dead, or starting.
    Refused,
    /// No answer in time: the process, its machine or the network is stuck.
    Silent,
}

/// One node as the controller hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Session {
    epoch: BrokerEpoch,
    /// When it was heard last; when the session began, if never.
    heard: Duration,
    /// How it stands with dialling it.
    dial: Dial,
    /// When it last answered being dialled.
    answered: Option<Duration>,
    /// Since when it is known to be fenced: the index of that image.
    fenced_at: Option<u64>,
    /// Whether it is heard, its image has caught up, and it may be unfenced.
    returned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// It is not being dialled.
    No,
    /// To be dialled as soon as possible.
    Wanted,
    /// It is being dialled.
    Underway,
    /// The same, and something has happened since: once more afterwards.
    Again,
    /// It did not answer.
    InVain,
    /// Nobody listened there.
    Refused,
}

/// What follows for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be dialled.
    Dial(NodeId, BrokerEpoch),
    /// It is dead, or as good as dead.
    Fence(NodeId, BrokerEpoch),
    /// It is fenced, alive, and knows that it was fenced.
    Unfence(NodeId, BrokerEpoch),
}

/// The sessions of all nodes. The controller's own is alive as long as the controller is: it is never fenced, but an
/// earlier controller may have done so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    own: NodeId,
    nodes: BTreeMap<NodeId, Session>,
    /// When silence was counted last.
    counted: Duration,
}

impl Sessions {
    /// All sessions start now, and every node is dialled.
    pub fn new(own: NodeId, image: &Image, now: Duration) -> Self {
        let mut sessions = Self { own, nodes: BTreeMap::new(), counted: now };
        sessions.follow(image, now);
        for session in sessions.nodes.values_mut().filter(|session| session.fenced_at.is_none()) {
            session.dial = Dial::Wanted;
        }
        sessions
    }

    /// Takes another image: registrations begin new sessions.
    pub fn follow(&mut self, image: &Image, now: Duration) {
        self.nodes.retain(|&id, _| image.node(id).is_some());
        for node in image.nodes() {
            let begun = Session {
                epoch: node.epoch,
                heard: now,
                dial: Dial::No,
                answered: None,
                fenced_at: None,
                returned: false,
            };
            let session = self.nodes.entry(node.id).or_insert(begun);
            if session.epoch != node.epoch {
                *session = begun;
            }
            if node.fenced {
                session.fenced_at.get_or_insert(image.index());
            } else if session.fenced_at.is_some() {
                *session = begun;
            }
        }
    }

    /// Takes a heartbeat.
    pub fn heard(&mut self, heartbeat: &Heartbeat, image: &Image, now: Duration) -> HeartbeatReply {
        let Heartbeat { node: id, directory, epoch, applied } = *heartbeat;
        let Some(node) = image.node(id).filter(|node| node.epoch >= epoch) else {
            // A registration that this image does not show yet, unless it should.
            let newer = u64::try_from(epoch.get()).is_ok_and(|registered_at| registered_at > image.index());
            return if newer { HeartbeatReply::Alive { fenced: false } } else { HeartbeatReply::Superseded };
        };
        if node.epoch != epoch || node.directory != directory {
            return HeartbeatReply::Superseded;
        }
        if let Some(session) = self.nodes.get_mut(&id).filter(|session| session.epoch == epoch) {
            session.heard = now;
            if matches!(session.dial, Dial::InVain | Dial::Refused) {
                session.dial = Dial::No;
            }
            // It must know that it was fenced before it can lead again. One that is stopping stays away.
            session.returned = !node.stopping && session.fenced_at.is_some_and(|index| applied >= index);
        }
        HeartbeatReply::Alive { fenced: node.fenced }
    }

    /// A connection of the node closed.
    pub fn lost(&mut self, node: NodeId) {
        if let Some(session) = self.nodes.get_mut(&node) {
            session.dial = match session.dial {
                Dial::Underway | Dial::Again => Dial::Again,
                Dial::No | Dial::Wanted | Dial::InVain => Dial::Wanted,
                Dial::Refused => Dial::Refused,
            };
        }
    }

    /// A node was dialled.
    pub fn dialled(&mut self, node: NodeId, epoch: BrokerEpoch, result: Dialled, now: Duration) {
        let Some(session) = self.nodes.get_mut(&node).filter(|session| session.epoch == epoch) else { return };
        session.dial = match result {
            Dialled::Refused => Dial::Refused,
            _ if session.dial == Dial::Again => Dial::Wanted,
            Dialled::Answered => Dial::No,
            Dialled::Silent => Dial::InVain,
        };
        if result == Dialled::Answered {
            session.answered = Some(now);
        }
    }

    /// Counts silence, and says what follows. To be asked often: what the controller slept is not silence.
    pub fn verdicts(&mut self, options: &ControllerOptions, now: Duration) -> Vec<Verdict> {
        let slept = now.saturating_sub(self.counted + options.suspect / 2);
        self.counted = now;
        let mut verdicts = Vec::new();
        for (&id, session) in &mut self.nodes {
            session.heard = (session.heard + slept).min(now);
            if session.fenced_at.is_some() {
                if session.returned {
                    verdicts.push(Verdict::Unfence(id, session.epoch));
                }
                continue;
            }
            if id == self.own {
                continue;
            }
            let silent = now.saturating_sub(session.heard);
            if session.is_dead(options, silent, now) {
                verdicts.push(Verdict::Fence(id, session.epoch));
            } else if session.dial == Dial::Wanted || session.is_suspect(options, silent, now) {
                session.dial = Dial::Underway;
                verdicts.push(Verdict::Dial(id, session.epoch));
            }
        }
        verdicts
    }
}

impl Session {
    /// Nobody listens where it was; or it was silent too long, and dialled in vain; or silent for so long that an answer does
    /// not count any more.
    fn is_dead(&self, options: &ControllerOptions, silent: Duration, now: Duration) -> bool {
        let answers = self.answered.is_some_and(|answered| now.saturating_sub(answered) < options.session);
        let dialled_in_vain = self.dial == Dial::InVain && !answers;
        self.dial == Dial::Refused || silent >= options.silence || (silent >= options.session && dialled_in_vain)
    }

    fn is_suspect(&self, options: &ControllerOptions, silent: Duration, now: Duration) -> bool {
        let answered_of_late = self.answered.is_some_and(|answered| now.saturating_sub(answered) < options.suspect);
        silent >= options.suspect && self.dial == Dial::No && !answered_of_late
    }
}
