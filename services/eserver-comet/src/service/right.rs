//! [`Right`]: by what right somebody subscribes or publishes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::channel_name::ChannelName;
use crate::letter::Access;
use crate::millis::Millis;
use crate::secrets::Secrets;
use crate::service::answer::Answer;
use crate::settings::Auth;
use crate::token::{Grant, TokenError};

/// What the token of a request is worth.
#[derive(Debug, Clone)]
pub(crate) enum Right {
    /// There was none, and none is needed.
    Anybody,
    /// It is the token of one channel, which that channel's hub knows.
    Channel(Box<str>),
    /// It was signed here.
    Granted(Box<Grant>),
}

/// Why a request has no right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoRight {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl NoRight {
    fn forbidden(what: &str, channel: ChannelName<'_>) -> Self {
        let message = format!("the token does not allow to {what} {:?}", channel.as_str());
        NoRight { status: 403, code: "forbidden", message }
    }
}

impl From<NoRight> for Answer {
    fn from(no: NoRight) -> Self {
        Answer::error(no.status, no.code, &no.message)
    }
}

impl Right {
    /// What `token` is worth.
    pub(crate) fn of(token: &str, auth: Auth, secrets: &Secrets) -> Result<Self, NoRight> {
        let refuse =
            |code, message: &str| Err(NoRight { status: 401, code, message: message.to_owned() });
        match (token, auth) {
            ("", Auth::None) => Ok(Right::Anybody),
            ("", Auth::Token) => refuse("token_required", "a token is needed here"),
            (token, _) if token.contains('.') => {
                match Grant::verify(token, secrets, now_unix_s()) {
                    Ok(grant) => Ok(Right::Granted(Box::new(grant))),
                    Err(error @ TokenError::Expired) => refuse("token_expired", &error.to_string()),
                    Err(error) => refuse("token_invalid", &error.to_string()),
                }
            }
            _ => Ok(Right::Channel(token.into())),
        }
    }

    /// The same right as long as its time is not over: a connection keeps what it was opened with.
    pub(crate) fn still(self) -> Result<Self, NoRight> {
        match &self {
            Right::Granted(grant) if grant.is_over(now_unix_s()) => {
                let message = TokenError::Expired.to_string();
                Err(NoRight { status: 401, code: "token_expired", message })
            }
            _ => Ok(self),
        }
    }

    /// The access it gives to a channel that is to be listened to.
    pub(crate) fn to_subscribe(&self, channel: ChannelName<'_>) -> Result<Access, NoRight> {
        match self {
            Right::Anybody => Ok(Access::Token("".into())),
            Right::Channel(token) => Ok(Access::Token(token.clone())),
            Right::Granted(grant) if grant.may_subscribe(channel) => Ok(Access::Granted),
            Right::Granted(_) => Err(NoRight::forbidden("listen to", channel)),
        }
    }

    /// Whether it allows to publish to a channel, on the public port.
    pub(crate) fn to_publish(&self, channel: ChannelName<'_>) -> Result<(), NoRight> {
        match self {
            Right::Granted(grant) if grant.may_publish(channel) => Ok(()),
            _ => Err(NoRight::forbidden("publish to", channel)),
        }
    }

    /// Who it is.
    pub(crate) fn subject(&self) -> Option<Arc<str>> {
        match self {
            Right::Granted(grant) => grant.subject.as_deref().map(Arc::from),
            Right::Anybody | Right::Channel(_) => None,
        }
    }

    /// When its time is over.
    pub(crate) fn ends_at(&self, now: Millis) -> Option<Millis> {
        let Right::Granted(grant) = self else { return None };
        let left_s = grant.expires_unix_s?.saturating_sub(now_unix_s());
        Some(now.plus(left_s.saturating_mul(1000)))
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_worth_what_it_says() {
        let secrets = Secrets::from_seed(1);
        let name = |text| ChannelName::new(text).expect("it is short");
        let grant = |subscribe, publish, expires_unix_s| Grant {
            prefixes: vec!["a/".into()],
            subscribe,
            publish,
            expires_unix_s,
            subject: Some("ann".into()),
            ..Grant::default()
        };
        let of = |token: &str, auth| Right::of(token, auth, &secrets);
        let code = |token: &str| of(token, Auth::Token).expect_err("it is worth nothing").code;
        assert!(matches!(of("", Auth::None), Ok(Right::Anybody)));
        assert_eq!(code(""), "token_required");
        assert_eq!(code("a.b"), "token_invalid");
        assert_eq!(code(&grant(true, true, Some(1)).sign(&secrets)), "token_expired");

        let right = of(&grant(true, false, None).sign(&secrets), Auth::Token).expect("a grant");
        assert_eq!(right.to_subscribe(name("a/b")), Ok(Access::Granted));
        assert_eq!(right.to_subscribe(name("b")).expect_err("not that").status, 403);
        assert_eq!(right.to_publish(name("a/b")).expect_err("not to publish").code, "forbidden");
        assert_eq!(right.subject().as_deref(), Some("ann"));
        let right = of(&grant(false, true, None).sign(&secrets), Auth::None).expect("a grant");
        assert!(right.to_subscribe(name("a/b")).is_err() && right.to_publish(name("a/b")).is_ok());

        let right = of("0123", Auth::Token).expect("the hub decides");
        assert_eq!(right.to_subscribe(name("x")), Ok(Access::Token("0123".into())));
        assert!(right.to_publish(name("x")).is_err());
        assert!(Right::Anybody.to_publish(name("x")).is_err(), "only who may do so by a token");
    }
}
