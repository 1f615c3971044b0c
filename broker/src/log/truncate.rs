//! Cutting a log's end off, as a follower does when its leader's history differs (KIP-101).

use crate::ids::Offset;
use crate::io::disk::remove_if_there;

use super::checkpoint::SegmentCheckpoint;
use super::error::LogError;
use super::files;
use super::index::Target;
use super::partition_log::{Log, Standing};
use super::producers::Producers;
use super::recovery::read_producers;
use super::segment::Slot;

impl Log {
    /// Drops all records from `to` on. The log then ends with the last batch that lies wholly below. When it returns the
    /// cut is durable: a crash revives nothing. Epochs without records go too: a follower knows those of its batches
    /// only. Nobody appends meanwhile. A log that is being deleted is left alone. Waits for compaction. Blocks.
    pub fn truncate_to(&self, to: Offset) -> Result<(), LogError> {
        let mut maintained = self.maintenance.lock();
        if self.state.lock().standing == Standing::Closed {
            return Ok(());
        }
        let to = to.max(self.offsets().log_start);
        if to >= self.offsets().log_end {
            let mut state = self.state.lock();
            let end = state.log_end;
            state.epochs.truncate_end(end);
            return Ok(());
        }
        for file in self.wal_files() {
            self.shared.wal.retire(&file)?;
        }
        let disk = &*self.shared.disk;
        // Also a segment that was rolled at the cut and is empty: it goes, and the one before it is appended to again.
        let cut = |segment: &SegmentCheckpoint| segment.end > to || segment.base >= to;
        self.shared.checkpoints.lock().distrust(disk, &self.id, cut, Some(to))?;

        let slots = self.state.lock().slots.clone();
        // The first stays even when it begins at the cut: a log has at least one segment.
        let first = slots[0].base();
        let (kept, gone): (Vec<Slot>, Vec<Slot>) =
            slots.into_iter().partition(|slot| slot.base() < to || slot.base() == first);
        for slot in &gone {
            for path in [slot.segment.file.path().to_owned(), files::index_path(&self.folder, slot.base())] {
                remove_if_there(disk, &path).map_err(LogError::io("removing", &path))?;
            }
        }
        let mut last = kept.last().expect("the segment that holds the cut is kept").clone();
        self.cut_segment(&mut last, to)?;
        for at in maintained.snapshots.extract_if(.., |at| *at > to) {
            self.remove_snapshot(at)?;
        }
        maintained.snapshot = maintained.snapshot.filter(|at| *at <= to);
        maintained.cleaned_end = maintained.cleaned_end.min(to);
        files::sync_folder(&*self.shared.disk, &self.folder)?;

        let mut slots = kept;
        *slots.last_mut().expect("the segment that holds the cut is kept") = last;
        let (_, producers) = read_producers(&self.shared, &self.folder, &maintained.snapshots, &slots)?;
        self.finish_cut(slots, producers, to);
        Ok(())
    }

    fn cut_segment(&self, slot: &mut Slot, to: Offset) -> Result<(), LogError> {
        let path = slot.segment.file.path().to_owned();
        let interval = self.config.load().index_interval_bytes;
        let target = Target::Offset(to.since(slot.base()) as u32);
        let entry = slot.segment.find(&*self.shared.disk, target, slot.size, interval)?;
        let (old_size, old_end) = (slot.size, slot.end);
        *slot =
            Slot { max_timestamp: entry.max_timestamp_before, first_timestamp: slot.first_timestamp, ..slot.clone() };
        slot.size = entry.position;
        slot.end = slot.base().plus(u64::from(entry.relative_offset));
        let mut scanner = slot.segment.scanner(entry.position, old_size)?;
        while let Some(batch) = scanner.next_batch() {
            let header = batch.map_err(|error| slot.segment.scan_error(error))?.header;
            if header.end() > to {
                break;
            }
            slot.grow(&header);
        }
        slot.flushed_size = slot.size;
        assert!(slot.end <= old_end, "a cut takes records away");
        if slot.size == 0 {
            slot.first_timestamp = i64::MIN;
        }
        let file = slot.segment.handle()?;
        file.set_len(u64::from(slot.size)).map_err(LogError::io("cutting", &path))?;
        file.sync_all().map_err(LogError::io("syncing", &path))?;
        slot.segment.load_index(&*self.shared.disk, slot.size, interval)?;
        slot.segment.truncate_index(&*self.shared.disk, slot.size)
    }

    fn finish_cut(&self, slots: Vec<Slot>, producers: Producers, to: Offset) {
        let mut state = self.state.lock();
        let end = slots.last().expect("a log has at least one segment").end;
        let to = to.min(end).max(state.log_start);
        state.slots = slots;
        state.producers = producers;
        state.producers_version += 1;
        state.pending.clear();
        state.log_end = to;
        state.flushed_end = to;
        state.high_watermark = state.high_watermark.min(to);
        state.epochs.truncate_end(to);
        state.cuts += 1;
        if state.standing == Standing::Refused && state.orphans.is_empty() {
            self.shared.wal.resume(&state.active().segment.file);
            state.standing = Standing::Open;
        }
    }
}
