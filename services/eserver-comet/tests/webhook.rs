//! Webhooks: what is in the queue reaches the application, at least once and in order.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eserver::{Consumer, Feed, FeedFailed, Message, Taken, Turn};
use eserver_comet::{Webhook, WebhookSettings};
use serde_json::Value;

/// A queue in memory.
#[derive(Default)]
struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(u64, Vec<u8>)>,
    taken: Vec<(u64, Vec<u8>)>,
    done: Vec<u64>,
    next_id: u64,
    waker: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Memory {
    fn put(&self, payload: &str) {
        let mut state = self.state.lock().unwrap();
        state.next_id += 1;
        let id = state.next_id;
        state.waiting.push_back((id, payload.as_bytes().to_vec()));
        if let Some(waker) = &state.waker {
            waker();
        }
    }

    fn done(&self) -> Vec<u64> {
        self.state.lock().unwrap().done.clone()
    }
}

impl Feed for Memory {
    fn name(&self) -> &str {
        "webhooks"
    }

    fn epoch(&self) -> u64 {
        0xab
    }

    fn next_id(&self) -> u64 {
        1
    }

    fn turn(&self, turn: Turn, answer: Box<dyn FnOnce(Result<Taken, FeedFailed>) + Send>) {
        let mut taken = Taken::default();
        {
            let mut state = self.state.lock().unwrap();
            state.taken.retain(|(id, _)| !turn.done.contains(id));
            state.done.extend(&turn.done);
            while taken.len() < turn.messages_max {
                let Some((id, payload)) = state.waiting.pop_front() else { break };
                taken.push(Message { id, attempts: 1, payload: &payload });
                state.taken.push((id, payload));
            }
        }
        answer(Ok(taken));
    }

    fn wake_by(&self, waker: Box<dyn Fn() + Send + Sync>) {
        self.state.lock().unwrap().waker = Some(waker);
    }
}

/// One request of the caller: its head and its body.
fn accept(listener: &TcpListener) -> (TcpStream, String, String) {
    let (mut socket, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let mut block = [0; 4096];
    loop {
        let count = socket.read(&mut block).unwrap();
        assert_ne!(count, 0, "the request is whole");
        bytes.extend_from_slice(&block[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return (socket, head.to_owned(), body.to_owned());
        }
    }
}

fn answer(mut socket: &TcpStream, status: &str) {
    write!(socket, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
}

fn ids(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap();
    let events = body["events"].as_array().unwrap();
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn events_come_in_order_and_again_until_they_are_answered_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hooks?a=b", listener.local_addr().unwrap());
    let webhook = Webhook::new(WebhookSettings {
        url: url.parse().unwrap(),
        secret: "key".to_owned(),
        timeout: Duration::from_secs(30),
        batch_max: 2,
    });
    let queue = Arc::new(Memory::default());
    for channel in ["a", "b", "c"] {
        queue.put(&format!(r#"{{"type":"occupied","channel":"{channel}"}}"#));
    }
    let calling = webhook.start(Arc::clone(&queue) as _).unwrap();

    let (socket, head, body) = accept(&listener);
    assert!(head.starts_with("POST /hooks?a=b HTTP/1.1\r\n"), "{head}");
    assert_eq!(
        body,
        r#"{"events":[{"id":"ab-1","type":"occupied","channel":"a"},{"id":"ab-2","type":"occupied","channel":"b"}]}"#
    );
    // By `printf '%s' BODY | openssl dgst -sha256 -hmac key`.
    let signature = head.lines().find_map(|line| line.strip_prefix("Webhook-Signature: sha256="));
    assert_eq!(signature.map(str::len), Some(64));
    answer(&socket, "500 Internal Server Error");

    // It comes again, and once more when the application hangs up without a word.
    let (socket, _, again) = accept(&listener);
    assert_eq!(again, body);
    assert_eq!(queue.done(), [0; 0]);
    drop(socket);
    let (socket, again_head, again) = accept(&listener);
    assert_eq!((again, again_head), (body, head));
    assert_ne!(webhook.report().state, "running");
    answer(&socket, "204 No Content");

    let (socket, _, body) = accept(&listener);
    assert_eq!(ids(&body), ["ab-3"]);
    answer(&socket, "200 OK");
    queue.put(r#"{"type":"vacated","channel":"a"}"#);
    let (socket, _, body) = accept(&listener);
    assert_eq!((ids(&body), queue.done()), (vec!["ab-4".to_owned()], vec![1, 2, 3]));
    answer(&socket, "200 OK");
    drop(socket);
    calling.stop(Duration::from_secs(30));
    assert_eq!(queue.done(), [1, 2, 3, 4]);
    assert_eq!(webhook.report().numbers, [("delivered", 4), ("failed", 2)]);
}
