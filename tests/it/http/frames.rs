//! WebSocket frames, written by hand: what is right behind the handshake, and what breaks the protocol.

use std::io::{BufReader, ErrorKind, Read, Write};

use serde_json::json;

use super::{connect, server};
use crate::support::{client::read_answer, server::Server};

/// A sound opening handshake.
pub fn handshake() -> Vec<u8> {
    let head = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    head.as_bytes().to_vec()
}

/// A masked frame of a client with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).expect("short")),
        middle @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(middle).expect("middle").to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

const TEXT: u8 = 0x81;

fn text(packet: &str) -> Vec<u8> {
    frame(TEXT, packet.as_bytes())
}

/// The first byte and the payload of the next frame of the server; none at the end.
fn read_frame(reader: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    match reader.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => return None,
        Err(error) => panic!("no frame: {error}"),
    }
    let mut long = [0; 8];
    let length = match head[1] {
        126 => {
            reader.read_exact(&mut long[6..]).expect("a length");
            u64::from_be_bytes(long)
        }
        127 => {
            reader.read_exact(&mut long).expect("a length");
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length).expect("a length")];
    reader.read_exact(&mut payload).expect("a payload");
    Some((head[0], payload))
}

/// The next frame, which must be text.
pub fn read_text(reader: &mut impl Read) -> String {
    let (first, payload) = read_frame(reader).expect("a frame");
    assert_eq!(first, TEXT);
    String::from_utf8(payload).expect("UTF-8")
}

/// The payload of the close frame, when everything before it is read, and the server's end after it.
fn read_close(reader: &mut impl Read) -> Vec<u8> {
    loop {
        match read_frame(reader).expect("a close frame before the end") {
            (0x88, payload) => {
                assert_eq!(read_frame(reader), None, "nothing follows a close frame");
                return payload;
            }
            (0x81 | 0x82 | 0x8a, _) => {}
            (other, _) => panic!("an unknown frame {other:#x}"),
        }
    }
}

/// Opens a WebSocket, connects to the main namespace, sends these bytes and gives the payload of the server's close frame.
fn close_after(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    let connect = text(&format!("40{}", json!({"token": server.token()})));
    stream.write_all(&[handshake(), connect].concat()).expect("written");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    assert_eq!(read_answer(&mut reader).expect("an answer").status, 101);
    while !read_text(&mut reader).starts_with("42[\"sessionRegistered\"") {}
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    read_close(&mut reader)
}

#[test]
fn what_comes_right_behind_the_handshake_is_read_as_frames() {
    let server = server();
    let all = [
        handshake(),
        text(&format!("40{}", json!({"token": server.token()}))),
        text("420[\"listSessions\",{}]"),
        text("421[\"listSessions\"]"),
    ]
    .concat();
    // In one piece, and cut in the head, behind it, and in the first frame.
    let cuts = [all.len(), 20, handshake().len(), handshake().len() + 1, handshake().len() + 9];
    for cut in cuts {
        let mut stream = connect(&server);
        stream.write_all(&all[..cut]).expect("written");
        stream.write_all(&all[cut..]).expect("written");
        let mut reader = BufReader::new(stream);
        assert_eq!(read_answer(&mut reader).expect("an answer").status, 101);
        let frames: Vec<String> = (0..5).map(|_| read_text(&mut reader)).collect();
        let shown: Vec<&str> = frames.iter().map(|frame| &frame[..frame.find(['{', ',']).expect("data")]).collect();
        assert_eq!(shown, ["0", "40", "42[\"sessionRegistered\"", "430[", "431["], "cut at {cut}");
    }
}

