//! `[http]` from outside: fixed answers and files, who may come, what an operator reads, and an end
//! that cuts off nobody.

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use socket2::SockRef;
use support::client::Client;
use support::eventually;
use support::http::{HttpClient, request};
use support::server::{Server, Setup};
use tempfile::TempDir;

/// A large file is longer than what sockets hold.
const LARGE_BYTES: usize = 32 << 20;

/// A server with fixed answers, and files that outlive it.
fn site() -> (Server, TempDir) {
    let directory = tempfile::tempdir().expect("a private directory");
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("ours");
        std::fs::write(path, content).expect("our own directory");
    };
    write("root/index.html", b"<p>front page</p>");
    write("root/sub/page.txt", b"0123456789");
    write("root/sub/script.js", b"plain");
    write("root/sub/script.js.gz", b"packed");
    write("root/成 功.txt", "成功".as_bytes());
    write("root/large.bin", &large());
    write("secret", b"secret");
    let root = directory.path().join("root");
    let text = format!(
        r#"
shards = 1
[http]
listen = "127.0.0.1:0"
access_log_one_in = 1
[[http.respond]]
path = "/hello"
body = "Hello, World!\n"
[[http.respond]]
path = "/成 功"
status = 410
body = "<p>成功</p>"
content_type = "text/html; charset=utf-8"
[[http.respond]]
path = "/nothing"
status = 204
content_type = ""
[[http.respond]]
path = "/files/sub/fixed"
body = "in between"
[[http.files]]
prefix = "/files/"
root = {root:?}
[[http.files]]
root = {root:?}
"#
    );
    (Setup::new().text(text).start(), directory)
}

/// The content of the large file: every 8 bytes say where they are.
fn large() -> Vec<u8> {
    (0..LARGE_BYTES as u64 / 8).flat_map(u64::to_be_bytes).collect()
}

#[test]
fn answers_and_files_are_served() {
    let (server, _directory) = site();
    let mut client = server.http_client();
    let range = "Range: bytes=2-4\r\n";
    for (asked, fields, status, body, field) in [
        ("GET /hello", "", 200, "Hello, World!\n", "Content-Type: text/plain; charset=utf-8"),
        ("HEAD /hello", "", 200, "", "Content-Length: 14"),
        ("POST /hello", "Content-Length: 0\r\n", 200, "Hello, World!\n", ""),
        ("DELETE /hello", "", 200, "Hello, World!\n", ""),
        ("OPTIONS /hello", "", 204, "", "Allow: "),
        ("PROPFIND /hello", "", 405, "", "Allow: "),
        ("GET /hello?a=b", "", 200, "Hello, World!\n", "Content-Length: 14"),
        ("GET /hello/", "", 404, "", ""),
        ("GET /%E6%88%90%20%e5%8a%9f", "", 410, "<p>成功</p>", "Content-Type: text/html; charset="),
        ("GET /nothing", "", 204, "", ""),
        ("GET /", "", 200, "<p>front page</p>", "Content-Type: text/html"),
        ("GET /files/", "", 200, "<p>front page</p>", "ETag: "),
        ("GET /files", "", 301, "", "Location: /files/"),
        ("GET /sub", "", 301, "", "Location: /sub/"),
        ("GET /files/sub/page.txt", "", 200, "0123456789", "Last-Modified: "),
        ("GET /files/sub/page.txt", range, 206, "234", "Content-Range: bytes 2-4/10"),
        ("GET /sub/page.txt", "Range: bytes=-3\r\n", 206, "789", "Content-Range: bytes 7-9/10"),
        ("GET /sub/page.txt", "Range: bytes=10-\r\n", 416, "", "Content-Range: bytes */10"),
        ("HEAD /sub/page.txt", "", 200, "", "Content-Length: 10"),
        (
            "GET /sub/script.js",
            "Accept-Encoding: gzip\r\n",
            200,
            "packed",
            "Content-Encoding: gzip",
        ),
        ("GET /sub/script.js", "", 200, "plain", "Vary: Accept-Encoding"),
        ("GET /files/%E6%88%90%20%E5%8A%9F.txt", "", 200, "成功", "Content-Length: 6"),
        ("GET /files/sub/fixed", "", 200, "in between", ""),
        ("POST /sub/page.txt", "Content-Length: 0\r\n", 405, "", "Allow: GET, HEAD, OPTIONS"),
        ("GET /none", "", 404, "", ""),
        ("GET /secret", "", 404, "", ""),
        ("GET /../secret", "", 404, "", ""),
        ("GET /files/%2e%2e/secret", "", 404, "", ""),
        ("GET /files/..%2fsecret", "", 404, "", ""),
    ] {
        let (method, target) = asked.split_once(' ').expect("a method and a target");
        let answer = client.ask(method, target, fields);
        let whole = format!("{asked}: {answer:?}");
        assert_eq!(answer.status, status, "{whole}");
        assert!(body.is_empty() || answer.text() == body, "{whole}");
        assert!(answer.keep_alive, "all on one connection: {whole}");
        if let Some((name, value)) = field.split_once(": ") {
            assert!(answer.field(name).is_some_and(|given| given.starts_with(value)), "{whole}");
        }
        assert!(answer.field("Server").is_some() && answer.field("Date").is_some(), "{whole}");
    }
    let page = client.get("/sub/page.txt");
    let known = format!("If-None-Match: {}\r\n", page.field("ETag").expect("an entity tag"));
    assert_eq!(client.ask("GET", "/sub/page.txt", &known).status, 304);
    assert!(client.get("/large.bin").body == large(), "a large file comes whole");
    client.send(request("GET", "/hello", "").repeat(50)).expect("the server reads");
    (0..50).for_each(|_| assert_eq!(client.answer("GET").text(), "Hello, World!\n"));
    assert!(!client.ask("GET", "/hello", "Connection: close\r\n").keep_alive);
    client.assert_closed("as was asked for");
    // Both protocols are one server.
    server.client().put("insert");
}

