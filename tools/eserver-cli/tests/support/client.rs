//! A blocking client of the framed protocol: one connection, whole frames, a deadline on reads.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use eserver_wire::framed;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use super::PATIENCE;

/// One frame from the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) command: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON; a body that is none fails the test.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The text of `{"error": "…"}` in a command-0 reply; anything else fails the test.
    pub(crate) fn error(&self) -> String {
        assert_eq!(self.command, 0, "an error frame was due: {self:?}");
        match &self.json()["error"] {
            Value::String(text) => text.clone(),
            _ => panic!("an error frame says what was wrong: {self:?}"),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.body);
        write!(formatter, "{} {:.300}", self.command, text)
    }
}

/// A connection and the bytes that arrived but are not yet a whole frame.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    /// Connects or fails the test.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects, unless nobody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE)?)
    }

    /// Connects from another loopback address, which is another peer to the server.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
            .expect("a socket");
        socket
            .bind(&SocketAddr::new(source, 0).into())
            .unwrap_or_else(|error| panic!("bind {source}: {error}"));
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("connect from {source} to {address}: {error}"));
        Self::over(socket.into()).expect("socket options")
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// The socket itself, for what only a rude peer does.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits at most `limit` for bytes from now on.
    pub(crate) fn set_patience(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).expect("a read timeout above zero");
    }

    /// Writes bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Writes one frame.
    pub(crate) fn send(&mut self, command: u16, body: impl AsRef<[u8]>) -> io::Result<()> {
        self.send_raw(&frame(command, body))
    }

    /// Reads one frame; `None` when the server closed, in order or by reset, between two frames.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Reply>> {
        loop {
            if let Some(frame) = framed::decode(&self.received) {
                let reply = Reply { command: frame.command, body: frame.body.to_vec() };
                let taken = frame.encoded_bytes();
                self.received.drain(..taken);
                return Ok(Some(reply));
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) if self.received.is_empty() => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the frame that must come.
    pub(crate) fn reply(&mut self) -> Reply {
        match self.receive() {
            Ok(Some(reply)) => reply,
            Ok(None) => panic!("the server closed instead of replying"),
            Err(error) => panic!("no reply: {error}"),
        }
    }

    /// One frame there, one frame back; `None` when the connection is gone.
    pub(crate) fn try_ask(&mut self, command: u16, body: impl AsRef<[u8]>) -> Option<Reply> {
        self.send(command, body).ok()?;
        self.receive().ok()?
    }

    /// One frame there, one frame back.
    pub(crate) fn ask(&mut self, command: u16, body: impl AsRef<[u8]>) -> Reply {
        self.send(command, body).expect("the server reads");
        self.reply()
    }

    /// The same with a JSON value as body.
    pub(crate) fn ask_json(&mut self, command: u16, body: &Value) -> Reply {
        self.ask(command, body.to_string())
    }

    /// Enqueues SQL text in the default queue and insists on success.
    pub(crate) fn put(&mut self, sql: &str) {
        let reply = self.ask_json(8001, &json!({ "sql": sql }));
        assert_eq!(reply.command, 8001, "put {sql:.100}: {reply:?}");
        assert_eq!(reply.json(), json!({ "msg": "success" }));
    }

    /// Dequeues from the default queue; `None` when it is empty.
    pub(crate) fn pop(&mut self) -> Option<String> {
        popped(&self.ask(8002, ""))
    }

    /// Messages in the default queue.
    pub(crate) fn length(&mut self) -> u64 {
        let reply = self.ask(8003, "");
        assert_eq!(reply.command, 8003, "{reply:?}");
        reply.json().as_u64().unwrap_or_else(|| panic!("a length is a number: {reply:?}"))
    }

    /// Ends our side; the server's replies can still be read.
    pub(crate) fn end_writing(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Waits until the server closes without another byte.
    pub(crate) fn assert_closed(&mut self, why: &str) {
        match self.receive() {
            Ok(None) => {}
            Ok(Some(reply)) => panic!("{why}: closed in silence was due, not {reply:?}"),
            Err(error) => panic!("{why}: not closed: {error}"),
        }
    }
}

/// The text in the reply to a dequeue from the default queue; `None` when the queue was empty.
pub(crate) fn popped(reply: &Reply) -> Option<String> {
    match (reply.command, reply.json()) {
        (8002, Value::String(text)) => Some(text),
        (0, body) if body == json!({ "msg": "error" }) => None,
        _ => panic!("neither a message nor an empty queue: {reply:?}"),
    }
}

/// The bytes of one frame.
pub(crate) fn frame(command: u16, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    framed::encode(command, body.as_ref(), &mut bytes).expect("a body of at most 65,535 bytes");
    bytes
}
