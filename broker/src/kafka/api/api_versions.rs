//! ApiVersions (KIP-35, KIP-511, KIP-584): what this broker serves.

use kafka_wire::{ApiVersionsRequest, ApiVersionsResponse, api_versions_response::ApiVersion};

use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

use super::APIS;

/// Answers with the table of APIs.
pub async fn handle(_context: &RequestContext, _request: ApiVersionsRequest) -> ApiVersionsResponse {
    message!(ApiVersionsResponse { api_keys: listing() })
}

/// What an unknown version of ApiVersions gets, always as v0 (KIP-511): the error and the versions to choose from.
pub fn unsupported_version() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.name() == "ApiVersions").map(entry).collect();
    message!(ApiVersionsResponse { error_code: ErrorCode::UnsupportedVersion.code(), api_keys: own })
}

fn listing() -> Vec<ApiVersion> {
    APIS.iter().map(entry).collect()
}

fn entry(api: &super::Api) -> ApiVersion {
    message!(ApiVersion { api_key: api.key, min_version: api.min, max_version: api.max })
}
