//! cargo run --release --example http_delay -- 127.0.0.1:8080
//! cargo run --release --example http_delay -- 127.0.0.1:8080 100
//! cargo run --release --example http_delay -- 127.0.0.1:8080 100 refuse
//!
//! Every request takes half a second of `async` waiting, which holds no thread: `ab -n 10000
//! -c 1000 http://127.0.0.1:8080/` takes about five seconds. With a number behind the address, so
//! many are worked on at once and the others wait, or, with `refuse`, get a 503 with a Retry-After.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use eserver::http::{App, Waiting};

/// Requests that may wait for their turn.
const WAITING_MAX: usize = 1_000_000;

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
    let at_once: Option<usize> = match words.next() {
        Some(word) => {
            Some(word.parse().map_err(|_| format!("{word:?} is not how many may run at once"))?)
        }
        None => None,
    };
    let waiting = match words.next().as_deref() {
        None => Waiting::Queue(WAITING_MAX),
        Some("refuse") => Waiting::Refuse,
        Some(word) => {
            return Err(format!("the third word is \"refuse\" or none, not {word:?}").into());
        }
    };

    let mut app = App::new();
    let route = app.get_async("/", async |_| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        "half a second later"
    });
    if let Some(at_once) = at_once {
        route.concurrency(at_once, waiting);
    }
    app.listen(address.as_str())?;
    Ok(())
}
