//! A partition's task over a real log, whose disk the test flushes: what is told before and after a write, and what
//! becomes of waiting requests when a leadership ends in the middle.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::coordinator::group::{JoinAnswer, JoinRequest};
use crate::coordinator::offsets::OffsetKey;
use crate::coordinator::records::CommittedOffset;
use crate::coordinator::shard::{CommitRequest, FetchRequest};
use crate::coordinator::{GroupCoordinator, OFFSETS_TOPIC};
use crate::kafka::testing::TestBroker;
use crate::stream::LeadershipListener;
use crate::stream::testing::{lead, registration};

const GROUP: &str = "g";

/// What must come soon.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what).await.expect("it comes soon")
}

struct Harness {
    test: TestBroker,
    partition: Arc<Partition>,
}

impl Harness {
    /// A coordinator of one partition that has loaded.
    async fn start() -> Self {
        let test = TestBroker::start();
        test.node.create(OFFSETS_TOPIC, 1);
        let partition = test.node.partitions.by_name(OFFSETS_TOPIC, 0).expect("it was created");
        let harness = Self { test, partition };
        harness.loaded().await;
        harness
    }

    fn groups(&self) -> &Arc<GroupCoordinator> {
        &self.test.broker.groups
    }

    async fn loaded(&self) {
        let asking = async {
            while self.committed().await == Err(ErrorCode::CoordinatorLoadInProgress) {
                tokio::task::yield_now().await;
            }
        };
        soon(asking).await;
    }

    /// What OffsetFetch tells.
    async fn committed(&self) -> Result<Option<i64>, ErrorCode> {
        let request = FetchRequest::Some { group: GROUP.into(), keys: vec![key()] };
        let found = self.groups().ask(GROUP, |reply| Request::FetchOffsets(request, reply)).await?;
        Ok(found[0].1.as_ref().map(|value| value.offset))
    }

    /// Asks for a commit; goes on once its records are in the log, or wait behind others.
    async fn commit(&self, offset: i64) -> JoinHandle<Result<(), ErrorCode>> {
        let groups = self.groups().clone();
        let commit = commit(offset);
        let asked = tokio::spawn(async move { groups.ask(GROUP, |reply| Request::Commit(commit, reply)).await? });
        // The answer to a request that came later: the commit was taken.
        tokio::task::yield_now().await;
        soon(self.committed()).await.expect("it is loaded");
        asked
    }

    async fn join(&self) -> JoinHandle<Result<JoinAnswer, ErrorCode>> {
        let groups = self.groups().clone();
        let asked = tokio::spawn(async move { groups.ask(GROUP, |reply| Request::Join(join(), reply)).await });
        tokio::task::yield_now().await;
        soon(self.committed()).await.expect("it is loaded");
        assert!(!asked.is_finished(), "an empty group waits for more members");
        asked
    }

    /// The next leadership of this node begins; the coordinator is told of the end of the one before.
    fn next_leadership(&self, epoch: i32) {
        lead(&self.partition, &registration(epoch, &[0], &[0]));
        self.groups().resigned(OFFSETS_TOPIC, self.partition.index());
    }
}

fn key() -> OffsetKey {
    OffsetKey { topic: "t".into(), partition: 0 }
}

fn commit(offset: i64) -> CommitRequest {
    let value = CommittedOffset {
        offset,
        leader_epoch: -1,
        metadata: "".into(),
        commit_timestamp_ms: 0,
        expire_timestamp_ms: None,
        topic_id: None,
    };
    CommitRequest {
        group: GROUP.into(),
        generation: -1,
        member_id: "".into(),
        instance_id: None,
        offsets: vec![(key(), value)],
        unknown_group_error: ErrorCode::IllegalGeneration,
    }
}

fn join() -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_mins(5),
        rebalance_timeout: Duration::from_mins(5),
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::new())],
        requires_known_id: false,
        supports_skip_assignment: false,
    }
}

#[tokio::test]
async fn a_commit_is_neither_answered_nor_visible_before_it_is_durable() {
    let harness = Harness::start().await;
    let asked = harness.commit(7).await;
    assert_eq!(harness.committed().await, Ok(None));
    assert!(!asked.is_finished());
    harness.test.node.flush();
    assert_eq!(soon(asked).await.expect("no panic"), Ok(()));
    assert_eq!(harness.committed().await, Ok(Some(7)));
}

