//! [`Answer`]: a short answer to a request, given in one piece.

use std::borrow::Cow;

use eserver::Conns;
use eserver::http::{Answered, Call, ResponseWriter, Ticket};

use crate::message::write_quoted;
use crate::render::{self, Callback};
use crate::service::asker::Asker;

const JSON: &str = "application/json; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// A short answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    media_type: &'static str,
    body: Cow<'static, str>,
    /// The methods that are allowed.
    allow: Option<&'static str>,
    /// Whether it is the same until another version of the server comes.
    is_constant: bool,
}

impl Answer {
    fn new(status: u16, media_type: &'static str, body: impl Into<Cow<'static, str>>) -> Self {
        let body = body.into();
        Answer { status, media_type, body, allow: None, is_constant: false }
    }

    /// Some text.
    pub(crate) fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, TEXT, body)
    }

    /// A JSON value.
    pub(crate) fn json(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, JSON, body)
    }

    /// A JSON value as icomet answers it: in a line, or in a call of the function that was asked
    /// for.
    pub(crate) fn called(callback: Option<Callback<'_>>, json: &'static str) -> Self {
        match callback {
            None if json == OK => Self::new(200, JSON, OK_LINE),
            _ => Self::called_with(callback, json),
        }
    }

    /// [`Answer::called`] of a value that was made.
    pub(crate) fn called_with(callback: Option<Callback<'_>>, json: &str) -> Self {
        let mut body = String::with_capacity(json.len() + 32);
        render::enclose(callback, json, &mut body);
        let media_type = if callback.is_some() { SCRIPT } else { JSON };
        Self::new(200, media_type, body)
    }

    /// No more than a status, which is how icomet refuses.
    pub(crate) fn empty(status: u16) -> Self {
        Self::new(status, "", "")
    }

    /// Another method is to be used.
    pub(crate) fn method(allow: &'static str) -> Self {
        Answer { allow: Some(allow), ..Self::empty(405) }
    }

    /// The client for browsers, an ES module.
    pub(crate) fn client() -> Self {
        Answer { is_constant: true, ..Self::new(200, SCRIPT, include_str!("eserver.js")) }
    }

    /// The modern API, for programs.
    pub(crate) fn description() -> Self {
        Answer { is_constant: true, ..Self::json(200, include_str!("openapi.json")) }
    }

    /// What went wrong, as the modern API says it.
    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let mut body = format!("{{\"error\":{{\"code\":\"{code}\",\"message\":");
        write_quoted(message, &mut body);
        body.push_str("}}\n");
        Self::json(status, body)
    }

    /// Methods that are allowed instead.
    pub(crate) fn allowing(self, allow: &'static str) -> Self {
        Answer { allow: Some(allow), ..self }
    }

    /// Gives it to a call.
    pub(crate) fn give(self, call: Call<'_, '_>) -> Answered {
        call.reply_with(self.status, |response| self.write(response))
    }

    /// Gives it on the public port, where pages may read it.
    pub(crate) fn give_to(self, asker: Asker<'_>, call: Call<'_, '_>) -> Answered {
        call.reply_with(self.status, |mut response| {
            asker.tell(&mut response);
            self.write(response);
        })
    }

    /// Gives it later.
    pub(crate) fn give_by(self, ticket: Ticket, conns: &mut Conns<'_>) {
        ticket.reply(conns, self.status, |response| self.write(response));
    }

    fn write(&self, mut response: ResponseWriter<'_>) {
        if self.is_constant {
            response.line(&super::CACHE_FOR_AN_HOUR);
        }
        let fields = [("Allow", self.allow), ("Content-Type", Some(self.media_type))];
        for (name, value) in fields {
            if let Some(value) = value.filter(|value| !value.is_empty())
                && response.field(name, value.as_bytes()).is_err()
            {
                return;
            }
        }
        response.body(self.body.as_bytes());
    }
}

/// What icomet says when all is well.
pub(crate) const OK: &str = "{\"type\":\"ok\"}";

/// It, in a line.
const OK_LINE: &str = "{\"type\":\"ok\"}\n";
