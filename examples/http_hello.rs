//! cargo run --release --example http_hello -- 127.0.0.1:8080
//!
//! `/` answers `Hello, World!` and `/info` answers `test 成功`. Without an address it is
//! 127.0.0.1:8080.

use std::error::Error;
use std::process::ExitCode;

use eserver::http::App;

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
    app.get("/", |_| "Hello, World!");
    app.get("/info", |_| "test 成功");
    app.listen(address.as_str())?;
    Ok(())
}
