//! [`Position`]: what a lane has applied, as its row in the database tells.
//!
//! A transaction writes down which messages it applied, and repeats those of earlier ones that the
//! queue does not yet know to be done. So whatever of the row's ids the queue still offers after a
//! crash was applied, and whatever else it offers was not: also for messages that come late, because
//! they were delayed, kicked out of their burial, or dealt to another lane.

use std::collections::BTreeSet;
use std::fmt::Write;

use thiserror::Error;

/// What was applied and the queue may not know yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// The highest id that was ever applied.
    pub(crate) applied_seq: u64,
    /// First and last id of each run, ascending, neither touching nor overlapping.
    ranges: Vec<(u64, u64)>,
}

/// The row holds something else than [`Position::encode`] writes.
#[derive(Debug, Error)]
#[error("the column `unsettled` of eserver_drain holds {0:?}, which is no list of ids")]
pub(crate) struct NoPosition(String);

impl Position {
    /// Whether the message was applied.
    pub(crate) fn contains(&self, id: u64) -> bool {
        let at = self.ranges.partition_point(|&(_, last)| last < id);
        self.ranges.get(at).is_some_and(|&(first, _)| first <= id)
    }

    /// Adds ids in any order.
    pub(crate) fn add(&mut self, ids: impl IntoIterator<Item = u64>) {
        // Nearly always the ids ascend and lie behind all others: then nothing has to be sorted.
        let mut late = Vec::new();
        for id in ids {
            self.applied_seq = self.applied_seq.max(id);
            match self.ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
                Some((_, last)) if *last >= id => late.push((id, id)),
                _ => self.ranges.push((id, id)),
            }
        }
        self.merge(late);
    }

    /// The first and last ids of the runs, ascending.
    pub(crate) fn runs(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Forgets ids.
    pub(crate) fn forget(&mut self, gone: &BTreeSet<u64>) {
        let mut kept = Vec::new();
        for (first, last) in std::mem::take(&mut self.ranges) {
            let mut from = first;
            for &id in gone.range(first..=last) {
                if from < id {
                    kept.push((from, id - 1));
                }
                from = id + 1;
            }
            if from <= last {
                kept.push((from, last));
            }
        }
        self.ranges = kept;
    }

    /// Adds all that `other` holds.
    pub(crate) fn join(&mut self, other: &Position) {
        self.applied_seq = self.applied_seq.max(other.applied_seq);
        self.merge(other.ranges.iter().copied());
    }

    fn merge(&mut self, ranges: impl IntoIterator<Item = (u64, u64)>) {
        let before = self.ranges.len();
        self.ranges.extend(ranges);
        if self.ranges.len() == before {
            return;
        }
        self.ranges.sort_unstable();
        self.ranges.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1.saturating_add(1);
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
    }

    /// The unsettled ids as text, such as `17-1016,1020`; `applied_seq` is a column of its own.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        for (first, last) in &self.ranges {
            let comma = if text.is_empty() { "" } else { "," };
            let written = if first == last {
                write!(text, "{comma}{first}")
            } else {
                write!(text, "{comma}{first}-{last}")
            };
            written.expect("text can always grow");
        }
        text
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`NoPosition`] when somebody else has written into the row.
    pub(crate) fn decode(applied_seq: u64, unsettled: &str) -> Result<Position, NoPosition> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            // Beyond that no queue counts, and one more can always be counted.
            (first <= last && last < u64::MAX).then_some((first, last))
        };
        let parts = unsettled.split(',').filter(|_| !unsettled.is_empty());
        let ranges = parts.map(range).collect::<Option<Vec<_>>>();
        let mut position = Position { applied_seq, ranges: Vec::new() };
        position.merge(ranges.ok_or_else(|| NoPosition(unsettled.to_owned()))?);
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_added_is_contained_and_written_short() {
        let mut position = Position::default();
        position.add([5, 6, 7, 9, 3, 8, 20]);
        assert_eq!(position.encode(), "3,5-9,20");
        assert_eq!(position.applied_seq, 20);
        assert!([3, 5, 9, 20].iter().all(|&id| position.contains(id)));
        assert!([1, 4, 10, 19, 21].iter().all(|&id| !position.contains(id)));
    }

    #[test]
    fn a_row_that_somebody_else_wrote_is_an_error() {
        for text in ["x", "1-", "5-3", ",", "1,,2", "-1", "18446744073709551615"] {
            assert!(Position::decode(0, text).is_err(), "{text}");
        }
        assert_eq!(Position::decode(7, "").unwrap().encode(), "");
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_ids(adds in prop::collection::vec(
            prop::collection::vec(0_u64..100, 0..20), 0..6,
        )) {
            let (mut position, mut model) = (Position::default(), BTreeSet::new());
            for ids in adds {
                let mut one = Position::default();
                one.add(ids.iter().copied());
                if ids.len() % 2 == 0 { position.join(&one) } else { position.add(ids.iter().copied()) }
                model.extend(ids);
            }
            let mut position = Position::decode(position.applied_seq, &position.encode()).unwrap();
            let gone: BTreeSet<u64> = model.iter().copied().filter(|id| id % 3 == 0).collect();
            position.forget(&gone);
            model.retain(|id| id % 3 != 0);
            for id in 0..110 {
                prop_assert_eq!(position.contains(id), model.contains(&id));
            }
            let touching = position.ranges.windows(2).any(|pair| pair[0].1 + 1 >= pair[1].0);
            prop_assert!(!touching);
        }
    }
}
