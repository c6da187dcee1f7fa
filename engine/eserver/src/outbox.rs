//! [`Outbox`]: bytes the kernel did not take yet.

use std::io::{self, Write};
use std::net::TcpStream;

/// A queue of bytes to one peer, in front of a socket that is full.
///
/// It exists only while the peer reads more slowly than it is written to; most connections never
/// have one.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// How many of `bytes` have left already.
    sent: usize,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        // Moving the rest to the front once it is the smaller half keeps this linear.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes until all is gone or the socket is full again.
    pub(crate) fn send(&mut self, socket: &mut &TcpStream) -> io::Result<()> {
        self.sent += write_some(socket, &self.bytes[self.sent..])?;
        if self.sent == self.bytes.len() {
            *self = Outbox::default();
        }
        Ok(())
    }
}

/// Writes as much of `bytes` as the kernel takes without waiting; how many that were.
pub(crate) fn write_some(socket: &mut &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
