//! Which APIs there are, at which versions, and the dispatch to them. One file per API beside this one.
//!
//! What is in the table is advertised by `ApiVersions`, complete at every version of its range; nothing else is served.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
mod group_requests;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod replica;
pub mod sync_group;
#[cfg(test)]
pub(super) mod testing;
pub mod unregister_broker;
pub mod update_features;

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::{KafkaMessage, KafkaRequest};
use kafka_wire_core::{ApiKey, ApiVersion};

use super::service::{Answer, Call, Request, Service};
use super::wire::produce::ProduceRequest;
use super::wire::{DecodeError, DecodeRequest, EncodeResponse};
use super::{Broker, RequestContext};
use crate::io::flood::Flood;

/// The answer of a Produce request whose records are appended.
pub type Pipelined = produce::Pending;

/// One API as it is served.
pub struct Api {
    /// Its key on the wire.
    pub key: i16,
    /// Its lowest version.
    pub min: i16,
    /// Its highest version.
    pub max: i16,
    /// Its place in `APIS`, for tables by API.
    pub index: usize,
    request_name: &'static str,
    flexible_from: Option<i16>,
    start: fn(RequestContext, Bytes) -> Result<Call<Pipelined>, DecodeError>,
}

impl Api {
    /// As the protocol names it: `Produce`.
    pub fn name(&self) -> &'static str {
        self.request_name.trim_end_matches("Request")
    }

    /// The lowest version that `ApiVersions` tells: librdkafka turns compression off when Produce does not begin at 0
    /// (KAFKA-18659).
    pub fn advertised_min(&self) -> i16 {
        if self.key == <kafka_wire::ProduceRequest as KafkaRequest>::API_KEY.value() { 0 } else { self.min }
    }

    /// Whether it is served at `version`.
    pub fn has(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Whether requests of `version` have tagged fields (KIP-482).
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    /// Which header a response of `version` has: 0 without tagged fields, 1 with.
    pub fn response_header_version(&self, version: i16) -> i16 {
        kafka_wire::response_header_version(ApiKey::new(self.key), ApiVersion::new(version), self.is_flexible(version))
    }
}

