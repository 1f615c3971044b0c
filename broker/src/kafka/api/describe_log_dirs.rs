//! DescribeLogDirs (KIP-113, KIP-827): the data folder, its space, and the logs in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use kafka_wire::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic};
use kafka_wire::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use crate::kafka::RequestContext;
use crate::kafka::wire::ErrorCode;
use crate::message;

/// What Kafka says where it does not know the space.
const UNKNOWN: i64 = -1;

/// One log as it is told.
struct Stored {
    topic: String,
    partition: i32,
    bytes: i64,
}

/// Answers what lies in the data folder.
pub async fn handle(context: &RequestContext, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let replicas = context.broker.partitions.all();
    let stored = replicas.iter().map(|replica| Stored {
        topic: replica.topic().to_string(),
        partition: replica.id().partition.get(),
        bytes: replica.log().size_bytes() as i64,
    });
    let folder = &context.broker.settings.config().data_dir;
    let space = space(folder);
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
    answer(&request, stored, &path, space, context.version)
}

/// Bytes in all and bytes free of the folder's file system.
fn space(folder: &Path) -> (i64, i64) {
    match rustix::fs::statvfs(folder) {
        Ok(found) => {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
            (bytes(found.f_blocks), bytes(found.f_bavail))
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "cannot tell the data folder's space");
            (UNKNOWN, UNKNOWN)
        }
    }
}

fn answer(
    request: &DescribeLogDirsRequest,
    stored: impl Iterator<Item = Stored>,
    folder: &Path,
    (total_bytes, usable_bytes): (i64, i64),
    version: i16,
) -> DescribeLogDirsResponse {
    let mut asked: HashMap<&str, HashSet<i32>> = HashMap::new();
    for topic in request.topics.iter().flatten() {
        asked.entry(topic.topic.as_str()).or_default().extend(&topic.partitions);
    }
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for log in stored {
        let wanted =
            request.topics.is_none() || asked.get(log.topic.as_str()).is_some_and(|it| it.contains(&log.partition));
        if wanted {
            let partition =
                message!(DescribeLogDirsPartition { partition_index: log.partition, partition_size: log.bytes });
            topics.entry(log.topic).or_default().push(partition);
        }
    }
    let topic = |(name, partitions): (String, Vec<DescribeLogDirsPartition>)| {
        message!(DescribeLogDirsTopic { name: name.into(), partitions })
    };
    let mut result = message!(DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: folder.display().to_string().into(),
        topics: topics.into_iter().map(topic).collect(),
    });
    if version >= 4 {
        result.total_bytes = total_bytes;
        result.usable_bytes = usable_bytes;
    }
    message!(DescribeLogDirsResponse { results: vec![result] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::wire::EncodeResponse;
    use kafka_wire::describe_log_dirs_request::DescribableLogDirTopic;

    fn ask(topics: Option<&[(&str, &[i32])]>, version: i16) -> Vec<(String, Vec<i32>)> {
        let log = |topic: &str, partition| Stored { topic: topic.to_owned(), partition, bytes: 7 };
        let stored = [log("b", 0), log("a", 0), log("a", 1)];
        let topic = |(topic, partitions): &(&str, &[i32])| {
            message!(DescribableLogDirTopic { topic: (*topic).into(), partitions: partitions.to_vec() })
        };
        let request =
            message!(DescribeLogDirsRequest { topics: topics.map(|topics| topics.iter().map(topic).collect()) });
        let response = answer(&request, stored.into_iter(), Path::new("/data"), (100, 50), version);
        response.clone().encode(version).unwrap_or_else(|error| panic!("v{version}: {error}"));
        let result = &response.results[0];
        assert_eq!(result.log_dir.as_str(), "/data");
        assert_eq!(result.usable_bytes, if version >= 4 { 50 } else { UNKNOWN });
        let shown = result.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|it| it.partition_index).collect();
            (topic.name.as_str().to_owned(), partitions)
        });
        shown.collect()
    }

    #[test]
    fn null_asks_for_all_and_a_list_for_what_it_names() {
        let shown = |topic: &str, partitions: &[i32]| (topic.to_owned(), partitions.to_vec());
        for version in 1..=5 {
            assert_eq!(ask(None, version), [shown("a", &[0, 1]), shown("b", &[0])]);
            assert_eq!(ask(Some(&[]), version), []);
            assert_eq!(ask(Some(&[("a", &[1, 9]), ("none", &[0])]), version), [shown("a", &[1])]);
        }
    }
}
