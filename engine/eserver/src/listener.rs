//! [`Listener`]: one shard's share of a listening address, and how newcomers come in.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::SetStruct};
use socket2::{Domain, Protocol, Socket, Type};

use crate::wheel::Tick;

/// Connections the kernel may hold for us until they are accepted; it clamps this to `somaxconn`.
const BACKLOG: i32 = 65_535;

/// Bytes the kernel takes for a connection beyond those it could send so far.
const NOT_SENT_BYTES: u32 = 16 * 1024;

/// How long the kernel keeps a newcomer to itself that says nothing, where it may, in seconds.
const SILENT_S: i32 = 1;

/// Looks away for so many ticks when accepting fails for want of descriptors: about a quarter of a
/// second, so that the wait costs nothing and recovery takes less than one second.
const BACK_OFF: Tick = 1;

pub(crate) struct Listener {
    socket: mio::net::TcpListener,
    /// A descriptor that is given up for a moment to tell a newcomer that none is left.
    spare: Option<File>,
    /// Accept nothing before this tick.
    pub(crate) resume_at: Option<Tick>,
    /// When the last complaint was logged.
    complained_at: Option<Tick>,
}

/// What one attempt to accept gave.
pub(crate) enum Accepted {
    Newcomer(TcpStream, IpAddr),
    /// No descriptor: this newcomer can only be told, then accepting pauses.
    Turned(Option<TcpStream>),
    Nobody,
}

/// When the kernel shows a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newcomers {
    /// As soon as it is connected.
    AtOnce,
    /// When its first bytes are there, or after a second: one look then finds the request, which
    /// took a quarter to a half of the CPU time of a connection per request off.
    WithFirstBytes,
}

