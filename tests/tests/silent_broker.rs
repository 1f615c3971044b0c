//! Client commands beside a broker that takes connections and answers nothing, or whose partitions nobody leads.

use std::collections::BTreeSet;
use std::net::TcpListener;

use chronik_tests::cluster::wait_for;
use chronik_tests::{Cluster, chronik};

/// Takes connections, and never reads.
struct Silent(TcpListener);

impl Silent {
    fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("there is a free port"))
    }

    fn address(&self) -> String {
        self.0.local_addr().expect("it is bound").to_string()
    }
}

#[test]
fn an_address_that_does_not_answer_is_given_up_for_the_next() {
    let (silent, cluster) = (Silent::listen(), Cluster::start(1, &[]));
    let both = format!("{},{}", silent.address(), cluster.bootstrap());
    let created = chronik(&["topic", "create", "t", "--bootstrap", &both], b"");
    assert_eq!(created.code, 0, "{created:?}");
    assert!(created.err.contains(&format!("{} has not answered", silent.address())), "{created:?}");
    let alone = chronik(&["topic", "list", "--bootstrap", &silent.address()], b"");
    assert_eq!(alone.code, 1, "{alone:?}");
    assert!(alone.err.contains(&silent.address()) && alone.err.contains("in time"), "{alone:?}");
}

/// The first address and leader of a third of the partitions is stopped, and nobody knows it yet.
#[test]
fn records_go_to_and_come_from_the_next_leader_when_one_is_stopped() {
    let cluster = Cluster::start(3, &[]);
    cluster[0].run(&["topic", "create", "t", "--partitions", "3", "--replication-factor", "3"]).ok();
    cluster.wait_until_in_sync(0, "t");
    cluster[0].signal("STOP");
    let sent: BTreeSet<String> = (0..300).map(|number| format!("value-{number}")).collect();
    let lines: Vec<String> = sent.iter().map(|value| format!("key of {value}:{value}\n")).collect();
    let bootstrap = cluster.bootstrap();
    let produced =
        chronik(&["produce", "t", "--key-separator", ":", "--bootstrap", &bootstrap], lines.concat().as_bytes());
    assert_eq!(produced.code, 0, "{produced:?}");
    assert!(produced.err.contains("has not answered"), "{produced:?}");
    let consumed = chronik(&["consume", "t", "--from-beginning", "--exit-at-end", "--bootstrap", &bootstrap], b"");
    assert_eq!(consumed.code, 0, "{consumed:?}");
    assert_eq!(consumed.out.lines().count(), sent.len(), "each once");
    assert_eq!(consumed.out.lines().map(ToOwned::to_owned).collect::<BTreeSet<_>>(), sent);
    cluster[0].signal("CONT");
}

#[test]
fn a_partition_without_a_leader_is_named_and_not_waited_for_without_end() {
    let mut cluster = Cluster::start(3, &[]);
    cluster[0].run(&["topic", "create", "t", "--partitions", "3", "--replication-factor", "1"]).ok();
    cluster[2].kill();
    wait_for("a partition that nobody leads", || {
        cluster.describe(0, "t")?.iter().any(|it| it.leader.is_none()).then_some(())
    });
    let consumed = cluster[0].run(&["consume", "t", "--from-beginning", "--exit-at-end"]);
    assert_eq!(consumed.code, 1, "{consumed:?}");
    assert!(consumed.err.lines().count() == 2 && consumed.err.contains("still trying"), "told early: {consumed:?}");
    assert!(consumed.err.contains("has no leader now"), "{consumed:?}");
}
