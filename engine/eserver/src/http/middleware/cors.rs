//! [`Cors`]: which web pages of other origins may use an application (the Fetch standard of WHATWG).

use std::borrow::Cow;
use std::time::Duration;

use crate::http::app::Request;
use crate::http::reply::{Reply, status};

/// Which web pages of other origins may use an application, and what they may send and see.
///
/// ```
/// use std::time::Duration;
/// use eserver::http::{App, Cors};
///
/// let mut app = App::new();
/// app.cors(
///     Cors::of(["https://example.org"])
///         .with_credentials()
///         .exposing(["X-Request-Id"])
///         .for_so_long(Duration::from_secs(3600)),
/// );
/// ```
#[derive(Debug, Clone)]
pub struct Cors {
    /// `None` for all.
    origins: Option<Vec<String>>,
    has_credentials: bool,
    exposed: String,
    /// In seconds, as the field Access-Control-Max-Age has it.
    max_age_s: String,
}

impl Cors {
    /// Pages of any origin, without credentials such as cookies.
    #[must_use]
    pub fn any() -> Self {
        let (exposed, max_age_s) = (String::new(), "600".to_owned());
        Cors { origins: None, has_credentials: false, exposed, max_age_s }
    }

    /// Pages of these origins, each with its scheme and, if it is an unusual one, its port:
    /// `https://example.org`, `http://localhost:5173`.
    #[must_use]
    pub fn of<T: Into<String>>(origins: impl IntoIterator<Item = T>) -> Self {
        Cors { origins: Some(origins.into_iter().map(Into::into).collect()), ..Cors::any() }
    }

    /// Lets pages send cookies and the like, if their origins are listed: to let any page act for
    /// whoever looks at it would be no protection at all.
    #[must_use]
    pub fn with_credentials(mut self) -> Self {
        self.has_credentials = self.origins.is_some();
        self
    }

    /// Lets pages see these fields of replies, besides the few that all may see.
    #[must_use]
    pub fn exposing<T: AsRef<str>>(mut self, fields: impl IntoIterator<Item = T>) -> Self {
        let fields: Vec<T> = fields.into_iter().collect();
        self.exposed = fields.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ");
        self
    }

    /// How long a browser may remember what it was told. 10 minutes by default.
    #[must_use]
    pub fn for_so_long(mut self, time: Duration) -> Self {
        self.max_age_s = time.as_secs().to_string();
        self
    }

    /// The fields of a reply to a page of that origin, if it is let in.
    pub(super) fn answer(
        &self,
        origin: Option<&str>,
        fields: &mut Vec<(&'static str, Cow<'static, str>)>,
    ) {
        if self.origins.is_some() {
            // Also for who has no origin: a cache in between must know.
            fields.push(("Vary", "Origin".into()));
        }
        let Some(origin) = origin else { return };
        match &self.origins {
            None => fields.push(("Access-Control-Allow-Origin", "*".into())),
            Some(origins) if origins.iter().any(|known| known == origin) => {
                fields.push(("Access-Control-Allow-Origin", origin.to_owned().into()));
            }
            Some(_) => return,
        }
        if self.has_credentials {
            fields.push(("Access-Control-Allow-Credentials", "true".into()));
        }
        if !self.exposed.is_empty() {
            fields.push(("Access-Control-Expose-Headers", self.exposed.clone().into()));
        }
    }

    /// The answer to the question before the request, if this is one. What origin it was is
    /// answered as in any reply.
    pub(super) fn preflight(&self, request: &Request<'_>, allow: &str) -> Option<Reply> {
        request.header("origin")?;
        request.header("access-control-request-method")?;
        let mut reply = status(204)
            .with_header("Access-Control-Allow-Methods", allow.to_owned())
            .with_header("Access-Control-Max-Age", self.max_age_s.clone())
            .with_header("Vary", "Access-Control-Request-Headers");
        if let Some(headers) = request.header("access-control-request-headers") {
            reply = reply.with_header("Access-Control-Allow-Headers", headers.to_owned());
        }
        Some(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cors: &Cors, origin: Option<&str>) -> String {
        let mut fields = Vec::new();
        cors.answer(origin, &mut fields);
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        fields.join("; ").replace("Access-Control-", "")
    }

    #[test]
    fn pages_of_other_origins() {
        let any = Cors::any().with_credentials();
        assert_eq!(answer(&any, None), "");
        assert_eq!(answer(&any, Some("https://a")), "Allow-Origin: *");
        let some = Cors::of(["https://a", "http://b:1"]).exposing(["X-A", "X-B"]);
        assert_eq!(answer(&some, None), "Vary: Origin");
        assert_eq!(answer(&some, Some("https://a.evil")), "Vary: Origin");
        assert_eq!(answer(&some, Some("null")), "Vary: Origin");
        assert_eq!(
            answer(&some.with_credentials(), Some("http://b:1")),
            "Vary: Origin; Allow-Origin: http://b:1; Allow-Credentials: true; \
             Expose-Headers: X-A, X-B"
        );
    }
}
