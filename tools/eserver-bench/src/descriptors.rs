//! The descriptor limit: every connection is one descriptor, and the usual limit is 1,024.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises this process's limit of open descriptors as far as it may and returns what it then is.
///
/// Children started later inherit it.
///
/// # Errors
/// When the system refuses to tell or to change the limit.
pub fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_goes() {
        let raised = raise_limit().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (raised, raised));
        assert_eq!(raise_limit().unwrap(), raised);
    }
}
