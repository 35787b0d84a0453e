//! Engine.IO, protocol version 4: the layer that opens a connection, keeps it alive and carries messages as text.
//!
//! A packet is one type digit and its payload; binary messages bypass this format (a WebSocket binary frame, or `b` and
//! base64 in polling) and never reach [`decode`]. Where the specification is silent the reference server decides: the
//! first ping comes one interval after opening, and each deadline is exact.

mod payload;

use std::fmt;
use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;

pub use self::payload::{
    PAYLOAD_PACKETS_MAX, PAYLOAD_PACKETS_SENT_MAX, Part, PayloadBuilder, PayloadError, SEPARATOR, decode_payload,
};

/// The server's ping. In version 4 only the server pings.
pub const PING: &str = "2";
/// The client's answer, which may be followed by the ping's payload.
pub const PONG: &str = "3";
/// Ends the session, in either direction.
pub const CLOSE: &str = "1";
/// Releases a parked poll without saying anything.
pub const NOOP: &str = "6";

/// One text packet; payloads are borrowed and not interpreted.
///
/// Whether a type is legal at this moment, for this sender, is the session's business: a client's `Ping` without the
/// payload `probe`, say, closes the connection, and its `Open`, `Pong` and `Noop` are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0` and the handshake as JSON.
    Open(&'a str),
    /// `1`. Anything behind it is ignored, as by the reference server.
    Close,
    /// `2` and an optional payload (`probe` during an upgrade).
    Ping(&'a str),
    /// `3` and the payload of the ping it answers.
    Pong(&'a str),
    /// `4` and the message: a Socket.IO packet.
    Message(&'a str),
    /// `5`: the client has finished changing its transport. Anything behind it is ignored.
    Upgrade,
    /// `6`. Anything behind it is ignored.
    Noop,
}

/// Why a text is no packet. Either way the connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// There is not even a type digit.
    Empty,
    /// The first character is not one of `0` to `6`.
    UnknownType,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::Empty => "empty packet",
            DecodeError::UnknownType => "unknown packet type",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Reads one packet: a WebSocket text frame, or one piece of a polling payload.
///
/// # Errors
///
/// [`DecodeError`] if the text does not begin with a known type digit.
pub fn decode(text: &str) -> Result<Packet<'_>, DecodeError> {
    let kind = text.chars().next().ok_or(DecodeError::Empty)?;
    let payload = &text[kind.len_utf8()..];
    match kind {
        '0' => Ok(Packet::Open(payload)),
        '1' => Ok(Packet::Close),
        '2' => Ok(Packet::Ping(payload)),
        '3' => Ok(Packet::Pong(payload)),
        '4' => Ok(Packet::Message(payload)),
        '5' => Ok(Packet::Upgrade),
        '6' => Ok(Packet::Noop),
        _ => Err(DecodeError::UnknownType),
    }
}

/// The handshake, the first packet of a session: `0` and an object with exactly these five fields in this order.
///
/// Durations are written in whole milliseconds, rounded down; `max_payload` is in bytes. `upgrades` is `["websocket"]`
/// on polling and empty on WebSocket.
pub fn open_packet(
    sid: &str,
    upgrades: &[&str],
    ping_interval: Duration,
    ping_timeout: Duration,
    max_payload: usize,
) -> String {
    format!(
        r#"0{{"sid":{},"upgrades":{},"pingInterval":{},"pingTimeout":{},"maxPayload":{max_payload}}}"#,
        Value::from(sid),
        Value::from(upgrades),
        ping_interval.as_millis(),
        ping_timeout.as_millis(),
    )
}

/// Why an HTTP request to the Engine.IO path is refused: codes and messages of the reference server, on which clients
/// rely. Declared in the order of the codes, which is not the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// `transport` is neither `polling` nor `websocket`.
    TransportUnknown,
    /// No session has this `sid`.
    SidUnknown,
    /// A handshake that is not a GET.
    BadHandshakeMethod,
    /// The request does not fit its session: a wrong transport, an upgrade without its header, a malformed body.
    BadRequest,
    /// Not allowed: a foreign origin, say.
    Forbidden,
    /// `EIO` is not 4.
    UnsupportedVersion,
}

impl Refusal {
    /// The number clients compare, 0 to 5.
    pub fn code(self) -> u8 {
        match self {
            Refusal::TransportUnknown => 0,
            Refusal::SidUnknown => 1,
            Refusal::BadHandshakeMethod => 2,
            Refusal::BadRequest => 3,
            Refusal::Forbidden => 4,
            Refusal::UnsupportedVersion => 5,
        }
    }

    /// The text that belongs to the code; also the whole body when a WebSocket upgrade is refused.
    pub fn message(self) -> &'static str {
        match self {
            Refusal::TransportUnknown => "Transport unknown",
            Refusal::SidUnknown => "Session ID unknown",
            Refusal::BadHandshakeMethod => "Bad handshake method",
            Refusal::BadRequest => "Bad request",
            Refusal::Forbidden => "Forbidden",
            Refusal::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The HTTP status of the answer: 403 for [`Refusal::Forbidden`], otherwise 400.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Forbidden => 403,
            _ => 400,
        }
    }

    /// The body of the answer: `{"code":0,"message":"Transport unknown"}`.
    pub fn json(self) -> String {
        format!(r#"{{"code":{},"message":"{}"}}"#, self.code(), self.message())
    }
}

/// A session id: 20 characters of `[A-Za-z0-9_-]`, the length the reference server uses.
///
/// Whoever knows it can read and write the session, so `random` must come from the system's generator.
pub fn sid(random: [u8; 15]) -> String {
    BASE64URL_NOPAD.encode(&random)
}

/// A ping that is this late, and late by no more than a tenth of the timeout, was in time: deadlines do not drift.
pub const LATENESS_MAX: Duration = Duration::from_millis(20);

/// What is to be done when a deadline was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing is due yet.
    Wait,
    /// Send [`PING`] now; its timeout is already running.
    Ping,
    /// The client did not answer in time: drop the session. Final, every later look says the same.
    Dead,
}

