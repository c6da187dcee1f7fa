//! [`Limits`]: every bound the engine keeps, with its unit, its default and what happens there.

use std::time::Duration;

/// The engine's bounds.
///
/// A field's doc says what a peer sees when the bound is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections held at once, on all shards together. One more is told so in the protocol's own
    /// words and closed. The number of descriptors the process may open bounds it further.
    /// Default 1,010,000: a million, and those who publish to them.
    pub connections_max: usize,
    /// Connections held at once from one address, or from one /64 network of IPv6, which is what
    /// one customer has. One more is told so and closed; other addresses do not notice.
    /// Default 20,000.
    pub connections_per_address_max: usize,
    /// Time from the first byte of a request to its last; of an HTTP request, to the end of its
    /// head; of a frame, plus one second per KiB. A connection that takes longer is told so and
    /// closed. Default 10 s.
    pub request_head_timeout: Duration,
    /// Time in which the body of an HTTP request must grow at the least rate on average, again and
    /// again until it is whole. A connection whose body does not is told so and closed.
    /// Default 10 s.
    pub request_body_timeout: Duration,
    /// The least rate of the body of an HTTP request, in bytes per second. Default 1 KiB.
    pub request_body_bytes_per_s_min: u64,
    /// Time without any request, in which no answer is being waited for. The connection is then
    /// closed. Zero means for ever. Default 1 h.
    pub idle_timeout: Duration,
    /// Bytes kept for a peer: what it does not read, and answers that wait for an earlier one. Past
    /// it no further request of that peer is read, and what comes piece by piece or was not asked
    /// for is not sent but the connection closed. Requests that were read before may exceed it by
    /// their answers, and one piece may that nothing waits in front of. Default 256 KiB.
    pub outbox_bytes_max: usize,
    /// Time in which a peer for whom bytes wait must take 1 KiB of them per second on average. One
    /// that does not is closed. Default 10 s.
    pub write_timeout: Duration,
    /// Time for which a connection that was refused something while it was sending is still read
    /// from, so that it gets to read the answer: then it is closed. As long has a peer that reads too
    /// slowly for what is kept for it when its service ends the connection. Default 5 s.
    pub linger_timeout: Duration,
    /// Bytes read and dropped from such a connection; then it is closed. Default 64 MiB.
    pub linger_bytes_max: usize,
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
            connections_max: 1_010_000,
            connections_per_address_max: 20_000,
            request_head_timeout: Duration::from_secs(10),
            request_body_timeout: Duration::from_secs(10),
            request_body_bytes_per_s_min: 1024,
            idle_timeout: Duration::from_secs(3600),
            outbox_bytes_max: 256 * 1024,
            write_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(5),
            linger_bytes_max: 64 * 1024 * 1024,
            pipeline_requests_max: 256,
            read_turn_bytes_max: 256 * 1024,
            accept_turn_max: 256,
            mailbox_letters_max: 65_536,
        }
    }
}
