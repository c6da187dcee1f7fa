//! HTTP services over real sockets: order, bodies, streams, deadlines, refusals, ends.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::HashSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use eserver::http::{
    Answered, Application, BodyPlan, Call, Gone, Head, Http, Responder, SKIP_BYTES_MAX, Stream,
    StreamTo, Ticket,
};
use eserver::{
    AllowList, Conn, ConnId, Conns, Limits, Post, Received, Running, Server, ShardContext,
};
use eserver_wire::http::{Body, BodyDecoder, HeadLimits, ResponseHead};

#[allow(dead_code)] // the corpus serves other tests too
#[path = "../../eserver-wire/tests/corpus/http.rs"]
mod corpus;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the test application takes along for the test to look at.
#[derive(Clone)]
struct Tap {
    events: Sender<Event>,
}

enum Event {
    Called(String),
    Later(Responder),
    Streaming(Stream),
    Held(u32, Post),
    PeerDone(u32),
    Released(u32),
    /// The shard waits to be told to go on.
    Blocked(Sender<()>),
}

/// Answers by path, and tells the test.
struct Site {
    tap: Tap,
    /// Held answers by slot.
    held: Vec<Option<Ticket>>,
    streams: Vec<StreamTo>,
    upgraded: Vec<ConnId>,
}

/// What [`Post::tell`] brings to the site.
enum Order {
    /// Answer this slot.
    Answer(u32, &'static str),
    /// Answer this slot and then once more, which is a mistake.
    AnswerTwice(u32, &'static str),
    /// Make a stream of this slot.
    Stream(u32),
    /// Send this to all streams, and end them if it is empty.
    Broadcast(&'static str),
}

impl Site {
    fn tell(&self, event: Event) {
        // The test may have seen enough.
        let _ = self.tap.events.send(event);
    }
}

impl Application for Site {
    fn body(&mut self, head: &Head<'_>) -> BodyPlan {
        match head.path {
            "/small" => BodyPlan::Collect { bytes_max: 1000 },
            "/none" | "/hold-unread" | "/upgrade-unread" => BodyPlan::Unread,
            _ => BodyPlan::default(),
        }
    }

    fn call(&mut self, head: &Head<'_>, body: &[u8], mut call: Call<'_, '_>) -> Answered {
        assert!(call.peer().is_loopback());
        self.tell(Event::Called(format!("{} {}", head.method, head.path)));
        let number = || head.query.unwrap_or_default().parse::<usize>().unwrap();
        match head.path {
            "/echo" | "/small" => call.reply(200, "application/octet-stream", body),
            "/none" => call.reply(404, "text/plain", b"nothing here"),
            "/big" => call.reply(200, "text/plain", &vec![b'x'; number()]),
            "/close" => {
                call.close();
                call.reply(200, "text/plain", b"the last one")
            }
            "/empty" => call.reply_with(204, |response| response.body(b"")),
            "/unfinished" => call.reply_with(200, |response| drop(response)),
            "/later" => {
                let (responder, answered) = call.later();
                self.tell(Event::Later(responder));
                answered
            }
            "/stream" => {
                let (stream, answered) = call.stream(200, |response| {
                    response.field("Content-Type", b"text/event-stream").unwrap();
                });
                self.tell(Event::Streaming(stream));
                answered
            }
            "/hold" | "/hold-unread" => {
                let slot = self.held.len() as u32;
                let post = call.post().clone();
                let (ticket, answered) = call.hold(slot);
                self.held.push(Some(ticket));
                self.tell(Event::Held(slot, post));
                answered
            }
            "/publish" => {
                let streams = &self.streams;
                streams.iter().for_each(|stream| stream.chunk(&mut call.conns(), body));
                call.reply(202, "text/plain", b"published")
            }
            "/block" => {
                let (go_on, may_go_on) = mpsc::channel();
                self.tell(Event::Blocked(go_on));
                may_go_on.recv_timeout(PATIENCE).unwrap();
                call.reply(200, "text/plain", b"went on")
            }
            "/upgrade" | "/upgrade-unread" if head.upgrade => {
                self.upgraded.push(call.conn_id());
                call.upgrade(7, "echo", |_| {})
            }
            _ => call.reply(200, "text/plain", b"Hello, World!"),
        }
    }

    fn told(&mut self, message: Box<dyn std::any::Any + Send>, conns: &mut Conns<'_>) {
        match *message.downcast::<Order>().unwrap() {
            Order::Answer(slot, text) => {
                let ticket = self.held[slot as usize].take().unwrap();
                ticket.reply(conns, 200, |response| response.body(text.as_bytes()));
            }
            Order::AnswerTwice(slot, text) => {
                let ticket = self.held[slot as usize].take().unwrap();
                for _ in 0..2 {
                    ticket.reply(conns, 200, |response| response.body(text.as_bytes()));
                }
            }
            Order::Stream(slot) => {
                let ticket = self.held[slot as usize].take().unwrap();
                self.streams.push(ticket.stream(conns, 200, |_| {}));
            }
            Order::Broadcast("") => {
                self.streams.drain(..).for_each(|stream| stream.finish(conns));
            }
            Order::Broadcast(text) => {
                self.streams.iter().for_each(|stream| stream.chunk(conns, text.as_bytes()));
            }
        }
    }

    fn draining(&mut self, conns: &mut Conns<'_>) {
        for ticket in self.held.iter_mut().filter_map(Option::take) {
            ticket.reply(conns, 200, |response| response.body(b"come back"));
        }
        for conn in &self.upgraded {
            conns.send(*conn, b"BYE?");
        }
    }

    fn peer_done(&mut self, slot: u32, _: &mut Conns<'_>) {
        self.tell(Event::PeerDone(slot));
    }

    fn released(&mut self, slot: u32) {
        self.tell(Event::Released(slot));
    }

    fn receive(&mut self, slot: u32, input: &[u8], conn: &mut Conn<'_>) -> Received {
        assert_eq!(slot, 7);
        match input {
            b"part" => return Received { used: 0, need: 0, seen: 0 },
            b"bye" => conn.close_lingering(),
            _ => {}
        }
        conn.send(&input.to_ascii_uppercase());
        Received { used: input.len(), need: 0, seen: 0 }
    }
}

struct Fixture {
    running: Running,
    address: SocketAddr,
    events: Receiver<Event>,
}

fn start(limits: Limits) -> Fixture {
    let (events, taken) = mpsc::channel();
    let tap = Mutex::new(Tap { events });
    let make = move |context: &ShardContext| {
        let tap = tap.lock().unwrap().clone();
        Http::new(
            context,
            Site { tap, held: Vec::new(), streams: Vec::new(), upgraded: Vec::new() },
        )
    };
    let all = AllowList::try_from(&["127.0.0.0/8"][..]).unwrap();
    let server = Server::new().shards(1).limits(limits).listen("127.0.0.1:0", all, make).unwrap();
    let running = server.start().unwrap();
    let address = running.addresses().next().unwrap();
    Fixture { running, address, events: taken }
}

impl Fixture {
    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// The next event but those of calls.
    fn event(&self) -> Event {
        loop {
            match self.events.recv_timeout(PATIENCE).expect("an event comes") {
                Event::Called(_) => {}
                event => return event,
            }
        }
    }

    fn later(&self) -> Responder {
        match self.event() {
            Event::Later(responder) => responder,
            _ => panic!("another event came first"),
        }
    }

    fn stream(&self) -> Stream {
        match self.event() {
            Event::Streaming(stream) => stream,
            _ => panic!("another event came first"),
        }
    }

    fn held(&self) -> (u32, Post) {
        match self.event() {
            Event::Held(slot, post) => (slot, post),
            _ => panic!("another event came first"),
        }
    }

    #[track_caller]
    fn released(&self) -> u32 {
        match self.event() {
            Event::Released(slot) => slot,
            _ => panic!("another event came first"),
        }
    }

    fn calls(&self) -> Vec<String> {
        let events = self.events.try_iter();
        events
            .filter_map(|event| if let Event::Called(call) = event { Some(call) } else { None })
            .collect()
    }
}

struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    keep_alive: bool,
}

impl Response {
    fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket, input: Vec::new() }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    fn get(&mut self, target: &str) -> Response {
        self.send(get(target));
        self.receive().expect("the server closed instead of answering")
    }

    /// One more read; false at the end.
    fn read(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(error) => panic!("no answer: {error}; so far {}", self.input.escape_ascii()),
        }
    }

