//! The token and its file.
//!
//! A file with a token is never seen half written: it is made complete under another name and then takes
//! its place, by `link`, which fails if somebody else was first, or by `rename`, which replaces.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use subtle::ConstantTimeEq;

use crate::logging::escape;

/// Random bytes in a new token: 43 characters of base64url.
const TOKEN_BYTES: usize = 32;

/// A token from a file has at least so many characters: 32 hex digits are 128 bits.
pub const TOKEN_CHARS_MIN: usize = 32;

/// A token from a file has at most so many characters.
pub const TOKEN_CHARS_MAX: usize = 128;

/// The secret that lets in. It has no `Debug`, `Display` or `PartialEq`, so it cannot slip into a log and
/// is compared only by [`Token::matches`].
pub struct Token(Box<str>);

impl Token {
    /// Reads the token at `path`; where there is no file, makes a token and stores it there with mode
    /// 0600, in a directory made with mode 0700 if it is missing.
    ///
    /// Of several processes that do this at once, all end with the same token.
    pub fn load_or_create(path: &Path) -> Result<Token, TokenError> {
        match Token::load(path) {
            Err(TokenError { kind: Kind::Missing, .. }) => {}
            result => return result,
        }
        let token = Token::generate(path)?;
        let draft = Draft::write(path, &token)?;
        match fs::hard_link(&draft.0, path) {
            Ok(()) => {
                sync_directory(path)?;
                Ok(token)
            }
            // Somebody was first, with a complete file; or something else lies there, and `load` says what.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Token::load(path),
            Err(error) => Err(failure(path, Kind::Io("create", error))),
        }
    }

    /// Reads the token at `path`: [`TOKEN_CHARS_MIN`] to [`TOKEN_CHARS_MAX`] characters of the base64url
    /// alphabet, and at most one newline behind them. A symlink, and a file that others than its owner may
    /// use, are refused.
    pub fn load(path: &Path) -> Result<Token, TokenError> {
        let content = read_private(path).map_err(|kind| failure(path, kind))?;
        Token::parse(&content).map_err(|kind| failure(path, kind))
    }

    /// Makes a new token and puts it in the place of the one at `path`, at once and durably. A running
    /// server keeps the token it started with.
    pub fn rotate(path: &Path) -> Result<Token, TokenError> {
        if path.is_symlink() {
            return Err(failure(path, Kind::Symlink));
        }
        let token = Token::generate(path)?;
        let draft = Draft::write(path, &token)?;
        fs::rename(&draft.0, path).map_err(|error| failure(path, Kind::Io("replace", error)))?;
        sync_directory(path)?;
        Ok(token)
    }

    /// Whether `candidate` is this token. Takes the same time for every candidate of the same length.
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// The token itself: for the link shown to its owner, and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The token that a file's `content` holds.
    pub(super) fn parse(content: &[u8]) -> Result<Token, Kind> {
        let text = content.strip_suffix(b"\n").unwrap_or(content);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match text.len() {
            0 => return Err(Kind::Empty),
            1..TOKEN_CHARS_MIN => return Err(Kind::TooShort),
            TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX => {}
            _ => return Err(Kind::TooLong),
        }
        let base64url = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match str::from_utf8(text) {
            Ok(text) if text.bytes().all(|byte| base64url(&byte)) => Ok(Token(text.into())),
            _ => Err(Kind::Content),
        }
    }

    /// A new token; `path` is only for the error.
    fn generate(path: &Path) -> Result<Token, TokenError> {
        let bytes: [u8; TOKEN_BYTES] = random(path)?;
        Ok(Token(BASE64URL_NOPAD.encode(&bytes).into()))
    }
}

/// Why there is no token. Shown as one line that names the file and, where it helps, what to do.
#[derive(Debug)]
pub struct TokenError {
    path: PathBuf,
    kind: Kind,
}

impl TokenError {
    /// Whether there simply is no file yet: no server was started with this data directory.
    pub fn is_missing(&self) -> bool {
        matches!(self.kind, Kind::Missing)
    }
}

