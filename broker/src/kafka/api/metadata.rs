//! Metadata: brokers, topics, partitions and their leaders (KIP-4, KIP-430, KIP-516).

use std::collections::HashSet;
use std::time::Duration;

use kafka_wire::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_wire::{MetadataRequest, MetadataResponse};

use crate::coordinator::OFFSETS_TOPIC;
use crate::ids::{NodeId, TopicId};
use crate::io::flood::Flood;
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline};
use crate::kafka::authorized::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS};
use crate::kafka::topics::{check_name, create_missing, is_internal};
use crate::kafka::wire::{ErrorCode, StrBytes, Uuid};
use crate::message;
use crate::metadata::{Image, PartitionRegistration, Topic};

/// Lines about topics that are not created.
static NOT_CREATED: Flood = Flood::new("topics that are not created");

/// How long the creation of a topic that a request names may keep the answer waiting.
const CREATION: Duration = Duration::from_secs(5);

/// Answers from this node's image; a topic that is created for the request is told by the next one, as in Kafka.
pub async fn handle(context: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let admin = Admin::of(&context.broker);
    let image = admin.metadata.image();
    let response = answer(admin, &image, &request, context.version);
    let deadline = Deadline::after(CREATION);
    let missing = to_create(admin, &image, &request, context.version);
    for name in &missing {
        if *name == OFFSETS_TOPIC {
            // The group coordinator makes its own topic when it is asked for a group.
            context.broker.groups.find("").await;
        } else if let Err(refusal) = create_missing(admin, name, deadline).await
            && let Some(line) = NOT_CREATED.line()
        {
            let (code, message) = (refusal.code, refusal.message);
            tracing::warn!(topic = %name, ?code, message, left_out = line.left_out(), "a topic is not created");
        }
    }
    if !missing.is_empty() {
        deadline.applied(&context.broker).await;
    }
    response
}

/// The topics that the request names, that do not exist, and that it may have created.
fn to_create<'a>(admin: Admin<'_>, image: &Image, request: &'a MetadataRequest, version: i16) -> Vec<&'a str> {
    let allowed = version < 4 || request.allow_auto_topic_creation;
    if !allowed || malformed(request, version).is_some() || !admin.settings.broker(image).auto_create_topics_enable {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let named =
        request.topics.iter().flatten().filter(|topic| topic.topic_id.is_zero()).filter_map(|it| it.name.as_ref());
    named
        .map(StrBytes::as_str)
        .filter(|name| image.topic(name).is_none() && check_name(name).is_ok())
        .filter(|name| *name == OFFSETS_TOPIC || !is_internal(name))
        .filter(|name| seen.insert(*name))
        .collect()
}

fn answer(admin: Admin<'_>, image: &Image, request: &MetadataRequest, version: i16) -> MetadataResponse {
    if let Some(code) = malformed(request, version) {
        return refused(request, code, version);
    }
    let shape = Shape { version, operations: request.include_topic_authorized_operations };
    let topics = match &request.topics {
        None => image.topics().map(|topic| shape.topic(image, topic)).collect(),
        Some(named) if named.is_empty() && version == 0 => {
            image.topics().map(|topic| shape.topic(image, topic)).collect()
        }
        Some(named) => {
            let mut seen = HashSet::new();
            let once = |topic: &&kafka_wire::metadata_request::MetadataRequestTopic| {
                seen.insert((topic.topic_id, topic.name.clone().filter(|_| topic.topic_id.is_zero())))
            };
            named.iter().filter(once).map(|topic| shape.asked(image, topic)).collect()
        }
    };
    let mut response = message!(MetadataResponse { brokers: brokers(image, version), topics });
    if version >= 1 {
        response.controller_id = controller(image, admin.metadata.leader());
    }
    if version >= 2 {
        response.cluster_id = Some(image.cluster_id().into());
    }
    if (8..=10).contains(&version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// What is wrong with the request itself: ids before they could be asked for, or a topic that is not named at all.
fn malformed(request: &MetadataRequest, version: i16) -> Option<ErrorCode> {
    let topics = request.topics.as_deref().unwrap_or_default();
    if (10..12).contains(&version) && topics.iter().any(|topic| topic.name.is_none() || !topic.topic_id.is_zero()) {
        return Some(ErrorCode::InvalidRequest);
    }
    // Kafka stumbles over it, and so tells clients.
    topics.iter().any(|topic| topic.name.is_none() && topic.topic_id.is_zero()).then_some(ErrorCode::UnknownServerError)
}

fn refused(request: &MetadataRequest, code: ErrorCode, version: i16) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        message!(MetadataResponseTopic {
            error_code: code.code(),
            name: Some(topic.name.clone().unwrap_or_default()),
            topic_id: topic.topic_id,
        })
    });
    let mut response = message!(MetadataResponse { topics: topics.collect() });
    if version >= 13 {
        response.error_code = code.code();
    }
    response
}

