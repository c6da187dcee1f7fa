//! What costs no memory: one test at a time in a process of their own, to see it.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use eserver::http::{Answered, Application, BodyPlan, Call, Head, Http};
use eserver::{AllowList, Limits, Server, ShardContext};

/// How long a read or write may take before the test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The length of each upload, in bytes.
const UPLOAD_BYTES: usize = 1 << 30;

/// Has nothing at `/none`, and elsewhere something for short bodies.
struct Site;

impl Application for Site {
    fn body(&mut self, head: &Head<'_>) -> BodyPlan {
        if head.path == "/none" { BodyPlan::Unread } else { BodyPlan::default() }
    }

    fn call(&mut self, head: &Head<'_>, _: &[u8], call: Call<'_, '_>) -> Answered {
        if head.path == "/stream" {
            let (stream, answered) = call.stream(200, |_| {});
            stream.finish().unwrap();
            return answered;
        }
        call.reply(if head.path == "/none" { 404 } else { 200 }, "text/plain", b"so it is")
    }
}

/// Our own memory that is in RAM, in bytes.
fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn streams_that_are_over_cost_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = |context: &ShardContext| Http::new(context, Site);
    let server = Server::new().shards(1);
    let server = server.listen("127.0.0.1:0", AllowList::loopback(), make).unwrap();
    let running = server.start().unwrap();
    let mut socket = TcpStream::connect(running.addresses().next().unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let requests = "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let mut answers = [0; 65536];
    let mut before = None;
    for round in 0..=300 {
        socket.write_all(requests.as_bytes()).unwrap();
        let (mut ends, mut last) = (0, Vec::new());
        while ends < 100 {
            let count = socket.read(&mut answers).unwrap();
            assert!(count > 0, "the server closed");
            last.extend_from_slice(&answers[..count]);
            ends = last.windows(5).filter(|window| window == b"0\r\n\r\n").count();
        }
        if round == 10 {
            before = Some(rss_bytes());
        }
    }
    let grown = rss_bytes().saturating_sub(before.unwrap());
    assert!(grown < 1 << 20, "{grown} bytes more are in use after 29,000 streams");
}

#[test]
fn uploads_that_are_given_up_cost_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = |context: &ShardContext| Http::new(context, Site);
    let server = Server::new().shards(1);
    let server = server.listen("127.0.0.1:0", AllowList::loopback(), make).unwrap();
    let running = server.start().unwrap();
    let address = running.addresses().next().unwrap();
    let mut upload = b"POST / HTTP/1.1\r\nHost: a\r\n".to_vec();
    upload.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n8000\r\n");
    upload.resize(upload.len() + 0x7000, b'x');
    let mut before = None;
    for round in 0..=1000 {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&upload).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut [0]).unwrap(), 0, "half a request was answered");
        if round == 10 {
            before = Some(rss_bytes());
        }
    }
    let grown = rss_bytes().saturating_sub(before.unwrap());
    assert!(grown < 4 << 20, "{grown} bytes more are in use after 28 MB of unfinished uploads");
}

#[test]
fn a_gigabyte_for_nobody_costs_no_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = Limits { linger_bytes_max: 2 * UPLOAD_BYTES, ..Limits::default() };
    // Sending takes as long as it takes.
    let limits = Limits { linger_timeout: PATIENCE, ..limits };
    let make = |context: &ShardContext| Http::new(context, Site);
    let server = Server::new().shards(1).limits(limits);
    let server = server.listen("127.0.0.1:0", AllowList::loopback(), make).unwrap();
    let running = server.start().unwrap();
    let address = running.addresses().next().unwrap();
    let block = vec![b'x'; 1 << 20];
    let upload = |head: &str, status: &str| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(head.as_bytes()).unwrap();
        for _ in 0..UPLOAD_BYTES / block.len() {
            socket.write_all(&block).unwrap();
        }
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(status), "{answer}");
    };
    let length = format!("Content-Length: {UPLOAD_BYTES}");
    let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{UPLOAD_BYTES:x}");
    let mut before = None;
    for _ in 0..2 {
        let post =
            |path: &str, more: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n\r\n");
        upload(&post("/none", &length), "HTTP/1.1 404 ");
        upload(&post("/", &length), "HTTP/1.1 413 ");
        upload(&format!("POST / HTTP/1.1\r\nHost: a\r\n{chunk}\r\n"), "HTTP/1.1 413 ");
        // The first round has touched all buffers once.
        let now = rss_bytes();
        let grown = now.saturating_sub(*before.get_or_insert(now));
        assert!(grown < 1 << 20, "{grown} bytes more are in use");
    }
    assert_eq!(running.counters().lingered, 6);
    assert!(before.unwrap_or_default() < 64 << 20, "{before:?} bytes are in use");
}
