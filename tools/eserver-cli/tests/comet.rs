//! Channels from outside: what an operator configures, what drains and webhooks tell, and an end that
//! tells everybody when to come again.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::database::Database;
use support::http::{HttpClient, request};
use support::server::{Server, Setup};
use support::{PATIENCE, eventually};

fn admin(server: &Server) -> HttpClient {
    HttpClient::connect(server.admin_address())
}

/// A subscription whose answer is read line by line, without its chunks' lengths.
struct Lines {
    reader: BufReader<TcpStream>,
}

impl Lines {
    fn open(address: SocketAddr, target: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request("GET", target, "").as_bytes()).expect("it reads");
        let mut lines = Lines { reader: BufReader::new(stream) };
        assert!(lines.line().expect("a status line").starts_with("HTTP/1.1 200 "));
        while !lines.line().expect("a head").is_empty() {}
        lines
    }

    /// The next line; `None` at the end of the connection.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).expect("a line in time");
        (count > 0).then(|| line.trim_end().to_owned())
    }

    /// The next line that is JSON.
    fn json(&mut self) -> Value {
        loop {
            let line = self.line().expect("it goes on");
            let text = line.strip_prefix("data: ").unwrap_or(&line);
            if let Ok(value @ Value::Object(_)) = serde_json::from_str(text) {
                return value;
            }
        }
    }
}

#[test]
fn what_is_pushed_on_one_port_arrives_on_the_other() {
    let mut server = Setup::new().set("shards", 2).start();
    let mut stream = Lines::open(server.public_address(), "/v1/stream?channel=news");
    assert_eq!(stream.json()["type"], "subscribed");
    let mut poll = HttpClient::connect(server.public_address());
    poll.send(request("GET", "/sub?cname=news&seq=1&cb=f", "")).expect("it reads");
    eventually("both listen", || {
        (admin(&server).get("/info?cname=news").text().contains("\"subscribers\": 2")).then_some(())
    });
    let pushed = admin(&server).get("/push?cname=news&content=a%22b");
    assert_eq!((pushed.status, pushed.text()), (200, "{\"type\":\"ok\"}\n"));
    let message = stream.json();
    assert_eq!((&message["data"], &message["offset"]), (&json!("a\"b"), &json!(1)));
    let answer = poll.answer("GET");
    assert_eq!(
        answer.text(),
        "f({\"type\":\"data\",\"cname\":\"news\",\"seq\":1,\"content\":\"a\\\"b\"});\n"
    );
    for words in ["public ", "admin ", "/stream?cname=news", "/push?cname=news&content=hello"] {
        server.wait_to_say(words);
    }
    server.stop();
}

#[test]
fn values_hold_for_channels_of_a_prefix_and_can_be_reloaded() {
    let text = |history: u32| {
        format!(
            "[comet]\nhistory_messages_max = {history}\n\
             [[comet.channel]]\nprefix = \"log/\"\nhistory_messages_max = 0\n"
        )
    };
    let mut server = Setup::new().text(text(2)).start();
    let kept = |channel: &str| {
        for number in 0..5 {
            admin(&server).get(&format!("/push?cname={channel}&content={number}"));
        }
        let page = admin(&server).get(&format!("/v1/channels/{channel}/history"));
        let page: Value = serde_json::from_str(page.text()).expect("JSON");
        page["messages"].as_array().expect("messages").len()
    };
    assert_eq!(kept("a"), 2);
    assert_eq!(kept("log%2Fa"), 0);
    server.rewrite(&text(4));
    server.signal(Signal::SIGHUP);
    eventually("it is reloaded", || (kept("a") == 4).then_some(()));
    assert_eq!(kept("log%2Fa"), 0);
    server.stop();
}

