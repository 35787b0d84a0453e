//! The attachments of a prompt: checked, and put into the form in which Claude gets them.
//!
//! | what | how Claude gets it |
//! |---|---|
//! | an image of a type in [`IMAGE_TYPES`], up to [`IMAGE_BYTES_MAX`] | an image block in front of the text |
//! | text: its type says so, and it is UTF-8 without NUL | in the text |
//! | anything else, and what is too much for a prompt | as a file in the session's folder, named in the text |
//!
//! In the text each has its place behind the prompt and its context, in this fixed form:
//!
//! ```text
//! <file name="photo.png" type="image/png" image="1"/>
//!
//! <file name="notes.txt" type="text/plain">
//! what is in it
//! </file>
//!
//! <file name="report.pdf" type="application/pdf" path="/the/session's/folder/report.pdf"/>
//! ```
//!
//! `image` counts the image blocks. In the attributes `&`, `<`, `>`, `"` and control characters are character references.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Code, Error};
use super::events::json;
use super::uploads::{Uploaded, Uploads};
use crate::proto::socketio;

/// Attachments of one prompt: as many as a packet can carry.
pub const ATTACHMENTS_MAX: usize = socketio::ATTACHMENTS_MAX;

/// A file's name may be this long.
pub const NAME_BYTES_MAX: usize = 255;

/// A media type may be this long: two names of 127 characters.
const MEDIA_TYPE_BYTES_MAX: usize = 255;

/// Images that Claude takes.
pub const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// The API takes no image of more than 5 MiB of base64.
pub const IMAGE_BYTES_MAX: usize = (5 << 20) / 4 * 3;

/// The images of one prompt together: their base64 must wait in a queue of bounded size, and goes to the API again with
/// every further turn.
pub const IMAGES_BYTES_MAX: usize = 5 << 20;

/// The texts of one prompt together: more would leave no room for the conversation, and can be searched as a file.
pub const TEXTS_BYTES_MAX: usize = 256 << 10;

/// Types that are text without being called so; those that end in one of [`TEXT_SUFFIXES`] are too.
const TEXT_TYPES: [&str; 14] = [
    "application/ecmascript",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/ndjson",
    "application/sql",
    "application/toml",
    "application/typescript",
    "application/x-httpd-php",
    "application/x-javascript",
    "application/x-ndjson",
    "application/x-sh",
    "application/x-yaml",
    "application/yaml",
];

/// Structured syntaxes that are text.
const TEXT_SUFFIXES: [&str; 5] = ["+json", "+xml", "+yaml", "/xml", "/jsonl"];

/// What viewers see of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// The file's name, as the client calls it.
    pub name: String,
    /// Its type, without parameters, in lower case.
    pub media_type: String,
    /// Its size.
    pub bytes: usize,
}

/// A checked attachment.
#[derive(Debug)]
pub(super) struct Attachment<'a> {
    shown: Attached,
    data: Data<'a>,
    way: Way,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum Data<'a> {
    /// Here.
    Bytes(Cow<'a, [u8]>),
    /// In a file of the session.
    File(PathBuf),
}

/// How Claude gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Image,
    Text,
    File,
}

/// The attachments of a prompt, those that came with it checked.
#[derive(Debug)]
pub(super) struct Attachments<'a> {
    list: Vec<Given<'a>>,
    room: Room,
}

