//! An acknowledged message survives: `kill -9`, power loss, a torn tail, a disk that fails, a disk
//! that is full. Each client remembers what it was promised; the restarted server is held to that.

mod support;

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use support::client::Client;
use support::load::{Load, drain};
use support::mounts::Mount;
use support::program::find;
use support::server::{Server, Setup};
use support::{eventually, rounds};

const PRODUCERS: usize = 8;

#[test]
fn acknowledged_messages_survive_kill_9() {
    let data = tempfile::tempdir().expect("a private directory");
    let start = || Setup::new().data_dir(data.path()).start();
    let mut server = start();
    for round in 0..rounds("ESERVER_KILL_ROUNDS", 5) {
        let address = server.address();
        let load = Load::start(address, PRODUCERS, &format!("kill {round}")).with_consumer(address);
        load.wait_for_acks(fastrand::u64(200..2_000));
        server.kill();
        let promises = load.join();

        server = start();
        promises.check(&drain(server.address()), 1);
    }
    server.stop();
}

#[test]
fn acknowledged_messages_survive_a_power_cut() {
    let mut disk = Mount::ext4(512);
    let data = disk.path().join("data");
    let start = || Setup::new().data_dir(&data).start();
    for round in 0..rounds("ESERVER_POWER_ROUNDS", 1) {
        let mut server = start();
        let address = server.address();
        let load = Load::start(address, PRODUCERS, &format!("cut {round}")).with_consumer(address);
        load.wait_for_acks(fastrand::u64(500..5_000));
        disk.cut_power();
        if !server.has_exited() {
            server.signal(Signal::SIGKILL);
        }
        server.wait();
        let promises = load.join();

        disk.restore_power();
        let mut server = start();
        promises.check(&drain(server.address()), 1);
        server.stop();
    }
}

/// A stopped server's directory with `count` messages `torn-…` in the default queue.
fn directory_with_messages(count: usize) -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a private directory");
    let mut server = Setup::new().data_dir(data.path()).start();
    let mut client = server.client();
    (0..count).for_each(|number| client.put(&torn_message(number)));
    server.kill(); // a tail is only torn when nobody closed the log in order
    data
}

fn torn_message(number: usize) -> String {
    format!("torn-{number:04}-{}", "x".repeat(40))
}

/// The file below `directory` that holds `needle`, and where in it.
fn locate(directory: &Path, needle: &str) -> (PathBuf, u64) {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("our own directory") {
            let path = entry.expect("our own directory").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("our own file");
            let found = bytes.windows(needle.len()).position(|window| window == needle.as_bytes());
            if let Some(at) = found {
                return (path, at as u64);
            }
        }
    }
    panic!("{needle:?} is in no file of {}", directory.display());
}

#[test]
fn a_torn_tail_is_cut_and_the_rest_loads() {
    const MESSAGES: usize = 50;
    let last = torn_message(MESSAGES - 1);
    for into_message in [0, 1, 7, last.len() as u64 - 1] {
        let data = directory_with_messages(MESSAGES);
        let (path, at) = locate(data.path(), &last);
        std::fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(at + into_message))
            .expect("our own file");

        let server = Setup::new().data_dir(data.path()).start();
        let expected: Vec<_> = (0..MESSAGES - 1).map(torn_message).collect();
        assert_eq!(drain(server.address()), expected, "cut {into_message} bytes into the last");
        server.client().put("the log goes on");
        assert_eq!(drain(server.address()), ["the log goes on"]);
    }
}

#[test]
fn a_flipped_bit_is_never_served_as_good() {
    const MESSAGES: usize = 50;
    for damaged in [0, MESSAGES / 2, MESSAGES - 1] {
        let data = directory_with_messages(MESSAGES);
        let (path, at) = locate(data.path(), &torn_message(damaged));
        let file = std::fs::File::options().read(true).write(true).open(path);
        let file = file.expect("our own file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 3).expect("inside the message");
        file.write_all_at(&[byte[0] ^ 0x10], at + 3).expect("our own file");
        drop(file);

        let server = Setup::new().data_dir(data.path()).start();
        let expected: Vec<_> =
            (0..MESSAGES).filter(|&number| number != damaged).map(torn_message).collect();
        assert_eq!(drain(server.address()), expected, "message {damaged} is damaged");
        // Damage to the very last record cannot be told from a write that was cut short.
        if damaged != MESSAGES - 1 {
            let said = server.stderr().to_lowercase();
            assert!(said.contains("damage"), "damage is reported: {said}");
        }
    }
}

#[test]
fn a_failed_fsync_ends_the_acknowledgements() {
    let strace = find("strace", "strace");
    for failing in [20_u64, 57] {
        let data = tempfile::tempdir().expect("a private directory");
        let inject = format!("inject=fdatasync,fsync:error=EIO:when={failing}");
        // -D: strace becomes the grandchild, so that the server stays our own child.
        let wrapper = [
            &strace.to_string_lossy(),
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync,fsync",
            "-e",
            &inject,
        ];
        let setup = Setup::new().data_dir(data.path()).set("shards", 1);
        let mut server = setup.under(&wrapper).start();
        let load = Load::start(server.address(), 2, "eio");
        // Two producers: at most two puts in a commit. strace counts the calls of each thread by
        // itself, and both the shard and the queue's thread commit.
        load.wait_for_end(2 * 2 * failing);
        let promises = load.join();
        assert!(promises.acked() > 0, "the first puts are good");
        // Only the one fsync fails, the next would succeed: a server that tries again would ack.
        if let Ok(mut client) = Client::try_connect(server.address()) {
            for _ in 0..20 {
                let reply = client.try_ask(8001, json!({"sql": "after the error"}).to_string());
                assert!(
                    reply.is_none_or(|reply| reply.command == 0),
                    "acknowledged after a failed fsync"
                );
            }
        }
        let status = server.wait();
        let said = server.stderr().to_lowercase();
        assert!(status.code().is_some_and(|code| code != 0), "{status}: {said}");
        assert!(said.contains("input/output error"), "it says why: {said}");

        let server = Setup::new().data_dir(data.path()).start();
        let mut left = drain(server.address());
        left.retain(|message| message != "after the error"); // written, perhaps; never promised
        promises.check(&left, 0);
    }
}

#[test]
fn a_sync_that_fails_at_the_end_is_told() {
    let strace = find("strace", "strace");
    let mut server = Setup::new().set("queue.sync", "never").start();
    for number in 0..100 {
        let reply = server.client().ask_json(8001, &json!({"sql": number.to_string()}));
        assert_eq!(reply.command, 8001);
    }
    let process_id = server.process_id();
    // Attached only now: the syncs of the start were good.
    let mut tracer = std::process::Command::new(strace)
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
        .args(["-e", "inject=fdatasync:error=EIO", "-p", &process_id.to_string()])
        .spawn()
        .expect("strace starts");
    eventually("strace has taken hold of every thread", || {
        let tasks = std::fs::read_dir(format!("/proc/{process_id}/task")).ok()?;
        let held = tasks.filter_map(Result::ok).all(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        });
        held.then_some(())
    });
    server.signal(Signal::SIGTERM);
    let status = server.wait();
    tracer.wait().expect("strace ends with what it traces");
    let said = server.stderr().to_lowercase();
    assert_eq!(status.code(), Some(74), "{said}");
    assert!(said.contains("input/output error"), "it says why: {said}");
}