#[test]
fn nobody_but_this_machine_publishes_and_exceptions_hold() {
    let mut server = Setup::new().set("admin.allow", "127.0.0.0/8").set("admin.deny", "127.0.0.9");
    server = server.set("comet.auth", "token").set("comet.secret", "key");
    let mut server = server.start();
    let from = |host: u8| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let source = SocketAddr::from(([127, 0, 0, host], 0));
        socket.bind(&source.into()).expect("a loopback address");
        socket.connect(&server.admin_address().into()).expect("it listens");
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let asked = stream.write_all(request("GET", "/info", "Connection: close\r\n").as_bytes());
        let mut answer = String::new();
        // One that is closed at once may have been reset.
        let _ = asked.and_then(|()| stream.read_to_string(&mut answer));
        answer
    };
    assert!(from(8).starts_with("HTTP/1.1 200 "));
    assert_eq!(from(9), "");

    // The token of a channel, and one that was signed, open it; nothing else does.
    let mut public = HttpClient::connect(server.public_address());
    assert!(public.get("/sub?cname=a").text().contains("\"type\":\"401\""));
    assert_eq!(public.get("/v1/poll?channel=a").status, 401);
    let asked = "{\"channels\":[\"a\"],\"subject\":\"ann\"}";
    let mut client = admin(&server);
    let length = asked.len();
    let head = request("POST", "/v1/tokens", &format!("Content-Length: {length}\r\n"));
    client.send(format!("{head}{asked}")).expect("it reads");
    let token: Value = serde_json::from_str(client.answer("POST").text()).expect("JSON");
    let token = token["token"].as_str().expect("a token");
    let mut stream =
        Lines::open(server.public_address(), &format!("/v1/stream?channel=a&token={token}"));
    assert_eq!(stream.json()["type"], "subscribed");
    assert_eq!(public.get(&format!("/v1/poll?channel=b&token={token}")).status, 403);
    let members = admin(&server).get("/v1/channels/a/members");
    assert!(members.text().contains("\"subject\":\"ann\""), "{}", members.text());
    server.stop();
}

#[test]
fn the_command_line_publishes_and_listens() {
    let mut server = Server::start();
    let (admin_port, public) = (server.admin_address().to_string(), server.public_address());
    let comet = |arguments: &[&str]| {
        let mut command = Command::new(support::server::binary());
        command.arg("comet").arg("--admin").arg(&admin_port);
        command.arg("--public").arg(public.to_string()).args(arguments);
        command
    };
    let mut listener = comet(&["subscribe", "a/1", "b", "--count", "2"]);
    let mut listener =
        listener.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    eventually("it listens", || {
        let info = comet(&["info"]).output().expect("it runs");
        String::from_utf8_lossy(&info.stdout).contains("\"subscribers\": 2").then_some(())
    });
    let published = comet(&["publish", "a/1", "plain \"text\"", "--event", "e"]).output();
    let published: Value =
        serde_json::from_slice(&published.expect("it runs").stdout).expect("JSON");
    assert_eq!((&published["offset"], &published["subscribers"]), (&json!(1), &json!(1)));
    assert!(comet(&["publish", "b", "{\"x\":[1]}", "--json"]).status().expect("it runs").success());
    let mut text = String::new();
    listener.stdout.take().expect("a pipe").read_to_string(&mut text).expect("text");
    assert!(listener.wait().expect("our own child").success());
    let heard: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&heard[0]["data"], &heard[0]["event"]), (&json!("plain \"text\""), &json!("e")));
    assert_eq!((&heard[1]["data"], &heard[1]["channel"]), (&json!({"x": [1]}), &json!("b")));
    let missed = comet(&["subscribe", "a/1", "--all", "--count", "1"]).output().expect("it runs");
    assert!(String::from_utf8_lossy(&missed.stdout).contains("plain"), "{missed:?}");
    let unknown = comet(&["info", "nowhere"]).output().expect("it runs");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no such channel"), "{unknown:?}");
    server.stop();
    let nobody = comet(&["info"]).output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("eserver serve"), "{nobody:?}");
}

#[test]
fn a_drain_tells_the_listeners_of_a_channel() {
    let database = Database::sqlite();
    database.query("create table t(num int)");
    let text = format!(
        "[[drain]]\nurl = \"{}\"\n[drain.statements]\nadd = \"insert into t(num) values (?)\"\n",
        database.url()
    );
    let mut server = Setup::new().text(text).start();
    let mut stream = Lines::open(server.public_address(), "/v1/stream?channel=orders%2F7");
    assert_eq!(stream.json()["type"], "subscribed");
    let message = json!({ "stmt": "add", "params": [5], "notify": "orders/7" });
    assert_eq!(server.client().ask_json(8001, &message).command, 8001);
    let event = stream.json();
    assert_eq!(event["type"], "message");
    assert_eq!(event["data"]["ok"], json!(true), "{event}");
    assert_eq!(event["data"]["queue"], "default");
    assert_eq!(database.number("select count(*) from t where num = 5"), 1);
    server.stop();
}

