//! Opening a log: trusting the checkpoint, reading what follows it, cutting what is not whole.
//!
//! After a power loss a file may be short, have holes, or hold bytes that were never reported as durable. The WAL has
//! put back everything that was; what follows is kept as far as batches are whole, their offsets contiguous and their
//! epochs never fall. The rest is cut, and the cut is durable before anything is built on it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use crate::ids::{LeaderEpoch, Offset};
use crate::io::disk::remove_if_there;

use super::batch::BatchError;
use super::checkpoint::{LogCheckpoint, SegmentCheckpoint};
use super::checkpointing::Maintained;
use super::epochs::EpochHistory;
use super::error::LogError;
use super::files::{self, CLEANED, DELETED};
use super::partition_log::{Shared, Standing, State};
use super::producers::Producers;
use super::scan::ScanError;
use super::segment::{Segment, SegmentListener, Slot};
use super::swap::finish_swap;

/// Index entries are this far apart until the topic's settings are known, bytes.
const INDEX_INTERVAL_BYTES: u32 = 4096;
/// A snapshot file larger than this is not ours.
const MOST_SNAPSHOT_BYTES: u64 = 1 << 30;

/// A log that was opened.
pub(super) struct Recovered {
    pub state: State,
    pub maintained: Maintained,
}

/// What a folder holds.
#[derive(Default)]
struct Found {
    segments: Vec<Offset>,
    snapshots: Vec<Offset>,
}

/// How far the checkpoint is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// There is none, or it was damaged.
    Nothing,
    /// What it vouches for; what it does not know is new, and was never compacted.
    Checkpointed,
    /// It was written at a clean shutdown: there is nothing else.
    Everything,
}

/// What an opening builds on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basis {
    pub trust: Trust,
    /// Whether what the files hold is durable, not only in the page cache.
    pub durable: bool,
}

impl Basis {
    /// Of a log that is made: no checkpoint knows it, and what its folder may hold is anybody's.
    pub(super) const NEW: Self = Self { trust: Trust::Checkpointed, durable: false };
}

/// Opens the log in `folder`.
pub(super) fn recover(
    shared: &Shared,
    folder: &Path,
    me: Weak<dyn SegmentListener>,
    checkpoint: Option<&LogCheckpoint>,
    basis: Basis,
) -> Result<Recovered, LogError> {
    let found = tidy(shared, folder)?;
    let mut recovery = Recovery {
        shared,
        folder,
        me,
        checkpoint,
        basis,
        contiguous_from: match checkpoint {
            Some(checkpoint) => Some(checkpoint.recovery_point),
            None => (basis.trust != Trust::Nothing).then_some(Offset::FIRST),
        },
        slots: Vec::new(),
        epochs: checkpoint.map(|checkpoint| checkpoint.epochs.clone()).unwrap_or_default(),
        newest_epoch: -1,
        producers: Producers::default(),
        replay_from: Offset::FIRST,
        producers_lost: false,
        shortened: false,
        end: None,
    };
    recovery.run(found)
}

struct Recovery<'a> {
    shared: &'a Shared,
    folder: &'a Path,
    me: Weak<dyn SegmentListener>,
    checkpoint: Option<&'a LogCheckpoint>,
    basis: Basis,
    /// From here on offsets are contiguous: nothing there was compacted. `None`: nowhere for sure.
    contiguous_from: Option<Offset>,
    slots: Vec<Slot>,
    epochs: EpochHistory,
    newest_epoch: i32,
    producers: Producers,
    /// Batches before this offset are in the producers' state already.
    replay_from: Offset,
    /// The snapshot that the checkpoint names is damaged: batches before the checkpoint must be read too.
    producers_lost: bool,
    /// The newest segment has lost its end: it is read from its start, and ends where its whole batches do.
    shortened: bool,
    end: Option<Offset>,
}

