//! [`Target`]: what is wanted.

/// Memory of ours that a waiting subscriber on a channel of its own takes, in bytes: the slope of
/// what the process had resident while `eserver bench hold` opened a million. A connection of another
/// kind takes less.
pub(crate) const OUR_BYTES: u64 = 260;

/// Memory of the kernel that an idle socket in an epoll set takes, in bytes.
///
/// Measured with Linux 6.18 on x86-64, as docs/doctor.md tells: by `/proc/slabinfo` around 15,000
/// connections of the loopback, each object with its share of a slab. The socket itself takes 2,516,
/// its inode 855, file, directory entry and their security labels 440, the epoll set 208; a client
/// has 256 more for its port. That is more than the slope of `SUnreclaim`, 3,050: inodes and directory
/// entries count as memory that can be given back, but not those of open sockets. While a load
/// generator went from 1,450,000 to 1,700,000 sockets, `Slab` grew by 4,190 for each.
pub(crate) const KERNEL_BYTES: u64 = 4_200;

/// Newcomers per second that are reckoned with if nobody says how many, at most.
const NEWCOMERS_PER_S_MAX: u64 = 20_000;

/// What is wanted of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Connections at once.
    pub connections: u64,
    /// New ones per second.
    pub newcomers_per_s: u64,
    /// Whether the clients are on the same machine: then every connection is there twice.
    pub with_clients: bool,
    /// Whether connections may be in tables of descriptors of threads (`private_fd_tables`).
    pub private_tables: bool,
}

impl Target {
    /// A server of so many connections that all come back within a second when it was started again,
    /// as far as it takes them in: 20,000 per second at most.
    #[must_use]
    pub fn new(connections: u64) -> Self {
        Target {
            connections,
            newcomers_per_s: connections.min(NEWCOMERS_PER_S_MAX),
            with_clients: false,
            private_tables: true,
        }
    }

    /// Sockets that the kernel has to hold.
    pub(crate) fn sockets(&self) -> u64 {
        self.connections.saturating_mul(if self.with_clients { 2 } else { 1 })
    }

    /// Memory that it takes, in bytes, besides what the server takes without connections.
    pub(crate) fn bytes(&self) -> u64 {
        let kernel = self.sockets().saturating_mul(KERNEL_BYTES);
        kernel.saturating_add(self.connections.saturating_mul(OUR_BYTES))
    }
}
