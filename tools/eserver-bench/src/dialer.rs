//! [`Dialer`]: opens connections, from as many source addresses as they need.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections to one destination that one source address is asked for. Linux has some 28,000
/// ports to give out by default; the search for a free one gets long before they are used up.
const CONNECTIONS_PER_SOURCE: usize = 14_000;

/// Ports that this client chooses itself, below those that the kernel chooses from.
const SOURCE_PORTS: std::ops::Range<u16> = 16_384..32_768;

/// Source addresses for connections that are opened and closed without end. A closed one keeps its
/// port busy for a second at least, often a minute; this many addresses come round after ten
/// seconds at 50,000 connections/s.
const SOURCES_FOR_SHORT_CONNECTIONS: usize = 32;

/// Source addresses of one of many dialers: ports that linger after a round are met again rarely.
const SOURCES_PER_HOLDER: usize = 4;

/// A port of our choice may be taken; so many in a row are not.
const SOURCE_ATTEMPTS_MAX: usize = 64;

/// Opens connections to one server.
#[derive(Debug)]
pub(crate) struct Dialer {
    target: SocketAddr,
    sources: Option<Sources>,
}

/// Which connections a [`Dialer`] will be asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Demand {
    /// This many, all kept.
    Kept(usize),
    /// This many, all kept, from addresses that nobody else chooses even if they are few: one of
    /// many dialers to the same server.
    Held(usize),
    /// Any number, each closed before long.
    Short,
}

impl Dialer {
    /// A dialer to `target`. Dialers of different `index` never choose the same source address.
    pub(crate) fn new(target: SocketAddr, demand: Demand, index: usize) -> Self {
        let addresses = match demand {
            Demand::Kept(connections) if connections <= CONNECTIONS_PER_SOURCE => None,
            Demand::Kept(connections) => Some(connections.div_ceil(CONNECTIONS_PER_SOURCE)),
            Demand::Held(connections) => {
                Some(connections.div_ceil(CONNECTIONS_PER_SOURCE).max(SOURCES_PER_HOLDER))
            }
            Demand::Short => Some(SOURCES_FOR_SHORT_CONNECTIONS),
        };
        // Only the IPv4 loopback has addresses to spare: all of 127.0.0.0/8 is this machine.
        let is_loopback = matches!(target.ip(), IpAddr::V4(address) if address.is_loopback());
        Self {
            target,
            sources: addresses
                .filter(|_| is_loopback)
                .map(|addresses| Sources::new(index * addresses, addresses)),
        }
    }

    /// Begins to connect; the socket does not block and may not be connected yet.
    ///
    /// # Errors
    /// What the system says: no descriptor left, refused, no free source.
    pub(crate) fn begin(&mut self) -> io::Result<TcpStream> {
        self.dial(Type::STREAM.nonblocking(), |socket, target| {
            match socket.connect(&target.into()) {
                Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(()),
                other => other,
            }
        })
    }

    /// Connects, waiting until it is done; reads and writes will wait up to `timeout` each.
    ///
    /// # Errors
    /// What the system says, or that it took longer than `timeout`.
    pub(crate) fn connect(&mut self, timeout: Duration) -> io::Result<TcpStream> {
        let stream = self
            .dial(Type::STREAM, |socket, target| socket.connect_timeout(&target.into(), timeout))?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(stream)
    }

