//! DeleteTopics (KIP-4, KIP-516).

use std::collections::{HashMap, HashSet};

use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::delete_topics_response::DeletableTopicResult;
use kafka_wire::{DeleteTopicsRequest, DeleteTopicsResponse};

use crate::ids::TopicId;
use crate::kafka::RequestContext;
use crate::kafka::admin::{Admin, Deadline, Refusal};
use crate::kafka::wire::{ErrorCode, StrBytes, Uuid};
use crate::message;
use crate::metadata::{Command, Image};

/// Deletes topics by name or by id; answers when this node's replicas of them are gone.
pub async fn handle(context: &RequestContext, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let deadline = Deadline::of_request(request.timeout_ms);
    let response = answer(Admin::of(&context.broker), &request, context.version, deadline.clone()).await;
    if let Ok(deadline) = deadline {
        deadline.applied(&context.broker).await;
    }
    response
}

/// What is asked to be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Named {
    Name(StrBytes),
    Id(Uuid),
    Both(StrBytes, Uuid),
    Nothing,
}

impl Named {
    fn of(state: &DeleteTopicState) -> Self {
        match (&state.name, state.topic_id) {
            (Some(name), id) if id.is_zero() => Self::Name(name.clone()),
            (Some(name), id) => Self::Both(name.clone(), id),
            (None, id) if id.is_zero() => Self::Nothing,
            (None, id) => Self::Id(id),
        }
    }

    fn name(&self) -> Option<StrBytes> {
        match self {
            Self::Name(name) | Self::Both(name, _) => Some(name.clone()),
            Self::Id(_) | Self::Nothing => None,
        }
    }

    fn id(&self) -> Uuid {
        match self {
            Self::Id(id) | Self::Both(_, id) => *id,
            Self::Name(_) | Self::Nothing => Uuid::ZERO,
        }
    }
}

async fn answer(
    admin: Admin<'_>,
    request: &DeleteTopicsRequest,
    version: i16,
    deadline: Result<Deadline, Refusal>,
) -> DeleteTopicsResponse {
    let image = admin.metadata.image();
    let mut responses = Vec::new();
    for (named, found) in chosen(&image, request) {
        let (name, id) = match &found {
            Ok((name, id)) => (Some(StrBytes::from(&**name)), Uuid::from_bytes(id.to_bytes())),
            Err(_) => (named.name(), named.id()),
        };
        let outcome = match found {
            Ok((_, topic)) => delete(admin, topic, &deadline).await,
            Err(refusal) => Err(refusal),
        };
        responses.push(result(name, id, &outcome, version));
    }
    message!(DeleteTopicsResponse { responses })
}

async fn delete(admin: Admin<'_>, topic: TopicId, deadline: &Result<Deadline, Refusal>) -> Result<(), Refusal> {
    if !admin.settings.broker(&admin.metadata.image()).delete_topic_enable {
        return Err(Refusal::new(ErrorCode::TopicDeletionDisabled, "delete.topic.enable is false."));
    }
    admin.propose(Command::DeleteTopic(topic), deadline.clone()?).await
}

type Found = Result<(std::sync::Arc<str>, TopicId), Refusal>;

