//! Slow clients, gone clients, polls and upgrades, over real sockets.

use super::super::room::Crowd;
use super::*;
use crossbeam_channel::unbounded;
use std::io::Read;
use std::net::TcpListener;

struct Pair {
    outbox: Arc<Outbox>,
    client: TcpStream,
    threads: Threads,
}

fn pair(bytes_max: usize) -> Pair {
    pair_in(&Arc::default(), bytes_max)
}

fn pair_in(room: &Arc<Room>, bytes_max: usize) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    server.set_write_timeout(Some(STALL_TIMEOUT)).expect("set");
    let (writers, asking) = unbounded();
    let threads = Threads::default();
    let of_writers = threads.clone();
    threads.spawn("writers".into(), move || run_writers(&asking, &of_writers)).expect("a thread");
    let helpers = Helpers { writers, gone: unbounded().0, room: room.clone() };
    Pair { outbox: Outbox::new(0, Some(Arc::new(server)), bytes_max, helpers), client, threads }
}

#[test]
fn nothing_is_lost_or_reordered_when_the_client_is_slow() {
    let Pair { outbox, mut client, threads } = pair(usize::MAX);
    let mut expected = Vec::new();
    for number in 0..200_000_u32 {
        let mut frames = Frames::packet(&format!("message {number} {}", "x".repeat(100)));
        if number % 7 == 0 {
            frames.push(&["another in the same push"]);
        }
        expected.extend_from_slice(frames.bytes());
        assert!(outbox.push(&Arc::new(frames)));
    }
    assert!(outbox.state.lock().draining, "the kernel's buffers do not hold all of it");
    outbox.close(CloseCode::GoingAway);
    expected.extend(CloseCode::GoingAway.frame());
    assert!(!outbox.push(&Arc::new(Frames::packet("too late"))));
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("reads to the end");
    assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
    drop(outbox);
    assert!(threads.wait_all(Instant::now() + Duration::from_secs(30)), "the writer has ended");
}

#[test]
fn a_client_that_does_not_read_is_sent_away_with_whole_frames() {
    let Pair { outbox, mut client, .. } = pair(1 << 20);
    let frames = Arc::new(Frames::packet(&"y".repeat(10_000)));
    let mut read = Vec::new();
    // Until the writer thread is in a system call for several at once, which it gets behind on.
    while outbox.state.lock().in_flight < 2 {
        if outbox.state.lock().queue.bytes() < 1 << 19 {
            assert!(outbox.push(&frames));
        } else {
            let mut some = [0; 4096];
            let count = client.read(&mut some).expect("reads");
            read.extend_from_slice(&some[..count]);
        }
    }
    let mut pushed = 0;
    while outbox.push(&frames) {
        pushed += 1;
        assert!(pushed < 100_000, "the limit holds");
    }
    let in_flight_max = WRITE_PIECES_MAX * frames.bytes().len();
    assert!(outbox.state.lock().queue.bytes() <= in_flight_max + 10, "the rest of its memory is free");
    client.read_to_end(&mut read).expect("reads to the end");
    let close = CloseCode::TryAgainLater.frame();
    let (body, last) = read.split_at(read.len() - close.len());
    assert_eq!(last, close);
    assert!(body.chunks(frames.bytes().len()).all(|chunk| chunk == frames.bytes()), "no frame is cut");
}

/// Takes so much at once that a message more or less does not count.
const MESSAGE_BYTES: usize = 64 << 10;

#[test]
fn a_client_that_reads_more_slowly_than_another_is_not_sent_away() {
    const MESSAGES: usize = 1000;
    let room = Arc::default();
    let (fast, slow) = (pair_in(&room, 4 << 20), pair_in(&room, 4 << 20));
    let frames = Arc::new(Frames::packet(&"z".repeat(MESSAGE_BYTES)));
    let reading =
        [(fast.client, Duration::ZERO), (slow.client, Duration::from_millis(1))].map(|(mut client, pause)| {
            std::thread::spawn(move || {
                let (mut buffer, mut all) = (vec![0; MESSAGE_BYTES], 0);
                while let Ok(count @ 1..) = client.read(&mut buffer) {
                    all += count;
                    // This is the line's slowness.
                    std::thread::sleep(pause);
                }
                all
            })
        });
    let outboxes = [fast.outbox, slow.outbox];
    for _ in 0..MESSAGES {
        room.wait(|| Crowd::of(outboxes.iter().map(|outbox| outbox.backlog())));
        outboxes.iter().for_each(|outbox| assert!(outbox.push(&frames), "it reads"));
    }
    outboxes.iter().for_each(|outbox| outbox.close(CloseCode::GoingAway));
    let expected = MESSAGES * frames.bytes().len() + CloseCode::GoingAway.frame().len();
    assert_eq!(reading.map(|reader| reader.join().expect("ends")), [expected; 2]);
}

