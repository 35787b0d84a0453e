//! What a list shows, of which files.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

fn date(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("opened");
    file.set_modified(time).expect("dated");
}

#[test]
fn the_projects_directory_is_where_claude_has_it() {
    let cases = [
        ((Some("/c"), Some("/h")), Some("/c/projects")),
        ((Some(""), Some("/h")), Some("/h/.claude/projects")),
        ((None, Some("/h")), Some("/h/.claude/projects")),
        ((None, Some("")), None),
        ((None, None), None),
    ];
    for ((config_dir, home), expected) in cases {
        let dir = projects_dir(config_dir.map(Into::into), home.map(Into::into));
        assert_eq!(dir.as_deref(), expected.map(Path::new), "{config_dir:?} {home:?}");
    }
}

#[test]
fn folders_are_named_after_directories() {
    let long = format!("/{}", "x".repeat(250));
    let cases = [
        ("/a/b", "-a-b", true),
        ("/a/b", "-a-c", false),
        ("/a/b c.d_e-f", "-a-b-c-d-e-f", true),
        ("/a/é😀", "-a----", true),
        (&long, &format!("-{}-1a2b3c", "x".repeat(199)), true),
        (&long, &format!("-{}", "x".repeat(250)), true),
        (&long, &format!("-{}-1a2b3c", "x".repeat(198)), false),
    ];
    for (cwd, folder, expected) in cases {
        assert_eq!(belongs_in(cwd, folder), expected, "{cwd} in {folder}");
    }
}

#[test]
fn a_conversation_is_listed() {
    let disk = Disk::new();
    let path = disk.write(7, disk.hello());
    date(&path, UNIX_EPOCH + Duration::from_millis(1_800_000_000_123));
    let expected = Found {
        uuid: uuid(7),
        cwd: disk.work(),
        title: Some("hello".to_owned()),
        created_at: 1_767_225_601_000,
        last_activity: 1_800_000_000_123,
        bytes: disk.hello().len() as u64,
        entrypoint: Some("cli".to_owned()),
        model: Some("claude-x".to_owned()),
        last_words: Some("how are you?".to_owned()),
        path,
    };
    let transcripts = disk.transcripts();
    assert_eq!(transcripts.find(&uuid(7)).as_ref(), Some(&expected));
    assert_eq!(transcripts.list(), [expected]);
    for other in [&uuid(8), "", "../folder/x", &format!("../folder/{}", uuid(7)), &format!("{}.jsonl", uuid(7))] {
        assert_eq!(transcripts.find(other), None, "{other}");
    }
}

#[test]
fn the_title_is_the_best_name_there_is() {
    fn check(lines: &[Value], expected: &str) {
        let disk = Disk::new();
        // Its first line says that the file is not a sub-agent's.
        let first = line(49, None, json!({"type": "attachment", "attachment": {"type": "date"}}));
        let last = disk.at(answer(50, 49, "an answer"));
        disk.write(1, text(&[&[first], lines, &[last]].concat()));
        assert_eq!(disk.one().title.as_deref().unwrap_or_default(), expected, "{lines:?}");
    }
    let custom = |title: &str| json!({"type": "custom-title", "customTitle": title});
    let ai = |title: &str| json!({"type": "ai-title", "aiTitle": title});
    let summary = json!({"type": "summary", "summary": "of old", "leafUuid": uuid(3)});
    let asked = prompt(1, None, "first\n  prompt");
    let command = prompt(2, None, "<command-name>/review</command-name><command-args>it</command-args>");
    let meta = with(prompt(3, None, "for the model"), json!({"isMeta": true}));
    let cases = [
        (vec![custom("a"), ai("b"), custom("c"), asked.clone()], "c"),
        (vec![ai("a"), asked.clone(), ai("b")], "b"),
        (vec![custom("a"), custom(""), ai("b")], "b"),
        (vec![ai(" two\nlines ")], "two lines"),
        (vec![json!({"type": "custom-title", "customTitle": 7}), summary.clone(), asked.clone()], "of old"),
        (vec![meta, command.clone(), asked.clone(), prompt(4, None, "second")], "first prompt"),
        (vec![command], "/review it"),
        (vec![prompt(1, None, &"wordy ".repeat(20))], &format!("{}w…", "wordy ".repeat(13))),
        (vec![user(1, None, json!([{"type": "image"}, {"type": "text", "text": "look"}]))], "[image] look"),
        (vec![with(prompt(1, None, "of a sub-agent"), json!({"isSidechain": true}))], ""),
        (vec![], ""),
    ];
    for (lines, expected) in cases {
        check(&lines, expected);
    }
}

#[test]
fn what_is_no_conversation_is_not_listed() {
    let disk = Disk::new();
    let hello = disk.hello();
    let side = [with(prompt(1, None, "a"), json!({"isSidechain": true})), answer(2, 1, "b")].map(|line| disk.at(line));
    let cleared = "<command-name>/clear</command-name>";
    let contents: [String; 7] = [
        String::new(),
        text(&side),
        text(&[json!({"type": "mode", "mode": "normal"})]),
        text(&[disk.at(prompt(1, None, cleared)), disk.at(local(2, 1, cleared))]),
        text(&[prompt(1, None, "without a directory")]),
        text(&[at(prompt(1, None, "elsewhere"), &disk.root)]),
        text(&[at(prompt(1, None, "beside"), &disk.root.join("work-more"))]),
    ];
    for (n, contents) in (1..).zip(contents) {
        disk.write(n, contents);
    }
    for name in ["agent-1.jsonl", "notes.jsonl", "00000001.jsonl", &format!("{}.json", uuid(1)), &uuid(1)] {
        fs::write(disk.root.join("projects/folder").join(name), &hello).expect("written");
    }
    fs::write(disk.root.join("projects").join(format!("{}.jsonl", uuid(1))), &hello).expect("written");
    assert_eq!(disk.list(), []);
}

