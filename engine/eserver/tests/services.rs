//! What services do beside answering: they wake by themselves, share what a shard has, reach
//! themselves on other shards, and hear when slow peers have read.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use eserver::http::{Answered, Application, Call, Head, Http, StreamTo};
use eserver::{AllowList, Conns, Limits, Post, Running, Server, ShardContext};

const PATIENCE: Duration = Duration::from_secs(20);

/// A site whose two listeners have one state.
struct Site {
    shared: Rc<Shared>,
    posts: Vec<Post>,
    shard: usize,
}

#[derive(Default)]
struct Shared {
    count: Cell<u32>,
    wake_at: Cell<Option<Instant>>,
    streams: RefCell<Vec<StreamTo>>,
    log: RefCell<Vec<String>>,
}

fn make(context: &ShardContext) -> Http<Site> {
    let shared = context.shared(Shared::default);
    Http::new(context, Site { shared, posts: context.posts(), shard: context.shard() })
}

impl Application for Site {
    fn call(&mut self, head: &Head<'_>, _: &[u8], mut call: Call<'_, '_>) -> Answered {
        let shared = &self.shared;
        match head.path {
            "/count" => {
                shared.count.set(shared.count.get() + 1);
                call.reply(200, "", shared.count.get().to_string().as_bytes())
            }
            // By the ticket, while the call is not over.
            "/given" => {
                let ticket = call.ticket();
                ticket.reply(&mut call.conns(), 200, |response| response.body(b"given"));
                call.given()
            }
            "/wake" => {
                shared.wake_at.set(Some(Instant::now() + Duration::from_millis(20)));
                self.stream(call)
            }
            "/pass" => {
                for (to, post) in self.posts.iter().enumerate() {
                    post.pass(Box::new(format!("{} to {to}", self.shard)));
                }
                self.stream(call)
            }
            // More than the peer takes; what is kept for it is told.
            "/flood" => {
                let ticket = call.ticket();
                let conns = &mut call.conns();
                let stream = ticket.stream(conns, 200, |_| {});
                let block = [b'x'; 64 * 1024];
                let mut blocks = 0;
                while conns.waiting_bytes(ticket.conn_id()) == Some(0) {
                    stream.chunk(conns, &block);
                    blocks += 1;
                    assert!(blocks < 1000, "nobody reads, but all of it is taken");
                }
                conns.tell_drained(ticket.conn_id());
                shared.streams.borrow_mut().push(stream);
                call.hold(7).1
            }
            _ => call.reply(404, "", b""),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.wake_at.get()
    }

    fn wake(&mut self, conns: &mut Conns<'_>) {
        self.shared.wake_at.set(None);
        self.finish(conns, "woken");
    }

    fn told(&mut self, message: Box<dyn Any + Send>, conns: &mut Conns<'_>) {
        let text = message.downcast::<String>().unwrap();
        self.finish(conns, &text);
    }

    fn drained(&mut self, slot: u32, conns: &mut Conns<'_>) {
        self.finish(conns, &format!("slot {slot} drained"));
    }

    fn released(&mut self, slot: u32) {
        self.shared.log.borrow_mut().push(format!("slot {slot} released"));
    }
}

impl Site {
    fn stream(&self, mut call: Call<'_, '_>) -> Answered {
        let ticket = call.ticket();
        let stream = ticket.stream(&mut call.conns(), 200, |_| {});
        self.shared.streams.borrow_mut().push(stream);
        call.hold(3).1
    }

    /// Ends what streams with these words.
    fn finish(&self, conns: &mut Conns<'_>, words: &str) {
        for stream in self.shared.streams.borrow_mut().drain(..) {
            conns.forget_slot(stream.to.conn());
            stream.chunk(conns, words.as_bytes());
            stream.finish(conns);
        }
    }
}

fn start(shards: usize) -> Running {
    let limits = Limits { outbox_bytes_max: 64 << 20, ..Limits::default() };
    let server = Server::new().shards(shards).limits(limits);
    let server = server.listen("127.0.0.1:0", AllowList::loopback(), make).unwrap();
    server.listen("127.0.0.1:0", AllowList::loopback(), make).unwrap().start().unwrap()
}

/// Sends a request and reads until the connection ends.
fn ask(running: &Running, listener: usize, path: &str) -> String {
    let mut socket = send(running, listener, path);
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn send(running: &Running, listener: usize, path: &str) -> TcpStream {
    let mut socket = TcpStream::connect(running.addresses().nth(listener).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    socket
}

#[test]
fn services_of_a_shard_share_a_value() {
    let running = start(1);
    for (nth, listener) in [0, 1, 1, 0].into_iter().enumerate() {
        let answer = ask(&running, listener, "/count");
        assert!(answer.ends_with(&format!("\r\n\r\n{}", nth + 1)), "{answer}");
    }
}

#[test]
fn an_answer_may_be_given_by_the_ticket_within_the_call() {
    let running = start(1);
    assert!(ask(&running, 0, "/given").ends_with("\r\n\r\ngiven"));
}

#[test]
fn a_deadline_wakes_a_service() {
    let running = start(1);
    let before = Instant::now();
    let answer = ask(&running, 0, "/wake");
    assert!(answer.contains("woken") && before.elapsed() >= Duration::from_millis(20), "{answer}");
}

#[test]
fn a_service_reaches_itself_on_every_shard() {
    let running = start(3);
    let answer = ask(&running, 1, "/pass");
    let shard = answer.split(" to ").nth(1).unwrap().chars().next().unwrap();
    assert!(answer.contains(&format!("{shard} to {shard}")), "its own comes back: {answer}");
}

#[test]
fn a_service_hears_when_a_slow_peer_has_read() {
    let running = start(1);
    let mut socket = send(&running, 0, "/flood");
    // The server has kept something by now, or will have: nothing is read before.
    assert!(ask(&running, 1, "/count").ends_with('1'));
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    let end = String::from_utf8_lossy(&answer[answer.len() - 100..]).into_owned();
    assert!(end.contains("slot 7 drained"), "{end}");
    drop(running);
}
