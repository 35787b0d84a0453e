//! What clients may choose, and where they may look.

use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_json::value::RawValue;

use super::control::{Choice, Control};
use super::error::{Code, Error};
use super::fields::Fields;
use super::plain::{TITLE_CHARS_MAX, shortened};
use super::state::Choices;
use crate::config::{BYPASS_PERMISSIONS, PERMISSION_MODES, is_effort, is_model, is_permission_mode};

/// A path given by a client may be this long.
const PATH_BYTES_MAX: usize = 4096;

/// What is typed to find a file, and what Claude calls its tasks and messages, may be this long.
const QUERY_BYTES_MAX: usize = 1000;

/// The rules; see the module.
pub struct Rules {
    /// Session directories must lie under one of these, canonical paths.
    pub allow_roots: Vec<PathBuf>,
    /// Whether a client may switch off the permission questions.
    pub allow_bypass_permissions: bool,
    /// Under it the files lie that come with prompts.
    pub data_dir: PathBuf,
}

impl Rules {
    /// What a client chooses for a new session, and the defaults where it does not.
    pub(super) fn choices(&self, fields: &Fields<'_>, defaults: &Choices) -> Result<Choices, Error> {
        let chosen = |choice: Choice, default: &Option<String>| {
            let given = fields.optional_text(choice.name())?;
            given.map_or_else(|| Ok(default.clone()), |value| self.choice(choice, value).map(Some))
        };
        let title = fields.optional_text("title")?.map(|title| shortened(title, TITLE_CHARS_MAX));
        let permission_mode = chosen(Choice::PermissionMode, &defaults.permission_mode)?;
        Ok(Choices {
            cwd: match fields.optional_text("cwd")? {
                Some(path) => self.directory(path)?,
                None => defaults.cwd.clone(),
            },
            model: chosen(Choice::Model, &defaults.model)?,
            permission_mode,
            effort: chosen(Choice::Effort, &defaults.effort)?,
            title: title.filter(|title| !title.is_empty()),
        })
    }

    /// A value that a client may choose.
    fn choice(&self, choice: Choice, value: &str) -> Result<String, Error> {
        let field = choice.name();
        let unknown = || Error::new(Code::ForbiddenOption, format!("{field} has no such value")).with("field", field);
        match choice {
            Choice::Model if !is_model(value) => Err(unknown()),
            Choice::Effort if !is_effort(value) => Err(unknown()),
            Choice::PermissionMode => match is_permission_mode(value) {
                true => self.permission_mode(value).map(|()| value.to_owned()),
                false => Err(unknown().with("allowed", PERMISSION_MODES.to_vec())),
            },
            Choice::Model | Choice::Effort => Ok(value.to_owned()),
        }
    }

    /// Whether that mode may be used: one without any questions only where the server was started to allow it.
    pub(super) fn permission_mode(&self, mode: &str) -> Result<(), Error> {
        if mode != BYPASS_PERMISSIONS || self.allow_bypass_permissions {
            return Ok(());
        }
        let message = "the server was started without --allow-bypass-permissions";
        Err(Error::new(Code::ForbiddenOption, message).with("field", "permissionMode"))
    }

    /// The rules that a client sends along with an answer; they may change the mode.
    pub(super) fn permission_updates(&self, fields: &Fields<'_>) -> Result<Option<Box<RawValue>>, Error> {
        let updates = fields.raw("updatedPermissions", Value::is_array, "is not an array")?;
        let list: Vec<Value> =
            updates.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        list.iter().filter_map(|update| update["mode"].as_str()).try_for_each(|mode| self.permission_mode(mode))?;
        Ok(updates)
    }

    /// The canonical path of a directory under an allowed root. Every refusal reads the same, so that nobody can find
    /// out what there is elsewhere.
    pub(super) fn directory(&self, path: &str) -> Result<PathBuf, Error> {
        let refused = || Error::new(Code::BadCwd, "cwd is not a directory under an allowed root");
        if path.len() > PATH_BYTES_MAX || path.contains('\0') || !Path::new(path).is_absolute() {
            return Err(refused());
        }
        let canonical = Path::new(path).canonicalize().map_err(|_| refused())?;
        if self.allows(&canonical) && canonical.is_dir() { Ok(canonical) } else { Err(refused()) }
    }

    /// Whether this canonical path lies under an allowed root.
    pub(super) fn allows(&self, canonical: &Path) -> bool {
        self.allow_roots.iter().any(|root| canonical.starts_with(root))
    }

    /// What that event asks of Claude; none where it is another kind of event.
    pub(super) fn control(&self, event: &str, fields: &Fields<'_>) -> Result<Option<Control>, Error> {
        let choose = |choice: Choice| {
            let value = self.choice(choice, fields.text(choice.name())?)?;
            Ok(Some(Control::Choose(choice, value)))
        };
        let short = |name: &str| match fields.text(name)? {
            text if text.len() > QUERY_BYTES_MAX => Err(Error::field(name, "is too long")),
            text if text.contains('\0') => Err(Error::field(name, "contains a NUL character")),
            text => Ok(text.to_owned()),
        };
        Ok(Some(match event {
            "setModel" => return choose(Choice::Model),
            "setPermissionMode" => return choose(Choice::PermissionMode),
            "setEffort" => return choose(Choice::Effort),
            "getContextUsage" => Control::ContextUsage,
            "fileSuggestions" => Control::FileSuggestions { query: short("query")? },
            "stopTask" => Control::StopTask { task_id: short("taskId")? },
            "rewindFiles" => {
                let user_message_id = short("userMessageId")?;
                // Named always: nobody puts files back because a field was forgotten.
                let dry_run = fields.optional_flag("dryRun")?.ok_or_else(|| Error::field("dryRun", "is missing"))?;
                Control::Rewind { user_message_id, dry_run }
            }
            _ => return Ok(None),
        }))
    }
}
