use serde_json::json;

use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and more";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0 and more";
const GIF: &[u8] = b"GIF89a and more";
const WEBP: &[u8] = b"RIFF\x01\x02\x03\x04WEBP and more";

/// What clients send: the entry number N with the binary number N.
fn field(entries: &[(&str, &str)]) -> Value {
    let entry = |(at, (name, media_type)): (usize, &(&str, &str))| json!({"name": name, "mediaType": media_type, "data": {"_placeholder": true, "num": at}});
    entries.iter().enumerate().map(entry).collect()
}

fn binary(data: &[&[u8]]) -> Vec<Vec<u8>> {
    data.iter().map(|data| data.to_vec()).collect()
}

/// Good ones, none of which was sent before.
fn good<'a>(field: &'a Value, binary: &'a [Vec<u8>]) -> Vec<Attachment<'a>> {
    let nowhere = Uploads::in_folder(PathBuf::from("/nowhere"));
    attachments(Some(field), binary).and_then(|all| all.with_uploads(&nowhere)).expect("good")
}

/// The content for the prompt `p` and these attachments, and what was stored.
fn content_of(entries: &[(&str, &str)], data: &[&[u8]]) -> (Value, Vec<(String, Vec<u8>)>) {
    let (field, binary) = (field(entries), binary(data));
    let attachments = good(&field, &binary);
    let mut stored = Vec::new();
    let store = |name: &str, data: &Data<'_>| {
        let Data::Bytes(data) = data else { panic!("it came with the prompt") };
        stored.push((name.to_owned(), data.to_vec()));
        Ok(PathBuf::from(format!("/f/{}", stored.len())))
    };
    let content = content("p".into(), &attachments, store).expect("stored");
    assert!(!content.contains('\n'), "{content}");
    (serde_json::from_str(&content).expect("JSON"), stored)
}

#[test]
fn images_become_blocks() {
    let types = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    let entries: Vec<(&str, &str)> = types.iter().map(|media_type| ("i", *media_type)).collect();
    let (content, stored) = content_of(&entries, &[PNG, JPEG, GIF, WEBP]);
    let mut text = "p".to_owned();
    for (at, (media_type, data)) in types.iter().zip([PNG, JPEG, GIF, WEBP]).enumerate() {
        let source = json!({"type": "base64", "media_type": media_type, "data": BASE64.encode(data)});
        assert_eq!(content[at], json!({"type": "image", "source": source}));
        text += &format!("\n\n<file name=\"i\" type=\"{media_type}\" image=\"{}\"/>", at + 1);
    }
    assert_eq!(content[4], json!({"type": "text", "text": text}));
    assert_eq!((content.as_array().map(Vec::len), stored.len()), (Some(5), 0));
    let (content, _) = content_of(&[("old.gif", "image/gif")], &[b"GIF87a"]);
    assert_eq!(content[0]["source"]["data"], "R0lGODdh");
}

#[test]
fn texts_become_part_of_the_prompt() {
    for media_type in ["text/plain", "text/x-rust", "application/json", "application/ld+json", "image/svg+xml"] {
        let (content, stored) = content_of(&[("a.txt", media_type)], &["ä\n\"</file>".as_bytes()]);
        let expected = format!("p\n\n<file name=\"a.txt\" type=\"{media_type}\">\nä\n\"</file>\n</file>");
        assert_eq!((content, stored.len()), (json!(expected), 0));
    }
    let (content, _) = content_of(&[("e", "Text/Plain; charset=\"utf-8\"")], &[b""]);
    assert_eq!(content, "p\n\n<file name=\"e\" type=\"text/plain\">\n\n</file>");
}

#[test]
fn the_rest_is_stored_and_named() {
    let cases: [(&str, &[u8]); 6] = [
        ("application/pdf", b"%PDF-1.7"),
        ("application/octet-stream", b"plain text"),
        ("text/plain", b"latin1: \xe4"),
        ("text/plain", b"utf-16:\0a\0b"),
        ("image/heic", b"ftypheic"),
        ("application/json", b"\xff"),
    ];
    for (media_type, data) in cases {
        let (content, stored) = content_of(&[("a b", media_type)], &[data]);
        assert_eq!(content, format!("p\n\n<file name=\"a b\" type=\"{media_type}\" path=\"/f/1\"/>"));
        assert_eq!(stored, [("a b".to_owned(), data.to_vec())]);
    }
}

