//! The whole conversation of one transcript.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::branch::{Node, Part, order};
use super::line::{Kind, Line, Said, parse};
use super::{Told, open};
use crate::claude::process::LINE_BYTES_MAX;
use crate::proto::ndjson::{self, Splitter};

/// Lines of one transcript whose places are kept while it is read. Of a longer one the oldest are left out.
const NODES_MAX: usize = 1 << 18;

/// Where a line is in the file.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: u64,
    bytes: usize,
}

/// What [`read`] gives: an iterator that reads one line at a time.
#[derive(Debug)]
pub struct Conversation {
    file: File,
    spans: std::vec::IntoIter<Span>,
    buffer: Vec<u8>,
    time: u64,
}

/// Reads a conversation: what was typed and what was answered, in order, without the branches that were left behind
/// and without what sub-agents said among themselves.
///
/// The file is gone through once for the places of its lines and a second time, a line at a time, for what they say.
/// What is damaged in it is left out, and so is a line above [`LINE_BYTES_MAX`]; an error in mid-file ends it.
///
/// # Errors
/// When the file is not there, may not be read, or is no regular file.
pub fn read(path: &Path) -> io::Result<Conversation> {
    let file = open(path)?.0;
    let (nodes, spans) = index(&file);
    let spans: Vec<Span> = order(&nodes).into_iter().map(|at| spans[at]).collect();
    Ok(Conversation { file, spans: spans.into_iter(), buffer: Vec::new(), time: 0 })
}

impl Iterator for Conversation {
    type Item = Told;

    fn next(&mut self) -> Option<Told> {
        loop {
            let span = self.spans.next()?;
            self.buffer.resize(span.bytes, 0);
            if self.file.read_exact_at(&mut self.buffer, span.from).is_err() {
                // Somebody has cut the file since: what is behind this place is gone too, most likely not what is before.
                continue;
            }
            let text = String::from_utf8_lossy(&self.buffer);
            let Some(line) = parse(&text) else { continue };
            self.time = line.time().unwrap_or(self.time);
            if let Some(what) = line.told() {
                return Some(Told { time: self.time, what });
            }
        }
    }
}

/// The lines that have a place in the conversation, and where they are.
fn index(mut file: &File) -> (Vec<Node>, Vec<Span>) {
    let (mut nodes, mut spans) = (Vec::new(), Vec::new());
    let mut add = |line: ndjson::Line<'_>, from: &mut u64| {
        let (bytes, whole) = match line {
            ndjson::Line::Whole(line) => (line.len() as u64, Some(line)),
            ndjson::Line::TooLong(bytes) => (bytes, None),
        };
        if let Some(line) = whole
            && let Some(node) = parse(&String::from_utf8_lossy(line)).and_then(|line| node(&line))
        {
            if nodes.len() == NODES_MAX {
                nodes.drain(..NODES_MAX / 2);
                spans.drain(..NODES_MAX / 2);
            }
            nodes.push(node);
            spans.push(Span { from: *from, bytes: line.len() });
        }
        *from += bytes + 1;
    };
    let mut lines = Splitter::new(LINE_BYTES_MAX);
    let mut from = 0;
    loop {
        match file.read(lines.space()) {
            Ok(0) => break,
            Ok(count) => lines.filled(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        }
        while let Some(line) = lines.next_line() {
            add(line, &mut from);
        }
    }
    if let Some(line) = lines.last_line() {
        add(line, &mut from);
    }
    (nodes, spans)
}

fn node(line: &Line<'_>) -> Option<Node> {
    let (kind, uuid) = (line.kind(), line.uuid());
    let part = match kind {
        _ if line.sidechain() == Some(true) => Part::Side,
        Kind::Assistant => Part::Follow,
        Kind::User | Kind::System if follows(&line.said()) => Part::Follow,
        Kind::User | Kind::System => Part::Start,
        _ if uuid.is_none() => return None,
        _ => Part::Aside,
    };
    Some(Node { uuid, parent: line.parent(), part })
}

/// Whether a line is an effect of what was before it, so that no branch begins with it.
fn follows(said: &Said) -> bool {
    matches!(said, Said::ToolResult | Said::Compacted | Said::Notice { synthetic: true })
}
