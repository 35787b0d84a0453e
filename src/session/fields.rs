//! What clients send, field by field: typed look-ups that name the field they fail on.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::attachments::{self, Attachment, Attachments, Data};
use super::error::{Code, Error};
use super::events::json;
use super::files::Files;
use super::log::Range;
use super::prompt::Ask;
use super::prompt::QUEUE_BYTES_MAX;
use super::viewers::After;

/// A prompt's own name may be this long.
const PROMPT_ID_BYTES_MAX: usize = 200;

/// The data of an event, with typed look-ups that name the field they fail on. `null` is as good as absent.
pub(super) struct Fields<'a> {
    fields: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    pub fn of_map(fields: &'a Map<String, Value>) -> Fields<'a> {
        Fields { fields: Some(fields) }
    }

    pub fn of(data: &'a Value) -> Result<Fields<'a>, Error> {
        match data {
            Value::Object(fields) => Ok(Fields { fields: Some(fields) }),
            // `listSessions` and `createSession` need no data at all.
            Value::Null => Ok(Fields { fields: None }),
            _ => Err(Error::field("data", "is not an object")),
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.fields?.get(name).filter(|value| !value.is_null())
    }

    pub fn optional_text(&self, name: &str) -> Result<Option<&'a str>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::field(name, "is not a string")),
        }
    }

    pub fn text(&self, name: &str) -> Result<&'a str, Error> {
        self.optional_text(name)?.ok_or_else(|| Error::field(name, "is missing"))
    }

    pub fn flag(&self, name: &str) -> Result<bool, Error> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }

    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Error::field(name, "is neither true nor false")),
        }
    }

    pub fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| Error::field(name, "is not a whole number from 0 up"))
            }
        }
    }

    pub fn raw(&self, name: &str, fits: fn(&Value) -> bool, problem: &str) -> Result<Option<Box<RawValue>>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(value) if fits(value) => Ok(RawValue::from_string(value.to_string()).ok()),
            Some(_) => Err(Error::field(name, problem)),
        }
    }

    pub fn after(&self) -> Result<Option<After>, Error> {
        let log_id = self.optional_text("logId")?.map(str::to_owned);
        Ok(self.number("afterSeq")?.map(|seq| After { seq, log_id }))
    }

    pub fn range(&self) -> Result<Range, Error> {
        match (self.number("beforeSeq")?, self.number("afterSeq")?) {
            (None, None) => Ok(Range::Newest),
            (Some(seq), None) => Ok(Range::Before(seq)),
            (None, Some(seq)) => Ok(Range::After(seq)),
            (Some(_), Some(_)) => Err(Error::field("beforeSeq", "and afterSeq exclude each other")),
        }
    }

    /// A prompt; `binary` is what came with the packet.
    pub fn draft(&self, binary: &'a [Vec<u8>]) -> Result<Draft<'a>, Error> {
        let text = self.text("prompt")?;
        if text.trim().is_empty() {
            return Err(Error::field("prompt", "is empty"));
        }
        if text.contains('\0') {
            return Err(Error::field("prompt", "contains a NUL character"));
        }
        let prompt_id = match self.optional_text("promptId")? {
            None => format!("prompt_{:016x}", fastrand::u64(..)),
            Some("") => return Err(Error::field("promptId", "is empty")),
            Some(id) if id.len() > PROMPT_ID_BYTES_MAX => return Err(Error::field("promptId", "is too long")),
            Some(id) => id.to_owned(),
        };
        let attachments = attachments::attachments(self.get("attachments"), binary)?;
        let full_text = match self.get("context") {
            None => text.to_owned(),
            Some(Value::Object(context)) => with_context(text, context)?,
            Some(_) => return Err(Error::field("context", "is not an object")),
        };
        Ok(Draft { prompt_id, text, full_text, attachments })
    }
}

/// A prompt as it was sent, checked, before its files are stored.
pub(super) struct Draft<'a> {
    prompt_id: String,
    text: &'a str,
    /// With its context.
    full_text: String,
    attachments: Attachments<'a>,
}

impl Draft<'_> {
    /// Stores those of the attachments that Claude gets as files. This may take its time: not under any lock.
    pub fn into_ask(self, files: &Files) -> Result<Ask, Error> {
        let Draft { prompt_id, text, full_text, attachments } = self;
        let attachments = attachments.with_uploads(&files.uploads())?;
        let store = |name: &str, data: &Data<'_>| match data {
            Data::Bytes(data) => files.store(name, data),
            Data::File(path) => files.link(name, path),
        };
        let content = match attachments.as_slice() {
            [] if full_text == text => None,
            [] => Some(json(&full_text)),
            some => Some(attachments::content(full_text, some, store)?),
        };
        if text.len() + content.as_ref().map_or(0, String::len) > QUEUE_BYTES_MAX {
            return Err(Error::new(Code::TooLarge, "the prompt is too large, even if no other waits"));
        }
        let attachments = attachments.iter().map(Attachment::shown).collect();
        Ok(Ask { prompt_id, text: text.to_owned(), content, attachments })
    }
}

