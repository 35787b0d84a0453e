//! Exact bytes and exact errors, both ways.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// The smallest stack on which a connection's thread may decode.
const SMALL_STACK_BYTES: usize = 256 * 1024;

/// What is fed to an assembler: all but the last message must be taken without completing a packet.
#[derive(Debug, Clone, Copy)]
enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}
use Message::{Binary, Text};

fn feed(messages: &[Message<'_>]) -> Result<Option<Packet>, DecodeError> {
    let mut assembler = Assembler::default();
    let mut last = Ok(None);
    for message in messages {
        assert_eq!(last, Ok(None), "before {message:?} of {messages:?}");
        last = match message {
            Text(text) => assembler.text(text),
            Binary(bytes) => assembler.binary(bytes.to_vec()),
        };
    }
    last
}

fn check(messages: &[Message<'_>], want: Result<Option<Packet>, DecodeError>) {
    assert_eq!(feed(messages), want, "{messages:?}");
}

fn array_of(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        other => panic!("not an array: {other}"),
    }
}

fn connecting(namespace: &str, auth: Value) -> Result<Option<Packet>, DecodeError> {
    Ok(Some(Packet::Connect { namespace: namespace.to_owned(), auth: auth.as_object().cloned() }))
}

fn event_of(
    namespace: &str,
    ack: Option<u64>,
    name: &str,
    args: Value,
    attachments: &[&[u8]],
) -> Result<Option<Packet>, DecodeError> {
    let attachments = attachments.iter().map(|bytes| bytes.to_vec()).collect();
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Ok(Some(Packet::Event { namespace, ack, name, args: Ok(array_of(args)), attachments }))
}

fn ack_of(namespace: &str, id: u64, args: Value, attachments: &[&[u8]]) -> Result<Option<Packet>, DecodeError> {
    let attachments = attachments.iter().map(|bytes| bytes.to_vec()).collect();
    Ok(Some(Packet::Ack { namespace: namespace.to_owned(), id, args: array_of(args), attachments }))
}

#[test]
fn good_messages() {
    check(&[Text("0")], connecting("/", json!(null)));
    check(&[Text("0{}")], connecting("/", json!({})));
    check(&[Text(r#"0{"token":"t"}"#)], connecting("/", json!({"token": "t"})));
    check(&[Text("0/ns")], connecting("/ns", json!(null)));
    check(&[Text("0/ns,")], connecting("/ns", json!(null)));
    check(&[Text(r#"0/ns,{"a":[1]}"#)], connecting("/ns", json!({"a": [1]})));
    check(&[Text("0/ns?x=1,{}")], connecting("/ns", json!({})));
    check(&[Text("0/?x=1/2?3")], connecting("/", json!(null)));
    for (text, namespace) in [("1", "/"), ("1/ns", "/ns"), ("1/ns,", "/ns"), ("1/ns?x=1,", "/ns")] {
        check(&[Text(text)], Ok(Some(Packet::Disconnect { namespace: namespace.to_owned() })));
    }

    check(&[Text(r#"2["a"]"#)], event_of("/", None, "a", json!([]), &[]));
    check(&[Text(r#"2[""]"#)], event_of("/", None, "", json!([]), &[]));
    check(&[Text(r#"20["a",1,{"b":null}]"#)], event_of("/", Some(0), "a", json!([1, {"b": null}]), &[]));
    check(&[Text(r#"2/ns,12["a","b"]"#)], event_of("/ns", Some(12), "a", json!(["b"]), &[]));
    check(&[Text(r#"2/ns?q=[1],007["a"]"#)], event_of("/ns", Some(7), "a", json!([]), &[]));
    check(&[Text(r#"218446744073709551615["a"]"#)], event_of("/", Some(u64::MAX), "a", json!([]), &[]));
    check(&[Text(r#"2["Connect"]"#)], event_of("/", None, "Connect", json!([]), &[]));
    check(&[Text("2[7]")], event_of("/", None, "7", json!([]), &[]));
    check(&[Text("2[-7,1]")], event_of("/", None, "-7", json!([1]), &[]));
    check(&[Text("2[1.5]")], event_of("/", None, "1.5", json!([]), &[]));
    check(&[Text("2[1e3]")], event_of("/", None, "1000", json!([]), &[]));

    check(&[Text("30[]")], ack_of("/", 0, json!([]), &[]));
    check(&[Text(r#"3/ns,12[1,"connect"]"#)], ack_of("/ns", 12, json!([1, "connect"]), &[]));
}

#[test]
fn good_attachments() {
    let hole = |num: usize| json!({"_placeholder": true, "num": num});
    check(&[Text(r#"50-["a"]"#)], event_of("/", None, "a", json!([]), &[]));
    check(&[Text(r#"51-["a",{"_placeholder":true,"num":0}]"#)], Ok(None));
    check(
        &[Text(r#"51-["a",{"_placeholder":true,"num":0}]"#), Binary(b"")],
        event_of("/", None, "a", json!([hole(0)]), &[b""]),
    );
    let two = r#"52-/ns,12["a",{"x":[{"_placeholder":true,"num":1}]},{"num":0,"_placeholder":true}]"#;
    check(&[Text(two), Binary(b"\0")], Ok(None));
    check(
        &[Text(two), Binary(b"\0"), Binary(b"\xff1")],
        event_of("/ns", Some(12), "a", json!([{"x": [hole(1)]}, hole(0)]), &[b"\0", b"\xff1"]),
    );
    // An announced attachment need not be used; what only resembles a placeholder is data.
    check(
        &[Text(r#"61-5[{"_placeholder":false,"num":9},{"num":9}]"#), Binary(b"x")],
        ack_of("/", 5, json!([{"_placeholder": false, "num": 9}, {"num": 9}]), &[b"x"]),
    );
    let mut ten = vec![Text(r#"510-["a"]"#)];
    ten.extend([Binary(b"z"); ATTACHMENTS_MAX]);
    check(&ten, event_of("/", None, "a", json!([]), &[b"z".as_slice(); ATTACHMENTS_MAX]));
}

#[test]
fn an_assembler_is_reusable() {
    let mut assembler = Assembler::default();
    for _ in 0..2 {
        assert_eq!(assembler.text(r#"51-["a"]"#), Ok(None));
        assert_eq!(assembler.binary(vec![1]), event_of("/", None, "a", json!([]), &[&[1]]));
        assert_eq!(assembler.text("30[]"), ack_of("/", 0, json!([]), &[]));
    }
}

#[test]
fn bad_messages() {
    let table: &[(DecodeError, &[&str])] = &[
        (DecodeError::UnknownType, &["", "7", "9", "-1", "x", " 2[\"a\"]", "\u{662}[\"a\"]", "b"]),
        (DecodeError::ConnectErrorFromClient, &["4", r#"4{"message":"x"}"#, "4/ns,"]),
        (DecodeError::AuthNotAnObject, &["0[]", r#"0"token""#, "0null", "0true", "01", "0/ns,[]"]),
        (DecodeError::DisconnectPayload, &["1{}", "1[]", "1x", "1/ns,0"]),
        (DecodeError::NotAnArray, &["2", "2{}", "2\"a\"", "21", "2/ns", "2/ns,", "2/ns,1{}", "30", "30{}", "50-"]),
        (DecodeError::EventNameMissing, &["2[]", "2[null]", "2[true]", "2[[]]", "2[{}]", "21[]", "50-[]"]),
        (DecodeError::EventNameMissing, &[r#"51-[{"_placeholder":true,"num":0}]"#]),
        (DecodeError::EventNameReserved, &[r#"2["connect"]"#, r#"2["connect_error",1]"#, r#"2/ns,1["disconnect"]"#]),
        (DecodeError::EventNameReserved, &[r#"2["disconnecting"]"#, r#"2["newListener"]"#]),
        (DecodeError::EventNameReserved, &[r#"51-["removeListener"]"#, r#"2["c\u006fnnect"]"#]),
        (DecodeError::JsonBad, &["0{", "0{]", "0/ns,x", "0{} x", "2[", r#"2["some"#, r#"2["a"]x"#, r#"2["a",]"#]),
        (DecodeError::JsonBad, &["2[\"a\0\"]", "30[1", "30['a']", "2[1e400]", r#"2["\ud800",1]"#, r#"2["a","\u12"]"#]),
        (DecodeError::JsonBad, &["301[1e400]", r#"0{"a":1e400}"#, r#"0{"a":"\ud800"}"#, r#"2["a",1e400"#]),
        (DecodeError::JsonBad, &[r#"2["a",1e400,]"#, r#"2["a","\ud800" 1]"#, r#"2["a",{"b":1e400,}]"#, "2[\"a\",1e]"]),
        (DecodeError::EventNameMissing, &["2[null,1e400]"]),
        (DecodeError::EventNameReserved, &[r#"2["connect",1e400]"#]),
        (DecodeError::AckIdNotANumber, &[r#"2x["a"]"#, r#"2-1["a"]"#, r#"21.5["a"]"#, r#"2 1["a"]"#, "2+"]),
        (DecodeError::AckIdNotANumber, &[r#"2/ns,1a["a"]"#, "2\u{661}[\"a\"]", "3x[]", "30x[]", r#"21-["a"]"#]),
        (DecodeError::AckIdTooLong, &[r#"218446744073709551616["a"]"#, "3000000000000000000001[]"]),
        (DecodeError::AckIdMissing, &["3", "3[]", "3{}", "3/ns,[1]", "60-[]", "61-[]"]),
        (DecodeError::AttachmentCountBad, &["5", "5-", r#"5-["a"]"#, "5a-", "51.23-", "51", r#"51["a"]"#]),
        (DecodeError::AttachmentCountBad, &["5-1-[]", "5+1-", "5 1-", "6", "6/ns,0-", "5\u{661}-[\"a\"]"]),
        (DecodeError::AttachmentsTooMany, &[r#"511-["a"]"#, "599999999999999999999999-", "611-0[]"]),
    ];
    for (want, texts) in table {
        for text in *texts {
            check(&[Text(text)], Err(*want));
        }
    }
    let digits = "9".repeat(400);
    check(&[Text(&format!(r#"2{digits}["a"]"#))], Err(DecodeError::AckIdTooLong));
    check(&[Text(&format!("3/ns,{digits}[]"))], Err(DecodeError::AckIdTooLong));
    check(&[Text(&format!("2{}[\"a\"]", "0".repeat(400)))], Err(DecodeError::AckIdTooLong));
}

#[test]
fn arguments_without_a_value_are_named() {
    fn check(messages: &[Message<'_>], argument: usize, field: Option<&str>) {
        let bad = BadValue { argument, field: field.map(str::to_owned) };
        match feed(messages) {
            Ok(Some(Packet::Event { namespace, ack, name, args, .. })) => {
                assert_eq!(
                    (namespace.as_str(), ack, name.as_str(), args),
                    ("/", Some(7), "a", Err(bad)),
                    "{messages:?}"
                );
            }
            other => panic!("{messages:?}: {other:?}"),
        }
    }
    check(&[Text(r#"27["a",1e400]"#)], 0, None);
    check(&[Text(r#"27["a",1,-1e999]"#)], 1, None);
    check(&[Text(r#"27["a",[{"b":1e400}]]"#)], 0, None);
    for bad in ["1e400", r#""\ud800""#, r#""\udc00""#, r#""x\ud83d""#, r#""\ud800\u0041""#, r#"[{"c":"\ud800"}]"#] {
        check(&[Text(&format!(r#"27["a",{{"fine":"\ud83d\ude00","field":{bad},"z":1}}]"#))], 0, Some("field"));
    }
    check(&[Text(r#"27["a",{"\ud800":1}]"#)], 0, None);
    let with_attachment = r#"51-7["a",{"field":1e400,"data":{"_placeholder":true,"num":0}}]"#;
    check(&[Text(with_attachment), Binary(b"x")], 0, Some("field"));
}

#[test]
fn bad_attachments() {
    for num in ["-1", "1", "99", "\"x\"", "0.5", "null", "18446744073709551616"] {
        let hole = format!(r#"{{"_placeholder":true,"num":{num}}}"#);
        check(&[Text(&format!(r#"51-["a",{hole}]"#))], Err(DecodeError::PlaceholderBad));
        check(&[Text(&format!(r#"61-0[{{"x":[{hole}]}}]"#))], Err(DecodeError::PlaceholderBad));
    }
    check(&[Text(r#"51-["a",{"_placeholder":true}]"#)], Err(DecodeError::PlaceholderBad));
    check(&[Text(r#"2["a",{"_placeholder":true,"num":0}]"#)], Err(DecodeError::PlaceholderBad));
    check(&[Binary(b"x")], Err(DecodeError::BinaryUnasked));
    for text in ["", "1", r#"2["a"]"#, r#"51-["a"]"#] {
        check(&[Text(r#"52-["a"]"#), Text(text)], Err(DecodeError::TextWhileBinaryAwaited));
        check(&[Text(r#"52-["a"]"#), Binary(b"x"), Text(text)], Err(DecodeError::TextWhileBinaryAwaited));
    }
    let mut assembler = Assembler::default();
    assert_eq!(assembler.text(r#"51-["a"]"#), Ok(None));
    assert!(matches!(assembler.binary(Vec::new()), Ok(Some(_))));
    assert_eq!(assembler.binary(Vec::new()), Err(DecodeError::BinaryUnasked));
}

#[test]
fn deep_json_fits_a_small_stack() {
    /// `depth` counts the outer array, too.
    fn check(depth: usize, open: &str, close: &str, want: Result<(), DecodeError>) {
        let inner = format!("{}0{}", open.repeat(depth - 1), close.repeat(depth - 1));
        let texts = [format!(r#"2["a",{inner}]"#), format!("30[{inner}]"), format!(r#"0{{"a":{inner}}}"#)];
        let decode = move || {
            for text in texts {
                assert_eq!(feed(&[Text(&text)]).map(drop), want, "depth {depth}");
            }
        };
        std::thread::Builder::new().stack_size(SMALL_STACK_BYTES).spawn(decode).unwrap().join().unwrap();
    }
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        check(NESTING_MAX, open, close, Ok(()));
        for depth in [NESTING_MAX + 1, 127, 200, 100_000] {
            check(depth, open, close, Err(DecodeError::NestingTooDeep));
        }
    }
    // Neither width nor brackets inside a string are nesting.
    let (wide, quoted) = ("[{}],".repeat(1000), r#"\"[{\\"#.repeat(1000));
    let text = format!(r#"2["a",{wide}"{quoted}"]"#);
    assert!(matches!(feed(&[Text(&text)]), Ok(Some(Packet::Event { args: Ok(args), .. })) if args.len() == 1001));
}

#[test]
fn placeholders() {
    fn check(value: Value, want: Option<usize>) {
        assert_eq!(placeholder(&value), want, "{value}");
    }
    check(json!({"_placeholder": true, "num": 0}), Some(0));
    check(json!({"num": 12, "_placeholder": true, "more": 1}), Some(12));
    check(json!({"_placeholder": true, "num": -1}), None);
    check(json!({"_placeholder": true, "num": "0"}), None);
    check(json!({"_placeholder": true}), None);
    check(json!({"_placeholder": 1, "num": 0}), None);
    check(json!({"num": 0}), None);
    check(json!([true, 0]), None);
    check(json!(null), None);
}

#[test]
fn encoders() {
    fn check(packet: String, want: &str) {
        assert_eq!(packet, want);
    }
    check(connect("/", "s", None), r#"40{"sid":"s"}"#);
    check(connect("/ns", "s\"", Some("p")), r#"40/ns,{"sid":"s\"","pid":"p"}"#);
    check(connect_error("/x", "Invalid namespace", None), r#"44/x,{"message":"Invalid namespace"}"#);
    check(
        connect_error("/", "no\n", Some(&json!({"code": "unauthorized"}))),
        r#"44{"message":"no\n","data":{"code":"unauthorized"}}"#,
    );
    check(event_prefix("/", "na\"me"), r#"42["na\"me""#);
    check(event_prefix("/ns", "name"), r#"42/ns,["name""#);
    check(event("/", "name", &[]), r#"42["name"]"#);
    check(event("/ns", "name", &["1", r#"{"b":1,"a":2}"#]), r#"42/ns,["name",1,{"b":1,"a":2}]"#);
    check(ack_prefix("/", 0), "430[");
    check(ack_prefix("/ns", 12), "43/ns,12[");
    check(ack("/", 0, &[]), "430[]");
    check(ack("/ns", u64::MAX, &["1", "[]"]), "43/ns,18446744073709551615[1,[]]");
    check(disconnect("/"), "41");
    check(disconnect("/ns"), "41/ns,");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\u{e9}]{0,4}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn any_namespace() -> impl Strategy<Value = String> {
    "/|/[^,?]{1,8}"
}

fn raw(args: &[Value]) -> Vec<String> {
    args.iter().map(Value::to_string).collect()
}

proptest! {
    #[test]
    fn events_round_trip(
        namespace in any_namespace(),
        name in any::<String>(),
        args in prop::collection::vec(any_json(), 0..4),
    ) {
        let raw = raw(&args);
        let text = event(&namespace, &name, &raw.iter().map(String::as_str).collect::<Vec<_>>());
        let want = Packet::Event { namespace, ack: None, name, args: Ok(args), attachments: Vec::new() };
        prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(want)));
    }

    #[test]
    fn acks_round_trip(
        namespace in any_namespace(),
        id in any::<u64>(),
        args in prop::collection::vec(any_json(), 0..4),
    ) {
        let raw = raw(&args);
        let text = ack(&namespace, id, &raw.iter().map(String::as_str).collect::<Vec<_>>());
        let want = Packet::Ack { namespace, id, args, attachments: Vec::new() };
        prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(want)));
    }

    #[test]
    fn connects_and_disconnects_round_trip(
        namespace in any_namespace(),
        sid in any::<String>(),
        pid in any::<Option<String>>(),
    ) {
        let mut auth = Map::from_iter([("sid".to_owned(), Value::from(sid.as_str()))]);
        if let Some(pid) = &pid {
            auth.insert("pid".to_owned(), Value::from(pid.as_str()));
        }
        let text = connect(&namespace, &sid, pid.as_deref());
        let want = Packet::Connect { namespace: namespace.clone(), auth: Some(auth) };
        prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(want)));
        let text = disconnect(&namespace);
        prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(Packet::Disconnect { namespace })));
    }

    #[test]
    fn no_text_panics_and_no_placeholder_dangles(
        text in prop_oneof![
            any::<String>(),
            r#"[0-6]([0-9]{0,2}-)?(/[a-z?]{0,3},?)?[0-9]{0,22}[\[\]{}":,a0-9 ]{0,12}"#,
            r#"[56][0-3]-[0-9]?\["a",\{"_placeholder":true,"num":-?[0-9]\}\]"#,
        ],
        bytes in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut assembler = Assembler::default();
        let mut last = assembler.text(&text);
        for _ in 0..ATTACHMENTS_MAX {
            if last == Ok(None) {
                last = assembler.binary(bytes.clone());
            }
        }
        prop_assert_ne!(&last, &Ok(None));
        if let Ok(Some(Packet::Event { args: Ok(args), attachments, .. } | Packet::Ack { args, attachments, .. })) = last {
            for index in args.iter().filter_map(placeholder) {
                prop_assert!(index < attachments.len());
            }
        }
    }
}
