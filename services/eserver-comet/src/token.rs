//! Tokens: [`ChannelToken`], what signing a channel gives icomet's clients, and [`Grant`], what a
//! modern client may do.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base64url;
use crate::channel_name::ChannelName;
use crate::position::Epoch;
use crate::secrets::Secrets;

const CHANNEL: &str = "channel";
const GRANT: &str = "grant";

/// How long a signed token may be, in bytes; longer ones are not read.
pub const TOKEN_BYTES_MAX: usize = 4096;

/// The token of one life of a channel: 32 hexadecimal digits.
///
/// It is a signature of name and epoch under a key from the system's chance, so a channel that is
/// not signed pays nothing for it, signing again gives the same, and the next life has another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelToken(String);

impl ChannelToken {
    pub(crate) fn new(secrets: &Secrets, channel: &str, epoch: Epoch) -> Self {
        let signature = secrets.sign(CHANNEL, &[channel.as_bytes(), &epoch.get().to_be_bytes()]);
        let mut text = String::with_capacity(32);
        for byte in &signature[..16] {
            write!(text, "{byte:02x}").expect("a string takes all");
        }
        ChannelToken(text)
    }

    /// Whether `text` is the token of this life of the channel.
    pub(crate) fn is(text: &str, secrets: &Secrets, channel: &str, epoch: Epoch) -> bool {
        let mut signature = [0; 16];
        if text.len() != 32 {
            return false;
        }
        for (byte, digits) in signature.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |letter: u8| match letter {
                b'0'..=b'9' => Some(letter - b'0'),
                b'a'..=b'f' => Some(letter - b'a' + 10),
                _ => None,
            };
            let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
                return false;
            };
            *byte = high << 4 | low;
        }
        secrets.verify(CHANNEL, &[channel.as_bytes(), &epoch.get().to_be_bytes()], &signature)
    }

    /// The token as clients send it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What its holder may do, and until when. As a token: base64url of this as JSON, a dot, and
/// base64url of its HMAC-SHA256.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The channels, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// The channels, by the beginning of their names; the empty prefix is for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Whether it may listen to them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subscribe: bool,
    /// Whether it may publish to them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish: bool,
    /// Until when, in seconds since the Unix epoch; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_s: Option<u64>,
    /// Who it is, for presence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// Why a token grants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is not a token, or one that was signed with another key, or was changed.
    #[error("the token was not signed by this server")]
    Forged,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
}

impl Grant {
    /// The token that says so.
    #[must_use]
    pub fn sign(&self, secrets: &Secrets) -> String {
        let claims = serde_json::to_vec(self).expect("texts and numbers are JSON");
        let mut token = String::new();
        base64url::encode(&claims, &mut token);
        token.push('.');
        base64url::encode(&secrets.sign(GRANT, &[&claims]), &mut token);
        token
    }

    /// What a token grants at `now_unix_s`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(token: &str, secrets: &Secrets, now_unix_s: u64) -> Result<Self, TokenError> {
        let parts = token.split_once('.').filter(|_| token.len() <= TOKEN_BYTES_MAX);
        let (claims, signature) = parts.ok_or(TokenError::Forged)?;
        let claims = base64url::decode(claims).ok_or(TokenError::Forged)?;
        let signature = base64url::decode(signature).filter(|signature| signature.len() == 32);
        let signature = signature.ok_or(TokenError::Forged)?;
        if !secrets.verify(GRANT, &[&claims], &signature) {
            return Err(TokenError::Forged);
        }
        let grant: Grant = serde_json::from_slice(&claims).map_err(|_| TokenError::Forged)?;
        if grant.is_over(now_unix_s) { Err(TokenError::Expired) } else { Ok(grant) }
    }

    /// Whether its time is over at `now_unix_s`, in seconds since the Unix epoch.
    #[must_use]
    pub fn is_over(&self, now_unix_s: u64) -> bool {
        self.expires_unix_s.is_some_and(|expires| expires <= now_unix_s)
    }

    /// Whether it allows to listen to this channel.
    #[must_use]
    pub fn may_subscribe(&self, channel: ChannelName<'_>) -> bool {
        self.subscribe && self.is_for(channel)
    }

    /// Whether it allows to publish to this channel.
    #[must_use]
    pub fn may_publish(&self, channel: ChannelName<'_>) -> bool {
        self.publish && self.is_for(channel)
    }

    fn is_for(&self, channel: ChannelName<'_>) -> bool {
        let name = channel.as_str();
        self.channels.iter().any(|held| held == name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant {
            channels: vec!["news".into()],
            prefixes: vec!["chat/".into()],
            subscribe: true,
            expires_unix_s: Some(1000),
            subject: Some("ann \"é\"".into()),
            ..Grant::default()
        }
    }

    #[test]
    fn a_grant_is_for_what_it_says_and_for_as_long() {
        let secrets = Secrets::from_seed(1);
        let token = grant().sign(&secrets);
        assert_eq!(Grant::verify(&token, &secrets, 999), Ok(grant()));
        assert_eq!(Grant::verify(&token, &secrets, 1000), Err(TokenError::Expired));
        let others = Secrets::from_seed(2);
        assert_eq!(Grant::verify(&token, &others, 999), Err(TokenError::Forged));
        for (channel, subscribe) in
            [("news", true), ("new", false), ("news2", false), ("chat/1", true), ("chat", false)]
        {
            let channel = ChannelName::new(channel).unwrap();
            assert_eq!(grant().may_subscribe(channel), subscribe, "{channel:?}");
            assert!(!grant().may_publish(channel));
            let publisher = Grant { publish: true, subscribe: false, ..grant() };
            assert_eq!(publisher.may_publish(channel), subscribe, "{channel:?}");
            assert!(!publisher.may_subscribe(channel));
        }
    }

    #[test]
    fn every_change_of_a_token_is_noticed() {
        let secrets = Secrets::from_seed(1);
        let token = grant().sign(&secrets);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(Grant::verify(&forged, &secrets, 0), Err(TokenError::Forged), "{forged}");
            assert_eq!(Grant::verify(&token[..at], &secrets, 0), Err(TokenError::Forged));
        }
        for bad in ["", ".", "..", "e30.", "e30", &".".repeat(9000)] {
            assert_eq!(Grant::verify(bad, &secrets, 0), Err(TokenError::Forged));
        }
    }

    #[test]
    fn a_channels_token_is_good_for_one_life_of_it() {
        let (secrets, epoch) = (Secrets::from_seed(1), Epoch::new(5));
        let token = ChannelToken::new(&secrets, "a", epoch);
        let is = |text: &str, channel, epoch| ChannelToken::is(text, &secrets, channel, epoch);
        assert_eq!(token.as_str().len(), 32);
        assert!(is(token.as_str(), "a", epoch));
        assert!(!is(token.as_str(), "b", epoch));
        assert!(!is(token.as_str(), "a", Epoch::new(6)));
        for at in 0..32 {
            let mut forged = token.as_str().to_owned();
            let other = if forged.as_bytes()[at] == b'0' { "1" } else { "0" };
            forged.replace_range(at..=at, other);
            assert!(!is(&forged, "a", epoch));
            assert!(!is(&token.as_str()[..at], "a", epoch));
        }
        for bad in ["", "é", &"é".repeat(16), &"g".repeat(32)] {
            assert!(!is(bad, "a", epoch));
        }
    }
}
