//! Clients that put at a steady rate, whatever becomes of it: [`Arrivals`].

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use eserver_bench::protocol::Exact;
use eserver_bench::{Protocol, Reply};

/// Clients side by side.
const CLIENTS: u64 = 8;

/// Time between two bursts of one client.
const TICK: Duration = Duration::from_millis(5);

/// Requests of one write, at most: the answers to them fit into what sockets hold.
const BURST_MAX: usize = 1_000;

/// Longest time for one answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Clients at work until they are told to end.
pub(super) struct Arrivals {
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
    ends: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    start: Instant,
}

impl Arrivals {
    /// Starts to make `rate` requests per second in all.
    pub(super) fn start(address: SocketAddr, request: &Exact, rate: u64) -> Self {
        let start = Instant::now();
        let ends = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let client = |_| {
            let (ends, acknowledged) = (Arc::clone(&ends), Arc::clone(&acknowledged));
            let request = request.clone();
            thread::spawn(move || {
                let rate = rate as f64 / CLIENTS as f64;
                let result = put(address, &request, rate, &ends, &acknowledged);
                ends.store(true, Ordering::Relaxed); // one that fails ends all
                result
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { clients, ends, acknowledged, start }
    }

    /// Lets them work for so long; ends early when one of them fails.
    pub(super) fn go_on(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.ends.load(Ordering::Relaxed) {
            thread::sleep(TICK);
        }
    }

    /// Ends them; how many requests were answered as expected, all of them, and how many per second.
    pub(super) fn end(self) -> anyhow::Result<(u64, f64)> {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().map_err(|_| anyhow!("a client has panicked"))??;
        }
        let elapsed = self.start.elapsed();
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        Ok((acknowledged, acknowledged as f64 / elapsed.as_secs_f64()))
    }
}

/// One client: all that is due by now in one write, then its answers, then a rest.
fn put(
    address: SocketAddr,
    request: &Exact,
    rate: f64,
    ends: &AtomicBool,
    acknowledged: &AtomicU64,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let start = Instant::now();
    let mut sent = 0;
    let mut buffer = [0; 16 * 1024];
    while !ends.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * rate) as usize;
        let due = due.min(sent + BURST_MAX);
        stream.write_all(&request.request.repeat(due - sent))?;
        let mut received = Vec::new();
        let mut answered = 0;
        while answered < due - sent {
            let bytes = stream.read(&mut buffer)?;
            ensure!(bytes > 0, "the server hung up");
            received.extend_from_slice(&buffer[..bytes]);
            let mut read = 0;
            loop {
                match request.reply(&received[read..]) {
                    Reply::Expected { bytes } => (read, answered) = (read + bytes, answered + 1),
                    Reply::Incomplete => break,
                    Reply::Unexpected { .. } => {
                        bail!("a put was refused: {}", String::from_utf8_lossy(&received[read..]))
                    }
                }
            }
            received.drain(..read);
        }
        acknowledged.fetch_add(answered as u64, Ordering::Relaxed);
        sent = due;
        thread::sleep(TICK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers so many requests on each of its connections as expected, then says no.
    fn serve(listener: &TcpListener, answers: u64) -> u64 {
        let one = move |mut stream: TcpStream| {
            let (mut answered, mut request) = (0, [0; 3]);
            while stream.read_exact(&mut request).is_ok() {
                assert_eq!(&request, b"put");
                let reply: &[u8] = if answered < answers { b"yes" } else { b"no." };
                if stream.write_all(reply).is_err() {
                    break;
                }
                answered += u64::from(reply == b"yes");
            }
            answered
        };
        let connections: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (stream, _) = listener.accept().unwrap();
                thread::spawn(move || one(stream))
            })
            .collect();
        connections.into_iter().map(|thread| thread.join().unwrap()).sum()
    }

    fn arrive(answers: u64) -> (anyhow::Result<(u64, f64)>, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || serve(&listener, answers));
        let request = Exact { request: b"put".to_vec(), reply: b"yes".to_vec() };
        let arrivals = Arrivals::start(address, &request, 2_000);
        let deadline = Instant::now() + Duration::from_secs(60);
        while arrivals.acknowledged.load(Ordering::Relaxed) < 500
            && !arrivals.ends.load(Ordering::Relaxed)
            && Instant::now() < deadline
        {
            thread::yield_now();
        }
        arrivals.go_on(Duration::ZERO);
        (arrivals.end(), server.join().unwrap())
    }

    #[test]
    fn every_answer_is_counted_once() {
        let (counted, answered) = arrive(u64::MAX);
        let (counted, rate) = counted.unwrap();
        assert_eq!(counted, answered);
        assert!(counted >= 500, "{counted}");
        assert!(rate <= 2_000.0, "they keep to their pace, and do not make {rate}/s");
    }

    #[test]
    fn a_refusal_ends_it() {
        let (counted, _) = arrive(10);
        let error = counted.unwrap_err().to_string();
        assert!(error.contains("no."), "{error}");
    }
}
