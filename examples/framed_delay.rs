//! cargo run --release --example framed_delay -- 127.0.0.1:7000
//!
//! Every command is answered with its own body after half a second of asynchronous waiting.
//! Ten thousand can wait at once: a request that waits holds no thread.

use std::time::Duration;

use eserver::framed::{App, Reply};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".to_owned());
    let mut app = App::new();
    app.command_async(1, async |request| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Reply::new(1, request.body)
    });
    app.listen(address.as_str())?;
    Ok(())
}
