//! A comet server and nothing else: the public port at the first argument, the admin port at the
//! second.
//!
//! ```sh
//! cargo run --release -p eserver-comet --example comet -- 127.0.0.1:8100 127.0.0.1:8000
//! ```

use std::error::Error;
use std::time::Duration;

use eserver::{AllowList, Server};
use eserver_comet::{Comet, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(public), Some(admin)) = (arguments.next(), arguments.next()) else {
        return Err("usage: comet PUBLIC_ADDRESS ADMIN_ADDRESS".into());
    };
    let comet = Comet::new(Settings::default(), None)?;
    let shards = arguments.next().map_or(Ok(1), |shards| shards.parse())?;
    let running = Server::new()
        .shards(shards)
        .listen(public, AllowList::everyone(), comet.front())?
        .listen(admin, AllowList::loopback(), comet.admin())?
        .start()?;
    for address in running.addresses() {
        println!("listening on {address}");
    }
    running.runtime().block_on(eserver::asked_to_end())?;
    running.shutdown(Duration::from_secs(10));
    Ok(())
}