/// Decides when to ping and when to give up, for one session on any transport.
///
/// ```text
///            deadline: Ping
///   Resting ───────────────► Awaiting ── deadline: Dead
///      ▲    ◄───────────────
///   interval     pong
/// ```
///
/// A silent client is gone `interval + timeout` after opening. So the timeout runs from when the ping was due, as long as
/// it was only a little late ([`LATENESS_MAX`]), and otherwise from when it was asked for: a server that was away must not
/// shorten the client's time.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    deadline: Instant,
    /// Whether `deadline` ends the wait for a pong; otherwise the next ping is due then.
    awaiting_pong: bool,
}

impl Heartbeat {
    /// Starts at the opening of the session: the first ping is due at `now + interval`.
    ///
    /// # Panics
    ///
    /// Here and later, if the clock cannot represent the deadline, as with `Duration::MAX`.
    pub fn new(now: Instant, interval: Duration, timeout: Duration) -> Heartbeat {
        Heartbeat { interval, timeout, deadline: now + interval, awaiting_pong: false }
    }

    /// Says what is due at `now`; early calls are harmless, a deadline counts from its very instant.
    pub fn on_deadline(&mut self, now: Instant) -> Beat {
        if now < self.deadline {
            Beat::Wait
        } else if self.awaiting_pong {
            Beat::Dead
        } else {
            self.awaiting_pong = true;
            let in_time = now - self.deadline <= LATENESS_MAX.min(self.timeout / 10);
            self.deadline = if in_time { self.deadline } else { now } + self.timeout;
            Beat::Ping
        }
    }

