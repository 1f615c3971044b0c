//! Committed offsets, their retention, and groups without members.

use super::*;

const WEEK: Duration = Duration::from_hours(7 * 24);
const JUST_IN_WEEK: Duration = Duration::from_secs(7 * 24 * 3600 - 1);

fn delete_offsets(h: &mut Harness, group: &str, topics: &[&str]) -> Result<Vec<ErrorCode>, ErrorCode> {
    let keys = topics.iter().map(|topic| OffsetKey { topic: (*topic).into(), partition: 0 }).collect();
    now(h.ask(|reply| Request::DeleteOffsets(group.into(), keys, reply)))
}

fn delete_group(h: &mut Harness, group: &str) -> ErrorCode {
    now(h.ask(|reply| Request::DeleteGroup(group.into(), reply)))
}

#[test]
fn offsets_are_visible_once_they_are_durable() {
    let mut h = Harness::new();
    let request = commit("g", -1, "", "t", 7, h.now);
    let mut answer = h.send(|reply| Request::Commit(request, reply));
    assert!(waits(&mut answer));
    assert_eq!(h.shard_fetch("g"), None, "not durable yet");
    h.flush();
    assert_eq!(now(answer), Ok(()));
    assert_eq!(h.committed("g", "t"), Some(7));
    assert_eq!(h.committed("g", "other"), None);
    assert_eq!(h.committed("none", "t"), None);
}

impl Harness {
    /// Like `committed`, without making anything durable.
    fn shard_fetch(&mut self, group: &str) -> Option<i64> {
        let keys = vec![OffsetKey { topic: "t".into(), partition: 0 }];
        let request = FetchRequest::Some { group: group.into(), keys };
        now(self.send(|reply| Request::FetchOffsets(request, reply))).remove(0).1.map(|value| value.offset)
    }
}

#[test]
fn a_commit_that_cannot_be_written_changes_nothing() {
    let mut h = Harness::new();
    assert_eq!(h.commit("g", -1, "", 1), Ok(()));
    for (failure, error) in [
        (WriteFailure::Unavailable, ErrorCode::CoordinatorNotAvailable),
        (WriteFailure::NotLeader, ErrorCode::NotCoordinator),
        (WriteFailure::TooLarge, ErrorCode::InvalidCommitOffsetSize),
        (WriteFailure::Refused, ErrorCode::UnknownServerError),
    ] {
        let request = commit("g", -1, "", "t", 2, h.now);
        let answer = h.send(|reply| Request::Commit(request, reply));
        h.fail(failure);
        assert_eq!(now(answer), Err(error));
    }
    assert_eq!(h.committed("g", "t"), Some(1));
    let request = commit("new", -1, "", "t", 2, h.now);
    let _answer = h.send(|reply| Request::Commit(request, reply));
    h.fail(WriteFailure::Unavailable);
    assert_eq!(h.state("new"), "none");
}

