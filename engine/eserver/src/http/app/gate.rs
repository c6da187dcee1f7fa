//! [`Gate`]: how many requests of a route are worked on at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What becomes of a request that comes while as many as may are being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// It waits for its turn; one more than this number waits for nothing, but is refused.
    Queue(usize),
    /// It is refused: status 503, with a Retry-After.
    Refuse,
}

/// The bound on one route, shared by all shards.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// There is no place, neither to work nor to wait.
#[derive(Debug)]
pub(crate) struct Busy;

impl Gate {
    pub(crate) fn new(max: usize, waiting: Waiting) -> Self {
        let places = Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS)));
        let waiting_max = match waiting {
            Waiting::Queue(waiting_max) => waiting_max,
            Waiting::Refuse => 0,
        };
        Gate { places, waiting: AtomicUsize::new(0), waiting_max }
    }

    /// A place to work, at once or after those who came before; it is given back by dropping it.
    pub(crate) async fn enter(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let _turn = Turn::take(self).ok_or(Busy)?;
        Arc::clone(&self.places).acquire_owned().await.map_err(|_closed| Busy)
    }
}

/// A place in the line.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(gate: &'a Gate) -> Option<Self> {
        let more = |waiting| (waiting < gate.waiting_max).then_some(waiting + 1);
        gate.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Turn(&gate.waiting))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn one_works_one_waits_and_one_goes() {
        let mut context = Context::from_waker(Waker::noop());
        let gate = Gate::new(1, Waiting::Queue(1));
        let Poll::Ready(Ok(first)) = pin!(gate.enter()).poll(&mut context) else { panic!() };
        {
            let mut given_up = pin!(gate.enter());
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            assert!(matches!(pin!(gate.enter()).poll(&mut context), Poll::Ready(Err(Busy))));
        }
        let mut second = pin!(gate.enter());
        assert!(second.as_mut().poll(&mut context).is_pending(), "its place is free again");
        drop(first);
        let Poll::Ready(Ok(second)) = second.poll(&mut context) else { panic!() };
        drop(second);

        let gate = Gate::new(1, Waiting::Refuse);
        let Poll::Ready(Ok(_first)) = pin!(gate.enter()).poll(&mut context) else { panic!() };
        assert!(matches!(pin!(gate.enter()).poll(&mut context), Poll::Ready(Err(Busy))));
    }
}
