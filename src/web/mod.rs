//! The page: files that the build has put into the binary, see `build.rs` beside this. They need no token; the page asks
//! for it, and has it from the link's fragment, which no browser sends.

use crate::proto::http::{Head, Response};

/// One file, as it is and compressed.
#[derive(Debug)]
pub struct File {
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What is under `/` where the server was built without its page.
const NO_PAGE: &str = include_str!("no_page.html");

/// Nothing from anywhere else, nothing inline; pictures also from what a conversation or a user has brought. Browsers
/// that are a few years old take `'self'` not for WebSockets, so these are named as such.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    connect-src 'self' ws: wss:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers a request for one of the files; `None`: there is no such file.
#[must_use]
pub fn answer(head: &Head) -> Option<Response> {
    answer_of(FILES, head)
}

fn answer_of(files: &'static [File], head: &Head) -> Option<Response> {
    if head.path == "/" && files.is_empty() {
        return Some(Response::html(200, NO_PAGE).with_header("Content-Security-Policy", POLICY));
    }
    let file = files.iter().find(|file| file.path == head.path)?;
    Some(serve(file, head))
}

fn serve(file: &'static File, head: &Head) -> Response {
    // The assets' folder is named after what is in it; the rest stays under its name, with another version's contents.
    let lasting = file.path.starts_with("/assets/");
    let known = head.header("if-none-match").is_some_and(|tags| tags.split(',').any(|tag| is_tag(tag, file.etag)));
    let gzip = accepts_gzip(head.header("accept-encoding").unwrap_or_default());
    let mut response = match (known && !lasting, gzip) {
        (true, _) => Response::bytes(304, file.content_type, b""),
        (false, true) => Response::bytes(200, file.content_type, file.gzip).with_header("Content-Encoding", "gzip"),
        (false, false) => Response::bytes(200, file.content_type, file.plain),
    };
    response.cache_control = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    if !lasting {
        response = response.with_header("ETag", file.etag);
    }
    if file.path == "/" {
        response = response.with_header("Content-Security-Policy", POLICY);
    }
    response.with_header("Vary", "Accept-Encoding")
}

/// Weak ones are as good: the two forms of a file say the same.
fn is_tag(tag: &str, etag: &str) -> bool {
    let tag = tag.trim();
    tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
}

/// Whether a client takes gzip: named, or meant by `*`, and not with a weight of 0.
fn accepts_gzip(encodings: &str) -> bool {
    let weight = |name: &str| {
        encodings.split(',').find_map(|encoding| {
            let mut parts = encoding.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(name) {
                return None;
            }
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            Some(weight.map_or(Ok(1.0), str::parse::<f32>).unwrap_or(0.0))
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::http::parse_head;

    static FILE: File = File { path: "/x.js", content_type: "x", etag: "\"1\"", plain: b"plain", gzip: b"gzip" };
    static ASSET: File = File { path: "/assets/1/x.js", ..FILE };

    fn get(path: &str, headers: &str) -> Head {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        parse_head(request.as_bytes()).expect("a good head").expect("a whole one").0
    }

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        let cases = [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("*", true),
            ("gzip; q=1.0", true),
            ("", false),
            ("br, deflate", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000, *", false),
            ("*;q=0", false),
            ("gzip;q=x", false),
            ("xgzip", false),
        ];
        for (encodings, expected) in cases {
            assert_eq!(accepts_gzip(encodings), expected, "{encodings:?}");
            let response = serve(&FILE, &get("/x.js", &format!("Accept-Encoding: {encodings}\r\n")));
            assert_eq!(&*response.body, if expected { b"gzip".as_slice() } else { b"plain" });
            assert_eq!(response.headers.iter().any(|(name, _)| *name == "Content-Encoding"), expected);
        }
    }

    #[test]
    fn a_server_without_its_page_says_how_to_get_one() {
        let page = answer_of(&[], &get("/", "")).expect("a page");
        let text = std::str::from_utf8(&page.body).expect("UTF-8");
        assert!(page.status == 200 && text.contains("<code>scripts/run</code>"), "{text}");
        assert!(answer_of(&[], &get("/socket.io/socket.io.js", "")).is_none());
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let etag = |response: &Response| {
            response.headers.iter().find(|(name, _)| *name == "ETag").map(|(_, value)| value.clone())
        };
        let first = serve(&FILE, &get("/x.js", ""));
        let tag = etag(&first).expect("a tag");
        for (tags, status) in [
            (tag.clone(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
        ] {
            let response = serve(&FILE, &get("/x.js", &format!("If-None-Match: {tags}\r\n")));
            assert_eq!((response.status, response.body.is_empty()), (status, status == 304), "{tags}");
            assert_eq!((etag(&response).as_ref(), response.cache_control), (Some(&tag), "no-cache"));
        }
        let asset = serve(&ASSET, &get("/x.js", "If-None-Match: *\r\n"));
        assert_eq!((asset.status, asset.cache_control), (200, "public, max-age=31536000, immutable"));
    }
}
