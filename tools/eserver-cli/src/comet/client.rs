//! [`Client`]: one connection to a server by HTTP, and a sentence for everything that fails.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow};
use eserver_wire::http::{Body, BodyDecoder, HeadLimits, Request, RequestBody, ResponseHead};
use serde_json::Value;

use crate::exit::{Exit, OrExit};

/// A connection, and what arrived on it but was not read yet.
pub(super) struct Client {
    stream: TcpStream,
    address: String,
    received: Vec<u8>,
}

/// An answer that goes on, line by line.
pub(super) struct Lines<'c> {
    client: &'c mut Client,
    decoder: BodyDecoder,
    text: Vec<u8>,
}

impl Client {
    /// Connects; `flag` is what the address was given by.
    ///
    /// # Errors
    /// A sentence that says what to try next; the process exits with [`Exit::Unavailable`].
    pub(super) fn connect(address: &str, flag: &str, timeout: Duration) -> anyhow::Result<Self> {
        let candidates: Vec<_> = address
            .to_socket_addrs()
            .with_context(|| format!("{flag} takes HOST:PORT, and {address:?} leads nowhere"))
            .or_exit(Exit::Unavailable)?
            .collect();
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in candidates {
            let connected = TcpStream::connect_timeout(&candidate, timeout).and_then(|stream| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => {
                    return Ok(Client {
                        stream,
                        address: address.to_owned(),
                        received: Vec::new(),
                    });
                }
                Err(error) => failure = error,
            }
        }
        let error = anyhow::Error::new(failure);
        let said = format!("no server answers at {address}; start one with `eserver serve`");
        Err(error.context(said)).or_exit(Exit::Unavailable)
    }

    /// Makes a request and gives the body of its answer, which must be a good one.
    pub(super) fn ask(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<String> {
        let mut decoder = self.request(method, target, body)?;
        let mut text = Vec::new();
        while self.more(&mut decoder, &mut text)? {}
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// Asks for an answer that goes on.
    pub(super) fn lines(&mut self, target: &str) -> anyhow::Result<Lines<'_>> {
        let decoder = self.request("GET", target, None)?;
        Ok(Lines { client: self, decoder, text: Vec::new() })
    }

    /// Makes a request, and reads the head of its answer, which must be a good one.
    fn request(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<BodyDecoder> {
        let text = body.map(Value::to_string);
        let fields = [("Content-Type", "application/json")];
        let request = Request {
            method,
            target,
            host: &self.address,
            fields: if body.is_some() { &fields } else { &[] },
            body: text
                .as_ref()
                .map_or(RequestBody::None, |text| RequestBody::Whole(text.as_bytes())),
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes).context("the request cannot be sent").or_exit(Exit::Usage)?;
        self.stream
            .write_all(&bytes)
            .with_context(|| format!("{} does not read", self.address))
            .or_exit(Exit::Unavailable)?;
        let (status, mut decoder) = loop {
            let head = ResponseHead::parse(&self.received, method, &HeadLimits::default());
            let head = head
                .map_err(|_| anyhow!("{} does not speak HTTP", self.address))
                .or_exit(Exit::Unavailable)?;
            let read = head.map(|head| (head.status, head.body, head.encoded_bytes));
            if let Some((status, body, used)) = read {
                self.received.drain(..used);
                if status >= 200 {
                    break (status, BodyDecoder::new(body));
                }
                debug_assert_eq!(body, Body::None);
            } else if !self.read()? {
                let error = anyhow!("{} closed the connection: it may not let us in", self.address);
                return Err(error).or_exit(Exit::Unavailable);
            }
        };
        if status < 300 {
            return Ok(decoder);
        }
        let mut text = Vec::new();
        while self.more(&mut decoder, &mut text)? {}
        let text = String::from_utf8_lossy(&text);
        let said = serde_json::from_str::<Value>(&text).ok();
        let said = said.as_ref().and_then(|value| value["error"]["message"].as_str());
        let sentence = said.unwrap_or(text.trim());
        Err(anyhow!("the server refuses ({status}): {sentence}")).or_exit(Exit::Failed)
    }

    /// Takes more of a body; false at its end.
    fn more(&mut self, decoder: &mut BodyDecoder, text: &mut Vec<u8>) -> anyhow::Result<bool> {
        if decoder.is_done() || (self.received.is_empty() && !self.read()?) {
            return Ok(false);
        }
        let progress = decoder
            .decode(&self.received)
            .map_err(|_| anyhow!("{} sends a body that cannot be read", self.address))
            .or_exit(Exit::Unavailable)?;
        text.extend_from_slice(&self.received[progress.data]);
        self.received.drain(..progress.used);
        Ok(true)
    }

    /// One more read; false at the end.
    fn read(&mut self) -> anyhow::Result<bool> {
        let mut chunk = [0; 64 * 1024];
        let count = self
            .stream
            .read(&mut chunk)
            .with_context(|| format!("{} does not answer", self.address))
            .or_exit(Exit::Unavailable)?;
        self.received.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }
}

impl Lines<'_> {
    /// The next line, without its end; `None` when the answer has ended.
    pub(super) fn next_line(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.text[..end]).into_owned();
                self.text.drain(..=end);
                return Ok(Some(line));
            }
            if !self.client.more(&mut self.decoder, &mut self.text)? {
                return Ok(None);
            }
        }
    }
}

/// A value as it stands in a query or as a segment of a path.
pub(super) fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes all");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded() {
        assert_eq!(encoded("a/b c&é~1"), "a%2Fb%20c%26%C3%A9~1");
    }
}
