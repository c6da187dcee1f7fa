//! [`Client`]: one connection to a server, whole frames, and a sentence for everything that fails.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow};
use eserver_wire::framed::{self, BODY_BYTES_MAX};
use serde_json::Value;

use super::answer::Answer;
use crate::exit::{Exit, OrExit};

/// Bytes asked from the socket at once.
const READ_BYTES: usize = 64 * 1024;

/// A connection, and what arrived on it but is not a whole frame yet.
#[derive(Debug)]
pub(super) struct Client {
    stream: TcpStream,
    address: String,
    timeout: Duration,
    received: Vec<u8>,
    /// Whether the server has answered anything on this connection.
    answered: bool,
}

impl Client {
    /// Connects to the first address behind `address` that answers within `timeout`.
    ///
    /// # Errors
    /// A sentence that says what to try next; the process exits with [`Exit::Unavailable`].
    pub(super) fn connect(address: &str, timeout: Duration) -> anyhow::Result<Self> {
        let candidates: Vec<_> = address
            .to_socket_addrs()
            .with_context(|| format!("--addr takes HOST:PORT, and {address:?} leads nowhere"))
            .or_exit(Exit::Unavailable)?
            .collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in candidates {
            match TcpStream::connect_timeout(&candidate, timeout) {
                Ok(stream) => return Self::over(stream, address, timeout),
                Err(error) => failure = error,
            }
        }
        Err(unreachable(address, failure)).or_exit(Exit::Unavailable)
    }

    fn over(stream: TcpStream, address: &str, timeout: Duration) -> anyhow::Result<Self> {
        let options = || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))
        };
        options().context("cannot set up the connection").or_exit(Exit::Unavailable)?;
        let address = address.to_owned();
        Ok(Client { stream, address, timeout, received: Vec::new(), answered: false })
    }

    /// Sends one request and reads its answer.
    pub(super) fn ask(&mut self, command: u16, body: &Value) -> anyhow::Result<Answer> {
        let mut frame = Vec::new();
        encode(command, body, &mut frame)?;
        self.send(&frame)?;
        self.answer(command)
    }

    /// Sends whole frames; their answers are to be read in the same order.
    pub(super) fn send(&mut self, frames: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(frames).map_err(|error| self.broken(error)).or_exit(Exit::Unavailable)
    }

    /// Reads the answer to the oldest request that has none yet.
    pub(super) fn answer(&mut self, asked: u16) -> anyhow::Result<Answer> {
        let mut chunk = [0; READ_BYTES];
        loop {
            if let Some(frame) = framed::decode(&self.received) {
                let taken = frame.encoded_bytes();
                let answer = Answer::read(asked, frame, &self.address);
                self.received.drain(..taken);
                self.answered = true;
                return answer;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(self.closed()).or_exit(Exit::Unavailable),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)).or_exit(Exit::Unavailable),
            }
        }
    }

    fn closed(&self) -> anyhow::Error {
        if self.answered {
            return anyhow!(
                "{} closed the connection: the server has ended. What it had not answered may be \
                 stored or not",
                self.address
            );
        }
        anyhow!(
            "{} closed the connection without an answer: this machine's address may be missing in \
             the server's queue.allow, or the server is stopping",
            self.address
        )
    }

    fn broken(&self, error: io::Error) -> anyhow::Error {
        match error.kind() {
            // What a timeout is called depends on the platform.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => anyhow!(
                "no answer from {} within {} s: --timeout waits longer",
                self.address,
                self.timeout.as_secs()
            ),
            // A server that refuses us closes at once, and we may notice it while writing.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => self.closed(),
            _ => anyhow::Error::new(error).context(format!("the connection to {}", self.address)),
        }
    }
}

/// Appends one frame.
///
/// # Errors
/// When the body does not fit into a frame.
pub(super) fn encode(command: u16, body: &Value, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let body = body.to_string();
    framed::encode(command, body.as_bytes(), out).map_err(|_| {
        anyhow!("the message is too long: {} bytes, and at most {BODY_BYTES_MAX} fit", body.len())
    })
}

fn unreachable(address: &str, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => anyhow!(
            "nothing listens on {address}: start a server with `eserver serve`, or name another \
             one with --addr"
        ),
        io::ErrorKind::TimedOut => {
            anyhow!("{address} does not answer: check the address, and firewalls on the way")
        }
        _ => anyhow::Error::new(error).context(format!("cannot connect to {address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::{Shutdown, TcpListener};

    /// Asks once, of a server that then writes the pieces of a reply and closes.
    fn ask(pieces: &[&[u8]]) -> anyhow::Result<Answer> {
        with_client(pieces, |client| client.ask(8003, &json!({})))
    }

    /// Does `asking` to a server that reads one request, writes the pieces, and closes.
    fn with_client<T>(
        pieces: &[&[u8]],
        asking: impl FnOnce(&mut Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut peer, _) = listener.accept().unwrap();
                let mut request = [0; 6];
                peer.read_exact(&mut request).unwrap();
                assert_eq!(&request, b"\x1f\x43\x00\x02{}");
                for piece in pieces {
                    peer.write_all(piece).unwrap();
                }
                peer.shutdown(Shutdown::Write).unwrap();
                // The client closes when it has seen enough.
                let _ = peer.read(&mut request);
            });
            let mut client = Client::connect(&address, Duration::from_secs(60))?;
            asking(&mut client)
        })
    }

    #[test]
    fn an_answer_is_read_however_it_arrives() {
        let answer = Answer::Done(json!(7));
        assert_eq!(ask(&[b"\x1f\x43\x00\x017"]).unwrap(), answer);
        assert_eq!(ask(&[b"\x1f", b"\x43\x00", b"\x01", b"7"]).unwrap(), answer);
        assert_eq!(ask(&[b"\x1f\x43\x00\x017\x1f\x43"]).unwrap(), answer);
    }

    #[test]
    fn answers_that_arrive_together_are_read_one_by_one() {
        let pieces: &[&[u8]] = &[b"\x1f\x43\x00\x017\x1f\x43\x00\x028", b"9"];
        let answers = with_client(pieces, |client| {
            let first = client.ask(8003, &json!({}))?;
            Ok([first, client.answer(8003)?])
        });
        assert_eq!(answers.unwrap(), [Answer::Done(json!(7)), Answer::Done(json!(89))]);
    }

    #[test]
    fn a_server_that_turns_away_is_explained() {
        for pieces in [&[][..], &[&b"\x1f\x43\x00"[..]]] {
            let error = ask(pieces).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Unavailable);
            assert!(error.to_string().contains("queue.allow"), "{error}");
        }
    }

    #[test]
    fn an_address_is_needed() {
        let error = Client::connect("8888", Duration::from_secs(1)).unwrap_err();
        assert!(format!("{error:#}").contains("--addr takes HOST:PORT"), "{error:#}");
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let mut frame = Vec::new();
        let error = encode(8001, &json!({ "sql": "x".repeat(65_526) }), &mut frame).unwrap_err();
        assert!(error.to_string().contains("65536 bytes, and at most 65535 fit"), "{error}");
        assert!(frame.is_empty());
        encode(8001, &json!({ "sql": "x".repeat(65_525) }), &mut frame).unwrap();
    }
}