#[test]
fn a_directory_is_under_a_root_by_its_own_name() {
    let disk = Disk::new();
    symlink(disk.work(), disk.root.join("link")).expect("a link in");
    symlink(&disk.root, disk.work().join("out")).expect("a link out");
    fs::create_dir(disk.work().join("below")).expect("a directory");
    let work = disk.work();
    let cases = [
        (work.clone(), Some(work.clone())),
        (work.join("below"), Some(work.join("below"))),
        (work.join("gone/for good"), Some(work.join("gone/for good"))),
        (disk.root.join("link"), Some(work.clone())),
        (work.join("out"), None),
        (work.join("gone/../.."), None),
        (work.join("below/.."), None),
        (PathBuf::from("work"), None),
        (PathBuf::from(""), None),
    ];
    for (cwd, expected) in cases {
        disk.write(1, text(&[at(prompt(1, None, "p"), &cwd)]));
        let found = disk.list().into_iter().next().map(|found| found.cwd);
        assert_eq!(found, expected, "{}", cwd.display());
        assert_eq!(disk.transcripts().find(&uuid(1)).map(|found| found.cwd), expected, "{}", cwd.display());
    }
}

#[test]
fn of_several_directories_the_folder_decides() {
    let (first, last) = (Path::new("/srv/first"), Path::new("/srv/last.one"));
    let moved = json!({"type": "relocated", "relocatedCwd": last});
    let walk = [at(prompt(1, None, "a"), first), at(answer(2, 1, "b"), last)];
    let cases = [
        ("-srv-first", walk.to_vec(), first),
        ("-srv-last-one", walk.to_vec(), last),
        ("-work", walk.to_vec(), first),
        ("-srv-last-one", vec![walk[0].clone(), moved.clone()], last),
        ("-work", vec![walk[0].clone(), moved], last),
    ];
    for (name, lines, expected) in cases {
        let disk = Disk::new();
        let path = disk.path(name, 1);
        fs::create_dir(path.parent().expect("a folder")).expect("made");
        fs::write(&path, text(&lines)).expect("written");
        let found = scan::scan(&path, &uuid(1)).expect("found");
        assert_eq!(found.cwd, expected, "in {name}");
    }
}

#[test]
fn of_a_large_file_head_and_tail_are_enough() {
    let disk = Disk::new();
    let filler = |kib: usize| text(&[json!({"type": "api-request-shape", "shape": "x".repeat(kib * 1024)})]);
    let head = text(&[disk.at(prompt(1, None, "first")), disk.at(answer(2, 1, "early"))]);
    let tail = text(&[disk.at(answer(3, 2, "late")), json!({"type": "ai-title", "aiTitle": "named"})]);
    let lone = text(&[disk.at(prompt(4, None, "lone"))]);
    let cases = [
        (format!("{head}{}{tail}", filler(500)), ("named", "late")),
        (format!("{head}{}{tail}", filler(60)), ("named", "late")),
        (format!("{head}{}{tail}{}", filler(500), filler(70)), ("named", "late")),
        (format!("{head}{}{tail}{}", filler(500), filler(300)), ("first", "early")),
        // The first line does not fit into the head.
        (format!("{}{tail}", filler(100)), ("named", "late")),
        (format!("{}{lone}", filler(900)), ("lone", "")),
    ];
    for (contents, expected) in cases {
        disk.write(1, &contents);
        let found = disk.one();
        let shown = (found.title.as_deref().unwrap_or_default(), found.last_words.as_deref().unwrap_or_default());
        assert_eq!(shown, expected, "{} bytes", contents.len());
    }
}

#[test]
fn the_newest_is_first_and_none_is_there_twice() {
    let disk = Disk::new();
    fs::create_dir(disk.root.join("projects/other")).expect("a folder");
    let write = |path: &Path, seconds: u64| {
        fs::write(path, disk.hello()).expect("written");
        date(path, UNIX_EPOCH + Duration::from_secs(seconds));
    };
    for (folder, n, seconds) in
        [("folder", 1, 10), ("folder", 2, 30), ("other", 3, 20), ("other", 1, 40), ("other", 2, 5)]
    {
        write(&disk.path(folder, n), seconds);
    }
    let transcripts = disk.transcripts();
    let shown = |list: Vec<Found>| list.iter().map(|found| found.last_activity / 1000).collect::<Vec<_>>();
    assert_eq!(shown(transcripts.list()), [40, 30, 20]);
    assert_eq!(transcripts.find(&uuid(1)).map(|found| found.path), Some(disk.path("other", 1)));
    fs::remove_file(disk.path("other", 1)).expect("removed");
    write(&disk.path("other", 3), 35);
    assert_eq!(shown(transcripts.list()), [35, 30, 10]);
}

#[test]
fn an_unchanged_file_is_not_read_again() {
    let disk = Disk::new();
    let path = disk.write(1, disk.hello());
    let transcripts = disk.transcripts();
    let title = || transcripts.list()[0].title.clone().expect("a title");
    assert_eq!(title(), "hello");
    let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).expect("a time");
    disk.write(1, disk.hello().replace("hello", "HELLO"));
    date(&path, modified);
    assert_eq!(title(), "hello", "nothing tells that it has changed");
    date(&path, modified + Duration::from_secs(1));
    assert_eq!(title(), "HELLO");
}