/// The brokers that serve clients.
fn brokers(image: &Image, version: i16) -> Vec<MetadataResponseBroker> {
    let alive = image.nodes().filter(|node| !node.fenced);
    alive
        .map(|node| {
            let mut broker = message!(MetadataResponseBroker {
                node_id: node.id.get(),
                host: node.host.as_str().into(),
                port: i32::from(node.port),
            });
            if version >= 1 {
                broker.rack = node.rack.as_deref().map(Into::into);
            }
            broker
        })
        .collect()
}

/// Whom clients send what changes metadata: the leader of the metadata plane, or any broker, which passes it on.
pub(super) fn controller(image: &Image, leader: Option<NodeId>) -> i32 {
    let alive = |id: &NodeId| image.node(*id).is_some_and(|node| !node.fenced);
    leader.filter(alive).or_else(|| image.nodes().find(|node| !node.fenced).map(|node| node.id)).map_or(-1, NodeId::get)
}

/// How a response of one version shows topics.
struct Shape {
    version: i16,
    operations: bool,
}

impl Shape {
    fn asked(
        &self,
        image: &Image,
        asked: &kafka_wire::metadata_request::MetadataRequestTopic,
    ) -> MetadataResponseTopic {
        if !asked.topic_id.is_zero() {
            return match TopicId::from_bytes(asked.topic_id.to_bytes()).and_then(|id| image.topic_by_id(id)) {
                Some(topic) => self.topic(image, topic),
                None => message!(MetadataResponseTopic {
                    error_code: ErrorCode::UnknownTopicId.code(),
                    topic_id: asked.topic_id,
                    name: None,
                }),
            };
        }
        let name = asked.name.clone().unwrap_or_default();
        if let Some(topic) = image.topic(&name) {
            return self.topic(image, topic);
        }
        let code = match check_name(&name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(refusal) => refusal.code,
        };
        let mut topic = message!(MetadataResponseTopic { error_code: code.code(), name: Some(name.clone()) });
        if self.version >= 1 {
            topic.is_internal = is_internal(&name);
        }
        topic
    }

    fn topic(&self, image: &Image, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().enumerate();
        let mut shown = message!(MetadataResponseTopic {
            name: Some(StrBytes::from(&*topic.name)),
            partitions: partitions.map(|(index, partition)| self.partition(image, index, partition)).collect(),
        });
        if self.version >= 1 {
            shown.is_internal = is_internal(&topic.name);
        }
        if self.version >= 10 {
            shown.topic_id = Uuid::from_bytes(topic.id.to_bytes());
        }
        if self.version >= 8 && self.operations {
            shown.topic_authorized_operations = TOPIC_OPERATIONS;
        }
        shown
    }

    fn partition(&self, image: &Image, index: usize, partition: &PartitionRegistration) -> MetadataResponsePartition {
        let alive = |id: &NodeId| image.node(*id).is_some_and(|node| !node.fenced);
        let leader = partition.leader.filter(alive);
        let ids = |nodes: &[NodeId]| -> Vec<i32> {
            // Clients of version 0 take every replica for one that is alive.
            nodes.iter().filter(|id| self.version > 0 || alive(id)).map(|id| id.get()).collect()
        };
        let (replicas, isr) = (ids(&partition.replicas), ids(&partition.isr));
        let missing = replicas.len() < partition.replicas.len() || isr.len() < partition.isr.len();
        let code = match leader {
            None => ErrorCode::LeaderNotAvailable,
            Some(_) if missing => ErrorCode::ReplicaNotAvailable,
            Some(_) => ErrorCode::None,
        };
        let mut shown = message!(MetadataResponsePartition {
            error_code: code.code(),
            partition_index: index as i32,
            leader_id: leader.map_or(-1, NodeId::get),
            replica_nodes: replicas,
            isr_nodes: isr,
        });
        if self.version >= 5 {
            shown.offline_replicas = offline(image, partition);
        }
        if self.version >= 7 {
            shown.leader_epoch = partition.leader_epoch.get();
        }
        shown
    }
}

