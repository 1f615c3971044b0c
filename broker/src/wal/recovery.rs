//! Opening: what the journal holds goes back to the files it names.
//!
//! Power loss may have left files short or with holes where only the journal was synced. The replay writes every live
//! append again, in order, then syncs. Of a retired file nothing is replayed: it was synced, and since then cut,
//! replaced or deleted, so old bytes would lie over newer ones.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::background::FILES_SYNCED_SINGLY;
use super::file::all_folders;
use super::journal::ring::{self, FILE_BYTES_MIN, Found, JournalFile, file_number};
use super::journal::{self, ALIGNMENT, Entry, FileId, Position, Round};
use super::{IoContext, WalError};
use crate::io::disk::{Disk, DiskFile, OpenMode};

/// What an open has found and done.
pub(super) struct Recovered {
    pub(super) found: Found,
    /// The largest file id of the journal.
    pub(super) last_id: u64,
    /// Whether there were rounds, which the next generation must durably declare spent before anything else changes.
    pub(super) had_rounds: bool,
}

/// One journal file that has rounds.
struct Generation {
    path: PathBuf,
    first_round: u64,
    last_round: u64,
}

/// What a first reading of the journal tells.
#[derive(Default)]
struct Survey {
    generations: BTreeMap<u64, Generation>,
    retired: HashSet<FileId>,
    /// Where each file ended as far as the journal knows.
    ends: HashMap<FileId, u64>,
    last_id: u64,
    spent: Option<Position>,
    /// Whether the newest round was written by an orderly shutdown.
    clean: bool,
}

/// Recovers from the journal in `dir`; afterwards the files are as if every live append had just been made and synced.
pub(super) fn recover(disk: &dyn Disk, dir: &Path, root: &Path, open_files: usize) -> Result<Recovered, WalError> {
    disk.create_dir_all(dir).on("make folder", dir)?;
    let (files, next_file) = journal_files(disk, dir)?;
    let mut survey = Survey::default();
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    // The journal's first file is there before the first append: without one no file was ever written.
    let used = !files.is_empty();
    for (path, handle) in files {
        let bytes = read_whole(handle.as_ref()).on("read", &path)?;
        let generation = survey.take(&path, &bytes)?;
        let capacity = bytes.len() as u64 / ALIGNMENT * ALIGNMENT;
        if generation == 0 && capacity < FILE_BYTES_MIN {
            // Its preparation was cut short.
            disk.remove_file(&path).on("remove", &path)?;
        } else {
            if generation == 0 && bytes.iter().any(|byte| *byte != 0) {
                unreadable.push((path.clone(), bytes.len() as u64));
            }
            found.push((path, capacity, generation));
        }
    }
    survey.check_unbroken()?;
    // Whoever made these folders and files may have been killed before their names were durable. A round is only ever
    // written where they are.
    if found.iter().any(|(_, _, generation)| *generation == 0) || survey.generations.is_empty() {
        for folder in dir.ancestors().take(4) {
            disk.sync_dir(folder).on("sync folder", folder)?;
        }
    }
    if !survey.clean && used {
        // A killed process leaves bytes in the page cache that no journal covers; before anything is built on them
        // they must be durable.
        disk.sync_filesystem(root).on("sync the file system of", root)?;
    }
    if !survey.clean {
        survey.replay(disk, root, open_files)?;
    }
    for (path, bytes) in unreadable {
        ring::wipe(disk, &path, bytes).on("wipe", &path)?;
    }
    let files = found.into_iter().map(|(path, capacity, generation)| {
        let handle = disk.open(&path, OpenMode::Direct).on("open", &path)?;
        Ok(JournalFile { path, handle, capacity, generation })
    });
    let files = files.collect::<Result<Vec<_>, WalError>>()?;
    let next_round = survey.generations.values().map(|generation| generation.last_round).max().unwrap_or(0) + 1;
    let next_generation = survey.generations.keys().max().unwrap_or(&0) + 1;
    Ok(Recovered {
        found: Found { files, next_generation, next_round, next_file },
        last_id: survey.last_id,
        had_rounds: !survey.generations.is_empty(),
    })
}

type OpenFiles = Vec<(PathBuf, Arc<dyn DiskFile>)>;

/// The journal files, and the number of the next one.
fn journal_files(disk: &dyn Disk, dir: &Path) -> Result<(OpenFiles, u64), WalError> {
    let mut files = Vec::new();
    let mut next = 1;
    for entry in disk.list(dir).on("list", dir)? {
        if let Some(number) = file_number(&entry.name) {
            let path = dir.join(&entry.name);
            let handle = disk.open(&path, OpenMode::Read).on("open", &path)?;
            files.push((path, handle));
            next = next.max(number + 1);
        }
    }
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok((files, next))
}

