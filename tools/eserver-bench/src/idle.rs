//! [`hold_idle`]: many connections that have spoken once and then stay silent.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use thiserror::Error;

use crate::dialer::{Demand, Dialer};
use crate::protocol::{Protocol, Reply};

/// Why idle connections could not be held.
#[derive(Debug, Error)]
pub enum IdleError {
    /// A connection did not open, or not answer its one request.
    #[error("connection {opened} of {wanted} did not get its answer")]
    Open {
        /// Connections that were open already.
        opened: usize,
        /// Connections asked for.
        wanted: usize,
        /// What happened.
        source: io::Error,
    },
    /// The server closed connections, or said something, though nothing was asked.
    #[error("{gone} of {wanted} idle connections were closed by the server or spoken to")]
    Gone {
        /// Connections that were no longer silent and open.
        gone: usize,
        /// Connections asked for.
        wanted: usize,
    },
}

/// Opens `count` connections, makes one request on each, and keeps them while `while_held` runs.
///
/// One request, because a connection that never spoke has cost a server nothing yet: what is of
/// interest is what stays behind when it has. They are opened one after the other, each answered
/// before the next, so that no backlog overflows. `timeout` bounds each step of each connection.
///
/// # Errors
/// [`IdleError`] when a connection does not open or is not silent at the end.
pub fn hold_idle<T>(
    target: SocketAddr,
    count: usize,
    protocol: &dyn Protocol,
    timeout: Duration,
    while_held: impl FnOnce() -> T,
) -> Result<T, IdleError> {
    let mut dialer = Dialer::new(target, Demand::Kept(count), 0);
    let mut request = Vec::new();
    protocol.encode(&mut request);
    let mut connections = Vec::with_capacity(count);
    for opened in 0..count {
        let connection = dialer
            .connect(timeout)
            .and_then(|stream| exchange(stream, &request, protocol))
            .map_err(|source| IdleError::Open { opened, wanted: count, source })?;
        connections.push(connection);
    }
    let result = while_held();
    let gone = connections.iter().filter(|stream| !is_silent(stream)).count();
    if gone > 0 {
        return Err(IdleError::Gone { gone, wanted: count });
    }
    Ok(result)
}

/// Sends the request, reads until its reply is whole, and gives the stream back.
fn exchange(
    mut stream: TcpStream,
    request: &[u8],
    protocol: &dyn Protocol,
) -> io::Result<TcpStream> {
    stream.write_all(request)?;
    let mut received = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match protocol.reply(&received) {
            Reply::Expected { bytes } if bytes == received.len() => return Ok(stream),
            Reply::Expected { .. } | Reply::Unexpected { .. } => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("unexpected answer {:?}", String::from_utf8_lossy(&received)),
                ));
            }
            Reply::Incomplete => match stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => received.extend_from_slice(&buffer[..bytes]),
            },
        }
    }
}

/// Whether nothing is there to read, neither bytes nor the end.
fn is_silent(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).is_ok()
        && matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Exact;
    use std::net::TcpListener;
    use std::thread;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn ping() -> Exact {
        Exact { request: b"ping\n".to_vec(), reply: b"pong\n".to_vec() }
    }

    /// Answers `count` connections and returns them to be kept.
    fn answer(listener: &TcpListener, count: usize, reply: &[u8]) -> Vec<TcpStream> {
        let mut request = [0; 5];
        (0..count)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut request).unwrap();
                stream.write_all(reply).unwrap();
                stream
            })
            .collect()
    }

    #[test]
    fn connections_are_held_while_the_closure_runs() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let server = thread::spawn(move || answer(&listener, 20, b"pong\n"));
        let held = hold_idle(target, 20, &ping(), TIMEOUT, || server.join().unwrap()).unwrap();
        assert_eq!(held.len(), 20);
    }

    #[test]
    fn connections_the_server_closes_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let server = thread::spawn(move || answer(&listener, 5, b"pong\n"));
        let result = hold_idle(target, 5, &ping(), TIMEOUT, || {
            drop(server.join().unwrap());
        });
        // A close on the loopback has arrived when the call that closed has returned.
        assert!(matches!(result, Err(IdleError::Gone { gone: 5, wanted: 5 })), "{result:?}");
    }

    #[test]
    fn a_wrong_answer_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let server = thread::spawn(move || answer(&listener, 1, b"what\n"));
        let result = hold_idle(target, 3, &ping(), TIMEOUT, || ());
        assert!(
            matches!(&result, Err(IdleError::Open { opened: 0, source, .. })
                if source.to_string().contains("what")),
            "{result:?}"
        );
        server.join().unwrap();
    }
}
