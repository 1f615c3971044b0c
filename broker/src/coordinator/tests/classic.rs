//! The classic protocol of dynamic members.

use super::*;

#[test]
fn an_empty_group_waits_its_delay_and_then_starts() {
    let mut h = Harness::new();
    let mut first = h.join("g", "");
    h.pass(Duration::from_millis(2999));
    assert!(waits(&mut first));
    assert_eq!(h.state("g"), "PreparingRebalance");
    h.pass(Duration::from_millis(1));
    let answer = now(first);
    assert_eq!((answer.error, answer.generation), (ErrorCode::None, 1));
    assert_eq!(answer.leader, answer.member_id);
    assert!(answer.member_id.starts_with("client-"));
    assert_eq!(answer.protocol.as_deref(), Some("range"));
    assert_eq!(answer.members.len(), 1);
    assert_eq!(h.state("g"), "CompletingRebalance");
}

#[test]
fn each_new_member_extends_the_first_delay_up_to_the_rebalance_timeout() {
    let mut h = Harness::new();
    let mut first = h.join("g", "");
    h.pass(Duration::from_secs(2));
    let mut second = h.join("g", "");
    h.pass(Duration::from_secs(2));
    assert!(waits(&mut first) && waits(&mut second));
    h.pass(Duration::from_secs(2));
    let (first, second) = (now(first), now(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(first.members.len() + second.members.len(), 2, "only the leader learns of the members");
    assert_eq!(first.leader, second.leader);
}

#[test]
fn without_a_delay_the_group_starts_at_the_next_tick() {
    let mut h = Harness::with(GroupOptions { initial_rebalance_delay: Duration::ZERO, ..GroupOptions::default() });
    let first = h.join("g", "");
    h.pass(Duration::ZERO);
    assert_eq!(now(first).generation, 1);
}

#[test]
fn new_clients_must_come_back_with_the_id_they_were_given() {
    let mut h = Harness::new();
    let mut request = join("g", "");
    request.requires_known_id = true;
    let refused = now(h.join_with(request.clone()));
    assert_eq!(refused.error, ErrorCode::MemberIdRequired);
    assert_eq!(refused.generation, -1);
    request.member_id = refused.member_id.clone();
    let joined = h.join_with(request);
    h.pass(Duration::from_secs(3));
    assert_eq!(now(joined).member_id, refused.member_id);
}

#[test]
fn an_id_that_nobody_comes_back_with_expires_and_leaves_no_trace() {
    let mut h = Harness::new();
    let mut request = join("g", "");
    request.requires_known_id = true;
    assert_eq!(now(h.join_with(request)).error, ErrorCode::MemberIdRequired);
    assert_eq!(h.state("g"), "Empty");
    h.pass(SESSION);
    assert_eq!(h.state("g"), "none");
    assert!(h.log.is_empty());
}

#[test]
fn a_rebalance_waits_for_pending_ids_until_they_expire() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    let mut pending = join("g", "");
    pending.requires_known_id = true;
    assert_eq!(now(h.join_with(pending)).error, ErrorCode::MemberIdRequired);
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::None, "nobody has joined yet");
    let mut rejoined = h.join("g", &leader);
    assert!(waits(&mut rejoined));
    h.pass(SESSION);
    assert_eq!(now(rejoined).generation, 2);
}

#[test]
fn assignments_are_handed_out_when_they_are_durable() {
    let mut h = Harness::new();
    let (a, b) = (h.join("g", ""), h.join("g", ""));
    h.pass(Duration::from_secs(6));
    let (a, b) = (now(a), now(b));
    let (leader, follower) = if a.members.is_empty() { (b, a) } else { (a, b) };
    let mut waiting = h.sync("g", 1, &follower.member_id, &[]);
    assert!(waits(&mut waiting));
    let request = sync("g", 1, &leader.member_id, &[(&leader.member_id, "0"), (&follower.member_id, "1")]);
    let mut own = h.send(|reply| Request::Sync(request, reply));
    assert!(waits(&mut own) && waits(&mut waiting), "not durable yet");
    assert_eq!(h.describe("g").expect("a group").state, "CompletingRebalance");
    h.flush();
    assert_eq!(&now(own).assignment[..], b"0");
    let follower_answer = now(waiting);
    assert_eq!(&follower_answer.assignment[..], b"1");
    assert_eq!(follower_answer.protocol.as_deref(), Some("range"));
    assert_eq!(follower_answer.protocol_type.as_deref(), Some("consumer"));
    let group = h.describe("g").expect("a group");
    assert_eq!((group.state, &*group.protocol, group.members.len()), ("Stable", "range", 2));
    assert_eq!(&now(h.sync("g", 1, &follower.member_id, &[])).assignment[..], b"1", "asked again");
}

