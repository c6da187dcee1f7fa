//! `http::App` over real sockets: routes, extraction, replies, files, middleware, handlers that
//! wait, block, stream and panic.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use eserver::http::{
    App, BadRoute, Chunks, Cors, Event, Failure, Files, OwnedRequest, Pool, Replier, Reply,
    Request, Waiting, bytes, html, json, redirect, sse_with_heartbeat, status, stream, text,
};
use eserver::{AllowList, Newcomers, Running, Server};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_secs(30);

/// Serves `app` on one shard.
fn serve(app: &App) -> (Running, SocketAddr) {
    let server = Server::new().shards(1);
    let service = app.service().unwrap();
    let running =
        server.listen("127.0.0.1:0", AllowList::everyone(), service).unwrap().start().unwrap();
    let address = running.addresses().next().unwrap();
    (running, address)
}

/// A client that understands just enough.
struct Client {
    socket: TcpStream,
    /// Read and not yet looked at.
    rest: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// Whether the body came to its end.
    is_whole: bool,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { socket, rest: Vec::new() }
    }

    fn send(&mut self, request: &str) {
        self.socket.write_all(request.as_bytes()).unwrap();
    }

    /// Sends a request with these header lines, each with a line end, and reads the answer.
    fn ask(&mut self, method_and_path: &str, fields: &str, body: &str) -> Answer {
        self.send(&request(method_and_path, fields, body));
        self.read(method_and_path.starts_with("HEAD"))
    }

    fn get(&mut self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "", "")
    }

    /// More bytes, unless the end has come.
    fn read_more(&mut self) -> bool {
        let mut buffer = vec![0; 256 * 1024];
        let count = self.socket.read(&mut buffer).unwrap_or(0);
        self.rest.extend_from_slice(&buffer[..count]);
        count > 0
    }

    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            if !self.read_more() {
                return None;
            }
        }
        Some(self.rest.drain(..count).collect())
    }

    fn take_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(end + 2)?;
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.read_more() {
                return None;
            }
        }
    }

    fn read_head(&mut self) -> (u16, String) {
        let mut head = String::new();
        loop {
            let line = self.take_line().expect("an answer has a head");
            if line.is_empty() {
                return (head[9..12].parse().unwrap(), head);
            }
            head.push_str(&line);
            head.push('\n');
        }
    }

    fn read(&mut self, is_head: bool) -> Answer {
        let (status, head) = self.read_head();
        let mut answer = Answer { status, head, body: Vec::new(), is_whole: true };
        if is_head || matches!(status, 204 | 304) {
            return answer;
        }
        if let Some(length) = answer.field("content-length") {
            answer.body = self.take(length.parse().unwrap()).unwrap_or_else(|| {
                answer.is_whole = false;
                std::mem::take(&mut self.rest)
            });
        } else if answer.field("transfer-encoding").is_some() {
            answer.is_whole = self.read_chunks(&mut answer.body).is_some();
        } else {
            while self.read_more() {}
            answer.body = std::mem::take(&mut self.rest);
        }
        answer
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let count = usize::from_str_radix(&self.take_line()?, 16).unwrap();
            body.extend_from_slice(&self.take(count)?);
            assert_eq!(self.take(2)?, b"\r\n");
            if count == 0 {
                return Some(());
            }
        }
    }
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Status and body.
    fn brief(&self) -> (u16, &str) {
        (self.status, self.text())
    }
}

fn request(method_and_path: &str, fields: &str, body: &str) -> String {
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    format!("{method_and_path} HTTP/1.1\r\nHost: a\r\n{length}{fields}\r\n{body}")
}

fn once(address: SocketAddr, method_and_path: &str, fields: &str) -> Answer {
    Client::new(address).ask(method_and_path, fields, "")
}

