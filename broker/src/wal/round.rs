//! One commit round: which appends it takes, and how they lie by file.

use std::io::IoSlice;
use std::sync::Arc;

use smallvec::SmallVec;

use super::file::WalFile;
use super::queue::Done;
use super::{Append, Refusal, WalError};

/// What a round does to one file.
pub(super) struct Touched {
    pub(super) file: Arc<WalFile>,
    pub(super) start: u64,
    pub(super) bytes: u64,
    pub(super) first_token: u64,
    pub(super) last_token: u64,
    /// So much that the file is synced itself.
    pub(super) direct: bool,
    /// Why it was not written.
    pub(super) refused: Option<Refusal>,
}

impl Touched {
    /// Whether its bytes go to the journal.
    pub(super) fn is_journalled(&self) -> bool {
        !self.direct && self.refused.is_none()
    }
}

struct Placed {
    slot: usize,
    append: Append,
}

/// The appends of a round, by file. Its buffers are used again.
#[derive(Default)]
pub(super) struct Round {
    pub(super) touched: Vec<Touched>,
    pub(super) retiring: Vec<(Arc<WalFile>, Done)>,
    appends: Vec<Placed>,
}

impl Round {
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.retiring.is_empty()
    }

    pub(super) fn appends(&self) -> usize {
        self.appends.len()
    }

    /// Forgets everything, which frees the admissions.
    pub(super) fn clear(&mut self) {
        self.touched.clear();
        self.retiring.clear();
        self.appends.clear();
    }

    /// Adds an append to the `number`-th round. The file's appends follow each other without a gap.
    pub(super) fn add(&mut self, number: u64, file: Arc<WalFile>, append: Append) {
        let length = append.data.len() as u64;
        let mut commit = file.commit.lock();
        if let Some(end) = commit.end {
            assert_eq!(
                append.position,
                end,
                "an append to {} starts where the one before ended",
                file.path().display()
            );
        }
        commit.end = Some(append.position + length);
        let slot = if commit.round == number {
            let slot = commit.slot;
            drop(commit);
            let touched = &mut self.touched[slot];
            assert!(touched.last_token < append.token, "tokens of {} grow", file.path().display());
            touched.bytes += length;
            touched.last_token = append.token;
            slot
        } else {
            commit.round = number;
            commit.slot = self.touched.len();
            drop(commit);
            self.touched.push(Touched {
                file,
                start: append.position,
                bytes: length,
                first_token: append.token,
                last_token: append.token,
                direct: false,
                refused: None,
            });
            self.touched.len() - 1
        };
        self.appends.push(Placed { slot, append });
    }

    /// Brings the appends of each file together, in their order.
    pub(super) fn sort(&mut self) {
        self.appends.sort_unstable_by_key(|placed| (placed.slot, placed.append.token));
    }

    /// Takes each file's appends to the file: with one call, or later when they are small. What finds no room is cut back
    /// and marked refused.
    pub(super) fn write(&mut self) -> Result<(), WalError> {
        for appends in self.appends.chunk_by(|one, next| one.slot == next.slot) {
            let touched = &mut self.touched[appends[0].slot];
            let parts: SmallVec<[IoSlice<'_>; 32]> =
                appends.iter().map(|placed| IoSlice::new(&placed.append.data)).collect();
            touched.refused = touched.file.write(&parts, touched.start)?;
        }
        Ok(())
    }

    /// The data that goes to the journal, file by file.
    pub(super) fn journalled_data(&self) -> SmallVec<[&[u8]; 64]> {
        let journalled = self.appends.iter().filter(|placed| self.touched[placed.slot].is_journalled());
        journalled.map(|placed| placed.append.data.as_ref()).collect()
    }
}