    fn receive(&mut self) -> Option<Response> {
        self.receive_to("GET")
    }

    /// The next response to a request of this method, or `None` when the server has closed.
    fn receive_to(&mut self, method: &str) -> Option<Response> {
        let limits = HeadLimits { head_bytes_max: 1 << 20, ..HeadLimits::default() };
        let mut response = loop {
            if let Some(head) = ResponseHead::parse(&self.input, method, &limits).unwrap() {
                let fields = head.fields.iter();
                let fields = fields.map(|(name, value)| {
                    (name.to_owned(), String::from_utf8(value.to_vec()).unwrap())
                });
                let response = Response {
                    status: head.status,
                    fields: fields.collect(),
                    body: Vec::new(),
                    keep_alive: head.keep_alive,
                };
                let (decoder, taken) = (BodyDecoder::new(head.body), head.encoded_bytes);
                let until_close = head.body == Body::UntilClose;
                self.input.drain(..taken);
                break (response, decoder, until_close);
            }
            if !self.read() {
                assert_eq!(self.input.escape_ascii().to_string(), "", "half a head");
                return None;
            }
        };
        let (response, decoder, until_close) = (&mut response.0, &mut response.1, response.2);
        while !decoder.is_done() {
            if self.input.is_empty() && !self.read() {
                assert!(until_close, "the body ends early");
                break;
            }
            let progress = decoder.decode(&self.input).unwrap();
            response.body.extend_from_slice(&self.input[progress.data]);
            self.input.drain(..progress.used);
        }
        let Response { status, fields, body, keep_alive } = response;
        Some(Response {
            status: *status,
            fields: std::mem::take(fields),
            body: std::mem::take(body),
            keep_alive: *keep_alive,
        })
    }

    /// Reads until this text has come, which is still to be received.
    fn wait_for(&mut self, text: &str) {
        while !self.input.windows(text.len()).any(|window| window == text.as_bytes()) {
            assert!(self.read(), "the server closed after {}", self.input.escape_ascii());
        }
    }

    /// Bytes that are no response.
    fn receive_exactly(&mut self, bytes: &str) {
        while self.input.len() < bytes.len() {
            assert!(self.read(), "the server closed after {}", self.input.escape_ascii());
        }
        let front: Vec<u8> = self.input.drain(..bytes.len()).collect();
        assert_eq!(String::from_utf8(front).unwrap(), bytes);
    }

    /// The connection was ended in an orderly way, and nothing more came.
    #[track_caller]
    fn expect_end(mut self) {
        assert!(self.input.is_empty(), "{}", self.input.escape_ascii());
        assert!(!self.read(), "{}", self.input.escape_ascii());
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post_of(target: &str, fields: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::yield_now();
    }
}

#[test]
fn a_connection_serves_again_and_again() {
    let site = start(Limits::default());
    let mut client = site.connect();
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (200, "Hello, World!"));
        assert!(response.keep_alive);
        assert_eq!(response.field("server"), Some("eserver"));
        assert_eq!(response.field("content-type"), Some("text/plain"));
        assert!(response.field("date").unwrap().ends_with(" GMT"));
    }
    assert_eq!(client.get("/empty").status, 204);
    assert_eq!(client.get("/unfinished").status, 500);
    assert_eq!(client.get("/big?3000000").body.len(), 3_000_000);
    client.send("HEAD /big?5 HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.receive_to("HEAD").unwrap();
    assert_eq!((response.field("content-length"), response.body.len()), (Some("5"), 0));
    assert_eq!(client.get("/close").field("connection"), Some("close"));
    client.expect_end();
    assert_eq!(site.running.counters().accepted, 1);
}

