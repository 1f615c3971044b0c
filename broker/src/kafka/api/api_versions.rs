//! ApiVersions (KIP-35, KIP-511, KIP-584, KIP-1242): what this broker serves.

use kafka_wire::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_wire::{ApiVersionsRequest, ApiVersionsResponse, KafkaRequest};

use crate::kafka::RequestContext;
use crate::kafka::features::{FEATURES, Feature};
use crate::kafka::wire::ErrorCode;
use crate::message;

use super::{APIS, Api};

/// Its key.
pub const KEY: i16 = <ApiVersionsRequest as KafkaRequest>::API_KEY.value();

/// Answers with the table of APIs and the features.
pub async fn handle(context: &RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let image = context.broker.metadata.image();
    let node = context.broker.node.get();
    match check(&request, context.version, image.cluster_id(), node) {
        Ok(()) => listing(context.version, image.index()),
        Err(error) => message!(ApiVersionsResponse { error_code: error.code() }),
    }
}

/// What an unknown version of ApiVersions gets, always as version 0: the error and the versions to choose from (KIP-511).
pub fn unsupported_version() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.key == KEY).map(entry).collect();
    message!(ApiVersionsResponse { error_code: ErrorCode::UnsupportedVersion.code(), api_keys: own })
}

fn check(request: &ApiVersionsRequest, version: i16, cluster_id: &str, node: i32) -> Result<(), ErrorCode> {
    if version >= 3
        && !(is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version))
    {
        return Err(ErrorCode::InvalidRequest);
    }
    match (&request.cluster_id, request.node_id) {
        (None, -1) => Ok(()),
        // KIP-1242: both or none.
        (None, _) | (Some(_), -1) => Err(ErrorCode::InvalidRequest),
        (Some(cluster), id) if cluster.as_str() == cluster_id && id == node => Ok(()),
        // The client meant another broker or another cluster.
        (Some(_), _) => Err(ErrorCode::RebootstrapRequired),
    }
}

/// KIP-511: letters and digits, and `-` and `.` between them.
fn is_software_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn listing(version: i16, epoch: u64) -> ApiVersionsResponse {
    let mut response = message!(ApiVersionsResponse { api_keys: APIS.iter().map(entry).collect() });
    if version >= 3 {
        let supported = |feature: &Feature| {
            let (min_version, max_version) = (feature.min, feature.max);
            message!(SupportedFeatureKey { name: feature.name.into(), min_version, max_version })
        };
        let finalized = |feature: &Feature| {
            let (min_version_level, max_version_level) = (feature.level, feature.level);
            message!(FinalizedFeatureKey { name: feature.name.into(), min_version_level, max_version_level })
        };
        response.supported_features = FEATURES.iter().map(supported).collect();
        response.finalized_features_epoch = epoch as i64;
        response.finalized_features = FEATURES.iter().map(finalized).collect();
    }
    response
}

fn entry(api: &Api) -> ApiVersion {
    message!(ApiVersion { api_key: api.key, min_version: api.advertised_min(), max_version: api.max })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::wire::{Body, DecodeRequest, StrBytes};

    /// What Apache Kafka 4.4.0 accepts and refuses, tried out.
    #[test]
    fn software_names_are_checked_as_kafka_does() {
        for good in ["a", "a-b", "a.b", "9a", "apache-kafka-java", "4.4.0"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".a", "a.", "a_b", "a b", " ", "é"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_misrouted_connection_is_told_so() {
        let ask = |cluster: Option<&str>, node_id| {
            let request = message!(ApiVersionsRequest {
                client_software_name: StrBytes::from("me"),
                client_software_version: StrBytes::from("1"),
                cluster_id: cluster.map(StrBytes::from),
                node_id,
            });
            check(&request, 5, "ours", 7)
        };
        assert_eq!(ask(None, -1), Ok(()));
        assert_eq!(ask(Some("ours"), 7), Ok(()));
        assert_eq!(ask(None, 7), Err(ErrorCode::InvalidRequest));
        assert_eq!(ask(Some("ours"), -1), Err(ErrorCode::InvalidRequest));
        assert_eq!(ask(Some("ours"), 8), Err(ErrorCode::RebootstrapRequired));
        assert_eq!(ask(Some("theirs"), 7), Err(ErrorCode::RebootstrapRequired));
        assert_eq!(ask(Some(""), 7), Err(ErrorCode::RebootstrapRequired));
    }

    #[test]
    fn old_versions_carry_no_software_name() {
        for version in 0..=2 {
            let request = ApiVersionsRequest::decode(bytes::Bytes::new(), version).unwrap();
            assert_eq!(check(&request, version, "ours", 7), Ok(()));
        }
    }

    #[test]
    fn every_version_of_the_answer_can_be_encoded() {
        for version in 0..=5 {
            let body = Body::encode(&listing(version, 9), version).unwrap().to_bytes();
            assert_eq!(body[..2], [0, 0]);
        }
    }

    #[test]
    fn produce_is_told_from_version_0_though_it_is_served_from_3() {
        let listed = listing(0, 0).api_keys;
        let produce = listed.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }

    /// As Apache Kafka 4.4.0 answers version 6.
    #[test]
    fn an_unknown_version_is_answered_at_version_0_with_the_versions_to_choose_from() {
        let body = Body::encode(&unsupported_version(), 0).unwrap().to_bytes();
        assert_eq!(&body[..], [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]);
    }
}
