//! Certificates are kept while they are good, and an authority is succeeded without a moment in which somebody is not trusted.

use jiff::{SignedDuration, Timestamp};

use super::authority::SPREAD_SECONDS;
use super::issue::read;
use super::*;

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn after(seconds: i64) -> Timestamp {
    start() + SignedDuration::from_secs(seconds)
}

const DAY: i64 = 24 * 3600;

fn nodes(authorities: &Authorities, pods: &[(&str, i32)], data: Option<&Data>, now: Timestamp) -> Data {
    let pods: Vec<(String, i32)> = pods.iter().map(|(pod, node)| ((*pod).to_owned(), *node)).collect();
    node_certificates(authorities, "c1", &pods, data, now).expect("certificates can be made")
}

fn authorities(data: Option<&Data>, now: Timestamp) -> Authorities {
    Authorities::of(data, "c1", now, false).expect("an authority can be made")
}

#[test]
fn a_certificate_names_its_node_and_nobody_else() {
    let made = nodes(&authorities(None, start()), &[("a-0", 7)], None, start());
    let names: Vec<&str> = made.keys().map(String::as_str).collect();
    assert_eq!(names, ["a-0.crt", "a-0.key", CA]);
    let content = read(&made["a-0.crt"]).expect("a certificate");
    assert_eq!(content.uris, ["chronik://c1/node/7"]);
    let operator = operator_certificate(&authorities(None, start()), "c1", None, start()).expect("a certificate");
    assert_eq!(read(&operator[CERTIFICATE]).expect("a certificate").uris, ["chronik://c1/operator"]);
}

#[test]
fn what_is_good_stays_as_it_is_and_what_is_due_is_made_anew() {
    let trust = authorities(None, start());
    let first = nodes(&trust, &[("a-0", 0), ("a-1", 1)], None, start());
    let later = |days| nodes(&authorities(Some(trust.data()), after(days * DAY)), &[("a-0", 0), ("a-1", 1)], Some(&first), after(days * DAY));
    assert_eq!(later(200), first);
    assert_ne!(later(250)["a-0.crt"], first["a-0.crt"], "less than a third of a year is left");
}

#[test]
fn pods_that_are_gone_lose_their_certificates_and_new_ones_get_theirs() {
    let trust = authorities(None, start());
    let first = nodes(&trust, &[("a-0", 0), ("a-1", 1)], None, start());
    let second = nodes(&trust, &[("a-0", 0), ("a-2", 2)], Some(&first), start());
    assert_eq!(second["a-0.crt"], first["a-0.crt"]);
    assert!(!second.contains_key("a-1.key") && second.contains_key("a-2.key"));
}

#[test]
fn a_certificate_of_another_node_or_cluster_is_not_kept() {
    let trust = authorities(None, start());
    let first = nodes(&trust, &[("a-0", 0)], None, start());
    let renamed = nodes(&trust, &[("a-0", 5)], Some(&first), start());
    assert_eq!(read(&renamed["a-0.crt"]).expect("a certificate").uris, ["chronik://c1/node/5"]);
}

/// At each moment of a succession, whoever has the Secrets of this phase or of the one before trusts the other.
#[test]
fn an_authority_is_succeeded_in_steps_that_overlap() {
    let pods = [("a-0", 0)];
    let trusts = |data: &Data, certificate: &[u8]| {
        let issuer = read(certificate).expect("a certificate").issuer;
        let bundle = String::from_utf8(data[CA].clone()).expect("PEM");
        bundle.split_inclusive("-----END CERTIFICATE-----\n").any(|pem| {
            read(pem.as_bytes()).is_some_and(|it| it.subject == issuer)
        })
    };
    let mut trust = authorities(None, start());
    let mut before = nodes(&trust, &pods, None, start());
    let first = before["a-0.crt"].clone();
    let mut phases = vec![trust.phase()];
    for round in 0..40 {
        let now = after(round * SPREAD_SECONDS / 4);
        trust = Authorities::of(Some(trust.data()), "c1", now, round == 1).expect("an authority");
        let data = nodes(&trust, &pods, Some(&before), now);
        assert!(trusts(&data, &before["a-0.crt"]) && trusts(&before, &data["a-0.crt"]), "round {round}");
        if phases.last() != Some(&trust.phase()) {
            phases.push(trust.phase());
        }
        before = data;
    }
    assert_eq!(phases, [Phase::Settled, Phase::Announced, Phase::Succeeded, Phase::Settled]);
    assert_ne!(before["a-0.crt"], first);
    assert!(!trusts(&before, &first), "the former is trusted no longer");
}

#[test]
fn an_authority_begins_its_succession_when_a_third_of_its_time_is_left() {
    let trust = authorities(None, start());
    assert_eq!(authorities(Some(trust.data()), after(3 * 365 * DAY)).phase(), Phase::Settled);
    assert_eq!(authorities(Some(trust.data()), after(4 * 365 * DAY)).phase(), Phase::Announced);
}
