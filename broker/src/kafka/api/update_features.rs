//! UpdateFeatures (KIP-584, KIP-778): other levels of features, as far as there are any.

use kafka_wire::update_features_request::FeatureUpdateKey;
use kafka_wire::update_features_response::UpdatableFeatureResult;
use kafka_wire::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::kafka::RequestContext;
use crate::kafka::admin::{Deadline, Refusal, code_and_text};
use crate::kafka::features::FEATURES;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// Kafka's number of an upgrade, in `UpgradeType`.
const UPGRADE: i8 = 1;
/// And of a downgrade that may lose metadata.
const UNSAFE_DOWNGRADE: i8 = 3;

/// Answers whether the features can have these levels. All have one level now, so what is granted is what is.
pub async fn handle(context: &RequestContext, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    answer(&request, context.version)
}

fn answer(request: &UpdateFeaturesRequest, version: i16) -> UpdateFeaturesResponse {
    let outcome =
        Deadline::of_request(request.timeout_ms).and_then(|_| request.feature_updates.iter().try_for_each(check));
    let (error_code, error_message) = code_and_text(&outcome);
    let mut response = message!(UpdateFeaturesResponse { error_code, error_message });
    // Old versions name each feature, but as Kafka does only where all are granted: an error stands above them alone.
    if version <= 1 && outcome.is_ok() {
        let result = |update: &FeatureUpdateKey| {
            message!(UpdatableFeatureResult { feature: update.feature.clone(), error_message: None })
        };
        response.results = request.feature_updates.iter().map(result).collect();
    }
    response
}

/// Checks one update, in Kafka's order.
fn check(update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let name = update.feature.as_str();
    let level = update.max_version_level;
    let refuse = |why: &str| {
        let message = format!(
            "The update failed for all features since the following feature had an error: Invalid update version {level} \
             for feature {name}. {why}"
        );
        Err(Refusal::new(ErrorCode::InvalidUpdateVersion, message))
    };
    if !(UPGRADE..=UNSAFE_DOWNGRADE).contains(&update.upgrade_type) {
        return refuse("The controller does not support the given upgrade type.");
    }
    if level < 0 {
        return refuse("A feature version cannot be less than 0.");
    }
    let Some(feature) = FEATURES.iter().find(|feature| feature.name == name) else {
        return refuse("This cluster does not support this feature.");
    };
    if !(feature.min..=feature.max).contains(&level) {
        return refuse(&format!("This cluster only supports versions {}-{}", feature.min, feature.max));
    }
    assert_eq!(feature.min, feature.max, "with a choice of levels, the level chosen must be kept");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::wire::EncodeResponse;

    fn ask(updates: &[(&str, i16, i8)], version: i16) -> UpdateFeaturesResponse {
        let update = |&(name, max_version_level, upgrade_type): &(&str, i16, i8)| {
            message!(FeatureUpdateKey { feature: name.into(), max_version_level, upgrade_type })
        };
        let feature_updates = updates.iter().map(update).collect();
        let response = answer(&message!(UpdateFeaturesRequest { feature_updates }), version);
        response.clone().encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        response
    }

    #[test]
    fn one_level_is_granted_and_every_other_is_refused() {
        for (update, granted) in [
            (("metadata.version", 33, 1), true),
            (("metadata.version", 33, 2), true),
            (("metadata.version", 34, 1), false),
            (("metadata.version", 32, 2), false),
            (("metadata.version", -1, 1), false),
            (("metadata.version", 33, 0), false),
            (("no.such.feature", 1, 1), false),
            (("", 1, 1), false),
        ] {
            let expected = if granted { 0 } else { ErrorCode::InvalidUpdateVersion.code() };
            for version in 0..=2 {
                assert_eq!(ask(&[update], version).error_code, expected, "{update:?}");
            }
        }
    }

    #[test]
    fn one_error_fails_all_and_old_versions_name_each_that_is_granted() {
        let granted = ("metadata.version", 33, 1);
        for version in 0..=2 {
            let refused = ask(&[granted, ("no.such.feature", 1, 1)], version);
            assert_eq!(refused.error_code, ErrorCode::InvalidUpdateVersion.code());
            assert_eq!(refused.results, []);
            let codes: Vec<_> = ask(&[granted], version).results.iter().map(|it| it.error_code).collect();
            assert_eq!(codes, vec![0; usize::from(version <= 1)]);
        }
    }

    #[test]
    fn without_time_nothing_is_tried() {
        let request = message!(UpdateFeaturesRequest { timeout_ms: 0 });
        assert_eq!(answer(&request, 2).error_code, ErrorCode::RequestTimedOut.code());
    }
}
