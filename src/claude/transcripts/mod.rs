//! Conversations that `claude` keeps on disk, the ones begun in a terminal among them. They are read, never written.
//!
//! A conversation is a file `PROJECTS/FOLDER/UUID.jsonl`, a line for each thing that happened. The folder's name is the
//! directory with every character but `a–z A–Z 0–9` as `-` (over 200 characters: cut, and a hash behind it), so it does
//! not say which directory that was; the lines do. What the real CLI writes (seen on 2.1.197 and 2.1.330, in a terminal
//! and with `-p`):
//!
//! | line | what it is |
//! |---|---|
//! | `user` with `message` | a prompt; the result of a tool (a `tool_result` block); what a command printed, an interruption, a task's end (known by how the text begins, or by `origin`) |
//! | `user` with `isMeta` | put in for the model, never shown |
//! | `user` with `isCompactSummary`, after `system`/`compact_boundary` | the conversation was compacted |
//! | `assistant` with `message` | one block of an answer |
//! | `system`/`local_command` | a command that Claude Code ran itself, or what it printed |
//! | `attachment` of type `queued_command` | a prompt that was sent while a turn ran |
//! | `custom-title`, `ai-title` (and `summary`, older) | the title; the last one counts, and it is written again at the end |
//! | `relocated` | `/cd` has moved the conversation into another directory, and its file into another folder |
//! | the other attachments, `queue-operation`, `file-history-snapshot`, `api-request…`, `mode`, `last-prompt`, `cost-state`, … | nothing that is shown |
//!
//! `uuid` and `parentUuid` make the lines a tree (see `branch`); `isSidechain` marks a sub-agent's, which newer versions
//! keep in files of their own. `assistant` and `user` lines bear the same `uuid` here and on the CLI's standard output.
//!
//! [`Transcripts`] lists them, from the head and the tail of each file only; [`read()`] gives one whole.

mod branch;
mod line;
mod list;
mod read;
mod scan;
#[cfg(test)]
mod tests;
mod text;

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use list::Transcripts;
pub use read::{Conversation, read};

/// A folder's name has at most this many characters of the directory's.
const FOLDER_CHARS_MAX: usize = 200;

/// What a list shows of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Claude's own name for it, which `--resume` takes.
    pub uuid: String,
    /// Its transcript.
    pub path: PathBuf,
    /// Where it goes on; symbolic links in it are resolved, if it still exists.
    pub cwd: PathBuf,
    /// What the user or Claude called it, else its first prompt, shortened, on one line.
    pub title: Option<String>,
    /// When its first line was written, in Unix milliseconds.
    pub created_at: u64,
    /// When its file was written last, in Unix milliseconds.
    pub last_activity: u64,
    /// How large the file is.
    pub bytes: u64,
    /// What began it: `cli` in a terminal, `sdk-cli` by `claude -p`, `sdk-ts` and `sdk-py`, or what was set in
    /// `CLAUDE_CODE_ENTRYPOINT`. The CLI's own list leaves out those that begin with `sdk-`.
    pub entrypoint: Option<String>,
    /// The model that answered last.
    pub model: Option<String>,
    /// The last text of an answer, shortened, on one line.
    pub last_words: Option<String>,
}

/// One event of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When it happened, in Unix milliseconds; where its line does not say, the time of the one before, or 0.
    pub time: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The user asked this: the text as it was typed, `/compact all of it` for a command, `[image]` for an image.
    Prompt(String),
    /// One line of stream-json, as the CLI would have printed it: `assistant`; `user` for results of tools and notices;
    /// `system` with `compact_boundary` or `local_command_output`.
    Event(String),
}

/// Where Claude Code keeps its transcripts: in `projects` in `CLAUDE_CONFIG_DIR`, else in `.claude` in `HOME`, whose
/// values are given. `None` without either.
#[must_use]
pub fn projects_dir(config_dir: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let set = |value: Option<OsString>| value.filter(|value| !value.is_empty()).map(PathBuf::from);
    let config_dir = set(config_dir).or_else(|| Some(set(home)?.join(".claude")))?;
    Some(config_dir.join("projects"))
}

/// Opens a transcript for reading, without ever waiting: a FIFO of that name has no writer.
///
/// A symbolic link is not followed: whoever may write here could make it lead anywhere.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata))
}

/// Whether transcripts of this directory are in the folder of this name.
fn belongs_in(cwd: &str, folder: &str) -> bool {
    // By JavaScript's idea of a character: two dashes for one beyond the first 65,536.
    let name: String = cwd
        .encode_utf16()
        .map(|unit| char::from_u32(unit.into()).filter(char::is_ascii_alphanumeric).unwrap_or('-'))
        .collect();
    match name.get(..FOLDER_CHARS_MAX).filter(|_| name.len() > FOLDER_CHARS_MAX) {
        Some(cut) => folder.starts_with(cut),
        None => name == folder,
    }
}
