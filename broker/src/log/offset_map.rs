//! The newest offset of each key, in bounded memory: what compaction asks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Bytes that one key takes, with the table's slack.
const KEY_BYTES: u64 = 48;

/// Keys by a 128-bit hash, seeded anew for each map: no input can make two keys meet.
pub(super) struct OffsetMap {
    hashers: [RandomState; 2],
    newest: HashMap<(u64, u64), i64>,
    most: usize,
}

impl OffsetMap {
    /// A map of at most so many bytes; of at least one key.
    pub(super) fn new(bytes: u64) -> Self {
        let most = usize::try_from(bytes / KEY_BYTES).unwrap_or(usize::MAX).max(1);
        Self { hashers: [RandomState::new(), RandomState::new()], newest: HashMap::new(), most }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.hashers[0].hash_one(key), self.hashers[1].hash_one(key))
    }

    /// Whether so many more keys may be noted.
    pub(super) fn has_room(&self, keys: usize) -> bool {
        self.newest.len().saturating_add(keys) <= self.most
    }

    /// Whether it is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Notes a record; offsets only grow.
    pub(super) fn note(&mut self, key: &[u8], offset: i64) {
        self.newest.insert(self.hash(key), offset);
    }

    /// Whether no newer record of the key is known.
    pub(super) fn is_newest(&self, key: &[u8], offset: i64) -> bool {
        self.newest.get(&self.hash(key)).is_none_or(|newest| *newest <= offset)
    }
}
