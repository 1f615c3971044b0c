//! The simulated tree of names: changes wait, in order, for their folder to be synced.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use rand::rngs::SmallRng;

use super::super::DirEntry;

/// A file or folder, whatever its name.
pub(super) type Inode = u64;

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    File,
    Dir,
}

type Tree = BTreeMap<Inode, BTreeMap<String, Inode>>;

/// One atomic change: all its entries change or none does.
type Change = Vec<(Inode, String, Option<Inode>)>;

const ROOT: Inode = 0;

/// Folders and their entries.
#[derive(Clone)]
pub(super) struct Names {
    kinds: BTreeMap<Inode, Node>,
    now: Tree,
    durable: Tree,
    pending: Vec<Change>,
    next: Inode,
}

fn apply(tree: &mut Tree, change: &Change) {
    for (folder, name, value) in change {
        let entries = tree.entry(*folder).or_default();
        match value {
            Some(inode) => entries.insert(name.clone(), *inode),
            None => entries.remove(name),
        };
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            kinds: BTreeMap::from([(ROOT, Node::Dir)]),
            now: Tree::new(),
            durable: Tree::new(),
            pending: Vec::new(),
            next: ROOT + 1,
        }
    }

    /// What a path names.
    pub(super) fn find(&self, path: &Path) -> io::Result<Option<(Inode, Node)>> {
        let mut at = ROOT;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name.to_str().ok_or(io::ErrorKind::InvalidInput)?,
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
            };
            if self.kinds[&at] == Node::File {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            match self.now.get(&at).and_then(|entries| entries.get(name)) {
                Some(&inode) => at = inode,
                None => return Ok(None),
            }
        }
        Ok(Some((at, self.kinds[&at])))
    }

    fn folder(&self, path: &Path) -> io::Result<Inode> {
        match self.find(path)? {
            Some((inode, Node::Dir)) => Ok(inode),
            Some((_, Node::File)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(not_found()),
        }
    }

    /// The folder that holds, or would hold, a path, and the last name of it.
    fn place(&self, path: &Path) -> io::Result<(Inode, String)> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.folder(parent)?, name.to_owned()))
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.pending.push(change);
    }

    pub(super) fn make(&mut self, path: &Path, kind: Node) -> io::Result<Inode> {
        let (folder, name) = self.place(path)?;
        let inode = self.next;
        self.next += 1;
        self.kinds.insert(inode, kind);
        self.change(vec![(folder, name, Some(inode))]);
        Ok(inode)
    }

    pub(super) fn remove(&mut self, path: &Path, kind: Node) -> io::Result<Inode> {
        let (inode, found) = self.find(path)?.ok_or_else(not_found)?;
        if found != kind {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (folder, name) = self.place(path)?;
        self.change(vec![(folder, name, None)]);
        Ok(inode)
    }

    /// Renames; gives what the new name named before.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<Option<Inode>> {
        let (inode, _) = self.find(from)?.ok_or_else(not_found)?;
        let replaced = self.find(to)?.map(|(inode, _)| inode).filter(|replaced| *replaced != inode);
        let (old_folder, old_name) = self.place(from)?;
        let (new_folder, new_name) = self.place(to)?;
        if replaced.is_some() || self.find(to)?.is_none() {
            self.change(vec![(old_folder, old_name, None), (new_folder, new_name, Some(inode))]);
        }
        Ok(replaced)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let folder = self.folder(path)?;
        let entries = self.now.get(&folder).into_iter().flatten();
        Ok(entries
            .map(|(name, inode)| DirEntry { name: name.clone(), is_dir: self.kinds[inode] == Node::Dir })
            .collect())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let folder = self.folder(path)?;
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let touches = change.iter().any(|(touched, _, _)| *touched == folder);
            if touches {
                apply(durable, change);
            }
            !touches
        });
        Ok(())
    }

    pub(super) fn sync_all(&mut self) {
        self.durable.clone_from(&self.now);
        self.pending.clear();
    }

    /// The tree that a power loss leaves.
    pub(super) fn after_power_loss(&self, random: &mut SmallRng) -> Self {
        let mut tree = self.durable.clone();
        for (change, survives) in self.pending.iter().zip(super::survivors(random, self.pending.len())) {
            if survives {
                apply(&mut tree, change);
            }
        }
        Self { kinds: self.kinds.clone(), now: tree.clone(), durable: tree, pending: Vec::new(), next: self.next }
    }

    /// The files that a path leads to.
    pub(super) fn file_inodes(&self) -> Vec<Inode> {
        let mut files = Vec::new();
        let mut folders = vec![ROOT];
        while let Some(folder) = folders.pop() {
            for &inode in self.now.get(&folder).into_iter().flat_map(BTreeMap::values) {
                match self.kinds[&inode] {
                    Node::File => files.push(inode),
                    Node::Dir => folders.push(inode),
                }
            }
        }
        files.sort_unstable();
        files.dedup();
        files
    }
}