#[test]
#[rustfmt::skip] // a table is read by its lines
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let server = server();
    let mut unmasked = vec![TEXT, 1];
    unmasked.push(b'3');
    let declared = |length: u64| [&[TEXT, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat();
    let big = "x".repeat(1_000_001);
    let half = "x".repeat(600_000);
    let in_pieces = [frame(0x01, half.as_bytes()), frame(0x80, half.as_bytes())].concat();
    for (what, bytes, code) in [
        ("unmasked", unmasked, 1002),
        ("RSV1", frame(0xc1, b"3"), 1002),
        ("RSV2", frame(0xa1, b"3"), 1002),
        ("RSV3", frame(0x91, b"3"), 1002),
        ("reserved opcode 3", frame(0x83, b"3"), 1002),
        ("reserved control opcode 11", frame(0x8b, b"3"), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a long ping", frame(0x89, &[b'x'; 126]), 1002),
        ("a fragmented close", frame(0x08, b""), 1002),
        ("a stray continuation", frame(0x80, b"3"), 1002),
        ("a message within a message", [frame(0x01, b"3"), text("3")].concat(), 1002),
        ("a close of one byte", frame(0x88, &[3]), 1002),
        ("close code 999", frame(0x88, &999_u16.to_be_bytes()), 1002),
        ("close code 1005", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("close code 1006", frame(0x88, &1006_u16.to_be_bytes()), 1002),
        ("not UTF-8", frame(TEXT, b"3\xff\xfe"), 1007),
        ("half a character", frame(TEXT, "3é".as_bytes().split_last().expect("bytes").1), 1007),
        ("UTF-8 broken over two frames", [frame(0x01, b"3\xc3"), frame(0x80, b"\x28")].concat(), 1007),
        ("a surrogate", frame(TEXT, b"3\xed\xa0\x80"), 1007),
        ("a message over the limit", text(&big), 1009),
        ("the same in two frames", in_pieces, 1009),
        ("a declared length of 2^62", declared(1 << 62), 1009),
        ("a declared length of 2^63 - 1", declared(u64::MAX >> 1), 1009),
    ] {
        let payload = close_after(&server, &bytes);
        let got = payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        assert_eq!(got, Some(code), "{what}: {payload:?}");
    }
}

#[test]
fn a_close_is_answered_and_a_ping_too() {
    let server = server();
    let bye = [&1000_u16.to_be_bytes()[..], b"bye"].concat();
    for (sent, expected) in [
        (frame(0x88, b""), vec![]),
        (frame(0x88, &1000_u16.to_be_bytes()), 1000_u16.to_be_bytes().to_vec()),
        (frame(0x88, &1001_u16.to_be_bytes()), 1001_u16.to_be_bytes().to_vec()),
        (frame(0x88, &4000_u16.to_be_bytes()), 4000_u16.to_be_bytes().to_vec()),
        (frame(0x88, &bye), bye.clone()),
    ] {
        assert_eq!(close_after(&server, &sent), expected);
    }
    let mut stream = connect(&server);
    stream.write_all(&[handshake(), frame(0x89, b"are you there")].concat()).expect("written");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    assert_eq!(read_answer(&mut reader).expect("an answer").status, 101);
    read_text(&mut reader);
    // A pong goes out with the next thing that is read.
    stream.write_all(&text("3")).expect("written");
    assert_eq!(read_frame(&mut reader), Some((0x8a, b"are you there".to_vec())));
}

#[test]
fn a_message_may_come_in_many_frames() {
    let server = server();
    let mut stream = connect(&server);
    let packet = format!("40{}", json!({"token": server.token()}));
    let mut bytes = handshake();
    let (last, front) = packet.as_bytes().split_last().expect("bytes");
    bytes.extend(frame(0x01, b""));
    for byte in front {
        bytes.extend(frame(0x00, &[*byte]));
        bytes.extend(frame(0x8a, b"an unasked pong"));
    }
    bytes.extend(frame(0x80, &[*last]));
    stream.write_all(&bytes).expect("written");
    let mut reader = BufReader::new(stream);
    assert_eq!(read_answer(&mut reader).expect("an answer").status, 101);
    assert!(read_text(&mut reader).starts_with("0{"));
    assert!(read_text(&mut reader).starts_with("40{\"sid\""));
}
