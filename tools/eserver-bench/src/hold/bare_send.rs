//! [`bare_send`]: what one send costs on this machine, with no server around it.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

/// Pairs of sockets that are sent to in turn, so that their kernel memory does not stay in the
/// cache, as that of a server's connections does not.
const PAIRS_MAX: usize = 4_000;

/// How often each is sent to; the best of these counts, for the machine may have been busy.
const TURNS: usize = 8;

/// Measures the time of one `send` of `bytes` bytes to a loopback socket: with the kernel's way to
/// the receiver's queue, without the receiver.
///
/// Works on at most `pairs_max` pairs of sockets, in a thread with a descriptor table of its own.
///
/// # Errors
/// What the system says when there are no sockets.
pub fn bare_send(bytes: usize, pairs_max: usize) -> io::Result<Duration> {
    let pairs = pairs_max.clamp(1, PAIRS_MAX);
    let measuring = thread::Builder::new().name("bare send".to_owned()).spawn(move || {
        unshare(CloneFlags::CLONE_FILES)?;
        measure(bytes, pairs)
    })?;
    measuring.join().expect("measuring does not panic")
}

fn measure(bytes: usize, pairs: usize) -> io::Result<Duration> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let pair = || {
        let sender = TcpStream::connect(address)?;
        sender.set_nodelay(true)?;
        let (receiver, _) = listener.accept()?;
        receiver.set_nonblocking(true)?;
        Ok((sender, receiver))
    };
    let mut pairs: Vec<(TcpStream, TcpStream)> =
        (0..pairs).map(|_| pair()).collect::<io::Result<_>>()?;
    let message = vec![b'x'; bytes.max(1)];
    let mut received = vec![0; bytes.max(1)];
    let mut best = Duration::MAX;
    for _ in 0..TURNS {
        let start = Instant::now();
        for (sender, _) in &mut pairs {
            sender.write_all(black_box(&message))?;
        }
        best = best.min(start.elapsed());
        for (_, receiver) in &mut pairs {
            // What is left in a queue does no harm but to make it longer.
            let _ = receiver.read(&mut received);
        }
    }
    Ok(best / u32::try_from(pairs.len()).expect("pairs are few"))
}
