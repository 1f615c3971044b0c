//! A whole broker over a test node, for the tests of the APIs that read and write records.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_wire::{KafkaRequest, KafkaResponse};
use kafka_wire_core::{ApiVersion, DecodeLimits, KafkaEncode};

use super::fetch_session::FetchSessions;
use super::offload::Offload;
use super::response_memory::ResponseMemory;
use super::wire::{Body, StrBytes, Uuid};
use super::{Broker, RequestContext, api};
use crate::config::{Settings, load};
use crate::coordinator::producer_ids::ProducerIds;
use crate::coordinator::{GroupCoordinator, GroupOptions};
use crate::ids::TopicId;
use crate::io::clock::{Clock, SystemClock};
use crate::metadata::MetadataPlane;
use crate::metadata::one_member::OneMember;
use crate::stream::testing::{NODE, Node};

/// A broker whose WAL the test flushes. Within a runtime.
pub(crate) struct TestBroker {
    pub(crate) node: Node,
    pub(crate) broker: Arc<Broker>,
}

impl TestBroker {
    pub(crate) fn start() -> Self {
        Self::start_with(&[], ResponseMemory::default())
    }

    /// With so much memory for Fetch responses.
    pub(crate) fn with_response_memory(response_memory: ResponseMemory) -> Self {
        Self::start_with(&[], response_memory)
    }

    /// With these settings.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        Self::start_with(settings, ResponseMemory::default())
    }

    fn start_with(settings: &[(&str, &str)], response_memory: ResponseMemory) -> Self {
        let node = Node::stepped();
        let given = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Arc::new(Settings::new(load(None, [], given).expect("the test's settings are valid")));
        let metadata: Arc<dyn MetadataPlane> = Arc::clone(&node.plane) as _;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let options = GroupOptions::of(&settings.at_start());
        let partitions = Arc::clone(&node.partitions);
        let broker = Broker {
            node: NODE,
            groups: GroupCoordinator::start(
                options,
                Arc::clone(&clock),
                Arc::clone(&metadata),
                Arc::clone(&partitions),
            ),
            producer_ids: ProducerIds::start(NODE, Arc::clone(&metadata)),
            metadata,
            quorum: OneMember::of_all(&node.plane, [NODE].into_iter()).remove(0),
            partitions,
            logs: Arc::clone(&node.logs),
            wal: Arc::clone(&node.wal),
            settings,
            fetch_sessions: Arc::new(FetchSessions::new(10)),
            offload: Offload::default(),
            response_memory,
            clock,
        };
        Self { node, broker: Arc::new(broker) }
    }

    /// What a handler is given with a request of type `R`.
    pub(crate) fn context<R: KafkaRequest>(&self, version: i16) -> RequestContext {
        RequestContext {
            broker: Arc::clone(&self.broker),
            api: api::find(R::API_KEY.value()).expect("the API is served"),
            version,
            client_id: StrBytes::default(),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
        }
    }
}

/// A request as a client encodes it.
pub(crate) fn encoded(request: &impl KafkaEncode, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    request.encode_into(&mut bytes, ApiVersion::new(version)).expect("the test's request fits the version");
    bytes.freeze()
}

/// A response as a client decodes it.
pub(crate) fn decoded<R: KafkaResponse>(body: &Body, version: i16) -> R {
    R::decode_from_bytes(body.to_bytes(), ApiVersion::new(version), DecodeLimits::default()).expect("it can be decoded")
}

/// A topic's id on the wire.
pub(crate) fn wire_id(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}
