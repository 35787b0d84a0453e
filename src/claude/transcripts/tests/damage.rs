//! Files that are damaged, or are no files: what can be read is given, and nothing waits.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use proptest::prelude::*;

use super::*;
use crate::claude::process::LINE_BYTES_MAX;

fn mkfifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the path is a C string that lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn what_is_damaged_is_left_out() {
    let disk = Disk::new();
    let lines = [
        prompt(1, None, "one"),
        answer(2, 1, "1"),
        prompt(3, Some(2), "two"),
        answer(4, 3, "2"),
        prompt(5, Some(4), "three"),
    ];
    let lines = lines.map(|line| disk.at(line).to_string());
    let [a, b, c, d, e] = &lines;
    let long = format!("{{\"type\":\"user\",\"x\":\"{}\"}}", "x".repeat(50 << 20));
    let invalid = b"\n\0\xff\n{\"type\":\"user\",\"uuid\":\"\xff\",\"message\":{\"content\":\"b\xffd\"}}".to_vec();
    let cases: [(Vec<u8>, &[&str]); 9] = [
        (format!("{a}\n{b}\n{c}\n{d}\n{e}").into(), &["> one", "1", "> two", "2", "> three"]),
        (format!("{a}\n{b}\n{c}\n{d}\n{}", &e[..e.len() - 1]).into(), &["> one", "1", "> two", "2"]),
        (
            format!("{a}\n\n[]\nnull\n\"x\"\n{{\n{{}}\n{b}\r\n{{\"type\":\"user\"}}\n{c}").into(),
            &["> one", "1", "> two"],
        ),
        (format!("{a}\n{}\n{c}\n{d}", &b[1..]).into(), &["> one", "> two", "2"]),
        (format!("{b}\n{d}\n{e}").into(), &["1", "2", "> three"]),
        (format!("{a}\n{long}\n{b}").into(), &["> one", "1"]),
        ([a.clone().into_bytes(), invalid].concat(), &["> one", "> b\u{fffd}d"]),
        (
            format!(
                "{}\n{a}",
                "{\"type\":\"user\",\"message\":{\"content\":[[],7,{\"type\":\"text\",\"text\":\"odd\"}]}}"
            )
            .into(),
            &["> one"],
        ),
        (Vec::new(), &[]),
    ];
    for (contents, expected) in cases {
        let path = disk.write(1, &contents);
        let shown = String::from_utf8_lossy(&contents[..contents.len().min(900)]).into_owned();
        assert_eq!(words(&path), expected, "{shown}");
        assert_eq!(disk.list().len(), usize::from(!contents.is_empty()), "{shown}");
    }
}

/// None of these may make anything wait, least of all a FIFO.
#[test]
fn what_is_no_file_is_passed_over() {
    let disk = Disk::new();
    disk.write(1, disk.hello());
    let (fifo, dir, link, dangling, secret) = (
        disk.path("folder", 2),
        disk.path("folder", 3),
        disk.path("folder", 4),
        disk.path("folder", 5),
        disk.write(6, disk.hello()),
    );
    mkfifo(&fifo);
    fs::create_dir(&dir).expect("a directory");
    symlink(disk.path("folder", 1), &link).expect("a link");
    symlink("/nowhere", &dangling).expect("a link");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).expect("hidden");
    mkfifo(&disk.root.join("projects/not a folder"));
    for path in [&fifo, &dir, &link, &dangling, &disk.path("folder", 7), Path::new("/dev/null")] {
        assert!(read(path).is_err(), "{}", path.display());
    }
    // Root may read it all the same.
    let readable = usize::from(File::open(&secret).is_ok());
    assert_eq!(read(&secret).is_ok(), readable == 1);
    assert_eq!(disk.list().len(), 1 + readable);
    for n in 2..6 {
        assert_eq!(disk.transcripts().find(&uuid(n)), None);
    }
    assert_eq!(Transcripts::new(disk.root.join("none"), vec![disk.work()]).list(), []);
    assert_eq!(Transcripts::new(disk.path("folder", 1), vec![disk.work()]).list(), []);
}

#[test]
fn a_file_that_is_cut_while_it_is_read_ends_there() {
    let disk = Disk::new();
    let path = disk.write(1, disk.hello());
    let mut conversation = read(&path).expect("opened");
    assert_eq!(conversation.next().map(|told| told.what), Some(What::Prompt("hello".to_owned())));
    File::options().write(true).open(&path).and_then(|file| file.set_len(10)).expect("cut");
    assert_eq!(conversation.next(), None);
}

#[test]
fn a_line_up_to_the_limit_is_told() {
    let disk = Disk::new();
    let frame = answer(1, 0, "").to_string().len();
    for (bytes, expected) in [(LINE_BYTES_MAX, 1), (LINE_BYTES_MAX + 1, 0)] {
        let path = disk.write(1, text(&[answer(1, 0, &"x".repeat(bytes - frame))]));
        assert_eq!(told(&path).len(), expected, "{bytes}");
    }
}

/// A conversation of `turns` prompts and answers, as lines.
fn turns(disk: &Disk, turns: u32) -> Vec<Value> {
    let turn = |n: u32| {
        let parent = (n > 0).then(|| n * 2);
        [prompt(n * 2 + 1, parent, &format!("p{n}")), answer(n * 2 + 2, n * 2 + 1, &format!("a{n}"))]
    };
    (0..turns).flat_map(turn).map(|line| disk.at(line)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_cut_file_tells_its_beginning(count in 1u32..8, cut in 0.0f64..1.0) {
        let disk = Disk::new();
        let contents = text(&turns(&disk, count));
        let whole = told(&disk.write(1, &contents));
        prop_assert_eq!(whole.len(), count as usize * 2);
        let cut = &contents[..(contents.len() as f64 * cut) as usize];
        let path = disk.write(1, cut);
        let lines = cut.matches('\n').count();
        let got = told(&path);
        // The last line may be whole without its end.
        prop_assert!(got.len() == lines || got.len() == lines + 1);
        prop_assert_eq!(&got[..], &whole[..got.len()]);
        prop_assert_eq!(disk.list().len(), usize::from(!got.is_empty()));
    }

    #[test]
    fn garbage_between_the_lines_changes_nothing(garbage in proptest::collection::vec((0usize..9, proptest::collection::vec(any::<u8>(), 0..60)), 0..9)) {
        let disk = Disk::new();
        let mut lines: Vec<Vec<u8>> = turns(&disk, 4).iter().map(|line| line.to_string().into_bytes()).collect();
        let whole = told(&disk.write(1, lines.join(&b'\n')));
        for (at, bytes) in garbage {
            lines.insert(at.min(lines.len()), bytes);
        }
        let path = disk.write(1, lines.join(&b'\n'));
        prop_assert_eq!(told(&path), whole);
        let found = disk.one();
        prop_assert_eq!((found.title.as_deref(), found.last_words.as_deref()), (Some("p0"), Some("a3")));
    }

    #[test]
    fn flipped_bits_cost_no_more_than_their_lines(flips in proptest::collection::vec((0.0f64..1.0, 0u8..8), 1..6)) {
        let disk = Disk::new();
        let mut contents = text(&turns(&disk, 6)).into_bytes();
        for (at, bit) in flips {
            let at = (contents.len() as f64 * at) as usize;
            contents[at] ^= 1 << bit;
        }
        let path = disk.write(1, &contents);
        // A flipped bit may make of a parent an earlier line, and so leave a part behind: no more is promised than an end.
        prop_assert!(told(&path).len() <= 12 + 6);
        let _ = disk.list();
    }
}
