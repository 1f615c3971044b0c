//! Builds v2 record batches: for coordinators, the command-line client and tests.

use bytes::Bytes;

use crate::ids::{ProducerEpoch, ProducerId};

use super::batch::{BatchHeader, HEADER_BYTES, NO_TIMESTAMP};
use super::compression::compress;
use super::config::{Compression, CompressionLevels, TimestampType};
use super::record::RecordParts;

/// How a transaction ended (KIP-98), as its marker tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// Its records never count.
    Abort,
    /// Its records count.
    Commit,
}

impl TransactionEnd {
    /// The marker's control record type.
    pub fn control_type(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
        }
    }
}

/// A batch in the making, as a producer sends it: base offset 0, no leader epoch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    compression: Compression,
    levels: CompressionLevels,
    producer: Option<(ProducerId, ProducerEpoch, i32)>,
    transactional: bool,
    control: bool,
    timestamps: TimestampType,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    count: i32,
    records: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            levels: CompressionLevels::default(),
            producer: None,
            transactional: false,
            control: false,
            timestamps: TimestampType::CreateTime,
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            count: 0,
            records: Vec::new(),
        }
    }

    /// The marker that ends a producer's transaction: a control batch of one record.
    pub fn transaction_marker(
        timestamp_ms: i64,
        producer_id: ProducerId,
        epoch: ProducerEpoch,
        end: TransactionEnd,
        coordinator_epoch: i32,
    ) -> Self {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&end.control_type().to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
        let mut builder = Self::new(Compression::None).transactional(producer_id, epoch, -1);
        builder.control = true;
        builder.record(timestamp_ms, Some(&key), Some(&value))
    }

    /// Compression levels other than Kafka's defaults.
    #[must_use]
    pub fn levels(mut self, levels: CompressionLevels) -> Self {
        self.levels = levels;
        self
    }

    /// Numbers the records for an idempotent producer.
    #[must_use]
    pub fn idempotent(mut self, producer_id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.producer = Some((producer_id, epoch, base_sequence));
        self
    }

    /// Makes it part of the producer's transaction.
    #[must_use]
    pub fn transactional(mut self, producer_id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.transactional = true;
        self.idempotent(producer_id, epoch, base_sequence)
    }

    /// Adds a record without headers.
    #[must_use]
    pub fn record(self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.record_with_headers(timestamp_ms, key, value, std::iter::empty())
    }

    /// Adds a record.
    #[must_use]
    pub fn record_with_headers<'a>(
        mut self,
        timestamp_ms: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Self {
        self.push(timestamp_ms, key, value, headers);
        self
    }

    /// Adds a record in place.
    pub fn push<'a>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(base);
        RecordParts { timestamp_delta, offset_delta: self.count, key, value, headers }.encode(&mut self.records);
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the batch so far, before compression.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch.
    ///
    /// # Panics
    /// When it has no record: no batch may be empty.
    pub fn build(self) -> Bytes {
        Bytes::from(self.build_vec())
    }

    /// Marks the timestamps as the broker's: all records have `now_ms`.
    pub(super) fn append_time(mut self, now_ms: i64) -> Self {
        self.timestamps = TimestampType::LogAppendTime;
        self.max_timestamp = now_ms;
        self
    }

    /// The batch, changeable.
    pub(super) fn build_vec(self) -> Vec<u8> {
        assert!(self.count > 0, "a batch has at least one record");
        let mut batch = vec![0; HEADER_BYTES];
        compress(self.compression, self.levels, &self.records, &mut batch)
            .expect("compressed because writing to memory cannot fail");
        let (producer_id, producer_epoch, base_sequence) =
            self.producer.map_or((-1, -1, -1), |(id, epoch, sequence)| (id.get(), epoch.get(), sequence));
        let header = BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: BatchHeader::attributes_of(self.compression, self.timestamps, self.transactional, self.control),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp.expect("set because there is a record"),
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            count: self.count,
        };
        header.write(&mut batch);
        batch
    }
}