impl Listener {
    /// Binds this shard's socket; several share the address through SO_REUSEPORT.
    pub(crate) fn bind(address: SocketAddr, newcomers: Newcomers) -> io::Result<Self> {
        let socket = open(address)?;
        socket.set_reuse_port(true)?;
        // Inherited by every accepted socket, which saves a call for each.
        socket.set_tcp_nodelay(true)?;
        // Inherited as well. A peer that reads slowly is then seen to read: without it the kernel
        // reports room only once a third of its buffer, often more than a megabyte, is free.
        socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
        socket.set_nonblocking(true)?;
        // TCP_QUICKACK is left to the kernel, whose acknowledgments travel with our answers: asked
        // for after each read, every request makes three segments instead of two and takes a quarter
        // more CPU time; asked for on accepting, nothing changes.
        if newcomers == Newcomers::WithFirstBytes {
            setsockopt(&socket, DeferAccept, &SILENT_S)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = mio::net::TcpListener::from_std(socket.into());
        let spare = File::open("/dev/null").ok();
        Ok(Listener { socket, spare, resume_at: None, complained_at: None })
    }

    pub(crate) fn source(&mut self) -> &mut mio::net::TcpListener {
        &mut self.socket
    }

    pub(crate) fn accept(&mut self, now: Tick) -> Accepted {
        match self.socket.accept() {
            Ok((socket, peer)) => Accepted::Newcomer(socket.into(), peer.ip().to_canonical()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            Err(error) if is_peers_fault(&error) => Accepted::Turned(None),
            Err(error) => {
                self.resume_at = Some(now + BACK_OFF);
                if self.complained_at.is_none_or(|at| now >= at + 4) {
                    self.complained_at = Some(now);
                    tracing::warn!(%error, "cannot accept; serving the connections there are");
                }
                Accepted::Turned(self.accept_with_spare())
            }
        }
    }

    /// Gives up the spare descriptor to take one newcomer, who must be let go at once.
    fn accept_with_spare(&mut self) -> Option<TcpStream> {
        self.spare.take()?;
        self.socket.accept().ok().map(|(socket, _)| socket.into())
    }

    /// Takes the spare descriptor back; call once the newcomer has been let go.
    pub(crate) fn keep_spare(&mut self) {
        if self.spare.is_none() {
            self.spare = File::open("/dev/null").ok();
        }
    }
}

/// Finds out whether `address` is free, and which port 0 becomes. Others get no such port while the
/// socket lives that comes with it; it takes nobody in.
///
/// SO_REUSEPORT would let a second server of the same user share the port silently; a probe
/// without it fails as soon as anybody listens there.
pub(crate) fn claim(address: SocketAddr) -> io::Result<(SocketAddr, Socket)> {
    if address.port() != 0 {
        let probe = open(address)?;
        probe.bind(&address.into())?;
        probe.listen(1)?;
    }
    // The shards may bind to the port beside this one, and nobody who looks for a free one may.
    let claim = open(address)?;
    claim.set_reuse_port(true)?;
    claim.bind(&address.into())?;
    let bound = claim.local_addr()?.as_socket();
    let bound = bound.ok_or_else(|| io::Error::other("not an internet address"))?;
    Ok((bound, claim))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` serves both families, as its users expect.
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// TCP_DEFER_ACCEPT, which `socket2` does not have.
#[derive(Clone)]
struct DeferAccept;

nix::setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    i32,
    SetStruct<'_, i32>
);

/// The connection died before it was accepted: nothing is wrong with us.
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown};
    use io::ErrorKind::{Interrupted, NetworkUnreachable, PermissionDenied, TimedOut};
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | Interrupted
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_taken_port_is_noticed_even_between_servers_that_share() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (address, claimed) = claim(any).unwrap();
        let first = Listener::bind(address, Newcomers::AtOnce).unwrap();
        let second = Listener::bind(address, Newcomers::WithFirstBytes);
        let _second = second.expect("shards of one server share the port");
        assert_eq!(claim(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop((first, claimed));
    }

    #[test]
    fn a_port_that_is_claimed_is_nobody_elses_before_the_shards_listen() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut claims: Vec<_> = (0..300).map(|_| claim(any).unwrap()).collect();
        claims.sort_by_key(|(address, _)| *address);
        claims.dedup_by_key(|(address, _)| *address);
        assert_eq!(claims.len(), 300);
        // Nor of who does not share, and it takes nobody in.
        let others: Vec<_> = (0..100).map(|_| std::net::TcpListener::bind(any).unwrap()).collect();
        for (address, _) in &claims {
            assert!(others.iter().all(|other| other.local_addr().unwrap() != *address));
            assert!(TcpStream::connect(address).is_err());
        }
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let (address, _claimed) = claim(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut listener = Listener::bind(address, Newcomers::AtOnce).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        assert!(accept(&mut listener).nodelay().unwrap());
    }

    #[test]
    fn a_newcomer_may_be_shown_with_its_first_bytes() {
        let (address, _claimed) = claim(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut listener = Listener::bind(address, Newcomers::WithFirstBytes).unwrap();
        let silent = TcpStream::connect(address).unwrap();
        assert!(matches!(listener.accept(0), Accepted::Nobody), "it has said nothing");
        let mut speaking = TcpStream::connect(address).unwrap();
        speaking.write_all(b"hello").unwrap();
        let peer = |socket: &TcpStream| socket.peer_addr().unwrap();
        let first = accept(&mut listener);
        assert_eq!(peer(&first), speaking.local_addr().unwrap());
        let mut bytes = [0; 8];
        assert_eq!((&first).read(&mut bytes).unwrap(), 5, "they are there at once");
        assert_eq!(peer(&accept(&mut listener)), silent.local_addr().unwrap(), "after a while");
    }

    fn accept(listener: &mut Listener) -> TcpStream {
        loop {
            match listener.accept(0) {
                Accepted::Newcomer(socket, peer) => {
                    assert!(peer.is_loopback());
                    return socket;
                }
                Accepted::Nobody => std::thread::yield_now(),
                Accepted::Turned(_) => panic!("a descriptor was there"),
            }
        }
    }
}
