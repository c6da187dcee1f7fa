//! [`Asked`]: what a station has asked the hubs of other shards, until they have answered.

use std::collections::HashMap;

use eserver::Conns;

use crate::service::question::Outcome;

/// What is done with what came of the questions.
pub(crate) type Then = Box<dyn FnOnce(Vec<Outcome>, &mut Conns<'_>)>;

/// Questions that have not been answered by everybody who was asked.
#[derive(Default)]
pub(crate) struct Asked {
    last: u32,
    waiting: HashMap<u32, Waiting>,
}

struct Waiting {
    /// How many are yet to answer.
    left: usize,
    /// In the order of the questions.
    outcomes: Vec<Option<Outcome>>,
    then: Then,
}

/// Which question of which request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedAs {
    pub(crate) number: u32,
    pub(crate) nth: u32,
}

impl Asked {
    /// So many questions of one request; its number.
    pub(crate) fn begin(&mut self, left: usize, then: Then) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.waiting.contains_key(&self.last) {
                break;
            }
        }
        let outcomes = std::iter::repeat_with(|| None).take(left).collect();
        self.waiting.insert(self.last, Waiting { left, outcomes, then });
        self.last
    }

    /// One has been answered.
    pub(crate) fn told(&mut self, asked: AskedAs, outcome: Outcome, conns: &mut Conns<'_>) {
        let Some(waiting) = self.waiting.get_mut(&asked.number) else { return };
        if let Some(place @ None) = waiting.outcomes.get_mut(asked.nth as usize) {
            *place = Some(outcome);
            waiting.left -= 1;
        }
        if waiting.left == 0
            && let Some(Waiting { outcomes, then, .. }) = self.waiting.remove(&asked.number)
        {
            then(outcomes.into_iter().flatten().collect(), conns);
        }
    }
}
