//! Files that a client sends ahead of the prompt that they belong to.
//!
//! Each lies in the session's folder under the id that the client got for it, with its name and type in a file of JSON
//! beside it. It stays when a prompt has used it, so that the same prompt can be sent again; where there are too many of
//! them, the oldest go.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::attachments::{Attached, essence, problem_of};
use super::error::{Code, Error};
use super::events::json;
use super::files::Draft;
use crate::claude::guardian::make_private_dir;

/// One file may be this long.
pub const FILE_BYTES_MAX: usize = 25 << 20;

/// Files that are kept for one session …
pub const UPLOADS_MAX: usize = 100;

/// … and their bytes.
pub const UPLOADS_BYTES_MAX: u64 = 250 << 20;

/// What was begun so long ago was left by a server that was killed.
const BEGUN_MAX: Duration = Duration::from_secs(24 * 3600);

/// What the ids begin with, in front of 32 hexadecimal digits.
const PREFIX: &str = "file_";

/// Where one session's lie.
pub(super) struct Uploads(PathBuf);

/// A file that is on its way.
pub struct Upload {
    folder: PathBuf,
    draft: Draft,
    file: BufWriter<File>,
    about: Attached,
}

/// A file that is there.
#[derive(Debug)]
pub(super) struct Uploaded {
    pub about: Attached,
    pub path: PathBuf,
}

impl Uploads {
    /// Those in that folder. It is made with the first of them.
    pub fn in_folder(folder: PathBuf) -> Uploads {
        Uploads(folder)
    }

    /// Begins a file; `name` and `media_type` are checked as those of other attachments are.
    pub fn begin(&self, name: &str, media_type: &str) -> Result<Upload, Error> {
        if let Some(problem) = problem_of(name) {
            return Err(Error::field("name", problem));
        }
        let media_type = essence(media_type).ok_or_else(|| Error::field("Content-Type", "is not like image/png"))?;
        let begin = || {
            make_private_dir(&self.0)?;
            Draft::begin(&self.0)
        };
        let (draft, file) = begin().map_err(|error| unstored(&error))?;
        let about = Attached { name: name.to_owned(), media_type, bytes: 0 };
        Ok(Upload { folder: self.0.clone(), draft, file: BufWriter::new(file), about })
    }

