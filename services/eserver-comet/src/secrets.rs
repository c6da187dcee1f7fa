//! [`Secrets`]: what must not be guessed, from the system's chance.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::position::Epoch;
use crate::shards::ShardId;

/// The key that tokens are signed with, and where names and lives begin. Copied to all shards.
#[derive(Clone)]
pub struct Secrets {
    names: u64,
    epochs: u64,
    mac: Hmac<Sha256>,
}

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random numbers")]
pub struct NoRandomness(#[source] getrandom::Error);

impl Secrets {
    /// New ones. With a `key`, tokens are good for all processes that have the same; without, for
    /// this one.
    ///
    /// # Errors
    /// [`NoRandomness`]
    pub fn new(key: Option<&[u8]>) -> Result<Self, NoRandomness> {
        let names = getrandom::u64().map_err(NoRandomness)?;
        let epochs = getrandom::u64().map_err(NoRandomness)?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(NoRandomness)?;
        Ok(Self::of(names, epochs, key.unwrap_or(&random)))
    }

    /// The same every time: for simulations, of no use to keep anything secret.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::of(seed, seed, &seed.to_be_bytes())
    }

    fn of(names: u64, epochs: u64, key: &[u8]) -> Self {
        let mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Secrets { names, epochs, mac }
    }

    /// The key of [`Shards::new`](crate::Shards::new).
    #[must_use]
    pub fn names(&self) -> u64 {
        self.names
    }

    /// The epoch of the life of this number on a shard: another one for each of them, and chance
    /// for who does not know the secret. Lives wrap around after four thousand million; that one
    /// channel has the same again is as unlikely as two epochs at random.
    pub(crate) fn epoch(&self, shard: ShardId, life: u32) -> Epoch {
        // The finalizer of splitmix64, which maps no two numbers to the same.
        let mut mixed = self.epochs ^ (u64::from(shard) << 32 | u64::from(life));
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Epoch::new(mixed ^ mixed >> 31)
    }

    /// A signature of these parts, for one purpose.
    pub(crate) fn sign(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.mac_of(purpose, parts).finalize().into_bytes().into()
    }

    /// Whether `signature` is one, or the first half of one, in a time that says nothing else.
    pub(crate) fn verify(&self, purpose: &str, parts: &[&[u8]], signature: &[u8]) -> bool {
        signature.len() >= 16
            && self.mac_of(purpose, parts).verify_truncated_left(signature).is_ok()
    }

    fn mac_of(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for part in [purpose.as_bytes()].iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_from_outside_outlives_the_process_and_chance_does_not() {
        let sign = |secrets: Secrets| secrets.sign("test", &[b"a", b"b"]);
        let new = |key: Option<&[u8]>| Secrets::new(key).unwrap();
        assert_eq!(sign(new(Some(b"key"))), sign(new(Some(b"key"))));
        assert_ne!(sign(new(Some(b"key"))), sign(new(Some(b"other"))));
        assert_ne!(sign(new(None)), sign(new(None)));
        assert_ne!(new(Some(b"key")).epoch(0, 1), new(Some(b"key")).epoch(0, 1));
    }

    #[test]
    fn parts_and_purposes_are_kept_apart() {
        let secrets = Secrets::from_seed(1);
        let signature = secrets.sign("test", &[b"ab", b"c"]);
        assert!(secrets.verify("test", &[b"ab", b"c"], &signature));
        assert!(secrets.verify("test", &[b"ab", b"c"], &signature[..16]));
        assert!(!secrets.verify("test", &[b"a", b"bc"], &signature));
        assert!(!secrets.verify("tes", &[b"tab", b"c"], &signature));
        assert!(!secrets.verify("test", &[b"ab", b"c"], &signature[..15]));
        assert!(!secrets.verify("test", &[b"ab", b"c"], &[0; 32]));
        assert!(!secrets.verify("test", &[b"ab", b"c"], &[]));
    }
}
