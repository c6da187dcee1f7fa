//! A blocking client of HTTP: one connection, whole answers, a deadline on reads and writes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use eserver_wire::http::{Body, BodyDecoder, HeadLimits, ResponseHead};

use super::PATIENCE;

/// An answer and its whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names as they were sent.
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the server goes on after it.
    pub(crate) keep_alive: bool,
}

impl Answer {
    /// The body, which must be UTF-8.
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let named = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(name);
        self.fields.iter().find(named).map(|(_, value)| value.as_str())
    }
}

/// A connection, and the bytes that arrived but are not yet a whole answer.
pub(crate) struct HttpClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl HttpClient {
    /// Connects or fails the test.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects, unless nobody listens.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// The socket itself, for what only a rude peer does.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Ends our side; the server's answers can still be read.
    pub(crate) fn end_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write); // the server may have ended it already
    }

    /// Asks for `target` and reads the answer that must come.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }

    /// Sends a request without a body, with these header lines, each with its end; reads the answer
    /// that must come.
    pub(crate) fn ask(&mut self, method: &str, target: &str, fields: &str) -> Answer {
        self.send(request(method, target, fields)).expect("the server reads");
        self.answer(method)
    }

    /// Reads the answer to a request of this method that must come.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        match self.receive(method) {
            Ok(Some(answer)) => answer,
            Ok(None) => panic!("the server closed instead of answering"),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// Reads the next answer to a request of this method, whatever its status; `None` when the server
    /// closed between two answers.
    pub(crate) fn receive(&mut self, method: &str) -> io::Result<Option<Answer>> {
        let limits = HeadLimits { head_bytes_max: 1 << 20, ..HeadLimits::default() };
        let (mut answer, mut decoder, until_close) = loop {
            let head = ResponseHead::parse(&self.received, method, &limits);
            if let Some(head) = head.map_err(io::Error::other)? {
                let text = |(name, value): (&str, &[u8])| {
                    (name.to_owned(), String::from_utf8_lossy(value).into_owned())
                };
                let answer = Answer {
                    status: head.status,
                    fields: head.fields.iter().map(text).collect(),
                    body: Vec::new(),
                    keep_alive: head.keep_alive,
                };
                let (body, taken) = (head.body, head.encoded_bytes);
                self.received.drain(..taken);
                break (answer, BodyDecoder::new(body), body == Body::UntilClose);
            }
            match (self.read()?, self.received.is_empty()) {
                (true, _) => {}
                (false, true) => return Ok(None),
                (false, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        while !decoder.is_done() {
            if self.received.is_empty() && !self.read()? {
                if until_close {
                    break;
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let progress = decoder.decode(&self.received).map_err(io::Error::other)?;
            answer.body.extend_from_slice(&self.received[progress.data]);
            self.received.drain(..progress.used);
        }
        Ok(Some(answer))
    }

    /// The same without 100 and its like.
    pub(crate) fn receive_final(&mut self, method: &str) -> io::Result<Option<Answer>> {
        loop {
            match self.receive(method)? {
                Some(answer) if answer.status < 200 => {}
                answer => return Ok(answer),
            }
        }
    }

    /// Waits until the server closes without another byte.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self, why: &str) {
        match self.receive("GET") {
            Ok(None) => {}
            Ok(Some(answer)) => panic!("{why}: closed in silence was due, not {answer:?}"),
            Err(error) => panic!("{why}: not closed: {error}"),
        }
    }

    /// One more read; false at the end, in order or by reset.
    fn read(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The bytes of a request without a body, with these header lines, each with its end.
pub(crate) fn request(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}