/// A disk that hangs: clients give up and try again, but what they leave behind must not pile up.
#[tokio::test]
async fn while_too_much_waits_for_the_log_no_offset_is_taken() {
    let harness = Harness::start().await;
    let first = harness.commit(1).await;
    let groups = harness.groups().clone();
    let mut many = commit(2);
    many.offsets = vec![many.offsets.remove(0); MAX_QUEUED_RECORDS];
    let waiting = tokio::spawn(async move { groups.ask(GROUP, |reply| Request::Commit(many, reply)).await? });
    tokio::task::yield_now().await;
    soon(harness.committed()).await.expect("it is loaded");
    let refused = harness.commit(3).await;
    assert_eq!(soon(refused).await.expect("no panic"), Err(ErrorCode::CoordinatorNotAvailable));
    assert!(!first.is_finished() && !waiting.is_finished());
    harness.test.node.flush();
    assert_eq!(soon(first).await.expect("no panic"), Ok(()));
    let large = soon(waiting).await.expect("no panic");
    assert_eq!(large, Err(ErrorCode::InvalidCommitOffsetSize), "more than a batch of the log may have");
    let later = harness.commit(4).await;
    harness.test.node.flush();
    assert_eq!(soon(later).await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn leadership_lost_in_the_middle_of_a_write_is_told_and_the_next_one_goes_by_the_log() {
    let harness = Harness::start().await;
    let asked = harness.commit(7).await;
    assert_eq!(harness.partition.offsets().log_end, Offset::new(1), "the write is under way");
    harness.next_leadership(1);
    assert_eq!(soon(asked).await.expect("no panic"), Err(ErrorCode::NotCoordinator));
    assert_eq!(harness.committed().await, Err(ErrorCode::NotCoordinator), "nobody leads as far as is known");
    harness.groups().elected(&harness.partition, LeaderEpoch::new(1));
    assert_eq!(harness.committed().await, Err(ErrorCode::CoordinatorLoadInProgress));
    harness.test.node.flush();
    harness.loaded().await;
    assert_eq!(harness.committed().await, Ok(Some(7)), "what the log holds is committed, whatever was told");
}

/// The task learns of its end later than the log does: until then it must not write on the strength of what it knew.
#[tokio::test]
async fn a_former_leaderships_task_writes_nothing_in_the_next_epoch() {
    let harness = Harness::start().await;
    let first = harness.commit(1).await;
    let second = harness.commit(2).await;
    assert_eq!(harness.partition.offsets().log_end, Offset::new(1), "one append is under way, one write waits");
    lead(&harness.partition, &registration(1, &[0], &[0]));
    harness.test.node.flush();
    assert_eq!(soon(first).await.expect("no panic"), Err(ErrorCode::NotCoordinator));
    assert_eq!(soon(second).await.expect("no panic"), Err(ErrorCode::NotCoordinator));
    assert_eq!(harness.partition.offsets().log_end, Offset::new(1));
}

#[tokio::test]
async fn a_member_that_waits_for_others_learns_that_the_leadership_has_ended() {
    let harness = Harness::start().await;
    let asked = harness.join().await;
    harness.next_leadership(1);
    assert_eq!(soon(asked).await.expect("no panic"), Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn a_stop_waits_for_no_member() {
    let harness = Harness::start().await;
    let asked = harness.join().await;
    soon(harness.groups().stop()).await;
    assert_eq!(soon(asked).await.expect("no panic"), Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn members_are_released_while_writes_go_on() {
    let harness = Harness::start().await;
    let committing = harness.commit(3).await;
    let groups = harness.groups().clone();
    let waiting =
        tokio::spawn(async move { groups.ask_until_release(GROUP, |reply| Request::Join(join(), reply)).await });
    tokio::task::yield_now().await;
    soon(harness.committed()).await.expect("it is loaded");
    assert!(!waiting.is_finished());
    harness.groups().release();
    assert_eq!(soon(waiting).await.expect("no panic"), Err(ErrorCode::NotCoordinator));
    let late = harness.groups().ask_until_release(GROUP, |reply| Request::Join(join(), reply));
    assert_eq!(soon(late).await, Err(ErrorCode::NotCoordinator));
    assert!(!committing.is_finished());
    harness.test.node.flush();
    assert_eq!(soon(committing).await.expect("no panic"), Ok(()));
}
