//! cargo run --release --example http_echo -- 127.0.0.1:8080
//!
//! `GET /` answers 200 with some text, `POST /echo` (or `/`) answers with the body it
//! was sent. Without an
//! address it is 127.0.0.1:8080.

use std::error::Error;
use std::process::ExitCode;

use eserver::http::{App, Reply, Request, bytes};

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
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let mut app = App::new();
    app.get("/", |_| "send something to /echo\n");
    app.post("/", echo);
    app.post("/echo", echo);
    app.listen(address.as_str())?;
    Ok(())
}

fn echo(request: &Request<'_>) -> Reply {
    let content_type = request.header("content-type").unwrap_or("application/octet-stream");
    bytes(content_type.to_owned(), request.body().to_vec())
}
