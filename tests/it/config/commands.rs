//! The subcommands.

use std::{fs, net::TcpListener, sync::Arc};

use serde_json::{Value, json};

use super::{builder, check_refused_in};
use crate::support::{client::Client, workspace::Workspace};

#[test]
fn link_prints_the_link_with_the_token() {
    let server = builder().demo().start();
    let (workspace, token) = (server.workspace(), server.token());
    let data = format!("--data-dir={}", workspace.data().display());
    for (args, expected) in [
        (&["link"][..], "http://127.0.0.1:3001/#token=TOKEN\n"),
        (&["link", "--port=4000"], "http://127.0.0.1:4000/#token=TOKEN\n"),
        (&["--port=4000", "link"], "http://127.0.0.1:4000/#token=TOKEN\n"),
        (&["link", "--host=::1"], "http://[::1]:3001/#token=TOKEN\n"),
        (&["link", "--host=0.0.0.0", "--allow-remote"], "http://127.0.0.1:3001/#token=TOKEN\n"),
        (&["link", "--public-url=https://h.example/p/"], "https://h.example/p/#token=TOKEN\n"),
    ] {
        let builder = builder().without_defaults().workspace(workspace);
        let ended = builder.args(args.iter().copied()).arg(&data).run();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(ended.stdout, expected.replace("TOKEN", &token), "{args:?}");
    }
    let nothing = Arc::new(Workspace::new());
    check_refused_in(&nothing, builder().arg("link"), &[], 1, "does not exist; the first start of the server makes it");
    assert!(!nothing.data().exists(), "link makes nothing");
}

#[test]
fn a_rotated_token_is_asked_for_from_the_next_start_on() {
    let server = builder().demo().start();
    let workspace = server.workspace();
    let old = server.token();
    let rotated = builder().workspace(workspace).args(["token", "--rotate"]).run();
    assert_eq!((rotated.code, rotated.stderr.as_str()), (Some(0), ""));
    let new = server.token();
    assert!(new != old && new.len() == 43 && !rotated.stdout.contains(&new) && !rotated.stdout.contains(&old));
    let mode = {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(workspace.data().join("token")).expect("there").mode() & 0o777
    };
    assert_eq!(mode, 0o600);
    let fits = |port: u16, token: &str| Client::try_connect(port, json!({"token": token})).is_ok();
    assert_eq!((fits(server.port, &old), fits(server.port, &new)), (true, false));
    server.stop();
    let server = builder().demo().workspace(workspace).start();
    assert_eq!((fits(server.port, &old), fits(server.port, &new)), (false, true));
}

#[test]
fn healthcheck_says_whether_a_server_is_well() {
    let server = builder().demo().start();
    let port = format!("--port={}", server.port);
    let well = builder().without_defaults().args(["healthcheck", &port]).run();
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""));
    let said: Value = serde_json::from_str(&well.stdout).expect("JSON");
    assert_eq!((&said["status"], &said["agent"]), (&json!("ok"), &json!("demo")));
    let by_variable = builder().without_defaults().arg("healthcheck").env("PORT", server.port.to_string()).run();
    assert_eq!(by_variable.code, Some(0));
    server.stop();
    let gone = builder().without_defaults().args(["healthcheck", &port]).run();
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), ""));
    assert!(gone.stderr.contains(&format!("127.0.0.1:{}", server.port)) && gone.stderr.lines().count() == 1);
    // Somebody else on the port is no server of ours.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = format!("--port={}", other.local_addr().expect("bound").port());
    let answering = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = other.accept().expect("a connection");
        let _ = stream.read(&mut [0; 1000]);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n");
    });
    let wrong = builder().without_defaults().args(["healthcheck", &port]).run();
    assert_eq!((wrong.code, wrong.stderr.contains("404 Not Found")), (Some(1), true), "{}", wrong.stderr);
    answering.join().expect("answered");
}

#[test]
fn serve_is_the_default() {
    let server = builder().demo().arg("serve").start();
    assert_eq!(server.http("GET", "/health", &[]).status, 200);
    let server = builder().args(["serve", "--agent=demo", "--mode=shared"]).start();
    assert_eq!(server.connect(json!({})).session_id(), "global-session");
}

#[test]
fn the_demo_agent_ends_with_its_input() {
    let ended = builder().without_defaults().args(["demo-agent", "--session-id=x"]).run();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
