//! A simulated file: what the page cache holds, what the platter holds, and what lies between.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

use super::SECTOR;

/// A file's contents.
#[derive(Clone, Default)]
pub(super) struct FileData {
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// Of each sector written since the last sync, every version it had.
    unsynced: BTreeMap<usize, Vec<[u8; SECTOR]>>,
    /// Every length since the last sync.
    lengths: Vec<usize>,
    /// Whether no name leads here any more, so that its bytes count no longer.
    pub(super) unlinked: bool,
}

impl FileData {
    pub(super) fn len(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], position: u64) -> usize {
        let from = self.cache.len().min(position as usize);
        let count = buffer.len().min(self.cache.len() - from);
        buffer[..count].copy_from_slice(&self.cache[from..from + count]);
        count
    }

    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        if bytes.is_empty() {
            return;
        }
        let from = position as usize;
        let end = from + bytes.len();
        if end > self.cache.len() {
            let before = self.cache.len();
            self.cache.resize(end, 0);
            self.lengths.push(end);
            self.note_versions(before, from);
        }
        self.cache[from..end].copy_from_slice(bytes);
        self.note_versions(from, end);
    }

    pub(super) fn set_len(&mut self, length: u64) {
        let before = self.cache.len();
        self.cache.resize(length as usize, 0);
        self.lengths.push(length as usize);
        self.note_versions(before, length as usize);
    }

    fn note_versions(&mut self, from: usize, end: usize) {
        if from >= end {
            return;
        }
        for sector in from / SECTOR..=(end - 1) / SECTOR {
            let version = Self::sector(&self.cache, sector);
            self.unsynced.entry(sector).or_default().push(version);
        }
    }

    fn sector(bytes: &[u8], sector: usize) -> [u8; SECTOR] {
        let mut copy = [0; SECTOR];
        let from = (sector * SECTOR).min(bytes.len());
        let end = (from + SECTOR).min(bytes.len());
        copy[..end - from].copy_from_slice(&bytes[from..end]);
        copy
    }

    pub(super) fn sync(&mut self) {
        let shortest = self.lengths.iter().copied().min().unwrap_or(self.durable.len());
        self.durable.truncate(shortest);
        self.durable.resize(self.cache.len(), 0);
        for &sector in self.unsynced.keys() {
            let from = (sector * SECTOR).min(self.cache.len());
            let end = (from + SECTOR).min(self.cache.len());
            self.durable[from..end].copy_from_slice(&self.cache[from..end]);
        }
        self.unsynced.clear();
        self.lengths.clear();
        debug_assert_eq!(self.durable, self.cache, "a sync leaves nothing behind");
    }

    /// What a power loss leaves: of each unsynced sector any version or the durable one, and any of the lengths.
    pub(super) fn after_power_loss(&self, random: &mut SmallRng) -> Self {
        let survivors = super::survivors(random, self.unsynced.len());
        let mut image = self.durable.clone();
        for ((&sector, versions), survives) in self.unsynced.iter().zip(survivors) {
            if !survives {
                continue;
            }
            // Mostly the newest version, sometimes one that was on its way before.
            let version = if random.random_range(0..4) == 0 {
                random.random_range(0..versions.len())
            } else {
                versions.len() - 1
            };
            let end = (sector + 1) * SECTOR;
            if image.len() < end {
                image.resize(end, 0);
            }
            image[end - SECTOR..end].copy_from_slice(&versions[version]);
        }
        let length = match (random.random_range(0..3), self.lengths.last()) {
            (_, None) | (0, _) => self.durable.len(),
            (1, Some(&last)) => last,
            _ => self.lengths[random.random_range(0..self.lengths.len())],
        };
        image.resize(length, 0);
        Self { cache: image.clone(), durable: image, ..Self::default() }
    }
}