#[test]
fn who_may_commit() {
    let mut h = Harness::new();
    assert_eq!(h.commit("none", 1, "nobody", 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(h.commit("simple", -1, "", 1), Ok(()));
    assert_eq!(h.commit("simple", 1, "nobody", 1), Err(ErrorCode::UnknownMemberId));
    let joined = h.join("g", "");
    h.pass(Duration::from_secs(3));
    let id = now(joined).member_id;
    assert_eq!(h.commit("g", 1, &id, 1), Err(ErrorCode::RebalanceInProgress), "no assignment yet");
    now(h.sync("g", 1, &id, &[]));
    assert_eq!(h.commit("g", 1, &id, 1), Ok(()));
    assert_eq!(h.commit("g", 2, &id, 1), Err(ErrorCode::IllegalGeneration));
    assert_eq!(h.commit("g", -1, "", 1), Err(ErrorCode::UnknownMemberId), "the group has members");
    assert_eq!(h.commit("g", 1, "nobody", 1), Err(ErrorCode::UnknownMemberId));
    let _second = h.join("g", "");
    assert_eq!(h.commit("g", 1, &id, 2), Ok(()), "a rebalance begins: the last chance to commit");
}

#[test]
fn offsets_of_subscribed_topics_are_not_deleted() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    assert_eq!(h.commit("g", generation, &leader, 1), Ok(()));
    assert_eq!(delete_offsets(&mut h, "g", &["t", "u"]), Ok(vec![ErrorCode::GroupSubscribedToTopic, ErrorCode::None]));
    assert_eq!(h.committed("g", "t"), Some(1));
    h.leave("g", &[(&leader, None)]);
    assert_eq!(delete_offsets(&mut h, "g", &["t"]), Ok(vec![ErrorCode::None]));
    assert_eq!(h.committed("g", "t"), None);
    assert_eq!(delete_offsets(&mut h, "none", &["t"]), Err(ErrorCode::GroupIdNotFound));
    let mut connect = join("connect", "");
    connect.protocol_type = "connect".into();
    let _joined = h.join_with(connect);
    assert_eq!(delete_offsets(&mut h, "connect", &["t"]), Err(ErrorCode::NonEmptyGroup));
}

#[test]
fn deleting_covers_commits_that_are_still_on_their_way() {
    let mut h = Harness::new();
    let request = commit("g", -1, "", "t", 7, h.now);
    let answer = h.send(|reply| Request::Commit(request, reply));
    let deleted = h.send(|reply| Request::DeleteGroup("g".into(), reply));
    h.flush();
    assert_eq!((now(answer), now(deleted)), (Ok(()), ErrorCode::None));
    assert_eq!(h.state("g"), "none");
    h.restart();
    assert_eq!(h.committed("g", "t"), None, "the log agrees");
}

#[test]
fn only_groups_without_members_are_deleted() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    h.commit("g", generation, &leader, 1).expect("committed");
    assert_eq!(delete_group(&mut h, "g"), ErrorCode::NonEmptyGroup);
    assert_eq!(delete_group(&mut h, "none"), ErrorCode::GroupIdNotFound);
    h.leave("g", &[(&leader, None)]);
    let failing = h.send(|reply| Request::DeleteGroup("g".into(), reply));
    assert_eq!(h.commit_error("g"), ErrorCode::CoordinatorNotAvailable, "it is being deleted");
    h.fail(WriteFailure::Unavailable);
    assert_eq!(now(failing), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(h.committed("g", "t"), Some(1));
    assert_eq!(delete_group(&mut h, "g"), ErrorCode::None);
    assert_eq!(h.state("g"), "none");
    h.restart();
    assert_eq!(h.state("g"), "none");
}

impl Harness {
    fn commit_error(&mut self, group: &str) -> ErrorCode {
        let request = commit(group, -1, "", "t", 2, self.now);
        now(self.send(|reply| Request::Commit(request, reply))).expect_err("refused")
    }
}

#[test]
fn offsets_go_with_their_topic() {
    let mut h = Harness::new();
    h.commit("g", -1, "", 1).expect("committed");
    let request = commit("g", -1, "", "u", 2, h.now);
    now(h.ask(|reply| Request::Commit(request, reply))).expect("committed");
    h.shard.handle(Request::TopicsDeleted(["t".into()].into()), h.now);
    h.flush();
    assert_eq!((h.committed("g", "t"), h.committed("g", "u")), (None, Some(2)));
    h.restart();
    assert_eq!((h.committed("g", "t"), h.committed("g", "u")), (None, Some(2)));
}

#[test]
fn offsets_of_topics_that_went_while_nobody_looked_go_at_loading() {
    let mut h = Harness::new();
    h.commit("g", -1, "", 1).expect("committed");
    let mut shard = shard(&h.options, 9);
    for record in &h.log {
        shard.replay(record.clone(), h.now);
    }
    shard.loaded(h.now, |_| false);
    h.shard = shard;
    h.flush();
    assert_eq!(h.committed("g", "t"), None);
    assert_eq!(h.state("g"), "none", "nothing is left of the group");
}

#[test]
fn offsets_of_a_simple_consumer_expire_after_their_commit() {
    let mut h = Harness::new();
    h.commit("g", -1, "", 1).expect("committed");
    h.pass(JUST_IN_WEEK);
    assert_eq!(h.committed("g", "t"), Some(1));
    h.pass(Duration::from_secs(601));
    assert_eq!(h.committed("g", "t"), None);
    assert_eq!(h.state("g"), "none", "a group without offsets and members goes too");
    h.restart();
    assert_eq!(h.state("g"), "none");
}

#[test]
fn offsets_of_a_group_expire_after_it_became_empty() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    h.commit("g", generation, &leader, 1).expect("committed");
    for _ in 0..WEEK.as_secs() / 9 + 100 {
        h.pass(Duration::from_secs(9));
        assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::None);
    }
    assert_eq!(h.committed("g", "t"), Some(1), "its members subscribe to the topic");
    h.leave("g", &[(&leader, None)]);
    h.pass(JUST_IN_WEEK);
    assert_eq!(h.committed("g", "t"), Some(1));
    h.pass(Duration::from_secs(601));
    assert_eq!(h.state("g"), "none");
}

