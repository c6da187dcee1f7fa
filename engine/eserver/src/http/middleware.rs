//! What is done to every request and reply of an [`App`](crate::http::App), whatever its route:
//! request ids, CORS, and the access log.

mod access_log;
mod cors;
mod request_id;

use std::borrow::Cow;

use crate::http::app::Request;
use crate::http::middleware::access_log::{AccessLog, Entry};
use crate::http::middleware::request_id::RequestIds;
use crate::http::reply::Reply;

pub use cors::Cors;

/// What of it an application has turned on.
#[derive(Clone, Default)]
pub(crate) struct Middleware {
    pub(crate) cors: Option<Cors>,
    pub(crate) has_request_ids: bool,
    /// One in so many requests is logged.
    pub(crate) log_one_in: Option<u32>,
}

/// The same as one shard has it.
pub(crate) struct MiddlewareOnShard {
    cors: Option<Cors>,
    request_ids: Option<RequestIds>,
    access_log: Option<AccessLog>,
}

/// What the reply to a request is given on its way out. Most have nothing.
#[derive(Default)]
pub(crate) struct Envelope(Option<Box<Contents>>);

struct Contents {
    fields: Vec<(&'static str, Cow<'static, str>)>,
    log: Option<Entry>,
}

impl Middleware {
    pub(crate) fn on_shard(&self, runtime: &tokio::runtime::Handle) -> MiddlewareOnShard {
        MiddlewareOnShard {
            cors: self.cors.clone(),
            request_ids: self.has_request_ids.then(RequestIds::new),
            access_log: self.log_one_in.map(|one_in| AccessLog::new(one_in, runtime)),
        }
    }
}

impl MiddlewareOnShard {
    /// Sees a request that is yet to be worked on.
    #[inline]
    pub(crate) fn open(&mut self, request: &mut Request<'_>) -> Envelope {
        if self.request_ids.is_none() && self.cors.is_none() && self.access_log.is_none() {
            return Envelope(None);
        }
        self.fill(request)
    }

    fn fill(&mut self, request: &mut Request<'_>) -> Envelope {
        let mut fields = Vec::new();
        if let Some(ids) = &mut self.request_ids {
            let id = ids.of(request.header(request_id::FIELD));
            fields.push((request_id::FIELD, Cow::Owned(id.clone())));
            request.set_id(id);
        }
        if let Some(cors) = &self.cors {
            cors.answer(request.header("origin"), &mut fields);
        }
        let log = self.access_log.as_mut().and_then(|log| log.enter(request));
        if fields.is_empty() && log.is_none() {
            return Envelope(None);
        }
        Envelope(Some(Box::new(Contents { fields, log })))
    }

    /// The answer to a browser that asks whether it may ask, for a path with these methods.
    pub(crate) fn preflight(&self, request: &Request<'_>, allow: &str) -> Option<Reply> {
        self.cors.as_ref()?.preflight(request, allow)
    }
}

impl Envelope {
    /// Completes the reply, which is about to be sent.
    #[inline]
    pub(crate) fn seal(self, reply: Reply) -> Reply {
        match self.0 {
            Some(contents) => contents.seal(reply),
            None => reply,
        }
    }
}

impl Contents {
    fn seal(self, reply: Reply) -> Reply {
        let reply = self
            .fields
            .into_iter()
            .fold(reply, |reply, (name, value)| reply.with_header(name, value));
        if let Some(entry) = self.log {
            entry.write(&reply);
        }
        reply
    }
}
