//! A replica as a follower: whom it obeys, and where it stands (rules 3, 4 and 5). Pure.

use std::sync::Weak;

use super::replication::{AckSink, Reject, Session};
use crate::ids::{LeaderEpoch, NodeId, Offset};

/// Who leads, by this node's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// The newest leadership that is known; `None` before the first.
    pub(super) epoch: Option<LeaderEpoch>,
    /// Whose it is; `None` for nobody's, and for this node's own.
    pub(super) leader: Option<NodeId>,
}

impl View {
    /// Whether a session is of the leadership that the image knows.
    fn check(&self, session: Session) -> Result<(), Reject> {
        match self.epoch {
            Some(epoch) if session.epoch < epoch => Err(Reject::Stale),
            Some(epoch) if session.epoch == epoch => Ok(()),
            _ => Err(Reject::NotYetKnown),
        }
    }
}

/// How far a session is.
enum Stage {
    /// Its leader has been told what is here; whom to acknowledge to.
    Greeted(Weak<dyn AckSink>),
    /// The log is being cut.
    Begun,
    /// Records come; the next one follows this offset.
    Ready(Offset),
    /// Nothing more is taken.
    Over,
}

/// The newest session of a replica.
#[derive(Default)]
pub(super) struct Follower {
    session: Option<(Session, Stage)>,
}

impl Follower {
    /// A leader opens a session.
    pub(super) fn greet(
        &mut self,
        view: View,
        from: NodeId,
        session: Session,
        acks: Weak<dyn AckSink>,
    ) -> Result<(), Reject> {
        view.check(session)?;
        if view.leader != Some(from) {
            return Err(Reject::NotTheLeader);
        }
        if self.session.as_ref().is_some_and(|(newest, _)| session <= *newest) {
            return Err(Reject::Stale);
        }
        self.session = Some((session, Stage::Greeted(acks)));
        Ok(())
    }

    /// The log is about to be cut as the session says: once, between its Greet and its Ready. Returns whom to
    /// acknowledge to.
    pub(super) fn begin(&mut self, view: View, session: Session) -> Result<Weak<dyn AckSink>, Reject> {
        view.check(session)?;
        match &mut self.session {
            Some((newest, stage @ Stage::Greeted(_))) if *newest == session => {
                match std::mem::replace(stage, Stage::Begun) {
                    Stage::Greeted(acks) => Ok(acks),
                    _ => unreachable!("it was just matched"),
                }
            }
            _ => Err(Reject::Stale),
        }
    }

    /// The log was cut, and ends at `position`.
    pub(super) fn ready(&mut self, session: Session, position: Offset) {
        let begun = matches!(self.session, Some((newest, Stage::Begun)) if newest == session);
        assert!(begun, "a session is ready once, after it was begun");
        self.session = Some((session, Stage::Ready(position)));
    }

    /// Where the session's next record follows.
    pub(super) fn position(&self, view: View, session: Session) -> Result<Offset, Reject> {
        view.check(session)?;
        match self.session {
            Some((newest, Stage::Ready(position))) if newest == session => Ok(position),
            _ => Err(Reject::Stale),
        }
    }

    /// A record was appended: the next one follows its end.
    pub(super) fn appended(&mut self, end: Offset) {
        let Some((_, Stage::Ready(position))) = &mut self.session else {
            unreachable!("records are appended in a session that is ready");
        };
        assert!(*position < end, "a record has an offset");
        *position = end;
    }

