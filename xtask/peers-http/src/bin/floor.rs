//! `floor ADDRESS (REQUEST_BYTES | close) [deferred]`: what the kernel charges for any server.
//!
//! A bare loop over epoll that reads no request: so many bytes are one, and each gets the same
//! bytes back. With `close`, whatever comes is a request, and the connection ends after the answer;
//! it is never registered with epoll when the request was there on accepting.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use eserver_peers_http::{BODY, listen};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

/// Room for what one read brings.
const READ_BYTES: usize = 64 * 1024;

struct Floor {
    poll: Poll,
    listener: TcpListener,
    /// The length of a request; `None` when each connection has one.
    request_bytes: Option<usize>,
    /// The answers to as many requests as one read may bring.
    answers: Vec<u8>,
    answer_bytes: usize,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    /// Bytes of a request whose rest is still to come.
    begun_bytes: usize,
}

/// What becomes of a connection.
enum Course {
    Stays,
    Ends,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(address), Some(kind)) = (arguments.first(), arguments.get(1)) else {
        return Err("floor ADDRESS (REQUEST_BYTES | close) [deferred]".into());
    };
    let request_bytes = if kind == "close" { None } else { Some(kind.parse()?) };
    let is_deferred = arguments.iter().any(|argument| argument == "deferred");
    Floor::new(address.parse()?, request_bytes, is_deferred)?.run()?;
    Ok(())
}

impl Floor {
    fn new(
        address: SocketAddr,
        request_bytes: Option<usize>,
        is_deferred: bool,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listen(address, is_deferred)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let connection = if request_bytes.is_none() { "Connection: close\r\n" } else { "" };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{connection}\r\n\
             {BODY}",
            BODY.len()
        );
        let most = request_bytes.map_or(1, |bytes| READ_BYTES / bytes + 1);
        Ok(Self {
            poll,
            listener,
            request_bytes,
            answers: answer.as_bytes().repeat(most),
            answer_bytes: answer.len(),
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; READ_BYTES],
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(slot) => {
                        if let Some(mut connection) = self.connections[slot].take() {
                            match self.answer(&mut connection) {
                                Course::Stays => self.connections[slot] = Some(connection),
                                Course::Ends => self.free.push(slot),
                            }
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => continue,
            };
            let mut connection = Connection { socket, begun_bytes: 0 };
            if matches!(self.answer(&mut connection), Course::Ends) {
                continue;
            }
            let slot = self.free.pop().unwrap_or(self.connections.len());
            if slot == self.connections.len() {
                self.connections.push(None);
            }
            let interest = Interest::READABLE;
            self.poll.registry().register(&mut connection.socket, Token(slot), interest)?;
            self.connections[slot] = Some(connection);
        }
    }

    /// One read and one write.
    fn answer(&mut self, connection: &mut Connection) -> Course {
        let bytes = match connection.socket.read(&mut self.buffer) {
            Ok(0) => return Course::Ends,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Course::Stays,
            Err(_) => return Course::Ends,
        };
        let Some(request_bytes) = self.request_bytes else {
            let _ = connection.socket.write(&self.answers);
            return Course::Ends;
        };
        let begun_bytes = connection.begun_bytes + bytes;
        connection.begun_bytes = begun_bytes % request_bytes;
        let answers = &self.answers[..begun_bytes / request_bytes * self.answer_bytes];
        // The load waits for its answers, so they always fit into the socket's buffer.
        match connection.socket.write(answers) {
            Ok(written) if written == answers.len() => Course::Stays,
            _ => Course::Ends,
        }
    }
}
