//! A clock that is set while thousands wait: nobody's time is over because of it, and nobody waits
//! longer.

mod support;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use support::http::{HttpClient, request};
use support::listener::{
    Coming, Listener, Way, kind, number, publish, raise_descriptor_limit, subscribers, text,
};
use support::server::{Server, Setup};
use support::{eventually, within};

const POLLS: usize = 500;
const STREAMS: usize = 500;

/// How long polls wait, in seconds: several looks at the timers, and longer than the jumps take.
const POLL_TIMEOUT_S: u64 = 6;

/// What the server takes the time of day for, from now on: that of the machine, moved.
fn set_clock(file: &Path, moved: &str) {
    // In one step, since it is read all the time.
    let new = file.with_extension("new");
    std::fs::write(&new, moved).expect("our own directory");
    std::fs::rename(&new, file).expect("our own directory");
}

/// The day that the server thinks it is, as it tells in its answers.
fn date(admin: &mut HttpClient) -> String {
    let answer = admin.get("/info");
    let date = answer.field("Date").expect("answers have a date").to_owned();
    date.split(' ').take(4).collect::<Vec<_>>().join(" ")
}

/// A server whose clock is what `file` says: that of the day, as it is set on a machine. What counts the
/// time since a start is left alone.
fn start(file: &Path) -> Server {
    require_library();
    set_clock(file, "+0");
    let preload = format!("LD_PRELOAD=/usr/$LIB/{LIBRARY}");
    let clock = format!("FAKETIME_TIMESTAMP_FILE={}", file.display());
    let how = ["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"];
    Setup::new()
        .under(&["env", &preload, &clock, how[0], how[1]])
        .set("comet.poll_timeout_s", POLL_TIMEOUT_S)
        .start()
}

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Fails the test with the command that installs it.
fn require_library() {
    let directories = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let is_there = directories.map(|entry| entry.path()).any(|path| path.join(LIBRARY).exists());
    assert!(is_there, "libfaketime is missing: apt-get install -y libfaketime");
}

/// What the library leaves behind of a process that was killed, and trips over when the process id
/// comes again.
struct Traces(u32);

impl Drop for Traces {
    fn drop(&mut self) {
        for name in ["faketime_shm", "sem.faketime_sem"] {
            // It is gone already after an end in order.
            let _ = std::fs::remove_file(format!("/dev/shm/{name}_{}", self.0));
        }
    }
}

#[test]
fn a_clock_that_jumps_by_days_ends_nobody_and_nothing() {
    raise_descriptor_limit((POLLS + STREAMS) as u64 + 1_000);
    let directory = tempfile::tempdir().expect("a private directory");
    let file = directory.path().join("clock");
    let mut server = start(&file);
    let _traces = Traces(server.process_id());
    let (public, mut admin) =
        (server.public_address(), HttpClient::connect(server.admin_address()));
    // Channels that nobody listens to, with something to remember.
    for channel in 0..100 {
        publish(&mut admin, &format!("alone-{channel}"), "kept");
    }
    let asked = "{\"channels\":[\"a\"],\"expires_s\":3600}";
    let fields = format!("Content-Length: {}\r\n", asked.len());
    admin.send(request("POST", "/v1/tokens", &fields) + asked).expect("it reads");
    let token = text(admin.answer("POST").text(), "token").expect("a token");
    let granted = format!("a&token={token}");
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|at| {
            let channel = if at % 2 == 0 { "a" } else { &granted };
            Listener::open(public, Coming::to(Way::Events, channel))
        })
        .collect();
    let answer = HttpClient::connect(public).get("/v1/poll?channel=quiet");
    let cursor = text(answer.text(), "cursor").expect("a cursor");
    let begun = Instant::now();
    let mut polls: Vec<_> = (0..POLLS)
        .map(|_| {
            let mut client = HttpClient::connect(public);
            let target = format!("/v1/poll?channel=quiet&cursor={cursor}");
            client.send(request("GET", &target, "")).expect("it reads");
            client
        })
        .collect();
    eventually("all listen", || {
        let all = subscribers(&mut admin, "quiet") == POLLS as u64
            && subscribers(&mut admin, "a") == STREAMS as u64;
        all.then_some(())
    });
    for stream in &mut streams {
        assert_eq!(kind(&stream.object().0), "subscribed");
    }

    let today = date(&mut admin);
    for (jump, moved) in [(1, "+3d"), (2, "-400d"), (3, "+0")] {
        set_clock(&file, moved);
        eventually("the clock is another", || {
            ((date(&mut admin) == today) == (moved == "+0")).then_some(())
        });
        // Two looks at the timers: those of channels turn four times a second, those of
        // connections as well.
        thread::sleep(Duration::from_millis(600));
        let (offset, heard_by) = publish(&mut admin, "a", "on time");
        assert_eq!((offset, heard_by), (jump, STREAMS as u64), "nobody was ended by {moved}");
        for stream in &mut streams {
            assert_eq!(stream.message(), jump);
        }
        assert_eq!(subscribers(&mut admin, "quiet"), POLLS as u64, "{moved}");
        for channel in 0..100 {
            let known = admin.get(&format!("/v1/channels/alone-{channel}"));
            assert_eq!((known.status, number(known.text(), "first")), (200, 1), "{moved}");
        }
    }
    let jumped = begun.elapsed();
    assert!(jumped < Duration::from_secs(POLL_TIMEOUT_S), "{jumped:?}: the polls are over");

    // The time of the polls is up when it would have been anyway.
    for poll in &mut polls {
        let answer = poll.answer("GET");
        assert!(answer.text().contains("\"messages\":[]"), "{answer:?}");
    }
    let took = begun.elapsed();
    println!("polls of {POLL_TIMEOUT_S} s were answered after {took:.1?}");
    assert!(took >= Duration::from_secs(POLL_TIMEOUT_S - 1), "{took:?}");
    drop(streams);
    let gone =
        within(Duration::from_secs(10), || (subscribers(&mut admin, "a") == 0).then_some(()));
    assert!(gone.is_some(), "who leaves is noticed");
    server.stop();
}