#[test]
fn the_operator_reads_what_to_try_and_what_was_asked() {
    let (mut server, _directory) = site();
    let address = server.http_address();
    let line = format!("http      listening on {address}  try: curl http://{address}/hello\n");
    server.wait_to_say(&line);
    let mut client = server.http_client();
    assert_eq!(client.get("/hello?secret=1").status, 200);
    assert_eq!(client.get("/sub/page.txt").status, 200);
    assert_eq!(client.get("/none").status, 404);
    let access = |path: &str, status: u16| {
        eventually("the request is logged", || {
            let said = server.stderr();
            let logged = |line: &str| {
                line.contains("\"target\":\"eserver::access\"")
                    && line.contains(&format!("\"path\":{path:?}"))
                    && line.contains(&format!("\"status\":{status}"))
            };
            said.lines().any(logged).then_some(())
        });
    };
    access("/hello", 200);
    access("/sub/page.txt", 200);
    access("/none", 404);
    assert!(!server.stderr().contains("secret"), "a query may hold what is nobody's business");
    drop(client);
    server.stop();
    let said = server.stderr();
    let ended =
        said.lines().find(|line| line.contains("\"message\":\"ended\"")).expect("a last line");
    assert!(ended.contains("\"requests\":3,"), "{ended}");
}

#[test]
fn without_an_address_http_is_off() {
    let server = Setup::new().text("[[http.respond]]\npath = \"/\"\n").start();
    assert!(!server.stdout().contains("http "), "{}", server.stdout());
    assert!(server.stderr().contains("HTTP is off"), "{}", server.stderr());
}

#[test]
fn a_reload_changes_who_may_come_and_nothing_else() {
    let text = |allow: &str, listen: &str, body: &str| {
        format!(
            "[http]\nlisten = {listen:?}\nallow = {allow}\n\
             [[http.respond]]\npath = \"/\"\nbody = {body:?}\n"
        )
    };
    let server = Setup::new().text(text("[\"127.0.0.7\"]", "127.0.0.1:0", "old")).start();
    let ask = || {
        let mut client = HttpClient::try_connect(server.http_address()).ok()?;
        client.send(request("GET", "/", "")).ok()?;
        client.receive("GET").ok()?
    };
    assert_eq!(ask(), None, "not on the list");
    server.client().put("the queue has a list of its own");
    server.rewrite(&text("[\"127.0.0.1\"]", "127.0.0.1:0", "new"));
    server.signal(Signal::SIGHUP);
    let answer = eventually("the new allow-list holds", ask);
    assert_eq!(answer.text(), "old", "answers change at the next start");
    eventually("this is said", || {
        let said = server.stderr();
        let names = |key: &str| {
            let key = format!("\"key\":{key:?}");
            said.lines().any(|line| line.contains("next start") && line.contains(&key))
        };
        names("http.respond").then_some(())
    });
    // One that turns HTTP off cannot do so before the next start, but its list counts.
    server.rewrite("[http]\nallow = [\"127.0.0.7\"]\n");
    server.signal(Signal::SIGHUP);
    eventually("the next allow-list holds", || ask().is_none().then_some(()));
    server.client().put("still there");
}