#[test]
fn requests_arrive_in_any_pieces() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let wire = [
        get("/"),
        post_of("/echo", "Content-Length: 5\r\n", "hello"),
        post_of(
            "/echo",
            "Transfer-Encoding: chunked\r\n",
            "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
        ),
        post_of("/none", "Content-Length: 5\r\n", "hello"),
        get("/big?3"),
    ]
    .concat();
    let expected = ["Hello, World!", "hello", "abcde", "nothing here", "xxx"];
    let wire = wire.as_bytes();
    client.send(wire.repeat(100));
    for _ in 0..100 {
        for text in expected {
            assert_eq!(client.receive().unwrap().text(), text);
        }
    }
    for cut in 0..wire.len() {
        let before = site.running.counters().bytes_in;
        client.send(&wire[..cut]);
        eventually("the first piece is read", || {
            site.running.counters().bytes_in == before + cut as u64
        });
        client.send(&wire[cut..]);
        for text in expected {
            assert_eq!(client.receive().unwrap().text(), text, "cut at {cut}");
        }
    }
    for byte in wire.chunks(1) {
        client.send(byte);
    }
    for text in expected {
        assert_eq!(client.receive().unwrap().text(), text);
    }
    assert_eq!(site.running.counters().accepted, 1);
}

#[test]
fn bodies_of_a_megabyte_pass_both_ways() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let body = "0123456789abcdef".repeat(65_536);
    client.send(post_of("/echo", "Content-Length: 1048576\r\n", &body));
    assert_eq!(client.receive().unwrap().text(), body);
    let chunks: String = (0..16)
        .map(|at| format!("{:x}\r\n{}\r\n", 65_536, &body[at * 65_536..][..65_536]))
        .collect();
    let chunks = chunks + "0\r\n\r\n";
    client.send(post_of("/echo", "Transfer-Encoding: chunked\r\n", &chunks));
    assert_eq!(client.receive().unwrap().text(), body);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn answers_leave_in_the_order_of_requests() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send([get("/later"), get("/"), get("/stream"), get("/big?7"), get("/later")].concat());
    let (first, stream, last) = (site.later(), site.stream(), site.later());
    last.reply(201, "text/plain", b"five");
    stream.chunk(b"th").unwrap();
    stream.chunk(b"").unwrap();
    stream.chunk(b"ree").unwrap();
    stream.finish().unwrap();
    first.reply(201, "text/plain", b"one");
    for text in ["one", "Hello, World!", "three", "xxxxxxx", "five"] {
        assert_eq!(client.receive().unwrap().text(), text);
    }
    // A stream that goes on when its turn comes.
    client.send([get("/later"), get("/stream"), get("/")].concat());
    let (first, stream) = (site.later(), site.stream());
    stream.chunk(b"early ").unwrap();
    first.reply(200, "", b"first");
    let response = client.receive().unwrap();
    assert_eq!((response.text(), response.field("content-type")), ("first", None));
    stream.chunk(b"late").unwrap();
    stream.finish().unwrap();
    assert_eq!(client.receive().unwrap().text(), "early late");
    assert_eq!(client.receive().unwrap().text(), "Hello, World!");
    // An answer that leaves while the next request's body is still coming.
    client.send(get("/later") + &post_of("/echo", "Transfer-Encoding: chunked\r\n", "2\r\nhe"));
    site.later().reply(200, "", b"first");
    assert_eq!(client.receive().unwrap().text(), "first");
    client.send("\r\n3\r\nllo\r\n0\r\n\r\n");
    assert_eq!(client.receive().unwrap().text(), "hello");
}

#[test]
fn a_responder_that_is_dropped_answers_500_and_ends() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/later"));
    drop(site.later());
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.keep_alive), (500, false));
    client.expect_end();
}

#[test]
fn a_stream_that_is_dropped_is_cut_off() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/stream"));
    let stream = site.stream();
    stream.chunk(b"the first").unwrap();
    client.receive_exactly("HTTP/1.1 200 OK\r\n");
    drop(stream);
    while client.read() {}
    assert!(client.input.ends_with(b"9\r\nthe first\r\n"), "{}", client.input.escape_ascii());
}

#[test]
fn older_clients_are_served_as_they_know_it() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let request = |target| format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client.send(request("/"));
    let response = client.receive().unwrap();
    assert_eq!(response.field("connection"), Some("keep-alive"));
    // What is behind a stream until the end of the connection is not part of it.
    client.send(request("/later") + &request("/"));
    site.later().reply(200, "", b"alone");
    assert_eq!(client.receive().unwrap().text(), "alone");
    assert_eq!(client.receive().unwrap().text(), "Hello, World!");
    client.send(request("/stream") + &request("/"));
    let stream = site.stream();
    stream.chunk(b"until ").unwrap();
    stream.chunk(b"the end").unwrap();
    stream.finish().unwrap();
    let response = client.receive().unwrap();
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!((response.text(), response.keep_alive), ("until the end", false));
    client.expect_end();

    let mut client = site.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert!(!client.receive().unwrap().keep_alive);
    client.expect_end();
}

#[test]
fn who_ends_its_own_side_still_reads_the_answers() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send([get("/later"), get("/")].concat() + "GET /unfin");
    client.socket.shutdown(Shutdown::Write).unwrap();
    let responder = site.later();
    responder.reply(200, "text/plain", b"slow");
    assert_eq!(client.receive().unwrap().text(), "slow");
    assert_eq!(client.receive().unwrap().text(), "Hello, World!");
    client.expect_end();
    eventually("the record is gone", || site.running.connections() == 0);
}

#[test]
fn who_waits_to_be_told_is_told() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let expect = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    client.send(post_of("/echo", expect, ""));
    client.receive_exactly("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hel");
    client.send("lo");
    assert_eq!(client.receive().unwrap().text(), "hello");
    client.send(post_of("/echo", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", ""));
    client.receive_exactly("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("2\r\nhi\r\n0\r\n\r\n");
    assert_eq!(client.receive().unwrap().text(), "hi");
    // Who has sent it already needs no word.
    client.send(post_of("/echo", expect, "hello"));
    assert_eq!(client.receive().unwrap().text(), "hello");
    // The word must not come before the answers to earlier requests.
    client.send(get("/later") + &post_of("/echo", expect, ""));
    site.later().reply(200, "", b"first");
    assert_eq!(client.receive().unwrap().text(), "first");
    client.receive_exactly("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.receive().unwrap().text(), "hello");
    // Who would not be listened to is told the end at once.
    client.send(post_of("/none", expect, ""));
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.keep_alive), (404, false));
    client.expect_end();
    let mut client = site.connect();
    client.send(post_of("/small", "Expect: 100-continue\r\nContent-Length: 1001\r\n", ""));
    assert_eq!(client.receive().unwrap().status, 413);
    client.expect_end();
    // A chunk that says how long it will be is not waited for.
    let mut client = site.connect();
    client.send(post_of("/small", "Transfer-Encoding: chunked\r\n", "3e9\r\n"));
    assert_eq!(client.receive().unwrap().status, 413);
    client.expect_end();
}

#[test]
fn short_bodies_that_nobody_wants_are_skipped() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let body = "x".repeat(SKIP_BYTES_MAX as usize);
    let fields = format!("Content-Length: {}\r\n", body.len());
    let request = post_of("/none", &fields, "");
    client.send(&request);
    assert_eq!(client.receive().unwrap().status, 404, "the answer does not wait for the body");
    let (front, rest) = body.split_at(1000);
    client.send(front);
    client.send(rest);
    assert_eq!(client.get("/").status, 200);
    let longer = format!("Content-Length: {}\r\n", body.len() + 1);
    let closing = format!("{fields}Connection: close\r\n");
    // They stay: for who has gone already nothing lingers.
    let _clients = [longer, closing].map(|fields| {
        let mut client = site.connect();
        client.send(post_of("/none", &fields, "x"));
        let response = client.receive().unwrap();
        assert_eq!((response.status, response.keep_alive), (404, false));
        client.send("x".repeat(1000));
        let stays = client.socket.try_clone().unwrap();
        client.expect_end();
        stays
    });
    eventually("they linger", || site.running.counters().lingered == 2);
}

