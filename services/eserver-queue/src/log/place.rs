//! `Place`, where in the log a record stands.

/// Where in the log a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The segment's number.
    pub(crate) segment: u32,
    /// Bytes from the segment's start; a multiple of [`ALIGNMENT`](super::record::ALIGNMENT).
    pub(crate) offset: u32,
}
