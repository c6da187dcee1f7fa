//! Framed services over real sockets: order, spilling, half-closing, limits, deadlines, shutdown.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use eserver::framed::{Answered, App, Application, Call, Frame, Framed, Reply, Responder};
use eserver::{AllowList, Limits, Post, ReplyTo, Running, Server, ShardContext, StartError};
use eserver_wire::framed;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(limits: Limits, app: &App) -> (Running, SocketAddr) {
    let all = AllowList::try_from(&["127.0.0.0/8"][..]).unwrap();
    let running = Server::new()
        .shards(2)
        .limits(limits)
        .listen("127.0.0.1:0", all, app.service())
        .unwrap()
        .start()
        .unwrap();
    let address = running.addresses().next().unwrap();
    (running, address)
}

/// 1 echoes at once, 2 echoes asynchronously without waiting, 3 echoes after a wait on the runtime,
/// 4 panics, 5 answers with as many bytes as the body says.
fn echo() -> App {
    let mut app = App::new();
    app.command(1, |request| Reply::new(1, request.body.to_vec()));
    app.command_async(2, async |request| Reply::new(2, request.body));
    app.command_async(3, async |request| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Reply::new(3, request.body)
    });
    app.command(4, |_| panic!("on purpose"));
    app.command(5, |request| {
        let count = std::str::from_utf8(request.body).unwrap().parse().unwrap();
        Reply::new(5, vec![b'x'; count])
    });
    app
}

struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket, input: Vec::new() }
    }

    fn send(&mut self, command: u16, body: &[u8]) {
        let mut bytes = Vec::new();
        framed::encode(command, body, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next frame, or `None` when the server has closed.
    fn receive(&mut self) -> Option<(u16, Vec<u8>)> {
        loop {
            if let Some(frame) = framed::decode(&self.input) {
                let (taken, frame) = (frame.encoded_bytes(), (frame.command, frame.body.to_vec()));
                self.input.drain(..taken);
                return Some(frame);
            }
            let mut buffer = [0; 65536];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    fn ask(&mut self, command: u16, body: &[u8]) -> (u16, Vec<u8>) {
        self.send(command, body);
        self.receive().expect("the server closed instead of answering")
    }
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
fn each_kind_of_handler_answers() {
    let (_running, address) = start(Limits::default(), &echo());
    let mut client = Client::connect(address);
    for command in [1, 2, 3] {
        assert_eq!(client.ask(command, b"hello"), (command, b"hello".to_vec()));
    }
    assert_eq!(client.ask(9, b""), (0, br#"{"error":"cmd not defined"}"#.to_vec()));
    assert_eq!(client.ask(4, b""), (0, br#"{"error":"the command failed"}"#.to_vec()));
    assert_eq!(client.ask(1, b"still here"), (1, b"still here".to_vec()));
}

#[test]
fn answers_leave_in_the_order_of_requests() {
    let (_running, address) = start(Limits::default(), &echo());
    let mut client = Client::connect(address);
    let mut wire = Vec::new();
    // Waiting ones first and between, far more than may be in flight at once.
    for n in 0..3000_u32 {
        framed::encode([3, 1, 2][n as usize % 3], &n.to_be_bytes(), &mut wire).unwrap();
    }
    let mut socket = client.socket.try_clone().unwrap();
    let writer = std::thread::spawn(move || socket.write_all(&wire).unwrap());
    for n in 0..3000_u32 {
        let expected = ([3, 1, 2][n as usize % 3], n.to_be_bytes().to_vec());
        assert_eq!(client.receive(), Some(expected));
    }
    writer.join().unwrap();
}

#[test]
fn frames_arrive_byte_by_byte_and_in_any_pieces() {
    let (running, address) = start(Limits::default(), &echo());
    let mut client = Client::connect(address);
    client.socket.set_nodelay(true).unwrap();
    let mut wire = Vec::new();
    framed::encode(1, b"abc", &mut wire).unwrap();
    framed::encode(1, b"", &mut wire).unwrap();
    for cut in 0..wire.len() {
        let before = running.counters().bytes_in;
        client.socket.write_all(&wire[..cut]).unwrap();
        eventually("the first piece is read", || {
            running.counters().bytes_in == before + cut as u64
        });
        client.socket.write_all(&wire[cut..]).unwrap();
        assert_eq!(client.receive(), Some((1, b"abc".to_vec())), "cut at {cut}");
        assert_eq!(client.receive(), Some((1, Vec::new())), "cut at {cut}");
    }
    for byte in &wire {
        client.socket.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.receive(), Some((1, b"abc".to_vec())));
    assert_eq!(client.receive(), Some((1, Vec::new())));
}

#[test]
fn who_ends_its_own_side_still_reads_the_answers() {
    let (running, address) = start(Limits::default(), &echo());
    let mut client = Client::connect(address);
    client.send(3, b"slow");
    client.send(1, b"quick");
    client.socket.write_all(&[0, 1, 0]).unwrap(); // and an unfinished frame
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.receive(), Some((3, b"slow".to_vec())));
    assert_eq!(client.receive(), Some((1, b"quick".to_vec())));
    assert_eq!(client.receive(), None);
    eventually("the record is gone", || running.connections() == 0);
}

#[test]
fn the_longest_frames_pass_and_a_slow_reader_gets_them_all() {
    let (_running, address) = start(Limits::default(), &echo());
    let mut client = Client::connect(address);
    for _ in 0..200 {
        client.send(5, b"65535"); // 13 MB of answers, while nothing is read
    }
    for n in 0..200 {
        let (command, body) = client.receive().unwrap();
        assert_eq!((command, body.len()), (5, 65_535), "answer {n}");
    }
    let body = vec![b'y'; 65_535];
    assert_eq!(client.ask(1, &body), (1, body));
    let (command, error) = client.ask(5, b"65536");
    assert_eq!(command, 0);
    assert!(String::from_utf8(error).unwrap().contains("65535"), "the bound is named");
}

#[test]
fn a_reader_that_never_reads_is_ended_and_costs_little() {
    let limits = Limits { write_timeout: Duration::from_millis(300), ..Limits::default() };
    let (running, address) = start(limits, &echo());
    let mut client = Client::connect(address);
    let mut frame = Vec::new();
    framed::encode(5, b"65535", &mut frame).unwrap();
    let before = running.counters();
    // Asks on and on: the server stops reading, and after a while it gives up on us.
    client.socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let (deadline, mut sent) = (Instant::now() + PATIENCE, 0);
    loop {
        match client.socket.write(&frame[sent % frame.len()..]) {
            Ok(count) => sent += count,
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {}
            Err(_) => break,
        }
        assert!(Instant::now() < deadline, "the server neither reads nor gives up");
    }
    let answered = running.counters().requests - before.requests;
    assert!(answered < 2_000, "{answered} answers were made for a peer that reads none");
    let other = Client::connect(address).ask(1, b"others do not notice");
    assert_eq!(other.0, 1);
    assert_eq!(running.counters().slow_readers, 1);
}

#[test]
fn later_answers_come_from_any_thread_and_stale_ones_miss() {
    let (keep, kept) = mpsc::channel::<Responder>();
    let keep = Mutex::new(keep);
    let mut app = echo();
    app.command(6, move |request| {
        let (responder, reply) = request.later();
        keep.lock().unwrap().send(responder).unwrap();
        reply
    });
    let (running, address) = start(Limits::default(), &app);

    let mut client = Client::connect(address);
    client.send(6, b"");
    let responder = kept.recv_timeout(PATIENCE).unwrap();
    let id = responder.conn_id();
    responder.reply(Reply::new(6, "from another thread"));
    assert_eq!(client.receive(), Some((6, b"from another thread".to_vec())));

    let mut push = Vec::new();
    framed::encode(77, b"unasked", &mut push).unwrap();
    assert!(running.post(id).unwrap().send(id, push.clone()));
    assert_eq!(client.receive(), Some((77, b"unasked".to_vec())));

    client.send(6, b"");
    let responder = kept.recv_timeout(PATIENCE).unwrap();
    running.post(id).unwrap().close(id);
    responder.reply(Reply::new(6, "the last word"));
    assert_eq!(client.receive(), Some((6, b"the last word".to_vec())));
    assert_eq!(client.receive(), None, "closed after what was owed");
    let mut stranger = Client::connect(address);
    assert_eq!(stranger.ask(1, b"me"), (1, b"me".to_vec()));
    assert!(running.post(id).unwrap().send(id, push));
    eventually("it is counted", || running.counters().stale_replies == 1);
    assert_eq!(stranger.ask(1, b"only mine"), (1, b"only mine".to_vec()));

    stranger.send(6, b"");
    drop(kept.recv_timeout(PATIENCE).unwrap());
    assert_eq!(stranger.receive(), None, "a dropped responder ends the connection");
}

#[test]
fn limits_refuse_in_words_and_spare_the_others() {
    let limits = Limits { connections_per_address_max: 3, connections_max: 4, ..Limits::default() };
    let (running, address) = start(limits, &echo());
    let mut held: Vec<_> = (0..3).map(|_| Client::connect(address)).collect();
    for client in &mut held {
        assert_eq!(client.ask(1, b"in"), (1, b"in".to_vec()));
    }
    let (command, words) = Client::connect(address).receive().unwrap();
    assert_eq!(command, 0);
    assert!(String::from_utf8(words).unwrap().contains("from your address: at most 3"));

    let mut other = connect_from([127, 0, 0, 2].into(), address);
    assert_eq!(other.ask(1, b"other"), (1, b"other".to_vec()));
    let (command, words) = connect_from([127, 0, 0, 3].into(), address).receive().unwrap();
    assert_eq!(command, 0);
    assert!(String::from_utf8(words).unwrap().contains("at most 4"));

    drop(held.pop());
    eventually("room is made", || running.connections() == 3);
    assert_eq!(Client::connect(address).ask(1, b"again"), (1, b"again".to_vec()));
    assert_eq!(running.counters().refused, 2);
}

fn connect_from(source: IpAddr, address: SocketAddr) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.connect(&address.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Client { socket, input: Vec::new() }
}

#[test]
fn strangers_are_closed_without_a_byte() {
    let running = Server::new()
        .listen("127.0.0.1:0", AllowList::loopback(), echo().service())
        .unwrap()
        .start()
        .unwrap();
    let address = running.addresses().next().unwrap();
    assert_eq!(connect_from([127, 0, 0, 9].into(), address).receive(), None);
    assert_eq!(Client::connect(address).ask(1, b"in"), (1, b"in".to_vec()));
    assert_eq!(running.counters().not_allowed, 1);
}

#[test]
fn silence_and_dawdling_end_in_time() {
    let limits = Limits {
        request_head_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(900),
        ..Limits::default()
    };
    let (running, address) = start(limits, &echo());
    let mut silent = Client::connect(address);
    let mut dawdler = Client::connect(address);
    dawdler.socket.write_all(&[0, 1, 0]).unwrap();
    let mut waiting = Client::connect(address);
    let (command, words) = dawdler.receive().unwrap();
    assert_eq!(command, 0);
    assert!(String::from_utf8(words).unwrap().contains("within 0.3 s"));
    assert_eq!(dawdler.receive(), None);
    assert_eq!(waiting.ask(3, b"x").0, 3, "a short wait is not idleness");
    assert_eq!(silent.receive(), None);
    let counters = running.counters();
    assert_eq!(counters.request_timeouts, 1);
    assert!(counters.idle_timeouts >= 1);
}

#[test]
fn shutdown_answers_what_is_in_flight() {
    let (keep, kept) = mpsc::channel::<Responder>();
    let keep = Mutex::new(keep);
    let mut app = echo();
    app.command(6, move |request| {
        let (responder, reply) = request.later();
        keep.lock().unwrap().send(responder).unwrap();
        reply
    });
    let (running, address) = start(Limits::default(), &app);
    let mut idle = Client::connect(address);
    assert_eq!(idle.ask(1, b""), (1, Vec::new()));
    let mut waiting = Client::connect(address);
    waiting.send(6, b"");
    let responder = kept.recv_timeout(PATIENCE).unwrap();

    let ending = std::thread::spawn(move || running.shutdown(PATIENCE));
    assert_eq!(idle.receive(), None, "who waits for nothing is let go");
    assert!(!ending.is_finished());
    responder.reply(Reply::new(6, "finished"));
    assert_eq!(waiting.receive(), Some((6, b"finished".to_vec())));
    assert_eq!(waiting.receive(), None);
    assert_eq!(ending.join().unwrap().cut_off, 0, "nobody was cut off");
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

/// Answers nothing before its turn has ended, as services do that work in batches.
struct Batcher {
    post: Post,
    waiting: Vec<ReplyTo>,
}

impl Application for Batcher {
    fn call(&mut self, frame: Frame<'_>, call: Call<'_, '_>) -> Answered {
        if frame.command == 8 {
            // Holds the shard, so that others' requests are still unread when it is told to end.
            std::thread::sleep(Duration::from_millis(300));
        }
        let (to, answered) = call.later();
        self.waiting.push(to);
        answered
    }

    fn turn_ended(&mut self) {
        for to in self.waiting.drain(..) {
            let mut bytes = Vec::new();
            framed::encode(1, b"batched", &mut bytes).unwrap();
            self.post.reply(to, bytes);
        }
    }
}

#[test]
fn shutdown_answers_what_it_reads_while_it_drains() {
    let make =
        |context: &ShardContext| Framed(Batcher { post: context.post(), waiting: Vec::new() });
    let running = Server::new()
        .shards(1)
        .listen("127.0.0.1:0", AllowList::loopback(), make)
        .unwrap()
        .start()
        .unwrap();
    let address = running.addresses().next().unwrap();
    let mut others: Vec<_> = (0..600).map(|_| Client::connect(address)).collect();
    assert_eq!(others[0].ask(1, b"").1, b"batched");
    let mut holder = Client::connect(address);
    holder.send(8, b"");
    eventually("the shard is held", || running.counters().requests == 2);
    for client in &mut others {
        client.send(1, b"");
    }
    // Newcomers too, more than one turn accepts: the kernel has let them in.
    others.extend((0..600).map(|_| {
        let mut client = Client::connect(address);
        client.send(1, b"");
        client
    }));
    let started = Instant::now();
    let ended = running.shutdown(PATIENCE);
    assert_eq!(ended.cut_off, 0);
    assert!(started.elapsed() < PATIENCE / 2, "it slept over answers");
    for client in others.iter_mut().chain([&mut holder]) {
        assert_eq!(client.receive(), Some((1, b"batched".to_vec())));
        assert_eq!(client.receive(), None);
    }
}

#[test]
fn a_newcomer_s_first_answers_may_be_more_than_its_socket_takes() {
    let mut app = echo();
    app.command(8, |_| {
        std::thread::sleep(Duration::from_millis(300));
        Reply::new(8, "")
    });
    let running = Server::new()
        .shards(1)
        .listen("127.0.0.1:0", AllowList::loopback(), app.service())
        .unwrap()
        .start()
        .unwrap();
    let address = running.addresses().next().unwrap();
    let mut holder = Client::connect(address);
    holder.send(8, b"");
    eventually("the shard is held", || running.counters().requests == 1);
    // While nobody accepts: it is then read at once, before epoll knows it.
    let mut newcomer = Client::connect(address);
    for _ in 0..200 {
        newcomer.send(5, b"65535");
    }
    for n in 0..200 {
        let (command, body) = newcomer.receive().unwrap_or_else(|| panic!("reset at answer {n}"));
        assert_eq!((command, body.len()), (5, 65_535), "answer {n}");
    }
}

#[test]
fn who_asks_much_and_ends_its_side_is_answered_and_let_go() {
    let (running, address) = start(Limits::default(), &echo());
    for _ in 0..3 {
        let client = Client::connect(address);
        let mut frame = Vec::new();
        framed::encode(9, b"", &mut frame).unwrap();
        let wire = frame.repeat(300_000);
        let mut socket = client.socket.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            socket.write_all(&wire).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        });
        let mut answers = Vec::new();
        (&client.socket).read_to_end(&mut answers).expect("the end comes");
        writer.join().unwrap();
        let mut expected = Vec::new();
        framed::encode(0, br#"{"error":"cmd not defined"}"#, &mut expected).unwrap();
        assert_eq!(answers.len(), 300_000 * expected.len());
    }
    eventually("all records are gone", || running.connections() == 0);
}

#[test]
fn shutdown_cuts_off_after_its_patience() {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let mut app = App::new();
    app.command(6, move |request| {
        let (responder, reply) = request.later();
        keep.lock().unwrap().push(responder);
        reply
    });
    let (running, address) = start(Limits::default(), &app);
    let mut waiting = Client::connect(address);
    waiting.send(6, b"");
    eventually("the request is in flight", || kept.lock().unwrap().len() == 1);
    assert_eq!(running.shutdown(Duration::from_millis(50)).cut_off, 1);
    assert_eq!(waiting.receive(), None);
}

#[test]
fn a_taken_port_is_one_clear_error() {
    let (_running, address) = start(Limits::default(), &echo());
    let Err(error) =
        Server::new().listen(address, AllowList::loopback(), echo().service()).unwrap().start()
    else {
        panic!("two servers share {address}");
    };
    assert_eq!(
        error.to_string(),
        format!("{address} is in use: another server or service listens there")
    );
}

#[test]
fn thousands_wait_at_once() {
    let (running, address) = start(Limits::default(), &echo());
    let mut clients: Vec<_> = (0..2000).map(|_| Client::connect(address)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(3, &n.to_be_bytes());
    }
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.receive(), Some((3, n.to_be_bytes().to_vec())));
    }
    drop(clients);
    eventually("all have gone", || running.connections() == 0);
}

#[test]
fn two_services_cannot_have_one_address() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let listen = |server: Server| {
        server.listen(address, AllowList::loopback(), App::new().service()).expect("an address")
    };
    let started = listen(listen(Server::new())).start();
    assert!(matches!(started, Err(StartError::AddressInUse(taken)) if taken == address));
}