impl Recovery<'_> {
    fn run(&mut self, found: Found) -> Result<Recovered, LogError> {
        let log_start = self.checkpoint.map(|checkpoint| checkpoint.log_start);
        let (below, kept) = split_below(&found.segments, log_start);
        let mut gone: Vec<Offset> = below;
        self.load_producers()?;
        let mut whole = true;
        for (at, base) in kept.iter().enumerate() {
            if whole {
                whole = self.open_segment(*base, kept.get(at + 1).copied())?;
            } else {
                gone.push(*base);
            }
        }
        if !whole && self.slots.last().is_none_or(|slot| slot.base() != *kept.last().expect("not whole, so not empty"))
        {
            tracing::warn!(folder = %self.folder.display(), "segments behind a gap are removed");
        }
        self.remove_segments(&gone)?;
        let end = self.finish_slots(log_start)?;
        let log_start = log_start.unwrap_or(self.slots[0].base()).max(self.slots[0].base()).min(end);
        self.rebuild_producers(&found.snapshots)?;
        let snapshots = self.drop_snapshots(&found.snapshots, end)?;
        Ok(self.recovered(log_start, end, snapshots))
    }

    fn recovered(&mut self, log_start: Offset, end: Offset, snapshots: Vec<Offset>) -> Recovered {
        self.epochs.truncate_end(end);
        self.epochs.truncate_start(log_start);
        self.producers.truncate_start(log_start);
        let high_watermark = self.checkpoint.map_or(log_start, |it| it.high_watermark).clamp(log_start, end);
        let snapshot = self.checkpoint.and_then(|it| it.snapshot).filter(|at| snapshots.contains(at));
        // What was replayed behind the checkpoint is in no snapshot yet.
        let replayed = self.checkpoint.is_none_or(|it| it.recovery_point != end || it.snapshot != snapshot);
        let producers_version = u64::from(replayed && !self.producers.is_empty());
        let cleaned_end = self.checkpoint.map_or(log_start, |it| it.cleaned_end).clamp(log_start, end);
        let state = State {
            slots: std::mem::take(&mut self.slots),
            log_start,
            log_end: end,
            flushed_end: end,
            high_watermark,
            epochs: std::mem::take(&mut self.epochs),
            producers: std::mem::take(&mut self.producers),
            producers_version,
            pending: std::collections::VecDeque::new(),
            next_token: 1,
            standing: Standing::Open,
            cuts: 0,
            orphans: Vec::new(),
            observer: None,
        };
        Recovered {
            state,
            maintained: Maintained { snapshots, snapshot, snapshot_version: 0, cleaned_end, unreadable: false },
        }
    }

    /// Opens one segment and reads what the checkpoint does not vouch for. Whether the next one may follow it.
    fn open_segment(&mut self, base: Offset, next: Option<Offset>) -> Result<bool, LogError> {
        let expected = self.end.unwrap_or(base);
        if base < expected || (base > expected && self.must_be_contiguous(base)) || self.lacks_its_beginning(base) {
            self.slots.is_empty().then(|| tracing::error!(folder = %self.folder.display(), %base, "no segment fits"));
            self.remove_segments(&[base])?;
            return Ok(false);
        }
        let segment = Segment::register(&self.shared.wal, self.folder, base, self.me.clone(), false);
        let known = self.checkpoint.and_then(|checkpoint| checkpoint.segments.iter().find(|it| it.base == base));
        let now = self.shared.clock.wall_ms();
        let known = match known {
            Some(known) if !self.is_as_long(&segment, known)? && next.is_none() => {
                self.forget_newest(base)?;
                None
            }
            other => other,
        };
        let mut slot = match known {
            Some(known) => Slot::restored(segment, known, now),
            None => Slot::empty(segment, now),
        };
        self.end = Some(slot.end.max(expected));
        if let Some(last) = known.filter(|known| known.size > 0).and_then(|known| known.end.get().checked_sub(1)) {
            let epoch = self.epochs.at(Offset::new(last)).map_or(-1, LeaderEpoch::get);
            self.newest_epoch = self.newest_epoch.max(epoch);
        }
        let vouched_for = match known {
            Some(known) if Some(known) == self.last_known() => self.ends_as_known(&slot)?,
            other => other.is_some(),
        };
        let whole = vouched_for || self.read_tail(&mut slot, next)?;
        self.end = Some(slot.end.max(expected));
        self.slots.push(slot);
        Ok(whole)
    }

    /// Whether the first segment that is there begins behind all that the checkpoint knows: files before it were never
    /// durable, and so nothing behind them was reported as flushed. (Segments that are let go the checkpoint knows to lie
    /// below the log start.)
    fn lacks_its_beginning(&self, base: Offset) -> bool {
        let known = self.checkpoint.map(|checkpoint| checkpoint.log_start.max(checkpoint.recovery_point));
        self.slots.is_empty() && known.is_some_and(|known| base > known)
    }

    /// Whether an orderly stop left the newest segment as long as it is: then nothing of it need be read.
    fn ends_as_known(&self, slot: &Slot) -> Result<bool, LogError> {
        Ok(self.basis.trust == Trust::Everything && slot.segment.length()? == u64::from(slot.size))
    }

    /// Whether a segment has all the bytes that the checkpoint knows. A segment that isn't the newest and lacks some
    /// stays as it is, and so do those behind it: what is whole is read, and a read of what is lost fails.
    fn is_as_long(&self, segment: &Segment, known: &SegmentCheckpoint) -> Result<bool, LogError> {
        let length = segment.length()?;
        let size = u64::from(known.size);
        let sealed = self.last_known() != Some(known);
        if length < size || (sealed && length > size) {
            let path = segment.file.path().display();
            tracing::warn!(%path, bytes = length, known = size, "a segment is not as long as it was");
        }
        Ok(length >= size)
    }

    /// The newest segment is read from its start: what the checkpoint and the snapshots say of it holds no more.
    fn forget_newest(&mut self, base: Offset) -> Result<(), LogError> {
        self.shortened = true;
        self.epochs.truncate_end(base);
        self.producers = Producers::default();
        // Without a snapshot no producer was known up to the checkpoint.
        self.producers_lost = self.checkpoint.is_some_and(|checkpoint| checkpoint.snapshot.is_some());
        self.remove(&[files::index_path(self.folder, base)])
    }

    fn last_known(&self) -> Option<&SegmentCheckpoint> {
        self.checkpoint.and_then(|checkpoint| checkpoint.segments.last())
    }

    fn must_be_contiguous(&self, offset: Offset) -> bool {
        self.contiguous_from.is_some_and(|from| offset >= from)
    }

    /// Reads the batches behind what is known of a segment, and cuts the file behind the last that fits. Whether
    /// nothing had to be cut.
    fn read_tail(&mut self, slot: &mut Slot, next: Option<Offset>) -> Result<bool, LogError> {
        let path = slot.segment.file.path().to_owned();
        let file = slot.segment.handle()?;
        let length = file.len().map_err(LogError::io("reading", &path))?;
        if length < u64::from(slot.size) {
            let what = format!("it has {length} bytes, the checkpoint knows {}", slot.size);
            return Err(LogError::Corrupt { path, position: length, what });
        }
        slot.segment.load_index(&*self.shared.disk, slot.size, INDEX_INTERVAL_BYTES)?;
        let known_size = slot.size;
        let mut scanner = slot.segment.scanner(slot.size, u32::try_from(length).unwrap_or(u32::MAX))?;
        let mut cut_short = false;
        while let Some(batch) = scanner.next_batch() {
            let batch = match batch {
                Ok(batch) => batch,
                Err(ScanError::Batch { source, .. }) => {
                    cut_short = matches!(source, BatchError::Truncated { .. });
                    break;
                }
                // What could not be read may be whole: it is not to be cut.
                Err(error @ ScanError::Io { .. }) => return Err(slot.segment.scan_error(error)),
            };
            if !self.fits(&batch.header, slot, next) {
                break;
            }
            let at = slot.size;
            let before = slot.grow(&batch.header);
            slot.segment.note(&batch.header, at, before, INDEX_INTERVAL_BYTES);
            self.newest_epoch = batch.header.leader_epoch;
            self.epochs.assign(batch.header.stored_epoch(), batch.header.base());
            if batch.header.base() >= self.replay_from {
                self.producers.apply(&batch.header, batch.marker());
            }
        }
        slot.flushed_size = slot.size;
        let torn = u64::from(slot.size) < length;
        if torn && !(self.shortened && cut_short) && self.was_whole(slot, known_size) {
            let what = "a batch is damaged that was whole at the last checkpoint".to_owned();
            return Err(LogError::Corrupt { path, position: slot.size.into(), what });
        }
        if torn {
            tracing::warn!(path = %path.display(), from = slot.size, to = length, "a torn tail is cut");
            file.set_len(u64::from(slot.size)).map_err(LogError::io("cutting", &path))?;
            slot.segment.truncate_index(&*self.shared.disk, slot.size)?;
        }
        if torn || (slot.size > known_size && !self.basis.durable) {
            // It counts as durable from now on.
            file.sync_all().map_err(LogError::io("syncing", &path))?;
        }
        Ok(!torn)
    }

    /// Whether the checkpoint had seen the whole segment though it no longer vouches for its bytes (compaction has
    /// written them anew, synced): then nothing of it may be cut, and nothing behind it.
    fn was_whole(&self, slot: &Slot, known_size: u32) -> bool {
        known_size == 0 && self.checkpoint.is_some_and(|checkpoint| slot.end < checkpoint.recovery_point)
    }

    fn fits(&self, header: &super::batch::BatchHeader, slot: &Slot, next: Option<Offset>) -> bool {
        let expected = slot.end;
        let offsets = if self.must_be_contiguous(header.base()) {
            header.base() == expected
        } else {
            header.base() >= expected && next.is_none_or(|next| header.end() <= next)
        };
        offsets
            && header.leader_epoch >= self.newest_epoch
            && header.last_offset() - slot.base().get() <= i64::from(i32::MAX)
    }

    /// The last segment is appended to: it is there, and its index is loaded. Returns the log's end.
    fn finish_slots(&mut self, log_start: Option<Offset>) -> Result<Offset, LogError> {
        if self.slots.is_empty() {
            let recovery_point = self.checkpoint.map_or(Offset::FIRST, |checkpoint| checkpoint.recovery_point);
            let base = recovery_point.max(log_start.unwrap_or(Offset::FIRST));
            let segment = Segment::register(&self.shared.wal, self.folder, base, self.me.clone(), true);
            self.slots.push(Slot::empty(segment, self.shared.clock.wall_ms()));
        }
        let last = self.slots.last().expect("at least one because one was just made");
        last.segment.load_index(&*self.shared.disk, last.size, INDEX_INTERVAL_BYTES)?;
        Ok(last.end.max(log_start.unwrap_or(Offset::FIRST)))
    }

    /// Starts from the snapshot that the checkpoint names.
    fn load_producers(&mut self) -> Result<(), LogError> {
        let Some(checkpoint) = self.checkpoint else { return Ok(()) };
        self.replay_from = checkpoint.recovery_point;
        let Some(named) = checkpoint.snapshot else { return Ok(()) };
        match load_snapshot(self.shared, self.folder, named)? {
            Some(producers) => self.producers = producers,
            None => self.producers_lost = true,
        }
        Ok(())
    }

    /// Reads batches for the producers' state when its snapshot was lost: those behind the newest snapshot that is whole.
    fn rebuild_producers(&mut self, snapshots: &[Offset]) -> Result<(), LogError> {
        let Some(checkpoint) = self.checkpoint.filter(|_| self.producers_lost) else { return Ok(()) };
        let end = self.end.map_or(checkpoint.recovery_point, |end| end.min(checkpoint.recovery_point));
        let earlier: Vec<_> = snapshots.iter().copied().filter(|at| *at <= end).collect();
        let (from, producers) = read_producers(self.shared, self.folder, &earlier, &self.slots)?;
        tracing::warn!(folder = %self.folder.display(), %from, "a producer snapshot is lost: the log is read instead");
        self.producers = producers;
        Ok(())
    }

    /// Snapshots behind the end are of records that are gone.
    fn drop_snapshots(&self, snapshots: &[Offset], end: Offset) -> Result<Vec<Offset>, LogError> {
        let (kept, gone): (Vec<_>, Vec<_>) = snapshots.iter().copied().partition(|at| *at <= end);
        let paths: Vec<_> = gone.iter().map(|at| files::snapshot_path(self.folder, *at)).collect();
        self.remove(&paths)?;
        Ok(kept)
    }

    fn remove_segments(&self, bases: &[Offset]) -> Result<(), LogError> {
        let paths: Vec<_> = bases
            .iter()
            .flat_map(|base| [files::segment_path(self.folder, *base), files::index_path(self.folder, *base)])
            .collect();
        self.remove(&paths)
    }

    fn remove(&self, paths: &[PathBuf]) -> Result<(), LogError> {
        for path in paths {
            remove_if_there(&*self.shared.disk, path).map_err(LogError::io("removing", path))?;
        }
        if paths.is_empty() { Ok(()) } else { files::sync_folder(&*self.shared.disk, self.folder) }
    }
}

