//! What the servers have in common: what they answer, and how they listen.

use std::io;
use std::net::{SocketAddr, TcpListener};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt::SetStruct};
use socket2::{Domain, Protocol, Socket, Type};

/// The body of every answer.
pub const BODY: &str = "Hello, World!";

/// Connections the kernel may hold until they are accepted; it clamps this to `somaxconn`.
const BACKLOG: i32 = 65_535;

/// Seconds for which the kernel waits for the first bytes of a connection.
const DEFER_S: i32 = 1;

#[derive(Clone)]
struct DeferAccept;

nix::setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    i32,
    SetStruct<'_, i32>
);

/// Listens as eserver does, with TCP_DEFER_ACCEPT if it is `deferred`.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr, deferred: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    if deferred {
        setsockopt(&socket, DeferAccept, &DEFER_S)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
