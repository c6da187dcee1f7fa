//! [`Listener`]: somebody on a channel, by server-sent events or by WebSocket, who sees what an end in
//! order is and what is not. Crowds of them are read by a few threads.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use eserver_wire::ws::{Event, Inbound, Role, Rules, Scratch, Step};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::PATIENCE;
use super::http::{HttpClient, request};

/// How it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Events,
    Socket,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// A JSON object, and the cursor that stands beside it in a stream of events.
    Object(String, Option<String>),
    /// When to come again, in milliseconds; a WebSocket is told in an object.
    Retry(u64),
    /// A WebSocket is closed: the code and the reason.
    Closed(u16, String),
}

/// How to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coming<'a> {
    pub(crate) way: Way,
    pub(crate) channel: &'a str,
    /// Where it was, if it was there before.
    pub(crate) cursor: Option<&'a str>,
    /// Where it comes from: an address has no more than 28,000 ports.
    pub(crate) from: Ipv4Addr,
    /// How many bytes the kernel may keep that it has not read, if that is not the kernel's choice.
    pub(crate) receive_bytes: Option<usize>,
}

impl<'a> Coming<'a> {
    pub(crate) fn to(way: Way, channel: &'a str) -> Self {
        Coming { way, channel, cursor: None, from: Ipv4Addr::LOCALHOST, receive_bytes: None }
    }
}

/// A subscription.
pub(crate) struct Listener {
    pub(crate) stream: TcpStream,
    way: Way,
    received: Vec<u8>,
    /// How many of these bytes were looked at.
    taken: usize,
    /// The head of the answer has come.
    has_begun: bool,
    /// The answer has come to the end that its form has.
    pub(crate) has_ended: bool,
    /// The cursor of the event that comes next.
    id: Option<String>,
    inbound: Inbound,
    scratch: Scratch,
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

const RULES: Rules = Rules { role: Role::Client, deflate: false, message_bytes_max: 1 << 24 };

impl Listener {
    /// Connects and asks; what is answered has not come.
    pub(crate) fn open(address: SocketAddr, coming: Coming<'_>) -> Self {
        let Coming { way, channel, cursor, from, receive_bytes } = coming;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).expect("an open socket");
        }
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("a loopback address");
        socket.connect(&address.into()).unwrap_or_else(|error| panic!("connect: {error}"));
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let asked = match (way, cursor) {
            (Way::Events, cursor) => {
                let field = cursor.map(|cursor| format!("Last-Event-ID: {cursor}\r\n"));
                let target = format!("/v1/events?channel={channel}");
                request("GET", &target, field.as_deref().unwrap_or_default())
            }
            (Way::Socket, cursor) => {
                let cursor = cursor.map(|cursor| format!("&cursor={cursor}"));
                let cursor = cursor.unwrap_or_default();
                request("GET", &format!("/v1/socket?channel={channel}{cursor}"), UPGRADE)
            }
        };
        stream.write_all(asked.as_bytes()).expect("a request always fits");
        Listener {
            stream,
            way,
            received: Vec::new(),
            taken: 0,
            has_begun: false,
            has_ended: false,
            id: None,
            inbound: Inbound::default(),
            scratch: Scratch::default(),
        }
    }

    /// The next thing it is told; `None` when the connection has ended.
    pub(crate) fn told(&mut self) -> Option<Told> {
        loop {
            if !self.has_begun {
                self.begin();
            }
            let told = match self.way {
                _ if !self.has_begun => None,
                Way::Events => self.event(),
                Way::Socket => self.frame(),
            };
            if told.is_some() {
                return told;
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// The next object, whatever else is told before; with its cursor, which a WebSocket has in it.
    #[track_caller]
    pub(crate) fn object(&mut self) -> (String, Option<String>) {
        loop {
            match self.told() {
                Some(Told::Object(object, id)) => {
                    let cursor = id.or_else(|| text(&object, "cursor"));
                    return (object, cursor);
                }
                Some(Told::Retry(_)) => {}
                other => panic!("it goes on, not {other:?}"),
            }
        }
    }

    /// The number of the next message, whatever else is told before.
    #[track_caller]
    pub(crate) fn message(&mut self) -> u64 {
        loop {
            let (object, _) = self.object();
            if kind(&object) == "message" {
                return number(&object, "offset");
            }
        }
    }

    fn begin(&mut self) {
        let end = self.received.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else { return };
        let head = String::from_utf8_lossy(&self.received[..end]);
        let status = if self.way == Way::Socket { "HTTP/1.1 101 " } else { "HTTP/1.1 200 " };
        assert!(head.starts_with(status), "{head}");
        self.taken = end + 4;
        self.has_begun = true;
    }

    /// The next of what whole lines tell. A chunk holds whole events: its length is a line like those.
    fn event(&mut self) -> Option<Told> {
        loop {
            let rest = &self.received[self.taken..];
            let length = rest.split(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
            if length == rest.len() {
                return None;
            }
            let line = String::from_utf8_lossy(&rest[..length]).trim_end().to_owned();
            self.taken += length + 1;
            if let Some(json) = line.strip_prefix("data: ") {
                return Some(Told::Object(json.to_owned(), self.id.take()));
            } else if let Some(id) = line.strip_prefix("id: ") {
                self.id = Some(id.to_owned());
            } else if let Some(milliseconds) = line.strip_prefix("retry: ") {
                return Some(Told::Retry(milliseconds.parse().expect("a number")));
            } else if line == "0" {
                self.has_ended = true;
            }
        }
    }

    fn frame(&mut self) -> Option<Told> {
        loop {
            let rest = &self.received[self.taken..];
            let step = self.inbound.take(rest, RULES, &mut self.scratch).expect("frames");
            let Step::Frame(bytes, event) = step else { return None };
            self.taken += bytes;
            match event {
                Some(Event::Text(text)) => return Some(Told::Object(text.to_owned(), None)),
                Some(Event::Close(close)) => {
                    self.has_ended = true;
                    let (code, reason) = close.expect("a close says why");
                    return Some(Told::Closed(code.get(), reason.to_owned()));
                }
                _ => {}
            }
        }
    }

    /// One more read; false at the end, in order or by reset.
    fn read(&mut self) -> bool {
        self.received.drain(..self.taken);
        self.taken = 0;
        let before = self.received.len();
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(count) => self.received.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("nothing more is told: {error}"),
        }
        self.received.len() > before
    }
}

/// The type of an object.
pub(crate) fn kind(object: &str) -> String {
    text(object, "type").unwrap_or_else(|| panic!("no type in {object}"))
}

/// The number of this key in an object. Objects are not parsed: there are too many of them.
#[track_caller]
pub(crate) fn number(object: &str, key: &str) -> u64 {
    let rest = after(object, &format!("\"{key}\":")).unwrap_or_else(|| panic!("{key}: {object}"));
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("{key} is a number: {object}"))
}

/// The plain text of this key in an object.
pub(crate) fn text(object: &str, key: &str) -> Option<String> {
    let rest = after(object, &format!("\"{key}\":\""))?;
    rest.split('"').next().map(str::to_owned)
}

fn after<'a>(object: &'a str, sign: &str) -> Option<&'a str> {
    object.split_once(sign).map(|(_, rest)| rest)
}

