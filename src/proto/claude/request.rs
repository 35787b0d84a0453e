//! What Claude can be asked to do, or to tell, while it lives.

use serde::Serialize;

/// A control request's `request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "subtype", rename_all = "snake_case")]
pub enum Request<'a> {
    /// Use another model; Claude takes any name, and asks the API for it with the next prompt.
    SetModel {
        /// An alias, or a model's full name; `default` is Claude's own.
        model: &'a str,
    },
    /// Ask for more or fewer permissions.
    SetPermissionMode {
        /// `default`, `plan`, `acceptEdits`, …
        mode: &'a str,
    },
    /// Change settings of this process alone. Values that it does not know are left out without a word.
    ApplyFlagSettings {
        /// The changed ones.
        settings: FlagSettings<'a>,
    },
    /// Tell all settings, and under `applied` what is really used.
    GetSettings,
    /// Tell what fills the context. Claude asks the API to count, which may take seconds.
    GetContextUsage,
    /// Complete the beginning of a path. The first answers of a process know only the top of the directory.
    FileSuggestions {
        /// What was typed behind the `@`.
        query: &'a str,
    },
    /// End a background task. One that there is not is no error.
    StopTask {
        /// Its name in `task_started`.
        task_id: &'a str,
    },
    /// Put the files that Claude has edited back to what they were before a prompt.
    RewindFiles {
        /// The prompt's uuid.
        user_message_id: &'a str,
        /// Only tell what would change.
        dry_run: bool,
    },
}

/// Settings that are changed in a living process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlagSettings<'a> {
    /// How hard it thinks.
    #[serde(rename = "effortLevel")]
    pub effort_level: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_names_that_claude_knows() {
        let settings = FlagSettings { effort_level: "high" };
        let cases = [
            (Request::SetModel { model: "m" }, r#"{"subtype":"set_model","model":"m"}"#),
            (Request::SetPermissionMode { mode: "plan" }, r#"{"subtype":"set_permission_mode","mode":"plan"}"#),
            (
                Request::ApplyFlagSettings { settings },
                r#"{"subtype":"apply_flag_settings","settings":{"effortLevel":"high"}}"#,
            ),
            (Request::GetSettings, r#"{"subtype":"get_settings"}"#),
            (Request::GetContextUsage, r#"{"subtype":"get_context_usage"}"#),
            (Request::FileSuggestions { query: "s\"" }, r#"{"subtype":"file_suggestions","query":"s\""}"#),
            (Request::StopTask { task_id: "t" }, r#"{"subtype":"stop_task","task_id":"t"}"#),
            (
                Request::RewindFiles { user_message_id: "u", dry_run: true },
                r#"{"subtype":"rewind_files","user_message_id":"u","dry_run":true}"#,
            ),
        ];
        for (request, expected) in cases {
            assert_eq!(serde_json::to_string(&request).expect("plain data"), expected);
        }
    }
}