/// The body of a put of message `number` with a payload of about 4 KiB.
fn bulky(number: usize) -> String {
    format!("bulky-{number:05}-{}", "x".repeat(4_000))
}

/// Puts until the queue refuses; answers with the number of messages that it took.
fn put_until_refused(client: &mut Client, from: usize) -> usize {
    for number in from..100_000 {
        let asked = Instant::now();
        let reply = client.ask_json(8001, &json!({"sql": bulky(number)}));
        if reply.command == 8001 {
            continue;
        }
        let waited = asked.elapsed();
        assert!(!reply.error().is_empty(), "a full disk is an error that says so: {reply:?}");
        assert!(waited < Duration::from_secs(2), "the refusal took {waited:?}");
        return number;
    }
    panic!("400 MB went into 8 MiB");
}

#[test]
fn a_full_disk_refuses_puts_and_loses_nothing() {
    let disk = Mount::tmpfs(8);
    let data = disk.path().join("data");
    let mut server = Setup::new().data_dir(&data).start();
    let mut client = server.client();
    let stored = put_until_refused(&mut client, 0);
    assert!(stored > 100, "{stored} messages of 4 KiB are far less than 8 MiB");

    // Takes go on while puts are refused.
    for number in 0..10 {
        assert_eq!(client.pop().as_deref(), Some(bulky(number).as_str()));
    }
    assert_eq!(client.length() as usize, stored - 10);

    // Space returns: puts are accepted again without a restart.
    disk.resize(32);
    eventually("puts are accepted again", || {
        let reply = client.ask_json(8001, &json!({"sql": bulky(stored)}));
        (reply.command == 8001).then_some(())
    });
    let stored = put_until_refused(&mut client, stored + 1);
    server.kill();

    let server = Setup::new().data_dir(&data).start();
    let left = drain(server.address());
    let expected: Vec<_> = (10..stored).map(bulky).collect();
    assert!(left == expected, "{} of {} are there", left.len(), expected.len());
}

#[test]
fn named_queues_and_leases_survive_kill_9() {
    let data = tempfile::tempdir().expect("a private directory");
    let start = || Setup::new().data_dir(data.path()).start();
    let mut server = start();
    let mut gone = HashSet::new();
    for round in 0..3_u64 {
        let mut client = server.client();
        let items: Vec<_> = (0..100).map(|number| json!([round, number])).collect();
        let reply = client.ask_json(8015, &json!({"queue": "img", "items": items}));
        assert_eq!(reply.command, 8015, "{reply:?}");
        let reply = client.ask_json(8011, &json!({"queue": "img", "lease_ms": 60_000, "max": 50}));
        let messages = reply.json()["messages"].clone();
        let ids: Vec<u64> = messages
            .as_array()
            .expect("a list of messages")
            .iter()
            .filter_map(|message| message["id"].as_u64())
            .collect();
        assert_eq!(ids.len(), 50, "{reply:?}");
        assert!(ids.iter().all(|id| !gone.contains(id)), "an acked message came back");
        let reply = client.ask_json(8012, &json!({"queue": "img", "ids": ids}));
        assert_eq!(reply.json()["acked"], 50, "{reply:?}");
        gone.extend(ids);
        server.kill();
        server = start();
        let length = server.client().ask_json(8003, &json!({"queue_type": "img"}));
        assert_eq!(length.json(), json!(50 * (round + 1)));
    }
}

#[test]
fn a_restart_in_order_keeps_everything() {
    let data = tempfile::tempdir().expect("a private directory");
    let start = || -> Server { Setup::new().data_dir(data.path()).start() };
    let mut server = start();
    let load = Load::start(server.address(), PRODUCERS, "order");
    load.wait_for_acks(1_000);
    let promises = load.stop();
    server.stop();
    let server = start();
    promises.check(&drain(server.address()), 0);
}