#[test]
fn an_assignment_that_cannot_be_written_starts_the_rebalance_anew() {
    let mut h = Harness::new();
    let first = h.join("g", "");
    h.pass(Duration::from_secs(3));
    let id = now(first).member_id;
    for (failure, error) in [
        (WriteFailure::Unavailable, ErrorCode::CoordinatorNotAvailable),
        (WriteFailure::TooLarge, ErrorCode::UnknownServerError),
        (WriteFailure::NotLeader, ErrorCode::NotCoordinator),
    ] {
        let generation = h.shard_generation("g");
        let request = sync("g", generation, &id, &[(&id, "0")]);
        let synced = h.send(|reply| Request::Sync(request, reply));
        h.fail(failure);
        assert_eq!(now(synced).error, error);
        assert_eq!(h.state("g"), "PreparingRebalance");
        assert_eq!(now(h.join("g", &id)).generation, generation + 1);
    }
}

impl Harness {
    /// Probes for the generation that heartbeats are accepted in.
    fn shard_generation(&mut self, group: &str) -> i32 {
        let member = self.describe(group).expect("a group").members[0].member_id.to_string();
        (0..100)
            .find(|generation| self.heartbeat(group, *generation, &member) != ErrorCode::IllegalGeneration)
            .expect("a generation below 100")
    }
}

#[test]
fn a_member_that_joins_makes_the_others_rejoin() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    let mut second = h.join("g", "");
    assert!(waits(&mut second));
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::RebalanceInProgress);
    assert_eq!(now(h.sync("g", generation, &leader, &[])).error, ErrorCode::RebalanceInProgress);
    let rejoined = now(h.join("g", &leader));
    assert_eq!((rejoined.generation, rejoined.members.len()), (generation + 1, 2));
    assert_eq!(now(second).leader.to_string(), leader);
}

#[test]
fn a_leader_that_joins_again_forces_a_rebalance_a_follower_does_not() {
    let mut h = Harness::new();
    let (leader, _) = h.stable("g");
    let second = h.join("g", "");
    let generation = now(h.join("g", &leader)).generation;
    let follower = now(second).member_id;
    now(h.sync("g", generation, &leader, &[]));
    now(h.sync("g", generation, &follower, &[]));
    let same = now(h.join("g", &follower));
    assert_eq!((same.error, same.generation, same.members.len()), (ErrorCode::None, generation, 0));
    assert_eq!(h.state("g"), "Stable");
    let mut changed = join("g", &follower);
    changed.protocols = vec![("range".into(), subscription("other"))];
    let mut rejoined = h.join_with(changed);
    assert!(waits(&mut rejoined));
    assert_eq!(now(h.join("g", &leader)).generation, generation + 1);
    assert_eq!(now(rejoined).generation, generation + 1);
    let mut again = h.join("g", &leader);
    // The group waits for the assignment: the same join gets the same answer.
    assert_eq!(now(std::mem::replace(&mut again, h.join("g", &leader))).generation, generation + 1);
}

#[test]
fn who_does_not_rejoin_in_time_is_out() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    let second = h.join("g", "");
    for _ in 0..REBALANCE.as_secs() / 5 {
        assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::RebalanceInProgress);
        h.pass(Duration::from_secs(5));
    }
    let second = now(second);
    assert_eq!((second.generation, second.members.len()), (generation + 1, 1));
    assert_eq!(second.leader, second.member_id);
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_is_silent_for_its_session_is_out() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    h.pass(JUST_IN_SESSION);
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::None);
    h.pass(JUST_IN_SESSION);
    assert_eq!(h.commit("g", generation, &leader, 3), Ok(()), "a commit counts as a sign of life");
    h.pass(JUST_IN_SESSION);
    assert_eq!(h.state("g"), "Stable");
    h.pass(Duration::from_millis(1));
    assert_eq!(h.state("g"), "Empty");
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_does_not_fetch_its_assignment_is_out() {
    let mut h = Harness::new();
    let (a, b) = (h.join("g", ""), h.join("g", ""));
    h.pass(Duration::from_secs(6));
    let (a, b) = (now(a), now(b));
    let (leader, follower) = if a.members.is_empty() { (b, a) } else { (a, b) };
    now(h.sync("g", 1, &leader.member_id, &[]));
    for _ in 0..REBALANCE.as_secs() / 5 {
        assert_eq!(h.heartbeat("g", 1, &leader.member_id), ErrorCode::None);
        assert_eq!(h.heartbeat("g", 1, &follower.member_id), ErrorCode::None);
        h.pass(Duration::from_secs(5));
    }
    assert_eq!(h.heartbeat("g", 1, &leader.member_id), ErrorCode::RebalanceInProgress);
    assert_eq!(h.heartbeat("g", 1, &follower.member_id), ErrorCode::UnknownMemberId);
}

#[test]
fn a_new_member_that_never_learns_its_id_is_out_after_five_minutes() {
    let mut h = Harness::new();
    let mut slow = join("g", "");
    slow.rebalance_timeout = Duration::from_hours(1);
    slow.session_timeout = Duration::from_mins(30);
    let first = h.join_with(slow.clone());
    h.pass(Duration::from_secs(3));
    let leader = now(first).member_id;
    now(h.sync("g", 1, &leader, &[]));
    let mut lost = h.join_with(slow);
    h.pass(Duration::from_secs(299));
    assert!(waits(&mut lost));
    h.pass(Duration::from_secs(1));
    assert_eq!(now(lost).error, ErrorCode::UnknownMemberId);
    assert_eq!(h.describe("g").expect("a group").members.len(), 1);
}