/// Sends a request with a long body without reading before all of it has been taken.
fn upload(client: &mut Client, head: &str, body_bytes: usize) -> Result<(), ErrorKind> {
    client.send(head);
    let block = vec![b'x'; 1 << 20];
    for _ in 0..body_bytes >> 20 {
        client.socket.write_all(&block).map_err(|error| error.kind())?;
    }
    Ok(())
}

#[test]
fn the_sender_of_a_refused_upload_gets_the_answer() {
    let limits = Limits { linger_bytes_max: 1 << 30, ..Limits::default() };
    let site = start(limits);
    let length = "Content-Length: 104857600\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let huge_chunk = format!("{chunked}\r\n6400000");
    for (target, fields, status) in [
        ("/none", length, 404),
        ("/none", chunked, 404),
        ("/small", length, 413),
        ("/echo", length, 413),
        ("/echo", &*huge_chunk, 413),
        ("/small", "Content-Length: 10\r\nContent-Length: 104857600\r\n", 400),
    ] {
        let mut client = site.connect();
        let head = post_of(target, fields, "");
        upload(&mut client, &head, 100 << 20).unwrap();
        let response = client.receive().unwrap();
        assert_eq!((response.status, response.keep_alive), (status, false), "{target} {fields}");
        client.expect_end();
    }
    assert_eq!(site.running.counters().lingered, 6);
    eventually("all have gone", || site.running.connections() == 0);
}

#[test]
fn lingering_has_its_bounds() {
    let limits = Limits { linger_bytes_max: 8 << 20, ..Limits::default() };
    let site = start(limits);
    let mut client = site.connect();
    let head = post_of("/none", "Content-Length: 1073741824\r\n", "");
    assert!(upload(&mut client, &head, 1 << 30).is_err(), "a gigabyte was taken");
    let bytes_in = site.running.counters().bytes_in;
    assert!(bytes_in < 16 << 20, "{bytes_in} bytes were read");

    let limits = Limits { linger_timeout: Duration::from_millis(300), ..Limits::default() };
    let site = start(limits);
    let mut client = site.connect();
    client.send(post_of("/none", "Content-Length: 1073741824\r\n", "x"));
    assert_eq!(client.receive().unwrap().status, 404);
    eventually("who goes on sending nothing is let go", || site.running.connections() == 0);
}

#[test]
fn what_follows_after_the_last_request_does_not_undo_its_answer() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let close = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.send(close.to_owned() + &get("/smuggled").repeat(1000));
    assert_eq!(client.receive().unwrap().text(), "Hello, World!");
    client.expect_end();
    assert_eq!(site.calls(), ["GET /"]);

    // Nor does what comes while the answer is being waited for.
    let mut client = site.connect();
    client.send("GET /later HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let responder = site.later();
    let before = site.running.counters().turns;
    client.send(get("/smuggled").repeat(1000));
    eventually("the shard is told", || site.running.counters().turns > before);
    responder.reply(200, "", b"in time");
    assert_eq!(client.receive().unwrap().text(), "in time");
    client.expect_end();
    assert_eq!(site.calls(), [""; 0]);
}

#[test]
fn slow_requests_end_in_time() {
    let limits = Limits {
        request_head_timeout: Duration::from_millis(600),
        request_body_timeout: Duration::from_millis(600),
        ..Limits::default()
    };
    let site = start(limits);
    let trickles = [
        // A head, line by line.
        ("GET / HTTP/1.1\r\n".to_owned(), "A: b\r\n"),
        // Bodies of a known length, in chunks, and of no interest.
        (post_of("/echo", "Content-Length: 1000\r\n", ""), "x"),
        (post_of("/echo", "Transfer-Encoding: chunked\r\n", ""), "1\r\nx\r\n"),
        (post_of("/none", "Content-Length: 1000\r\n", ""), "x"),
    ];
    let trickle = |(front, more): (String, &'static str)| {
        let mut client = site.connect();
        client.send(&front);
        let unread = front.contains("/none");
        let socket = client.socket.try_clone().unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            let mut socket = socket;
            while stopped.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout)
            {
                if socket.write_all(more.as_bytes()).is_err() {
                    break;
                }
            }
        });
        if unread {
            assert_eq!(client.receive().unwrap().status, 404);
        }
        let response = client.receive().unwrap();
        assert_eq!((response.status, response.keep_alive), (408, false), "{front}");
        assert!(response.text().contains("0.6 s"), "{}", response.text());
        assert!(!client.read(), "{front}");
        drop(stop);
        writer.join().unwrap();
    };
    trickles.into_iter().for_each(trickle);
    assert_eq!(site.running.counters().request_timeouts, 4);

    // One that is quick enough takes as long as it needs: three times the deadline here.
    let mut client = site.connect();
    client.send(post_of("/echo", "Content-Length: 9000\r\n", ""));
    let (_never, pace) = mpsc::channel::<()>();
    for _ in 0..90 {
        client.send("x".repeat(100));
        let _ = pace.recv_timeout(Duration::from_millis(20));
    }
    assert_eq!(client.receive().unwrap().body.len(), 9000);
}