#[derive(Debug)]
pub(super) enum Kind {
    Missing,
    Symlink,
    NotAFile,
    /// The permission bits.
    Shared(u32),
    Empty,
    TooShort,
    TooLong,
    Content,
    /// What could not be done.
    Io(&'static str, io::Error),
    Random(getrandom::Error),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.to_string_lossy();
        let path = escape(&path);
        write!(f, "token file {path}: ")?;
        match &self.kind {
            Kind::Missing => write!(f, "does not exist; the first start of the server makes it"),
            Kind::Symlink => write!(f, "is a symbolic link; put the file itself there"),
            Kind::NotAFile => write!(f, "is not a regular file"),
            Kind::Shared(mode) => {
                write!(f, "others than its owner may use it (mode {mode:04o}); run: chmod 600 {path}")
            }
            Kind::Empty => write!(f, "is empty; remove it and a new one is made"),
            Kind::TooShort => write!(f, "its token has less than {TOKEN_CHARS_MIN} characters"),
            Kind::TooLong => write!(f, "its token has more than {TOKEN_CHARS_MAX} characters"),
            Kind::Content => {
                write!(f, "a token has only the characters A-Z, a-z, 0-9, - and _, on one line")
            }
            Kind::Io(doing, error) => write!(f, "cannot {doing} it: {error}"),
            Kind::Random(error) => write!(f, "the system gives no random numbers: {error}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// A complete token file under a name of its own, removed when dropped.
struct Draft(PathBuf);

impl Draft {
    /// Writes `token` next to `path`, whose directory is made if it is missing.
    fn write(path: &Path, token: &Token) -> Result<Draft, TokenError> {
        let io = |doing| move |error| failure(path, Kind::Io(doing, error));
        let directory = directory_of(path);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(io("make the directory of"))?;
        let name: [u8; 8] = random(path)?;
        let draft = directory.join(format!(".token-{}", HEXLOWER.encode(&name)));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let mut file = opened.map_err(io("create"))?;
        let draft = Draft(draft);
        file.write_all(format!("{}\n", token.reveal()).as_bytes()).map_err(io("write"))?;
        file.sync_all().map_err(io("write"))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename nothing is left under this name; otherwise it is a second name, or litter.
        let _ = fs::remove_file(&self.0);
    }
}

/// The content of a file that belongs to its owner alone, cut just above the longest token.
fn read_private(path: &Path) -> Result<Vec<u8>, Kind> {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Kind::Missing),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(Kind::Symlink),
        Err(error) => return Err(Kind::Io("open", error)),
    };
    let metadata = file.metadata().map_err(|error| Kind::Io("read", error))?;
    if !metadata.is_file() {
        return Err(Kind::NotAFile);
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Kind::Shared(metadata.mode() & 0o7777));
    }
    let mut content = Vec::new();
    let limit = TOKEN_CHARS_MAX as u64 + 3; // the newline, and one more than is allowed
    file.take(limit).read_to_end(&mut content).map_err(|error| Kind::Io("read", error))?;
    Ok(content)
}

/// Makes the new name of a file survive a crash of the machine.
fn sync_directory(path: &Path) -> Result<(), TokenError> {
    let synced = File::open(directory_of(path)).and_then(|directory| directory.sync_all());
    synced.map_err(|error| failure(path, Kind::Io("store", error)))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn random<const N: usize>(path: &Path) -> Result<[u8; N], TokenError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| failure(path, Kind::Random(error)))?;
    Ok(bytes)
}