#[derive(Debug)]
enum Given<'a> {
    Here(Attachment<'a>),
    /// Sent before the prompt, under this id.
    Before(&'a str),
}

/// What one prompt can still take in.
#[derive(Debug)]
struct Room {
    images: usize,
    texts: usize,
}

/// Checks the field `attachments`; `binary` is what came with the packet.
pub(super) fn attachments<'a>(field: Option<&'a Value>, binary: &'a [Vec<u8>]) -> Result<Attachments<'a>, Error> {
    let mut room = Room { images: IMAGES_BYTES_MAX, texts: TEXTS_BYTES_MAX };
    let Some(field) = field else { return Ok(Attachments { list: Vec::new(), room }) };
    let list = field.as_array().ok_or_else(|| Error::field("attachments", "is not an array"))?;
    if list.len() > ATTACHMENTS_MAX {
        return Err(Error::field("attachments", format!("has more than {ATTACHMENTS_MAX} entries")));
    }
    let check = |(at, one)| Given::of(one, binary, &mut room, &format!("attachments[{at}]"));
    let list = list.iter().enumerate().map(check).collect::<Result<_, _>>()?;
    Ok(Attachments { list, room })
}

impl<'a> Attachments<'a> {
    /// With those that were sent before the prompt. Reads files: not under any lock.
    pub fn with_uploads(self, uploads: &Uploads) -> Result<Vec<Attachment<'a>>, Error> {
        let Attachments { list, mut room } = self;
        let find = |(at, given): (usize, Given<'a>)| match given {
            Given::Here(attachment) => Ok(attachment),
            Given::Before(id) => {
                let field = format!("attachments[{at}].fileId");
                match uploads.find(id) {
                    Ok(Some(uploaded)) => Attachment::uploaded(uploaded, &mut room, &field),
                    Ok(None) => Err(Error::field(&field, "is not a file of this session (any more)")),
                    Err(error) => Err(unread(id, &error)),
                }
            }
        };
        list.into_iter().enumerate().map(find).collect()
    }
}

impl<'a> Given<'a> {
    fn of(one: &'a Value, binary: &'a [Vec<u8>], room: &mut Room, at: &str) -> Result<Given<'a>, Error> {
        let bad = |field: &str, problem: &str| Error::field(&format!("{at}.{field}"), problem);
        let object = one.as_object().ok_or_else(|| Error::field(at, "is not an object"))?;
        let get = |field: &str| object.get(field).filter(|value| !value.is_null());
        if let Some(id) = get("fileId") {
            return id.as_str().map(Given::Before).ok_or_else(|| bad("fileId", "is not a string"));
        }
        let text = |field: &str| match get(field) {
            None => Err(bad(field, "is missing")),
            Some(value) => value.as_str().ok_or_else(|| bad(field, "is not a string")),
        };
        let name = text("name")?;
        if let Some(problem) = problem_of(name) {
            return Err(bad("name", problem));
        }
        let media_type = essence(text("mediaType")?).ok_or_else(|| bad("mediaType", "is not like image/png"))?;
        let data = get("data").ok_or_else(|| bad("data", "is missing"))?;
        let data =
            socketio::placeholder(data).and_then(|at| binary.get(at)).ok_or_else(|| bad("data", "is not binary"))?;
        if IMAGE_TYPES.contains(&media_type.as_str()) && image_type(data) != Some(&media_type) {
            return Err(bad("data", &format!("is no {media_type}")));
        }
        let way = room.way(&media_type, data);
        let shown = Attached { name: name.to_owned(), media_type, bytes: data.len() };
        Ok(Given::Here(Attachment { shown, data: Data::Bytes(Cow::Borrowed(data)), way }))
    }
}

impl<'a> Attachment<'a> {
    fn uploaded(
        Uploaded { about: shown, path }: Uploaded,
        room: &mut Room,
        field: &str,
    ) -> Result<Attachment<'a>, Error> {
        if !room.may_take(&shown) {
            return Ok(Attachment { shown, data: Data::File(path), way: Way::File });
        }
        let data = std::fs::read(&path).map_err(|error| unread(&shown.name, &error))?;
        let media_type = shown.media_type.as_str();
        if IMAGE_TYPES.contains(&media_type) && image_type(&data) != Some(media_type) {
            return Err(Error::field(field, format!("is no {media_type}")));
        }
        let way = room.way(media_type, &data);
        let data = if way == Way::File { Data::File(path) } else { Data::Bytes(Cow::Owned(data)) };
        Ok(Attachment { shown, data, way })
    }

    /// What viewers see of it.
    pub fn shown(&self) -> Attached {
        self.shown.clone()
    }
}

impl Room {
    /// Whether a file of that size and type may become part of the prompt; what is in it decides.
    fn may_take(&self, file: &Attached) -> bool {
        let media_type = file.media_type.as_str();
        let image = IMAGE_TYPES.contains(&media_type) && file.bytes <= IMAGE_BYTES_MAX && file.bytes <= self.images;
        image || (is_text(media_type) && file.bytes <= self.texts)
    }

