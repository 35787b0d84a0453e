//! Processes that outlive what they should: this one, and its children.

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

pub fn sleep_forever() -> ! {
    loop {
        thread::park();
    }
}

pub fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: SIG_IGN is no handler of ours, so no code runs in a signal's context.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// An orphan in a session of its own, that nothing in its environment gives away.
pub fn spawn_clean() -> u32 {
    let script = "env -i setsid \"$0\" sleep-forever </dev/null >/dev/null 2>&1 & echo $!";
    let me = env::current_exe().expect("own path");
    let output = Command::new("sh").arg("-c").arg(script).arg(me).output().expect("sh");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the number of the orphan")
}

/// Starts this program again as a process that lives until it is killed, in a session of its own, with our stdout.
pub fn spawn_sleeper(orphan: bool) -> u32 {
    let me = env::current_exe().expect("own path");
    if orphan {
        // The shell in between ends at once and leaves its child to whoever takes orphans.
        let script = "setsid \"$0\" sleep-forever </dev/null >/dev/null 2>&1 & echo $!";
        let output = Command::new("sh").arg("-c").arg(script).arg(me).output().expect("sh");
        return String::from_utf8_lossy(&output.stdout).trim().parse().expect("the number of the orphan");
    }
    let mut command = Command::new(me);
    command.arg("sleep-forever").stdin(Stdio::null());
    // SAFETY: setsid may be called between fork and exec, and nothing else is done there.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    command.spawn().expect("a grandchild").id()
}
