//! Where a message ends and whether its connection goes on, decided from the header fields.

use super::fields::{elements, is_token};
use super::{BadRequest, Version};

/// How the end of a message's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks, the last one empty.
    Chunked,
    /// Whatever comes until the connection ends: never a request's.
    UntilClose,
}

/// What the fields seen so far say about the framing of their message and its connection.
#[derive(Debug, Default)]
pub(super) struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Framing {
    /// Takes notice of a field, if it is one of those that matter here.
    ///
    /// # Errors
    /// [`BadRequest`] when the field leaves in doubt where the message ends.
    #[inline]
    pub(super) fn see(&mut self, name: &str, value: &[u8]) -> Result<(), BadRequest> {
        // Few names have one of these lengths, so most fields end here.
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => self.see_connection(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.see_length(value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.see_coding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn see_connection(&mut self, value: &[u8]) {
        for option in elements(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    fn see_length(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        if self.length.is_some() {
            return Err(BadRequest::new("there is more than one Content-Length"));
        }
        // The number parser would take a sign; some others would take leading zeros for octal.
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(BadRequest::new("the Content-Length is not a number"));
        }
        if value.len() > 1 && value[0] == b'0' {
            return Err(BadRequest::new("the Content-Length has leading zeros"));
        }
        let length = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
        self.length = Some(length.ok_or(BadRequest::new("the Content-Length is beyond counting"))?);
        Ok(())
    }

    fn see_coding(&mut self, value: &[u8]) -> Result<(), BadRequest> {
        if self.chunked {
            return Err(BadRequest::new("there is more than one Transfer-Encoding"));
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.chunked = true;
            return Ok(());
        }
        // The body ends where `chunked` says, if it is the last one; anything else is a guess.
        let mut chunked = false;
        for coding in elements(value) {
            if chunked {
                return Err(BadRequest::new("a transfer coding follows after `chunked`"));
            }
            if !is_token(coding) {
                return Err(BadRequest::new("the Transfer-Encoding is not a list of names"));
            }
            chunked = coding.eq_ignore_ascii_case(b"chunked");
        }
        Err(BadRequest::with_status(501, "the only transfer coding known here is `chunked`"))
    }

    /// What follows the head, or `None` if no field says so.
    ///
    /// # Errors
    /// [`BadRequest`] when the fields contradict each other or the version.
    pub(super) fn body(&self, version: Version) -> Result<Option<Body>, BadRequest> {
        match (self.chunked, self.length) {
            (true, Some(_)) => {
                Err(BadRequest::new("there are both a Transfer-Encoding and a Content-Length"))
            }
            (true, None) if version == Version::Http10 => {
                Err(BadRequest::new("HTTP/1.0 knows no Transfer-Encoding"))
            }
            (true, None) => Ok(Some(Body::Chunked)),
            (false, length) => Ok(length.map(Body::Length)),
        }
    }

    /// Whether the connection may serve for another message.
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the connection is to be another protocol's if both want that.
    pub(super) fn upgrades(&self, version: Version) -> bool {
        self.upgrade && version == Version::Http11
    }
}