/// What the request asks for, each once, and which topic that is.
fn chosen(image: &Image, request: &DeleteTopicsRequest) -> Vec<(Named, Found)> {
    let by_name = request.topic_names.iter().map(|name| Named::Name(name.clone()));
    let all: Vec<Named> = request.topics.iter().map(Named::of).chain(by_name).collect();
    let mut counts: HashMap<&Named, usize> = HashMap::new();
    for named in &all {
        *counts.entry(named).or_default() += 1;
    }
    let by_id: HashSet<TopicId> = all
        .iter()
        .filter_map(|named| match named {
            Named::Id(id) => TopicId::from_bytes(id.to_bytes()),
            _ => None,
        })
        .collect();
    let names: HashSet<&str> = all
        .iter()
        .filter_map(|named| match named {
            Named::Name(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let mut chosen = Vec::new();
    for named in &all {
        // Incomplete ones are answered one by one.
        let count = if matches!(named, Named::Nothing | Named::Both(..)) { Some(1) } else { counts.remove(named) };
        let Some(count) = count else { continue };
        let found = if count > 1 {
            let what = if matches!(named, Named::Id(_)) { "id" } else { "name" };
            Err(Refusal::new(ErrorCode::InvalidRequest, format!("Duplicate topic {what}.")))
        } else {
            look_up(image, named)
        };
        match found {
            // Named by name and by id: one answer, with both.
            Ok((_, id)) if matches!(named, Named::Name(_)) && by_id.contains(&id) => {}
            Ok((name, id)) if matches!(named, Named::Id(_)) && names.contains(&*name) => {
                let message = "The provided topic name maps to an ID that was already supplied.";
                let both = Named::Both(StrBytes::from(&*name), Uuid::from_bytes(id.to_bytes()));
                chosen.push((both, Err(Refusal::new(ErrorCode::InvalidRequest, message))));
            }
            found => chosen.push((named.clone(), found)),
        }
    }
    chosen
}

fn look_up(image: &Image, named: &Named) -> Found {
    let refuse = |code: ErrorCode, message: &str| Err(Refusal::new(code, message));
    match named {
        Named::Nothing => refuse(ErrorCode::InvalidRequest, "Neither topic name nor id were specified."),
        Named::Both(..) => refuse(ErrorCode::InvalidRequest, "You may not specify both topic name and topic id."),
        Named::Name(name) => match image.topic(name) {
            Some(topic) => Ok((topic.name.clone(), topic.id)),
            None => refuse(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition."),
        },
        Named::Id(id) => match TopicId::from_bytes(id.to_bytes()).and_then(|id| image.topic_by_id(id)) {
            Some(topic) => Ok((topic.name.clone(), topic.id)),
            None => refuse(ErrorCode::UnknownTopicId, "This server does not host this topic ID."),
        },
    }
}

fn result(name: Option<StrBytes>, id: Uuid, outcome: &Result<(), Refusal>, version: i16) -> DeletableTopicResult {
    let mut result = message!(DeletableTopicResult { name });
    if version >= 6 {
        result.topic_id = id;
    }
    if let Err(refusal) = outcome {
        result.error_code = refusal.code.code();
        if version >= 5 {
            result.error_message = refusal.text();
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kafka::api::testing::Plane;
    use crate::kafka::wire::EncodeResponse;

    fn by_name(name: &str) -> DeleteTopicState {
        message!(DeleteTopicState { name: Some(name.into()) })
    }

    fn by_id(plane: &Plane, name: &str) -> DeleteTopicState {
        let id = plane.image().topic(name).map_or([7; 16], |topic| topic.id.to_bytes());
        message!(DeleteTopicState { topic_id: Uuid::from_bytes(id) })
    }

    async fn ask(plane: &Plane, topics: Vec<DeleteTopicState>) -> Vec<(Option<String>, i16)> {
        let request = message!(DeleteTopicsRequest { topics, timeout_ms: 5000 });
        let response = answer(plane.admin(), &request, 6, Deadline::of_request(5000)).await;
        response.responses.into_iter().map(|it| (it.name.map(StrBytes::into_string), it.error_code)).collect()
    }

    #[tokio::test]
    async fn each_way_to_name_a_topic() {
        let plane = Plane::new(&[]);
        for name in ["a", "b", "c"] {
            plane.create(name, 1).await;
        }
        let invalid = ErrorCode::InvalidRequest.code();
        let named = |name: &str, code: i16| (Some(name.to_owned()), code);
        let mut both = by_id(&plane, "c");
        both.name = Some("c".into());
        let (a, b, nobody) = (by_name("a"), by_id(&plane, "b"), by_id(&plane, "nobody"));
        for (topics, expected) in [
            (vec![by_name("a/b")], vec![named("a/b", ErrorCode::UnknownTopicOrPartition.code())]),
            (vec![nobody], vec![(None, ErrorCode::UnknownTopicId.code())]),
            (vec![DeleteTopicState::default()], vec![(None, invalid)]),
            (vec![both], vec![named("c", invalid)]),
            (vec![a.clone(), a.clone()], vec![named("a", invalid)]),
            (vec![b.clone(), b.clone()], vec![(None, invalid)]),
            (vec![b.clone(), by_name("b")], vec![named("b", invalid)]),
            (vec![], vec![]),
            (vec![a, b], vec![named("a", 0), named("b", 0)]),
        ] {
            assert_eq!(ask(&plane, topics.clone()).await, expected, "{topics:?}");
        }
        assert_eq!(plane.image().topics().map(|topic| &*topic.name).collect::<Vec<_>>(), ["c"]);
    }

    #[tokio::test]
    async fn deletion_can_be_disabled() {
        let plane = Plane::new(&[("delete.topic.enable", "false")]);
        plane.create("a", 1).await;
        let disabled = ErrorCode::TopicDeletionDisabled.code();
        assert_eq!(ask(&plane, vec![by_name("a")]).await, [(Some("a".to_owned()), disabled)]);
    }

    #[tokio::test]
    async fn every_version_can_be_encoded() {
        let plane = Plane::new(&[]);
        for version in 1..=6 {
            plane.create("a", 1).await;
            let mut request = message!(DeleteTopicsRequest { timeout_ms: 5000 });
            if version < 6 {
                request.topic_names = vec!["a".into(), "none".into()];
            } else {
                request.topics = vec![by_name("a"), by_name("none")];
            }
            let response = answer(plane.admin(), &request, version, Ok(Deadline::after(Duration::from_secs(5)))).await;
            assert_eq!(response.responses[0].error_code, 0);
            response.encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        }
    }
}