#[test]
fn one_that_does_not_read_is_waited_for_once() {
    let room = Arc::default();
    let Pair { outbox, client: _client, .. } = pair_in(&room, 4 << 20);
    let frames = Arc::new(Frames::packet(&"z".repeat(MESSAGE_BYTES)));
    let others = [Backlog::Little, outbox.backlog()];
    assert_eq!(Crowd::of(others), Crowd::Nobody);
    let until = loop {
        assert!(outbox.push(&frames), "it is not near its limit yet");
        match Crowd::of([Backlog::Little, outbox.backlog()]) {
            Crowd::Until(until) => break until,
            crowd => assert_eq!(crowd, Crowd::Nobody),
        }
    };
    assert!(outbox.state.lock().queue.bytes() >= 2 << 20);
    assert_eq!(Crowd::of([Backlog::Much, outbox.backlog()]), Crowd::Some, "as long as it takes, where all are behind");
    room.wait(|| Crowd::of([Backlog::Little, outbox.backlog()]));
    assert!(Instant::now() >= until);
    while outbox.push(&frames) {
        assert_eq!(Crowd::of([Backlog::Little, outbox.backlog()]), Crowd::Nobody, "that was its chance");
    }
    assert_eq!(outbox.backlog(), Backlog::Gone, "nobody waits for one who was sent away");
}

fn polling() -> (Arc<Outbox>, Receiver<u64>) {
    let (gone, told) = unbounded();
    (Outbox::new(7, None, 1000, Helpers { writers: unbounded().0, gone, room: Arc::default() }), told)
}

fn packet(text: &str) -> Arc<Frames> {
    Arc::new(Frames::packet(text))
}

#[test]
fn a_poll_takes_what_fits_and_waits_where_there_is_nothing() {
    let (outbox, _told) = polling();
    let mut two = Frames::packet("4a");
    two.push(&["4b"]);
    two.push_binary(b"x");
    outbox.push(&Arc::new(two));
    outbox.push(&packet("4c"));
    assert_eq!(outbox.poll(5), Polled::Payload("4a\x1e4b".into()));
    assert_eq!(outbox.poll(100), Polled::Payload("beA==\x1e4c".into()));
    let waiting = outbox.clone();
    let poll = std::thread::spawn(move || waiting.poll(100));
    while !outbox.state.lock().parked {
        std::thread::yield_now();
    }
    outbox.push(&packet("4d"));
    assert_eq!(poll.join().expect("ends"), Polled::Payload("4d".into()));
    assert_eq!(outbox.state.lock().queue.bytes(), 0);
}

#[test]
fn two_polls_at_once_end_the_connection() {
    let (outbox, told) = polling();
    let waiting = outbox.clone();
    let first = std::thread::spawn(move || waiting.poll(100));
    while !outbox.state.lock().parked {
        std::thread::yield_now();
    }
    assert_eq!(outbox.poll(100), Polled::Refused);
    assert_eq!(first.join().expect("ends"), Polled::Payload("1".into()));
    assert_eq!(told.try_recv(), Ok(7));
}

#[test]
fn a_close_is_the_last_packet_and_a_slow_poller_is_sent_away() {
    let (outbox, told) = polling();
    outbox.push(&packet("4a"));
    outbox.close(CloseCode::GoingAway);
    assert!(!outbox.push(&packet("4b")) && told.is_empty());
    assert_eq!((outbox.poll(100), told.try_recv()), (Polled::Payload("4a\x1e1".into()), Ok(7)));
    let (outbox, _told) = polling();
    while outbox.push(&packet(&"x".repeat(300))) {}
    assert_eq!(outbox.poll(100), Polled::Payload("1".into()));
}

#[test]
fn what_waits_at_an_upgrade_goes_first() {
    let Pair { outbox: with_socket, mut client, .. } = pair(1000);
    let socket = with_socket.state.lock().socket.clone().expect("a socket");
    let (outbox, _told) = polling();
    outbox.push(&packet("4a"));
    assert!(outbox.begin_upgrade() && !outbox.begin_upgrade());
    assert_eq!(outbox.poll(100), Polled::Payload("4a".into()));
    assert_eq!(outbox.poll(100), Polled::Payload("6".into()), "released at once");
    outbox.push(&packet("4b"));
    assert!(outbox.upgrade(&socket));
    outbox.push(&packet("4c"));
    assert_eq!(outbox.poll(100), Polled::Refused);
    let mut read = [0; 8];
    client.read_exact(&mut read).expect("two frames");
    assert_eq!(&read, b"\x81\x024b\x81\x024c");
}

#[test]
fn a_client_that_was_behind_is_not_once_the_upgrade_has_sent_all() {
    let Pair { outbox: with_socket, .. } = pair(1000);
    let socket = with_socket.state.lock().socket.clone().expect("a socket");
    let (outbox, _told) = polling();
    // Near its limit, too.
    outbox.push(&packet(&"x".repeat(600)));
    assert!(matches!(outbox.backlog(), Backlog::NearLimit(_)));
    assert!(outbox.begin_upgrade() && outbox.upgrade(&socket));
    assert_eq!((outbox.backlog(), outbox.state.lock().queue.bytes()), (Backlog::Little, 0));
    outbox.kill();
    assert_eq!(outbox.backlog(), Backlog::Gone);
}