#[test]
fn sigterm_answers_what_was_asked() {
    // More than are read before answers have left, so that some are read when the end is near.
    const ASKED: usize = 400;
    let (mut server, _directory) = site();
    let mut client = server.http_client();
    SockRef::from(client.stream()).set_recv_buffer_size(65_536).expect("an open socket");
    let asked = request("GET", "/large.bin", "") + &request("GET", "/hello", "").repeat(ASKED);
    client.send(asked).expect("the server reads");
    let mut first = [0; 1];
    client.stream().peek(&mut first).expect("the answer has begun");
    server.signal(Signal::SIGTERM);
    eventually("no new connections", || HttpClient::try_connect(server.http_address()).err());
    assert!(client.answer("GET").body == large(), "what has begun comes whole");
    let mut answered = 0;
    loop {
        let answer = client.answer("GET");
        assert_eq!((answer.status, answer.text()), (200, "Hello, World!\n"));
        answered += 1;
        if !answer.keep_alive {
            break;
        }
    }
    assert!(answered <= ASKED, "{answered} answers");
    client.assert_closed("it was said to be the last answer");
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.stderr().contains("cut off"), "{}", server.stderr());
}

#[test]
fn sigterm_under_load_fails_nobody() {
    let (mut server, _directory) = site();
    let load = Load::start(server.http_address(), 16);
    load.wait_for_answers(2_000);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.stderr().contains("cut off"), "{}", server.stderr());
    load.join();
}

/// Clients that ask again and again until nobody listens: half of them on a connection for each
/// request, half on one that is kept.
struct Load {
    clients: Vec<JoinHandle<()>>,
    answers: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize) -> Self {
        let (answers, stop) = (Arc::default(), Arc::default());
        let start = |number: usize| {
            let (answers, stop) = (Arc::clone(&answers), Arc::clone(&stop));
            let keep = number.is_multiple_of(2);
            std::thread::spawn(move || ask_until_the_end(address, keep, &answers, &stop))
        };
        let clients = (0..clients).map(start).collect();
        Load { clients, answers, stop }
    }

    fn wait_for_answers(&self, count: u64) {
        eventually("the load is answered", || {
            (self.answers.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    /// Fails the test when a client was failed.
    fn join(mut self) {
        for client in self.clients.drain(..) {
            client.join().expect("every request was answered");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What went wrong is known already when they are still here.
        self.clients.drain(..).for_each(|client| drop(client.join()));
    }
}

fn ask_until_the_end(address: SocketAddr, keep: bool, answers: &AtomicU64, stop: &AtomicBool) {
    let fields = if keep { "" } else { "Connection: close\r\n" };
    let (files, fixed) =
        (request("GET", "/sub/page.txt", fields), request("GET", "/hello", fields));
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = HttpClient::try_connect(address) else { return };
        let mut answered_here = 0;
        loop {
            let (asked, expected) = match answered_here % 2 {
                0 => (&fixed, "Hello, World!\n"),
                _ => (&files, "0123456789"),
            };
            let answer = client.send(asked).and_then(|()| client.receive("GET"));
            // A kept connection may be ended between two requests, and a connection that nobody has
            // accepted when the listener closes is reset.
            let Ok(Some(answer)) = answer else {
                let ended = HttpClient::try_connect(address).is_err();
                assert!(ended || answered_here > 0, "the first request got {answer:?}");
                assert!(!matches!(&answer, Err(error) if is_cut(error)), "cut off: {answer:?}");
                break;
            };
            assert_eq!((answer.status, answer.text()), (200, expected));
            answers.fetch_add(1, Ordering::Relaxed);
            answered_here += 1;
            if !answer.keep_alive {
                client.assert_closed("it was said to be the last answer");
                break;
            }
        }
    }
}

/// Whether an answer had begun.
fn is_cut(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::UnexpectedEof
}

#[test]
fn the_queue_is_not_spoken_here_and_http_not_there() {
    let (server, _directory) = site();
    let mut lost = Client::connect(server.http_address());
    lost.send(8003, "").expect("the server reads");
    lost.end_writing();
    let mut answer = String::new();
    lost.stream().read_to_string(&mut answer).expect("an answer in words");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.http_client().get("/hello").status, 200);
}
