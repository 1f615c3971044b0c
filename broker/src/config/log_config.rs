//! What the logs take from the settings.

use super::{BrokerSettings, TopicConfig};
use crate::log::{
    CleanupPolicy, Compression, CompressionLevels, LogConfig, StoreOptions, TimestampType, TopicCompression,
};

impl TopicConfig {
    /// As a log takes it. The values are valid: ranges and texts were checked when they were read.
    pub fn log_config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: self.segment_bytes as u32,
            segment_ms: self.segment_ms,
            retention_bytes: unlimited(self.retention_bytes),
            retention_ms: unlimited(self.retention_ms),
            cleanup_policy: CleanupPolicy {
                delete: self.cleanup_policy.iter().any(|it| it == "delete"),
                compact: self.cleanup_policy.iter().any(|it| it == "compact"),
            },
            max_message_bytes: self.max_message_bytes as u32,
            timestamp_type: match self.message_timestamp_type.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: self.message_timestamp_before_max_ms,
            timestamp_after_max_ms: self.message_timestamp_after_max_ms,
            compression: compression(&self.compression_type),
            compression_levels: CompressionLevels {
                gzip: self.compression_gzip_level,
                lz4: self.compression_lz4_level,
                zstd: self.compression_zstd_level,
            },
            index_interval_bytes: self.index_interval_bytes as u32,
            min_cleanable_dirty_ratio: self.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: self.min_compaction_lag_ms as u64,
            max_compaction_lag_ms: self.max_compaction_lag_ms as u64,
            delete_retention_ms: self.delete_retention_ms as u64,
            file_delete_delay_ms: self.file_delete_delay_ms as u64,
        }
    }
}

impl BrokerSettings {
    /// As the log store takes it.
    pub fn store_options(&self) -> StoreOptions {
        let limit = self.log_cleaner_io_max_bytes_per_second;
        StoreOptions {
            retention_check_interval_ms: self.log_retention_check_interval_ms as u64,
            cleaner_backoff_ms: self.log_cleaner_backoff_ms as u64,
            cleaner_dedupe_bytes: self.log_cleaner_dedupe_buffer_size.max(0) as u64,
            cleaner_io_bytes_per_second: (limit < u64::MAX as f64).then_some(limit.max(1.0) as u64),
            producer_id_expiration_ms: self.producer_id_expiration_ms as u64,
        }
    }
}

/// Negative is without a limit.
fn unlimited(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok()
}

fn compression(name: &str) -> TopicCompression {
    TopicCompression::Always(match name {
        "uncompressed" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => return TopicCompression::Producer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn defaults_are_kafkas() {
        let config = Layers::default().topic_config(|_| None).log_config();
        assert_eq!(config.segment_bytes, 1 << 30);
        assert_eq!(config.retention_ms, Some(604_800_000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(config.compression, TopicCompression::Producer);
        assert_eq!(config.max_message_bytes, 1_048_588);
        let options = Layers::default().broker_settings().store_options();
        assert_eq!(options.cleaner_io_bytes_per_second, None);
        assert_eq!(options.retention_check_interval_ms, 300_000);
    }

    #[test]
    fn uncompressed_is_stored_uncompressed() {
        let own = |name: &str| match name {
            "compression.type" => Some("uncompressed"),
            "cleanup.policy" => Some("compact,delete"),
            "retention.ms" => Some("-1"),
            _ => None,
        };
        let config = Layers::default().topic_config(own).log_config();
        assert_eq!(config.compression, TopicCompression::Always(Compression::None));
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
        assert_eq!(config.retention_ms, None);
    }
}
