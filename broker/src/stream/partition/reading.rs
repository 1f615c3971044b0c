//! What clients read of a replica: below which bound, and when there is more.

use std::sync::Weak;

use super::Partition;
use crate::ids::Offset;
use crate::log::{LogOffsets, ReadBatches, ReadError};
use crate::stream::{DataWaiter, PartitionError};

impl Partition {
    /// The offsets.
    pub fn offsets(&self) -> LogOffsets {
        self.log.offsets()
    }

    /// The offsets, for a reader that asks for the latest: a new leader does not know the high watermark until it has
    /// committed a record of its own epoch, or everything that it found.
    pub fn latest_offsets(&self) -> Result<LogOffsets, PartitionError> {
        let epoch_start = self.progress.lock().epoch_start;
        let offsets = self.log.offsets();
        if offsets.high_watermark < epoch_start {
            return Err(PartitionError::OffsetNotAvailable);
        }
        Ok(offsets)
    }

    /// Reads below the high watermark, or below the last stable offset when `committed`.
    pub fn read(
        &self,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<ReadBatches, PartitionError> {
        self.read_within(&self.offsets(), from, max_bytes, at_least_one, committed)
    }

    /// Like `read`, with the bounds of `offsets`: what is read fits what is reported beside it.
    ///
    /// Between the bound and the log's end there is nothing to read yet, beyond the end nothing ever was: the first is
    /// an empty answer, the second an error, as in Kafka.
    pub fn read_within(
        &self,
        offsets: &LogOffsets,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<ReadBatches, PartitionError> {
        match readable(offsets, from, committed)? {
            Some((start, upto)) if max_bytes > 0 || at_least_one => {
                Ok(self.log.read(start, upto, max_bytes, at_least_one, committed)?)
            }
            _ => Ok(ReadBatches::default()),
        }
    }

    /// Like `read_within`, but waits for no disk: `None` when that takes more than memory holds.
    pub fn read_cached_within(
        &self,
        offsets: &LogOffsets,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        committed: bool,
    ) -> Result<Option<ReadBatches>, PartitionError> {
        match readable(offsets, from, committed)? {
            Some((start, upto)) if max_bytes > 0 || at_least_one => {
                Ok(self.log.read_cached(start, upto, max_bytes, at_least_one, committed)?)
            }
            _ => Ok(Some(ReadBatches::default())),
        }
    }

    /// Calls the waiter once when more becomes readable than what lies below `seen`, or when the leadership that this
    /// node holds or follows ends; maybe at once.
    pub fn when_readable(&self, seen: Offset, committed: bool, waiter: Weak<dyn DataWaiter>) {
        {
            let mut progress = self.progress.lock();
            if progress.is_led {
                let bound = if committed { self.log.offsets().last_stable } else { progress.high_watermark };
                if bound <= seen {
                    progress.readers.push(seen, committed, waiter);
                    return;
                }
            }
        }
        if let Some(waiter) = waiter.upgrade() {
            waiter.changed();
        }
    }
}

/// From where to where a read goes; `None` when there is nothing to read yet.
fn readable(offsets: &LogOffsets, from: i64, committed: bool) -> Result<Option<(Offset, Offset)>, ReadError> {
    let upto = if committed { offsets.last_stable } else { offsets.high_watermark };
    let out_of_range = || ReadError::OutOfRange { offset: from, start: offsets.log_start, end: offsets.high_watermark };
    let start = Offset::try_from(from).map_err(|_| out_of_range())?;
    if start < offsets.log_start || start > offsets.log_end {
        return Err(out_of_range());
    }
    Ok((start < upto).then_some((start, upto)))
}
