//! `POST /api/sessions/{id}/files?name=NAME`, with the file as the body and its type in `Content-Type`: stores it for a
//! prompt that comes later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{Routes, status_of};
use crate::net::{Answer, Taker};
use crate::proto::http::{Head, Response};
use crate::session::error::{Code, Error};
use crate::session::manager::SessionManager;
use crate::session::uploads::{FILE_BYTES_MAX, Upload};

/// Files that are on their way at the same time.
const AT_ONCE_MAX: usize = 16;

/// A file without a type is of this one.
const MEDIA_TYPE: &str = "application/octet-stream";

/// One file on its way to the disk.
struct Receiving {
    upload: Upload,
    session: String,
    manager: Arc<SessionManager>,
    _turn: Turn,
}

/// One of those at the same time.
struct Turn(Arc<AtomicUsize>);

impl Turn {
    fn take(turns: &Arc<AtomicUsize>) -> Option<Turn> {
        let turn = Turn(turns.clone());
        (turns.fetch_add(1, Ordering::AcqRel) < AT_ONCE_MAX).then_some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Routes {
    pub(super) fn upload(&self, session: &str, head: &Head) -> Answer {
        let begin = || {
            let name = head.query_param("name").ok_or_else(|| Error::field("name", "is missing in the query"))?;
            let media_type = head.header("content-type").unwrap_or(MEDIA_TYPE);
            let busy = || Error::new(Code::RateLimited, format!("{AT_ONCE_MAX} files are uploaded just now"));
            let turn = Turn::take(&self.uploads).ok_or_else(busy)?;
            let upload = self.manager.begin_upload(session, &name, media_type)?;
            Ok(Receiving { upload, session: session.to_owned(), manager: self.manager.clone(), _turn: turn })
        };
        begin().map_or_else(|error| refusal(&error).into(), |receiving| Answer::Taken(Box::new(receiving)))
    }
}

impl Taker for Receiving {
    fn bytes_max(&self) -> usize {
        FILE_BYTES_MAX
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Response> {
        self.upload.write(piece).map_err(|error| refusal(&error))
    }

    fn finish(self: Box<Self>) -> Response {
        let finished = self.manager.finish_upload(&self.session, self.upload);
        finished.map_or_else(
            |error| refusal(&error),
            |(id, file)| {
                let answer = json!({"ok": true, "fileId": id, "name": file.name, "mediaType": file.media_type, "bytes": file.bytes});
                Response::json(200, answer.to_string())
            },
        )
    }
}

/// In the form that acknowledgements have.
fn refusal(error: &Error) -> Response {
    Response::json(status_of(error), json!({"ok": false, "error": error}).to_string())
}
