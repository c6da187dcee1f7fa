//! How many descriptors this process may open, and what that leaves for connections.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The process's limit on open descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// In force now.
    pub soft: u64,
    /// As far as an unprivileged process may raise it.
    pub hard: u64,
}

impl DescriptorLimit {
    /// Raises the soft limit to the hard one and reads back what is in force.
    ///
    /// # Errors
    /// When the limit cannot be read; failing to raise it is not an error.
    pub fn raise() -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft < hard {
            // Refused by some sandboxes; what is in force then is what counts.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        Ok(DescriptorLimit { soft, hard })
    }

    /// Descriptors kept free of connections, so that files can be opened while the server is full:
    /// a quarter of a small limit, 256 of a large one.
    #[must_use]
    pub fn reserved(self) -> u64 {
        (self.soft / 4).min(256)
    }

    /// How many connections fit.
    #[must_use]
    pub fn connections_max(self) -> usize {
        usize::try_from(self.soft - self.reserved()).unwrap_or(usize::MAX)
    }
}
