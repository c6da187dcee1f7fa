//! The generator against a small server that misbehaves as told: every answer is accounted for.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use eserver_bench::protocol::{FramedBatchPut, FramedPut};
use eserver_bench::{Extent, Outcome, Plan, Protocol, RunError, run};
use eserver_wire::framed;

/// What the server does with request number `n` of a connection, counted from 1.
#[derive(Clone, Copy)]
enum Manner {
    /// Answers each as it should.
    Good,
    /// The same, one byte per write.
    ByteByByte,
    /// Answers every n-th with an error frame.
    ErrorEvery(u64),
    /// Closes the connection instead of the n-th answer.
    CloseAt(u64),
    /// Never answers the n-th or anything after it.
    SilentFrom(u64),
    /// Answers each twice.
    Twice,
}

/// A server on a free port, one thread per connection. Dropped, it closes them all and joins.
struct Server {
    address: SocketAddr,
    /// Requests answered as they should be.
    answered: Arc<AtomicU64>,
    /// Connections accepted.
    accepted: Arc<AtomicU64>,
    is_stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answered = Arc::new(AtomicU64::new(0));
        let accepted = Arc::new(AtomicU64::new(0));
        let is_stopping = Arc::new(AtomicBool::new(false));
        let acceptor = thread::spawn({
            let (answered, accepted) = (Arc::clone(&answered), Arc::clone(&accepted));
            let is_stopping = Arc::clone(&is_stopping);
            move || {
                let streams = Mutex::new(Vec::new());
                thread::scope(|scope| {
                    while let Ok((stream, _)) = listener.accept() {
                        if is_stopping.load(Ordering::SeqCst) {
                            break;
                        }
                        stream.set_nodelay(true).unwrap();
                        accepted.fetch_add(1, Ordering::SeqCst);
                        streams.lock().unwrap().push(stream.try_clone().unwrap());
                        let answered = &answered;
                        scope.spawn(move || serve(stream, manner, answered));
                    }
                    for stream in streams.lock().unwrap().drain(..) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                });
            }
        });
        Self { address, answered, accepted, is_stopping, acceptor: Some(acceptor) }
    }

    /// Requires that `count` requests were answered. The server counts an answer when it has written
    /// it, which may be after it was read; so this waits for the last of them.
    fn expect_answered(&self, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.answered.load(Ordering::SeqCst) < count && Instant::now() < deadline {
            thread::yield_now();
        }
        assert_eq!(self.answered.load(Ordering::SeqCst), count);
    }

    fn plan(&self) -> Plan {
        Plan { open_timeout: Duration::from_secs(20), ..Plan::new(self.address) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let joined = self.acceptor.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(joined, Some(Ok(()))));
    }
}

