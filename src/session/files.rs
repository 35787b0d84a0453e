//! The files of one session, in its folder under the data directory, for Claude to read.
//!
//! A file is never seen half written: it is made complete under another name and then gets its own by `link`, which
//! never replaces and never follows what lies there. All of it is done on the thread of the connection that the file
//! came from, before the session's lock is taken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::uploads::Uploads;
use crate::claude::guardian::make_private_dir;

/// Different files of one name in one session.
const SAME_NAMES_MAX: usize = 1000;

/// A stored file's name in front of its extension is cut to this.
const STEM_BYTES_MAX: usize = 100;

/// What is longer, dot included, is no extension.
const EXTENSION_BYTES_MAX: usize = 16;

/// Lies in the folder of a session: those that it borrows files from, a line each.
const LENDERS: &str = "lenders";

/// Files that no prompt has named yet.
const UPLOADS: &str = "uploads";

/// Where the folders of the sessions lie in the data directory.
const FOLDER: &str = "sessions";

/// The folder of one session's files. It is made with the first of them.
pub(super) struct Files(PathBuf);

impl Files {
    /// `session` is an id that the server has made.
    pub fn of(data_dir: &Path, session: &str) -> Files {
        Files(data_dir.join(FOLDER).join(session).join("files"))
    }

    /// Removes all that the session has there.
    pub fn remove(&self) {
        let Some(folder) = self.0.parent() else { return };
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                log::error!("cannot remove {}: {error}", folder.display());
            }
            _ => {}
        }
    }

    /// Notes that another session, of which this is a fork, may have files that are named in this one's conversation, by
    /// their paths: they stay as long as this one does. Also where it has none yet: one may be on its way.
    pub fn borrow_from(&self, other: &Files) -> io::Result<()> {
        let mut lenders = other.lenders();
        lenders.extend(other.session());
        let Some(folder) = self.0.parent() else { return Ok(()) };
        make_private_dir(folder)?;
        fs::write(folder.join(LENDERS), lenders.join("\n"))
    }

    /// Those that it borrows files from.
    fn lenders(&self) -> Vec<String> {
        let path = self.0.with_file_name(LENDERS);
        // Claude may have put anything there: what is no name of a session leads nowhere.
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        let noted = if is_file { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        noted.lines().filter(|name| is_name(name)).map(str::to_owned).collect()
    }

    fn session(&self) -> Option<String> {
        Some(self.0.parent()?.file_name()?.to_str()?.to_owned())
    }

    /// Removes the folder of a session that is gone, and those that it was the last to borrow from; but none that another
    /// session borrows from.
    pub fn remove_gone(data_dir: &Path, session: &str, is_known: impl Fn(&str) -> bool) {
        let its = Files::of(data_dir, session);
        if its.0.parent().is_none_or(|folder| !folder.exists()) {
            return;
        }
        let lenders = its.lenders();
        Files::remove_unneeded(data_dir, std::iter::once(session.to_owned()).chain(lenders), is_known);
        // Of one that others borrow from, nothing else is needed.
        let _ = fs::remove_dir_all(its.0.with_file_name(UPLOADS));
    }

    /// The same for all sessions that `is_known` does not know: what a crash has left.
    pub fn remove_unknown(data_dir: &Path, is_known: impl Fn(&str) -> bool) {
        let unknown: Vec<_> = folders(data_dir).filter(|name| !is_known(name)).collect();
        if !unknown.is_empty() {
            log::info!("removes files of sessions that are gone: {}", unknown.join(", "));
            Files::remove_unneeded(data_dir, unknown, is_known);
        }
    }

    fn remove_unneeded(data_dir: &Path, names: impl IntoIterator<Item = String>, is_known: impl Fn(&str) -> bool) {
        let mut borrowers: Vec<(String, String)> = Vec::new();
        for name in folders(data_dir) {
            borrowers.extend(Files::of(data_dir, &name).lenders().into_iter().map(|lender| (lender, name.clone())));
        }
        let is_borrowed = |name: &str| borrowers.iter().any(|(lender, borrower)| lender == name && is_known(borrower));
        // What has no files has nothing to lend.
        let is_needed = |name: &str| is_borrowed(name) && Files::of(data_dir, name).0.exists();
        for name in names.into_iter().filter(|name| !is_known(name) && !is_needed(name)) {
            Files::of(data_dir, &name).remove();
        }
    }

    /// Stores a file and gives its path. One that is there already, with the same name and the same content, is not stored
    /// again: so a prompt that is sent twice is the same prompt.
    pub fn store(&self, name: &str, data: &[u8]) -> io::Result<PathBuf> {
        make_private_dir(&self.0)?;
        let draft = Draft::write(&self.0, data)?;
        self.place(&draft.0, name, |there| holds(there, data))
    }

    /// The same for a file that lies elsewhere in the session's folder: both are one file then.
    pub fn link(&self, name: &str, path: &Path) -> io::Result<PathBuf> {
        make_private_dir(&self.0)?;
        let inode = |path: &Path| path.symlink_metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let its = inode(path)?;
        self.place(path, name, |there| inode(there).is_ok_and(|inode| inode == its))
    }

    /// What was uploaded for the session.
    pub fn uploads(&self) -> Uploads {
        Uploads::in_folder(self.0.with_file_name(UPLOADS))
    }

    /// Gives a complete file its place, if it does not have it already.
    fn place(&self, file: &Path, name: &str, is_it: impl Fn(&Path) -> bool) -> io::Result<PathBuf> {
        let (stem, extension) = plain(name);
        for number in 1..=SAME_NAMES_MAX {
            let path = self.0.join(match number {
                1 => format!("{stem}{extension}"),
                _ => format!("{stem}-{number}{extension}"),
            });
            match fs::hard_link(file, &path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                Err(_) if is_it(&path) => return Ok(path),
                Err(_) => {}
            }
        }
        Err(io::Error::other(format!("there are {SAME_NAMES_MAX} files of that name")))
    }
}

