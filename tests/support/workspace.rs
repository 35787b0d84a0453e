//! The directories of one test, and the end of everything that was started in them.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::processes;

/// A temporary directory with a home, a data directory and a working directory in it.
///
/// Its path is in the environment (`HOME`, `TMPDIR`) of every program started through [`command`](Self::command),
/// and so of everything those start. That is the mark by which its drop finds and kills what a test left running.
pub struct Workspace {
    // A symbolic link in the temporary directory's path would make two names of one directory.
    root: PathBuf,
    _dir: TempDir,
}

impl Workspace {
    /// Makes the directories, empty.
    pub fn new() -> Workspace {
        let dir = tempfile::Builder::new().prefix("csm-test-").tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("its path");
        for name in ["home", "tmp", "work"] {
            fs::create_dir(root.join(name)).expect("a directory in it");
        }
        Workspace { root, _dir: dir }
    }

    /// The directory that holds the others.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What goes into `HOME`.
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// What goes into `TMPDIR`.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The server's data directory. It is for the server to make it.
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The directory that agents work in.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// What the environment of every process started here contains, and nobody else's.
    pub fn mark(&self) -> String {
        format!("{}/", self.root.display())
    }

    /// A command with no environment but `PATH`, `HOME` and `TMPDIR`, run in [`work`](Self::work).
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("HOME", self.home()).env("TMPDIR", self.tmp()).current_dir(self.work());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        let as_in_a_terminal = || {
            for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
                // SAFETY: a plain system call, which is allowed between fork and exec.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            Ok(())
        };
        // SAFETY: see there. Whoever runs the tests in the background, or with `nohup`, has them ignored, and ignored signals are
        // inherited.
        unsafe { command.pre_exec(as_in_a_terminal) };
        command
    }

    /// The living processes that were started here, at whatever remove.
    pub fn processes(&self) -> Vec<processes::Process> {
        processes::with_env_containing(&self.mark())
    }

    /// Waits until no process started here lives.
    ///
    /// # Panics
    /// When one is left after [`DEADLINE`](super::DEADLINE).
    pub fn wait_no_processes(&self) {
        processes::wait_none_with_env(&self.mark());
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        processes::kill_with_env_containing(&self.mark());
    }
}
