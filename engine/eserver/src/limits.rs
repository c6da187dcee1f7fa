//! [`Limits`]: every bound the engine keeps, with its unit, its default and what happens there.

use std::time::Duration;

/// The engine's bounds.
///
/// A field's doc says what a peer sees when the bound is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections held at once, on all shards together. One more is told so in the protocol's own
    /// words and closed. The number of descriptors the process may open bounds it further.
    /// Default 1,000,000.
    pub connections_max: usize,
    /// Connections held at once from one address. One more is told so and closed; other addresses
    /// do not notice. Default 20,000.
    pub connections_per_address_max: usize,
    /// Time from the first byte of a request to its last, plus one second per KiB of its body. A
    /// connection that takes longer is closed. Default 10 s.
    pub request_head_timeout: Duration,
    /// Time without any request, in which no answer is being waited for. The connection is then
    /// closed. Zero means for ever. Default 1 h.
    pub idle_timeout: Duration,
    /// Bytes kept for a peer that does not read. Past it no further request of that peer is read,
    /// and what it did not ask for is not sent but the connection closed. Default 256 KiB.
    pub outbox_bytes_max: usize,
    /// Time in which a peer for whom bytes wait must take 1 KiB of them per second on average. One
    /// that does not is closed. Default 10 s.
    pub write_timeout: Duration,
    /// Requests of one connection that may wait for their answers at once. Further ones are read
    /// when answers have left. Default 256.
    pub pipeline_requests_max: u32,
    /// Bytes read from one connection before others have their turn. Default 256 KiB.
    pub read_turn_bytes_max: usize,
    /// Connections accepted from one listener before others have their turn. Default 256.
    pub accept_turn_max: usize,
    /// Letters from other threads that a shard may be behind before unasked-for messages are
    /// refused. Default 65,536.
    pub mailbox_letters_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 1_000_000,
            connections_per_address_max: 20_000,
            request_head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            outbox_bytes_max: 256 * 1024,
            write_timeout: Duration::from_secs(10),
            pipeline_requests_max: 256,
            read_turn_bytes_max: 256 * 1024,
            accept_turn_max: 256,
            mailbox_letters_max: 65_536,
        }
    }
}
