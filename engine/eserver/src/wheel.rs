//! [`Wheel`]: one deadline per connection, without a heap and without a walk over them all.
//!
//! A hashed timing wheel (Varghese and Lauck, 1987) whose links live inside the connection records:
//! setting, moving and dropping a deadline is O(1) and allocates nothing. Deadlines that only move
//! away, such as the idle timeout of a busy connection, are not even relinked: the wheel looks at
//! the record when the old place comes round, and puts it where it now belongs.

use std::time::Duration;

/// How finely deadlines are kept: a deadline fires up to one tick late, never early.
pub(crate) const TICK: Duration = Duration::from_millis(256);

/// Places on the wheel; deadlines further away than a turn of it (262 s) are looked at once a turn.
const PLACES: usize = 1024;

/// "No record", in links and heads.
const NONE: u32 = u32::MAX;

/// "Not on the wheel", as a place.
const OFF: u16 = u16::MAX;

/// A count of ticks since the shard started; wraps after 34 years.
pub(crate) type Tick = u32;

/// The wheel's part of a connection record.
#[derive(Debug)]
pub(crate) struct Links {
    previous: u32,
    next: u32,
    /// When the record wants to hear of it; may be later than the place it stands at.
    deadline: Tick,
    place: u16,
}

impl Links {
    pub(crate) const fn new() -> Self {
        Links { previous: NONE, next: NONE, deadline: 0, place: OFF }
    }
}

/// The records the links live in.
pub(crate) trait Records {
    /// The links of the record at `slot`, which is on the wheel.
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
    pub(crate) fn new() -> Self {
        Wheel { heads: Box::new([NONE; PLACES]), occupied: [0; PLACES / 64], done: 0 }
    }

    /// Sets the deadline of `slot`, moving it on the wheel only when it comes nearer.
    pub(crate) fn set(&mut self, records: &mut impl Records, slot: u32, deadline: Tick) {
        let links = records.links(slot);
        let nearer = deadline < links.deadline;
        links.deadline = deadline;
        if links.place == OFF {
            self.link(records, slot);
        } else if nearer {
            self.unlink(records, slot);
            self.link(records, slot);
        }
    }

    /// Takes `slot` off the wheel, if it is on it.
    pub(crate) fn clear(&mut self, records: &mut impl Records, slot: u32) {
        if records.links(slot).place != OFF {
            self.unlink(records, slot);
        }
    }

    /// Moves to `now` and hands out every slot whose deadline has come, off the wheel.
    pub(crate) fn expire(&mut self, records: &mut impl Records, now: Tick, due: &mut Vec<u32>) {
        // After a pause longer than a whole turn each place needs one look, not many.
        let from = self.done.max(now.saturating_sub(PLACES as Tick - 1)).saturating_add(1);
        let start = if now > self.done { from } else { return };
        for tick in start..=now {
            self.done = tick;
            let place = tick as usize % PLACES;
            if self.occupied[place / 64] & (1 << (place % 64)) == 0 {
                continue;
            }
            let mut slot = std::mem::replace(&mut self.heads[place], NONE);
            self.occupied[place / 64] &= !(1 << (place % 64));
            while slot != NONE {
                let links = records.links(slot);
                let next = links.next;
                *links = Links { deadline: links.deadline, ..Links::new() };
                if links.deadline <= now {
                    due.push(slot);
                } else {
                    self.link(records, slot);
                }
                slot = next;
            }
        }
    }

    /// Ticks from `now` until a place that holds somebody comes round, or `None` on an empty wheel.
    pub(crate) fn next(&self, now: Tick) -> Option<Tick> {
        let first = self.done.wrapping_add(1);
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
                first.wrapping_add(ahead as Tick).saturating_sub(now)
            })
        })
    }

    fn link(&mut self, records: &mut impl Records, slot: u32) {
        let links = records.links(slot);
        // Strictly ahead of `done`, and at most one turn away.
        let ahead = links.deadline.saturating_sub(self.done).clamp(1, PLACES as Tick - 1);
        let place = (self.done + ahead) as usize % PLACES;
        let head = std::mem::replace(&mut self.heads[place], slot);
        self.occupied[place / 64] |= 1 << (place % 64);
        (links.previous, links.next, links.place) = (NONE, head, place as u16);
        if head != NONE {
            records.links(head).previous = slot;
        }
    }

    fn unlink(&mut self, records: &mut impl Records, slot: u32) {
        let links = records.links(slot);
        let (previous, next, place) = (links.previous, links.next, usize::from(links.place));
        *links = Links { deadline: links.deadline, ..Links::new() };
        if next != NONE {
            records.links(next).previous = previous;
        }
        if previous != NONE {
            records.links(previous).next = next;
        } else {
            self.heads[place] = next;
            if next == NONE {
                self.occupied[place / 64] &= !(1 << (place % 64));
            }
        }
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

    fn records(count: usize) -> Vec<Links> {
        std::iter::repeat_with(Links::new).take(count).collect()
    }

    #[test]
    fn deadlines_fire_once_in_their_tick() {
        let mut all = records(4);
        let mut wheel = Wheel::new();
        for (slot, deadline) in [(0, 5), (1, 5), (2, 6), (3, 3000)] {
            wheel.set(&mut all, slot, deadline);
        }
        let mut fired = Vec::new();
        for now in 1..=4000 {
            let mut due = Vec::new();
            wheel.expire(&mut all, now, &mut due);
            fired.extend(due.into_iter().map(|slot| (now, slot)));
        }
        fired.sort_unstable();
        assert_eq!(fired, [(5, 0), (5, 1), (6, 2), (3000, 3)]);
        assert_eq!(wheel.next(4000), None);
    }

    #[test]
    fn a_long_sleep_misses_nobody() {
        let mut all = records(3);
        let mut wheel = Wheel::new();
        for (slot, deadline) in [(0, 10), (1, 9_000), (2, 20_000)] {
            wheel.set(&mut all, slot, deadline);
        }
        let mut due = Vec::new();
        wheel.expire(&mut all, 10_000, &mut due);
        due.sort_unstable();
        assert_eq!(due, [0, 1]);
        wheel.expire(&mut all, 20_000, &mut due);
        assert_eq!(due[2..], [2]);
    }

    #[test]
    fn random_moves_match_a_plain_model() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut all, mut wheel) = (records(200), Wheel::new());
        let mut model = vec![None::<Tick>; 200];
        let mut now = 0;
        for _ in 0..20_000 {
            let slot = random.u32(0..200);
            match random.u32(0..10) {
                0..=5 => {
                    let deadline = now + random.u32(1..3000);
                    wheel.set(&mut all, slot, deadline);
                    model[slot as usize] = Some(deadline);
                }
                6 => {
                    wheel.clear(&mut all, slot);
                    model[slot as usize] = None;
                }
                _ => {
                    let next = wheel.next(now);
                    now += random.u32(1..400);
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
                    assert!(due.is_empty() || next.is_some(), "the wheel would have slept on");
                }
            }
        }
    }
}
