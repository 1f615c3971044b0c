//! Topics as clients name and make them: names, placement, settings, which are the brokers' own.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::admin::{Admin, Deadline, Refusal};
use super::wire::ErrorCode;
use crate::config::check::check_topic;
use crate::coordinator::OFFSETS_TOPIC;
use crate::ids::{NodeId, TopicId};
use crate::metadata::placement::place;
use crate::metadata::{Command, Image, NewTopic};

/// The brokers' own topics: shown as internal.
const INTERNAL: &[&str] = &[OFFSETS_TOPIC, "__transaction_state", "__share_group_state"];
/// Names whose folders beside the topics' are taken: the metadata log and the journal.
const RESERVED: &[&str] = &["__meta", "__commit"];
/// Kafka's name of its metadata log.
const CLUSTER_METADATA: &str = "__cluster_metadata";
/// A folder's name is no longer, with the partition's number.
const MAX_NAME_BYTES: usize = 249;
/// Partitions that one request may create.
pub(super) const MAX_NEW_PARTITIONS: i64 = 10_000;

/// Whether a topic is the brokers' own.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Whether a topic may have this name.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    let invalid =
        |why: String| Err(Refusal::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {why}")));
    if name.is_empty() {
        return invalid("it is empty".to_owned());
    }
    if name == "." || name == ".." || RESERVED.contains(&name) {
        return invalid(format!("{name:?} is not allowed"));
    }
    if name.len() > MAX_NAME_BYTES {
        return invalid(format!("it has {} characters, more than {MAX_NAME_BYTES}", name.len()));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        return invalid(format!("{name:?} has other characters than ASCII letters, digits, '.', '_' and '-'"));
    }
    Ok(())
}

/// Metrics have '_' for '.': two names that differ in nothing else would be one there.
fn check_collision(image: &Image, name: &str) -> Result<(), Refusal> {
    if !name.contains(['.', '_']) {
        return Ok(());
    }
    let alike = |other: &str| {
        other.len() == name.len()
            && other.bytes().zip(name.bytes()).all(|(a, b)| a == b || (b"._".contains(&a) && b"._".contains(&b)))
    };
    // Names that collide agree up to the first of the two characters, and follow each other up to there.
    let prefix = name.split(['.', '_']).next().unwrap_or_default();
    let candidates = image.topics_from(prefix).take_while(|topic| topic.name.starts_with(prefix));
    match candidates.map(|topic| &*topic.name).find(|other| alike(other)) {
        Some(other) => {
            let message = format!("Topic '{name}' collides with existing topic: {other}");
            Err(Refusal::new(ErrorCode::InvalidTopicException, message))
        }
        None => Ok(()),
    }
}

/// A topic as it is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Its name.
    pub name: String,
    /// Partitions; −1 for the broker's default.
    pub partitions: i32,
    /// Replicas; −1 for the broker's default.
    pub replication_factor: i16,
    /// Replicas by partition, when they were chosen by hand.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Settings.
    pub configs: Vec<(String, Option<String>)>,
}

impl Wanted {
    /// How many partitions it would have.
    pub(super) fn partition_count(&self, admin: Admin<'_>) -> i64 {
        match (self.assignments.len(), self.partitions) {
            (0, -1) => i64::from(admin.settings.broker(&admin.metadata.image()).num_partitions),
            (0, given) => i64::from(given.max(0)),
            (assigned, _) => assigned as i64,
        }
    }

