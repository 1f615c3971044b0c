//! Static members (KIP-345).

use super::*;

fn static_join(member: &str, instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), requires_known_id: true, ..join("g", member) }
}

/// A stable group of the static members `a`, which leads, and `b`; their ids and the generation.
fn two(h: &mut Harness) -> ((String, String), i32) {
    let (a, b) = (h.join_with(static_join("", "a")), h.join_with(static_join("", "b")));
    h.pass(Duration::from_secs(6));
    let (a, b) = (now(a), now(b));
    assert_eq!((a.generation, b.generation, &a.leader), (1, 1, &a.member_id));
    assert!(a.member_id.starts_with("a-"), "{}", a.member_id);
    let (a, b) = (a.member_id.to_string(), b.member_id.to_string());
    now(h.sync("g", 1, &a, &[(&a, "0"), (&b, "1")]));
    assert_eq!(&now(h.sync("g", 1, &b, &[])).assignment[..], b"1");
    ((a, b), 1)
}

#[test]
fn a_member_that_comes_back_takes_its_place_without_a_rebalance() {
    let mut h = Harness::new();
    let ((a, b), generation) = two(&mut h);
    let back = now(h.join_with(static_join("", "b")));
    assert_eq!((back.error, back.generation), (ErrorCode::None, generation));
    assert_ne!(back.member_id.to_string(), b);
    assert_eq!((back.members.len(), back.leader.to_string()), (0, a.clone()));
    assert_eq!(h.state("g"), "Stable");
    assert_eq!(&now(h.sync("g", generation, &back.member_id, &[])).assignment[..], b"1");
    assert_eq!(h.heartbeat("g", generation, &a), ErrorCode::None);
    let mut old =
        HeartbeatRequest { group: "g".into(), generation, member_id: b.into(), instance_id: Some("b".into()) };
    assert_eq!(now(h.ask(|reply| Request::Heartbeat(old.clone(), reply))), ErrorCode::FencedInstanceId);
    old.instance_id = Some("c".into());
    assert_eq!(now(h.ask(|reply| Request::Heartbeat(old, reply))), ErrorCode::UnknownMemberId);
}

#[test]
fn a_leader_that_comes_back_is_told_to_skip_the_assignment_if_it_can() {
    let mut h = Harness::new();
    let ((a, _), generation) = two(&mut h);
    // An older client would assign anew if it found itself the leader.
    let old_client = now(h.join_with(static_join("", "a")));
    assert_eq!((old_client.leader.to_string(), old_client.members.len()), (a, 0));
    assert!(!old_client.skip_assignment);
    let request = JoinRequest { supports_skip_assignment: true, ..static_join("", "a") };
    let back = now(h.join_with(request));
    assert_eq!((back.generation, &back.leader, back.members.len()), (generation, &back.member_id, 2));
    assert!(back.skip_assignment);
}

#[test]
fn a_replacement_is_answered_when_it_is_durable_and_undone_when_it_cannot_be() {
    let mut h = Harness::new();
    let ((_, b), generation) = two(&mut h);
    let mut back = h.send(|reply| Request::Join(static_join("", "b"), reply));
    assert!(waits(&mut back));
    h.fail(WriteFailure::Unavailable);
    assert_eq!(now(back).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(h.heartbeat("g", generation, &b), ErrorCode::None);
    let back = now(h.join_with(static_join("", "b"))).member_id;
    h.restart();
    assert_eq!(h.heartbeat("g", generation, &back), ErrorCode::None);
    assert_eq!(h.heartbeat("g", generation, &b), ErrorCode::UnknownMemberId);
}

#[test]
fn a_replacement_that_changes_the_protocol_rebalances() {
    let mut h = Harness::new();
    let ((a, _), generation) = two(&mut h);
    let mut both = static_join(&a, "a");
    both.protocols.insert(0, ("sticky".into(), subscription("t")));
    let mut first = h.join_with(both);
    assert!(waits(&mut first), "a leader that joins again rebalances");
    let mut sticky = static_join("", "b");
    sticky.protocols = vec![("sticky".into(), subscription("t"))];
    assert_eq!(
        now(h.join_with(sticky)).error,
        ErrorCode::InconsistentGroupProtocol,
        "b's former self speaks range only"
    );
    let mut sticky = static_join("", "b");
    sticky.protocols.insert(0, ("sticky".into(), subscription("t")));
    let second = now(h.join_with(sticky));
    assert_eq!((second.generation, second.protocol.as_deref()), (generation + 1, Some("sticky")));
    assert_eq!(now(first).generation, generation + 1);
}

#[test]
fn what_waits_under_the_old_id_is_fenced() {
    let mut h = Harness::new();
    let ((a, b), _) = two(&mut h);
    let rejoin = h.join_with(static_join(&a, "a"));
    let back = h.join_with(static_join("", "a"));
    let fenced = now(rejoin);
    assert_eq!((fenced.error, fenced.member_id.to_string()), (ErrorCode::FencedInstanceId, a));
    let b = now(h.join_with(static_join(&b, "b")));
    assert_eq!((now(back).generation, b.generation), (2, 2));
    let mut waiting = h.sync("g", 2, &b.member_id, &[]);
    assert!(waits(&mut waiting));
    let _back = h.join_with(static_join("", "b"));
    assert_eq!(now(waiting).error, ErrorCode::FencedInstanceId);
    assert_eq!(h.state("g"), "PreparingRebalance", "the leader may be assigning to the old id");
}

#[test]
fn static_members_stay_through_a_rebalance_that_they_miss() {
    let mut h = Harness::new();
    let ((a, b), generation) = two(&mut h);
    let request = JoinRequest { session_timeout: Duration::from_secs(1000), ..static_join(&b, "b") };
    let mut changed = request.clone();
    changed.protocols = vec![("range".into(), subscription("u"))];
    let joined = h.join_with(changed);
    for _ in 0..12 {
        assert_eq!(h.heartbeat("g", generation, &a), ErrorCode::RebalanceInProgress);
        h.pass(Duration::from_secs(5));
    }
    let joined = now(joined);
    assert_eq!((joined.generation, joined.leader.to_string(), joined.members.len()), (2, b, 2));
    assert_eq!(h.heartbeat("g", 2, &a), ErrorCode::None);
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut h = Harness::new();
    let ((a, b), generation) = two(&mut h);
    let outcomes = h.leave("g", &[("", Some("b")), ("", Some("nobody")), ("", None), (&a, Some("b"))]);
    assert_eq!(
        outcomes,
        [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::UnknownMemberId, ErrorCode::UnknownMemberId]
    );
    assert_eq!(h.heartbeat("g", generation, &b), ErrorCode::UnknownMemberId);
    assert_eq!(h.heartbeat("g", generation, &a), ErrorCode::RebalanceInProgress);
}

#[test]
fn commits_of_a_fenced_instance_are_refused() {
    let mut h = Harness::new();
    let ((_, b), generation) = two(&mut h);
    now(h.join_with(static_join("", "b")));
    let mut request = commit("g", generation, &b, "t", 1, h.now);
    request.instance_id = Some("b".into());
    assert_eq!(now(h.ask(|reply| Request::Commit(request, reply))), Err(ErrorCode::FencedInstanceId));
}
