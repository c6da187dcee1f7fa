//! cargo run --release --example framed_and_http -- 127.0.0.1:8080 127.0.0.1:7000
//!
//! Two protocols and one state: a counter that `POST /count` and the framed command 1 add one to,
//! and that `GET /count` and the command 2 read. Without addresses they are 127.0.0.1:8080 for HTTP
//! and 127.0.0.1:7000 for frames.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eserver::{AllowList, Server, asked_to_end, framed, http};

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
    let http_address = words.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let framed_address = words.next().unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let count = Arc::new(AtomicU64::new(0));

    let mut site = http::App::new();
    let state = Arc::clone(&count);
    site.post("/count", move |_| add(&state));
    let state = Arc::clone(&count);
    site.get("/count", move |_| state.load(Ordering::Relaxed).to_string());

    let mut commands = framed::App::new();
    let state = Arc::clone(&count);
    commands.command(1, move |_| framed::Reply::new(1, add(&state)));
    commands.command(2, move |_| framed::Reply::new(2, count.load(Ordering::Relaxed).to_string()));

    let running = Server::new()
        .listen(http_address.as_str(), AllowList::everyone(), site.service()?)?
        .listen(framed_address.as_str(), AllowList::loopback(), commands.service())?
        .start()?;
    for (address, protocol) in running.addresses().zip(["HTTP", "frames"]) {
        println!("listening on {address} for {protocol}");
    }
    running.runtime().block_on(asked_to_end())?;
    running.shutdown(Duration::from_secs(30));
    Ok(())
}

fn add(count: &AtomicU64) -> String {
    (count.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}