/// Looks until it is so.
fn until<T: Debug>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "it never came: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn routes_and_replies() {
    let mut app = App::new();
    app.get("/", |_| "Hello, World!");
    app.get("/hello/{name}", |request| text(format!("Hello, {}!", request.param("name"))));
    app.get("/hello/you", |_| html("<p>you</p>"));
    app.get("/rest/{*all}", |request| request.param("all").to_owned());
    app.get("/bytes", |_| bytes("image/x-dot", vec![0, 255]));
    app.get("/json", |_| json(&[1, 2]));
    app.get("/away", |_| redirect("/elsewhere?x=1").with_status(303));
    app.get("/teapot", |_| status(418));
    app.get("/nothing", |_| status(204));
    app.get("/odd", |_| status(99));
    app.get("/fields", |_| {
        text("x").with_header("Set-Cookie", "a=1").with_header("Set-Cookie", "b=2")
    });
    app.get("/typed", |_| text("x").with_header("content-type", "text/x-other"));
    app.get("/split", |request| {
        let value = request.query_string().unwrap().replace("%0d%0a", "\r\n");
        text("x").with_header("X-Copy", value)
    });
    app.get("/framing", |_| text("x").with_header("Content-Length", "7"));
    app.get("/wrong-name", |request| request.param("nome").to_owned());
    app.get("/about", |request| {
        let fields = ["method", request.method(), request.path(), request.host().unwrap()];
        format!("{} {:?} {}", fields.join(" "), request.header("X-TEST"), request.peer())
    });
    app.post("/items", |_| status(201));
    app.put("/items", |_| "put");
    app.patch("/items", |_| "patch");
    app.delete("/items", |_| "delete");
    app.route("PROPFIND", "/items", |_| "found");
    app.get_async("/async", async |request: OwnedRequest| {
        let seen = (request.path().to_owned(), request.header("x-a").map(str::to_owned));
        format!("{seen:?} {:?}", thread::current().name())
    });
    app.get_async("/async/{name}", async |request: OwnedRequest| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        format!("{} {}", request.param("name"), thread::current().name().unwrap_or(""))
    });
    app.get_later("/later", |request, replier: Replier| {
        let path = request.path().to_owned();
        thread::spawn(move || replier.reply(path));
    });
    let (_running, address) = serve(&app);
    let mut client = Client::new(address);

    for (request, expected) in [
        ("GET /", (200, "Hello, World!")),
        ("GET /hello/%E6%88%90%2f", (200, "Hello, 成/!")),
        ("GET /hello/you", (200, "<p>you</p>")),
        ("GET /hello/", (404, "there is nothing here\n")),
        ("GET /hello/%ff", (400, "the path is not UTF-8\n")),
        ("GET /rest/a/b%2Fc/", (200, "a/b/c/")),
        ("GET /json", (200, "[1,2]")),
        ("GET /away", (303, "Found\n")),
        ("GET /teapot", (418, "I'm a teapot\n")),
        ("GET /nothing", (204, "")),
        ("GET /typed", (200, "x")),
        ("GET /split?a=1", (200, "x")),
        ("GET /about?q", (200, "method GET /about a None 127.0.0.1")),
        ("POST /items", (201, "Created\n")),
        ("PUT /items", (200, "put")),
        ("PATCH /items", (200, "patch")),
        ("DELETE /items", (200, "delete")),
        ("PROPFIND /items", (200, "found")),
        (
            "GET /items",
            (405, "GET is not for this path; POST, PUT, PATCH, DELETE, PROPFIND, OPTIONS are\n"),
        ),
        ("GET /none", (404, "there is nothing here\n")),
        ("OPTIONS /", (204, "")),
        ("OPTIONS /none", (404, "there is nothing here\n")),
        ("OPTIONS *", (204, "")),
        ("GET /later", (200, "/later")),
        ("GET /async/x", (200, "x eserver-async")),
        ("GET /odd", (500, "no words\n")),
        // What cannot be sent is not sent in part either, and harms nobody else.
        ("GET /split?a%0d%0aX-Evil:%201", (500, "the answer could not be written\n")),
        ("GET /framing", (500, "the answer could not be written\n")),
        ("GET /wrong-name", (500, "something went wrong here\n")),
    ] {
        let answer = client.ask(request, "", "");
        assert_eq!(answer.brief(), expected, "{request}");
        assert!(!answer.head.contains("Evil"), "{}", answer.head);
    }
    for (request, name, expected) in [
        ("GET /", "content-type", Some("text/plain; charset=utf-8")),
        ("GET /", "content-length", Some("13")),
        ("GET /hello/you", "content-type", Some("text/html; charset=utf-8")),
        ("GET /bytes", "content-type", Some("image/x-dot")),
        ("GET /json", "content-type", Some("application/json")),
        ("GET /away", "location", Some("/elsewhere?x=1")),
        ("GET /nothing", "content-type", None),
        ("GET /typed", "content-type", Some("text/x-other")),
        ("GET /items", "allow", Some("POST, PUT, PATCH, DELETE, PROPFIND, OPTIONS")),
        ("OPTIONS /", "allow", Some("GET, HEAD, OPTIONS")),
        ("HEAD /", "content-length", Some("13")),
        ("HEAD /none", "content-length", Some("22")),
        ("OPTIONS *", "allow", Some("GET, POST, PUT, PATCH, DELETE, PROPFIND, HEAD, OPTIONS")),
    ] {
        let answer = client.ask(request, "", "");
        assert_eq!(answer.field(name), expected, "{request}: {}", answer.head);
    }
    let cookies = client.get("/fields").head;
    assert!(cookies.contains("Set-Cookie: a=1\nSet-Cookie: b=2\n"), "{cookies}");
    // A future that does not wait is finished on the shard's own thread.
    let answer = client.ask("GET /async", "X-A: b:c\r\n", "");
    assert_eq!(answer.text(), "(\"/async\", Some(\"b:c\")) Some(\"eserver-0\")");
    assert_eq!(
        client.ask("GET /about", "x-test: y\r\n", "").text().split(' ').nth(4),
        Some("Some(\"y\")")
    );
    assert_eq!(client.get("/bytes").body, [0, 255]);
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    name: String,
    count: u32,
}