    /// Checks everything, in Kafka's order, and decides where the replicas go. All topics of a request are checked
    /// against the image that it found: they do not collide with each other.
    pub(super) fn plan(&self, admin: Admin<'_>, image: &Image) -> Result<NewTopic, Refusal> {
        if self.name == CLUSTER_METADATA {
            let message = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
        check_name(&self.name)?;
        if image.topic(&self.name).is_some() {
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, format!("Topic '{}' already exists.", self.name)));
        }
        check_collision(image, &self.name)?;
        let configs = self.checked_configs(admin, image)?;
        let assignment = if self.assignments.is_empty() { self.placed(admin, image)? } else { self.assigned(image)? };
        let id =
            TopicId::from_uuid(Uuid::new_v4()).expect("a random UUID is not zero because its version bits are set");
        Ok(NewTopic { name: self.name.clone(), id, assignment, configs })
    }

    fn checked_configs(&self, admin: Admin<'_>, image: &Image) -> Result<Vec<(String, String)>, Refusal> {
        let mut own = BTreeMap::new();
        for (name, value) in &self.configs {
            let Some(value) = value else {
                let message = format!("Null value not supported for topic configs: {name}");
                return Err(Refusal::new(ErrorCode::InvalidConfig, message));
            };
            own.insert(name.clone(), value.clone());
        }
        check_topic(&admin.settings.layers(image), &own)
            .map_err(|error| Refusal::new(ErrorCode::InvalidConfig, error.to_string()))?;
        Ok(own.into_iter().collect())
    }

    /// Where the brokers put the replicas.
    fn placed(&self, admin: Admin<'_>, image: &Image) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let settings = admin.settings.broker(image);
        let replicas = match self.replication_factor {
            -1 => settings.default_replication_factor,
            given => i32::from(given),
        };
        let partitions = if self.partitions == -1 { settings.num_partitions } else { self.partitions };
        if self.replication_factor != -1 && replicas < 1 {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if partitions < 1 {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        place(image.nodes_for_replicas(), partitions as usize, replicas.max(0) as usize, rand::random::<u32>() as usize)
            .map_err(|error| Refusal::new(ErrorCode::InvalidReplicationFactor, error.to_string()))
    }

    /// Where the client put them.
    fn assigned(&self, image: &Image) -> Result<Vec<Vec<NodeId>>, Refusal> {
        for (set, what) in
            [(self.replication_factor != -1, "replication factor"), (self.partitions != -1, "numPartitions")]
        {
            if set {
                let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
        }
        let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
        let mut by_partition = BTreeMap::new();
        for (partition, replicas) in &self.assignments {
            let replicas = checked_replicas(image, replicas, by_partition.values().next().map(Vec::len))?;
            if by_partition.insert(*partition, replicas).is_some() {
                return refuse(format!("Found multiple manual partition assignments for partition {partition}"));
            }
        }
        if !by_partition.keys().copied().eq(0..by_partition.len() as i32) {
            return refuse("partitions should be a consecutive 0-based integer sequence".to_owned());
        }
        Ok(by_partition.into_values().collect())
    }
}

/// The replicas of a new partition as a client chose them; `count` is how many the topic's other partitions have.
pub(super) fn checked_replicas(image: &Image, replicas: &[i32], count: Option<usize>) -> Result<Vec<NodeId>, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    let ids = registered_replicas(image, replicas)?;
    if let Some(count) = count.filter(|count| *count != replicas.len()) {
        return refuse(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             the others, which have {count} replica(s).",
            replicas.len()
        ));
    }
    if ids.iter().all(|id| image.node(*id).is_some_and(|node| node.fenced)) {
        return refuse("All brokers specified in the manual partition assignment are fenced or unknown.".to_owned());
    }
    Ok(ids)
}

/// Replicas as a client chose them: at least one, all registered, none twice.
pub(super) fn registered_replicas(image: &Image, replicas: &[i32]) -> Result<Vec<NodeId>, Refusal> {
    let refuse = |message: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut ids = Vec::with_capacity(replicas.len());
    let mut seen = BTreeSet::new();
    for replica in replicas {
        let node = NodeId::try_from(*replica).ok().and_then(|id| image.node(id));
        let Some(node) = node else {
            return refuse(format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            ));
        };
        if !seen.insert(node.id) {
            return refuse(format!("The manual partition assignment includes the broker {replica} more than once."));
        }
        ids.push(node.id);
    }
    Ok(ids)
}

/// Makes a topic that a client asked about, with the brokers' defaults. That it exists already is fine.
pub(super) async fn create_missing(admin: Admin<'_>, name: &str, deadline: Deadline) -> Result<(), Refusal> {
    let wanted = Wanted { name: name.to_owned(), partitions: -1, replication_factor: -1, ..Wanted::default() };
    let outcome = match wanted.plan(admin, &admin.metadata.image()) {
        Ok(topic) => admin.propose(Command::CreateTopic(topic), deadline).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kafka::api::testing::Plane;

    #[test]
    fn names() {
        for good in ["a", "a.b_c-D9", "__consumer_offsets", "...", &"x".repeat(249)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "__meta", "__commit", "a\0", &"x".repeat(250)] {
            let refusal = check_name(bad).expect_err(bad);
            assert_eq!(refusal.code, ErrorCode::InvalidTopicException, "{bad}");
        }
    }

    #[tokio::test]
    async fn names_that_differ_only_in_dots_and_underscores_collide() {
        let plane = Plane::new(&[]);
        for name in ["a.b_c", "plain"] {
            plane.create(name, 1).await;
        }
        let refused = |name: &str| check_collision(&plane.image(), name).is_err();
        assert!(refused("a_b_c") && refused("a.b.c") && refused("a_b.c"));
        assert!(!refused("a.b-c") && !refused("a.b_d") && !refused("a_b") && !refused("plains"));
    }

    #[tokio::test]
    async fn a_missing_topic_gets_the_brokers_defaults_once() {
        let plane = Plane::new(&[("num.partitions", "7")]);
        for _ in 0..2 {
            let deadline = Deadline::after(Duration::from_secs(5));
            create_missing(plane.admin(), "t", deadline).await.expect("one node is enough, and again is fine");
        }
        assert_eq!(plane.image().topic("t").map(|topic| topic.partitions.len()), Some(7));
    }
}
