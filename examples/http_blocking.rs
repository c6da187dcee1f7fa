//! cargo run --release --example http_blocking -- 127.0.0.1:8080
//! cargo run --release --example http_blocking -- 127.0.0.1:8080 1000
//! cargo run --release --example http_blocking -- 127.0.0.1:8080 1000 thread
//!
//! Every request takes half a second of blocking, so each holds a thread: one of a pool of so many
//! threads (100 if nothing is said), or, with `thread`, one that is started for it, and so many at
//! once. Compare with `http_delay`, which waits without holding any.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use eserver::http::{App, Pool, Reply, status, text};

/// Requests that may wait for a thread of the pool.
const WAITING_MAX: usize = 100_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let address = words.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let word = words.next().unwrap_or_else(|| "100".to_owned());
    let threads: usize = word.parse().map_err(|_| format!("{word:?} is no number of threads"))?;

    let mut app = App::new();
    match words.next().as_deref() {
        None | Some("pool") => {
            let pool = Pool::new(threads, WAITING_MAX)?;
            app.get_blocking("/", &pool, |_| work());
        }
        Some("thread") => {
            let running = Arc::new(AtomicUsize::new(0));
            app.get_later("/", move |_, replier| {
                if running.fetch_add(1, Ordering::Relaxed) >= threads {
                    running.fetch_sub(1, Ordering::Relaxed);
                    return replier.reply(status(503).with_header("Retry-After", "1"));
                }
                let running = Arc::clone(&running);
                let end = Arc::clone(&running);
                let thread = thread::Builder::new().spawn(move || {
                    let reply = work();
                    running.fetch_sub(1, Ordering::Relaxed);
                    replier.reply(reply);
                });
                if let Err(error) = thread {
                    // The replier has gone with the thread, and the client has its 500.
                    end.fetch_sub(1, Ordering::Relaxed);
                    eprintln!("no thread could be started: {error}");
                }
            });
        }
        Some(word) => {
            return Err(format!("the third word is \"pool\" or \"thread\", not {word:?}").into());
        }
    }
    app.listen(address.as_str())?;
    Ok(())
}

fn work() -> Reply {
    thread::sleep(Duration::from_millis(500));
    text("half a second later")
}