fn read_whole(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

impl Survey {
    /// Takes in one journal file; gives its generation, 0 without rounds.
    fn take(&mut self, path: &Path, bytes: &[u8]) -> Result<u64, WalError> {
        let mut rounds = journal::read(bytes);
        let Some(first) = rounds.next() else { return Ok(0) };
        let generation = first.position.generation;
        let mut last = first;
        self.take_round(&first);
        for round in rounds {
            self.take_round(&round);
            last = round;
        }
        if self.generations.last_key_value().is_none_or(|(newest, _)| *newest < generation) {
            self.clean = last.clean;
        }
        let read = Generation { path: path.to_owned(), first_round: first.number, last_round: last.number };
        if let Some(twin) = self.generations.insert(generation, read) {
            let what = format!("it holds generation {generation}, and so does {}", twin.path.display());
            return Err(WalError::Corrupt { path: path.to_owned(), what });
        }
        Ok(generation)
    }

    fn take_round(&mut self, round: &Round<'_>) {
        self.spent = self.spent.max(Some(round.spent));
        for entry in round.entries() {
            let (id, end) = match entry {
                Entry::Registered { file, .. } => (file, 0),
                Entry::Appended { file, position, data } => (file, position + data.len() as u64),
                Entry::Synced { file, position, length } => (file, position.saturating_add(length)),
                Entry::Retired { file } => {
                    self.retired.insert(file);
                    (file, 0)
                }
            };
            let known = self.ends.entry(id).or_default();
            *known = end.max(*known);
            self.last_id = self.last_id.max(id.0);
        }
    }

    /// Where the replay starts.
    fn spent(&self) -> Position {
        self.spent.unwrap_or(Position::START)
    }

    /// No round is missing between the oldest live generation and the newest: each was synced before the next began.
    fn check_unbroken(&self) -> Result<(), WalError> {
        let mut last: Option<&Generation> = None;
        for generation in self.generations.range(self.spent().generation..).map(|(_, generation)| generation) {
            if let Some(before) = last
                && before.last_round + 1 != generation.first_round
            {
                let what = format!(
                    "it ends at round {} and {} begins at round {}; acknowledged appends between them are lost. \
                     Move the journal's folder away to start without what it holds",
                    before.last_round,
                    generation.path.display(),
                    generation.first_round
                );
                return Err(WalError::Corrupt { path: before.path.clone(), what });
            }
            last = Some(generation);
        }
        Ok(())
    }

    fn replay(&self, disk: &dyn Disk, root: &Path, open_files: usize) -> Result<(), WalError> {
        let generations = || self.generations.range(self.spent().generation..).map(|(_, generation)| generation);
        let Some(first) = generations().next() else { return Ok(()) };
        let witness = disk.open(&first.path, OpenMode::Read).on("open", &first.path)?;
        let limit = open_files.max(1);
        let mut targets = Targets { disk, root, witness, limit, open: BTreeMap::new(), paths: BTreeSet::new() };
        let mut appends = 0_u64;
        for generation in generations() {
            let path = &generation.path;
            let bytes = disk.open(path, OpenMode::Read).and_then(|file| read_whole(file.as_ref()));
            let bytes = bytes.on("read", path)?;
            let mut paths: HashMap<FileId, PathBuf> = HashMap::new();
            for round in journal::read(&bytes) {
                let live = round.position >= self.spent();
                for entry in round.entries() {
                    match entry {
                        Entry::Registered { file, path } => {
                            paths.insert(file, root.join(path));
                        }
                        Entry::Appended { file, position, data } if live && !self.retired.contains(&file) => {
                            let path = paths.get(&file).ok_or_else(|| unregistered(&generation.path, file))?;
                            if position == 0 {
                                targets.cut(path, self.ends[&file])?;
                            }
                            targets.write(path, position, data)?;
                            appends += 1;
                        }
                        Entry::Appended { .. } | Entry::Synced { .. } | Entry::Retired { .. } => {}
                    }
                }
            }
        }
        targets.sync_all()?;
        if appends > 0 {
            tracing::info!(appends, files = targets.paths.len(), "replayed the commit journal");
        }
        Ok(())
    }
}

fn unregistered(path: &Path, file: FileId) -> WalError {
    WalError::Corrupt { path: path.to_owned(), what: format!("it names no path for file {}", file.0) }
}

/// The files that the replay writes.
struct Targets<'a> {
    disk: &'a dyn Disk,
    root: &'a Path,
    /// Opened before the first write: its sync of the file system misses none that failed.
    witness: Arc<dyn DiskFile>,
    /// Files kept open at most.
    limit: usize,
    open: BTreeMap<PathBuf, Arc<dyn DiskFile>>,
    paths: BTreeSet<PathBuf>,
}

impl Targets<'_> {
    fn open(&mut self, path: &Path) -> Result<&dyn DiskFile, WalError> {
        if !self.open.contains_key(path) {
            if self.open.len() >= self.limit {
                self.open.clear();
            }
            if let Some(folder) = path.parent() {
                self.disk.create_dir_all(folder).on("make folder", folder)?;
            }
            let file = self.disk.open(path, OpenMode::Create).on("open", path)?;
            self.open.insert(path.to_owned(), file);
            self.paths.insert(path.to_owned());
        }
        Ok(self.open[path].as_ref())
    }

    /// Before a file's first bytes are replayed: power loss may have undone the removal of an older file of that name.
    /// What the journal does not know of this one's bytes is the older one's, or was never acknowledged.
    fn cut(&mut self, path: &Path, end: u64) -> Result<(), WalError> {
        let file = self.open(path)?;
        if file.len().on("ask the length of", path)? > end {
            file.set_len(end).on("cut", path)?;
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, position: u64, data: &[u8]) -> Result<(), WalError> {
        self.open(path)?.write_all_at(&[IoSlice::new(data)], position).on("replay to", path)
    }

    fn sync_all(&self) -> Result<(), WalError> {
        if self.paths.len() > self.open.len().min(FILES_SYNCED_SINGLY) {
            return self.witness.sync_filesystem().on("sync the file system of", self.root);
        }
        for (path, file) in &self.open {
            file.sync_data().on("sync", path)?;
        }
        for folder in all_folders(self.paths.iter().map(PathBuf::as_path), self.root) {
            self.disk.sync_dir(folder).on("sync folder", folder)?;
        }
        Ok(())
    }
}
