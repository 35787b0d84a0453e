//! What a list shows of a conversation, out of the head and the tail of its transcript.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::line::{Kind, Line, Said, parse};
use super::text::one_line;
use super::{Found, belongs_in, open};

/// How much is read of the beginning of a transcript.
const HEAD_BYTES: u64 = 64 * 1024;

/// How much is read of its end; and how much where no answer was found in that: 2.1.330 may write a snapshot of the
/// model's instructions, 64 kB long, behind an answer.
const TAIL_BYTES: [u64; 2] = [64 * 1024, 256 * 1024];

/// A title that was given has at most this many characters, one that is made of a prompt fewer.
const TITLE_CHARS_MAX: usize = 200;

/// A title that is made of the first prompt has at most this many characters.
const PROMPT_TITLE_CHARS_MAX: usize = 80;

/// The last words have at most this many characters.
const LAST_WORDS_CHARS_MAX: usize = 200;

/// What was seen so far. A field is the first or the last of its kind.
#[derive(Debug, Default, Clone)]
struct Seen {
    sidechain: Option<bool>,
    first_time: Option<u64>,
    first_cwd: Option<String>,
    last_cwd: Option<String>,
    moved_to: Option<String>,
    entrypoint: Option<String>,
    custom_title: Option<String>,
    ai_title: Option<String>,
    summary: Option<String>,
    first_prompt: Option<String>,
    first_command: Option<String>,
    model: Option<String>,
    last_words: Option<String>,
}

/// `None` where the file cannot be read, holds no conversation, or that of a sub-agent.
pub(super) fn scan(path: &Path, uuid: &str) -> Option<Found> {
    let (file, metadata) = open(path).ok()?;
    let seen = look(&file, metadata.len());
    let last_activity = unix_ms_of(&metadata);
    let said_anything = seen.first_prompt.is_some() || seen.last_words.is_some();
    if !said_anything || seen.sidechain == Some(true) {
        return None;
    }
    Some(Found {
        uuid: uuid.to_owned(),
        path: path.to_owned(),
        cwd: seen.cwd(path)?,
        title: seen.title(),
        created_at: seen.first_time.unwrap_or(last_activity),
        last_activity,
        bytes: metadata.len(),
        entrypoint: seen.entrypoint,
        model: seen.model,
        last_words: seen.last_words,
    })
}

/// When it was written last, in Unix milliseconds.
pub(super) fn unix_ms_of(metadata: &Metadata) -> u64 {
    let millis = metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    u64::try_from(millis).unwrap_or(0)
}

fn look(file: &File, length: u64) -> Seen {
    let mut head = Seen::default();
    let mut bytes = part(file, 0, HEAD_BYTES.min(length));
    if length > HEAD_BYTES {
        bytes.truncate(memchr::memrchr(b'\n', &bytes).map_or(0, |newline| newline + 1));
    }
    head.see_all(&bytes);
    let from = bytes.len() as u64;
    if from == length {
        return head;
    }
    let mut whole = head.clone();
    for tail_bytes in TAIL_BYTES {
        let tail_from = length.saturating_sub(tail_bytes).max(from);
        let tail = part(file, tail_from, length - tail_from);
        // The first line is not whole, unless it follows the head.
        let cut = if tail_from == from { 0 } else { memchr::memchr(b'\n', &tail).map_or(tail.len(), |at| at + 1) };
        whole = head.clone();
        whole.last_words = None;
        whole.see_all(&tail[cut..]);
        if whole.last_words.is_some() {
            return whole;
        }
    }
    whole.last_words = head.last_words;
    whole
}

/// A part of the file, or what can be read of it.
fn part(file: &File, from: u64, bytes: u64) -> Vec<u8> {
    let mut part = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let mut filled = 0;
    while filled < part.len() {
        match file.read_at(&mut part[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    part.truncate(filled);
    part
}

impl Seen {
    fn see_all(&mut self, bytes: &[u8]) {
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(line) = parse(&String::from_utf8_lossy(line)) {
                self.see(&line);
            }
        }
    }

    fn see(&mut self, line: &Line<'_>) {
        self.first_time = self.first_time.or_else(|| line.time());
        match line.kind() {
            Kind::CustomTitle => self.custom_title = line.note().map(Into::into),
            Kind::AiTitle => self.ai_title = line.note().map(Into::into),
            Kind::Summary => self.summary = line.note().map(Into::into),
            Kind::Relocated => self.moved_to = line.note().map(Into::into),
            Kind::User | Kind::Assistant | Kind::System | Kind::Attachment => self.see_message(line),
            Kind::Other => {}
        }
    }

    fn see_message(&mut self, line: &Line<'_>) {
        self.sidechain = self.sidechain.or(line.sidechain());
        if line.sidechain() == Some(true) {
            return;
        }
        if let Some(cwd) = line.cwd() {
            self.first_cwd.get_or_insert_with(|| cwd.clone().into());
            self.last_cwd = Some(cwd.into());
        }
        self.entrypoint = self.entrypoint.take().or_else(|| line.entrypoint().map(Into::into));
        match line.said() {
            Said::Prompt { text, command } => {
                let first = if command { &mut self.first_command } else { &mut self.first_prompt };
                if first.is_none() {
                    *first = one_line(&text, PROMPT_TITLE_CHARS_MAX);
                }
            }
            Said::Answer => {
                self.model = line.model().map(Into::into).or(self.model.take());
                let words = line.answer().and_then(|text| one_line(&text, LAST_WORDS_CHARS_MAX));
                self.last_words = words.or(self.last_words.take());
            }
            Said::ToolResult | Said::Notice { .. } | Said::CommandOutput(_) | Said::Compacted | Said::Nothing => {}
        }
    }

    /// The directory where the CLI finds this conversation again.
    ///
    /// The lines say which directory it was at their time, and a conversation may change it; the CLI looks in the
    /// folder of the directory that it is started in. So of several the one counts whose folder the file is in.
    fn cwd(&self, path: &Path) -> Option<PathBuf> {
        let folder = path.parent()?.file_name()?.to_string_lossy();
        let said = [&self.moved_to, &self.first_cwd, &self.last_cwd];
        let mut said = said.into_iter().flatten();
        let fits = said.clone().find(|cwd| belongs_in(cwd, &folder));
        fits.or_else(|| said.next()).map(PathBuf::from)
    }

    fn title(&self) -> Option<String> {
        let given = [&self.custom_title, &self.ai_title, &self.summary].into_iter().flatten();
        let mut given = given.filter_map(|title| one_line(title, TITLE_CHARS_MAX));
        given.next().or_else(|| self.first_prompt.clone()).or_else(|| self.first_command.clone())
    }
}
