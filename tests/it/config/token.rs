//! The token, its file, and where it must not be seen.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
    sync::Arc,
};

use serde_json::json;

use super::{builder, check_refused_in};
use crate::support::{client::Client, server::Server, workspace::Workspace};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").mode() & 0o7777
}

fn demo() -> Server {
    builder().demo().start()
}

#[test]
fn the_token_is_made_once_for_its_owner_alone() {
    let server = demo();
    let (data, token) = (server.workspace().data(), server.token());
    assert_eq!((mode(&data), mode(&data.join("token"))), (0o700, 0o600));
    let raw = fs::read_to_string(data.join("token")).expect("a token");
    let base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    assert!(token.len() == 43 && token.bytes().all(base64url), "32 bytes");
    assert_eq!(raw, format!("{token}\n"), "nothing but the token");
    let names: Vec<_> = fs::read_dir(&data).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".token")), "{names:?}");
    server.stop();
    let again = builder().demo().workspace(server.workspace()).start();
    assert_eq!(again.token(), token, "a restart keeps it");
    assert_ne!(demo().token(), token);
}

#[test]
fn a_token_file_that_is_not_private_is_refused() {
    let token = "t".repeat(43);
    let check = |prepare: &dyn Fn(&Path, &Path), part: &str| {
        let workspace = Arc::new(Workspace::new());
        let path = workspace.data().join("token");
        fs::create_dir(workspace.data()).expect("a directory");
        prepare(&path, workspace.root());
        check_refused_in(&workspace, builder().demo(), &[], 2, part);
        assert!(workspace.processes().is_empty(), "{part}");
    };
    let write = |path: &Path, text: &str, mode: u32| {
        fs::write(path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    check(
        &|path, root| {
            write(&root.join("elsewhere"), &token, 0o600);
            symlink(root.join("elsewhere"), path).expect("a link");
        },
        "is a symbolic link",
    );
    check(&|path, root| symlink(root.join("missing"), path).expect("a link"), "is a symbolic link");
    check(&|path, _| write(path, &token, 0o644), "chmod 600");
    check(&|path, _| write(path, &token, 0o660), "chmod 600");
    check(&|path, _| write(path, "", 0o600), "is empty");
    check(&|path, _| write(path, "short", 0o600), "less than 32 characters");
    check(&|path, _| write(path, &"x".repeat(129), 0o600), "more than 128 characters");
    check(&|path, _| write(path, &format!("{token}\n{token}\n"), 0o600), "on one line");
    check(&|path, _| fs::create_dir(path).expect("a directory"), "is not a regular file");
}

#[test]
fn the_token_file_may_lie_elsewhere() {
    let workspace = Arc::new(Workspace::new());
    let path = workspace.root().join("secrets/token");
    let file = format!("--token-file={}", path.display());
    let server = builder().demo().workspace(&workspace).arg(&file).start();
    assert_eq!((mode(&path), mode(path.parent().expect("a directory"))), (0o600, 0o700));
    assert!(!workspace.data().join("token").exists());
    let token = fs::read_to_string(&path).expect("a token");
    Client::connect(server.port, json!({"token": token.trim()}));
    server.stop();
    // One that was chosen by its owner is taken as it is.
    let mine = "my-own_token-of-at-least-32-characters";
    fs::write(&path, mine).expect("a token");
    let server = builder().demo().workspace(&workspace).env("CSM_TOKEN_FILE", path.display().to_string()).start();
    Client::connect(server.port, json!({"token": mine}));
}

#[test]
fn the_token_is_in_no_log_line_nor_environment() {
    for format in ["text", "json"] {
        let server = builder().bad_agent(&["proper"]).args(["--log-level=trace", "--log-format", format]).start();
        let token = server.token();
        let client = server.connect(json!({}));
        let session = client.session_id();
        let names = client.ask_and_wait(&session, "environ")["fullResponse"].clone();
        let bearer = format!("Bearer {token}");
        server.http("GET", "/api/sessions/x/events/1", &[("Authorization", &bearer)]);
        server.http("GET", &format!("/?token={token}"), &[("Host", "evil.com")]);
        let header = [("Authorization", bearer.as_str())];
        Client::open(server.port, &header).expect("the upgrade").send_connect(&json!({})).expect("let in");
        for process in server.started() {
            let shown = format!("{:?} {:?}", process.cmdline, process.environ);
            assert!(!shown.contains(&token), "{names}");
        }
        let raw = Client::open(server.port, &[]).expect("the upgrade");
        raw.send_raw(&format!("40{{\"token\":\"{token}\""));
        raw.wait_closed();
        server.stop();
        assert!(server.stderr_text().contains("stopped"));
        assert!(!server.stderr_text().contains(&token), "{format}");
        assert!(!server.stdout_text().contains(&token), "{format}");
    }
}