    /// Nothing more is taken from the session.
    pub(super) fn end(&mut self) {
        if let Some((_, stage)) = &mut self.session {
            *stage = Stage::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicPartition;
    use crate::stream::replication::Extent;

    const LEADER: NodeId = NodeId::new(1);

    struct Nobody;

    impl AckSink for Nobody {
        fn flushed(&self, _partition: TopicPartition, _session: Session, _extent: Extent) {}
        fn rejected(&self, _partition: TopicPartition, _session: Session, _why: Reject) {}
    }

    impl Follower {
        fn greeted(&mut self, view: View, from: NodeId, session: Session) -> Result<(), Reject> {
            self.greet(view, from, session, Weak::<Nobody>::new())
        }

        fn begun(&mut self, view: View, session: Session) -> Result<(), Reject> {
            self.begin(view, session).map(|_| ())
        }
    }

    fn session(epoch: i32, number: u64) -> Session {
        Session { epoch: LeaderEpoch::new(epoch), number }
    }

    fn view(epoch: i32) -> View {
        View { epoch: Some(LeaderEpoch::new(epoch)), leader: Some(LEADER) }
    }

    fn ready(at: i64) -> Follower {
        let mut follower = Follower::default();
        follower.greeted(view(5), LEADER, session(5, 1)).expect("the leader's");
        follower.begun(view(5), session(5, 1)).expect("it was greeted");
        follower.ready(session(5, 1), Offset::new(at));
        follower
    }

    #[test]
    fn rule_4_only_the_leader_by_the_image_is_obeyed_and_in_its_epoch() {
        for (view, from, epoch, expected) in [
            (view(5), 1, 5, Ok(())),
            (view(5), 2, 5, Err(Reject::NotTheLeader)),
            (view(5), 1, 4, Err(Reject::Stale)),
            (view(5), 1, 6, Err(Reject::NotYetKnown)),
            (View { epoch: None, leader: None }, 1, 0, Err(Reject::NotYetKnown)),
            (View { leader: None, ..view(5) }, 1, 5, Err(Reject::NotTheLeader)),
        ] {
            let greeted = Follower::default().greeted(view, NodeId::new(from), session(epoch, 1));
            assert_eq!(greeted, expected, "{view:?} {from} {epoch}");
        }
    }

    #[test]
    fn rule_4_a_session_ends_with_the_epoch_of_the_image() {
        let follower = ready(7);
        assert_eq!(follower.position(view(5), session(5, 1)), Ok(Offset::new(7)));
        assert_eq!(follower.position(view(6), session(5, 1)), Err(Reject::Stale));
        assert_eq!(follower.position(view(5), session(6, 1)), Err(Reject::NotYetKnown));
    }

    #[test]
    fn rule_5_only_the_newest_session_is_obeyed() {
        let mut follower = ready(7);
        for old in [session(5, 0), session(5, 1)] {
            assert_eq!(follower.greeted(view(5), LEADER, old), Err(Reject::Stale));
        }
        follower.greeted(view(5), LEADER, session(5, 2)).expect("newer");
        assert_eq!(follower.position(view(5), session(5, 1)), Err(Reject::Stale), "the older one is over");
        assert_eq!(follower.position(view(5), session(5, 2)), Err(Reject::Stale), "the newer one is not ready");
        follower.greeted(view(6), LEADER, session(6, 0)).expect("a newer leadership begins to count anew");
        assert_eq!(follower.greeted(view(6), LEADER, session(5, 9)), Err(Reject::Stale));
    }

    #[test]
    fn rule_3_a_follower_cuts_its_log_between_greet_and_ready_only() {
        let mut follower = ready(7);
        assert_eq!(follower.begun(view(5), session(5, 1)), Err(Reject::Stale), "a delayed Elected cuts nothing");
        follower.greeted(view(5), LEADER, session(5, 2)).expect("newer");
        assert_eq!(follower.begun(view(5), session(5, 1)), Err(Reject::Stale));
        assert_eq!(follower.begun(view(6), session(5, 2)), Err(Reject::Stale));
        assert_eq!(follower.begun(view(5), session(5, 2)), Ok(()));
        assert_eq!(follower.begun(view(5), session(5, 2)), Err(Reject::Stale), "once");
    }

    #[test]
    fn rule_4_after_a_refusal_nothing_more_is_taken() {
        let mut follower = ready(7);
        follower.appended(Offset::new(9));
        assert_eq!(follower.position(view(5), session(5, 1)), Ok(Offset::new(9)));
        follower.end();
        assert_eq!(follower.position(view(5), session(5, 1)), Err(Reject::Stale));
    }
}