#[test]
fn a_slow_request_behind_one_in_flight_is_refused_in_its_turn() {
    let limits = Limits { request_head_timeout: Duration::from_millis(300), ..Limits::default() };
    let site = start(limits);
    let mut client = site.connect();
    client.send(get("/later") + "GET /unfin");
    let responder = site.later();
    eventually("it is refused", || site.running.counters().request_timeouts == 1);
    responder.reply(200, "", b"first");
    assert_eq!(client.receive().unwrap().text(), "first");
    assert_eq!(client.receive().unwrap().status, 408);
    assert!(!client.read());
}

#[test]
fn a_slow_reader_of_a_stream_is_closed() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/stream"));
    let stream = site.stream();
    let block = vec![b'x'; 10_000];
    let mut sent = 0;
    while stream.chunk(&block).is_ok() {
        sent += block.len();
        assert!(sent < 1 << 30, "the stream is never closed");
    }
    assert_eq!(site.running.counters().slow_readers, 1);
    assert_eq!(stream.finish(), Err(Gone));
    eventually("the record is gone", || site.running.connections() == 0);

    // Behind an answer that is not there, too.
    let mut client = site.connect();
    client.send(get("/later") + &get("/stream"));
    let (responder, stream) = (site.later(), site.stream());
    while stream.chunk(&block).is_ok() {}
    assert_eq!(site.running.counters().slow_readers, 2);
    responder.reply(200, "", b"too late");
}

#[test]
fn who_waits_in_between_can_send_without_end() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/stream"));
    let stream = site.stream();
    let sender = std::thread::spawn(move || {
        let block = vec![b'x'; 100_000];
        for _ in 0..300 {
            stream.chunk(&block).unwrap();
            stream.wait_drained().unwrap();
        }
        stream.finish().unwrap();
    });
    assert_eq!(client.receive().unwrap().body.len(), 30_000_000);
    sender.join().unwrap();
    assert_eq!(site.running.counters().slow_readers, 0);

    // What waits for an earlier answer has not left.
    client.send(get("/later") + &get("/stream"));
    let (responder, stream) = (site.later(), site.stream());
    stream.chunk(b"early").unwrap();
    let mut drained = Box::pin(stream.drained());
    let mut once = Context::from_waker(Waker::noop());
    assert!(drained.as_mut().poll(&mut once).is_pending());
    let mut other = site.connect();
    for _ in 0..2 {
        other.get("/"); // The shard has read all letters by the second one.
    }
    assert!(drained.as_mut().poll(&mut once).is_pending());
    responder.reply(200, "", b"first");
    assert_eq!(client.receive().unwrap().text(), "first");
    site.running.runtime().block_on(drained.as_mut()).unwrap();
    drop(drained);
    stream.finish().unwrap();
    assert_eq!(client.receive().unwrap().text(), "early");

    client.send(get("/stream"));
    let stream = site.stream();
    drop(client);
    let block = vec![b'x'; 100_000];
    while stream.chunk(&block).is_ok() && stream.wait_drained().is_ok() {}
    assert_eq!(stream.wait_drained(), Err(Gone));
}

#[test]
fn a_stream_knows_when_its_peer_leaves() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/stream"));
    let stream = site.stream();
    assert!(!stream.has_left());
    client.socket.shutdown(Shutdown::Write).unwrap();
    site.running.runtime().block_on(stream.left());
    assert!(stream.has_left());
    stream.chunk(b"who only stopped sending still reads").unwrap();
    stream.finish().unwrap();
    assert!(client.receive().unwrap().text().ends_with("still reads"));
    client.expect_end();

    // Whoever had left before it began.
    let mut client = site.connect();
    client.send(get("/stream"));
    client.socket.shutdown(Shutdown::Both).unwrap();
    site.running.runtime().block_on(site.stream().left());

    let mut client = site.connect();
    client.send("HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(site.stream().chunk(b"x"), Err(Gone));
    let response = client.receive_to("HEAD").unwrap();
    assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn responders_can_stream() {
    let site = start(Limits::default());
    let mut client = site.connect();
    for _ in 0..2 {
        client.send(get("/later"));
        let stream = site.later().stream(200, |response| {
            response.field("Content-Type", b"text/csv").unwrap();
        });
        stream.chunk(b"a,b\n").unwrap();
        site.running.runtime().block_on(stream.drained()).unwrap();
        stream.finish().unwrap();
        let response = client.receive().unwrap();
        assert_eq!((response.text(), response.field("content-type")), ("a,b\n", Some("text/csv")));
    }
    // Nothing may follow after what lasts until the connection ends.
    let request = |target| format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    client.send(request("/later") + &request("/"));
    let stream = site.later().stream(200, |_| {});
    stream.chunk(b"the end").unwrap();
    stream.finish().unwrap();
    assert_eq!(client.receive().unwrap().text(), "the end");
    client.expect_end();
}

#[test]
fn a_slot_lives_as_long_as_its_answer() {
    let site = start(Limits::default());
    let mut client = site.connect();
    // Answered from the shard; what is behind it is read afterwards.
    client.send(get("/hold") + &get("/"));
    let (slot, post) = site.held();
    assert_eq!(site.connect().get("/empty").status, 204);
    assert_eq!(site.calls(), ["GET /empty"], "who is held is not read from");
    assert!(post.tell(Box::new(Order::Answer(slot, "held"))));
    assert_eq!(site.released(), slot);
    assert_eq!(client.receive().unwrap().text(), "held");
    assert_eq!(client.receive().unwrap().text(), "Hello, World!");

    // Streams, fed and ended from the shard.
    let mut others: Vec<_> = (0..3).map(|_| site.connect()).collect();
    let mut slots = HashSet::new();
    for client in &mut others {
        client.send(get("/hold"));
        let (slot, _) = site.held();
        assert!(post.tell(Box::new(Order::Stream(slot))));
        slots.insert(slot);
    }
    assert!(post.tell(Box::new(Order::Broadcast("to all "))));
    others.iter_mut().for_each(|client| client.wait_for("to all "));
    // From within a request, pipelined between others of its connection.
    let publish = post_of("/publish", "Content-Length: 7\r\n", "of them");
    client.send(get("/") + &publish + &get("/big?2"));
    for text in ["Hello, World!", "published", "xx"] {
        assert_eq!(client.receive().unwrap().text(), text);
    }
    assert!(post.tell(Box::new(Order::Broadcast(""))));
    let released: HashSet<_> = (0..3).map(|_| site.released()).collect();
    assert_eq!(released, slots);
    for client in &mut others {
        assert_eq!(client.receive().unwrap().text(), "to all of them");
        assert_eq!(client.get("/").status, 200);
    }

    // The peer goes, in part or altogether.
    client.send(get("/hold"));
    let (slot, post) = site.held();
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(site.event(), Event::PeerDone(done) if done == slot));
    assert!(post.tell(Box::new(Order::Answer(slot, "still there"))));
    assert_eq!(site.released(), slot);
    assert_eq!(client.receive().unwrap().text(), "still there");
    client.expect_end();
    let mut client = site.connect();
    client.send(get("/hold"));
    client.socket.shutdown(Shutdown::Write).unwrap();
    let (slot, _) = site.held();
    assert!(matches!(site.event(), Event::PeerDone(done) if done == slot), "seen with the request");
}

