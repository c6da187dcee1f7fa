//! Starting, stopping and reloading as an operator sees it: one clear sentence when it cannot
//! start, nothing lost when it ends, nobody dropped when it reloads.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;
use support::client::Client;
use support::load::{Load, drain};
use support::server::{Server, Setup};
use support::{PATIENCE, eventually, within};

/// A refusal is one sentence that mentions each of `words`, one of the alternatives between `|`.
fn assert_sentence(stderr: &str, words: &[&str]) {
    let lines: Vec<_> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!((1..=3).contains(&lines.len()), "one sentence, with a hint perhaps:\n{stderr}");
    let said = stderr.to_lowercase();
    for word in words {
        let found = word.to_lowercase().split('|').any(|either| said.contains(either));
        assert!(found, "it must mention {word:?}:\n{stderr}");
    }
}

#[test]
fn it_says_where_it_listens() {
    let server = Server::start();
    let address = server.address().to_string();
    assert!(server.stdout().contains(&address));
    assert_ne!(server.address().port(), 0, "the port that was given");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let stderr = Setup::new().set("queue.listen", &address).refuse();
    assert_sentence(&stderr, &[&address, "in use"]);
}

#[test]
fn the_port_of_another_eserver_is_in_use_too() {
    let first = Server::start();
    let address = first.address().to_string();
    // Shards share a port by SO_REUSEPORT; two servers must not.
    let stderr = Setup::new().set("queue.listen", &address).refuse();
    assert_sentence(&stderr, &[&address, "in use"]);
}

#[test]
fn an_unwritable_data_directory_is_named() {
    let directory = tempfile::tempdir().expect("a private directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").expect("our own directory");
    for data_dir in [file.clone(), file.join("below"), "/proc/eserver-data".into()] {
        let stderr = Setup::new().data_dir(&data_dir).refuse();
        assert_sentence(&stderr, &[&data_dir.to_string_lossy()]);
    }
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let first = Server::start();
    let stderr = Setup::new().data_dir(first.data_dir()).refuse();
    let process = first.process_id().to_string();
    assert_sentence(&stderr, &[&first.data_dir().to_string_lossy(), &process]);
    first.client().put("the first is unharmed");
}

#[test]
fn a_directory_is_free_again_after_kill_9() {
    let data = tempfile::tempdir().expect("a private directory");
    for _ in 0..3 {
        let mut server = Setup::new().data_dir(data.path()).start();
        server.client().put("again");
        server.kill();
    }
    let server = Setup::new().data_dir(data.path()).start();
    assert_eq!(drain(server.address()), ["again"; 3]);
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_left_alone() {
    let data = tempfile::tempdir().expect("a private directory");
    let mut server = Setup::new().data_dir(data.path()).start();
    server.client().put("kept");
    server.stop();

    let (file, text) = format_file(data.path());
    std::fs::write(&file, raise_last_number(&text)).expect("our own file");
    let stderr = Setup::new().data_dir(data.path()).refuse();
    assert_sentence(&stderr, &["format|version", "newer|unknown|supports|understands"]);

    std::fs::write(&file, &text).expect("our own file");
    let server = Setup::new().data_dir(data.path()).start();
    assert_eq!(drain(server.address()), ["kept"], "the refusal changed nothing");
}

/// The file in the data directory that names its format, and what it says.
fn format_file(data_dir: &Path) -> (PathBuf, String) {
    let files: Vec<_> = std::fs::read_dir(data_dir)
        .expect("our own directory")
        .map(|entry| entry.expect("our own directory").path())
        .filter(|path| path.is_file())
        .collect();
    let format = files.iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.contains("format") || name.contains("version")
    });
    let file = format.unwrap_or_else(|| panic!("no file names the format among {files:?}"));
    let text = std::fs::read_to_string(file).expect("a line of text");
    (file.clone(), text)
}

/// The text with 9 put before its last number, which makes that number larger.
fn raise_last_number(text: &str) -> String {
    let end = text.rfind(|letter: char| letter.is_ascii_digit()).expect("a number");
    let start =
        text[..end].rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |before| before + 1);
    format!("{}9{}", &text[..start], &text[start..])
}

/// Under load, the signal ends the server in order and nothing that was promised is lost.
fn assert_drains(signal: Signal) {
    let data = tempfile::tempdir().expect("a private directory");
    let mut server = Setup::new().data_dir(data.path()).start();
    let load = Load::start(server.address(), 8, "drain");
    load.wait_for_acks(500);
    server.signal(signal);
    let status = server.wait();
    let promises = load.join();
    assert_eq!(status.code(), Some(0), "{signal} ends with {status}");
    let said = server.stderr();
    assert!(!said.contains("cut off"), "somebody waited in vain: {said}");
    for producer in &promises.producers {
        assert!(producer.refusal.is_none(), "a put was answered by {:?}", producer.refusal);
    }
    let server = Setup::new().data_dir(data.path()).start();
    promises.check(&drain(server.address()), 0);
}