/// Answers frames until the client or the manner ends it. Never panics: it may run on after a
/// test's end has shut its socket down.
fn serve(mut stream: TcpStream, manner: Manner, answered: &AtomicU64) {
    let mut good = Vec::new();
    framed::encode(8001, br#"{"msg":"success"}"#, &mut good).unwrap();
    let mut bad = Vec::new();
    framed::encode(0, br#"{"msg":"error"}"#, &mut bad).unwrap();
    let mut number = 0;
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        while let Some(frame) = framed::decode(&received) {
            let taken = frame.encoded_bytes();
            received.drain(..taken);
            number += 1;
            let is_written = match manner {
                Manner::ErrorEvery(n) if number % n == 0 => {
                    if stream.write_all(&bad).is_err() {
                        return;
                    }
                    continue;
                }
                Manner::CloseAt(n) if number == n => {
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
                Manner::SilentFrom(n) if number >= n => continue,
                Manner::ByteByByte => good.iter().all(|&byte| stream.write_all(&[byte]).is_ok()),
                Manner::Twice => stream.write_all(&[good.as_slice(), &good].concat()).is_ok(),
                _ => stream.write_all(&good).is_ok(),
            };
            if !is_written {
                return;
            }
            answered.fetch_add(1, Ordering::SeqCst);
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => received.extend_from_slice(&buffer[..bytes]),
        }
    }
}

fn put() -> FramedPut {
    FramedPut::new("insert into t(num) values (%d)").unwrap()
}

fn requests(count: u64) -> Extent {
    Extent::Requests { count, deadline: Duration::from_secs(60) }
}

fn go(plan: &Plan) -> Outcome {
    run(plan, &put()).unwrap()
}

#[test]
fn a_number_of_requests_is_met_exactly() {
    for (manner, connections, pipeline, threads, count) in [
        (Manner::Good, 1, 1, 1, 500),
        (Manner::Good, 8, 4, 1, 1_000),
        (Manner::Good, 7, 5, 3, 1_000),
        (Manner::Good, 20, 1, 2, 10),
        (Manner::ByteByByte, 3, 4, 1, 120),
    ] {
        let server = Server::start(manner);
        let outcome =
            go(&Plan { connections, pipeline, threads, extent: requests(count), ..server.plan() });
        assert_eq!(outcome.errors.first, None);
        assert_eq!(outcome.operations, count);
        assert_eq!(outcome.latency.len(), count);
        // Every connection has opened with one burst on top.
        let opening = connections as u64 * u64::from(pipeline);
        assert_eq!(outcome.answered, count + opening);
        server.expect_answered(count + opening);
        assert_eq!(server.accepted.load(Ordering::SeqCst), connections as u64);
    }
}

#[test]
fn a_connection_per_burst_is_a_connection_per_burst() {
    let server = Server::start(Manner::Good);
    let outcome = go(&Plan {
        connections: 4,
        connection_per_burst: true,
        threads: 2,
        extent: requests(300),
        ..server.plan()
    });
    assert_eq!(outcome.errors.first, None);
    assert_eq!((outcome.operations, outcome.answered), (300, 300));
    server.expect_answered(300);
    assert_eq!(server.accepted.load(Ordering::SeqCst), 300);
}

#[test]
fn a_run_of_time_loses_no_answer() {
    let server = Server::start(Manner::Good);
    let measured = Duration::from_millis(300);
    let outcome = go(&Plan {
        connections: 5,
        pipeline: 3,
        extent: Extent::Time { warm_up: Duration::from_millis(50), measured },
        server_process: Some(std::process::id()),
        ..server.plan()
    });
    assert_eq!(outcome.errors.first, None);
    assert!(outcome.operations > 0 && outcome.operations < outcome.answered);
    // Of the bursts that were answered in part when measuring began and ended, each is timed or not.
    assert!(outcome.latency.len().abs_diff(outcome.operations) <= 5 * 2 * 2);
    server.expect_answered(outcome.answered);
    assert!(outcome.elapsed >= measured);
    assert!(outcome.latency_us(0.5) <= outcome.latency_us(0.99));
    assert!(outcome.latency_us(0.99) <= outcome.latency_us(1.0));
    assert!(outcome.operations_per_second() > 0.0);
    assert!(outcome.client_cpu > Duration::ZERO);
    assert!(outcome.server_cpu_us_per_operation().unwrap() > 0.0);
}

#[test]
fn every_unexpected_answer_is_an_error() {
    let server = Server::start(Manner::ErrorEvery(10));
    let outcome = go(&Plan { connections: 1, extent: requests(199), ..server.plan() });
    assert_eq!(outcome.errors.unexpected, 20, "{}", outcome.errors);
    assert_eq!(outcome.errors.total(), 20);
    assert_eq!(outcome.operations, 199 - 20);
    assert!(outcome.errors.first.unwrap().contains(r#"{\"msg\":\"error\"}"#));
}

#[test]
fn connections_the_server_closes_are_errors_and_opened_again() {
    let server = Server::start(Manner::CloseAt(11));
    let outcome = go(&Plan { connections: 2, extent: requests(100), ..server.plan() });
    let errors = &outcome.errors;
    assert!(errors.closed > 0 && errors.closed == errors.total(), "{errors}");
    assert_eq!(outcome.operations + errors.total(), 100);
    // The last ones to fail had nothing left to be opened for.
    let accepted = server.accepted.load(Ordering::SeqCst);
    assert!(accepted > 2 && accepted <= 2 + errors.total(), "{accepted}");
}

#[test]
fn answers_nobody_asked_for_are_errors() {
    let server = Server::start(Manner::Twice);
    let result = run(&Plan { errors_max: 5, extent: requests(100), ..server.plan() }, &put());
    let Err(RunError::Open { errors, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(errors.unexpected, 6);
    assert!(errors.first.unwrap().starts_with("unasked"));
}

#[test]
fn silence_ends_in_time() {
    let server = Server::start(Manner::SilentFrom(20));
    let start = Instant::now();
    let outcome = go(&Plan {
        connections: 3,
        extent: requests(1_000),
        reply_timeout: Duration::from_millis(100),
        errors_max: 6,
        ..server.plan()
    });
    assert!(outcome.errors.timeout > 6, "{}", outcome.errors);
    assert!(outcome.errors.first.as_ref().unwrap().contains("were due"));
    // What was answered before is counted.
    server.expect_answered(outcome.answered);
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_server_that_never_answers_is_no_outcome() {
    let server = Server::start(Manner::SilentFrom(1));
    let result = run(
        &Plan {
            open_timeout: Duration::from_millis(200),
            reply_timeout: Duration::from_millis(200),
            ..server.plan()
        },
        &put(),
    );
    assert!(matches!(result, Err(RunError::Open { opened: 0, .. })), "{result:?}");
}

#[test]
fn a_deadline_that_comes_first_is_an_error() {
    let server = Server::start(Manner::Good);
    let outcome = go(&Plan {
        extent: Extent::Requests { count: u64::MAX, deadline: Duration::from_millis(100) },
        ..server.plan()
    });
    assert_eq!((outcome.errors.timeout, outcome.errors.total()), (1, 1));
    server.expect_answered(outcome.answered);
}

#[test]
fn nobody_listening_is_no_outcome() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let result = run(&Plan::new(free), &put());
    let Err(RunError::Open { errors, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(errors.connect, errors.total());
    assert!(errors.connect > 100 && errors.connect < 110, "{errors}");
}

#[test]
fn a_server_process_that_is_not_there_is_no_outcome() {
    let server = Server::start(Manner::Good);
    let plan = Plan { server_process: Some(u32::MAX), ..server.plan() };
    assert!(matches!(run(&plan, &put()), Err(RunError::Cpu { .. })));
}

#[test]
fn bursts_larger_than_socket_buffers_go_out_whole() {
    // The server answers 8001 to everything, so each batch is an unexpected answer: what counts
    // here is that every one of the 24 MB arrived as a frame.
    let server = Server::start(Manner::Good);
    let batch = FramedBatchPut::full(128);
    assert!(batch.operations() > 400);
    let outcome = run(
        &Plan { pipeline: 128, extent: requests(256), errors_max: 1_000, ..server.plan() },
        &batch,
    )
    .unwrap();
    assert_eq!(outcome.errors.unexpected, 384, "{}", outcome.errors);
    assert_eq!(outcome.errors.total(), 384);
    server.expect_answered(384);
}
