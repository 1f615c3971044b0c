//! Range assignment: each topic's partitions in even, contiguous ranges over the members that want it.

use std::collections::BTreeMap;

/// Topics with the partitions of each.
pub type Assignment = BTreeMap<String, Vec<i32>>;

/// Assigns `partitions` (how many each topic has) to members by what each subscribed to.
///
/// As Kafka's `RangeAssignor`: members in the order of their ids; of each topic the first members get one partition
/// more when it does not come out even.
pub fn range(
    members: &BTreeMap<String, Vec<String>>,
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Assignment> {
    let mut assigned: BTreeMap<String, Assignment> =
        members.keys().map(|member| (member.clone(), Assignment::new())).collect();
    for (topic, &count) in partitions {
        let interested: Vec<&String> =
            members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(member, _)| member).collect();
        let Ok(shares) = i32::try_from(interested.len()) else { continue };
        let mut next = 0;
        for (index, member) in (0_i32..).zip(interested) {
            let share = count / shares + i32::from(index < count % shares);
            if share > 0
                && let Some(topics) = assigned.get_mut(member)
            {
                topics.insert(topic.clone(), (next..next + share).collect());
            }
            next += share;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(of: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        of.iter().map(|(id, topics)| ((*id).to_owned(), topics.iter().map(|t| (*t).to_owned()).collect())).collect()
    }

    #[test]
    fn uneven_partitions_go_to_the_first_members() {
        let assigned = range(&members(&[("a", &["t"]), ("b", &["t"])]), &BTreeMap::from([("t".to_owned(), 5)]));
        assert_eq!(assigned["a"]["t"], [0, 1, 2]);
        assert_eq!(assigned["b"]["t"], [3, 4]);
    }

    #[test]
    fn only_those_who_subscribed_get_a_topic() {
        let counts = BTreeMap::from([("t".to_owned(), 1), ("u".to_owned(), 2), ("nobody".to_owned(), 3)]);
        let assigned = range(&members(&[("a", &["t", "u"]), ("b", &["u"]), ("c", &[])]), &counts);
        assert_eq!(assigned["a"], BTreeMap::from([("t".to_owned(), vec![0]), ("u".to_owned(), vec![0])]));
        assert_eq!(assigned["b"], BTreeMap::from([("u".to_owned(), vec![1])]));
        assert!(assigned["c"].is_empty());
    }

    #[test]
    fn every_partition_goes_to_exactly_one_member() {
        for (count, size) in [(1, 3), (7, 3), (12, 4), (0, 2)] {
            let ids: Vec<String> = (0..size).map(|n| format!("m{n}")).collect();
            let wanted = ids.iter().map(|id| (id.clone(), vec!["t".to_owned()])).collect();
            let assigned = range(&wanted, &BTreeMap::from([("t".to_owned(), count)]));
            let mut all: Vec<i32> = assigned.values().flat_map(|topics| topics.values().flatten().copied()).collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }
}
