//! [`BadInput`]: what a client sent is not what a handler takes; and [`Failure`], whatever else
//! went wrong in one.

use std::any::Any;
use std::error::Error;

use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::http::reply::{Reply, text};

/// What a client sent cannot be read as what the handler takes. As a reply it is a 400 or 415 with
/// this sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadInput {
    /// The query of the target; what is wrong with it.
    #[error("the query cannot be used: {0}")]
    Query(String),
    /// The JSON of the body; what is wrong with it and where.
    #[error("the JSON cannot be used: {0}")]
    Json(String),
    /// The fields of the form; what is wrong with them.
    #[error("the form cannot be used: {0}")]
    Form(String),
    /// The body is of another type than the handler reads.
    #[error("send the body as {expected}, not as {}", found.as_deref().unwrap_or("nothing known"))]
    ContentType {
        /// The type it should have.
        expected: &'static str,
        /// The field Content-Type as it was sent.
        found: Option<String>,
    },
}

impl BadInput {
    /// The status that goes with it: 415 for a body of another type, 400 for all else.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            BadInput::ContentType { .. } => 415,
            BadInput::Query(_) | BadInput::Json(_) | BadInput::Form(_) => 400,
        }
    }
}

impl From<BadInput> for Reply {
    fn from(bad: BadInput) -> Self {
        text(format!("{bad}\n")).with_status(bad.status())
    }
}

/// Why a handler has nothing to give, for handlers that pass errors on with `?`.
///
/// A [`BadInput`], and a [`Reply`] made to be an error, are answered as they are. Any other error
/// is logged, with what caused it, and the client gets a 500 that tells it nothing.
///
/// ```
/// use eserver::http::{App, Failure, text};
///
/// let mut app = App::new();
/// app.get("/half", |request| {
///     let number: u64 = request.header("x-number").unwrap_or("0").parse()?;
///     Ok::<_, Failure>(text((number / 2).to_string()))
/// });
/// ```
pub struct Failure(Reply);

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        if let Some(bad) = any.downcast_ref::<BadInput>() {
            return Failure(bad.clone().into());
        }
        let mut causes = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push_str(": ");
            causes.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!("a handler failed: {error}{causes}");
        Failure(Reply::internal_error())
    }
}

impl From<Reply> for Failure {
    fn from(reply: Reply) -> Self {
        Failure(reply)
    }
}

impl From<Failure> for Reply {
    fn from(Failure(reply): Failure) -> Self {
        reply
    }
}

pub(crate) fn query<T: DeserializeOwned>(query: &str) -> Result<T, BadInput> {
    serde_html_form::from_str(query).map_err(|error| BadInput::Query(error.to_string()))
}

pub(crate) fn form<T: DeserializeOwned>(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<T, BadInput> {
    const EXPECTED: &str = "application/x-www-form-urlencoded";
    check_type(content_type, EXPECTED, |found| found.eq_ignore_ascii_case(EXPECTED))?;
    serde_html_form::from_bytes(body).map_err(|error| BadInput::Form(error.to_string()))
}

pub(crate) fn json<T: DeserializeOwned>(
    content_type: Option<&str>,
    body: &[u8],
) -> Result<T, BadInput> {
    check_type(content_type, "application/json", is_json)?;
    serde_json::from_slice(body).map_err(|error| BadInput::Json(error.to_string()))
}

/// `application/json`, or something that is written in it, such as `application/geo+json`.
fn is_json(essence: &str) -> bool {
    let lower = essence.to_ascii_lowercase();
    lower == "application/json" || (lower.starts_with("application/") && lower.ends_with("+json"))
}

fn check_type(
    found: Option<&str>,
    expected: &'static str,
    is_right: impl FnOnce(&str) -> bool,
) -> Result<(), BadInput> {
    let essence = found.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if is_right(essence) {
        return Ok(());
    }
    Err(BadInput::ContentType { expected, found: found.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Item {
        name: String,
        #[serde(default)]
        count: u32,
        #[serde(default)]
        tag: Vec<String>,
    }

    fn item(name: &str, count: u32, tags: &[&str]) -> Item {
        let tag = tags.iter().map(|&tag| tag.to_owned()).collect();
        Item { name: name.to_owned(), count, tag }
    }

    #[test]
    fn queries_and_forms() {
        let form_type = Some("Application/x-www-form-urlencoded; charset=utf-8");
        for (text, expected) in [
            ("name=a", Some(item("a", 0, &[]))),
            ("name=a+b%26&count=7&other=1", Some(item("a b&", 7, &[]))),
            ("name=%E6%88%90&tag=x&tag=y", Some(item("成", 0, &["x", "y"]))),
            ("count=7", None),
            ("name=a&count=-1", None),
            ("name=a&count=x", None),
            ("", None),
        ] {
            assert_eq!(query::<Item>(text).ok(), expected, "{text}");
            assert_eq!(form::<Item>(form_type, text.as_bytes()).ok(), expected, "{text}");
        }
        let error = query::<Item>("name=a&count=x").unwrap_err();
        assert_eq!(error.status(), 400);
        assert_eq!(error.to_string(), "the query cannot be used: invalid digit found in string");
    }

    #[test]
    fn types_of_bodies() {
        for (content_type, expected) in [
            (Some("application/json"), 200),
            (Some("Application/JSON ; charset=utf-8"), 200),
            (Some("application/geo+json"), 200),
            (Some("text/json"), 415),
            (Some("text/plain"), 415),
            (Some("application/jsonx"), 415),
            (None, 415),
        ] {
            let read = json::<Item>(content_type, br#"{"name":"a"}"#);
            assert_eq!(read.map_or_else(|bad| bad.status(), |_| 200), expected, "{content_type:?}");
        }
        let error = form::<Item>(None, b"name=a").unwrap_err().to_string();
        assert_eq!(
            error,
            "send the body as application/x-www-form-urlencoded, not as nothing known"
        );
        let error = json::<Item>(Some("application/json"), b"{").unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().ends_with("at line 1 column 1"), "{error}");
    }
}