#[test]
fn sigterm_drains() {
    assert_drains(Signal::SIGTERM);
}

#[test]
fn control_c_drains() {
    assert_drains(Signal::SIGINT);
}

#[test]
fn sigterm_answers_what_is_on_its_way() {
    const FRAMES: usize = 1_000;
    let data = tempfile::tempdir().expect("a private directory");
    let mut server = Setup::new().data_dir(data.path()).start();
    let mut client = server.client();
    for number in 0..FRAMES {
        let body = json!({"sql": number.to_string()}).to_string();
        client.send(8001, body).expect("the server reads");
    }
    assert_eq!(client.reply().command, 8001, "the server has begun with them");
    server.signal(Signal::SIGTERM);
    let mut acked = 1;
    while let Ok(Some(reply)) = client.receive() {
        assert_eq!(reply.command, 8001, "{reply:?}");
        acked += 1;
    }
    assert_eq!(server.wait().code(), Some(0));
    let server = Setup::new().data_dir(data.path()).start();
    let left = drain(server.address());
    assert_eq!(left.len(), acked, "as many stored as answered");
}

#[test]
fn idle_clients_do_not_hold_up_the_end() {
    let mut server = Server::start();
    let mut idle: Vec<_> = (0..50).map(|_| server.client()).collect();
    let mut half = server.client();
    half.send_raw(&[0x1f, 0x41, 0]).expect("the server reads");
    assert_eq!(idle[0].length(), 0);
    let start = std::time::Instant::now();
    server.stop();
    assert!(start.elapsed().as_secs() < 20, "it took {:?}", start.elapsed());
    for client in &mut idle {
        client.assert_closed("the server has ended");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Setup::new().set("shutdown_timeout_s", 600).start();
    // A reader that never reads keeps the drain waiting.
    let mut client = server.client();
    (0..200).for_each(|_| client.put(&"x".repeat(60_000)));
    let mut stalled = server.client();
    let burst = support::client::frame(8002, "").repeat(200);
    stalled.send_raw(&burst).expect("a few bytes always fit");
    eventually("the reader stalls the server", || (client.length() < 200).then_some(()));
    server.signal(Signal::SIGTERM);
    eventually("no new connections", || Client::try_connect(server.address()).err());
    if !server.has_exited() {
        server.signal(Signal::SIGTERM);
    }
    let ended = within(PATIENCE, || server.has_exited().then_some(()));
    assert!(ended.is_some(), "the second signal does not wait for the drain");
}

/// Writes a configuration file and answers with its path.
fn write_config(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("eserver.toml");
    std::fs::write(&file, text).expect("our own directory");
    file
}

#[test]
fn a_reload_takes_the_new_and_drops_nobody() {
    let directory = tempfile::tempdir().expect("a private directory");
    let config = write_config(directory.path(), "[queue]\nallow = [\"127.0.0.1\"]\n");
    let server = Setup::new().config(&config).start();
    let stranger = [127, 0, 0, 7].into();
    let mut refused = Client::connect_from(stranger, server.address());
    refused.assert_closed("not on the list yet");

    let load = Load::start(server.address(), 4, "reload");
    load.wait_for_acks(100);
    write_config(directory.path(), "[queue]\nallow = [\"127.0.0.1\", \"127.0.0.7\"]\n");
    server.signal(Signal::SIGHUP);
    eventually("the new allow-list holds", || {
        Client::connect_from(stranger, server.address()).try_ask(8003, "")
    });
    assert_reload_kept(&server, load);
}

#[test]
fn a_reload_of_a_bad_file_keeps_the_old() {
    let directory = tempfile::tempdir().expect("a private directory");
    let config = write_config(directory.path(), "[queue]\nallow = [\"127.0.0.1\"]\n");
    let server = Setup::new().config(&config).start();
    let load = Load::start(server.address(), 4, "reload");
    load.wait_for_acks(100);
    for bad in ["[queue\n", "[queue]\nallwo = []\n", "[limits]\nidle_timeout_s = \"soon\"\n"] {
        let before = server.stderr().len();
        write_config(directory.path(), bad);
        server.signal(Signal::SIGHUP);
        eventually("the error is reported", || (server.stderr().len() > before).then_some(()));
    }
    assert_reload_kept(&server, load);
}

/// No producer saw anything but acknowledgements, and all they put is there.
fn assert_reload_kept(server: &Server, load: Load) {
    let promises = load.stop();
    assert!(promises.producers.iter().all(|producer| producer.refusal.is_none()));
    let left = drain(server.address());
    assert_eq!(left.len() as u64, promises.acked(), "nobody was dropped");
    promises.check(&left, 0);
}
