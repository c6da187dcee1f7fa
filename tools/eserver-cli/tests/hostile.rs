//! Peers that are slow, broken or hostile: each gets a clear answer or a timely close, nothing of
//! theirs is stored, the server does not grow, and nobody else notices.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::client::{Client, frame};
use support::listener::raise_descriptor_limit;
use support::load::drain;
use support::program::find;
use support::server::{Server, Setup};
use support::{PATIENCE, eventually, within};

/// How much a server may grow under any one of these.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// A server that has warmed up, and its size then.
fn measured(setup: Setup) -> (Server, u64) {
    let server = setup.start();
    let mut client = server.client();
    for _ in 0..100 {
        client.put("warm");
        client.pop();
    }
    let resident = server.resident_bytes();
    (server, resident)
}

/// The server still works for others, stored nothing by itself, and has not grown.
fn assert_unharmed(server: &Server, resident_before: u64) {
    let mut client = server.client();
    assert_eq!(client.length(), 0, "nothing was stored");
    client.put("still good");
    assert_eq!(client.pop().as_deref(), Some("still good"));
    let growth = server.resident_bytes().saturating_sub(resident_before);
    assert!(growth <= GROWTH_BYTES_MAX, "grew by {} KiB", growth / 1024);
}

#[test]
fn absurd_lengths_wait_for_their_bytes_and_no_more() {
    let (server, resident) = measured(Setup::new());
    let mut open = Vec::new();
    for command in [0, 8001, 8002, 8015, u16::MAX] {
        for _ in 0..100 {
            let mut client = server.client();
            let [high, low] = u16::to_be_bytes(command);
            client.send_raw(&[high, low, 0xff, 0xff, b'{']).expect("the server reads");
            open.push(client);
        }
    }
    assert_unharmed(&server, resident);
}

#[test]
fn nonsense_as_bytes_is_answered_frame_by_frame() {
    let (server, resident) = measured(Setup::new());
    fastrand::seed(7);
    for _ in 0..200 {
        let mut client = server.client();
        let body: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(300).collect();
        for command in [8001, 8011, 8012, 8013, 8014, 8015] {
            assert!(!client.ask(command, &body).error().is_empty());
        }
    }
    assert_unharmed(&server, resident);
}

#[test]
fn http_on_the_wrong_port_does_no_harm() {
    let (server, resident) = measured(Setup::new());
    for _ in 0..50 {
        let mut client = server.client();
        client.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the server reads");
        client.end_writing();
        // "GE" is a command nobody knows and "T " a length of 21,536 bytes that never come.
        client.assert_closed("there is no frame to answer");
    }
    assert_unharmed(&server, resident);
}

#[test]
fn deep_json_is_refused() {
    let (server, resident) = measured(Setup::new());
    let mut client = server.client();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [200, 10_000] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for body in [
                format!("{{\"sql\":{deep}}}"),
                format!("{{\"queue\":\"sql\",\"items\":[{deep}],\"ids\":[{deep}]}}"),
                deep.clone(),
            ] {
                if body.len() > usize::from(u16::MAX) {
                    continue;
                }
                for command in [8001, 8012] {
                    assert!(!client.ask(command, &body).error().is_empty());
                }
                // A batch may hold any JSON; what matters is that the answer comes.
                client.ask(8002, &body);
                client.ask(8003, &body);
            }
        }
    }
    assert_unharmed(&server, resident);
}

#[test]
fn half_a_frame_and_then_silence_is_closed() {
    let (server, resident) = measured(Setup::new().set("limits.request_head_timeout_s", 1));
    let bytes = frame(8001, r#"{"sql": "never whole"}"#);
    let clients: Vec<_> = (1..bytes.len())
        .map(|cut| {
            let mut client = server.client();
            client.send_raw(&bytes[..cut]).expect("the server reads");
            client
        })
        .collect();
    let start = Instant::now();
    for mut client in clients {
        assert_timed_out(&mut client);
    }
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(20), "closed only after {waited:?}");
    assert_unharmed(&server, resident);
}

/// The server gives up on a request that does not arrive: it may say so, then it closes.
fn assert_timed_out(client: &mut Client) {
    match client.receive() {
        Ok(None) => {}
        Ok(Some(reply)) => {
            assert!(!reply.error().is_empty());
            client.assert_closed("the deadline for a whole request is over");
        }
        Err(error) => panic!("still open: {error}"),
    }
}