#[test]
fn a_slot_is_released_however_its_connection_ends() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/hold"));
    let (slot, _) = site.held();
    socket2::SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client); // a reset
    loop {
        match site.event() {
            Event::Released(released) => break assert_eq!(released, slot),
            Event::PeerDone(_) => {}
            _ => panic!("another event came first"),
        }
    }
    let mut client = site.connect();
    client.send(get("/hold"));
    let (slot, post) = site.held();
    assert!(post.tell(Box::new(Order::Stream(slot))));
    client.receive_exactly("HTTP/1.1 200 OK\r\n");
    let ended = site.running.shutdown(Duration::from_millis(50));
    assert_eq!(ended.cut_off, 1);
    let events: Vec<_> = site.events.try_iter().collect();
    assert!(events.iter().any(|event| matches!(event, Event::Released(one) if *one == slot)));
}

#[test]
fn a_connection_can_change_its_protocol() {
    let site = start(Limits::default());
    let mut client = site.connect();
    let upgrade =
        "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.send(get("/later") + upgrade + "early");
    site.later().reply(200, "", b"before");
    assert_eq!(client.receive().unwrap().text(), "before");
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.field("upgrade")), (101, Some("echo")));
    client.receive_exactly("EARLY");
    client.send("more");
    client.receive_exactly("MORE");
    drop(client);
    while !matches!(site.event(), Event::Released(7)) {}
    assert_eq!(site.connect().get("/upgrade").text(), "Hello, World!", "who does not ask for it");
}

#[test]
fn short_lived_connections_never_meet_epoll() {
    let site = start(Limits::default());
    let mut holder = site.connect();
    holder.send(get("/block"));
    let Event::Blocked(go_on) = site.event() else { panic!("another event came first") };
    // Nobody accepts meanwhile, so their requests are there when they are accepted.
    let requests = [
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
        post_of("/echo", "Connection: close\r\nContent-Length: 13\r\n", "Hello, World!"),
    ];
    let clients = requests.map(|request| {
        let mut client = site.connect();
        client.send(request);
        client
    });
    go_on.send(()).unwrap();
    for mut client in clients {
        assert_eq!(client.receive().unwrap().text(), "Hello, World!");
        client.expect_end();
    }
    assert_eq!(holder.receive().unwrap().text(), "went on");
    eventually("all are counted", || site.running.counters().unregistered == 3);
    assert_eq!(site.running.counters().accepted, 4);
}

#[test]
fn newcomers_over_the_limit_are_told() {
    let site = start(Limits { connections_max: 1, ..Limits::default() });
    let mut held = site.connect();
    assert_eq!(held.get("/").status, 200);
    let mut client = site.connect();
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    assert!(response.text().contains("at most 1"), "{}", response.text());
    assert_eq!(held.get("/").status, 200);
}

#[test]
fn shutdown_finishes_what_is_in_flight() {
    let site = start(Limits::default());
    let mut idle = site.connect();
    assert_eq!(idle.get("/").status, 200);
    let mut waiting = site.connect();
    waiting.send(get("/later"));
    let responder = site.later();
    let mut streaming = site.connect();
    streaming.send(get("/stream"));
    let stream = site.stream();
    let mut partial = site.connect();
    let before = site.running.counters().bytes_in;
    partial.send("GET / HT");
    eventually("it is read", || site.running.counters().bytes_in > before);

    let mut held = site.connect();
    held.send(get("/hold"));
    site.held();

    let Fixture { running, .. } = site;
    let runtime = running.runtime().clone();
    let ending = std::thread::spawn(move || running.shutdown(PATIENCE));
    idle.expect_end();
    let response = held.receive().unwrap();
    assert_eq!((response.text(), response.keep_alive), ("come back", false));
    held.expect_end();
    partial.send("TP/1.1\r\nHost: a\r\n\r\n");
    let response = partial.receive().unwrap();
    assert_eq!((response.status, response.keep_alive), (200, false), "the last answer says so");
    partial.expect_end();
    responder.reply(200, "", b"in flight");
    let response = waiting.receive().unwrap();
    assert_eq!((response.text(), response.keep_alive), ("in flight", false));
    waiting.expect_end();
    assert!(!ending.is_finished());
    runtime.block_on(stream.left());
    stream.finish().unwrap();
    assert_eq!(streaming.receive().unwrap().status, 200);
    streaming.expect_end();
    assert_eq!(ending.join().unwrap().cut_off, 0);
}

#[test]
fn what_was_seen_of_one_request_says_nothing_of_the_next() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/stream"));
    let stream = site.stream(); // It keeps the connection's busy part alive.
    let fields = format!("X: {}\r\nTransfer-Encoding: chunked\r\n", "x".repeat(200));
    let first = post_of("/echo", &fields, "5\r\nfirst\r\n0\r\n\r\n");
    let before = site.running.counters().bytes_in;
    client.send(&first[..127]);
    eventually("it is read", || site.running.counters().bytes_in == before + 127);
    client.send(&first[127..]);
    eventually("all of it is read", || {
        site.running.counters().bytes_in == before + first.len() as u64
    });
    let body = "x".repeat(200);
    client.send(post_of("/echo", "Content-Length: 200\r\n", &body));
    stream.finish().unwrap();
    for text in ["", "first", &body] {
        assert_eq!(client.receive().unwrap().text(), text);
    }
}

