//! Subscribers that never read: they cost a bounded share of memory, are closed, and those who read
//! do not notice.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::http::{HttpClient, request};
use support::listener::subscribers;
use support::server::Setup;
use support::{PATIENCE, eventually, rounds};

const SUBSCRIBERS: usize = 400;
const STALLED: usize = 300;
const MESSAGE_BYTES: usize = 4096;

/// What the server may have more than with nobody stalled, in bytes: 300 times 256 KiB.
const RSS_BYTES_MAX: u64 = 75 << 20;

/// How long a stalled one may stay, once there is as much for it as the server keeps.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

fn subscribe(public: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(public).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let target = "/v1/events?channel=busy";
    stream.write_all(request("GET", target, "").as_bytes()).expect("it reads");
    stream
}

/// Reads until message `last` and returns the offsets of all.
fn read_all(stream: TcpStream, last: usize) -> Vec<usize> {
    let mut offsets = Vec::with_capacity(last);
    for line in BufReader::with_capacity(64 * 1024, stream).lines() {
        let line = line.expect("it goes on in time");
        let Some(data) = line.strip_prefix("data: {\"type\":\"message\"") else { continue };
        let (_, rest) = data.split_once("\"offset\":").expect("a message has its offset");
        let (offset, _) = rest.split_once(',').expect("and its data");
        offsets.push(offset.parse().expect("a number"));
        if offsets.last() == Some(&last) {
            return offsets;
        }
    }
    panic!("the stream of one who reads has ended after {} messages", offsets.len());
}

#[test]
fn who_never_reads_is_closed_and_the_others_have_everything() {
    // At 100 a second fifteen seconds' worth, as fast as a small machine does it.
    let messages = rounds("ESERVER_STALLED_MESSAGES", 1_500);
    let mut server = Setup::new().start();
    let public = server.public_address();
    let mut admin = HttpClient::connect(server.admin_address());
    assert_eq!(subscribers(&mut admin, "busy"), 0);
    let descriptors = server.descriptors();
    let stalled: Vec<TcpStream> = (0..STALLED).map(|_| subscribe(public)).collect();
    let reading: Vec<TcpStream> = (STALLED..SUBSCRIBERS).map(|_| subscribe(public)).collect();
    eventually("all listen", || {
        (subscribers(&mut admin, "busy") == SUBSCRIBERS as u64).then_some(())
    });
    let base = server.resident_bytes();
    server.forget_peak();
    let closed = thread::scope(|scope| {
        let readers: Vec<_> = reading
            .into_iter()
            .map(|stream| scope.spawn(move || read_all(stream, messages)))
            .collect();
        let body = "x".repeat(MESSAGE_BYTES);
        let field = format!("Content-Length: {MESSAGE_BYTES}\r\n");
        let publication = request("POST", "/v1/channels/busy/messages", &field) + &body;
        for _ in 0..messages {
            admin.send(&publication).expect("it reads");
            assert_eq!(admin.answer("POST").status, 200);
            thread::sleep(Duration::from_millis(2));
        }
        let start = Instant::now();
        let all: Vec<usize> = (1..=messages).collect();
        for reader in readers {
            assert!(reader.join().expect("a reader") == all, "each once and in order");
        }
        // Those who read have gone by themselves; the others are to have been closed.
        eventually("nobody is left", || (subscribers(&mut admin, "busy") == 0).then_some(()));
        eventually("no connection is", || (server.descriptors() <= descriptors).then_some(()));
        start.elapsed()
    });
    let more = server.peak_bytes().saturating_sub(base);
    println!(
        "{STALLED} stalled took {} KiB at most; the last was closed {closed:?} after",
        more >> 10
    );
    assert!(more <= RSS_BYTES_MAX, "{more} bytes more");
    assert!(closed <= CLOSED_WITHIN, "the last was closed after {closed:?}");
    // What had been sent is there; then comes the end, which the last it was told did not reach.
    let mut rest = Vec::new();
    for mut stream in stalled {
        rest.clear();
        stream.read_to_end(&mut rest).ok();
        assert!(rest.starts_with(b"HTTP/1.1 200 "), "it had been let in");
    }
    server.stop();
}
