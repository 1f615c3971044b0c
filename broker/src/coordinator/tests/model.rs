//! Members that join, sync, heartbeat, commit, leave and die in any order, writes that are slow or fail, restarts:
//! whatever happens, the group keeps its promises.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;

const GROUPS: [&str; 2] = ["g", "h"];
const CLIENTS: usize = 5;

/// What happens next. Clients are numbered; those below `STATIC` are static members.
#[derive(Debug, Clone)]
enum Step {
    /// A client does what its state asks for: join, sync or heartbeat.
    Act(usize),
    /// It joins anew without its id, as after a crash.
    Restart(usize),
    Leave(usize),
    Commit(usize),
    /// It is not heard of any more until it restarts.
    Die(usize),
    Pass(u64),
    Flush,
    FailWrites,
    /// The coordinator loads its log anew.
    Reload,
}

const STATIC: usize = 2;

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        12 => client.clone().prop_map(Step::Act),
        2 => client.clone().prop_map(Step::Restart),
        1 => client.clone().prop_map(Step::Leave),
        2 => client.clone().prop_map(Step::Commit),
        1 => client.prop_map(Step::Die),
        4 => (1..8000u64).prop_map(Step::Pass),
        6 => Just(Step::Flush),
        1 => Just(Step::FailWrites),
        1 => Just(Step::Reload),
    ]
}

#[derive(Default)]
struct Client {
    dead: bool,
    id: String,
    /// Of its last join, and the ids that it may assign to when it leads.
    generation: i32,
    members: Option<Vec<String>>,
    assignment: Option<(i32, String, Bytes)>,
    joining: Option<Pending<JoinAnswer>>,
    syncing: Option<Pending<SyncAnswer>>,
}

struct World {
    h: Harness,
    clients: Vec<Client>,
    /// The newest generation that each group has told anybody.
    newest: HashMap<&'static str, i32>,
    acked: HashMap<&'static str, i64>,
    next_offset: i64,
    ids: BTreeMap<String, &'static str>,
}

fn group_of(client: usize) -> &'static str {
    GROUPS[client % GROUPS.len()]
}

impl World {
    fn new() -> Self {
        let clients = (0..CLIENTS).map(|_| Client::default()).collect();
        Self {
            h: Harness::new(),
            clients,
            newest: HashMap::new(),
            acked: HashMap::new(),
            next_offset: 1,
            ids: BTreeMap::new(),
        }
    }

    fn join_request(&self, client: usize) -> JoinRequest {
        JoinRequest {
            instance_id: (client < STATIC).then(|| format!("instance-{client}").into()),
            requires_known_id: client.is_multiple_of(2),
            supports_skip_assignment: true,
            ..join(group_of(client), &self.clients[client].id)
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Act(client) => self.act(*client),
            Step::Restart(client) => {
                self.clients[*client] = Client::default();
                self.act(*client);
            }
            Step::Die(client) => self.clients[*client].dead = true,
            Step::Leave(client) => self.leave(*client),
            Step::Commit(client) => self.commit(*client)?,
            Step::Pass(ms) => self.h.pass(Duration::from_millis(*ms)),
            Step::Flush => self.h.flush(),
            Step::FailWrites => self.h.fail(WriteFailure::Unavailable),
            Step::Reload => self.reload(),
        }
        self.collect()
    }

    fn act(&mut self, client: usize) {
        let group = group_of(client);
        if self.clients[client].dead || self.clients[client].joining.is_some() || self.clients[client].syncing.is_some()
        {
            return;
        }
        let (id, generation) = (self.clients[client].id.clone(), self.clients[client].generation);
        if generation <= 0 {
            let request = self.join_request(client);
            let pending = self.h.send(|reply| Request::Join(request, reply));
            self.clients[client].joining = Some(pending);
        } else if self.clients[client].assignment.is_none() {
            let members = self.clients[client].members.clone().unwrap_or_default();
            let shares: Vec<_> =
                members.iter().enumerate().map(|(i, member)| (member.clone(), format!("{generation}/{i}"))).collect();
            let shares: Vec<_> = shares.iter().map(|(member, share)| (member.as_str(), share.as_str())).collect();
            let request = sync(group, generation, &id, &shares);
            let pending = self.h.send(|reply| Request::Sync(request, reply));
            self.clients[client].syncing = Some(pending);
        } else {
            let request =
                HeartbeatRequest { group: group.into(), generation, member_id: id.as_str().into(), instance_id: None };
            let error = now(self.h.send(|reply| Request::Heartbeat(request, reply)));
            self.refused(client, error);
        }
    }