#[cfg(test)]
impl Api {
    /// An API of a toy service, without tagged fields.
    pub(in crate::kafka) const fn toy(key: i16, request_name: &'static str) -> Self {
        let start = |_, _| unreachable!();
        Self { key, min: 0, max: 3, index: 0, request_name, flexible_from: None, start }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The table: kind, request, versions, handler. The kinds are those of `service::Call`.
macro_rules! apis {
    ($( $kind:ident $request:ident $min:literal..=$max:literal => $handler:path; )*) => {
        /// Every API of this broker, by key.
        pub static APIS: &[Api] = {
            const TABLE: &[Api] = &[$(
                Api {
                    key: <kafka_wire::$request as KafkaRequest>::API_KEY.value(),
                    min: $min,
                    max: $max,
                    index: place(<kafka_wire::$request as KafkaRequest>::API_KEY.value()),
                    request_name: <kafka_wire::$request as KafkaMessage>::NAME,
                    flexible_from: match <kafka_wire::$request as KafkaMessage>::FLEXIBLE_VERSIONS {
                        Some(range) => Some(range.min().value()),
                        None => None,
                    },
                    start: apis!(@$kind $handler),
                },
            )*];
            TABLE
        };

        /// The keys in the order of the table.
        const KEYS: &[i16] = &[$( <kafka_wire::$request as KafkaRequest>::API_KEY.value() ),*];

        /// Decodes a body as `start` does, and drops it: what tests and fuzzing feed.
        pub fn decode(api: &Api, version: i16, body: Bytes) -> Result<(), DecodeError> {
            $(
                if api.key == <kafka_wire::$request as KafkaRequest>::API_KEY.value() {
                    return apis!(@decode $kind $handler, body, version);
                }
            )*
            unreachable!("{api:?} is in the table")
        }
    };
    (@decode pipelined $handler:path, $body:ident, $version:ident) => {
        ProduceRequest::decode($body, $version).map(drop)
    };
    (@decode $kind:ident $handler:path, $body:ident, $version:ident) => { decode_for($handler, $body, $version) };
    (@serial $handler:path) => { |context, body| {
        let request = DecodeRequest::decode(body, context.version)?;
        Ok(Call::Serial(Box::pin(async move { answer(&context, $handler(&context, request).await) })))
    } };
    (@cancellable $handler:path) => { |context, body| {
        let request = DecodeRequest::decode(body, context.version)?;
        Ok(Call::Cancellable(Box::pin(async move { answer(&context, $handler(&context, request).await) })))
    } };
    (@pipelined $handler:path) => { $handler };
}

// `serial` and `cancellable` handlers: `async fn handle(&RequestContext, XRequest) -> XResponse`.
// `pipelined`: `fn begin(RequestContext, Bytes) -> Result<Call<Pipelined>, DecodeError>`, which has its effects before it
// returns, or, where it must wait for them, returns a `Deferred` call.
apis! {
    pipelined ProduceRequest 3..=13 => produce::begin;
    cancellable FetchRequest 4..=18 => fetch::handle;
    serial ListOffsetsRequest 1..=11 => list_offsets::handle;
    serial MetadataRequest 0..=13 => metadata::handle;
    serial OffsetCommitRequest 2..=10 => offset_commit::handle;
    serial OffsetFetchRequest 1..=10 => offset_fetch::handle;
    serial FindCoordinatorRequest 0..=6 => find_coordinator::handle;
    serial JoinGroupRequest 0..=9 => join_group::handle;
    serial HeartbeatRequest 0..=4 => heartbeat::handle;
    serial LeaveGroupRequest 0..=5 => leave_group::handle;
    serial SyncGroupRequest 0..=5 => sync_group::handle;
    serial DescribeGroupsRequest 0..=6 => describe_groups::handle;
    serial ListGroupsRequest 0..=5 => list_groups::handle;
    serial ApiVersionsRequest 0..=5 => api_versions::handle;
    serial CreateTopicsRequest 2..=7 => create_topics::handle;
    serial DeleteTopicsRequest 1..=6 => delete_topics::handle;
    cancellable DeleteRecordsRequest 0..=2 => delete_records::handle;
    serial InitProducerIdRequest 0..=5 => init_producer_id::handle;
    serial OffsetForLeaderEpochRequest 2..=4 => offset_for_leader_epoch::handle;
    serial DescribeConfigsRequest 1..=4 => describe_configs::handle;
    serial AlterConfigsRequest 0..=2 => alter_configs::handle;
    serial DescribeLogDirsRequest 1..=5 => describe_log_dirs::handle;
    serial CreatePartitionsRequest 0..=3 => create_partitions::handle;
    serial DeleteGroupsRequest 0..=3 => delete_groups::handle;
    serial ElectLeadersRequest 0..=2 => elect_leaders::handle;
    serial IncrementalAlterConfigsRequest 0..=1 => incremental_alter_configs::handle;
    serial AlterPartitionReassignmentsRequest 0..=1 => alter_partition_reassignments::handle;
    serial ListPartitionReassignmentsRequest 0..=0 => list_partition_reassignments::handle;
    serial OffsetDeleteRequest 0..=0 => offset_delete::handle;
    serial DescribeQuorumRequest 0..=2 => describe_quorum::handle;
    serial UpdateFeaturesRequest 0..=2 => update_features::handle;
    serial DescribeClusterRequest 0..=2 => describe_cluster::handle;
    serial UnregisterBrokerRequest 0..=0 => unregister_broker::handle;
    serial ListConfigResourcesRequest 0..=1 => list_config_resources::handle;
    serial DescribeTopicPartitionsRequest 0..=0 => describe_topic_partitions::handle;
}

/// Decodes what a handler takes.
fn decode_for<Q: DecodeRequest, R>(
    _handler: impl AsyncFn(&RequestContext, Q) -> R,
    body: Bytes,
    version: i16,
) -> Result<(), DecodeError> {
    Q::decode(body, version).map(drop)
}

/// The place of a key in the table.
const fn place(key: i16) -> usize {
    let mut index = 0;
    while KEYS[index] != key {
        index += 1;
    }
    index
}

/// The place of each key in the table, one more than that; 0 for none.
static PLACES: [u8; 128] = {
    let mut places = [0; 128];
    let mut index = 0;
    while index < KEYS.len() {
        assert!(index == 0 || KEYS[index - 1] < KEYS[index], "the table is ordered by key");
        places[KEYS[index] as usize] = index as u8 + 1;
        index += 1;
    }
    places
};

/// The API of this key.
pub fn find(key: i16) -> Option<&'static Api> {
    let place = *PLACES.get(usize::try_from(key).ok()?)?;
    APIS.get(usize::from(place).checked_sub(1)?)
}

/// Lines about responses that are too long.
static TOO_LONG: Flood = Flood::new("responses that are too long");

/// The longest body that a frame can hold beside its header.
const MAX_RESPONSE: usize = i32::MAX as usize - 16;

/// Encodes a handler's response. A field that the version can't carry is a defect of the handler: the client gets no
/// half-true answer but a closed connection.
fn answer(context: &RequestContext, response: impl EncodeResponse) -> Answer {
    match response.encode(context.version) {
        Ok(body) if body.len() <= MAX_RESPONSE => Answer::Body(body),
        Ok(body) => {
            if let Some(line) = TOO_LONG.line() {
                let (api, bytes, left_out) = (context.api, body.len(), line.left_out());
                tracing::warn!(?api, bytes, left_out, "a response is too long for a frame");
            }
            Answer::Close
        }
        Err(error) => {
            tracing::error!(api = ?context.api, version = context.version, %error, "a response can't be encoded");
            debug_assert!(false, "{:?} v{}: {error}", context.api, context.version);
            Answer::Close
        }
    }
}

impl Service for Arc<Broker> {
    type Pipelined = Pipelined;