/// Whether it is what sessions are called: one part of a path, and none that leads elsewhere.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The names of all sessions that have a folder.
fn folders(data_dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(data_dir.join(FOLDER)).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// A complete file under a name of its own, removed when dropped.
pub(super) struct Draft(PathBuf);

impl Draft {
    /// An empty one.
    pub fn begin(directory: &Path) -> io::Result<(Draft, File)> {
        let path = directory.join(format!(".draft-{:016x}", fastrand::u64(..)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Draft(path), file))
    }

    /// Gives it a name that nothing has yet.
    pub fn name(&self, path: &Path) -> io::Result<()> {
        fs::hard_link(&self.0, path)
    }

    fn write(directory: &Path, data: &[u8]) -> io::Result<Draft> {
        let (draft, mut file) = Draft::begin(directory)?;
        file.write_all(data)?;
        // Some file systems tell only now that they are full.
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a regular file with exactly this content lies there.
fn holds(path: &Path, data: &[u8]) -> bool {
    let read = || -> io::Result<bool> {
        // Claude may have put anything there: a link is not followed, and a FIFO must not wait for its writer.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != data.len() as u64 {
            return Ok(false);
        }
        let mut found = Vec::new();
        file.take(data.len() as u64 + 1).read_to_end(&mut found)?;
        Ok(found == data)
    };
    read().unwrap_or(false)
}

/// Stem and extension of a plain file name: not hidden, not like a flag, of letters, digits, `.`, `-` and `_` only, so that
/// no shell or terminal takes it for more than a name.
fn plain(name: &str) -> (String, String) {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    let name = name.trim_start_matches(['.', '-']).trim_end_matches('.');
    let at = name.rfind('.').filter(|at| name.len() - at <= EXTENSION_BYTES_MAX).unwrap_or(name.len());
    let (stem, extension) = name.split_at(at);
    let stem = &stem[..stem.floor_char_boundary(STEM_BYTES_MAX)];
    (if stem.is_empty() { "file" } else { stem }.to_owned(), extension.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn names_become_plain() {
        let long = "x".repeat(300);
        let cases = [
            ("report.pdf", "report", ".pdf"),
            ("archive.tar.gz", "archive.tar", ".gz"),
            ("no extension", "no_extension", ""),
            ("Übersicht 漢字.csv", "Übersicht_漢字", ".csv"),
            ("..", "file", ""),
            (".", "file", ""),
            (".bashrc", "bashrc", ""),
            ("--help.txt", "help", ".txt"),
            ("a\\b:c*?\"<>|$(id)`;\n\u{1b}[2J\u{202e}.exe", "a_b_c________id______2J_", ".exe"),
            ("a.", "a", ""),
            ("a.not an extension at all", "a.not_an_extension_at_all", ""),
            (&format!("{long}.pdf"), &long[..100], ".pdf"),
            (&"漢".repeat(80), &"漢".repeat(33), ""),
            (".-.", "file", ""),
        ];
        for (name, stem, extension) in cases {
            let (got_stem, got_extension) = plain(name);
            assert_eq!((got_stem.as_str(), got_extension.as_str()), (stem, extension), "{name:?}");
        }
    }

    #[test]
    fn files_are_private_unique_and_stored_once() {
        let data_dir = tempfile::tempdir().expect("a directory");
        let files = Files::of(data_dir.path(), "session_1_a");
        let folder = data_dir.path().join("sessions/session_1_a/files");
        let store = |name: &str, data: &[u8]| files.store(name, data).expect("stored");
        assert_eq!(store("a.bin", b"one"), folder.join("a.bin"));
        assert_eq!(store("a.bin", b"two"), folder.join("a-2.bin"));
        assert_eq!(store("a.bin", b"one"), folder.join("a.bin"), "again");
        assert_eq!(store("a.bin", b"two"), folder.join("a-2.bin"), "again");
        assert_eq!(store("a.bin", b""), folder.join("a-3.bin"));
        assert_eq!(store("../../b", b"b"), folder.join("_.._b"));
        assert_eq!(names(&folder), ["_.._b", "a-2.bin", "a-3.bin", "a.bin"], "no draft is left");
        assert_eq!(fs::read(folder.join("a-2.bin")).expect("read"), b"two");
        for directory in [&folder, folder.parent().expect("one"), &data_dir.path().join("sessions")] {
            assert_eq!(mode(directory), 0o700);
        }
        assert_eq!(mode(&folder.join("a.bin")), 0o600);
    }

    #[test]
    fn what_lies_there_is_neither_followed_nor_replaced() {
        let data_dir = tempfile::tempdir().expect("a directory");
        let files = Files::of(data_dir.path(), "s");
        let path = files.store("a", b"one").expect("stored");
        let folder = path.parent().expect("a folder").to_owned();
        // The same content behind a link is another's file.
        fs::rename(&path, data_dir.path().join("elsewhere")).expect("moved");
        symlink(data_dir.path().join("elsewhere"), &path).expect("a link");
        assert_eq!(files.store("a", b"one").expect("stored"), folder.join("a-2"));
        symlink("nowhere", folder.join("b")).expect("a link");
        fs::create_dir(folder.join("b-2")).expect("a directory");
        let fifo = std::process::Command::new("mkfifo").arg(folder.join("b-3")).status().expect("mkfifo");
        assert!(fifo.success());
        assert_eq!(files.store("b", b"x").expect("stored"), folder.join("b-4"));
        assert!(!folder.join("nowhere").exists());
    }

    #[test]
    fn all_who_store_the_same_at_once_get_one_file() {
        let data_dir = tempfile::tempdir().expect("a directory");
        let files = Files::of(data_dir.path(), "s");
        let data = vec![7; 300_000];
        let paths: Vec<PathBuf> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| files.store("a.bin", &data))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic").expect("stored")).collect()
        });
        assert!(paths.iter().all(|path| path.ends_with("a.bin")), "{paths:?}");
        assert_eq!(names(paths[0].parent().expect("a folder")), ["a.bin"]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let data_dir = tempfile::tempdir().expect("a directory");
        fs::write(data_dir.path().join("sessions"), "").expect("a file in the way");
        assert!(Files::of(data_dir.path(), "s").store("a", b"x").is_err());
    }
}
