//! What the `--config` file says: a JSON object of settings under their camelCase names.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::ConfigError;
use super::flags::Options;
use super::settings::{SETTINGS, Slot};
use super::values::quoted;

/// The largest file in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the setting `key` in the file `path` is called in an error.
pub(super) fn name_of(key: &str, path: &Path) -> String {
    format!("{key} in {}", quoted(&path.to_string_lossy()))
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path) -> Result<Options, ConfigError> {
    let shown = quoted(&path.to_string_lossy());
    let bad = |what: String| ConfigError::bad("--config", format!("{shown} {what}"));
    let text = read_text(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(map)) => from_map(map, path),
        Ok(_) => Err(bad("is not a JSON object".to_owned())),
        Err(error) => Err(bad(format!("is not JSON: {error}"))),
    }
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn from_map(map: Map<String, Value>, path: &Path) -> Result<Options, ConfigError> {
    let mut options = Options::default();
    for (key, value) in map {
        let known = SETTINGS.iter().find(|setting| !setting.key.is_empty() && setting.key == key);
        let Some(setting) = known else {
            let what = format!("there is no key {} to set in {}", quoted(&key), quoted(&path.to_string_lossy()));
            return Err(ConfigError::bad("--config", what));
        };
        let bad = |what: &str| ConfigError::bad(&name_of(&key, path), what);
        match ((setting.slot)(&mut options), value) {
            (_, Value::Null) => {}
            (Slot::One(slot), value) => {
                let text = scalar(value).ok_or_else(|| bad("is neither a string nor a number"))?;
                *slot = Some(text);
            }
            (Slot::Many(slot), Value::Array(values)) => {
                let texts: Option<Vec<OsString>> = values.into_iter().map(scalar).collect();
                *slot = texts.ok_or_else(|| bad("holds something else than strings"))?;
            }
            (Slot::Many(slot), value) => {
                *slot = vec![scalar(value).ok_or_else(|| bad("is not a list of strings"))?];
            }
            (Slot::Switch(_), _) => {}
        }
    }
    Ok(options)
}

fn scalar(value: Value) -> Option<OsString> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}