    fn api(&self, key: i16) -> Option<&'static Api> {
        find(key)
    }

    fn start(&self, request: Request) -> Result<Call<Pipelined>, DecodeError> {
        let Request { api, version, client_id, peer, body } = request;
        debug_assert!(api.has(version), "connections refuse other versions");
        (api.start)(RequestContext { broker: Arc::clone(self), api, version, client_id, peer }, body)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_api_is_found_by_its_key_and_nothing_else() {
        for key in i16::MIN..=i16::MAX {
            let listed = APIS.iter().find(|api| api.key == key).map(|api| api.key);
            assert_eq!(find(key).map(|api| api.key), listed);
        }
        assert!(APIS.iter().enumerate().all(|(index, api)| api.index == index));
    }

    proptest! {
        /// No body makes a decoder panic or take memory that the body does not justify.
        #[test]
        fn any_body_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let body = Bytes::from(body);
            for api in APIS {
                for version in api.min..=api.max {
                    let _ = decode(api, version, body.clone());
                }
            }
        }
    }

    /// Two billion of anything in a request of 44 bytes, at every place where a length may be.
    #[test]
    fn a_length_of_two_billion_in_a_short_body_is_refused() {
        let lengths = [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0x80, 0, 0, 0]];
        for (api, length) in APIS.iter().flat_map(|api| lengths.map(|length| (api, length))) {
            for (version, filler, at) in (api.min..=api.max)
                .flat_map(|version| (0..30).flat_map(move |at| [0, 1].map(|filler| (version, filler, at))))
            {
                let mut body = vec![filler; 30];
                body.splice(at.., length.iter().copied().chain(std::iter::repeat_n(filler, 30 - at)));
                let _ = decode(api, version, Bytes::from(body));
            }
        }
    }

    #[test]
    fn versions_that_kafka_removed_are_not_served() {
        assert!(
            (4..=7).all(|key| find(key).is_none()),
            "LeaderAndIsr, StopReplica, UpdateMetadata, ControlledShutdown"
        );
    }
}
