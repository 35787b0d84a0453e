//! What the system knows of a process.

use std::fs;

/// The processor time that a process has used so far, in nanoseconds, threads that have ended included.
pub fn cpu_ns(pid: i32) -> u64 {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both places are valid.
    let got = unsafe {
        if libc::clock_getcpuclockid(pid, &raw mut clock) == 0 { libc::clock_gettime(clock, &raw mut time) } else { -1 }
    };
    assert_eq!(got, 0, "the clock of process {pid}");
    u64::try_from(time.tv_sec).expect("a time") * 1_000_000_000 + u64::try_from(time.tv_nsec).expect("a time")
}

/// A number of `/proc/PID/status`: `VmRSS`, `VmHWM` (both in kB), `Threads`.
pub fn status(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("that field");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// The children of a process whose command line contains `part`.
pub fn children(pid: i32, part: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|child| {
            let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
            parent == Some(pid.to_string()) && String::from_utf8_lossy(&line).contains(part)
        })
        .collect()
}

/// As many descriptors as the system lets us have.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// The machine, in a line.
pub fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{count} cores of {}, Linux {}", model.unwrap_or("an unknown processor"), kernel.trim())
}
