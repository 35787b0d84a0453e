//! A session as a file.

use std::{
    fs,
    io::{self, BufReader, Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, make, on, scene},
    support::{
        DEADLINE,
        client::{HttpAnswer, read_answer},
        processes::eventually,
        server::Server,
    },
};

/// Events of the large session.
const MANY: u64 = 100_000;

impl Scene {
    fn path(&self, format: &str) -> String {
        format!("/api/sessions/{}/export.{format}", self.id)
    }

    fn export(&self, format: &str) -> HttpAnswer {
        let answer =
            request(&self.server, "GET", &self.path(format), "1.1").and_then(|mut socket| read_answer(&mut socket));
        let answer = answer.expect("a whole answer");
        assert_eq!(answer.status, 200);
        answer
    }

    fn wait_quiet(&self) {
        eventually("the last word", DEADLINE, || {
            let page = self.client.must("getHistory", self.data(json!({"limit": 1})));
            page["events"][0]["data"]["event"]["state"] == "completed"
        });
    }
}

/// Sends a request with the token, and gives what the answer is to be read from.
fn request(server: &Server, method: &str, path: &str, version: &str) -> io::Result<BufReader<TcpStream>> {
    let mut socket = TcpStream::connect(("127.0.0.1", server.port))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let token = server.token();
    let head = format!(
        "{method} {path} HTTP/{version}\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes())?;
    Ok(BufReader::new(socket))
}

fn lines(answer: &HttpAnswer) -> Vec<Value> {
    answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_conversation_is_a_document() {
    let scene = scene(bad("proper"));
    let file = scene.file("go");
    make(&file);
    let asked = scene.ask("ask");
    let question = scene.client.wait_event("permissionRequest", |_| true);
    let answer = json!({"requestId": question["requestId"], "behavior": "allow"});
    scene.client.must("answerPermission", scene.data(answer));
    scene.client.wait_response(&asked);
    scene.text(&format!("tools {}", file.display()));
    assert_eq!(scene.answer("fail")["status"], "failed");
    scene.wait_quiet();
    scene.client.must("renameSession", scene.data(json!({"title": "A \"fine\" name"})));
    let answer = scene.export("md");
    assert_eq!(answer.header("content-type"), Some("text/markdown; charset=UTF-8"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"A-fine-name.md\""));
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let text = answer.text();
    // Times differ from run to run.
    let masked: Vec<String> = text
        .lines()
        .map(|line| match line.find(" UTC") {
            Some(end) => format!("{}TIME{}", &line[..end - 19], &line[end + 4..]),
            None => line.to_owned(),
        })
        .collect();
    let (work, id, go) = (scene.server.workspace().work(), &scene.id, file.display().to_string());
    let expected = format!(
        r#"# A "fine" name

- Directory: `{work}`
- Begun: TIME
- Session: `{id}`

## ask

*TIME*

> **Claude asks:** to use Bash: Ask for it

> **Answer for Bash:** allow, by {client}

asking allowed:{{"command":"touch asked","description":"Ask for it"}}

## tools {heading}

*TIME*

**Bash**

```json
{{
  "command": "first"
}}
```

**Result of Bash**

```
first result
```

**Bash**

```json
{{
  "command": "second"
}}
```

**Result of Bash**

```
second result
```

at work still both done

## fail

*TIME*

API Error: failed as asked

> **Ended early:** API Error: failed as asked
"#,
        work = work.display(),
        client = scene.client.wait_event("permissionResolved", |_| true)["by"].as_str().expect("who"),
        heading = go.replace('_', "\\_"),
    );
    assert_eq!(masked.join("\n") + "\n", expected);
    scene.finish();
}

#[test]
fn every_item_of_the_history_is_a_line() {
    let scene = scene(bad("fifteen-mib-line"));
    scene.text("hello");
    scene.wait_quiet();
    let answer = scene.export("jsonl");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"hello.jsonl\""));
    let shown = scene.client.must("getHistory", scene.data(json!({})))["events"].as_array().expect("a list").clone();
    let lines = lines(&answer);
    assert_eq!(lines.len(), shown.len());
    let mut shortened = 0;
    for (line, item) in lines.iter().zip(&shown) {
        assert_eq!(line.as_object().expect("an object").len(), 4);
        if item["data"]["truncated"] == true {
            shortened += 1;
            let whole = scene.server.http(
                "GET",
                &format!("/api/sessions/{}/events/{}", scene.id, item["seq"]),
                &[("Authorization", &format!("Bearer {}", scene.server.token()))],
            );
            assert!(line["data"] == whole.json(), "event {} is not whole", item["seq"]);
            assert_eq!((&line["seq"], &line["time"], &line["name"]), (&item["seq"], &item["time"], &item["name"]));
        } else {
            assert_eq!(line, item);
        }
    }
    assert_eq!(shortened, 1);
    scene.finish();
}

