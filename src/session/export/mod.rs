//! A session's whole history as a file: JSON for programs, Markdown for people.
//!
//! It is made page by page while it is sent, so that the longest one takes no more memory than a short one, and no lock is
//! held while a client takes its time. It ends with the event that was the last when it was asked for.

mod markdown;
#[cfg(test)]
mod tests;
mod text;

use std::io;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use self::markdown::Markdown;
use super::error::Error;
use super::events::Summary;
use super::history::PAGE_EVENTS_MAX;
use super::log::Item;
use super::session::Session;

/// About so many bytes of events are in memory at a time, and one event at least.
const PAGE_BYTES: usize = 256 << 10;

/// A file's name has so much of the title.
const FILE_NAME_CHARS_MAX: usize = 60;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A document to read.
    Markdown,
    /// One item of the history a line, whole.
    JsonLines,
}

impl Format {
    /// The format that files of this extension have.
    #[must_use]
    pub fn of(extension: &str) -> Option<Format> {
        match extension {
            "md" => Some(Format::Markdown),
            "jsonl" => Some(Format::JsonLines),
            _ => None,
        }
    }

    /// For `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Markdown => "text/markdown; charset=UTF-8",
            Format::JsonLines => "application/x-ndjson",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Format::Markdown => "md",
            Format::JsonLines => "jsonl",
        }
    }
}

/// A history on its way out: an iterator over the file's pieces. One that gives an error is not complete.
pub struct Export {
    session: Arc<Session>,
    /// What the file may be called: nothing but `a-z A-Z 0-9 _ - .`.
    pub file_name: String,
    writer: Writer,
    /// Those that are read and not written yet.
    page: Vec<Item>,
    /// The last event that was read.
    read: u64,
    /// The last event of all.
    last: u64,
    /// What the file begins with, until it is written.
    head: Option<String>,
    failed: bool,
}

enum Writer {
    Markdown(Markdown),
    JsonLines,
}

impl Session {
    /// The history as a file.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn export(self: &Arc<Session>, format: Format) -> Result<Export, Error> {
        let (summary, last) = self.with(|state, _| (state.summary(&self.context), state.log.position().seq));
        let file_name = file_name(&summary, format);
        let (writer, head) = match format {
            Format::Markdown => (Writer::Markdown(Markdown::default()), markdown::head(&summary)),
            Format::JsonLines => (Writer::JsonLines, String::new()),
        };
        let head = Some(head);
        let session = self.clone();
        let mut export = Export { session, file_name, writer, page: Vec::new(), read: 0, last, head, failed: false };
        // Before anything is promised: what cannot be read at all is told by the status.
        export.read_page()?;
        Ok(export)
    }
}

impl Export {
    fn read_page(&mut self) -> Result<(), Error> {
        if self.page.is_empty() && self.read < self.last {
            self.page = self.session.items_after(self.read, PAGE_EVENTS_MAX, PAGE_BYTES)?;
            self.page.retain(|item| item.seq <= self.last);
            // Looked at behind it: what was read before that is whole.
            if self.session.with(|state, _| state.deleted) {
                return Err(Error::invalid_session());
            }
        }
        Ok(())
    }

    fn next_piece(&mut self) -> io::Result<Vec<u8>> {
        self.read_page().map_err(|error| io::Error::other(error.message))?;
        let mut piece = self.head.take().unwrap_or_default();
        for item in std::mem::take(&mut self.page) {
            // A hole: nothing must be taken for whole that is not.
            if item.seq != self.read + 1 {
                break;
            }
            self.read = item.seq;
            self.writer.write(&item, &mut piece);
        }
        let stuck = piece.is_empty() && self.read < self.last;
        if stuck { Err(io::Error::other("events are missing")) } else { Ok(piece.into_bytes()) }
    }
}

impl Iterator for Export {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.failed || (self.head.is_none() && self.read == self.last) {
            return None;
        }
        let piece = self.next_piece();
        self.failed = piece.is_err();
        Some(piece)
    }
}

impl Writer {
    fn write(&mut self, item: &Item, to: &mut String) {
        let data = item.whole.as_deref().unwrap_or(&item.data);
        match self {
            Writer::Markdown(markdown) => markdown.event(item.name, item.time, data, to),
            Writer::JsonLines => to.push_str(&json_line(item, data)),
        }
    }
}

fn json_line(item: &Item, data: &str) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        seq: u64,
        time: u64,
        name: &'a str,
        data: &'a RawValue,
    }
    let data = serde_json::from_str(data).expect("what is in the log is JSON");
    super::events::json(&Line { seq: item.seq, time: item.time, name: item.name, data }) + "\n"
}

/// From the title, as far as it can stand in a header and in any file system; else the session's name.
fn file_name(session: &Summary, format: Format) -> String {
    let words = |text: &str| {
        let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|part| !part.is_empty());
        let mut name = parts.collect::<Vec<_>>().join("-");
        name.truncate(FILE_NAME_CHARS_MAX);
        name.trim_end_matches('-').to_owned()
    };
    let title = words(session.title.as_deref().unwrap_or_default());
    let name = if title.is_empty() { words(&session.session_id) } else { title };
    format!("{name}.{}", format.extension())
}