fn failure(path: &Path, kind: Kind) -> TokenError {
    TokenError { path: path.to_owned(), kind }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Barrier;

    use super::*;

    const GOOD: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCD-_X";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").mode() & 0o7777
    }

    fn store(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("read_dir");
        entries.map(|entry| entry.expect("entry").file_name().into_string().expect("name")).collect()
    }

    #[test]
    fn what_is_in_the_file_decides() {
        fn check(content: &[u8], mode: u32, expected: Result<&str, &str>) {
            let directory = tempfile::tempdir().expect("tempdir");
            let path = directory.path().join("token");
            store(&path, content, mode);
            for load in [Token::load, Token::load_or_create] {
                let shown = load(&path).map(|token| token.reveal().to_owned());
                let shown = shown.map_err(|error| error.to_string());
                let expected = expected.map(str::to_owned).map_err(|what| {
                    let what = what.replace("PATH", &path.to_string_lossy());
                    format!("token file {}: {what}", path.display())
                });
                assert_eq!(shown, expected, "{:?}", String::from_utf8_lossy(content));
            }
            assert_eq!(fs::read(&path).expect("read"), content, "the file is left as it was");
        }
        let line = |ending: &str| format!("{GOOD}{ending}").into_bytes();
        let longest = "x".repeat(TOKEN_CHARS_MAX);
        let empty = "is empty; remove it and a new one is made";
        let short = "its token has less than 32 characters";
        let long = "its token has more than 128 characters";
        let bad = "a token has only the characters A-Z, a-z, 0-9, - and _, on one line";
        let shared = |mode: &str| format!("others than its owner may use it (mode {mode}); run: chmod 600 PATH");
        for (content, mode, expected) in [
            (line(""), 0o600, Ok(GOOD)),
            (line("\n"), 0o600, Ok(GOOD)),
            (line("\r\n"), 0o400, Ok(GOOD)),
            (format!("{longest}\r\n").into(), 0o600, Ok(longest.as_str())),
            (line("\n\n"), 0o600, Err(bad)),
            (line(" "), 0o600, Err(bad)),
            (line("="), 0o600, Err(bad)),
            (line("\0"), 0o600, Err(bad)),
            ([line("").as_slice(), b"\xff"].concat(), 0o600, Err(bad)),
            (b"".to_vec(), 0o600, Err(empty)),
            (b"\n".to_vec(), 0o600, Err(empty)),
            (b"secret\n".to_vec(), 0o600, Err(short)),
            (format!("{longest}x").into(), 0o600, Err(long)),
            (vec![b'x'; 1 << 20], 0o600, Err(long)),
            (line("\n"), 0o640, Err(shared("0640").as_str())),
            (line("\n"), 0o604, Err(shared("0604").as_str())),
            (line("\n"), 0o610, Err(shared("0610").as_str())),
        ] {
            check(&content, mode, expected);
        }
    }

    #[test]
    fn what_is_no_file_is_refused() {
        fn check(name: &str, make: impl Fn(&Path), what: &str) {
            let directory = tempfile::tempdir().expect("tempdir");
            let path = directory.path().join("token");
            make(&path);
            for load in [Token::load, Token::load_or_create] {
                let error = load(&path).err().expect("refused");
                assert!(!error.is_missing(), "{name}");
                assert_eq!(error.to_string(), format!("token file {}: {what}", path.display()));
            }
            assert!(!directory.path().join("target").exists(), "{name}: nothing behind a symlink");
            assert_eq!(names(directory.path()).iter().filter(|n| n.starts_with('.')).count(), 0);
        }
        let link = "is a symbolic link; put the file itself there";
        check("dangling symlink", |path| symlink("target", path).expect("symlink"), link);
        check(
            "symlink to a token",
            |path| {
                store(&path.with_file_name("other"), GOOD.as_bytes(), 0o600);
                symlink("other", path).expect("symlink");
            },
            link,
        );
        let no_file = "is not a regular file";
        check("directory", |path| fs::create_dir(path).expect("mkdir"), no_file);
        check(
            "fifo",
            |path| {
                let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo");
                assert!(made.success());
            },
            no_file,
        );
    }

    #[test]
    fn a_new_token_is_private_and_stays() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("state/manager/token");
        assert!(Token::load(&path).err().expect("missing").is_missing());
        let token = Token::load_or_create(&path).expect("created");
        assert_eq!(token.reveal().len(), 43);
        assert_eq!(BASE64URL_NOPAD.decode(token.reveal().as_bytes()).expect("base64url").len(), 32);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&directory.path().join("state")), 0o700);
        assert_eq!(mode(&directory.path().join("state/manager")), 0o700);
        assert_eq!(names(path.parent().expect("parent")), ["token"]);
        assert!(Token::load_or_create(&path).expect("loaded").matches(token.reveal()));
        assert!(Token::load(&path).expect("loaded").matches(token.reveal()));
    }

    #[test]
    fn all_who_start_at_once_end_with_one_token() {
        const STARTS: usize = 8;
        for _ in 0..20 {
            let directory = tempfile::tempdir().expect("tempdir");
            let path = directory.path().join("data/token");
            let barrier = Barrier::new(STARTS);
            let tokens: Vec<String> = std::thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    let token = Token::load_or_create(&path).map_err(|error| error.to_string());
                    token.expect("a token").reveal().to_owned()
                };
                let threads: Vec<_> = (0..STARTS).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            let stored = Token::load(&path).expect("stored");
            assert!(tokens.iter().all(|token| stored.matches(token)));
            assert_eq!(names(path.parent().expect("parent")), ["token"]);
        }
    }

    #[test]
    fn rotation_replaces() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("data/token");
        let first = Token::rotate(&path).expect("made where there was none");
        let second = Token::rotate(&path).expect("replaced");
        assert!(!first.matches(second.reveal()));
        assert!(Token::load(&path).expect("loaded").matches(second.reveal()));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(path.parent().expect("parent")), ["token"]);

        store(&path, b"bad", 0o644);
        assert!(Token::rotate(&path).is_ok(), "a bad file is repaired");
        assert_eq!(mode(&path), 0o600);

        let link = directory.path().join("link");
        symlink(&path, &link).expect("symlink");
        assert!(Token::rotate(&link).is_err(), "a symlink is refused");
    }

    #[test]
    fn only_the_whole_token_matches() {
        fn check(candidate: &str, expected: bool) {
            let token = Token::parse(GOOD.as_bytes()).expect("a token");
            assert_eq!(token.matches(candidate), expected, "{candidate:?}");
        }
        for (candidate, expected) in [
            (GOOD, true),
            ("", false),
            (&GOOD[1..], false),
            (&GOOD[..42], false),
            (&format!("{GOOD}\n"), false),
            (&GOOD.to_ascii_lowercase(), false),
            (&GOOD.replace('X', "Y"), false),
            (&"x".repeat(10_000), false),
        ] {
            check(candidate, expected);
        }
    }
}
