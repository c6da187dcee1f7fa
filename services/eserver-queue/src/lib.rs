//! Durable named queues: messages in, messages out, and a log that remembers across power cuts.
//!
//! A message's way through the files: a [`QueueName`] says which queue; a [`Placeholder`] found in
//! its text is where its number goes; [`Queue::put`] gives it a [`Seq`], and asks the state what may
//! happen. What happens is an event, and an event is a record; records gather in the pending
//! buffer, one commit writes them to the newest segment of the log and syncs once for all of them.
//! Reading goes the same way back: the index knows where each payload stands, and the log reads
//! ahead. At start the segments are scanned, and their events make the same state again.
//!
//! The core reads no clock, starts no thread but the one that fills new segments with zeros, and
//! touches files only through [`Disk`]: the tests run it on a simulated disk that tears, loses and
//! reorders writes from a seed.
//!
//! A queue answers at once. A [`Keeper`] is the thread that calls it: it gathers the batches of work
//! that wait, commits once for all of them, and lets them answer. Services of this process put by a
//! queue's *intake*, and its *feed* hands messages to a consumer in this process, which remembers
//! them by number and *epoch*. What becomes of messages is announced to those who watch the
//! [`Events`]. [`Queues`] are all keepers of a server, and [`QueueService`] is the framed protocol in
//! front of them.

mod millis;
mod name;
mod placeholder;
mod seq;
mod settings;

mod queue;

mod event;
mod state;

mod disk;
mod log;
mod opening;

mod epoch;
mod store;

#[cfg(test)]
mod simulation;

mod keeper;

mod events;
mod feed;
mod intake;
mod queues;
mod service;

pub use crate::disk::{Disk, DiskFile, RealDisk};
pub use crate::events::Events;
pub use crate::keeper::{Batch, Clock, Keeper};
pub use crate::log::segment::FORMAT_VERSION;
pub use crate::log::{Committed, LogFailed, ReadFailed};
pub use crate::millis::Millis;
pub use crate::name::{NAME_BYTES_MAX, QueueName, QueueNameError};
pub use crate::opening::recovery::{Damage, OpenError, Recovery, TornTail};
pub use crate::placeholder::Placeholder;
pub use crate::queue::outcome::{Buried, ChangeError, Outcome, PutError, ReadError, Reserved};
pub use crate::queue::stats::{Stats, Totals};
pub use crate::queue::{Queue, REASON_BYTES_MAX};
pub use crate::queues::{DEFAULT_QUEUE, DEFAULT_QUEUE_NAME, Queues, QueuesError};
pub use crate::seq::Seq;
pub use crate::service::QueueService;
pub use crate::settings::{QueueSettings, SyncPolicy, WhenFull};
pub use crate::store::{Store, StoreError};
