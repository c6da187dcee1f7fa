//! The Date of answers that are written elsewhere than in a call.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use eserver_wire::http::Date;

/// The date of now, formatted once per second and thread.
pub(crate) fn date() -> Date {
    thread_local! {
        static LATEST: Cell<Option<(u64, Date)>> = const { Cell::new(None) };
    }
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match LATEST.get() {
        Some((at, date)) if at == second => date,
        _ => {
            let date = Date::at(now);
            LATEST.set(Some((second, date)));
            date
        }
    }
}