#[test]
fn one_byte_a_second_is_closed() {
    let (server, resident) = measured(Setup::new().set("limits.request_head_timeout_s", 2));
    let mut client = server.client();
    let start = Instant::now();
    // A read that waits a second for the close is also what paces the writes.
    client.set_patience(Duration::from_secs(1));
    for byte in frame(8001, r#"{"sql": "a byte a second"}"#) {
        if client.send_raw(&[byte]).is_err() {
            break;
        }
        match client.receive() {
            Ok(None) => break,
            Ok(Some(reply)) => assert!(!reply.error().is_empty(), "nothing is whole: {reply:?}"),
            Err(_) => {} // the second is over; a close in the middle shows in the next write
        }
    }
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(20), "closed only after {waited:?}");
    assert_unharmed(&server, resident);
}

#[test]
fn a_connection_that_says_nothing_ends_with_the_idle_timeout() {
    let server = Setup::new().set("limits.idle_timeout_s", 1).start();
    let mut silent = server.client();
    let mut once = server.client();
    once.put("one request, then nothing");
    silent.assert_closed("idle from the start");
    once.assert_closed("idle after a reply");
}

#[test]
fn resets_at_every_byte_store_only_what_was_whole() {
    let (server, resident) = measured(Setup::new());
    let bytes = frame(8001, r#"{"sql": "reset"}"#);
    for cut in 0..bytes.len() {
        let mut client = server.client();
        client.send_raw(&bytes[..cut]).expect("the server reads");
        SockRef::from(client.stream())
            .set_linger(Some(Duration::ZERO)) // closing then sends a reset
            .expect("an open socket");
    }
    assert_unharmed(&server, resident);

    // Whole frames whose replies nobody takes: each is stored or not, never in part.
    for _ in 0..100 {
        let mut client = server.client();
        client.send_raw(&bytes.repeat(10)).expect("the server reads");
        SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).expect("an open socket");
    }
    server.wait_until_answering();
    assert!(drain(server.address()).iter().all(|message| message == "reset"));
}

#[test]
fn a_reader_that_never_reads_holds_up_nobody() {
    const MESSAGES: usize = 300;
    let (server, resident) = measured(Setup::new().set("limits.outbox_bytes_max", 65_536));
    let mut client = server.client();
    let payload = |number: usize| format!("{number:04}{}", "x".repeat(60_000));
    (0..MESSAGES).for_each(|number| client.put(&payload(number)));

    let mut stalled = server.client();
    SockRef::from(stalled.stream()).set_recv_buffer_size(4_096).expect("an open socket");
    let burst = frame(8002, "").repeat(MESSAGES);
    stalled.send_raw(&burst).expect("a few bytes always fit");
    for _ in 0..1_000 {
        let asked = Instant::now();
        client.length();
        assert!(asked.elapsed() < Duration::from_secs(5), "others wait");
    }
    let growth = server.resident_bytes().saturating_sub(resident);
    assert!(growth <= GROWTH_BYTES_MAX, "grew by {} KiB", growth / 1024);

    drop(stalled);
    // What was not handed out before the reader vanished is whole and in order.
    let left = drain(server.address());
    let first = MESSAGES - left.len();
    let expected: Vec<_> = (first..MESSAGES).map(payload).collect();
    assert!(left == expected, "{} messages are left", left.len());
}

#[test]
fn a_flood_of_questions_without_reading_is_bounded() {
    let (server, resident) = measured(Setup::new().set("limits.outbox_bytes_max", 65_536));
    let flood = server.client();
    let stream = flood.stream().try_clone().expect("a second handle");
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a timeout above zero");
    let burst = frame(9999, "").repeat(10_000);
    // 12 MB of questions, 100 MB of answers: either writing stalls or the server closes.
    let mut stalled_or_closed = false;
    for _ in 0..300 {
        if (&stream).write_all(&burst).is_err() {
            stalled_or_closed = true;
            break;
        }
    }
    assert!(stalled_or_closed, "the server took everything and reads on");
    let growth = server.resident_bytes().saturating_sub(resident);
    assert!(growth <= GROWTH_BYTES_MAX, "grew by {} KiB", growth / 1024);
    flood.set_patience(Duration::from_secs(5));
    let mut answers = [0; 4_096];
    drop(flood.stream().read(&mut answers)); // its side goes on or is over; both are well
    drop(flood);
    assert_unharmed(&server, resident);
}