/// The producers' state in a snapshot file; `None` when it is missing or damaged.
fn load_snapshot(shared: &Shared, folder: &Path, at: Offset) -> Result<Option<Producers>, LogError> {
    let path = files::snapshot_path(folder, at);
    let bytes = files::read_small(&*shared.disk, &path, MOST_SNAPSHOT_BYTES);
    Ok(bytes.map_err(LogError::io("reading", &path))?.and_then(|bytes| Producers::decode(&bytes)))
}

/// The producers' state of these segments: the newest of these snapshots (in order) that is whole, and the batches from
/// there on; all batches when none is. Tells from where.
pub(super) fn read_producers(
    shared: &Shared,
    folder: &Path,
    snapshots: &[Offset],
    slots: &[Slot],
) -> Result<(Offset, Producers), LogError> {
    let (from, mut producers) = newest_snapshot(shared, folder, snapshots, slots)?;
    for slot in slots.iter().filter(|slot| slot.size > 0 && slot.end > from) {
        let mut scanner = slot.segment.scanner(0, slot.size)?;
        while let Some(batch) = scanner.next_batch() {
            let batch = batch.map_err(|error| slot.segment.scan_error(error))?;
            if batch.header.base() >= from {
                producers.apply(&batch.header, batch.marker());
            }
        }
    }
    Ok((from, producers))
}

