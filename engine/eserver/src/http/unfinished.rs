//! [`Unfinished`]: a request whose body comes piece by piece.

use eserver_wire::http::{BadRequest, BodyDecoder};

/// A request whose head is there and whose body is being decoded as it comes.
pub(crate) struct Unfinished {
    /// The head as it came, to be read again when the body is whole; empty when the body is of no
    /// interest and only skipped.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Collected,
}

/// What has come of a body.
pub(crate) struct Collected {
    pub(crate) decoder: BodyDecoder,
    pub(crate) data: Vec<u8>,
    /// The longest that `data` may become.
    pub(crate) bytes_max: usize,
}

/// Why a body cannot be collected.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    Bad(BadRequest),
    TooLong(usize),
}

impl Collected {
    /// Takes what belongs to the body off the front of `input`; how many bytes that were.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<usize, Refused> {
        let mut used = 0;
        while used < input.len() && !self.decoder.is_done() {
            let progress = self.decoder.decode(&input[used..]).map_err(Refused::Bad)?;
            let data = &input[used..][progress.data];
            let announced = self.decoder.announced_bytes();
            let length = (self.data.len() as u64 + data.len() as u64).saturating_add(announced);
            if length > self.bytes_max as u64 {
                return Err(Refused::TooLong(self.bytes_max));
            }
            self.data.extend_from_slice(data);
            used += progress.used;
        }
        Ok(used)
    }
}
