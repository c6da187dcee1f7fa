//! Small writes leave at once: nothing waits for the peer to acknowledge what went before (Nagle's
//! algorithm), which a peer that has just spoken does 40 ms later.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use support::http::{HttpClient, request};
use support::server::Server;

const MESSAGES: usize = 200;

/// Well below what a delayed acknowledgement costs, well above what a busy machine does.
const DELAYED: Duration = Duration::from_millis(20);

#[test]
fn a_message_right_after_a_poll_is_not_held_up() {
    let server = Server::start();
    let mut poll = HttpClient::connect(server.public_address());
    let mut admin = HttpClient::connect(server.admin_address());
    let mut delays = Vec::new();
    for number in 1..=MESSAGES {
        let target = format!("/sub?cname=a&seq={number}");
        poll.send(request("GET", &target, "")).expect("it reads");
        thread::sleep(Duration::from_millis(2));
        let published = Instant::now();
        assert_eq!(admin.get("/push?cname=a&content=x").status, 200);
        let answer = poll.answer("GET");
        delays.push(published.elapsed());
        assert!(answer.text().contains(&format!("\"seq\":{number},")), "{}", answer.text());
    }
    delays.sort_unstable();
    let median = delays[delays.len() / 2];
    println!("half of {MESSAGES} polls were answered within {median:?}");
    assert!(median < DELAYED, "{median:?}");
}
