//! [`Asker`]: the web page that asked, if it was one, and what its browser is told (CORS, in the
//! Fetch Standard of WHATWG).

use eserver::http::{Head, ResponseWriter};

use crate::origins::Origins;
use crate::service::{ANY_ORIGIN, VARY_ORIGIN};

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker<'a> {
    /// Anybody: pages of all origins may read the answer.
    Anybody,
    /// A page of this origin, which may.
    Page(&'a str),
    /// No page of another origin.
    NoPage,
    /// A page that may not.
    Stranger,
}

impl<'a> Asker<'a> {
    /// Who has sent a request.
    pub(crate) fn of(head: &Head<'a>, origins: &Origins) -> Self {
        if *origins == Origins::Any {
            return Asker::Anybody;
        }
        let mut given = head.fields.all("origin");
        let Some(origin) = given.next() else { return Asker::NoPage };
        match str::from_utf8(origin) {
            Ok(page) if origins.has(origin) && given.next().is_none() => Asker::Page(page),
            _ => Asker::Stranger,
        }
    }

    /// Who has asked a while ago, from this origin if it was a page that was let in.
    pub(crate) fn remembered(origin: Option<&'a str>, origins: &Origins) -> Self {
        match origin {
            _ if *origins == Origins::Any => Asker::Anybody,
            Some(page) if origins.has(page.as_bytes()) => Asker::Page(page),
            Some(_) => Asker::Stranger,
            None => Asker::NoPage,
        }
    }

    /// The origin to remember of who waits for its answer.
    pub(crate) fn origin(self) -> Option<&'a str> {
        match self {
            Asker::Page(origin) => Some(origin),
            _ => None,
        }
    }

    /// Whether it is let in: whoever is no page has no browser that would ask.
    pub(crate) fn is_let_in(self) -> bool {
        self != Asker::Stranger
    }

    /// Says so in an answer.
    pub(crate) fn tell(self, response: &mut ResponseWriter<'_>) {
        if self == Asker::Anybody {
            return response.line(&ANY_ORIGIN);
        }
        // Also where nobody may read it: a cache must not give others this answer.
        response.line(&VARY_ORIGIN);
        if let Asker::Page(origin) = self {
            // What is listed can stand in a head.
            let _ = response.field("Access-Control-Allow-Origin", origin.as_bytes());
        }
    }
}
