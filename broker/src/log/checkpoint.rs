//! The checkpoint of all logs of a node, one file: up to where each log is known to be whole, and what the next start
//! would otherwise have to read the log for.

use std::collections::{HashMap, HashSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use crate::io::disk::{Disk, OpenMode};

use super::codec::{Reader, Writer};
use super::epochs::{EpochHistory, EpochStart};
use super::error::LogError;

const VERSION: u32 = 1;
/// A file longer than this is not ours: 10,000 partitions take a few MiB.
const MOST_BYTES: u64 = 1 << 30;
const LOG_BYTES: usize = 68;
const EPOCH_BYTES: usize = 12;
const SEGMENT_BYTES: usize = 40;

/// One segment at the time of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentCheckpoint {
    /// Its base offset.
    pub base: Offset,
    /// One past its last record.
    pub end: Offset,
    /// Its bytes.
    pub size: u32,
    /// Largest timestamp, ms; `i64::MIN` when it is empty.
    pub max_timestamp: i64,
    /// Largest timestamp of its first batch, ms; `i64::MIN` when it is empty.
    pub first_timestamp: i64,
}

/// One log at the time of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The high watermark.
    pub high_watermark: Offset,
    /// Everything below was synced in the segments themselves: the next start need not look at it.
    pub recovery_point: Offset,
    /// Compaction has been here: below it every key is there once.
    pub cleaned_end: Offset,
    /// The producer snapshot that holds at the recovery point; `None` when no producer was known there.
    pub snapshot: Option<Offset>,
    /// Leader epochs that begin below the recovery point.
    pub epochs: EpochHistory,
    /// The segments, the last one as far as the recovery point.
    pub segments: Vec<SegmentCheckpoint>,
}

/// All logs at the time of a checkpoint.
pub type Checkpoint = HashMap<TopicPartition, LogCheckpoint>;

/// The file's bytes.
pub fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut writer = Writer::new(VERSION);
    let mut logs: Vec<_> = checkpoint.iter().collect();
    logs.sort_by_key(|(id, _)| **id);
    writer.u32(logs.len() as u32);
    for (id, log) in logs {
        writer.raw(id.topic.to_bytes());
        writer.i32(id.partition.get());
        writer.i64(log.log_start.get());
        writer.i64(log.high_watermark.get());
        writer.i64(log.recovery_point.get());
        writer.i64(log.cleaned_end.get());
        writer.i64(log.snapshot.map_or(-1, Offset::get));
        writer.u32(log.epochs.entries().len() as u32);
        for entry in log.epochs.entries() {
            writer.i32(entry.epoch.get());
            writer.i64(entry.start.get());
        }
        writer.u32(log.segments.len() as u32);
        for segment in &log.segments {
            writer.i64(segment.base.get());
            writer.i64(segment.end.get());
            writer.i64(i64::from(segment.size));
            writer.i64(segment.max_timestamp);
            writer.i64(segment.first_timestamp);
        }
    }
    writer.finish()
}

/// Reads the file's bytes; `None` when they are damaged.
pub fn decode(file: &[u8]) -> Option<Checkpoint> {
    let mut reader = Reader::new(file, VERSION)?;
    let mut checkpoint = Checkpoint::new();
    for _ in 0..reader.count(LOG_BYTES)? {
        let topic = TopicId::from_bytes(reader.raw()?)?;
        let partition = PartitionIndex::try_from(reader.i32()?).ok()?;
        checkpoint.insert(TopicPartition { topic, partition }, decode_log(&mut reader)?);
    }
    reader.is_done().then_some(checkpoint)
}

fn decode_log(reader: &mut Reader<'_>) -> Option<LogCheckpoint> {
    let log_start = Offset::try_from(reader.i64()?).ok()?;
    let high_watermark = Offset::try_from(reader.i64()?).ok()?;
    let recovery_point = Offset::try_from(reader.i64()?).ok()?;
    let cleaned_end = Offset::try_from(reader.i64()?).ok()?;
    let snapshot = Offset::try_from(reader.i64()?).ok();
    let mut epochs = Vec::new();
    for _ in 0..reader.count(EPOCH_BYTES)? {
        let epoch = LeaderEpoch::try_from(reader.i32()?).ok()?;
        epochs.push(EpochStart { epoch, start: Offset::try_from(reader.i64()?).ok()? });
    }
    let mut segments = Vec::new();
    for _ in 0..reader.count(SEGMENT_BYTES)? {
        segments.push(SegmentCheckpoint {
            base: Offset::try_from(reader.i64()?).ok()?,
            end: Offset::try_from(reader.i64()?).ok()?,
            size: u32::try_from(reader.i64()?).ok()?,
            max_timestamp: reader.i64()?,
            first_timestamp: reader.i64()?,
        });
    }
    let ordered = segments.windows(2).all(|pair| pair[0].base < pair[1].base && pair[0].end <= pair[1].base);
    let epochs = EpochHistory::from_entries(epochs)?;
    ordered.then_some(LogCheckpoint {
        log_start,
        high_watermark,
        recovery_point,
        cleaned_end,
        snapshot,
        epochs,
        segments,
    })
}

