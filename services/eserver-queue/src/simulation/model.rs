//! `Model`: the queue as one would write it without caring for speed or disks.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// What a message is up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    Delayed(u64),
    Leased(u64),
    Buried(Rc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) payload: Rc<[u8]>,
    pub(crate) attempts: u16,
    pub(crate) status: Status,
}

impl Message {
    /// All but the payload.
    pub(crate) fn brief(&self) -> (usize, u16, Status) {
        (self.payload.len(), self.attempts, self.status.clone())
    }
}

/// What happened to the queue.
#[derive(Clone)]
pub(crate) enum Change {
    Put(Rc<[u8]>, Option<u64>),
    Remove(u64),
    Reserve(u64, u64),
    Release(u64, Option<u64>),
    Bury(u64, Rc<str>),
    Kick(u64),
}

impl fmt::Debug for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(payload, due) => {
                write!(formatter, "put {} bytes, due {due:?}", payload.len())
            }
            Self::Remove(seq) => write!(formatter, "remove {seq}"),
            Self::Reserve(seq, until) => write!(formatter, "reserve {seq} until {until}"),
            Self::Release(seq, due) => write!(formatter, "release {seq}, due {due:?}"),
            Self::Bury(seq, reason) => write!(formatter, "bury {seq}: {reason}"),
            Self::Kick(seq) => write!(formatter, "kick {seq}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) next: u64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { messages: BTreeMap::new(), next: 1 }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(payload, due) => {
                let status = due.map_or(Status::Ready, Status::Delayed);
                let message = Message { payload: payload.clone(), attempts: 0, status };
                self.messages.insert(self.next, message);
                self.next += 1;
            }
            Change::Remove(seq) => {
                self.messages.remove(seq);
            }
            Change::Reserve(seq, until) => {
                if let Some(message) = self.messages.get_mut(seq) {
                    message.attempts += 1;
                    message.status = Status::Leased(*until);
                }
            }
            Change::Release(seq, due) => {
                self.set(*seq, due.map_or(Status::Ready, Status::Delayed));
            }
            Change::Bury(seq, reason) => self.set(*seq, Status::Buried(reason.clone())),
            Change::Kick(seq) => self.set(*seq, Status::Ready),
        }
    }

    fn set(&mut self, seq: u64, status: Status) {
        if let Some(message) = self.messages.get_mut(&seq) {
            message.status = status;
        }
    }

    pub(crate) fn wake(&mut self, now: u64) {
        for message in self.messages.values_mut() {
            if let Status::Delayed(at) | Status::Leased(at) = message.status
                && at <= now
            {
                message.status = Status::Ready;
            }
        }
    }

    /// What a restart leaves.
    pub(crate) fn restart(&mut self, now: u64) {
        for message in self.messages.values_mut() {
            if matches!(message.status, Status::Leased(_)) {
                message.status = Status::Ready;
            }
        }
        self.wake(now);
    }

    pub(crate) fn next_ready(&self) -> Option<u64> {
        self.first(|status| *status == Status::Ready)
    }

    pub(crate) fn next_overwritten(&self) -> Option<u64> {
        self.first(|status| matches!(status, Status::Ready | Status::Delayed(_)))
    }

    fn first(&self, wanted: impl Fn(&Status) -> bool) -> Option<u64> {
        self.messages.iter().find(|(_, message)| wanted(&message.status)).map(|(&seq, _)| seq)
    }

    pub(crate) fn length(&self) -> u64 {
        let buried = |message: &&Message| !matches!(message.status, Status::Buried(_));
        self.messages.values().filter(buried).count() as u64
    }
}