#[test]
fn who_may_have_it_and_how() {
    let scene = scene(bad("proper"));
    scene.text("hello");
    let server = &scene.server;
    let good = format!("Bearer {}", server.token());
    let path = scene.path("md");
    let unknown = path.replace(&scene.id, "session_1_nobody");
    let cases = [
        ("GET", &path, "", 401),
        ("GET", &unknown, "", 401),
        ("GET", &path, "Bearer x", 401),
        ("GET", &unknown, &good, 404),
        ("GET", &scene.path("html"), &good, 404),
        ("GET", &format!("{path}/x"), &good, 404),
        ("PUT", &path, &good, 405),
        ("GET", &path, &good, 200),
    ];
    for (method, path, token, status) in cases {
        let headers = [("Authorization", token)];
        let answer = server.http(method, path, if token.is_empty() { &[] } else { &headers });
        assert_eq!(answer.status, status, "{method} {path} {token}");
        assert_eq!(answer.header("content-disposition").is_some(), status == 200);
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    scene.finish();
}

#[test]
fn it_is_sent_as_the_client_can_take_it() {
    let scene = scene(bad("proper"));
    scene.text("hello");
    scene.wait_quiet();
    let path = scene.path("jsonl");
    let whole = scene.export("jsonl");
    let read = |method: &str, version: &str| {
        let mut answer = String::new();
        request(&scene.server, method, &path, version).expect("sent").read_to_string(&mut answer).expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    };
    let (head, body) = read("HEAD", "1.1");
    assert!(head.contains("Transfer-Encoding: chunked") && head.contains("Content-Disposition"), "{head}");
    assert_eq!(body, "");
    let (head, body) = read("HEAD", "1.0");
    assert!(!head.contains("Transfer-Encoding") && head.contains("Content-Disposition"), "{head}");
    assert_eq!(body, "");
    let (head, body) = read("GET", "1.0");
    assert!(!head.contains("Transfer-Encoding") && head.contains("Connection: close"), "{head}");
    assert_eq!(body, whole.text());
    // The connection can be used for another request.
    let mut socket = TcpStream::connect(("127.0.0.1", scene.server.port)).expect("connects");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    let bearer = scene.server.token();
    for _ in 0..3 {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {bearer}\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("sent");
        let answer = read_answer(&mut BufReader::new(&socket)).expect("a whole answer");
        assert_eq!((answer.header("connection"), answer.body == whole.body), (Some("keep-alive"), true));
    }
    scene.finish();
}

/// Fills the only session of a stopped server's store up to [`MANY`] events.
fn fill(server: &Server) {
    let db = rusqlite::Connection::open(server.workspace().data().join("sessions.db")).expect("the database");
    let sql = r#"WITH RECURSIVE numbers(n) AS (
            SELECT max(key) & 0xffffffff FROM events UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1
        )
        INSERT OR IGNORE INTO events (key, time, log, name, data)
        SELECT ((SELECT key FROM sessions) << 32) | n, n, 1, 'claudeEvent',
            ',"event":{"type":"assistant","message":{"content":[{"type":"text","text":"word ' || n || ' '
            || hex(zeroblob(100)) || '"}]}}}' FROM numbers"#;
    db.execute(sql, [MANY]).expect("filled");
}

