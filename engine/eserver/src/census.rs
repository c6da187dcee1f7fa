//! [`Census`]: how many connections there are, in total and per address.
//!
//! The one thing shards share. It is touched when a connection comes and when it goes, never for a
//! request.

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap};

/// Locks the addresses are spread over, so that two shards seldom meet at one.
const STRIPES: usize = 16;

/// Why a newcomer is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server holds as many connections as it may: so many.
    ServerFull(usize),
    /// This address holds as many connections as it may: so many.
    AddressFull(usize),
    /// The process has no descriptor left.
    NoDescriptor,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::ServerFull(max) => {
                write!(f, "too many connections: this server holds at most {max}")
            }
            Refusal::AddressFull(max) => {
                write!(f, "too many connections from your address: at most {max} are allowed")
            }
            Refusal::NoDescriptor => f.write_str("too many connections: no descriptor is left"),
        }
    }
}

pub(crate) struct Census {
    total: AtomicUsize,
    /// The most since that was asked.
    most: AtomicUsize,
    hasher: DefaultHashBuilder,
    stripes: [Mutex<HashMap<IpAddr, usize>>; STRIPES],
}

impl Census {
    pub(crate) fn new() -> Self {
        Census {
            total: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            hasher: DefaultHashBuilder::default(),
            stripes: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        }
    }

    /// How many are counted in now.
    pub(crate) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// How many have been counted in at once since this was last asked, at most.
    pub(crate) fn take_most(&self) -> usize {
        let most = self.most.swap(0, Ordering::Relaxed);
        most.max(self.total())
    }

    /// Counts a newcomer in, or says why not.
    pub(crate) fn enter(
        &self,
        address: IpAddr,
        total_max: usize,
        per_address_max: usize,
    ) -> Result<(), Refusal> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= total_max {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::ServerFull(total_max));
        }
        let address = customer(address);
        let mut stripe = self.stripe(address);
        if stripe.get(&address).copied().unwrap_or(0) >= per_address_max {
            drop(stripe);
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::AddressFull(per_address_max));
        }
        *stripe.entry(address).or_insert(0) += 1;
        drop(stripe);
        let total = self.total();
        if self.most.load(Ordering::Relaxed) < total {
            self.most.fetch_max(total, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts one out that was counted in.
    pub(crate) fn leave(&self, address: IpAddr) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        let address = customer(address);
        let mut stripe = self.stripe(address);
        if let Some(count) = stripe.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                stripe.remove(&address);
            }
        }
    }

    fn stripe(&self, address: IpAddr) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        let at = self.hasher.hash_one(address) as usize % STRIPES;
        self.stripes[at].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whom an address stands for: with IPv6, the /64 network that one customer has.
fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_per_address_and_in_total() {
        let census = Census::new();
        let [a, b, c] = [1, 2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
        assert_eq!(census.enter(a, 3, 2), Ok(()));
        assert_eq!(census.enter(a, 3, 2), Ok(()));
        assert_eq!(census.enter(a, 3, 2), Err(Refusal::AddressFull(2)));
        assert_eq!(census.enter(b, 3, 2), Ok(()), "another address does not notice");
        assert_eq!(census.enter(c, 3, 2), Err(Refusal::ServerFull(3)));
        census.leave(a);
        assert_eq!(census.enter(a, 3, 2), Ok(()));
        for address in [a, a, b] {
            census.leave(address);
        }
        assert_eq!(census.total(), 0);
        assert_eq!([census.take_most(), census.take_most()], [3, 0]);
        assert!(census.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let census = Census::new();
        let [a, b, other, mapped, v4] =
            ["2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1", "::ffff:127.0.0.1", "127.0.0.1"]
                .map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(census.enter(a, 9, 1), Ok(()));
        assert_eq!(census.enter(b, 9, 1), Err(Refusal::AddressFull(1)));
        assert_eq!(census.enter(other, 9, 1), Ok(()));
        assert_eq!(census.enter(mapped, 9, 1), Ok(()));
        assert_eq!(census.enter(v4, 9, 1), Err(Refusal::AddressFull(1)));
        for address in [b, other, v4] {
            census.leave(address);
        }
        assert_eq!(census.enter(a, 9, 0), Err(Refusal::AddressFull(0)));
        assert!(census.stripes.iter().all(|stripe| stripe.lock().unwrap().is_empty()));
    }
}
