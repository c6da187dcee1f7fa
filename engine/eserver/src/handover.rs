//! [`Handover`]: how accepted sockets get into another shard's table of descriptors.
//!
//! They travel as SCM_RIGHTS (unix(7)) over a pair of sockets that is made before the tables part:
//! one end is in the table of those that accept, the other in that of the shard that parks them. A
//! descriptor is in both for a moment, and nothing is lost: what does not fit stays with its sender.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, unshare};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Sockets in one message, at most; the kernel takes 253.
pub(crate) const SOCKETS_MAX: usize = 64;

/// What goes with each socket: the number of its service, and the peer's address.
const BYTES: usize = 17;

/// A connection that was let in, on its way to another shard.
pub(crate) struct Newcomer {
    pub(crate) socket: TcpStream,
    pub(crate) peer: IpAddr,
    pub(crate) service: u8,
}

/// One end of the way.
#[derive(Debug)]
pub(crate) struct Handover(OwnedFd);

impl Handover {
    /// Both ends: for those that send, and for the one that takes.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (sender, taker) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Handover(sender), Handover(taker)))
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sends the first of the newcomers, as many as go at once; they are gone from the list then.
    ///
    /// # Errors
    /// Of the kind `WouldBlock` while the taker is behind; nothing was sent then.
    pub(crate) fn send(&self, newcomers: &mut Vec<Newcomer>) -> io::Result<()> {
        let count = newcomers.len().min(SOCKETS_MAX);
        let mut bytes = Vec::with_capacity(count * BYTES);
        let mut sockets: Vec<BorrowedFd<'_>> = Vec::with_capacity(count);
        for Newcomer { socket, peer, service } in &newcomers[..count] {
            let peer = match peer {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => *address,
            };
            bytes.push(*service);
            bytes.extend_from_slice(&peer.octets());
            sockets.push(socket.as_fd());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("the sockets do not fit into a message"));
        }
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut rights, SendFlags::NOSIGNAL)?;
        drop(sockets);
        newcomers.drain(..count);
        Ok(())
    }

    /// Takes what was sent in one message; an empty list when all ends that send are closed.
    ///
    /// # Errors
    /// Of the kind `WouldBlock` when nothing waits.
    pub(crate) fn take(&self) -> io::Result<Vec<Newcomer>> {
        let mut bytes = [0; SOCKETS_MAX * BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.0, &mut slices, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let mut sockets: Vec<OwnedFd> = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                sockets.extend(more);
            }
        }
        let said = bytes[..received.bytes].chunks_exact(BYTES);
        let newcomers = said.zip(sockets).map(|(said, socket)| {
            let octets: [u8; 16] = said[1..].try_into().expect("a chunk has so many bytes");
            let peer = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical();
            Newcomer { socket: TcpStream::from(socket), peer, service: said[0] }
        });
        Ok(newcomers.collect())
    }
}

/// Gives the calling thread a table of descriptors of its own and closes what it does not need
/// there: a copy of a listener would go on accepting into nobody, one of a file would keep it open.
/// What stays is `keep`, the standard streams, and what other threads are woken by.
pub(crate) fn part_from_others(keep: &[RawFd]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let mut close = Vec::new();
    for entry in std::fs::read_dir("/proc/thread-self/fd")? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let Some(number) = number.filter(|number| *number > 2 && !keep.contains(number)) else {
            continue;
        };
        // The one that lists them is gone by now.
        let what = std::fs::read_link(entry.path()).unwrap_or_default();
        if what.to_string_lossy() != "anon_inode:[eventfd]" {
            close.push(number);
        }
    }
    for number in close {
        // The one that listed them is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn sockets_arrive_with_what_is_known_of_them() {
        let (sender, taker) = Handover::pair().unwrap();
        assert_eq!(
            taker.take().map(|all| all.len()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let (clients, sockets): (Vec<_>, Vec<_>) =
            (0..SOCKETS_MAX + 3).map(|_| connected()).unzip();
        let peer = |n: usize| IpAddr::from([127, 0, 1, n as u8]);
        let mut newcomers: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(n, socket)| Newcomer { socket, peer: peer(n), service: n as u8 })
            .collect();
        sender.send(&mut newcomers).unwrap();
        assert_eq!(newcomers.len(), 3);
        sender.send(&mut newcomers).unwrap();
        assert!(newcomers.is_empty());
        let mut taken = taker.take().unwrap();
        taken.extend(taker.take().unwrap());
        for (n, (mut newcomer, mut client)) in taken.into_iter().zip(clients).enumerate() {
            assert_eq!((newcomer.service, newcomer.peer), (n as u8, peer(n)));
            newcomer.socket.write_all(&[n as u8]).unwrap();
            drop(newcomer);
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, [n as u8], "and nobody else has it open");
        }
        drop(sender);
        assert!(taker.take().unwrap().is_empty());
    }

    #[test]
    fn a_thread_with_a_table_of_its_own_keeps_nothing_of_others_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, taker) = Handover::pair().unwrap();
        let (parted, has_parted) = std::sync::mpsc::channel();
        let parking = std::thread::spawn(move || {
            part_from_others(&[taker.raw()]).unwrap();
            parted.send(()).unwrap();
            loop {
                match taker.take() {
                    Ok(newcomers) if newcomers.is_empty() => break,
                    Ok(newcomers) => {
                        for mut newcomer in newcomers {
                            newcomer.socket.write_all(b"parked").unwrap();
                        }
                    }
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        has_parted.recv().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        let mut newcomers = vec![Newcomer { socket, peer: peer.ip(), service: 0 }];
        sender.send(&mut newcomers).unwrap();
        let mut words = String::new();
        client.read_to_string(&mut words).unwrap();
        assert_eq!(words, "parked");
        drop(listener);
        assert!(TcpStream::connect(address).is_err(), "no copy of the listener is left");
        // The end that takes is the thread's, and was open here as well until it ended.
        drop(sender);
        parking.join().unwrap();
    }
}