#[test]
fn answers_that_wait_for_an_earlier_one_are_bounded() {
    let site = start(Limits { outbox_bytes_max: 100_000, ..Limits::default() });
    let mut client = site.connect();
    client.send(get("/later") + &get("/big?30000").repeat(50));
    let responder = site.later();
    let mut other = site.connect();
    other.get("/");
    let bigs = site.calls().iter().filter(|call| call.contains("big")).count();
    assert!(bigs <= 4, "{bigs} answers wait");
    responder.reply(200, "", b"first");
    assert_eq!(client.receive().unwrap().text(), "first");
    for _ in 0..50 {
        assert_eq!(client.receive().unwrap().body.len(), 30_000);
    }
    assert_eq!(site.running.counters().slow_readers, 0);

    client.send(get("/later") + &get("/stream").repeat(2));
    let (_responder, one, two) = (site.later(), site.stream(), site.stream());
    one.chunk(&[b'x'; 60_000]).unwrap();
    two.chunk(&[b'x'; 60_000]).unwrap();
    eventually("it is closed", || site.running.counters().slow_readers == 1);
}

#[test]
fn what_is_cut_off_does_not_take_earlier_answers_along() {
    let site = start(Limits { outbox_bytes_max: 10_000_000, ..Limits::default() });
    let mut other = site.connect();
    // Behind an answer that is still leaving.
    let mut client = site.connect();
    client.send(get("/big?8000000") + &get("/stream"));
    drop(site.stream());
    for _ in 0..2 {
        other.get("/"); // The shard has read all letters by the second one.
    }
    assert_eq!(client.receive().unwrap().body.len(), 8_000_000);
    client.receive_exactly("HTTP/1.1 200 OK\r\n");
    while client.read() {}
    assert!(!client.input.ends_with(b"0\r\n\r\n"));
    drop(client);

    // Behind one that is not there yet; what follows is not answered.
    let mut client = site.connect();
    client.send(get("/later") + &get("/stream") + &get("/big?5"));
    let (responder, stream) = (site.later(), site.stream());
    drop(stream);
    for _ in 0..2 {
        other.get("/");
    }
    responder.reply(200, "", b"first");
    assert_eq!(client.receive().unwrap().text(), "first");
    client.receive_exactly("HTTP/1.1 200 OK\r\n");
    while client.read() {}
    assert!(client.input.ends_with(b"chunked\r\n\r\n"), "{}", client.input.escape_ascii());
    drop(client);
    drop(other);
    eventually("nobody is left", || site.running.connections() == 0);
}

#[test]
fn only_the_last_answer_says_that_it_is() {
    let site = start(Limits::default());
    // A request that is dropped ends the connection, but not before those behind it.
    let mut client = site.connect();
    client.send(get("/later").repeat(2));
    let (first, second) = (site.later(), site.later());
    drop(first);
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.keep_alive), (500, true));
    second.reply(200, "", b"second");
    assert_eq!(client.receive().unwrap().text(), "second");
    client.expect_end();

    let mut idle = site.connect();
    idle.get("/");
    let mut client = site.connect();
    client.send(get("/later").repeat(3) + &get("/stream") + &get("/later"));
    let mut responders: Vec<_> = (0..3).map(|_| site.later()).collect();
    let (stream, last) = (site.stream(), site.later());
    let ending = std::thread::spawn(move || site.running.shutdown(PATIENCE));
    idle.expect_end();
    last.reply(200, "", b"the last one"); // before its turn
    responders.drain(..).for_each(|responder| responder.reply(200, "", b"one of many"));
    stream.finish().unwrap();
    for at in 0..5 {
        let response = client.receive().unwrap();
        assert_eq!((response.status, response.keep_alive), (200, at < 4), "answer {at}");
    }
    client.expect_end();
    assert_eq!(ending.join().unwrap().cut_off, 0);
}

#[test]
fn a_stream_whose_head_cannot_be_written_is_answered_500() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/later"));
    let responder = site.later();
    let stream = std::panic::AssertUnwindSafe(|| responder.stream(200, |_| panic!("on purpose")));
    assert!(std::panic::catch_unwind(stream).is_err());
    assert_eq!(client.receive().unwrap().status, 500);
    client.expect_end();
}

#[test]
fn a_slot_is_not_lost_to_a_body_that_is_skipped() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(post_of("/hold-unread", "Content-Length: 100\r\n", "the front"));
    let (slot, post) = site.held();
    assert!(post.tell(Box::new(Order::Answer(slot, "held"))));
    assert_eq!(site.released(), slot);
    let response = client.receive().unwrap();
    assert_eq!((response.text(), response.keep_alive), ("held", false));
    client.expect_end();

    let mut client = site.connect();
    let fields = "Connection: upgrade\r\nUpgrade: echo\r\nContent-Length: 9\r\n";
    client.send(post_of("/upgrade-unread", fields, ""));
    assert_eq!(client.receive().unwrap().status, 101);
    client.expect_end();
    assert_eq!(site.released(), 7);
}

#[test]
fn another_protocol_ends_in_its_own_way() {
    let upgrade =
        "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let patience = Duration::from_millis(300);
    let site = start(Limits { request_head_timeout: patience, ..Limits::default() });
    let mut late = site.connect();
    late.send(upgrade);
    assert_eq!(late.receive().unwrap().status, 101);
    late.send("part");
    late.expect_end(); // without a word of HTTP
    assert_eq!(site.running.counters().request_timeouts, 1);

    let mut client = site.connect();
    client.send(upgrade);
    assert_eq!(client.receive().unwrap().status, 101);
    let ending = std::thread::spawn(move || site.running.shutdown(PATIENCE));
    client.receive_exactly("BYE?");
    client.send("no");
    client.receive_exactly("NO");
    client.send("bye");
    client.receive_exactly("BYE");
    client.expect_end();
    assert_eq!(ending.join().unwrap().cut_off, 0);
}

#[test]
fn an_answer_is_given_once() {
    let site = start(Limits::default());
    let mut client = site.connect();
    client.send(get("/later") + &get("/hold"));
    let responder = site.later();
    let (slot, post) = site.held();
    assert!(post.tell(Box::new(Order::AnswerTwice(slot, "held"))));
    eventually("the second one is refused", || site.running.counters().stale_replies == 1);
    responder.reply(200, "", b"first");
    for text in ["first", "held"] {
        assert_eq!(client.receive().unwrap().text(), text);
    }
    assert_eq!(client.get("/").text(), "Hello, World!");
}

