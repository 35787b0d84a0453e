//! Starting, watching and ending a server, shown on a shell script that says what the server says.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use crate::support::{DEADLINE, processes, server::Server, workspace::Workspace};

const SCRIPT: &str = r#"#!/bin/sh
for arg in "$@"; do
    case "$arg" in
        --data-dir=*) data="${arg#--data-dir=}" ;;
        --bad) echo "bad value" >&2; exit 2 ;;
    esac
done
mkdir -p "$data"
echo "a-token" > "$data/token"
trap 'echo "stopping" >&2; exit 0' INT
sleep 1000 &
echo "0 INFO listening on http://127.0.0.1:4711/ ($HOME, ${SECRET-no secret})" >&2
wait
"#;

/// A program in a directory of its own, so that a test can look at the server's.
fn script(workspace: &Workspace) -> PathBuf {
    let path = workspace.root().join("server");
    fs::write(&path, SCRIPT).expect("the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    path
}

#[test]
fn it_is_started_and_stopped() {
    let place = Workspace::new();
    let server = Server::builder(script(&place)).env("SECRET", "one").start();
    assert_eq!(server.port, 4711);
    assert_eq!(server.token(), "a-token");
    let home = server.workspace().home();
    server.wait_log(&format!("({}, one)", home.display()));
    assert_eq!(server.started().len(), 1);
    assert_eq!(server.stop().code(), Some(0));
    server.wait_log("stopping");
    assert_eq!(server.exit_status().and_then(|status| status.code()), Some(0));
    assert!(!server.signal(libc::SIGINT), "it has ended");
}

#[test]
fn what_it_leaves_ends_with_the_workspace() {
    let place = Workspace::new();
    let first = Server::builder(script(&place)).start();
    let (workspace, pid) = (first.workspace().clone(), first.pid());
    let sleeper = first.started().pop().expect("its child");
    drop(first);
    processes::wait_gone(pid);
    assert!(sleeper.is_alive(), "the workspace lives, and so does what was started in it");
    let second = Server::builder(script(&place)).workspace(&workspace).start();
    assert!(Arc::ptr_eq(second.workspace(), &workspace));
    drop(workspace);
    assert!(sleeper.is_alive());
    drop(second);
    processes::eventually("the sleeper gone", DEADLINE, || !sleeper.is_alive());
}

#[test]
fn a_bad_start_is_told() {
    let place = Workspace::new();
    let ended = Server::builder(script(&place)).arg("--bad").run();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(2), "bad value\n"));
}