/// Replaces the file, crash-safe: the old one or the new one is there, whole.
pub fn store(disk: &dyn Disk, path: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let written = path.with_extension("tmp");
    let bytes = encode(checkpoint);
    let file = disk.open(&written, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(&[IoSlice::new(&bytes)], 0)?;
    file.sync_all()?;
    disk.rename(&written, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Loads the file; `None` when there is none, or a damaged one: then the logs are read whole.
pub fn load(disk: &dyn Disk, path: &Path) -> io::Result<Option<Checkpoint>> {
    let Some(bytes) = super::files::read_small(disk, path, MOST_BYTES)? else { return Ok(None) };
    let checkpoint = decode(&bytes);
    if checkpoint.is_none() {
        tracing::warn!(path = %path.display(), "the checkpoint is damaged: every log is read whole");
    }
    Ok(checkpoint)
}

/// The checkpoint file and what it says.
#[derive(Debug)]
pub struct CheckpointFile {
    path: PathBuf,
    current: Checkpoint,
    /// Logs that the file on disk speaks of though they are gone: they must not come back before it is written again.
    stale: HashSet<TopicPartition>,
    /// Whether `current` says something else than the file.
    unsaved: bool,
}

impl CheckpointFile {
    /// A file that will say this.
    pub fn new(path: PathBuf, current: Checkpoint) -> Self {
        Self { path, current, stale: HashSet::new(), unsaved: false }
    }

    /// What is known of a log.
    pub fn get(&self, id: &TopicPartition) -> Option<&LogCheckpoint> {
        self.current.get(id)
    }

    /// The logs that it knows.
    pub fn ids(&self) -> impl Iterator<Item = TopicPartition> {
        self.current.keys().copied()
    }

    /// Takes what a log says of itself; `store` makes it last.
    pub fn set(&mut self, id: TopicPartition, log: LogCheckpoint) {
        self.current.insert(id, log);
        self.unsaved = true;
    }

    /// Whether the file must be written: what was learnt or forgotten since is not in it.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Forgets a deleted log.
    pub fn remove(&mut self, id: &TopicPartition) {
        if self.current.remove(id).is_some() {
            self.stale.insert(*id);
            self.unsaved = true;
        }
    }

    /// Writes the file.
    pub fn store(&mut self, disk: &dyn Disk) -> Result<(), LogError> {
        store(disk, &self.path, &self.current).map_err(LogError::io("writing", &self.path))?;
        self.stale.clear();
        self.unsaved = false;
        Ok(())
    }

    /// Makes sure that the file says nothing of a log that is about to be made.
    pub fn forget(&mut self, disk: &dyn Disk, id: &TopicPartition) -> Result<(), LogError> {
        self.remove(id);
        if self.stale.contains(id) { self.store(disk) } else { Ok(()) }
    }

    /// Before a log is cut to `end`, or segments from `from` on are replaced: the file stops vouching for them.
    pub fn distrust(
        &mut self,
        disk: &dyn Disk,
        id: &TopicPartition,
        segments: impl Fn(&SegmentCheckpoint) -> bool,
        end: Option<Offset>,
    ) -> Result<(), LogError> {
        let Some(log) = self.current.get_mut(id) else { return Ok(()) };
        let before = log.clone();
        log.segments.retain(|segment| !segments(segment));
        if let Some(end) = end {
            log.recovery_point = log.recovery_point.min(end);
            log.high_watermark = log.high_watermark.min(end);
            log.cleaned_end = log.cleaned_end.min(end);
            log.epochs.truncate_end(end);
        }
        // What an earlier attempt could not write (the disk was full) is not in the file either.
        self.unsaved |= *log != before;
        if self.unsaved { self.store(disk) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::disk::sim::SimDisk;
    use proptest::prelude::*;

    fn example() -> Checkpoint {
        let id = TopicPartition {
            topic: TopicId::from_bytes([7; 16]).expect("not zero"),
            partition: PartitionIndex::new(3),
        };
        let mut epochs = EpochHistory::default();
        epochs.assign(LeaderEpoch::new(1), Offset::new(4));
        let segment = SegmentCheckpoint {
            base: Offset::new(4),
            end: Offset::new(9),
            size: 700,
            max_timestamp: 55,
            first_timestamp: 44,
        };
        let log = LogCheckpoint {
            log_start: Offset::new(4),
            high_watermark: Offset::new(8),
            recovery_point: Offset::new(9),
            cleaned_end: Offset::new(4),
            snapshot: Some(Offset::new(9)),
            epochs,
            segments: vec![segment],
        };
        Checkpoint::from([(id, log)])
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(decode(&encode(&example())), Some(example()));
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_or_the_new_one() {
        let path = Path::new("d/log-checkpoint");
        for point in 1.. {
            let disk = SimDisk::new();
            disk.create_dir_all(Path::new("d")).expect("made");
            disk.sync_dir(Path::new("")).expect("synced");
            store(&disk, path, &Checkpoint::new()).expect("stored");
            disk.crash_at(point);
            let stored = store(&disk, path, &example());
            for seed in 0..8 {
                let found = load(&disk.crash(seed), path).expect("readable").expect("whole");
                assert!(found.is_empty() || found == example());
                assert!(stored.is_err() || found == example(), "what was stored is there");
            }
            if stored.is_ok() {
                break;
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn a_flipped_bit_is_found(at in 0usize..2000) {
            let mut bytes = encode(&example());
            let at = at % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
