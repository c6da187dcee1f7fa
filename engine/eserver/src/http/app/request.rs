//! [`Request`]: what a handler is given.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use eserver_wire::http::{Fields, Head};
use serde::de::DeserializeOwned;

use crate::conn_id::ConnId;
use crate::http::extract::{self, BadInput};
use crate::http::files;
use crate::http::reply::Reply;
use crate::http::router::Params;

/// A request, borrowed from the shard's read buffer where the handler answers in place.
pub struct Request<'a> {
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
    /// ASCII.
    host: Option<Cow<'a, [u8]>>,
    headers: Headers<'a>,
    body: Cow<'a, [u8]>,
    params: Params<'a>,
    id: Option<String>,
    /// IPv4 as a mapped address.
    peer: Ipv6Addr,
    conn_id: ConnId,
}

/// A request that a handler may keep while it waits.
pub type OwnedRequest = Request<'static>;

enum Headers<'a> {
    Borrowed(Fields<'a>),
    /// Lines of a name, a colon, the value and a line feed.
    Owned(Box<[u8]>),
}

impl<'a> Request<'a> {
    pub(crate) fn new(head: &Head<'a>, body: &'a [u8], peer: Ipv6Addr, conn_id: ConnId) -> Self {
        Request {
            method: Cow::Borrowed(head.method),
            path: Cow::Borrowed(head.path),
            query: head.query.map(Cow::Borrowed),
            host: head.host_bytes.map(Cow::Borrowed),
            headers: Headers::Borrowed(head.fields),
            body: Cow::Borrowed(body),
            params: Params::default(),
            id: None,
            peer,
            conn_id,
        }
    }

    pub(crate) fn set_params(&mut self, params: Params<'a>) {
        self.params = params;
    }

    pub(crate) fn set_id(&mut self, id: String) {
        self.id = Some(id);
    }

    /// `GET` for instance.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path as it was sent, not decoded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What follows the first question mark of the target, not decoded.
    #[must_use]
    pub fn query_string(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whom the client asks, with the port if it said one; only HTTP/1.0 may leave it open.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref().map(|host| str::from_utf8(host).expect("a host is ASCII"))
    }

    /// The value of the first header field of that name, whatever its case; `None` as well if it is
    /// not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = match &self.headers {
            Headers::Borrowed(fields) => fields.get(name),
            Headers::Owned(lines) => lines_of(lines)
                .find(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, value)| value),
        };
        str::from_utf8(value?).ok()
    }

    /// The body, at most as long as the route allows.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What the path's parameter `{name}` or `{*name}` stands for, decoded.
    ///
    /// # Panics
    /// When the route has no such parameter; the client gets a 500 then.
    #[must_use]
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).unwrap_or_else(|| panic!("the route has no parameter {name:?}"))
    }

    /// The query's fields as a `T`. A field that comes several times can be a `Vec`.
    ///
    /// # Errors
    /// [`BadInput`], a 400, when they are none.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, BadInput> {
        extract::query(self.query_string().unwrap_or_default())
    }

    /// The body's JSON as a `T`.
    ///
    /// # Errors
    /// [`BadInput`], a 415 when the body is something else and a 400 when it is no `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BadInput> {
        extract::json(self.header("content-type"), &self.body)
    }

    /// The fields of the form in the body as a `T`.
    ///
    /// # Errors
    /// [`BadInput`], a 415 when the body is something else and a 400 when it is no `T`.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, BadInput> {
        extract::form(self.header("content-type"), &self.body)
    }

    /// The request's id, if [ids are given](crate::http::App::request_ids).
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        IpAddr::V6(self.peer).to_canonical()
    }

    /// The connection that asks.
    #[must_use]
    pub fn conn_id(&self) -> ConnId {
        self.conn_id
    }

    /// A reply with the file at `path`, which the application chose: it is trusted. Ranges and
    /// conditions of the request are observed.
    pub fn file(&self, path: impl Into<std::path::PathBuf>) -> Reply {
        files::file(path.into(), self)
    }

    /// The same request, which borrows nothing.
    #[must_use]
    pub fn to_owned(&self) -> OwnedRequest {
        let own = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        Request {
            method: known_method(&self.method).map_or_else(|| own(&self.method), Cow::Borrowed),
            path: own(&self.path),
            query: self.query.as_ref().map(own),
            host: self.host.as_ref().map(|host| Cow::Owned(host.to_vec())),
            headers: Headers::Owned(self.headers.to_lines()),
            body: Cow::Owned(self.body.to_vec()),
            params: self.params.to_owned(),
            id: self.id.clone(),
            peer: self.peer,
            conn_id: self.conn_id,
        }
    }
}

impl Headers<'_> {
    fn to_lines(&self) -> Box<[u8]> {
        match self {
            Headers::Owned(lines) => lines.clone(),
            Headers::Borrowed(fields) => {
                let mut lines = Vec::with_capacity(512);
                for (name, value) in fields.iter() {
                    lines.extend_from_slice(name.as_bytes());
                    lines.push(b':');
                    lines.extend_from_slice(value);
                    lines.push(b'\n');
                }
                lines.into_boxed_slice()
            }
        }
    }
}

/// Names and values; neither a name has a colon nor a value a line feed.
fn lines_of(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], &line[colon + 1..]))
    })
}

fn known_method(method: &str) -> Option<&'static str> {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method)
}
