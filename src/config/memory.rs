//! How much memory there is, because each Claude process wants its share.

use std::path::Path;

/// The memory in bytes that processes started here may use; none where it cannot be told.
pub(super) fn total_bytes() -> Option<u64> {
    linux_bytes(Path::new("/")).or_else(installed_bytes)
}

/// The smaller of the machine's memory and the limits of the control groups (version 2) we are in; the
/// files are looked for under `root`. None on other systems, which do not have them.
fn linux_bytes(root: &Path) -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(root.join(path)).ok();
    let machine = read(Path::new("proc/meminfo")).as_deref().and_then(meminfo_bytes);
    let group = read(Path::new("proc/self/cgroup"));
    let group = group.as_deref().and_then(|text| text.lines().find_map(|l| l.strip_prefix("0::/")));
    // The limit of each group above ours holds too. Inside a container `/` is our own group.
    let group = Path::new(group.unwrap_or(""));
    let limits = group.ancestors().filter_map(|group| {
        let file = Path::new("sys/fs/cgroup").join(group).join("memory.max");
        read(&file)?.trim().parse().ok() // "max" is no limit
    });
    limits.chain(machine).min()
}

fn meminfo_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn installed_bytes() -> Option<u64> {
    // SAFETY: sysconf only reads its argument.
    let get = |name| u64::try_from(unsafe { libc::sysconf(name) }).ok();
    get(libc::_SC_PHYS_PAGES)?.checked_mul(get(libc::_SC_PAGESIZE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_holds() {
        fn check(name: &str, files: &[(&str, &str)], expected: Option<u64>) {
            let root = tempfile::tempdir().expect("tempdir");
            for (path, content) in files {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
                std::fs::write(path, content).expect("write");
            }
            assert_eq!(linux_bytes(root.path()), expected, "{name}");
        }
        let machine = ("proc/meminfo", "MemFree: 5 kB\nMemTotal:       16000000 kB\nSwapTotal: 9 kB\n");
        let deep = ("proc/self/cgroup", "0::/user.slice/app.scope\n");
        let (here, all) = ("sys/fs/cgroup/user.slice/app.scope/memory.max", 16_384_000_000);
        check("nothing known", &[], None);
        check("no group", &[machine], Some(all));
        check("no limit", &[machine, deep, (here, "max\n")], Some(all));
        check("own limit", &[machine, deep, (here, "1073741824\n")], Some(1 << 30));
        let above = ("sys/fs/cgroup/user.slice/memory.max", "536870912\n");
        check("limit above", &[machine, deep, (here, "1073741824\n"), above], Some(1 << 29));
        let container = [machine, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "7\n")];
        check("container", &container, Some(7));
        let generous = ("sys/fs/cgroup/memory.max", "99999999999999\n");
        check("limit above the machine", &[machine, generous], Some(all));
        check("version 1", &[machine, ("proc/self/cgroup", "5:memory:/x\n")], Some(all));
        check("nonsense", &[("proc/meminfo", "MemTotal: many kB\n")], None);
    }
}
