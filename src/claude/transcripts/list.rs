//! All conversations that may be seen, from a directory that others write into while it is read.

use std::collections::{HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use parking_lot::Mutex;

use super::Found;
use super::line::uuid_bits;
use super::scan::scan;

/// Transcripts that one list looks at; it says so in the log when there are more.
const FILES_MAX: usize = 50_000;

/// Transcripts of which it is remembered what a list shows, about 1 kB each.
const CACHE_ENTRIES_MAX: usize = 10_000;

/// The conversations under the allowed roots.
///
/// Nothing is ever written, and nothing there can make a list fail or wait: what cannot be read is not listed, and only
/// regular files are opened.
#[derive(Debug)]
pub struct Transcripts {
    projects: PathBuf,
    roots: Vec<PathBuf>,
    /// What each file showed when it was last looked at. Held for a look-up only, never while a file is read.
    cache: Mutex<HashMap<PathBuf, Cached>>,
}

#[derive(Debug)]
struct Cached {
    state: State,
    found: Option<Found>,
}

/// A file whose state is the same is taken for unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl State {
    fn of(metadata: &Metadata) -> State {
        State { modified: (metadata.mtime(), metadata.mtime_nsec()), bytes: metadata.len(), inode: metadata.ino() }
    }
}

impl Transcripts {
    /// Of the conversations in `projects`, those whose directory is one of `roots` or lies under one.
    #[must_use]
    pub fn new(projects: PathBuf, roots: Vec<PathBuf>) -> Transcripts {
        let roots = roots.into_iter().map(|root| root.canonicalize().unwrap_or(root)).collect();
        Transcripts { projects, roots, cache: Mutex::default() }
    }

    /// All of them, the one that was written last being the first.
    #[must_use]
    pub fn list(&self) -> Vec<Found> {
        let files = self.files();
        let mut allowed = HashMap::new();
        let mut by_uuid: HashMap<String, Found> = HashMap::new();
        for (path, uuid) in &files {
            let Some(mut found) = self.look(path, uuid) else { continue };
            let cwd = allowed.entry(found.cwd.clone()).or_insert_with_key(|cwd| self.allowed(cwd));
            let Some(cwd) = cwd.clone() else { continue };
            found.cwd = cwd;
            match by_uuid.get(uuid) {
                Some(other) if other.last_activity >= found.last_activity => {}
                _ => _ = by_uuid.insert(uuid.clone(), found),
            }
        }
        let there: HashSet<&Path> = files.iter().map(|(path, _)| path.as_path()).collect();
        self.cache.lock().retain(|path, _| there.contains(path.as_path()));
        let mut list: Vec<Found> = by_uuid.into_values().collect();
        list.sort_unstable_by(|a, b| (b.last_activity, &b.uuid).cmp(&(a.last_activity, &a.uuid)));
        list
    }

    /// The one of this uuid, if it may be seen. Anything but a uuid finds nothing.
    #[must_use]
    pub fn find(&self, uuid: &str) -> Option<Found> {
        uuid_bits(uuid)?;
        let name = format!("{uuid}.jsonl");
        let found = self.folders().filter_map(|folder| {
            let mut found = self.look(&folder.join(&name), uuid)?;
            found.cwd = self.allowed(&found.cwd)?;
            Some(found)
        });
        found.max_by_key(|found| found.last_activity)
    }

    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(&self.projects).into_iter().flatten().filter_map(|folder| Some(folder.ok()?.path()))
    }

    /// Every transcript with the uuid that it is named after.
    fn files(&self) -> Vec<(PathBuf, String)> {
        let in_folder = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten();
        let named = |path: PathBuf| {
            let uuid = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
            uuid_bits(&uuid).is_some().then_some((path, uuid))
        };
        let all = self.folders().flat_map(in_folder).filter_map(|entry| named(entry.ok()?.path()));
        let mut files: Vec<_> = all.take(FILES_MAX + 1).collect();
        if files.len() > FILES_MAX {
            log::warn!("more than {FILES_MAX} conversations in {}: not all are listed", self.projects.display());
            files.truncate(FILES_MAX);
        }
        files
    }

    /// What a list shows of the file, read only if it has changed.
    fn look(&self, path: &Path, uuid: &str) -> Option<Found> {
        let metadata = fs::symlink_metadata(path).ok().filter(Metadata::is_file)?;
        let state = State::of(&metadata);
        if let Some(cached) = self.cache.lock().get(path).filter(|cached| cached.state == state) {
            return cached.found.clone();
        }
        let found = scan(path, uuid);
        let mut cache = self.cache.lock();
        if cache.len() < CACHE_ENTRIES_MAX || cache.contains_key(path) {
            cache.insert(path.to_owned(), Cached { state, found: found.clone() });
        }
        found
    }

    /// The directory's own name, if it is under a root. One that is gone is taken by the name that it had.
    fn allowed(&self, cwd: &Path) -> Option<PathBuf> {
        let plain = cwd.is_absolute() && !cwd.components().any(|part| part == Component::ParentDir);
        let cwd = if plain { cwd.canonicalize().unwrap_or_else(|_| cwd.to_owned()) } else { return None };
        self.roots.iter().any(|root| cwd.starts_with(root)).then_some(cwd)
    }
}