    fn dial(
        &mut self,
        kind: Type,
        connect: impl Fn(&Socket, SocketAddr) -> io::Result<()>,
    ) -> io::Result<TcpStream> {
        let mut attempts = 0;
        loop {
            let socket = Socket::new(Domain::for_address(self.target), kind, Some(Protocol::TCP))?;
            let dialed = match &mut self.sources {
                None => connect(&socket, self.target),
                Some(sources) => {
                    sources.bind_next(&socket).and_then(|()| connect(&socket, self.target))
                }
            };
            attempts += 1;
            match dialed {
                Ok(()) => return Ok(socket.into()),
                Err(error) if self.is_worth_another(&error) && attempts < SOURCE_ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the source we chose is in use, by somebody else or by a connection just closed.
    fn is_worth_another(&self, error: &io::Error) -> bool {
        self.sources.is_some()
            && matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
    }
}

/// Source addresses and ports in turn, each as rarely as possible.
///
/// The ports are chosen here and not by the kernel: its search for a free one among thousands that
/// linger after closing would cost the client more than the request. Measured with 19,000
/// connections kept: from four addresses both ways connect 40,000 times a second, from one address
/// ports of our choice 45,000 times and the kernel's (`IP_BIND_ADDRESS_NO_PORT`) 4,500 times.
#[derive(Debug)]
struct Sources {
    first: u32,
    addresses: u32,
    turn: u64,
}

impl Sources {
    fn new(first: usize, addresses: usize) -> Self {
        let narrow = |count: usize| u32::try_from(count).expect("addresses are few");
        Self {
            first: u32::from(Ipv4Addr::LOCALHOST) + narrow(first),
            addresses: narrow(addresses),
            turn: 0,
        }
    }

    fn bind_next(&mut self, socket: &Socket) -> io::Result<()> {
        // Without this a port stays taken for a minute after the connection was closed.
        socket.set_reuse_address(true)?;
        socket.bind(&self.next().into())
    }

    fn next(&mut self) -> SocketAddr {
        let turn = self.turn;
        self.turn += 1;
        let address = self.first + (turn % u64::from(self.addresses)) as u32;
        let ports = SOURCE_PORTS.len() as u64;
        let port = SOURCE_PORTS.start + (turn / u64::from(self.addresses) % ports) as u16;
        (Ipv4Addr::from(address), port).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::TcpListener;

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn few_kept_connections_leave_the_source_to_the_kernel() {
        let (_listener, target) = listener();
        let mut dialer = Dialer::new(target, Demand::Kept(CONNECTIONS_PER_SOURCE), 3);
        assert!(dialer.sources.is_none());
        let stream = dialer.connect(Duration::from_secs(10)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), target);
    }

    #[test]
    fn many_connections_come_from_several_addresses() {
        let (_listener, target) = listener();
        let mut dialer = Dialer::new(target, Demand::Kept(CONNECTIONS_PER_SOURCE + 1), 1);
        let streams: Vec<_> =
            (0..4).map(|_| dialer.connect(Duration::from_secs(10)).unwrap()).collect();
        let addresses: HashSet<_> =
            streams.iter().map(|stream| stream.local_addr().unwrap().ip().to_string()).collect();
        assert_eq!(addresses, HashSet::from(["127.0.0.3".to_owned(), "127.0.0.4".to_owned()]));
    }

    #[test]
    fn no_source_comes_twice_before_all_came_once() {
        let mut sources = Sources::new(0, 2);
        let count = SOURCE_PORTS.len() * 2;
        let seen: HashSet<_> = (0..count).map(|_| sources.next()).collect();
        assert_eq!(seen.len(), count);
        assert_eq!(sources.next().to_string(), format!("127.0.0.1:{}", SOURCE_PORTS.start));
    }

    #[test]
    fn a_source_that_is_taken_is_passed_over() {
        let (_listener, target) = listener();
        let mut first = Dialer::new(target, Demand::Short, 9);
        let mut second = Dialer::new(target, Demand::Short, 9);
        let one = first.connect(Duration::from_secs(10)).unwrap();
        let two = second.connect(Duration::from_secs(10)).unwrap();
        assert_ne!(one.local_addr().unwrap(), two.local_addr().unwrap());
    }

    #[test]
    fn other_addresses_than_the_loopback_have_no_sources() {
        let dialer = Dialer::new("192.0.2.1:1".parse().unwrap(), Demand::Short, 0);
        assert!(dialer.sources.is_none());
    }
}