/// The prompt with what the client has open around it, in this fixed form:
///
/// ```text
/// THE PROMPT
///
/// <document>
/// documentContent
/// </document>
///
/// <selection start="START" end="END">
/// selectedText.text
/// </selection>
///
/// <context>
/// {"other":"keys","as":"JSON"}
/// </context>
/// ```
///
/// Each part is there only where the context has it.
fn with_context(prompt: &str, context: &Map<String, Value>) -> Result<String, Error> {
    let mut text = prompt.to_owned();
    let mut others = Map::new();
    let present = |name: &str| context.get(name).filter(|value| !value.is_null());
    if let Some(document) = present("documentContent") {
        let document = document.as_str().ok_or_else(|| Error::field("context.documentContent", "is not a string"))?;
        text += &format!("\n\n<document>\n{document}\n</document>");
    }
    if let Some(selected) = present("selectedText") {
        let field = |name: &str| selected.get(name).filter(|value| !value.is_null());
        let number = |name: &str| match field(name) {
            None => Ok(String::new()),
            Some(value) if value.is_u64() => Ok(format!(" {name}=\"{value}\"")),
            Some(_) => Err(Error::field(&format!("context.selectedText.{name}"), "is not a whole number from 0 up")),
        };
        let (start, end) = (number("start")?, number("end")?);
        let selection = field("text").and_then(Value::as_str);
        let selection = selection.ok_or_else(|| Error::field("context.selectedText.text", "is not a string"))?;
        text += &format!("\n\n<selection{start}{end}>\n{selection}\n</selection>");
    }
    for (name, value) in context {
        if !matches!(name.as_str(), "documentContent" | "selectedText") {
            others.insert(name.clone(), value.clone());
        }
    }
    if !others.is_empty() {
        text += &format!("\n\n<context>\n{}\n</context>", json(&others));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_context_has_a_fixed_form() {
        let cases = [
            (json!({}), Ok("p")),
            (json!({"documentContent": "d"}), Ok("p\n\n<document>\nd\n</document>")),
            (
                json!({"selectedText": {"text": "s", "start": 1, "end": 2}, "z": 1, "documentContent": null}),
                Ok("p\n\n<selection start=\"1\" end=\"2\">\ns\n</selection>\n\n<context>\n{\"z\":1}\n</context>"),
            ),
            (json!({"selectedText": {"text": "s"}}), Ok("p\n\n<selection>\ns\n</selection>")),
            (json!({"documentContent": 7}), Err("context.documentContent")),
            (json!({"selectedText": "s"}), Err("context.selectedText.text")),
            (json!({"selectedText": {"text": "s", "start": "1"}}), Err("context.selectedText.start")),
        ];
        for (context, expected) in cases {
            let got = with_context("p", context.as_object().expect("an object"));
            let shown = got.as_deref().map_err(|error| error.details["field"].as_str().expect("named"));
            assert_eq!(shown, expected, "{context}");
        }
    }

    #[test]
    fn a_wrong_field_is_named() {
        let ask = |data: Value| Fields::of(&data).and_then(|fields| Ok(fields.draft(&[])?.text.to_owned()));
        let cases = [
            (json!({"prompt": "p", "unknown": [1]}), Ok("p")),
            (json!({"prompt": "--help", "context": null, "attachments": []}), Ok("--help")),
            (json!({}), Err("prompt")),
            (json!(null), Err("prompt")),
            (json!([1]), Err("data")),
            (json!({"prompt": " \n"}), Err("prompt")),
            (json!({"prompt": "a\0b"}), Err("prompt")),
            (json!({"prompt": {"text": "p"}}), Err("prompt")),
            (json!({"prompt": "p", "promptId": 7}), Err("promptId")),
            (json!({"prompt": "p", "promptId": "x".repeat(201)}), Err("promptId")),
            (json!({"prompt": "p", "context": []}), Err("context")),
            (json!({"prompt": "p", "attachments": {}}), Err("attachments")),
        ];
        for (data, expected) in cases {
            let got = ask(data.clone());
            let shown = got.as_deref().map_err(|error| error.details["field"].as_str().expect("named"));
            assert_eq!(shown, expected, "{data}");
        }
    }
}
