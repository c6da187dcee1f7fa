//! More connections than the process may have descriptors: further threads hold them in tables of
//! their own, and nobody can tell.

mod support;

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use support::eventually;
use support::http::{HttpClient, request};
use support::server::{Server, Setup};

/// Several times more than a table of 256 descriptors holds.
const CROWD: usize = 900;

fn setup() -> Setup {
    Setup::new().under(&["prlimit", "--nofile=256"])
}

fn subscribers(server: &Server) -> u64 {
    let answer = HttpClient::connect(server.admin_address()).get("/info");
    let text = answer.text().to_owned();
    let (_, count) = text.rsplit_once(": ").expect("a number stands last");
    count.trim_end_matches(['}', '\n']).parse().expect("a number")
}

/// Polls, each on a channel of its own, all of which wait.
fn crowd(server: &Server, public: SocketAddr, name: char) -> Vec<HttpClient> {
    let mut polls: Vec<_> = (0..CROWD).map(|_| HttpClient::connect(public)).collect();
    for (number, poll) in polls.iter_mut().enumerate() {
        poll.send(request("GET", &format!("/sub?cname={name}{number}&seq=1"), ""))
            .expect("it reads");
    }
    eventually("all wait", || (subscribers(server) == CROWD as u64).then_some(()));
    polls
}

#[test]
fn a_crowd_waits_in_tables_of_its_own() {
    let mut server = setup().start();
    server.wait_to_say("threads with descriptors of their own");
    let mut polls = crowd(&server, server.public_address(), 'c');
    // The queue is where it was, and durable work is done between.
    server.client().put("insert into t(num) values (1)");
    let mut admin = HttpClient::connect(server.admin_address());
    for number in 0..CROWD {
        let answer = admin.get(&format!("/push?cname=c{number}&content={number}"));
        assert_eq!(answer.status, 200);
    }
    for (number, poll) in polls.iter_mut().enumerate() {
        let answer = poll.answer("GET");
        let expected = format!("\"seq\":1,\"content\":\"{number}\"");
        assert!(answer.text().contains(&expected), "{}", answer.text());
    }
    // The same connections again: to all at once, with a signal in between that must not reach them.
    for (number, poll) in polls.iter_mut().enumerate() {
        poll.send(request("GET", &format!("/sub?cname=c{number}&seq=2"), "")).expect("it reads");
    }
    eventually("all wait again", || (subscribers(&server) == CROWD as u64).then_some(()));
    server.signal(Signal::SIGHUP);
    assert_eq!(admin.get("/broadcast?content=all").status, 200);
    for poll in &mut polls {
        assert!(poll.answer("GET").text().starts_with("[{\"type\":\"broadcast\""));
    }
    assert_eq!(server.client().pop().as_deref(), Some("insert into t(num) values (1)"));
    // Half of them leave, and their places are taken by others.
    polls.truncate(CROWD / 2);
    drop(polls);
    eventually("all have left", || (subscribers(&server) == 0).then_some(()));
    let mut polls = crowd(&server, server.public_address(), 'd');
    // The end: everybody is answered, and nobody is left without the end of the connection.
    server.signal(Signal::SIGTERM);
    for poll in &mut polls {
        let answer = poll.answer("GET");
        assert!(answer.text().contains("\"type\":\"noop\""), "{}", answer.text());
        poll.assert_closed("the server has ended");
    }
    assert!(server.wait().success(), "{}", server.stderr());
    assert!(!server.stderr().contains("ERROR"), "{}", server.stderr());
}

#[test]
fn without_such_tables_the_limit_bounds_the_process() {
    let mut server = setup().set("private_fd_tables", "off").start();
    server.wait_to_say("at most 192 connections at once");
    let public = server.public_address();
    let mut polls: Vec<_> = (0..192).map(|_| HttpClient::connect(public)).collect();
    for poll in &mut polls {
        poll.send(request("GET", "/sub?cname=a&seq=1", "")).expect("it reads");
    }
    eventually("one too many is refused", || {
        let mut client = HttpClient::try_connect(public).ok()?;
        client.send(request("GET", "/ping", "")).ok()?;
        (client.receive("GET").ok()??.status == 503).then_some(())
    });
    drop(polls);
    eventually("there is room again", || {
        let mut client = HttpClient::try_connect(public).ok()?;
        client.send(request("GET", "/ping", "")).ok()?;
        (client.receive("GET").ok()??.status == 200).then_some(())
    });
    server.stop();
}
