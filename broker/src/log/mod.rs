//! A partition's log on disk: record batches, indexes, leader epochs, producer state, retention, compaction.
//!
//! `LogStore` has a node's logs; `Log` is one of them. An append is checked (`validate`), gets its offsets under one
//! short lock (`append`) and goes to the WAL, which reports what is durable (`flush`). Readers go through the sparse
//! `index` to a place in a `segment` (`read`, `lookup`). In the background `maintenance` writes checkpoints, removes
//! what is old (`retention`) and what is superseded (`compaction`). A start trusts the `checkpoint` and reads only what
//! follows it (`recovery`).

mod append;
pub mod batch;
mod builder;
pub mod checkpoint;
mod checkpointing;
mod cleaning;
mod codec;
mod compaction;
pub mod compression;
mod config;
mod epochs;
mod error;
pub mod files;
mod flush;
mod follow;
mod identity;
pub mod index;
mod lookup;
mod maintenance;
mod medium;
mod offset_map;
mod partition_log;
pub mod producers;
mod read;
pub mod record;
mod recovery;
mod retention;
pub mod scan;
mod segment;
mod stop;
mod store;
mod stray;
mod swap;
#[cfg(test)]
mod tests;
mod truncate;
mod types;
pub mod validate;

pub use builder::{BatchBuilder, TransactionEnd};
pub use config::{
    CleanupPolicy, Compression, CompressionLevels, LogConfig, StoreOptions, TimestampType, TopicCompression,
};
pub use epochs::{EpochHistory, EpochStart};
pub use error::{AppendError, LogError, ReadError, RecordError};
pub use follow::empty_from;
pub use partition_log::{Counters, Log};
pub use store::LogStore;
pub use types::{
    AppendObserver, Appended, Brief, LogListener, LogOffsets, Origin, ProducerState, ReadBatches, TimestampOffset,
};
