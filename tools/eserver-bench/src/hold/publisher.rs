//! [`Publisher`]: a few connections to the admin port, on which requests are pipelined.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eserver_wire::http::{BodyDecoder, HeadLimits, ResponseHead};

use crate::hold::holder::Run;
use crate::hold::profile::shown;
use crate::hold::publication::Publication;

/// Publishes, in order for each channel.
pub(crate) struct Publisher<'run> {
    run: &'run Run<'run>,
    admin: SocketAddr,
    lanes: Vec<Lane>,
    content: String,
    name: String,
    request: String,
    /// Publications that the server did not accept.
    pub(crate) rejected: u64,
    /// The first of those, in words.
    pub(crate) first_rejection: Option<String>,
}

/// One connection.
pub(crate) struct Lane {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
    /// Requests encoded, not sent.
    requests: String,
    /// Requests of which the answer is due.
    owed: usize,
}

impl<'run> Publisher<'run> {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn connect(run: &'run Run<'run>, admin: SocketAddr) -> io::Result<Self> {
        let lane = || Lane::connect(admin, run.plan.timeout);
        let lanes = (0..run.plan.publishers.max(1)).map(|_| lane()).collect::<io::Result<_>>()?;
        let (content, name, request) = (String::new(), String::new(), String::new());
        Ok(Self { run, admin, lanes, content, name, request, rejected: 0, first_rejection: None })
    }

    /// Publishes `ordinal` to each of `channels`, until `stop`. A channel always has the same
    /// connection, so that what is published to it stays in order.
    ///
    /// # Errors
    /// What the system says of a connection.
    pub(crate) fn publish(
        &mut self,
        ordinal: u8,
        channels: impl Iterator<Item = u32>,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        for channel in channels {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let lane = channel as usize % self.lanes.len();
            if self.lanes[lane].owed == self.run.plan.pipeline.max(1) {
                self.exchange()?;
            }
            self.add(lane, ordinal, Some(channel));
        }
        self.exchange()
    }

    /// Publishes `ordinal` to all channels, by one request.
    ///
    /// # Errors
    /// What the system says of the connection.
    pub(crate) fn broadcast(&mut self, ordinal: u8) -> io::Result<()> {
        self.add(0, ordinal, None);
        self.exchange()
    }

    fn add(&mut self, lane: usize, ordinal: u8, channel: Option<u32>) {
        let published_us = u64::try_from(self.run.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let publication = Publication { run: self.run.id, ordinal, channel, published_us };
        self.content.clear();
        publication.encode(self.run.plan.content_bytes, &mut self.content);
        let name = channel.map(|channel| {
            self.run.write_name(channel, &mut self.name);
            self.name.as_str()
        });
        self.request.clear();
        self.run.plan.profile.publish(name, &self.content, self.admin, &mut self.request);
        let lane = &mut self.lanes[lane];
        lane.requests.push_str(&self.request);
        lane.owed += 1;
    }

    /// Sends what is encoded on all connections, and then reads all the answers.
    fn exchange(&mut self) -> io::Result<()> {
        for lane in &mut self.lanes {
            lane.stream.write_all(lane.requests.as_bytes())?;
            lane.requests.clear();
        }
        for lane in &mut self.lanes {
            while lane.owed > 0 {
                let answer = lane.read()?;
                lane.owed -= 1;
                if let Err(sentence) = answer.accepted() {
                    self.rejected += 1;
                    self.first_rejection.get_or_insert(sentence);
                }
            }
        }
        Ok(())
    }

    /// How many subscribers the server itself counts, if it says so as icomet does.
    pub(crate) fn subscribers(&mut self) -> Option<u64> {
        #[derive(serde::Deserialize)]
        struct Info {
            subscribers: u64,
        }
        let lane = self.lanes.first_mut()?;
        let request = format!("GET /info HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin);
        lane.stream.write_all(request.as_bytes()).ok()?;
        let answer = lane.read().ok()?;
        serde_json::from_str::<Info>(&answer.body).ok().map(|info| info.subscribers)
    }

    /// Changes how long an answer may take.
    pub(crate) fn be_patient(&mut self, timeout: Duration) -> io::Result<()> {
        self.lanes.iter().try_for_each(|lane| lane.stream.set_read_timeout(Some(timeout)))
    }
}

/// An answer of the admin port.
pub(crate) struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    /// Whether the publication was accepted; what was said instead, if not.
    pub(crate) fn accepted(&self) -> Result<(), String> {
        let Self { status, body } = self;
        // icomet's answers end in a line feed, ours may not.
        let is_accepted =
            matches!(status, 200..=202) && (!body.contains("error") || body.trim_end() == "ok");
        if is_accepted { Ok(()) } else { Err(format!("publishing: {status} {}", shown(body))) }
    }
}

impl Lane {
    /// Connects; `timeout` bounds that, and each step afterwards.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn connect(admin: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&admin, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, received: Vec::new(), requests: String::new(), owed: 0 })
    }

    /// Waits for an answer.
    ///
    /// # Errors
    /// What the system says, or that it is no answer.
    pub(crate) fn read(&mut self) -> io::Result<Answer> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some((answer, used)) = take_answer(&self.received)? {
                self.received.drain(..used);
                return Ok(answer);
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => self.received.extend_from_slice(&buffer[..bytes]),
            }
        }
    }
}

/// The answer in front of `input` and its length, or `None` while it is not all there.
fn take_answer(input: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let wrong = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let head = ResponseHead::parse(input, "GET", &HeadLimits::default());
    let Some(head) = head.map_err(|error| wrong(error.to_string()))? else {
        return Ok(None);
    };
    let mut decoder = BodyDecoder::new(head.body);
    let (mut used, mut body) = (head.encoded_bytes, Vec::new());
    while !decoder.is_done() && used < input.len() {
        let progress =
            decoder.decode(&input[used..]).map_err(|error| wrong(error.reason.to_owned()))?;
        body.extend_from_slice(&input[used..][progress.data]);
        used += progress.used;
    }
    if !decoder.is_done() {
        return Ok(None);
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some((Answer { status: head.status, body }, used)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_one_by_one_wherever_they_are_cut() {
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        let two = b"HTTP/1.1 429 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n";
        let input = [one.as_slice(), two].concat();
        for cut in 0..one.len() {
            assert!(take_answer(&input[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let (answer, used) = take_answer(&input).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_str(), used), (200, "ok\n", one.len()));
        let (answer, used) = take_answer(&input[used..]).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_str(), used), (429, "no", two.len()));
        assert!(take_answer(b"what\r\n\r\n").is_err());
    }
}
