//! [`Trim`]: gives memory back to the system when a crowd has left.
//!
//! glibc keeps what was freed in the midst of its heaps: after a hundred thousand subscribers had left,
//! 67 MB stayed resident of which nothing was in use. Another allocator, mimalloc, kept seven times as
//! much, one heap for each thread. So the usual one is asked to trim itself, on a thread that may
//! wait, after the shards were asked to let go of what they keep to be used again. This is the one
//! file with `unsafe` code.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::census::Census;
use crate::mailbox::{Letter, Mailbox};

/// A list that is filled and emptied again and again keeps room for so many; what a crowd made it
/// grow by is given back.
pub(crate) const KEPT_MAX: usize = 1024;

/// How often it is looked whether many have left.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// So many connections are a crowd: together with what stands behind them, about as many megabytes
/// as thousands.
const CROWD: usize = 2_000;

/// For so many looks after a crowd has left memory is given back: what it had, such as its channels,
/// goes after its connections.
const LOOKS: u32 = 12;

/// How long shards are given to give back what they keep.
const SHARDS_TAKE: Duration = Duration::from_millis(500);

/// What glibc keeps of a thread's small blocks that were freed, so that it need not lock a heap for the
/// next ones: the sizes, and how many of each. Each of them holds on to its page.
const SMALL_BLOCKS: std::ops::RangeInclusive<usize> = 24..=1032;
const SMALL_BLOCKS_STEP: usize = 16;
const SMALL_BLOCKS_OF_A_SIZE: usize = 7;

/// What the allocator keeps for a thread. It goes back to the heaps when another thread drops it.
pub(crate) struct SmallBlocks {
    _blocks: Vec<Vec<u8>>,
}

impl SmallBlocks {
    /// Those of the calling thread.
    pub(crate) fn take() -> Self {
        let sizes = SMALL_BLOCKS.step_by(SMALL_BLOCKS_STEP);
        let all = sizes.flat_map(|size| std::iter::repeat_n(size, SMALL_BLOCKS_OF_A_SIZE));
        SmallBlocks { _blocks: all.map(Vec::with_capacity).collect() }
    }
}

/// Has the shards give back what they keep, and gives it to the system.
fn collect(mailboxes: &[Mailbox]) {
    let (sender, blocks) = mpsc::channel();
    mailboxes.iter().for_each(|mailbox| mailbox.post(Letter::Trim(sender.clone())));
    drop(sender);
    let deadline = Instant::now() + SHARDS_TAKE;
    while let Ok(blocks) = blocks.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        drop(blocks);
    }
    // The heaps are locked one by one while it goes through them.
    give_back();
}

/// Gives memory back when a crowd has left.
#[derive(Debug, Default)]
pub(crate) struct Trim {
    /// The most connections since memory was given back.
    most: usize,
    looks_left: u32,
}

impl Trim {
    /// Looks from time to time, for as long as the runtime lives.
    pub(crate) async fn run(census: Arc<Census>, mailboxes: Arc<[Mailbox]>) {
        let mut trim = Trim::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if trim.is_due(census.take_most(), census.total()) {
                let mailboxes = Arc::clone(&mailboxes);
                let _ = tokio::task::spawn_blocking(move || collect(&mailboxes)).await;
            }
        }
    }

    /// Whether to give memory back, with so many connections now, and at most so many since the last
    /// look: a crowd may come and go between two.
    fn is_due(&mut self, most: usize, connections: usize) -> bool {
        self.most = self.most.max(most);
        if self.most >= CROWD && connections <= self.most / 2 {
            self.most = connections;
            self.looks_left = LOOKS;
        }
        self.looks_left = self.looks_left.saturating_sub(1);
        self.looks_left > 0
    }
}

/// Gives back what the allocator keeps and nobody uses.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
fn give_back() {
    // SAFETY: malloc_trim(3) takes any number, and may be called by any thread at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators are left to themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_for_a_while_after_a_crowd_has_left() {
        let mut trim = Trim::default();
        assert!([0, 10, 1999, 0].into_iter().all(|connections| !trim.is_due(1999, connections)));
        assert!([5000, 2600].into_iter().all(|connections| !trim.is_due(5000, connections)));
        let due = (0..20).filter(|_| trim.is_due(2600, 2400)).count();
        assert_eq!(due, LOOKS as usize - 1);
        // The next half of them.
        assert!(trim.is_due(2400, 1000));
        let due = (0..20).filter(|_| trim.is_due(1000, 1000)).count();
        assert_eq!(due, LOOKS as usize - 2);
        // One between two looks.
        assert!(trim.is_due(3000, 1000));
        give_back();
    }
}
