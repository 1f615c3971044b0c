//! Which operations a client may do (KIP-430): all, as long as nothing is authorized.

/// One bit for each operation, by Kafka's numbers of them: what can be done to a topic.
pub(super) const TOPIC_OPERATIONS: i32 =
    bits(&[READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);
/// What can be done to the cluster.
pub(super) const CLUSTER_OPERATIONS: i32 =
    bits(&[CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE]);

const READ: u8 = 3;
const WRITE: u8 = 4;
const CREATE: u8 = 5;
const DELETE: u8 = 6;
const ALTER: u8 = 7;
const DESCRIBE: u8 = 8;
const CLUSTER_ACTION: u8 = 9;
const DESCRIBE_CONFIGS: u8 = 10;
const ALTER_CONFIGS: u8 = 11;
const IDEMPOTENT_WRITE: u8 = 12;

const fn bits(operations: &[u8]) -> i32 {
    let mut bits = 0;
    let mut index = 0;
    while index < operations.len() {
        bits |= 1 << operations[index];
        index += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    /// As Apache Kafka 4.4 answers without an authorizer.
    #[test]
    fn bits_are_kafkas() {
        assert_eq!(super::TOPIC_OPERATIONS, 3576);
        assert_eq!(super::CLUSTER_OPERATIONS, 8096);
    }
}