    /// The file of that id; none where there is none (any more).
    pub fn find(&self, id: &str) -> io::Result<Option<Uploaded>> {
        // It becomes a path.
        let digits = id.strip_prefix(PREFIX).filter(|digits| digits.len() == 32);
        if !digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            return Ok(None);
        }
        let path = self.0.join(id);
        match fs::read(about(&path)) {
            Ok(about) => {
                let about = serde_json::from_slice(&about)?;
                Ok(path.is_file().then_some(Uploaded { about, path }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Upload {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Code::StorageFull`].
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.about.bytes += piece.len();
        self.file.write_all(piece).map_err(|error| unstored(&error))
    }

    /// All of it is there: gives its id, and what is known of it.
    ///
    /// # Errors
    /// [`Code::StorageFull`].
    pub fn finish(self) -> Result<(String, Attached), Error> {
        let Upload { folder, draft, file, about: attached } = self;
        let id = format!("{PREFIX}{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let keep = || -> io::Result<()> {
            // Some file systems tell only now that they are full.
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            let path = folder.join(&id);
            let (about_draft, mut file) = Draft::begin(&folder)?;
            file.write_all(json(&attached).as_bytes())?;
            about_draft.name(&about(&path))?;
            draft.name(&path)?;
            make_room(&folder)
        };
        keep().map_err(|error| unstored(&error))?;
        Ok((id, attached))
    }
}

/// Removes the oldest files where there are too many or too much, and what was never finished.
fn make_room(folder: &Path) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(folder)?.filter_map(Result::ok) {
        let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else { continue };
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if name.starts_with(PREFIX) && !name.contains('.') {
            kept.push((modified, metadata.len(), entry.path()));
        } else if !name.starts_with(PREFIX) && modified.elapsed().is_ok_and(|age| age > BEGUN_MAX) {
            remove(&entry.path())?;
        }
    }
    kept.sort_unstable();
    let (mut files, mut bytes) = (0, 0);
    // The newest stays, whatever its size.
    for (_, length, path) in kept.iter().rev() {
        files += 1;
        bytes += length;
        if files > UPLOADS_MAX || bytes > UPLOADS_BYTES_MAX {
            remove(path)?;
            remove(&about(path))?;
        }
    }
    Ok(())
}

/// Removes a file, unless another upload that ends in this moment has done so.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Where name and type of a file are.
fn about(path: &Path) -> PathBuf {
    path.with_extension("json")
}

fn unstored(error: &io::Error) -> Error {
    log::error!("an uploaded file cannot be stored: {error}");
    Error::new(Code::StorageFull, format!("the file cannot be stored: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn uploads() -> (tempfile::TempDir, Uploads) {
        let place = tempfile::tempdir().expect("a directory");
        let uploads = Uploads::in_folder(place.path().join("session/uploads"));
        (place, uploads)
    }

    fn upload(uploads: &Uploads, data: &[u8]) -> String {
        let mut upload = uploads.begin("a b.txt", "Text/Plain; x=y").expect("begun");
        upload.write(data).expect("written");
        upload.finish().expect("stored").0
    }

    fn files(uploads: &Uploads) -> usize {
        fs::read_dir(&uploads.0).expect("a folder").count()
    }

    #[test]
    fn a_file_is_found_by_its_id_alone() {
        let (_place, uploads) = uploads();
        let id = upload(&uploads, b"what is in it");
        let Uploaded { about, path } = uploads.find(&id).expect("read").expect("there");
        let expected = Attached { name: "a b.txt".into(), media_type: "text/plain".into(), bytes: 13 };
        assert_eq!((about, fs::read(&path).expect("read")), (expected, b"what is in it".to_vec()));
        assert_eq!(path.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(uploads.0.metadata().expect("there").permissions().mode() & 0o777, 0o700);
        let other = format!("{PREFIX}{:032x}", 7);
        for unknown in
            ["", PREFIX, "../x", &other, &format!("{id}.json"), &id.to_uppercase(), &format!("{PREFIX}../{}", &id[8..])]
        {
            assert!(uploads.find(unknown).expect("read").is_none(), "{unknown}");
        }
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let (_place, uploads) = uploads();
        let mut begun = uploads.begin("a", "a/b").expect("begun");
        begun.write(b"half").expect("written");
        assert_eq!(files(&uploads), 1);
        drop(begun);
        assert_eq!(files(&uploads), 0);
        for (name, media_type) in [("a/b", "a/b"), ("", "a/b"), ("a\0", "a/b"), ("a", "text"), ("a", "")] {
            assert_eq!(uploads.begin(name, media_type).map(drop).expect_err("refused").code, Code::BadRequest);
        }
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let (_place, uploads) = uploads();
        let first = upload(&uploads, b"first");
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let path = uploads.find(&first).expect("read").expect("there").path;
        File::options().write(true).open(&path).and_then(|file| file.set_modified(long_ago)).expect("aged");
        for number in 1..UPLOADS_MAX {
            upload(&uploads, format!("{number}").as_bytes());
        }
        assert!(uploads.find(&first).expect("read").is_some());
        let last = upload(&uploads, b"one more");
        assert!(uploads.find(&first).expect("read").is_none());
        assert!(uploads.find(&last).expect("read").is_some());
        assert_eq!(files(&uploads), 2 * UPLOADS_MAX);
    }

    /// Each finds the same that are too many.
    #[test]
    fn all_who_make_room_at_once_have_their_file_stored() {
        let (_place, uploads) = uploads();
        for number in 0..UPLOADS_MAX {
            upload(&uploads, format!("{number}").as_bytes());
        }
        let ids: Vec<String> = std::thread::scope(|scope| {
            let one_after_another = || (0..10).map(|_| upload(&uploads, b"new")).collect::<Vec<_>>();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one_after_another)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("stored")).collect()
        });
        assert!(ids.iter().all(|id| uploads.find(id).expect("read").is_some()));
        assert_eq!(files(&uploads), 2 * UPLOADS_MAX);
    }
}
