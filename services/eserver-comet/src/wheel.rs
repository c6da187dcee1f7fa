//! [`Wheel`]: one deadline per record, without a heap and without a walk over them all.
//!
//! A hashed timing wheel (Varghese and Lauck, 1987) whose links live inside the records: setting and
//! dropping a deadline is O(1) and allocates nothing.

use std::num::NonZeroU32;

use crate::millis::{Millis, Tick};
use crate::slots::NONE;

/// Places on the wheel; a deadline further away than a turn of it (262 s) is looked at once a turn.
const PLACES: usize = 1024;

/// "Not on the wheel", as a deadline.
const OFF: NonZeroU32 = NonZeroU32::MAX;

/// The wheel's part of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    previous: u32,
    next: u32,
    /// Never 0, so that a record may be something else in the place of these.
    deadline: NonZeroU32,
}

impl Links {
    pub(crate) const fn new() -> Self {
        Links { previous: NONE, next: NONE, deadline: OFF }
    }

    pub(crate) fn deadline(&self) -> Option<Tick> {
        (self.deadline != OFF).then_some(self.deadline.get())
    }
}

/// The records the links live in.
pub(crate) trait Records {
    /// The links of the record at `slot`, which is there.
    fn links(&mut self, slot: u32) -> &mut Links;
}

pub(crate) struct Wheel {
    heads: Box<[u32; PLACES]>,
    /// One bit per place that holds somebody.
    occupied: [u64; PLACES / 64],
    /// Every place up to this tick has been looked at.
    done: Tick,
}

impl Wheel {
    pub(crate) fn new(now: Tick) -> Self {
        Wheel { heads: Box::new([NONE; PLACES]), occupied: [0; PLACES / 64], done: now }
    }

    /// Sets or moves the deadline of `slot`; one that has passed comes with the next tick.
    pub(crate) fn set(&mut self, records: &mut impl Records, slot: u32, deadline: Tick) {
        self.clear(records, slot);
        let deadline = deadline.clamp(self.done + 1, OFF.get() - 1);
        let place = deadline as usize % PLACES;
        let head = std::mem::replace(&mut self.heads[place], slot);
        self.occupied[place / 64] |= 1 << (place % 64);
        let deadline = NonZeroU32::new(deadline).expect("it is after a tick");
        *records.links(slot) = Links { previous: NONE, next: head, deadline };
        if head != NONE {
            records.links(head).previous = slot;
        }
    }

    /// Takes `slot` off the wheel, if it is on it.
    pub(crate) fn clear(&mut self, records: &mut impl Records, slot: u32) {
        let links = std::mem::replace(records.links(slot), Links::new());
        let Some(deadline) = links.deadline() else {
            return;
        };
        if links.next != NONE {
            records.links(links.next).previous = links.previous;
        }
        if links.previous != NONE {
            records.links(links.previous).next = links.next;
        } else {
            let place = deadline as usize % PLACES;
            self.heads[place] = links.next;
            if links.next == NONE {
                self.occupied[place / 64] &= !(1 << (place % 64));
            }
        }
    }

    /// Moves to `now` and hands out every slot whose deadline has come, off the wheel.
    pub(crate) fn expire(&mut self, records: &mut impl Records, now: Tick, due: &mut Vec<u32>) {
        if now <= self.done {
            return;
        }
        // After a pause longer than a whole turn each place needs one look, not many.
        let from = (self.done + 1).max(now.saturating_sub(PLACES as Tick - 1));
        self.done = now;
        for tick in from..=now {
            let place = tick as usize % PLACES;
            if self.occupied[place / 64] & (1 << (place % 64)) == 0 {
                continue;
            }
            let mut slot = self.heads[place];
            while slot != NONE {
                let Links { next, deadline, .. } = *records.links(slot);
                if deadline.get() <= now {
                    self.clear(records, slot);
                    due.push(slot);
                }
                slot = next;
            }
        }
    }

    /// When somebody's place comes round, or `None` on an empty wheel.
    pub(crate) fn next(&self) -> Option<Millis> {
        let first = self.done + 1;
        let start = first as usize % PLACES;
        let words = PLACES / 64;
        // The word that `first` stands in is looked at twice: its end now, its front last.
        (0..=words).find_map(|nth| {
            let word = (start / 64 + nth) % words;
            let mask = match nth {
                0 => u64::MAX << (start % 64),
                nth if nth == words => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let held = self.occupied[word] & mask;
            (held != 0).then(|| {
                let place = word * 64 + held.trailing_zeros() as usize;
                let ahead = (place + PLACES - start) % PLACES;
                Millis::of_tick(first.saturating_add(ahead as Tick))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Records for Vec<Links> {
        fn links(&mut self, slot: u32) -> &mut Links {
            &mut self[slot as usize]
        }
    }

    #[test]
    fn random_moves_match_a_plain_model() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut all, mut wheel) = (vec![Links::new(); 200], Wheel::new(5));
        let mut model = vec![None::<Tick>; 200];
        let mut now = 5;
        for _ in 0..20_000 {
            let slot = random.u32(0..200);
            match random.u32(0..10) {
                0..=5 => {
                    let deadline = now + random.u32(0..3000);
                    wheel.set(&mut all, slot, deadline);
                    model[slot as usize] = Some(deadline.max(now + 1));
                }
                6 => {
                    wheel.clear(&mut all, slot);
                    model[slot as usize] = None;
                }
                _ => {
                    let next = wheel.next();
                    let furthest = if random.u8(..) == 0 { 9000 } else { 400 };
                    now += random.u32(1..furthest);
                    let mut due = Vec::new();
                    wheel.expire(&mut all, now, &mut due);
                    due.sort_unstable();
                    let mut expected = Vec::new();
                    for (slot, deadline) in model.iter_mut().enumerate() {
                        if deadline.is_some_and(|deadline| deadline <= now) {
                            *deadline = None;
                            expected.push(slot as u32);
                        }
                    }
                    assert_eq!(due, expected);
                    let woken = next.is_some_and(|next| next <= Millis::of_tick(now));
                    assert!(due.is_empty() || woken, "the wheel would have slept on");
                }
            }
        }
        for slot in 0..200 {
            wheel.clear(&mut all, slot);
        }
        assert_eq!(wheel.next(), None);
    }
}