    /// A client's reaction to an error, as real ones have it.
    fn refused(&mut self, client: usize, error: ErrorCode) {
        let client = &mut self.clients[client];
        match error {
            ErrorCode::None => return,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId | ErrorCode::GroupMaxSizeReached => {
                client.id.clear();
            }
            _ => {}
        }
        client.generation = 0;
        client.assignment = None;
        client.members = None;
    }

    fn leave(&mut self, client: usize) {
        let member = LeavingMember { member_id: self.clients[client].id.as_str().into(), instance_id: None };
        let request = LeaveRequest { group: group_of(client).into(), members: vec![member] };
        let _pending = self.h.send(|reply| Request::Leave(request, reply));
        self.clients[client] = Client {
            joining: self.clients[client].joining.take(),
            syncing: self.clients[client].syncing.take(),
            ..Client::default()
        };
    }

    fn commit(&mut self, client: usize) -> Result<(), TestCaseError> {
        let group = group_of(client);
        let member = &self.clients[client];
        let is_member = member.generation > 0;
        let (generation, id) = if is_member { (member.generation, member.id.as_str()) } else { (-1, "") };
        let request = commit(group, generation, id, "t", self.next_offset, self.h.now);
        let state = self.h.state(group);
        if now(self.h.ask(|reply| Request::Commit(request, reply))).is_ok() {
            prop_assert!(
                is_member || matches!(state, "Empty" | "none"),
                "a stranger has committed to a group that is {}",
                state
            );
            self.acked.insert(group, self.next_offset);
        }
        self.next_offset += 1;
        Ok(())
    }

    fn reload(&mut self) {
        // What was not durable is not lost to anybody: nobody was told.
        self.h.restart();
        for client in &mut self.clients {
            client.joining = None;
            client.syncing = None;
            client.generation = 0;
            client.assignment = None;
        }
    }

    /// Takes the answers that have come.
    fn collect(&mut self) -> Result<(), TestCaseError> {
        for index in 0..self.clients.len() {
            if let Some(answer) = self.clients[index].joining.as_mut().and_then(|pending| pending.try_recv().ok()) {
                self.clients[index].joining = None;
                self.joined(index, answer)?;
            }
            if let Some(answer) = self.clients[index].syncing.as_mut().and_then(|pending| pending.try_recv().ok()) {
                self.clients[index].syncing = None;
                if answer.error == ErrorCode::None {
                    let client = &mut self.clients[index];
                    client.assignment = Some((client.generation, client.id.clone(), answer.assignment));
                } else {
                    self.refused(index, answer.error);
                }
            }
        }
        Ok(())
    }

    fn joined(&mut self, index: usize, answer: JoinAnswer) -> Result<(), TestCaseError> {
        if answer.error == ErrorCode::MemberIdRequired {
            self.clients[index].id = answer.member_id.to_string();
            return Ok(());
        }
        if answer.error != ErrorCode::None {
            self.refused(index, answer.error);
            return Ok(());
        }
        let group = group_of(index);
        let newest = self.newest.entry(group).or_insert(0);
        prop_assert!(answer.generation >= *newest || self.clients[index].generation == 0, "generations only grow");
        *newest = (*newest).max(answer.generation);
        let id = answer.member_id.to_string();
        let other = self.ids.insert(id.clone(), group);
        prop_assert!(other.is_none_or(|other| other == group), "member {} is in two groups", id);
        let client = &mut self.clients[index];
        client.id = id;
        client.generation = answer.generation;
        client.assignment = None;
        let leads = answer.leader == answer.member_id && !answer.skip_assignment;
        client.members = leads.then(|| answer.members.iter().map(|member| member.member_id.to_string()).collect());
        Ok(())
    }

