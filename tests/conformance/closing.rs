//! How clients go.

use crate::support::{DEADLINE, processes};
use crate::wire::{Echo, Frame, Link, Poller, TRANSPORTS, Ws, case, frame, text};

#[test]
fn the_client_closes() {
    for echo in [Echo::socketio(), Echo::engineio()] {
        case("websocket, by a packet", || {
            let (mut ws, _) = Ws::open(&echo);
            ws.send_text("1");
            ws.closed(None);
        });
        case("websocket, by an empty close frame", || {
            let (mut ws, _) = Ws::open(&echo);
            ws.send_bytes(&frame(0x88, b""));
            assert_eq!((ws.next(), ws.next()), (Frame::Close(None), Frame::End));
        });
        case("websocket, by a close frame with a code", || {
            let (mut ws, _) = Ws::open(&echo);
            ws.send_bytes(&frame(0x88, &[0x03, 0xe8]));
            assert_eq!((ws.next(), ws.next()), (Frame::Close(Some(1000)), Frame::End));
        });
        case("websocket, the sid is unknown then", || {
            let (mut ws, open) = Ws::open(&echo);
            ws.send_text("1");
            ws.closed(None);
            let query = format!("EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("a sid"));
            // The socket's end may be seen before its thread has crossed it out.
            processes::eventually("crossed out", DEADLINE, || {
                echo.get(&query).text() == r#"{"code":1,"message":"Session ID unknown"}"#
            });
        });
        case("polling, packets behind the close do not count", || {
            let poller = Poller::open(&echo);
            assert_eq!(poller.post(b"1\x1e4x").text(), "ok");
            assert_eq!(poller.get().text(), "6");
            poller.gone();
        });
    }
}

#[test]
fn a_namespace_is_left() {
    let echo = Echo::socketio();
    for transport in TRANSPORTS {
        case("by the client: the other one goes on, and it may come back", || {
            let mut link = Link::connect(&echo, transport);
            let first = link.join("/custom");
            link.send(&[text("41/custom,"), text("42[\"message\",1]")]);
            link.expect(&[text("42[\"message-back\",1]")]);
            assert_ne!(link.join("/custom"), first);
        });
        case("by the client, without the comma", || {
            let mut link = Link::connect(&echo, transport);
            let first = link.join("/custom");
            link.send(&[text("41/custom"), text("42[\"message\",1]")]);
            link.expect(&[text("42[\"message-back\",1]")]);
            assert_ne!(link.join("/custom"), first);
        });
        case("by the client: the only one, and the connection stays", || {
            let mut link = Link::connect(&echo, transport);
            link.send(&[text("41")]);
            link.join("/");
        });
        case("by the server", || {
            let mut link = Link::connect(&echo, transport);
            link.join("/custom");
            link.send(&[text("42[\"leave\"]")]);
            link.expect(&[text("41")]);
            link.send(&[text("42/custom,[\"message\",1]")]);
            link.expect(&[text("42/custom,[\"message-back\",1]")]);
            link.send(&[text("42/custom,[\"leave\"]")]);
            link.expect(&[text("41/custom,")]);
            link.join("/");
        });
        case("an event afterwards ends the connection", || {
            let mut link = Link::connect(&echo, transport);
            link.send(&[text("42[\"leave\"]")]);
            link.expect(&[text("41")]);
            link.refused(&[text("42[\"message\"]")]);
        });
    }
}
