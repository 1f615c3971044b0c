//! Who votes on the metadata: as many as the spec says, none that is leaving, changed one at a time. Each is added before
//! another one goes, so the quorum never gets smaller than it must be.

use super::decision::{Say, Step};
use super::situation::Situation;

const KIND: &str = "VoterChange";

pub(super) fn change(situation: &Situation) -> Say {
    let Some(brokers) = &situation.brokers else { return Say::Nothing };
    let moving = brokers.nodes.iter().find(|(_, node)| node.votes != node.wants_vote);
    if let Some((id, node)) = moving {
        let becomes = if node.wants_vote { "a voter" } else { "a follower" };
        return Say::under_way(KIND, format!("waits until node {id} is {becomes}"));
    }
    if brokers.grant.is_some() || !situation.down().is_empty() {
        return Say::Nothing;
    }
    let stays = |id: &i32| situation.is_wanted(*id) && !brokers.nodes[id].draining;
    let voters: Vec<i32> = brokers.nodes.iter().filter(|(_, node)| node.votes).map(|(id, _)| *id).collect();
    let staying = voters.iter().filter(|id| stays(id)).count();
    if staying < situation.voters {
        let fit = |id: &&i32| {
            let node = brokers.nodes[id];
            stays(id) && node.registered && !node.fenced && !node.votes
        };
        // From the pool that has the fewest yet.
        let votes_of = |id: i32| {
            let pool = situation.place(id).map(|(pool, _)| pool.name.as_str());
            voters.iter().filter(|voter| situation.place(**voter).map(|(pool, _)| pool.name.as_str()) == pool).count()
        };
        if let Some(id) = brokers.nodes.keys().filter(fit).min_by_key(|id| (votes_of(**id), **id)) {
            return Say::step(KIND, format!("makes node {id} a voter"), Step::Promote(*id));
        }
    }
    // The leader last: it has to hand over first.
    let last_leader = |id: &&i32| (brokers.leader != **id, **id);
    let leaving = voters.iter().filter(|id| !stays(id)).max_by_key(last_leader);
    let surplus = || (staying > situation.voters).then(|| voters.iter().max_by_key(last_leader)).flatten();
    match leaving.filter(|_| voters.len() > 1).or_else(surplus) {
        Some(id) => Say::step(KIND, format!("takes the vote from node {id}"), Step::Demote(*id)),
        None => Say::Nothing,
    }
}