#[cfg(target_os = "linux")]
#[test]
fn whoever_reads_what_comes_before_a_ping_takes_something() {
    const MUCH: usize = 32 << 20;
    let Pair { outbox, mut client, .. } = pair(usize::MAX);
    let eventually = |what: &str, holds: &mut dyn FnMut() -> bool| {
        let end = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    // With nothing before it a ping needs no time.
    outbox.push_ping(&packet("2"));
    assert!(!outbox.takes());
    let large = packet(&"x".repeat(MUCH / 32));
    (0..32).for_each(|_| assert!(outbox.push(&large)));
    outbox.push_ping(&packet("2"));
    let mut since = Instant::now();
    eventually("the client's machine takes no more by itself", &mut || {
        if outbox.takes() {
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(300)
    });
    client.read_exact(&mut vec![0; MUCH / 2]).expect("half of it");
    eventually("it has read", &mut || outbox.takes());
    let whole = 3 + 32 * large.bytes().len() + 3;
    client.read_exact(&mut vec![0; whole - MUCH / 2]).expect("the rest, and the ping");
    eventually("the ping has arrived", &mut || !outbox.takes());
    // From then on it is the pong that counts.
    outbox.push(&large);
    client.read_exact(&mut vec![0; large.bytes().len()]).expect("more");
    assert!(!outbox.takes());
}

#[test]
fn a_client_that_is_gone_is_noticed() {
    let Pair { outbox, client, .. } = pair(usize::MAX);
    drop(client);
    let deadline = Instant::now() + Duration::from_secs(30);
    while outbox.push(&Arc::new(Frames::packet("x"))) {
        assert!(Instant::now() < deadline, "noticed");
    }
}

#[test]
fn what_is_held_leaves_together_and_in_its_place() {
    let Pair { outbox, mut client, .. } = pair(1 << 20);
    let push = |text: &str| assert!(outbox.push(&Arc::new(Frames::packet(text))));
    push("before");
    let held = outbox.hold();
    push("held");
    push("held too");
    let waiting = outbox.state.lock().queue.bytes();
    assert_eq!(waiting, Frames::packet("held").bytes().len() + Frames::packet("held too").bytes().len());
    drop(held);
    assert_eq!(outbox.state.lock().queue.bytes(), 0, "the kernel has it");
    push("after");
    // Closing does not wait for whoever holds it.
    let held = outbox.hold();
    push("last");
    outbox.close(CloseCode::GoingAway);
    drop(held);
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("reads to the end");
    let texts = ["before", "held", "held too", "after", "last"];
    let mut expected: Vec<u8> = texts.iter().flat_map(|text| Frames::packet(text).bytes().to_vec()).collect();
    expected.extend(CloseCode::GoingAway.frame());
    assert_eq!(read, expected);
}

#[test]
fn what_is_held_for_a_slow_client_goes_to_the_writer_thread() {
    let Pair { outbox, mut client, threads } = pair(usize::MAX);
    let big = Frames::packet(&"x".repeat(8 << 20));
    let held = outbox.hold();
    let mut expected = Vec::new();
    for frames in [Frames::packet("first"), big, Frames::packet("last")] {
        expected.extend_from_slice(frames.bytes());
        assert!(outbox.push(&Arc::new(frames)));
    }
    drop(held);
    assert!(outbox.state.lock().draining, "the kernel's buffers do not hold all of it");
    assert!(outbox.push(&Arc::new(Frames::packet("behind it"))));
    expected.extend_from_slice(Frames::packet("behind it").bytes());
    outbox.close(CloseCode::GoingAway);
    expected.extend(CloseCode::GoingAway.frame());
    let mut read = Vec::new();
    client.read_to_end(&mut read).expect("reads to the end");
    assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
    drop(outbox);
    assert!(threads.wait_all(Instant::now() + Duration::from_secs(30)), "the writer has ended");
}

#[test]
fn a_parked_poll_gets_all_that_was_held() {
    let (writers, _asking) = unbounded();
    let helpers = Helpers { writers, gone: unbounded().0, room: Arc::default() };
    let outbox = Outbox::new(0, None, 1 << 20, helpers);
    let polling = outbox.clone();
    let poll = std::thread::spawn(move || polling.poll(1 << 20));
    while !outbox.state.lock().parked {
        std::thread::yield_now();
    }
    let held = outbox.hold();
    for text in ["40{}", "42[\"hello\"]"] {
        assert!(outbox.push(&Arc::new(Frames::packet(text))));
    }
    drop(held);
    assert_eq!(poll.join().expect("answered"), Polled::Payload("40{}\u{1e}42[\"hello\"]".into()));
}