#[test]
fn webhooks_outlive_the_server() {
    let application = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/hook", application.local_addr().expect("an address"));
    let directory = tempfile::tempdir().expect("a private directory");
    let start = |url: &str| {
        let setup = Setup::new().data_dir(directory.path()).set("comet.absence_grace_s", 0);
        setup.set("comet.webhook_url", url).start()
    };
    application.set_nonblocking(true).expect("a socket can");
    // Nobody listens there, and nobody else is given that port.
    let mut server = start("http://127.0.0.1:1/");
    let mut presence = Lines::open(server.admin_address(), "/v1/presence");
    drop(Lines::open(server.public_address(), "/stream?cname=a"));
    while presence.json()["type"] != "vacated" {}
    eventually("it is in the queue's log", || {
        let files = std::fs::read_dir(directory.path().join("queues/webhooks")).expect("its files");
        let mut bytes = files.map(|file| std::fs::read(file.expect("a file").path()));
        let says_so = |bytes: &[u8]| bytes.windows(9).any(|text| text == b"\"vacated\"");
        bytes.any(|bytes| says_so(&bytes.expect("it can be read"))).then_some(())
    });
    eventually("it is noticed that nobody listens", || {
        server.stderr().contains("is not told").then_some(())
    });
    server.kill();

    let mut server = start(&url);
    let mut told = Vec::new();
    while told.len() < 2 {
        let (mut socket, _) = eventually("it calls", || application.accept().ok());
        socket.set_nonblocking(false).expect("a socket can");
        let mut reader = BufReader::new(socket.try_clone().expect("a socket"));
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it reads");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        told.extend(body["events"].as_array().expect("events").clone());
    }
    let told: Vec<_> = told.iter().map(|event| (&event["type"], &event["channel"])).collect();
    assert_eq!(told, [(&json!("occupied"), &json!("a")), (&json!("vacated"), &json!("a"))]);
    server.stop();
}

#[test]
fn at_the_end_everybody_is_told() {
    let mut server = Server::start();
    let public = server.public_address();
    let mut poll = HttpClient::connect(public);
    poll.send(request("GET", "/sub?cname=a&seq=1&noop=4", "")).expect("it reads");
    let mut modern = HttpClient::connect(public);
    modern.send(request("GET", "/v1/poll?channel=a&cursor=0:0", "")).expect("it reads");
    // A cursor of another life is answered at once; the next one waits.
    let reset: Value = serde_json::from_str(modern.answer("GET").text()).expect("JSON");
    let cursor = reset["cursor"].as_str().expect("a cursor").to_owned();
    modern.send(request("GET", &format!("/v1/poll?channel=a&cursor={cursor}"), "")).expect("reads");
    let mut events = Lines::open(public, "/v1/events?channel=a");
    let mut stream = HttpClient::connect(public);
    stream.send(request("GET", "/stream?cname=a&seq=1", "")).expect("it reads");
    eventually("all listen", || {
        admin(&server).get("/info?cname=a").text().contains("\"subscribers\": 4").then_some(())
    });
    server.signal(Signal::SIGTERM);
    let answer = poll.answer("GET");
    assert_eq!(answer.text(), "{\"type\":\"noop\",\"cname\":\"a\",\"seq\":4,\"content\":\"\"}\n");
    let answer: Value = serde_json::from_str(modern.answer("GET").text()).expect("JSON");
    assert_eq!(answer["cursor"], json!(cursor));
    assert_eq!(stream.answer("GET").text(), "", "the stream ends with its last chunk");
    let mut retry = None;
    while let Some(line) = events.line() {
        if let Some(milliseconds) = line.strip_prefix("retry: ") {
            retry = milliseconds.parse::<u64>().ok();
        }
    }
    assert!(retry.is_some_and(|retry| (1_000..11_000).contains(&retry)), "{retry:?}");
    assert!(server.wait().success());
}