/// The replicas of nodes that are not alive.
pub(super) fn offline(image: &Image, partition: &PartitionRegistration) -> Vec<i32> {
    let dead = |id: &&NodeId| image.node(**id).is_none_or(|node| node.fenced);
    partition.replicas.iter().filter(dead).map(|id| id.get()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;
    use crate::metadata::{Command, MetadataPlane};
    use kafka_wire::metadata_request::MetadataRequestTopic;

    fn named(name: &str) -> MetadataRequestTopic {
        message!(MetadataRequestTopic { name: Some(name.into()) })
    }

    fn with_id(id: [u8; 16]) -> MetadataRequestTopic {
        message!(MetadataRequestTopic { topic_id: Uuid::from_bytes(id), name: None })
    }

    fn ask(plane: &Plane, topics: Option<Vec<MetadataRequestTopic>>, version: i16) -> MetadataResponse {
        let request = message!(MetadataRequest { topics });
        answer(plane.admin(), &plane.image(), &request, version)
    }

    fn told(response: &MetadataResponse) -> Vec<(Option<&str>, i16)> {
        response.topics.iter().map(|topic| (topic.name.as_deref(), topic.error_code)).collect()
    }

    #[tokio::test]
    async fn null_asks_for_all_topics_and_an_empty_list_for_none() {
        let plane = Plane::new(&[]);
        plane.create("t", 2).await;
        assert_eq!(told(&ask(&plane, None, 1)), [(Some("t"), 0)]);
        assert_eq!(told(&ask(&plane, Some(vec![]), 1)), []);
        assert_eq!(told(&ask(&plane, Some(vec![]), 0)), [(Some("t"), 0)]);
    }

    #[tokio::test]
    async fn errors_by_topic() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        let id = plane.image().topic("t").expect("created").id.to_bytes();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let invalid = ErrorCode::InvalidTopicException.code();
        let topics = vec![named("none"), named("a/b"), named(""), named("t"), named("t")];
        let response = ask(&plane, Some(topics), 4);
        assert_eq!(
            told(&response),
            [(Some("none"), unknown), (Some("a/b"), invalid), (Some(""), invalid), (Some("t"), 0)]
        );
        let response = ask(&plane, Some(vec![with_id(id), with_id([9; 16])]), 12);
        assert_eq!(told(&response), [(Some("t"), 0), (None, ErrorCode::UnknownTopicId.code())]);
        let response = ask(&plane, Some(vec![with_id([0; 16])]), 13);
        assert_eq!(told(&response), [(Some(""), ErrorCode::UnknownServerError.code())]);
        assert_eq!((response.error_code, response.controller_id), (-1, -1));
        assert_eq!(told(&ask(&plane, Some(vec![with_id(id)]), 10))[0].1, ErrorCode::InvalidRequest.code());
    }

    #[test]
    fn only_what_may_be_created_is() {
        let plane = Plane::new(&[]);
        let mut request = message!(MetadataRequest { topics: Some(vec![named("a/b"), named("new"), named("new")]) });
        let names = |plane: &Plane, request: &MetadataRequest, version| {
            to_create(plane.admin(), &plane.image(), request, version).len()
        };
        request.allow_auto_topic_creation = true;
        assert_eq!(to_create(plane.admin(), &plane.image(), &request, 4), ["new"]);
        request.allow_auto_topic_creation = false;
        assert_eq!(names(&plane, &request, 4), 0);
        assert_eq!(names(&plane, &request, 3), 1);
        assert_eq!(names(&Plane::new(&[("auto.create.topics.enable", "false")]), &request, 3), 0);
    }

    #[tokio::test]
    async fn a_partition_whose_leader_died_has_none() {
        let plane = Plane::new(&[]);
        plane.create("t", 1).await;
        let epoch = plane.image().node(NodeId::FIRST).expect("registered").epoch;
        let fence = Command::FenceNode { node: NodeId::FIRST, epoch };
        plane.metadata.propose(fence).await.expect("applied");
        let response = ask(&plane, None, 9);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::LeaderNotAvailable.code(), -1));
        assert_eq!(partition.offline_replicas, [0]);
        assert!(response.brokers.is_empty());
        let response = ask(&plane, None, 0);
        assert!(response.topics[0].partitions[0].replica_nodes.is_empty());
    }

    #[tokio::test]
    async fn every_version_can_be_encoded() {
        let plane = Plane::new(&[]);
        plane.create("__consumer_offsets", 1).await;
        for version in 0..=13 {
            let topics = Some(vec![named("__consumer_offsets"), named("none"), named("a/b")]);
            let request = message!(MetadataRequest {
                topics,
                include_cluster_authorized_operations: true,
                include_topic_authorized_operations: true,
            });
            let response = answer(plane.admin(), &plane.image(), &request, version);
            assert_eq!(response.topics[0].topic_authorized_operations == TOPIC_OPERATIONS, version >= 8);
            response.encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