#[test]
fn offsets_of_topics_that_a_group_left_expire_while_it_lives() {
    let options = GroupOptions { offsets_retention: Duration::from_secs(700), ..GroupOptions::default() };
    let mut h = Harness::with(options);
    let (leader, generation) = h.stable("g");
    h.commit("g", generation, &leader, 1).expect("committed");
    let request = commit("g", generation, &leader, "former", 2, h.now);
    now(h.ask(|reply| Request::Commit(request, reply))).expect("committed");
    for _ in 0..300 {
        h.pass(Duration::from_secs(5));
        assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::None);
    }
    assert_eq!((h.committed("g", "t"), h.committed("g", "former")), (Some(1), None));
}

#[test]
fn a_client_may_choose_the_retention_of_its_commit() {
    let mut h = Harness::new();
    let mut request = commit("g", -1, "", "t", 1, h.now);
    request.offsets[0].1.expire_timestamp_ms = Some(h.now.wall_ms + 1000);
    now(h.ask(|reply| Request::Commit(request, reply))).expect("committed");
    h.pass(Duration::from_secs(601));
    assert_eq!(h.committed("g", "t"), None);
}

#[test]
fn every_offset_is_listed_and_counted() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    h.commit("g", generation, &leader, 1).expect("committed");
    h.commit("simple", -1, "", 2).expect("committed");
    let all = now(h.ask(|reply| Request::FetchOffsets(FetchRequest::All { group: "g".into() }, reply)));
    assert_eq!(all.len(), 1);
    let mut listed = now(h.ask(Request::List));
    listed.sort_by(|a, b| a.group.cmp(&b.group));
    let listed: Vec<_> = listed.iter().map(|group| (&*group.group, &*group.protocol_type, group.state)).collect();
    assert_eq!(listed, [("g", "consumer", "Stable"), ("simple", "", "Empty")]);
    let metrics = now(h.ask(Request::Metrics));
    assert_eq!((metrics.states.stable, metrics.states.empty, metrics.members), (1, 1, 1));
    assert_eq!((metrics.offset_count, metrics.commits, metrics.completed_rebalances), (2, 2, 1));
    assert_eq!(metrics.offsets.len(), 2);
}

/// More tombstones than a batch of the log may have.
#[test]
fn a_group_of_any_size_can_be_deleted() {
    const PARTITIONS: i32 = 20_000;
    let mut h = Harness::new();
    let mut request = commit("g", -1, "", "t", 1, h.now);
    let (key, value) = request.offsets.pop().expect("there is one");
    let places = (0..PARTITIONS).map(|partition| (OffsetKey { partition, ..key.clone() }, value.clone()));
    request.offsets = places.collect();
    now(h.ask(|reply| Request::Commit(request, reply))).expect("committed");

    let mut failed = h.send(|reply| Request::DeleteGroup("g".into(), reply));
    h.queue.extend(h.shard.take_writes());
    assert!(h.queue.len() > 1 && waits(&mut failed));
    let first = h.queue.pop_front().expect("there are several");
    h.shard.written(first.after, Err(WriteFailure::Unavailable), h.now);
    h.flush();
    assert_eq!(now(failed), ErrorCode::CoordinatorNotAvailable, "a part of it could not be written");
    assert_eq!(h.state("g"), "Empty");

    let writes = h.log.len();
    assert_eq!(now(h.ask(|reply| Request::DeleteGroup("g".into(), reply))), ErrorCode::None);
    assert!(h.log.len() > writes, "what was left");
    assert_eq!(h.state("g"), "none");
    h.restart();
    assert_eq!(h.state("g"), "none");
}