/// Publishes a body on a connection to the admin port: the number that it got, and how many listened.
pub(crate) fn publish(admin: &mut HttpClient, channel: &str, body: &str) -> (u64, u64) {
    ask_to_publish(admin, channel, body);
    let answer = admin.answer("POST");
    assert_eq!(answer.status, 200, "{}", answer.text());
    (number(answer.text(), "offset"), number(answer.text(), "subscribers"))
}

/// The same without waiting for the answer.
pub(crate) fn ask_to_publish(admin: &mut HttpClient, channel: &str, body: &str) {
    let field = format!("Content-Length: {}\r\n", body.len());
    let head = request("POST", &format!("/v1/channels/{channel}/messages"), &field);
    admin.send(head + body).expect("it reads");
}

/// How many listen to a channel.
pub(crate) fn subscribers(admin: &mut HttpClient, channel: &str) -> u64 {
    let answer = admin.get(&format!("/v1/channels/{channel}"));
    if answer.status == 404 { 0 } else { number(answer.text(), "subscribers") }
}

/// Lets this process hold `needed` descriptors, and the servers that it starts, or says who could allow
/// it.
pub(crate) fn raise_descriptor_limit(needed: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("our own limit");
    if soft < needed {
        let raised = hard >= needed && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
        assert!(raised, "{needed} descriptors are needed: ulimit -Hn {needed}");
    }
}
