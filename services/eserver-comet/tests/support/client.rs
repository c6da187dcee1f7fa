//! [`Client`]: a blocking HTTP client that shows everything: heads, chunks, ends. [`Subscriber`]:
//! one that listens.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::{PATIENCE, get};

/// One connection.
pub struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    fields: Vec<(String, String)>,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunks,
    UntilClose,
}

/// A response to its end.
#[derive(Debug)]
pub struct Response {
    pub head: Head,
    pub body: String,
}

/// A request that listens, after its head has come.
pub struct Subscriber {
    pub head: Head,
    client: Client,
    /// What has come of the body and was not looked at.
    body: String,
}

impl Head {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    pub fn is_chunked(&self) -> bool {
        self.framing == Framing::Chunks
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket, input: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// Says that nothing more will be sent.
    pub fn send_end(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.ask(&get(target))
    }

    /// Sends a request and waits for the answer.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> Response {
        self.send(request);
        self.answer_to(request.split(' ').next().unwrap())
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        self.answer_to("GET")
    }

    /// The next answer, to a request of this method.
    #[track_caller]
    pub fn answer_to(&mut self, method: &str) -> Response {
        let mut head = self.head();
        if method == "HEAD" || head.status == 204 {
            head.framing = Framing::Length(0);
        }
        let mut body = String::new();
        match head.framing {
            Framing::Length(length) => body = self.take(length),
            Framing::Chunks => {
                while let Some(chunk) = self.chunk() {
                    body.push_str(&chunk);
                }
            }
            Framing::UntilClose => {
                while self.read() {}
                body = self.take(self.input.len());
            }
        }
        Response { head, body }
    }

    /// The next head.
    #[track_caller]
    pub fn head(&mut self) -> Head {
        let head = self.until("\r\n\r\n");
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap();
        let status = first.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{first}"));
        let status = status[..3].parse().unwrap();
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut head = Head { status, fields, framing: Framing::UntilClose };
        if let Some(length) = head.field("Content-Length") {
            head.framing = Framing::Length(length.parse().unwrap());
        } else if head.field("Transfer-Encoding") == Some("chunked") {
            head.framing = Framing::Chunks;
        }
        head
    }

    /// The next chunk of a body, `None` for the last.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<String> {
        let size = self.until("\r\n");
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a chunk begins with a size");
        let chunk = self.take(size);
        assert_eq!(self.take(2), "\r\n", "a chunk ends a line");
        (size > 0).then_some(chunk)
    }

    /// Everything up to a text and the text.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        loop {
            let mut windows = self.input.windows(text.len());
            if let Some(at) = windows.position(|window| window == text.as_bytes()) {
                return self.take(at + text.len());
            }
            assert!(self.read(), "the server closed after {}", self.input.escape_ascii());
        }
    }

    /// So many bytes.
    #[track_caller]
    pub fn take(&mut self, count: usize) -> String {
        while self.input.len() < count {
            assert!(self.read(), "the server closed after {}", self.input.escape_ascii());
        }
        String::from_utf8(self.input.drain(..count).collect()).unwrap()
    }

    /// Whether nothing has come that was not looked at.
    pub fn is_silent(&mut self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = self.socket.read(&mut buffer) {
            self.input.extend_from_slice(&buffer[..count]);
        }
        self.socket.set_nonblocking(false).unwrap();
        self.input.is_empty()
    }

    /// The server has ended the connection, and sent nothing more.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert_eq!(self.input.escape_ascii().to_string(), "");
        assert!(!self.read(), "{}", self.input.escape_ascii());
    }

    /// The server has cut the connection off, or ended it. How many bytes it sent before.
    pub fn expect_cut(&mut self) -> usize {
        let mut buffer = [0; 65536];
        let mut got = self.input.len();
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return got,
                Ok(count) => got += count,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return got,
                Err(error) => panic!("it is still there: {error}"),
            }
        }
    }

    /// Listens on this connection, which has sent the request.
    #[track_caller]
    pub fn listen(mut self) -> Subscriber {
        let head = self.head();
        assert_eq!(head.status, 200);
        Subscriber { head, client: self, body: String::new() }
    }

    /// One more read; false at the end.
    #[track_caller]
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
}

impl Subscriber {
    /// The next line of the body.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut text = self.text_until("\n");
        text.pop();
        text
    }

    /// Everything in the body up to this text and the text.
    #[track_caller]
    pub fn text_until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.body.find(text) {
                let rest = self.body.split_off(at + text.len());
                return std::mem::replace(&mut self.body, rest);
            }
            match self.head.framing {
                Framing::Chunks => {
                    let chunk = self.client.chunk();
                    let chunk = chunk.unwrap_or_else(|| panic!("ended after {:?}", self.body));
                    self.body.push_str(&chunk);
                }
                _ => {
                    let byte = self.client.take(1);
                    self.body.push_str(&byte);
                }
            }
        }
    }

    /// Whether nothing has come that was not looked at.
    pub fn is_silent(&mut self) -> bool {
        self.body.is_empty() && self.client.is_silent()
    }

    /// The body is at its end, and the connection can be used again.
    #[track_caller]
    pub fn finished(mut self) -> Client {
        assert_eq!(self.body, "");
        match self.head.framing {
            Framing::Chunks => assert_eq!(self.client.chunk(), None),
            Framing::Length(_) | Framing::UntilClose => self.client.expect_end(),
        }
        self.client
    }

    /// The rest of a body in chunks, whose end has come, and the connection.
    #[track_caller]
    pub fn rest(mut self) -> (String, Client) {
        assert!(self.head.is_chunked());
        while let Some(chunk) = self.client.chunk() {
            self.body.push_str(&chunk);
        }
        (self.body, self.client)
    }

    /// The connection, in the midst of the answer.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}