#[test]
fn ten_thousand_idle_connections_do_not_disturb_the_busy() {
    const IDLE: usize = 10_000;
    const BUSY: usize = 64;
    const REQUESTS: usize = 100;
    raise_descriptor_limit(IDLE as u64 + 1_000);
    let server = Setup::new()
        .set("limits.connections_per_address_max", 20_000)
        .set("limits.connections_max", 20_000)
        .start();
    let address = server.address();
    let mut idle: Vec<_> = (0..IDLE).map(|_| server.client()).collect();

    let busy: Vec<_> = (0..BUSY)
        .map(|client| {
            std::thread::spawn(move || {
                let mut connection = Client::connect(address);
                for number in 0..REQUESTS {
                    connection.put(&format!("{client}/{number}"));
                }
            })
        })
        .collect();
    for client in busy {
        client.join().expect("every put is answered");
    }
    assert_eq!(server.client().length() as usize, BUSY * REQUESTS);
    for client in idle.iter_mut().step_by(100) {
        assert_eq!(client.length() as usize, BUSY * REQUESTS, "the idle are served, too");
    }
}

#[test]
fn one_address_has_its_share_and_others_theirs() {
    const SHARE: usize = 50;
    let server = Setup::new()
        .set("limits.connections_per_address_max", SHARE)
        .set("queue.allow", r#"["127.0.0.0/8"]"#)
        .start();
    let greedy = IpAddr::from([127, 0, 0, 9]);
    let mut held: Vec<_> = (0..SHARE).map(|_| served_from(greedy, server.address())).collect();
    for _ in 0..100 {
        let mut refused = Client::connect_from(greedy, server.address());
        assert!(!refused.reply().error().is_empty(), "a refusal says why");
        refused.assert_closed("the share of this address is used up");
    }
    let mut other = served_from([127, 0, 0, 2].into(), server.address());
    other.put("others are unaffected");
    assert_eq!(held[0].length(), 1, "those within the share are served on");

    drop(held.pop());
    eventually("a place is free again", || {
        let mut client = Client::connect_from(greedy, server.address());
        client.try_ask(8003, "").filter(|reply| reply.command == 8003)
    });
}

/// A connection that the server has surely accepted.
fn served_from(source: IpAddr, address: SocketAddr) -> Client {
    let mut client = Client::connect_from(source, address);
    assert_eq!(client.ask(8003, "").command, 8003);
    client
}

#[test]
fn the_total_of_connections_is_bounded() {
    let server = Setup::new().set("limits.connections_max", 20).start();
    let mut held: Vec<_> =
        (0..15).map(|_| served_from([127, 0, 0, 1].into(), server.address())).collect();
    // The bound may be dealt to the shards, so a few places around it are not promised.
    let refused = (0..40).filter(|_| {
        let mut client = server.client();
        let reply = client.try_ask(8003, "");
        let served = reply.is_some_and(|reply| reply.command == 8003);
        if served {
            held.push(client);
        }
        !served
    });
    assert!(refused.count() >= 35, "20 connections at most");
    assert_eq!(held[0].length(), 0, "those who are in are served on");
}

#[test]
fn without_descriptors_the_old_are_served_and_the_server_rests() {
    let prlimit = find("prlimit", "util-linux");
    let server = Setup::new().under(&[&prlimit.to_string_lossy(), "--nofile=64:64"]).start();
    let mut old = server.client();
    old.put("before");
    let newcomers: Vec<_> =
        (0..200).filter_map(|_| Client::try_connect(server.address()).ok()).collect();
    old.put("served while there are no descriptors");

    // A window to look at, not a wait: a server that spins burns all of it.
    let window = Duration::from_secs(2);
    let (before, lines_before) = (server.processor_time(), server.stderr().lines().count());
    std::thread::sleep(window);
    let burned = server.processor_time() - before;
    let lines = server.stderr().lines().count() - lines_before;
    assert!(burned < window / 10, "{burned:?} of processor time in {window:?}");
    assert!(lines <= 10, "{lines} log lines in {window:?}");

    old.put("still served");
    drop(newcomers);
    server.wait_until_answering();
    assert_eq!(old.length(), 3);
}

#[test]
fn a_storm_of_short_connections_leaves_nothing_behind() {
    let (server, resident) = measured(Setup::new());
    let before = server.descriptors();
    for _ in 0..3_000 {
        let mut client = server.client();
        client.send(8003, "").expect("the server reads");
        assert_eq!(client.reply().command, 8003);
    }
    let back = within(PATIENCE, || (server.descriptors() <= before + 20).then_some(()));
    assert!(back.is_some(), "{} descriptors, {before} before", server.descriptors());
    assert_unharmed(&server, resident);
}