#[test]
fn leaving_rebalances_at_once_and_the_last_leaves_an_empty_group() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    assert_eq!(h.leave("g", &[("nobody", None), (&leader, None)]), [ErrorCode::UnknownMemberId, ErrorCode::None]);
    let group = h.describe("g").expect("a group");
    assert_eq!((group.state, &*group.protocol_type, &*group.protocol), ("Empty", "consumer", ""));
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::UnknownMemberId);
    let Some(StateRecord::Group { value: Some(record), .. }) = h.log.last() else { panic!("{:?}", h.log.last()) };
    assert_eq!((record.generation, record.members.len(), &record.leader), (generation + 1, 0, &None));
    assert_eq!(h.leave("none", &[("a", None)]), [ErrorCode::UnknownMemberId]);
}

#[test]
fn requests_of_the_wrong_member_generation_or_protocol_are_refused() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    assert_eq!(now(h.join("g", "nobody")).error, ErrorCode::UnknownMemberId);
    assert_eq!(now(h.join("none", "nobody")).error, ErrorCode::UnknownMemberId);
    assert_eq!(now(h.sync("none", 1, "nobody", &[])).error, ErrorCode::UnknownMemberId);
    assert_eq!(now(h.sync("g", generation + 1, &leader, &[])).error, ErrorCode::IllegalGeneration);
    assert_eq!(h.heartbeat("g", generation + 1, &leader), ErrorCode::IllegalGeneration);
    assert_eq!(h.heartbeat("g", generation, "nobody"), ErrorCode::UnknownMemberId);
    assert_eq!(h.heartbeat("none", generation, "nobody"), ErrorCode::UnknownMemberId);
    let mut wrong = sync("g", generation, &leader, &[]);
    wrong.protocol = Some("nope".into());
    assert_eq!(now(h.ask(|reply| Request::Sync(wrong, reply))).error, ErrorCode::InconsistentGroupProtocol);
    let mut connect = join("g", "");
    connect.protocol_type = "connect".into();
    let mut alien = join("g", "");
    alien.protocols = vec![("alien".into(), Bytes::new())];
    let mut silent = join("new", "");
    silent.protocols.clear();
    for request in [connect, alien, silent] {
        assert_eq!(now(h.join_with(request)).error, ErrorCode::InconsistentGroupProtocol);
    }
    assert_eq!(h.state("new"), "none", "a refused join makes no group");
}

#[test]
fn the_protocol_is_the_one_most_members_prefer_of_those_all_speak() {
    let mut h = Harness::new();
    let protocols = |names: &[&str]| names.iter().map(|name| ((*name).into(), Bytes::new())).collect::<Vec<_>>();
    let mut answers = Vec::new();
    for names in [&["sticky", "range", "own"][..], &["range", "sticky"], &["range", "sticky"]] {
        let mut request = join("g", "");
        request.protocols = protocols(names);
        answers.push(h.join_with(request));
    }
    h.pass(Duration::from_secs(6));
    for answer in answers {
        assert_eq!(now(answer).protocol.as_deref(), Some("range"));
    }
}

#[test]
fn a_full_group_takes_no_more() {
    let mut h = Harness::with(GroupOptions { max_size: 1, ..GroupOptions::default() });
    let (leader, generation) = h.stable("g");
    let refused = now(h.join("g", ""));
    assert_eq!((refused.error, &*refused.member_id), (ErrorCode::GroupMaxSizeReached, ""));
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::None);
    assert_eq!(now(h.join("g", &leader)).generation, generation + 1);
}

#[test]
fn a_restart_keeps_stable_groups_and_their_sessions_start_anew() {
    let mut h = Harness::new();
    let (leader, generation) = h.stable("g");
    let before = h.describe("g");
    h.pass(JUST_IN_SESSION);
    h.restart();
    assert_eq!(h.describe("g"), before);
    h.pass(JUST_IN_SESSION);
    assert_eq!(h.heartbeat("g", generation, &leader), ErrorCode::None);
    assert_eq!(h.commit("g", generation, &leader, 5), Ok(()));
    h.pass(SESSION);
    assert_eq!(h.state("g"), "Empty");
}

#[test]
fn the_older_of_two_joins_of_one_member_is_answered() {
    let mut h = Harness::new();
    let (leader, _) = h.stable("g");
    let second = h.join("g", "");
    let generation = now(h.join("g", &leader)).generation;
    let follower = now(second).member_id;
    now(h.sync("g", generation, &leader, &[]));
    let _third = h.join("g", "");
    let older = h.join("g", &follower);
    let mut newer = h.join("g", &follower);
    assert_eq!(now(older).error, ErrorCode::RebalanceInProgress);
    assert!(waits(&mut newer));
}