/// A server that has one session of [`MANY`] events.
fn large() -> Scene {
    let small = scene(bad("proper"));
    small.text("hello");
    small.wait_quiet();
    assert_eq!(small.server.stop().code(), Some(0));
    fill(&small.server);
    let new = on(bad("proper").workspace(small.server.workspace()).start());
    new.client.must("resumeSession", json!({"sessionId": small.id}));
    Scene { id: small.id.clone(), ..new }
}

/// The server's greatest memory so far in bytes, from now on counted anew.
fn peak(server: &Server) -> u64 {
    let place = format!("/proc/{}", server.pid());
    let status = fs::read_to_string(format!("{place}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    fs::write(format!("{place}/clear_refs"), "5").expect("counted anew");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn a_long_history_is_whole_and_takes_little_memory() {
    const GROWTH_BYTES_MAX: u64 = 8 << 20;
    let scene = large();
    // What the first requests take they take once.
    scene.client.must("getHistory", scene.data(json!({"beforeSeq": MANY})));
    peak(&scene.server);
    let before = peak(&scene.server);
    let seqs: Vec<u64> = lines(&scene.export("jsonl")).iter().map(|line| line["seq"].as_u64().expect("one")).collect();
    assert!(seqs.iter().copied().eq(1..=MANY), "{} lines", seqs.len());
    let text = scene.export("md").text();
    let words = text.lines().filter_map(|line| line.strip_prefix("word ")?.split(' ').next()?.parse::<u64>().ok());
    let first = text.lines().find_map(|line| line.strip_prefix("word ")?.split(' ').next()?.parse::<u64>().ok());
    assert!(first.is_some_and(|first| first < 20) && words.eq(first.expect("looked at")..=MANY));
    let growth = peak(&scene.server).saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes");
    scene.finish();
}

#[test]
fn one_who_reads_slowly_holds_nobody_up() {
    let scene = large();
    let mut slow = request(&scene.server, "GET", &scene.path("jsonl"), "1.1").expect("sent");
    let mut line = [0; 15];
    slow.read_exact(&mut line).expect("it has begun");
    assert_eq!(&line, b"HTTP/1.1 200 OK");
    // The same session goes on, and others have it too.
    assert_eq!(scene.text("hi"), "you said: hi");
    assert_eq!(lines(&scene.export("jsonl")).first().expect("one")["seq"], 1);
    let mut rest = io::Cursor::new(line).chain(slow);
    let seqs = lines(&read_answer(&mut rest).expect("a whole answer"));
    assert_eq!(seqs.len() as u64, MANY, "it ends where the history ended when it was asked for");
    scene.finish();
}

#[test]
fn a_session_that_is_deleted_meanwhile_is_not_taken_for_whole() {
    let scene = large();
    let mut slow = request(&scene.server, "GET", &scene.path("md"), "1.1").expect("sent");
    let mut line = [0; 15];
    slow.read_exact(&mut line).expect("it has begun");
    scene.client.must("deleteSession", scene.data(json!({})));
    let answer = read_answer(&mut io::Cursor::new(line).chain(slow)).map(|answer| answer.body.len());
    let error = answer.expect_err("no last chunk");
    assert!(!matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{error}");
    scene.finish();
}

#[test]
fn a_server_that_stops_does_not_wait_for_one_who_reads_slowly() {
    let scene = large();
    let mut slow = request(&scene.server, "GET", &scene.path("md"), "1.1").expect("sent");
    slow.read_exact(&mut [0; 15]).expect("it has begun");
    scene.finish();
    drop(slow);
}