#[test]
fn extraction() {
    fn add(request: &Request<'_>) -> Result<Reply, Failure> {
        let item: Item = request.json()?;
        if item.name == "bad" {
            return Err(status(422).into());
        }
        let half: u32 = request.header("x-half").unwrap_or("0").parse()?;
        Ok(json(&Item { count: item.count + half, ..item }).with_status(201))
    }
    let mut app = App::new();
    app.post("/json", add).body_bytes_max(64);
    app.post("/form", |request| -> Result<Reply, Reply> { Ok(json(&request.form::<Item>()?)) });
    app.get("/query", |request| -> Result<Reply, Reply> { Ok(json(&request.query::<Item>()?)) });
    app.post("/echo", |request| bytes("application/octet-stream", request.body().to_vec()));
    app.post("/ignored", |request| format!("{} bytes", request.body().len())).ignore_body();
    let (_running, address) = serve(&app);
    let mut client = Client::new(address);

    let json_type = "Content-Type: application/json; charset=utf-8\r\n";
    let form_type = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (request, fields, body, expected) in [
        ("POST /json", json_type, r#"{"name":"a","count":1}"#, (201, r#"{"name":"a","count":1}"#)),
        (
            "POST /json",
            json_type,
            r#"{"name":"a"}"#,
            (400, "the JSON cannot be used: missing field `count` at line 1 column 12\n"),
        ),
        ("POST /json", json_type, r#"{"name":"bad","count":1}"#, (422, "Unprocessable Content\n")),
        (
            "POST /json",
            "",
            "{}",
            (415, "send the body as application/json, not as nothing known\n"),
        ),
        (
            "POST /json",
            "Content-Type: application/json\r\nX-Half: x\r\n",
            r#"{"name":"a","count":1}"#,
            (500, "something went wrong here\n"),
        ),
        ("POST /form", form_type, "name=a+b&count=2", (200, r#"{"name":"a b","count":2}"#)),
        (
            "POST /form",
            form_type,
            "name=a&count=-2",
            (400, "the form cannot be used: invalid digit found in string\n"),
        ),
        (
            "POST /form",
            json_type,
            "{}",
            (
                415,
                "send the body as application/x-www-form-urlencoded, \
                 not as application/json; charset=utf-8\n",
            ),
        ),
        ("GET /query?name=%E6%88%90&count=3", "", "", (200, r#"{"name":"成","count":3}"#)),
        ("GET /query", "", "", (400, "the query cannot be used: missing field `name`\n")),
        ("POST /echo", "", "any\r\nthing", (200, "any\r\nthing")),
        ("POST /ignored", "", "any\r\nthing", (200, "0 bytes")),
    ] {
        assert_eq!(client.ask(request, fields, body).brief(), expected, "{request} {body}");
    }

    // Bounds: each route has its own, and what goes nowhere is refused before it is sent.
    let answer = client.ask("POST /json", json_type, &format!("{:65}", "{}"));
    assert_eq!(answer.brief(), (413, "the body is longer than 64 bytes\n"));
    let almost = "x".repeat(1024 * 1024);
    assert_eq!(Client::new(address).ask("POST /echo", "", &almost).body, almost.as_bytes());
    let answer = Client::new(address).ask("POST /echo", "", &format!("{almost}x"));
    assert_eq!(answer.status, 413);
    for (target, expected) in
        [("POST /none", 404), ("PUT /json", 405), ("POST /json", 413), ("POST /ignored", 200)]
    {
        for expects in ["", "Expect: 100-continue\r\n"] {
            let mut client = Client::new(address);
            client.send(&format!(
                "{target} HTTP/1.1\r\nHost: a\r\n{expects}Content-Length: 1000000000\r\n\r\n"
            ));
            assert_eq!(client.read(false).status, expected, "{target}");
        }
    }
}

#[test]
fn panics_are_answered_and_the_connection_goes_on() {
    let mut app = App::new();
    let pool = Pool::new(1, 8).unwrap();
    app.get("/", |_| "fine");
    app.get("/now", |_| -> Reply { panic!("on purpose") });
    app.get_async("/first", async |_| -> Reply { panic!("on purpose") });
    app.get_async("/after", async |_| -> Reply {
        tokio::time::sleep(Duration::from_millis(1)).await;
        panic!("on purpose")
    });
    app.get_blocking("/blocking", &pool, |_| -> Reply { panic!("on purpose") });
    app.get_later("/later", |_, _replier| panic!("on purpose"));
    app.get_later("/forgotten", |_, _replier| ());
    let (_running, address) = serve(&app);

    let mut client = Client::new(address);
    for _ in 0..3 {
        for path in ["/now", "/first", "/after", "/blocking"] {
            assert_eq!(client.get(path).brief(), (500, "something went wrong here\n"), "{path}");
            assert_eq!(client.get("/").brief(), (200, "fine"));
        }
    }
    for path in ["/later", "/forgotten"] {
        let mut client = Client::new(address);
        let answer = client.get(path);
        assert_eq!(answer.brief(), (500, "the request was not answered\n"), "{path}");
        assert_eq!(answer.field("connection"), Some("close"));
        assert!(!client.read_more());
    }
    assert_eq!(client.get("/").brief(), (200, "fine"));
}

#[test]
fn concurrency_is_bounded() {
    let door = Arc::new(Semaphore::new(0));
    let inside = Arc::new(AtomicUsize::new(0));
    let mut app = App::new();
    for (path, waiting) in [("/queue", Waiting::Queue(2)), ("/refuse", Waiting::Refuse)] {
        let (door, inside) = (Arc::clone(&door), Arc::clone(&inside));
        app.get_async(path, move |_| {
            let (door, inside) = (Arc::clone(&door), Arc::clone(&inside));
            async move {
                inside.fetch_add(1, Ordering::SeqCst);
                door.acquire().await.unwrap().forget();
                inside.fetch_sub(1, Ordering::SeqCst);
                "done"
            }
        })
        .concurrency(2, waiting);
    }
    let (_running, address) = serve(&app);
    for (path, waiting) in [("/refuse", 0), ("/queue", 2)] {
        let mut clients: Vec<Client> = Vec::new();
        for at in 0..2 + waiting {
            let mut client = Client::new(address);
            client.send(&request(&format!("GET {path}"), "", ""));
            clients.push(client);
            if at < 2 {
                until("it works", || (inside.load(Ordering::SeqCst) == at + 1).then_some(()));
            }
        }
        // There is room for no other, as soon as those before have been seen.
        until("the line is full", || {
            let mut client = Client::new(address);
            client.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            client.send(&request(&format!("GET {path}"), "", ""));
            let refused = client.read_more();
            if !refused {
                // It waits in line, in the place of one that was sent before.
                client.socket.set_read_timeout(Some(PATIENCE)).unwrap();
                clients.push(client);
                return None;
            }
            let answer = client.read(false);
            assert_eq!(answer.brief(), (503, "too much is being worked on; ask again\n"));
            assert_eq!(answer.field("retry-after"), Some("1"));
            Some(())
        });
        assert_eq!(inside.load(Ordering::SeqCst), 2);
        door.add_permits(clients.len());
        let mut statuses: Vec<u16> = clients.iter_mut().map(|c| c.read(false).status).collect();
        statuses.sort_unstable();
        assert_eq!(&statuses[..2 + waiting], vec![200; 2 + waiting]);
        door.forget_permits(usize::MAX);
        until("it is empty", || (inside.load(Ordering::SeqCst) == 0).then_some(()));
    }
}

#[test]
fn blocking_code_has_its_threads() {
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (here, is_here) = mpsc::channel();
    let pool = Pool::new(1, 1).unwrap();
    let mut app = App::new();
    app.get_blocking("/{name}", &pool, move |request| {
        here.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        format!("{} {}", request.param("name"), thread::current().name().unwrap_or(""))
    });
    app.get("/", |_| "quick");
    let (running, address) = serve(&app);
    let ask = |path: &str| {
        let mut client = Client::new(address);
        client.send(&request(&format!("GET {path}"), "", ""));
        client
    };
    let mut first = ask("/a");
    is_here.recv_timeout(PATIENCE).unwrap();
    let mut second = ask("/b");
    // The request has been read, so it stands in line.
    until("it is in line", || (running.counters().requests == 2).then_some(()));
    let answer = ask("/c").read(false);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(Client::new(address).get("/").brief(), (200, "quick"), "the shard goes on");
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(first.read(false).brief(), (200, "a eserver-pool-0"));
    assert_eq!(second.read(false).brief(), (200, "b eserver-pool-0"));
}

/// Sends megabytes that can be recognized, and counts what it has sent.
async fn pour(mut chunks: Chunks, count: Arc<AtomicUsize>) -> Result<(), eserver::http::Gone> {
    for number in 0..512u32 {
        chunks.send(number.to_be_bytes().repeat(16 * 1024)).await?;
        count.store(number as usize + 1, Ordering::SeqCst);
    }
    Ok(())
}

#[test]
fn streams() {
    let poured = Arc::new(AtomicUsize::new(0));
    let mut app = App::new();
    let count = Arc::clone(&poured);
    app.get("/pour", move |_| {
        let count = Arc::clone(&count);
        stream("application/x-numbers", |chunks| pour(chunks, count))
    });
    app.get("/thread", |_| {
        stream("text/plain", async |mut chunks: Chunks| {
            thread::spawn(move || {
                for number in 0..1000 {
                    chunks.send_blocking(format!("{number}\n")).unwrap();
                }
            });
            Ok(())
        })
    });
    app.get("/panic", |_| {
        stream("text/plain", async |mut chunks: Chunks| {
            chunks.send("begun").await?;
            panic!("on purpose")
        })
    });
    app.get("/abort", |_| {
        stream("text/plain", async |mut chunks: Chunks| {
            chunks.send("begun").await?;
            chunks.abort();
            Ok(())
        })
    });
    app.get_async("/async", async |_| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        stream("text/plain", async |mut chunks: Chunks| chunks.send_now("from afar"))
            .with_status(203)
            .with_header("X-A", "b")
    });
    app.get("/bad", |_| stream("text/plain", async |_| Ok(())).with_header("X-Bad", "a\nb"));
    let (running, address) = serve(&app);

    // A client that does not read holds the producer, not the memory.
    let mut client = Client::new(address);
    client.send(&request("GET /pour", "", ""));
    until("it waits", || {
        let (before, bytes) = (poured.load(Ordering::SeqCst), running.counters().bytes_out);
        thread::sleep(Duration::from_millis(200));
        let is_still = running.counters().bytes_out == bytes;
        (before > 0 && poured.load(Ordering::SeqCst) == before && is_still).then_some(())
    });
    let held = poured.load(Ordering::SeqCst) * 64 * 1024;
    let taken = usize::try_from(running.counters().bytes_out).unwrap();
    assert!(held < 512 * 64 * 1024, "all was sent: socket buffers are too large for this test");
    assert!(held <= taken + 512 * 1024, "{held} produced, {taken} taken");
    let answer = client.read(false);
    assert!(answer.is_whole);
    assert_eq!(answer.field("content-type"), Some("application/x-numbers"));
    let expected = (0..512u32).flat_map(|number| number.to_be_bytes().repeat(16 * 1024));
    assert!(answer.body.iter().copied().eq(expected));
    // The connection goes on.
    let lines: String = (0..1000).map(|number| format!("{number}\n")).collect();
    assert_eq!(client.get("/thread").text(), lines);
    let answer = client.get("/async");
    assert_eq!(answer.brief(), (203, "from afar"));
    assert_eq!(answer.field("x-a"), Some("b"));
    assert_eq!(client.ask("HEAD /async", "", "").field("x-a"), Some("b"));
    assert_eq!(client.get("/bad").brief(), (500, "something went wrong here\n"));

    // An older client reads to the end of the connection.
    let mut client = Client::new(address);
    client.send("GET /thread HTTP/1.0\r\n\r\n");
    assert_eq!(client.read(false).text(), lines);

    for path in ["/panic", "/abort"] {
        let answer = Client::new(address).get(path);
        assert!(!answer.is_whole && answer.text() == "begun", "{path} {answer:?}");
    }
}

/// Tells when it goes.
struct Guard(mpsc::Sender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(());
    }
}

#[test]
fn server_sent_events() {
    let (gone, is_gone) = mpsc::channel();
    let mut app = App::new();
    app.get("/events", move |request| {
        let last = request.header("last-event-id").unwrap_or("none").to_owned();
        let guard = Guard(gone.clone());
        sse_with_heartbeat(Duration::from_millis(10), async move |mut events| {
            let _guard = guard;
            events.retry(Duration::from_secs(3))?;
            let event = Event { id: Some("7"), event: Some("news"), data: Some("a\nb") };
            events.send(&event).await?;
            events.send(&Event { data: Some(&last), ..Event::default() }).await?;
            std::future::pending().await
        })
    });
    let (_running, address) = serve(&app);
    let mut client = Client::new(address);
    client.send(&request("GET /events", "Last-Event-ID: 5\r\n", ""));
    let (status, head) = client.read_head();
    assert_eq!(status, 200);
    assert!(head.contains("Content-Type: text/event-stream\n"), "{head}");
    assert!(head.contains("Cache-Control: no-cache\n"), "{head}");
    let mut text = String::new();
    until("a comment after the events", || {
        let count = usize::from_str_radix(&client.take_line().unwrap(), 16).unwrap();
        text.push_str(std::str::from_utf8(&client.take(count + 2).unwrap()[..count]).unwrap());
        text.ends_with(": \n\n").then_some(())
    });
    let events = "retry: 3000\n\nid: 7\nevent: news\ndata: a\ndata: b\n\ndata: 5\n\n";
    assert_eq!(text.replace(": \n\n", ""), events);
    // Who hangs up frees what was made for it, without anything being sent.
    assert!(is_gone.try_recv().is_err());
    client.socket.shutdown(Shutdown::Write).unwrap();
    is_gone.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn clients_are_told_when_to_return() {
    let mut app = App::new();
    app.get("/events", |_| {
        sse_with_heartbeat(Duration::from_secs(3600), async |mut events| {
            events.send(&Event { data: Some("a"), ..Event::default() }).await?;
            std::future::pending().await
        })
    });
    let (running, address) = serve(&app);
    let mut clients: Vec<Client> = (0..8).map(|_| Client::new(address)).collect();
    for client in &mut clients {
        client.send(&request("GET /events", "", ""));
        until("an event", || {
            client.read_more().then(|| client.rest.ends_with(b"\n\n\r\n")).filter(|is| *is)
        });
    }
    running.shutdown(PATIENCE);
    let mut times = Vec::new();
    for client in &mut clients {
        let answer = client.read(false);
        assert!(answer.is_whole, "{answer:?}");
        let retry = answer.text().strip_prefix("data: a\n\nretry: ").unwrap();
        times.push(retry.trim_end().parse::<u64>().unwrap());
    }
    assert!(times.iter().all(|time| (1000..6000).contains(time)), "{times:?}");
    times.dedup();
    assert!(times.len() > 1, "all at the same time: {times:?}");
}

#[test]
fn nobody_works_for_who_has_gone() {
    let (gone, is_gone) = mpsc::channel();
    let door = Arc::new(Semaphore::new(0));
    let inside = Arc::new(AtomicUsize::new(0));
    let mut app = App::new();
    app.get("/", |_| "fine");
    let (opened, count) = (Arc::clone(&door), Arc::clone(&inside));
    app.get_async("/wait", move |_| {
        let (guard, door, inside) = (Guard(gone.clone()), Arc::clone(&opened), Arc::clone(&count));
        async move {
            let _guard = guard;
            inside.fetch_add(1, Ordering::SeqCst);
            door.acquire().await.unwrap().forget();
            "done"
        }
    })
    .concurrency(1, Waiting::Queue(1));
    let (running, address) = serve(&app);
    let ask = |count: u64| {
        let before = running.counters().requests;
        let mut client = Client::new(address);
        client.send(&request("GET /", "", ""));
        client.send(&request("GET /wait", "", ""));
        until("it is asked", || (running.counters().requests == before + count).then_some(()));
        client
    };
    // One works and one waits in line; both are reset, since they have not read what was sent.
    let (first, second) = (ask(2), ask(2));
    until("it works", || (inside.load(Ordering::SeqCst) == 1).then_some(()));
    drop(second);
    // The other way round, the one in line would have its turn before it is seen to have gone.
    until("the end of the one in line is seen", || (running.counters().closed == 1).then_some(()));
    drop(first);
    is_gone.recv_timeout(PATIENCE).unwrap();
    assert_eq!(door.available_permits(), 0);
    // Their places are free again. Who will only send nothing more is answered.
    let mut clients = [ask(2), ask(2)];
    for client in &mut clients {
        client.socket.shutdown(Shutdown::Write).unwrap();
    }
    until("it works", || (inside.load(Ordering::SeqCst) == 2).then_some(()));
    // The shard has seen these ends before it answers what was asked after them.
    for _ in 0..20 {
        assert_eq!(once(address, "GET /", "").text(), "fine");
    }
    assert!(is_gone.try_recv().is_err(), "it was dropped, and its client may be reading");
    door.add_permits(2);
    for client in &mut clients {
        assert_eq!(client.read(false).text(), "fine");
        assert_eq!(client.read(false).brief(), (200, "done"));
    }
    assert_eq!(running.counters().stale_replies, 0);
}

/// A directory with all kinds of files.
fn htdocs(root: &Path) {
    let write = |path: &str, content: &[u8]| std::fs::write(root.join(path), content).unwrap();
    for directory in ["root", "root/sub", "root/empty", "root/.git", "root/.well-known"] {
        std::fs::create_dir(root.join(directory)).unwrap();
    }
    write("secret", b"secret");
    write("root/index.html", b"<p>index</p>");
    write("root/sub/index.html", b"<p>sub</p>");
    write("root/sub/a b.txt", b"0123456789");
    write("root/app.js", b"plain");
    write("root/app.js.br", b"brotl");
    write("root/app.js.gz", b"gzipp");
    write("root/only.css", b"css");
    write("root/.git/config", b"hidden");
    write("root/.env", b"hidden");
    write("root/.well-known/x", b"known");
    write("root/nothing", b"");
    symlink("../secret", root.join("root/link")).unwrap();
    symlink(root.join("secret"), root.join("root/absolute")).unwrap();
    symlink("sub", root.join("root/inside")).unwrap();
    symlink("..", root.join("root/above")).unwrap();
    nix::unistd::mkfifo(&root.join("root/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[test]
fn files() {
    let place = tempfile::tempdir().unwrap();
    htdocs(place.path());
    let root = place.path().join("root");
    let mut app = App::new();
    app.files("/static/", Files::of(&root).cache_control("max-age=60"));
    let chosen = place.path().join("secret");
    app.get("/chosen", move |request| request.file(&chosen));
    app.get("/chosen/none", |request| request.file("/nowhere/at/all"));
    let pipe = root.join("pipe");
    app.get("/chosen/pipe", move |request| request.file(&pipe));
    let mut bare = App::new();
    bare.files("/", &root);
    bare.get("/static", |_| "before files");
    let ((_first, address), (_second, bare)) = (serve(&app), serve(&bare));

    let not_found = (404, "there is nothing here\n");
    for path in [
        "/static/none",
        "/static/../secret",
        "/static/%2e%2e/secret",
        "/static/..%2fsecret",
        "/static/sub/../../secret",
        "/static/sub%2f..%2f..%2fsecret",
        "/static/./app.js",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/link",
        "/static/absolute",
        "/static/above/secret",
        "/static/above",
        "/static/.git/config",
        "/static/.env",
        "/static/sub/..%5c..%5csecret",
        "/static/app.js/",
        "/static/app.js/x",
        "/static/empty/",
        "/static/pipe",
        "/static/index.html%20",
        "/chosen/none",
        "/chosen/pipe",
    ] {
        assert_eq!(once(address, &format!("GET {path}"), "").brief(), not_found, "{path}");
    }
    let long = format!("/static/{}", "x".repeat(5000));
    assert_eq!(once(address, &format!("GET {long}"), "").brief(), not_found);
    assert_eq!(once(address, "GET /static/a%00b", "").status, 400);
    assert_eq!(once(address, "POST /static/app.js", "").status, 405);

    // Twice, since the second time it comes from memory.
    for _ in 0..2 {
        let mut client = Client::new(address);
        for (path, expected) in [
            ("/static/", (200, "<p>index</p>")),
            ("/static/index.html", (200, "<p>index</p>")),
            ("/static/sub/", (200, "<p>sub</p>")),
            ("/static/inside/a%20b.txt", (200, "0123456789")),
            ("/static/sub/a%20b.txt", (200, "0123456789")),
            ("/static/app.js", (200, "plain")),
            ("/static/app.js.gz", (200, "gzipp")),
            ("/static/.well-known/x", (200, "known")),
            ("/static/nothing", (200, "")),
            ("/chosen", (200, "secret")),
        ] {
            let answer = client.get(path);
            assert_eq!(answer.brief(), expected, "{path}");
            let head = client.ask(&format!("HEAD {path}"), "", "");
            let rest = |answer: &Answer| answer.head.split_once("Content").unwrap().1.to_owned();
            assert_eq!(rest(&head), rest(&answer), "{path}");
        }
    }
    for (path, location) in [
        ("/static", "/static/"),
        ("/static?x=1&y", "/static/?x=1&y"),
        ("/static/sub?x=1", "/static/sub/?x=1"),
        ("/static/inside", "/static/inside/"),
    ] {
        let answer = once(address, &format!("GET {path}"), "");
        assert_eq!((answer.status, answer.field("location")), (301, Some(location)), "{path}");
    }
    assert_eq!(once(bare, "GET /static", "").text(), "before files");
    assert_eq!(once(bare, "GET /", "").text(), "<p>index</p>");
    assert_eq!(once(bare, "GET //etc/passwd", "").brief(), not_found);
    assert_eq!(once(bare, "GET //evil.example/%2e%2e", "").brief(), not_found);

    let plain = once(address, "GET /static/sub/a%20b.txt", "");
    let tag = plain.field("etag").unwrap().to_owned();
    let date = plain.field("last-modified").unwrap().to_owned();
    for (name, expected) in [
        ("content-type", Some("text/plain; charset=utf-8")),
        ("cache-control", Some("max-age=60")),
        ("accept-ranges", Some("bytes")),
        ("x-content-type-options", Some("nosniff")),
        ("content-encoding", None),
        ("vary", None),
    ] {
        assert_eq!(plain.field(name), expected);
    }
    for (fields, expected, content_range) in [
        ("Range: bytes=2-5", (206, "2345"), Some("bytes 2-5/10")),
        ("Range: bytes=-3", (206, "789"), Some("bytes 7-9/10")),
        ("Range: bytes=8-100", (206, "89"), Some("bytes 8-9/10")),
        ("Range: bytes=10-", (416, "Range Not Satisfiable\n"), Some("bytes */10")),
        ("Range: bytes=0-1,3-4", (200, "0123456789"), None),
        ("Range: nonsense", (200, "0123456789"), None),
        (&format!("Range: bytes=2-5\r\nIf-Range: {tag}"), (206, "2345"), Some("bytes 2-5/10")),
        (&format!("Range: bytes=2-5\r\nIf-Range: {date}"), (206, "2345"), Some("bytes 2-5/10")),
        ("Range: bytes=2-5\r\nIf-Range: \"x\"", (200, "0123456789"), None),
        (&format!("If-None-Match: {tag}"), (304, ""), None),
        (&format!("If-None-Match: {tag}\r\nRange: bytes=2-5"), (304, ""), None),
        (&format!("If-None-Match: W/{tag}, \"x\""), (304, ""), None),
        (&format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"), (200, "0123456789"), None),
        (&format!("If-Modified-Since: {date}"), (304, ""), None),
        (&format!("If-Match: {tag}\r\nRange: bytes=2-5"), (206, "2345"), Some("bytes 2-5/10")),
        ("If-Match: \"x\"\r\nRange: bytes=2-5", (412, "Precondition Failed\n"), None),
        (&format!("If-Unmodified-Since: {date}"), (200, "0123456789"), None),
        (
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
            (412, "Precondition Failed\n"),
            None,
        ),
    ] {
        let answer = once(address, "GET /static/sub/a%20b.txt", &format!("{fields}\r\n"));
        assert_eq!(answer.brief(), expected, "{fields}");
        assert_eq!(answer.field("content-range"), content_range, "{fields}");
        assert_eq!(answer.field("etag"), Some(&*tag), "{fields}");
    }
    let head = once(address, "HEAD /static/sub/a%20b.txt", "Range: bytes=2-5\r\n");
    assert_eq!((head.status, head.field("content-length")), (200, Some("10")));

    // Files that a build has made at one moment, all as long, are told apart all the same.
    for name in ["app.js", "app.js.br", "app.js.gz"] {
        let file = std::fs::File::options().write(true).open(root.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777)).unwrap();
    }
    until("they are looked at again", || {
        let answer = once(address, "GET /static/app.js", "Accept-Encoding: gzip, br\r\n");
        (answer.field("last-modified") == Some("Sun, 06 Nov 1994 08:49:37 GMT")).then_some(())
    });
    let mut tags = Vec::new();
    for (accepted, body, encoding) in [
        ("gzip, br", "brotl", Some("br")),
        ("gzip", "gzipp", Some("gzip")),
        ("gzip, br;q=0", "gzipp", Some("gzip")),
        ("identity", "plain", None),
    ] {
        let answer =
            once(address, "GET /static/app.js", &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!((answer.text(), answer.field("content-encoding")), (body, encoding));
        assert_eq!(answer.field("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        tags.push(answer.field("etag").unwrap().to_owned());
    }
    tags.dedup();
    assert_eq!(tags.len(), 3, "different bytes have different tags: {tags:?}");
    let answer = once(address, "GET /static/only.css", "Accept-Encoding: gzip, br\r\n");
    assert_eq!((answer.text(), answer.field("vary")), ("css", None));

    // A sentence is not of the file's form or type.
    let fields = "Accept-Encoding: gzip\r\nRange: bytes=100-\r\n";
    let answer = once(address, "GET /static/app.js", fields);
    assert_eq!(answer.brief(), (416, "Range Not Satisfiable\n"));
    assert_eq!(answer.field("content-encoding"), None);
    assert_eq!(answer.field("content-type"), Some("text/plain; charset=utf-8"));

    // A change is seen soon, and so is the end of a file.
    std::fs::write(root.join("only.css"), "changed").unwrap();
    until("the change", || {
        (once(address, "GET /static/only.css", "").text() == "changed").then_some(())
    });
    let grown = vec![b'x'; 300 * 1024];
    std::fs::write(root.join("only.css"), &grown).unwrap();
    until("it to have grown", || {
        (once(address, "GET /static/only.css", "").body == grown).then_some(())
    });
    for _ in 0..20 {
        assert!(once(address, "GET /static/only.css", "").body == grown, "it was so just now");
    }
    for make_it_end in [
        |path: &Path| std::fs::remove_file(path),
        |path: &Path| std::fs::remove_file(path).and_then(|()| std::fs::create_dir(path)),
    ] {
        let path = root.join("ends.css");
        std::fs::write(&path, "begun").unwrap();
        assert_eq!(once(address, "GET /static/ends.css", "").text(), "begun");
        make_it_end(&path).unwrap();
        until("the end", || {
            (once(address, "GET /static/ends.css", "").status != 200).then_some(())
        });
        for _ in 0..20 {
            assert_ne!(once(address, "GET /static/ends.css", "").status, 200, "it has ended");
        }
    }
}

/// How often this process has `path` open.
fn descriptors_of(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count()
}

#[test]
fn files_are_opened_when_it_is_their_turn() {
    const ASKED: usize = 100;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap().join("large.bin");
    let content = vec![b'x'; 512 * 1024];
    std::fs::write(&path, &content).unwrap();
    let mut app = App::new();
    app.files("/", place.path());
    let chosen = path.clone();
    app.get_async("/async", move |request| {
        let chosen = chosen.clone();
        async move {
            tokio::task::yield_now().await;
            request.file(chosen)
        }
    });
    app.get("/stream", |_| {
        stream("text/plain", async |mut chunks: Chunks| chunks.send("streamed").await)
    });
    let (running, address) = serve(&app);
    let mut client = Client::new(address);
    let asked =
        ["/large.bin", "/async", "/stream"].map(|path| request(&format!("GET {path}"), "", ""));
    let asked: String = asked.iter().cycle().take(ASKED).map(String::as_str).collect();
    client.send(&asked);
    for at in 0..ASKED {
        let answer = client.read(false);
        if at % 3 == 2 {
            assert_eq!(answer.text(), "streamed");
        } else {
            assert!(answer.is_whole && answer.body == content, "{at}: {}", answer.head);
        }
        // The one that is being sent, and one that is being opened or let go of.
        let open = descriptors_of(&path);
        assert!(open <= 3, "{open} at answer {at}");
    }
    assert_eq!(running.counters().requests, ASKED as u64);
    until("all are closed", || (descriptors_of(&path) == 0).then_some(()));
}

fn rss_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Bytes of a file of zeros with marks in it, each of which says where it is.
fn file_part(marks: &[u64], start: u64, bytes: usize) -> Vec<u8> {
    let mut part = vec![0; bytes];
    for mark in marks {
        for (at, byte) in (*mark..).zip(mark.to_be_bytes()) {
            if let Some(place) = at.checked_sub(start).and_then(|at| part.get_mut(at as usize)) {
                *place = byte;
            }
        }
    }
    part
}

#[test]
fn large_files_to_slow_readers() {
    const FILE_BYTES: u64 = 1024 * 1024 * 1024;
    const CLIENTS: usize = 8;
    let place = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(place.path().join("large.bin")).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    // Marks that tell whether every byte is where it belongs.
    let marks = [0, 131_070, 131_072, 5_000_000, 300_000_001, FILE_BYTES - 8];
    for at in marks {
        file.write_all_at(&at.to_be_bytes(), at).unwrap();
    }
    let mut app = App::new();
    app.files("/", place.path());
    let (_running, address) = serve(&app);

    let before = rss_bytes();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::new(address);
            client.send(&request("GET /large.bin", "", ""));
            let (status, head) = client.read_head();
            assert_eq!(status, 200);
            assert!(head.contains(&format!("Content-Length: {FILE_BYTES}\n")), "{head}");
            client
        })
        .collect();
    // All of them read some and then no more; the last one goes on to the end.
    for client in &mut clients {
        client.take(4 * 1024 * 1024).unwrap();
        client.rest = Vec::new();
    }
    let mut last = Client::new(address);
    last.send(&request("GET /large.bin", "", ""));
    last.read_head();
    let (mut seen, mut buffer) = (0, vec![0; 1024 * 1024]);
    let mut part = std::mem::take(&mut last.rest);
    loop {
        assert!(part == file_part(&marks, seen, part.len()), "not what is behind byte {seen}");
        seen += part.len() as u64;
        if seen == FILE_BYTES {
            break;
        }
        let count = last.socket.read(&mut buffer).unwrap();
        assert!(count > 0, "the end came after {seen} bytes");
        part.clear();
        part.extend_from_slice(&buffer[..count]);
    }
    let more = rss_bytes().saturating_sub(before);
    // Other tests of this process take some too; a file in memory would be a GiB.
    assert!(more < 200 * 1024 * 1024, "{more} bytes for {CLIENTS} readers");

    // A part of a large file, in a connection that goes on.
    let mut client = Client::new(address);
    let answer = client.ask("GET /large.bin", "Range: bytes=300000001-300000008\r\n", "");
    assert_eq!((answer.status, answer.body), (206, 300_000_001_u64.to_be_bytes().to_vec()));
    assert_eq!(client.ask("HEAD /large.bin", "", "").status, 200);
    // One that becomes shorter meanwhile is not said to be whole.
    let mut client = Client::new(address);
    client.send(&request("GET /large.bin", "", ""));
    client.read_head();
    file.set_len(50_000_000).unwrap();
    let mut count = client.rest.len();
    while let Ok(more @ 1..) = client.socket.read(&mut buffer) {
        count += more;
    }
    assert!((count as u64) < FILE_BYTES, "{count}");
}

#[test]
fn request_ids_and_cors() {
    let mut app = App::new();
    app.request_ids();
    app.cors(Cors::of(["https://a.example"]).exposing(["X-Request-Id"]));
    app.get("/", |request| request.id().unwrap().to_owned());
    app.put("/", |_| "put");
    app.get_async("/later", async |request: OwnedRequest| {
        tokio::time::sleep(Duration::from_millis(1)).await;
        request.id().unwrap().to_owned()
    });
    let (_running, address) = serve(&app);
    let mut client = Client::new(address);
    let mut ids = Vec::new();
    for path in ["/", "/later", "/"] {
        let answer = client.ask(&format!("GET {path}"), "X-Request-Id: mine-1\r\n", "");
        assert_eq!((answer.text(), answer.field("x-request-id")), ("mine-1", Some("mine-1")));
        let answer = client.ask(&format!("GET {path}"), "X-Request-Id: \"not mine\"\r\n", "");
        assert_eq!(Some(answer.text()), answer.field("x-request-id"));
        ids.push(answer.text().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(client.get("/none").field("x-request-id").is_some());

    let origin = "Access-Control-Allow-Origin";
    for (request, fields, expected_status, name, expected) in [
        ("GET /", "Origin: https://a.example\r\n", 200, origin, Some("https://a.example")),
        ("GET /later", "Origin: https://a.example\r\n", 200, origin, Some("https://a.example")),
        ("GET /none", "Origin: https://a.example\r\n", 404, origin, Some("https://a.example")),
        ("GET /", "Origin: https://b.example\r\n", 200, origin, None),
        ("GET /", "", 200, "Vary", Some("Origin")),
        (
            "OPTIONS /",
            "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n",
            204,
            "Access-Control-Allow-Methods",
            Some("GET, PUT, HEAD, OPTIONS"),
        ),
        (
            "OPTIONS /",
            "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n\
             Access-Control-Request-Headers: x-a, content-type\r\n",
            204,
            "Access-Control-Allow-Headers",
            Some("x-a, content-type"),
        ),
        ("OPTIONS /", "Origin: https://a.example\r\n", 204, "Access-Control-Allow-Methods", None),
        (
            "OPTIONS /",
            "Origin: https://a.example\r\n",
            204,
            "Allow",
            Some("GET, PUT, HEAD, OPTIONS"),
        ),
    ] {
        let answer = client.ask(request, fields, "");
        assert_eq!(answer.status, expected_status, "{request} {fields}");
        assert_eq!(answer.field(name), expected, "{request} {fields}");
    }
}

/// Keeps the lines of the access log.
struct Lines(mpsc::Sender<String>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "eserver::access"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
                if field.name() != "microseconds" {
                    self.0.push_str(&format!("{field}={value:?} "));
                }
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        // The test may be over.
        let _ = self.0.send(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn one_in_three_is_logged() {
    let (sender, lines) = mpsc::channel();
    tracing::subscriber::set_global_default(Lines(sender)).unwrap();
    let mut app = App::new();
    app.access_log(3).get("/{name}", |request| request.param("name").to_owned());
    app.get_later("/forgotten", |_, _replier| ());
    let (_running, address) = serve(&app);
    let mut client = Client::new(address);
    for path in ["/a", "/b", "/c", "/none/x", "/e", "/f", "/g", "/h", "/i", "/forgotten"] {
        client.get(path);
    }
    let expected = [("/a", 200, 1), ("/none/x", 404, 22), ("/g", 200, 1), ("/forgotten", 500, 29)];
    for (path, status, bytes) in expected {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            line,
            format!(
                "peer=127.0.0.1 method=\"GET\" path={path:?} status={status} body_bytes={bytes} "
            )
        );
    }
}

#[test]
fn newcomers_are_shown_as_the_application_likes() {
    for (newcomers, admitted) in [(Newcomers::AtOnce, 2), (Newcomers::WithFirstBytes, 1)] {
        let mut app = App::new();
        app.get("/", |_| "Hello");
        app.newcomers(newcomers);
        let (running, address) = serve(&app);
        let began = Instant::now();
        let _silent = Client::new(address);
        assert_eq!(Client::new(address).get("/").brief(), (200, "Hello"));
        // The kernel shows them in their order, so who came before was shown before, or is not yet.
        let accepted = running.counters().accepted;
        // On a machine that is busy for that long, the one who says nothing has been shown, too.
        let is_late = began.elapsed() > Duration::from_millis(500);
        assert!(accepted == admitted || is_late, "{newcomers:?}: {accepted}");
    }
}

#[test]
fn applications_that_cannot_start() {
    let check = |make: &dyn Fn(&mut App), expected: &str| {
        let mut app = App::new();
        make(&mut app);
        let error: BadRoute = app.service().err().unwrap();
        assert_eq!(error.to_string(), expected);
        assert_eq!(app.listen("127.0.0.1:0").unwrap_err().to_string(), expected);
    };
    check(
        &|app| {
            app.get("/a/{x}", |_| "1");
            app.get("/a/{y}", |_| "2");
        },
        "GET /a/{y} is there twice",
    );
    check(&|app| _ = app.get("a", |_| "1"), "\"a\" cannot be a route: it has no / in front");
    check(
        &|app| {
            app.get("/", |_| "1").concurrency(1, Waiting::Refuse);
        },
        "the concurrency of GET / cannot be bounded: only handlers that wait have such a bound",
    );
    let mut app = App::new();
    assert!(app.allow_ip("300.1.1.1").is_err());
    assert!(app.allow_ip("192.168.0.0/16").is_ok());
    assert!(app.listen("nowhere").is_err());
}
