//! The directories that a client may choose for a session, for a picker: nothing outside the allowed roots is told.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::{Code, Error};
use super::events::{EVENT_BYTES_MAX, json};
use super::rules::Rules;

/// Entries of a directory that are looked at; of more than that, some are not found.
const LOOKED_AT_MAX: usize = 100_000;

/// Directories in one answer.
pub const DIRECTORIES_MAX: usize = 2000;

/// Their names and paths as JSON, in bytes.
const BYTES_MAX: usize = EVENT_BYTES_MAX - 200_000;

/// What there is to choose from in one directory.
#[derive(Debug, Serialize)]
pub(super) struct Directories {
    ok: bool,
    /// Canonical.
    path: String,
    /// Where that may be chosen, too.
    parent: Option<String>,
    roots: Vec<String>,
    /// The hidden ones last.
    directories: Vec<Entry>,
    /// There are more than are told.
    more: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entry {
    name: String,
    /// Canonical: another than the name says, where that is a link.
    path: String,
    hidden: bool,
}

impl Rules {
    /// The directories in `path`, or in the `default`.
    pub(super) fn directories(&self, path: Option<&str>, default: &Path) -> Result<Directories, Error> {
        let path = path.map_or_else(|| Ok(default.to_owned()), |path| self.directory(path))?;
        let unreadable = |_| Error::new(Code::BadCwd, "cwd is not a directory under an allowed root");
        let mut found = fs::read_dir(&path).map_err(unreadable)?;
        let entries = found.by_ref().take(LOOKED_AT_MAX).filter_map(|entry| self.entry(&entry.ok()?.path()));
        let mut directories: Vec<Entry> = entries.collect();
        directories.sort_by_cached_key(|entry| (entry.hidden, entry.name.to_lowercase(), entry.name.clone()));
        let mut bytes = 0;
        let fits = directories.iter().take(DIRECTORIES_MAX).take_while(|entry| {
            bytes += json(entry).len() + 1;
            bytes <= BYTES_MAX
        });
        let fits = fits.count();
        let more = directories.len() > fits || found.next().is_some();
        directories.truncate(fits);
        let parent = path.parent().filter(|parent| self.allows(parent));
        Ok(Directories {
            ok: true,
            parent: parent.and_then(text),
            roots: self.allow_roots.iter().filter_map(|root| text(root)).collect(),
            path: text(&path).unwrap_or_default(),
            directories,
            more,
        })
    }

    /// A directory that may be chosen, also through a link; one whose name is not UTF-8 has no form in JSON.
    fn entry(&self, path: &Path) -> Option<Entry> {
        let kind = path.symlink_metadata().ok()?.file_type();
        let canonical: PathBuf = match kind.is_symlink() {
            true => path.canonicalize().ok().filter(|target| self.allows(target) && target.is_dir())?,
            false => kind.is_dir().then(|| path.to_owned())?,
        };
        let name = path.file_name()?.to_str()?.to_owned();
        Some(Entry { hidden: name.starts_with('.'), name, path: text(&canonical)? })
    }
}

fn text(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_directories_under_a_root_are_told() {
        let place = tempfile::tempdir().expect("a directory");
        let place = place.path().canonicalize().expect("its path");
        let (root, outside) = (place.join("root"), place.join("outside"));
        for directory in ["root/b/c", "root/A", "root/.hidden", "root/file-less", "outside/secret"] {
            fs::create_dir_all(place.join(directory)).expect("made");
        }
        fs::write(root.join("file"), "").expect("written");
        symlink(root.join("b/c"), root.join("inward")).expect("linked");
        symlink(&outside, root.join("outward")).expect("linked");
        symlink(root.join("nothing"), root.join("broken")).expect("linked");
        symlink(root.join("file"), root.join("to-file")).expect("linked");
        let rules =
            Rules { allow_roots: vec![root.clone()], allow_bypass_permissions: false, data_dir: place.join("data") };
        let list = |path: Option<&Path>| rules.directories(path.map(|path| path.to_str().expect("UTF-8")), &root);
        let top = list(None).expect("listed");
        let names: Vec<&str> = top.directories.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["A", "b", "file-less", "inward", ".hidden"]);
        assert_eq!(top.directories[3].path, root.join("b/c").to_str().expect("UTF-8"));
        assert_eq!((top.parent, top.more, top.roots), (None, false, vec![text(&root).expect("UTF-8")]));
        let below = list(Some(&root.join("b/../b"))).expect("listed");
        assert_eq!((below.path, below.parent), (text(&root.join("b")).expect("UTF-8"), text(&root)));
        for refused in [&outside, &root.join(".."), &root.join("outward"), &root.join("file"), &root.join("nothing")] {
            let error = list(Some(refused)).expect_err("refused");
            let expected = Error::new(Code::BadCwd, "cwd is not a directory under an allowed root");
            assert_eq!(error, expected, "{}", refused.display());
        }
    }

    #[test]
    fn of_very_many_the_first_are_told() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().canonicalize().expect("its path");
        for number in 0..=DIRECTORIES_MAX {
            fs::create_dir(root.join(format!("d{number:05}"))).expect("made");
        }
        let rules = Rules { allow_roots: vec![root.clone()], allow_bypass_permissions: false, data_dir: root.clone() };
        let listed = rules.directories(None, &root).expect("listed");
        assert_eq!((listed.directories.len(), listed.more), (DIRECTORIES_MAX, true));
        assert_eq!(listed.directories[0].name, "d00000");
    }
}