    /// Everybody alive acts until nothing changes any more; then the groups must be in order.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..200 {
            for client in 0..CLIENTS {
                self.act(client);
                self.h.flush();
                self.collect()?;
            }
            self.h.pass(Duration::from_secs(1));
            self.collect()?;
        }
        for group in GROUPS {
            self.check_settled(group)?;
        }
        Ok(())
    }

    fn check_settled(&mut self, group: &'static str) -> Result<(), TestCaseError> {
        let mut generations = HashSet::new();
        let mut shares = HashSet::new();
        let mut ids = Vec::new();
        for index in (0..CLIENTS).filter(|index| group_of(*index) == group) {
            let client = &self.clients[index];
            if client.dead {
                continue;
            }
            prop_assert!(client.joining.is_none(), "client {} waits for its join", index);
            prop_assert!(client.syncing.is_none(), "client {} waits for its assignment", index);
            let (generation, id, share) = client.assignment.clone().expect("a live client has an assignment");
            generations.insert(generation);
            prop_assert!(share.is_empty() || shares.insert(share.clone()), "{:?} is assigned twice", share);
            ids.push(id);
        }
        let state = self.h.state(group);
        if ids.is_empty() {
            prop_assert!(matches!(state, "Empty" | "none"), "{}", state);
        } else {
            prop_assert_eq!(state, "Stable");
            prop_assert_eq!(generations.len(), 1, "one generation");
            let mut members: Vec<_> =
                self.h.describe(group).expect("it is stable").members.iter().map(|m| m.member_id.to_string()).collect();
            members.sort();
            ids.sort();
            prop_assert_eq!(members, ids, "the members are the live clients");
        }
        prop_assert_eq!(self.h.committed(group, "t"), self.acked.get(group).copied(), "acknowledged offsets are kept");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn groups_settle_whatever_happened(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step)?;
        }
        world.settle()?;
    }

    #[test]
    fn replaying_the_log_gives_the_same_groups_and_offsets(steps in prop::collection::vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            world.run(step)?;
        }
        world.settle()?;
        let groups = |h: &mut Harness| GROUPS.map(|group| (h.describe(group), h.committed(group, "t")));
        let before = groups(&mut world.h);
        world.h.restart();
        let after = groups(&mut world.h);
        for ((group, offset), (loaded, loaded_offset)) in before.into_iter().zip(after) {
            prop_assert_eq!(offset, loaded_offset);
            // A group that has neither a record nor offsets is no loss.
            prop_assert!(group == loaded || group.is_some_and(|g| g.state == "Empty" && g.members.is_empty() && loaded.is_none()));
        }
    }

    #[test]
    fn a_static_member_that_comes_back_unchanged_never_starts_a_generation(
        comebacks in prop::collection::vec((0..3usize, any::<bool>()), 1..20)
    ) {
        let mut h = Harness::new();
        let request = |instance: usize, member: &str, skip| JoinRequest {
            instance_id: Some(format!("i{instance}").into()), supports_skip_assignment: skip, ..join("g", member)
        };
        let joins: Vec<_> = (0..3).map(|instance| h.join_with(request(instance, "", true))).collect();
        h.pass(Duration::from_secs(9));
        let joined: Vec<_> = joins.into_iter().map(now).collect();
        for answer in &joined {
            prop_assert_eq!(answer.generation, 1);
            let _pending = h.sync("g", 1, &answer.member_id, &[]);
        }
        for answer in joined.iter().filter(|answer| answer.leader == answer.member_id) {
            now(h.sync("g", 1, &answer.member_id, &[]));
        }
        for (instance, skip) in comebacks {
            let back = now(h.join_with(request(instance, "", skip)));
            prop_assert_eq!((back.error, back.generation), (ErrorCode::None, 1));
            prop_assert_eq!(h.state("g"), "Stable");
        }
    }
}
