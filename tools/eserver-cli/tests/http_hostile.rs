//! Peers of HTTP that are slow, broken or hostile: each gets the right answer or a timely end, the
//! server does not grow, and nobody else notices.

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use support::corpus::{self, AFTER_BODY, Case, SMUGGLED_BODY};
use support::eventually;
use support::http::{HttpClient, request};
use support::server::{Server, Setup};

/// How much a server may grow under any one case.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// How much a connection that sends slowly may cost.
const SLOW_BYTES_MAX: u64 = 8 << 10;

/// How much is kept for one that reads slowly: `limits.outbox_bytes_max` by default.
const OUTBOX_BYTES_MAX: u64 = 256 << 10;

#[test]
fn hostile_and_odd_requests_get_what_they_must() {
    let server = corpus::setup().start();
    let address = server.http_address();
    let cases = corpus::cases();
    assert!(cases.len() >= 190, "{} cases", cases.len());
    check_case(address, &cases[0]);
    let resident = server.resident_bytes();
    for case in &cases {
        server.forget_peak();
        check_case(address, case);
        let growth = server.peak_bytes().saturating_sub(resident);
        assert!(growth <= GROWTH_BYTES_MAX, "{}: grew by {} KiB", case.name, growth / 1024);
    }
    assert_eq!(server.http_client().get("/after").text(), AFTER_BODY);
    let said = server.stderr();
    assert!(!said.contains("\"path\":\"/smuggled\""), "one was seen after all:\n{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// Sends a case and reads all that comes.
fn check_case(address: SocketAddr, case: &Case) {
    let name = &case.name;
    let mut client = HttpClient::connect(address);
    // It may be refused before all of it is sent.
    let _ = client.send(&case.input);
    if !case.is_ended {
        client.end_writing();
    }
    let mut receive = |method: &str| {
        let received = client.receive_final(method);
        received.unwrap_or_else(|error| panic!("{name}: no whole answer: {error}"))
    };
    for (method, status) in &case.answers {
        let answer = receive(method).unwrap_or_else(|| panic!("{name}: no answer to {method}"));
        assert_eq!(answer.status, *status, "{name}: {answer:?}");
        assert_ne!(answer.text(), SMUGGLED_BODY, "{name}");
    }
    if let Some(status) = case.refusal {
        let answer = receive("GET").unwrap_or_else(|| panic!("{name}: no refusal"));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(!answer.keep_alive, "{name}: {answer:?}");
        assert!(!answer.body.is_empty(), "{name}: a refusal says why");
    }
    assert_eq!(receive("GET"), None, "{name}: nothing more");
}

/// What a slow connection does whenever it is its turn.
enum Slow {
    /// Sends another byte of a request that has no end.
    Sends,
    /// Takes one byte of a long answer.
    Reads,
}

/// A slow connection, until the server ends it.
struct SlowClient {
    stream: TcpStream,
    slow: Slow,
    received: Vec<u8>,
    ended: bool,
}

impl SlowClient {
    fn start(address: SocketAddr, slow: Slow, first: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        SockRef::from(&stream).set_recv_buffer_size(4_096).expect("an open socket");
        (&stream).write_all(first.as_bytes()).expect("a few bytes always fit");
        stream.set_nonblocking(true).expect("an open socket");
        SlowClient { stream, slow, received: Vec::new(), ended: false }
    }

    /// One byte more.
    fn step(&mut self) {
        if self.ended {
            return;
        }
        let mut chunk = [0; 1_024];
        let (bytes, read) = match self.slow {
            Slow::Sends => (chunk.len(), (&self.stream).write(b"x").map(drop)),
            Slow::Reads => (1, Ok(())),
        };
        let read = read.and_then(|()| (&self.stream).read(&mut chunk[..bytes]));
        match read {
            Ok(0) => self.ended = true,
            Ok(count) if self.received.len() < 1_024 => {
                self.received.extend_from_slice(&chunk[..count]);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
    }

    fn status(&self) -> Option<&str> {
        str::from_utf8(&self.received).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)
    }
}

/// Lets slow connections go on until all are ended, and asks as a healthy client meanwhile; answers
/// with how much memory the server took at most.
fn outlast(
    server: &Server,
    slow: &mut [SlowClient],
    resident: u64,
    is_over: impl Fn(&[SlowClient]) -> bool,
) -> u64 {
    let mut healthy = server.http_client();
    let mut asked = 0;
    eventually("the server ends all slow connections", || {
        slow.iter_mut().for_each(SlowClient::step);
        assert_eq!(healthy.get("/hello").text(), "Hello", "others are served");
        assert_eq!(server.http_client().get("/hello").text(), "Hello", "newcomers, too");
        asked += 1;
        is_over(slow).then_some(())
    });
    assert!(asked >= 10, "they were slow: {asked}");
    server.peak_bytes().saturating_sub(resident)
}

/// A server that is quick to give up on slow ones, and its size once it is warm.
fn impatient(directory: &std::path::Path) -> (Server, u64) {
    std::fs::write(directory.join("large.bin"), vec![b'x'; 64 << 20]).expect("our own directory");
    let text = format!(
        "[limits]\nrequest_head_timeout_s = 3\nrequest_body_timeout_s = 3\nwrite_timeout_s = 3\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[[http.respond]]\npath = \"/hello\"\nbody = \"Hello\"\n\
         [[http.files]]\nroot = {directory:?}\n"
    );
    let server = Setup::new().text(text).start();
    let mut client = server.http_client();
    (0..100).for_each(|_| assert_eq!(client.get("/hello").status, 200));
    let resident = server.resident_bytes();
    server.forget_peak();
    (server, resident)
}

#[test]
fn trickled_heads_and_bodies_are_ended_and_cost_little() {
    const HEADS: usize = 1_000;
    const BODIES: usize = 200;
    raise_descriptor_limit(2_000);
    let directory = tempfile::tempdir().expect("a private directory");
    let (server, resident) = impatient(directory.path());
    let address = server.http_address();
    let length = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let chunked = "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n";
    let heads = (0..HEADS).map(|_| "GET /hello HTTP/1.1\r\nHost: a\r\nX: ");
    let bodies = (0..BODIES).map(|number| if number % 2 == 0 { length } else { chunked });
    let mut slow: Vec<_> =
        heads.chain(bodies).map(|first| SlowClient::start(address, Slow::Sends, first)).collect();
    let are_ended = |slow: &[SlowClient]| slow.iter().all(|client| client.ended);
    let growth = outlast(&server, &mut slow, resident, are_ended);
    let told = slow.iter().filter(|client| client.status() == Some("408")).count();
    assert_eq!(told, HEADS + BODIES, "each is told why");
    let allowed = GROWTH_BYTES_MAX / 4 + (HEADS + BODIES) as u64 * SLOW_BYTES_MAX;
    assert!(growth <= allowed, "grew by {} KiB, allowed are {}", growth / 1024, allowed / 1024);
}

#[test]
fn slow_readers_are_ended_and_cost_a_bounded_amount() {
    const READERS: usize = 100;
    let directory = tempfile::tempdir().expect("a private directory");
    let (server, resident) = impatient(directory.path());
    let first = request("GET", "/large.bin", "");
    let idle = server.descriptors();
    let mut slow: Vec<_> = (0..READERS)
        .map(|_| SlowClient::start(server.http_address(), Slow::Reads, &first))
        .collect();
    // They go on reading what the kernel has for them, so what counts is the server's side. Each has
    // a file there, too.
    let are_ended = |slow: &[SlowClient]| {
        let answered = slow.iter().all(|client| client.status().is_some());
        answered && server.descriptors() <= idle + READERS / 10
    };
    let growth = outlast(&server, &mut slow, resident, are_ended);
    assert!(slow.iter().all(|client| client.status() == Some("200")), "all were answered at first");
    let allowed = GROWTH_BYTES_MAX + READERS as u64 * OUTBOX_BYTES_MAX;
    assert!(growth <= allowed, "grew by {} KiB, allowed are {}", growth / 1024, allowed / 1024);
}

#[test]
fn a_gigabyte_for_nobody_costs_nothing() {
    const UPLOAD_BYTES: usize = 1 << 30;
    let server = corpus::setup().start();
    assert_eq!(server.http_client().get("/after").status, 200);
    let block = vec![b'x'; 1 << 20];
    let resident = server.resident_bytes();
    let length = format!("Content-Length: {UPLOAD_BYTES}\r\n");
    let chunked = "Transfer-Encoding: chunked\r\n".to_owned();
    for (path, fields, status) in [
        ("/none", &length, 404),
        ("/none", &chunked, 404),
        ("/", &length, 413),
        ("/", &chunked, 413),
    ] {
        server.forget_peak();
        let mut client = server.http_client();
        client.send(request("POST", path, fields)).expect("the server reads");
        if fields == &chunked {
            client.send(format!("{UPLOAD_BYTES:x}\r\n")).expect("the server reads");
        }
        client.send(&block).expect("a beginning is taken in");
        let answer = client.answer("POST");
        assert_eq!((answer.status, answer.keep_alive), (status, false), "{answer:?}");
        let taken = (0..UPLOAD_BYTES / block.len()).take_while(|_| client.send(&block).is_ok());
        let taken = taken.count();
        assert!(taken < 256, "{taken} MiB were taken in for nobody");
        let growth = server.peak_bytes().saturating_sub(resident);
        assert!(growth <= GROWTH_BYTES_MAX / 2, "{path} {fields}: grew by {} KiB", growth / 1024);
    }
    assert_eq!(server.http_client().get("/after").text(), AFTER_BODY);
}

#[test]
fn one_that_asks_and_never_reads_is_bounded() {
    let directory = tempfile::tempdir().expect("a private directory");
    let (server, resident) = impatient(directory.path());
    let stream = TcpStream::connect(server.http_address()).expect("the server listens");
    SockRef::from(&stream).set_recv_buffer_size(4_096).expect("an open socket");
    stream.set_nonblocking(true).expect("an open socket");
    let burst = request("GET", "/hello", "").repeat(1_000);
    eventually("it is ended", || match (&stream).write(burst.as_bytes()) {
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(()),
    });
    let growth = server.peak_bytes().saturating_sub(resident);
    assert!(growth <= GROWTH_BYTES_MAX, "grew by {} KiB", growth / 1024);
    assert_eq!(server.http_client().get("/hello").status, 200);
}

/// Lets this process hold `needed` descriptors, or says who could allow it.
fn raise_descriptor_limit(needed: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("our own limit");
    if soft < needed {
        let raised = hard >= needed && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        assert!(raised, "{needed} descriptors are needed: ulimit -Hn {needed}");
    }
}