#[test]
fn answers_to_head_have_no_body() {
    let site = start(Limits::default());
    for (request, status) in [
        ("HEAD /small HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n", 413),
        ("HEAD /a HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n", 417),
        ("HEAD /a HTTP/1.1\r\n\r\n", 400),
        ("HEAD /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno length", 400),
    ] {
        let mut client = site.connect();
        client.send(request);
        assert_eq!(client.receive_to("HEAD").unwrap().status, status, "{request}");
        client.expect_end();
    }
    // Of an older client's connection, none that goes on says that it ends.
    let mut client = site.connect();
    for _ in 0..2 {
        client.send("HEAD /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert!(client.receive_to("HEAD").unwrap().keep_alive);
    }
}

#[test]
fn a_blank_line_after_a_body_is_no_request() {
    let patience = Duration::from_millis(300);
    let site = start(Limits { request_head_timeout: patience, ..Limits::default() });
    let mut client = site.connect();
    client.send(post_of("/echo", "Content-Length: 2\r\n", "hi") + "\r\n");
    assert_eq!(client.receive().unwrap().text(), "hi");
    let mut late = site.connect();
    late.send("GET ");
    assert_eq!(late.receive().unwrap().status, 408);
    assert_eq!(client.get("/").status, 200);
    let before = site.running.counters().bytes_in;
    client.send("\r\n");
    eventually("it is read", || site.running.counters().bytes_in == before + 2);
    client.send("\r\n");
    assert_eq!(client.receive().unwrap().status, 400, "one, but not two");
}

#[test]
fn what_blocks_the_runtime_does_not_hold_up_the_end() {
    let site = start(Limits::default());
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (started, has_started) = mpsc::channel();
    drop(site.running.runtime().spawn_blocking(move || {
        started.send(()).unwrap();
        let _ = may_go_on.recv();
    }));
    has_started.recv_timeout(PATIENCE).unwrap();
    let (ended, has_ended) = mpsc::channel();
    let ending = std::thread::spawn(move || {
        ended.send(site.running.shutdown(Duration::from_millis(50)).cut_off).unwrap();
    });
    assert_eq!(has_ended.recv_timeout(PATIENCE), Ok(0));
    drop(go_on);
    ending.join().unwrap();
}

#[test]
#[ignore = "the other process of the next test"]
fn a_server_that_waits_to_be_asked_to_end() {
    let site = start(Limits::default());
    println!("listening on {}", site.address);
    site.running.runtime().block_on(eserver::asked_to_end()).unwrap();
    println!("asked");
    site.running.shutdown(Duration::from_secs(600));
}

/// A process that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    let server = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_server_that_waits_to_be_asked_to_end", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Killed(server.unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let mut after = |word: &str| {
        let line =
            lines.find_map(|line| line.unwrap().split_once(word).map(|(_, rest)| rest.to_owned()));
        line.unwrap()
    };
    let address = after("listening on ").parse().unwrap();
    let mut client = Client::connect(address);
    client.get("/");
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &server.0.id().to_string()]).status();
        assert!(status.unwrap().success());
    };
    // Held: nobody answers in the other process.
    client.send(get("/later") + &get("/"));
    signal("-TERM");
    after("asked");
    signal("-INT");
    let mut status = None;
    eventually("it ends", || {
        status = server.0.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
}

/// Answers what it saw, as the corpus writes it.
struct Mirror {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Application for Mirror {
    fn body(&mut self, _: &Head<'_>) -> BodyPlan {
        BodyPlan::Collect { bytes_max: usize::MAX }
    }

    fn call(&mut self, head: &Head<'_>, body: &[u8], call: Call<'_, '_>) -> Answered {
        let seen = corpus::seen(head.method, head.path, head.query, body);
        self.seen.lock().unwrap().push(seen);
        call.reply(200, "text/plain", b"seen")
    }
}

#[test]
fn hostile_and_odd_requests_get_what_they_must() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&seen);
    let make = move |context: &ShardContext| Http::new(context, Mirror { seen: Arc::clone(&all) });
    let running = Server::new()
        .shards(1)
        .listen("127.0.0.1:0", AllowList::loopback(), make)
        .unwrap()
        .start()
        .unwrap();
    let address = running.addresses().next().unwrap();
    let cases = corpus::cases();
    assert!(cases.len() >= 190);
    for case in cases {
        for pieces in [usize::MAX, 1] {
            seen.lock().unwrap().clear();
            let mut client = Client::connect(address);
            let mut input = case.input.clone();
            let mut expected = case.requests.clone();
            match case.end {
                corpus::End::Open => {
                    input.extend_from_slice(corpus::AFTER);
                    expected.push("GET /after ".to_owned());
                }
                corpus::End::Closes | corpus::End::Refused(_) => {
                    input.extend_from_slice(corpus::SMUGGLED);
                }
                corpus::End::Waits => {}
            }
            // A long one in pieces of one byte is the codec's test, not ours.
            let piece_bytes = if pieces == 1 { (input.len() / 2000).max(1) } else { pieces };
            for piece in input.chunks(piece_bytes.min(input.len().max(1))) {
                // It may be refused before all of it is sent.
                if client.socket.write_all(piece).is_err() {
                    break;
                }
            }
            let _ = client.socket.shutdown(Shutdown::Write);
            for request in &expected {
                let method = request.split(' ').next().unwrap();
                let mut response = client.receive_to(method);
                while response.as_ref().is_some_and(|response| response.status == 100) {
                    response = client.receive_to(method);
                }
                let status = response.map(|response| response.status);
                assert_eq!(status, Some(200), "{}: {request}", case.name);
            }
            if let corpus::End::Refused(status) = case.end {
                let mut response = client.receive();
                while response.as_ref().is_some_and(|response| response.status == 100) {
                    response = client.receive();
                }
                let response = response.unwrap_or_else(|| panic!("{}: no answer", case.name));
                assert_eq!(response.status, status, "{}: {}", case.name, response.text());
                assert!(!response.keep_alive, "{}", case.name);
            }
            client.expect_end();
            assert_eq!(*seen.lock().unwrap(), expected, "{}", case.name);
        }
    }
    eventually("nobody is left", || running.connections() == 0);
}
