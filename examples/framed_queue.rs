//! cargo run --release --example framed_queue -- 127.0.0.1:8888
//!
//! The queue from the README of the old framework: 8001 puts a statement in, 8002 takes the oldest
//! out, 8003 says how many there are. It lives in memory; `eserver serve` is the durable one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use eserver::framed::{App, Reply};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8888".to_owned());
    let queue = Arc::new(Mutex::new(VecDeque::<Value>::new()));

    let mut app = App::new();
    let put = Arc::clone(&queue);
    app.command(8001, move |request| match serde_json::from_slice::<Value>(request.body) {
        Ok(Value::Object(mut body)) if body.get("sql").is_some_and(Value::is_string) => {
            put.lock().expect("no handler panics").push_back(body["sql"].take());
            Reply::new(8001, json!({ "msg": "success" }).to_string())
        }
        _ => Reply::new(0, json!({ "error": "send {\"sql\": \"a statement\"}" }).to_string()),
    });
    let take = Arc::clone(&queue);
    app.command(8002, move |_| match take.lock().expect("no handler panics").pop_front() {
        Some(sql) => Reply::new(8002, sql.to_string()),
        None => Reply::new(0, json!({ "msg": "error" }).to_string()),
    });
    app.command(8003, move |_| {
        Reply::new(8003, queue.lock().expect("no handler panics").len().to_string())
    });
    app.allow_ip("192.168.1.0/24")?;
    app.listen(address.as_str())?;
    Ok(())
}