    /// Takes a pong; the next ping is due `interval` after it.
    ///
    /// One that nobody asked for is ignored. So is one at or after the deadline: whether a client is dead must not
    /// depend on which of two late calls comes first.
    pub fn on_pong(&mut self, now: Instant) {
        if self.awaiting_pong && now < self.deadline {
            self.awaiting_pong = false;
            self.deadline = now + self.interval;
        }
    }

    /// Whether the client is dead at `now`, even if nobody has looked at the deadline yet.
    pub fn is_lost(&self, now: Instant) -> bool {
        self.awaiting_pong && now >= self.deadline
    }

    /// The pong that is awaited may take its time once more, from `now` on.
    pub fn extend(&mut self, now: Instant) {
        if self.awaiting_pong {
            self.deadline = now + self.timeout;
        }
    }

    /// When [`Heartbeat::on_deadline`] is to be called next.
    pub fn next_deadline(&self) -> Instant {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets() {
        fn check(text: &str, want: Result<Packet<'_>, DecodeError>) {
            assert_eq!(decode(text), want, "{text:?}");
        }
        check("", Err(DecodeError::Empty));
        check("0{}", Ok(Packet::Open("{}")));
        check(CLOSE, Ok(Packet::Close));
        check("1x", Ok(Packet::Close));
        check(PING, Ok(Packet::Ping("")));
        check("2probe", Ok(Packet::Ping("probe")));
        check("3", Ok(Packet::Pong("")));
        check("3probe", Ok(Packet::Pong("probe")));
        check("4", Ok(Packet::Message("")));
        check("42[\"\u{e9}\"]", Ok(Packet::Message("2[\"\u{e9}\"]")));
        check("5", Ok(Packet::Upgrade));
        check(NOOP, Ok(Packet::Noop));
        for text in ["7", "9", "abc", " 4", "\0", "\u{664}", "b4AA", "\u{1e}4"] {
            check(text, Err(DecodeError::UnknownType));
        }
    }

    #[test]
    fn open_packets() {
        fn check(sid: &str, upgrades: &[&str], interval_us: u64, timeout_ms: u64, max: usize, want: &str) {
            let interval = Duration::from_micros(interval_us);
            assert_eq!(open_packet(sid, upgrades, interval, Duration::from_millis(timeout_ms), max), want);
        }
        check(
            "a-_9",
            &["websocket"],
            25_000_000,
            20_000,
            1_000_000,
            r#"0{"sid":"a-_9","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
        );
        check(
            "q\"",
            &[],
            300_900,
            0,
            0,
            r#"0{"sid":"q\"","upgrades":[],"pingInterval":300,"pingTimeout":0,"maxPayload":0}"#,
        );
    }

    #[test]
    fn refusals() {
        fn check(refusal: Refusal, status: u16, code: u8, json: &str) {
            assert_eq!((refusal.status(), refusal.code(), refusal.json().as_str()), (status, code, json));
        }
        check(Refusal::TransportUnknown, 400, 0, r#"{"code":0,"message":"Transport unknown"}"#);
        check(Refusal::SidUnknown, 400, 1, r#"{"code":1,"message":"Session ID unknown"}"#);
        check(Refusal::BadHandshakeMethod, 400, 2, r#"{"code":2,"message":"Bad handshake method"}"#);
        check(Refusal::BadRequest, 400, 3, r#"{"code":3,"message":"Bad request"}"#);
        check(Refusal::Forbidden, 403, 4, r#"{"code":4,"message":"Forbidden"}"#);
        check(Refusal::UnsupportedVersion, 400, 5, r#"{"code":5,"message":"Unsupported protocol version"}"#);
    }

    #[test]
    fn sids() {
        fn check(random: [u8; 15], want: &str) {
            assert_eq!(sid(random), want);
        }
        check([0; 15], "AAAAAAAAAAAAAAAAAAAA");
        check([0xff; 15], "____________________");
        check([0xfb, 0xef, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "----AAAAAAAAAAAAAAAB");
    }

    /// One call on a heartbeat of 300 ms and 200 ms that was opened at 0 ms.
    #[derive(Debug)]
    enum Step {
        Look(u64, Beat),
        Lost(u64, bool),
        Pong(u64),
        Next(u64),
    }

    #[test]
    fn heartbeats() {
        use Beat::{Dead, Ping, Wait};
        use Step::{Look, Lost, Next, Pong};
        fn check(steps: &[Step]) {
            let start = Instant::now();
            let at = |ms: &u64| start + Duration::from_millis(*ms);
            let mut heartbeat = Heartbeat::new(start, Duration::from_millis(300), Duration::from_millis(200));
            for (index, step) in steps.iter().enumerate() {
                match step {
                    Look(ms, want) => assert_eq!(heartbeat.on_deadline(at(ms)), *want, "step {index} of {steps:?}"),
                    Lost(ms, want) => assert_eq!(heartbeat.is_lost(at(ms)), *want, "step {index} of {steps:?}"),
                    Pong(ms) => heartbeat.on_pong(at(ms)),
                    Next(ms) => assert_eq!(heartbeat.next_deadline(), at(ms), "step {index} of {steps:?}"),
                }
            }
        }
        // A silent client.
        check(&[
            Next(300),
            Look(0, Wait),
            Look(299, Wait),
            Look(300, Ping),
            Next(500),
            Look(499, Wait),
            Look(500, Dead),
        ]);
        // Whoever asks before the timer looks gets the truth.
        check(&[Lost(9000, false), Look(300, Ping), Lost(499, false), Lost(500, true), Pong(450), Lost(500, false)]);
        // The interval restarts at the pong, not at the ping.
        check(&[Look(300, Ping), Pong(450), Next(750), Look(749, Wait), Look(750, Ping), Next(950), Look(950, Dead)]);
        // The last moment that counts.
        check(&[Look(300, Ping), Pong(499), Look(500, Wait), Next(799)]);
        // Too late, and no way back.
        check(&[Look(300, Ping), Pong(500), Next(500), Look(500, Dead), Pong(501), Look(502, Dead)]);
        // What is only a little late is not: the whole takes 500 ms.
        check(&[Look(303, Ping), Next(500), Look(504, Dead)]);
        check(&[Look(320, Ping), Next(500)]);
        check(&[Look(321, Ping), Next(521)]);
        // Unasked pongs move nothing.
        check(&[Pong(10), Next(300), Look(300, Ping), Pong(310), Pong(400), Next(610)]);
        // A late look pings first, and the client still has its whole timeout.
        check(&[Look(9000, Ping), Next(9200), Look(9199, Wait), Look(9200, Dead)]);
    }

    proptest! {
        #[test]
        fn a_packet_is_its_digit_and_its_payload(text in any::<String>()) {
            let rebuilt = match decode(&text) {
                Ok(Packet::Open(payload)) => format!("0{payload}"),
                Ok(Packet::Ping(payload)) => format!("2{payload}"),
                Ok(Packet::Pong(payload)) => format!("3{payload}"),
                Ok(Packet::Message(payload)) => format!("4{payload}"),
                Ok(Packet::Close | Packet::Upgrade | Packet::Noop) | Err(_) => text.clone(),
            };
            prop_assert_eq!(rebuilt, text);
        }

        #[test]
        fn a_message_round_trips(payload in any::<String>()) {
            let text = format!("4{payload}");
            prop_assert_eq!(decode(&text), Ok(Packet::Message(&payload)));
        }

        #[test]
        fn a_sid_is_url_safe_and_keeps_every_bit(random in any::<[u8; 15]>()) {
            let text = sid(random);
            prop_assert_eq!(text.len(), 20);
            prop_assert_eq!(BASE64URL_NOPAD.decode(text.as_bytes()), Ok(random.to_vec()));
        }
    }
}