#[test]
fn what_is_too_much_for_a_prompt_is_stored() {
    let image = |bytes: usize| [PNG, &vec![0; bytes - PNG.len()]].concat();
    let text = |bytes: usize| vec![b'x'; bytes];
    let ways = |media_type: &str, data: &[Vec<u8>]| {
        let entries = vec![("a", media_type); data.len()];
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        content_of(&entries, &data).1.iter().map(|(_, data)| data.len()).collect::<Vec<_>>()
    };
    let stored = ways("image/png", &[image(IMAGE_BYTES_MAX), image(IMAGE_BYTES_MAX + 1)]);
    assert_eq!(stored, [IMAGE_BYTES_MAX + 1]);
    let rest = IMAGES_BYTES_MAX - IMAGE_BYTES_MAX;
    let stored = ways("image/png", &[image(IMAGE_BYTES_MAX), image(rest + 1), image(rest), image(20)]);
    assert_eq!(stored, [rest + 1, 20]);
    let stored = ways("text/plain", &[text(TEXTS_BYTES_MAX + 1), text(TEXTS_BYTES_MAX - 1), text(2), text(1)]);
    assert_eq!(stored, [TEXTS_BYTES_MAX + 1, 2]);
}

#[test]
fn names_are_escaped() {
    let (content, _) = content_of(&[("a\"b><&'\n\u{85}ä.txt", "text/x-a&b")], &[b"x"]);
    let expected = "p\n\n<file name=\"a&#34;b&#62;&#60;&#38;'&#10;&#133;ä.txt\" type=\"text/x-a&#38;b\">\nx\n</file>";
    assert_eq!(content, expected);
}

#[test]
fn viewers_see_name_type_and_size() {
    let (field, binary) = (field(&[("a.PNG", "Image/PNG"), ("b", "x/y; z")]), binary(&[PNG, b""]));
    let shown: Vec<Attached> = good(&field, &binary).iter().map(Attachment::shown).collect();
    let expected = json!([
        {"name": "a.PNG", "mediaType": "image/png", "bytes": PNG.len()},
        {"name": "b", "mediaType": "x/y", "bytes": 0},
    ]);
    assert_eq!(json!(shown), expected);
    assert_eq!(serde_json::from_value::<Vec<Attached>>(expected).expect("they come back"), shown);
}

#[test]
fn a_wrong_field_is_named() {
    let bad = |field: Value, name: &str| {
        let binary = binary(&[b"x", PNG]);
        let error = attachments(Some(&field), &binary).expect_err("refused");
        assert_eq!((error.code, &error.details["field"]), (Code::BadRequest, &json!(name)), "{field}");
    };
    for list in [json!("x"), json!({}), json!(7), json!(true)] {
        bad(list, "attachments");
    }
    let good = json!({"name": "a", "mediaType": "text/plain", "data": {"_placeholder": true, "num": 0}});
    let second = |change: &dyn Fn(&mut Value)| {
        let mut entry = good.clone();
        change(&mut entry);
        json!([good, entry])
    };
    let with = |name: &str, value: Value| second(&|entry| entry[name] = value.clone());
    bad(Value::Array(vec![good.clone(); ATTACHMENTS_MAX + 1]), "attachments");
    for entry in [json!(null), json!("x"), json!([]), json!({"_placeholder": true, "num": 0})] {
        let name = if entry.is_object() { "attachments[1].name" } else { "attachments[1]" };
        bad(json!([good, entry]), name);
    }
    for name in [json!(null), json!(7), json!(""), json!("a/b"), json!("a\0"), json!("x".repeat(NAME_BYTES_MAX + 1))] {
        bad(with("name", name), "attachments[1].name");
    }
    let long = format!("text/{}", "x".repeat(MEDIA_TYPE_BYTES_MAX));
    for media_type in [
        json!(null),
        json!(7),
        json!(""),
        json!("text"),
        json!("text/"),
        json!("/x"),
        json!("a/b/c"),
        json!("a b/c"),
        json!(long),
    ] {
        bad(with("mediaType", media_type), "attachments[1].mediaType");
    }
    for data in [json!(null), json!("eA=="), json!([120]), json!({}), json!({"_placeholder": true, "num": 2})] {
        bad(with("data", data), "attachments[1].data");
    }
    for media_type in IMAGE_TYPES {
        bad(with("mediaType", json!(media_type)), "attachments[1].data");
    }
    let png =
        |media_type: &str| json!([{"name": "a", "mediaType": media_type, "data": {"_placeholder": true, "num": 1}}]);
    bad(png("image/jpeg"), "attachments[0].data");
    bad(png("IMAGE/GIF;x"), "attachments[0].data");
    bad(with("fileId", json!(7)), "attachments[1].fileId");
    for none in [None, Some(&json!([]))] {
        assert!(attachments(none, &[]).expect("good").list.is_empty());
    }
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let (field, binary) = (field(&[("t", "text/plain"), ("a", "x/y")]), binary(&[b"x", b"y"]));
    let attachments = good(&field, &binary);
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let error = content("p".into(), &attachments, |_, _| Err(full())).expect_err("refused");
    assert_eq!((error.code, &error.details["field"]), (Code::StorageFull, &json!("attachments[1]")));
}