    fn way(&mut self, media_type: &str, data: &[u8]) -> Way {
        let bytes = data.len();
        if IMAGE_TYPES.contains(&media_type) && bytes <= IMAGE_BYTES_MAX && bytes <= self.images {
            self.images -= bytes;
            return Way::Image;
        }
        match str::from_utf8(data) {
            Ok(text) if is_text(media_type) && bytes <= self.texts && !text.contains('\0') => {
                self.texts -= bytes;
                Way::Text
            }
            _ => Way::File,
        }
    }
}

/// What Claude gets for a prompt with attachments: the JSON of its message's `content`, on one line. `store` keeps a file,
/// under a name like the given one, and tells where.
pub(super) fn content(
    prompt: String,
    attachments: &[Attachment<'_>],
    mut store: impl FnMut(&str, &Data<'_>) -> io::Result<PathBuf>,
) -> Result<String, Error> {
    let mut text = prompt;
    let mut blocks = Vec::new();
    for (at, Attachment { shown: Attached { name, media_type, .. }, data, way }) in attachments.iter().enumerate() {
        text += &format!(r#"{}<file name="{}" type="{}""#, "\n\n", escaped(name), escaped(media_type));
        match (way, data) {
            (Way::Image, Data::Bytes(data)) => {
                let source = Source { r#type: "base64", media_type, data: BASE64.encode(data) };
                blocks.push(Block::Image { source });
                text += &format!(r#" image="{}"/>"#, blocks.len());
            }
            (Way::Text, Data::Bytes(data)) => {
                text += &format!(">\n{}\n</file>", String::from_utf8_lossy(data));
            }
            _ => {
                let path = store(name, data).map_err(|error| unstored(at, name, &error))?;
                // Any other would name another file.
                let path =
                    path.to_str().ok_or_else(|| unstored(at, name, &io::Error::other("its path is not UTF-8")))?;
                text += &format!(r#" path="{}"/>"#, escaped(path));
            }
        }
    }
    if blocks.is_empty() {
        return Ok(json(&text));
    }
    // The text is the last: Claude looks for a slash command there.
    blocks.push(Block::Text { text: &text });
    Ok(json(&blocks))
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Block<'a> {
    Image { source: Source<'a> },
    Text { text: &'a str },
}

#[derive(Serialize)]
struct Source<'a> {
    r#type: &'static str,
    media_type: &'a str,
    data: String,
}

fn unread(name: &str, error: &io::Error) -> Error {
    log::error!("the uploaded file {name:?} cannot be read: {error}");
    Error::new(Code::StorageDamaged, format!("an uploaded file cannot be read: {error}"))
}

fn unstored(at: usize, name: &str, error: &io::Error) -> Error {
    log::error!("the attachment {name:?} cannot be stored: {error}");
    let field = format!("attachments[{at}]");
    Error::new(Code::StorageFull, format!("{field} cannot be stored: {error}")).with("field", field)
}

/// What is wrong with a file's name, if anything is.
pub(super) fn problem_of(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        _ if name.len() > NAME_BYTES_MAX => Some("is too long"),
        _ if name.contains('\0') => Some("contains a NUL character"),
        _ if name.contains('/') => Some("contains a /"),
        _ => None,
    }
}

/// A media type without its parameters, in lower case.
pub(super) fn essence(media_type: &str) -> Option<String> {
    let named = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !text.is_empty() && text.bytes().all(fits)
    };
    let essence = media_type.split(';').next()?.trim();
    let (kind, subtype) = essence.split_once('/')?;
    let good = media_type.len() <= MEDIA_TYPE_BYTES_MAX && named(kind) && named(subtype);
    good.then(|| essence.to_ascii_lowercase())
}

fn is_text(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || TEXT_TYPES.contains(&media_type)
        || TEXT_SUFFIXES.iter().any(|suffix| media_type.ends_with(suffix))
}

/// The type of an image, by how it begins.
fn image_type(data: &[u8]) -> Option<&'static str> {
    match data {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// As the value of an attribute.
fn escaped(value: &str) -> String {
    value.chars().fold(String::with_capacity(value.len()), |mut all, c| {
        if matches!(c, '&' | '<' | '>' | '"') || c.is_control() {
            let _ = write!(all, "&#{};", u32::from(c));
        } else {
            all.push(c);
        }
        all
    })
}

#[cfg(test)]
mod tests;