/// The newest of these snapshots that is whole, and its offset; no producers at the first offset when none is. One from
/// before the first segment is none: what its producers wrote since may be deleted, and whoever is known with an old
/// sequence is refused the next, where one who is not known is taken.
fn newest_snapshot(
    shared: &Shared,
    folder: &Path,
    snapshots: &[Offset],
    slots: &[Slot],
) -> Result<(Offset, Producers), LogError> {
    let first = slots.first().map_or(Offset::FIRST, Slot::base);
    for at in snapshots.iter().rev().filter(|at| **at >= first) {
        if let Some(producers) = load_snapshot(shared, folder, *at)? {
            return Ok((*at, producers));
        }
    }
    Ok((Offset::FIRST, Producers::default()))
}

/// Segments that lie wholly below the log start, and the others.
fn split_below(segments: &[Offset], log_start: Option<Offset>) -> (Vec<Offset>, Vec<Offset>) {
    let Some(log_start) = log_start else { return (Vec::new(), segments.to_vec()) };
    let below = segments.windows(2).take_while(|pair| pair[1] <= log_start).count();
    (segments[..below].to_vec(), segments[below..].to_vec())
}

/// Finishes what a crash interrupted: half-written compactions go, whole ones take their place, what waited for its
/// removal is removed. Returns what is left.
fn tidy(shared: &Shared, folder: &Path) -> Result<Found, LogError> {
    let disk = &*shared.disk;
    let entries = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        other => other.map_err(LogError::io("listing", folder))?,
    };
    let mut found = Found::default();
    let mut swaps = Vec::new();
    for entry in &entries {
        let name = entry.name.as_str();
        if name.ends_with(CLEANED) || name.ends_with(DELETED) {
            let path = folder.join(name);
            remove_if_there(disk, &path).map_err(LogError::io("removing", &path))?;
        } else if let Some(range) = files::swap_range(name) {
            swaps.push(range);
        } else if let Some(base) = files::offset_of(name, ".log") {
            found.segments.push(base);
        } else if let Some(at) = files::offset_of(name, ".snapshot") {
            found.snapshots.push(at);
        }
    }
    for (base, end) in swaps {
        finish_swap(disk, folder, base, end, &found.segments)?;
        found.segments.retain(|segment| *segment < base || *segment >= end);
        found.segments.push(base);
    }
    found.segments.sort_unstable();
    found.snapshots.sort_unstable();
    Ok(found)
}
