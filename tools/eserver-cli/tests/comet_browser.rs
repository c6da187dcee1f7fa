//! Channels in a real browser, and in the programs that people read events with.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::http::{HttpClient, request};
use support::program::{Background, find, run};
use support::server::{Server, Setup};
use support::{PATIENCE, eventually, within};
use tempfile::TempDir;

/// A server that keeps all that is told here, and hands out a directory.
fn site(pages: &Path) -> Server {
    let text = format!(
        "[comet]\nhistory_messages_max = 1000\nabsence_grace_s = 1\n\
         [[comet.channel]]\nprefix = \"chat/\"\nannounce_members = true\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[[http.files]]\nroot = {pages:?}\n"
    );
    Setup::new().text(text).start()
}

fn admin(server: &Server) -> HttpClient {
    HttpClient::connect(server.admin_address())
}

fn push(server: &Server, channel: &str, content: &str) {
    let answer = admin(server).get(&format!("/push?cname={channel}&content={content}"));
    assert_eq!((answer.status, answer.text()), (200, "{\"type\":\"ok\"}\n"));
}

fn subscribers(server: &Server, channel: &str) -> u64 {
    let answer = admin(server).get(&format!("/info?cname={channel}"));
    let info: Value = serde_json::from_str(answer.text()).expect("JSON");
    info["subscribers"].as_u64().expect("a number")
}

/// What pages have reported so far, each two words: they push it into a channel.
fn reports(server: &Server) -> Vec<(String, String)> {
    let answer = admin(server).get("/v1/channels/report/history?limit=1000");
    let page: Value = serde_json::from_str(answer.text()).expect("JSON");
    let messages = page["messages"].as_array().map_or(&[][..], |all| all);
    let reported = messages.iter().map(|message| {
        let text = message["data"].as_str().expect("a text");
        serde_json::from_str(text).expect("two words")
    });
    reported.collect()
}

/// Waits for a report, and answers with its second word.
fn wait_for(server: &Server, what: &str) -> String {
    eventually(what, || {
        let mut all = reports(server).into_iter();
        all.find_map(|(first, second)| (first == what).then_some(second))
    })
}

/// A browser that shows a page until it is dropped.
struct Browser {
    _browser: Background,
    _profile: TempDir,
}

impl Browser {
    fn open(url: &str) -> Self {
        let profile = tempfile::tempdir().expect("a private directory");
        let mut command = Command::new(find("chromium", "chromium"));
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-quic", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-popup-blocking"])
            // Tabs that nobody looks at work, too.
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url);
        Browser { _browser: Background::start(&mut command), _profile: profile }
    }
}

/// A way to the server that can be shut.
struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<GateState>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct GateState {
    is_shut: bool,
    is_over: bool,
    inside: Vec<TcpStream>,
}

impl Gate {
    fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(GateState::default()));
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                let mut state = lock(&shared);
                if state.is_over {
                    return;
                }
                if !state.is_shut {
                    let server = TcpStream::connect(server).expect("it listens");
                    let twin = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                    state.inside.extend([twin(&client), twin(&server)]);
                    pass_on(twin(&client), twin(&server));
                    pass_on(server, client);
                }
            }
        });
        Gate { address, state, thread: Some(thread) }
    }

    /// Cuts all connections off, and lets no others in.
    fn shut(&self) {
        let mut state = lock(&self.state);
        state.is_shut = true;
        for stream in state.inside.drain(..) {
            let _ = stream.shutdown(Shutdown::Both); // it may have ended
        }
    }

    fn open(&self) {
        lock(&self.state).is_shut = false;
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
        lock(&self.state).is_over = true;
        let _ = TcpStream::connect(self.address); // wakes it
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

fn lock(state: &Mutex<GateState>) -> MutexGuard<'_, GateState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn in_pages(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/comet").join(name)
}

#[test]
fn a_browser_that_is_cut_off_misses_nothing() {
    const LISTENERS: [&str; 4] = ["EventSource", "events", "poll", "socket"];
    let server = site(&in_pages(""));
    let gate = Gate::before(server.public_address());
    let url = format!(
        "http://{}/listeners.html?public=http://{}&admin=http://{}",
        server.http_address(),
        gate.address,
        server.admin_address()
    );
    let _browser = Browser::open(&url);
    for listener in LISTENERS {
        assert_eq!(wait_for(&server, listener), "ready");
    }
    let mut expected = Vec::new();
    let mut push_next = || {
        let next = expected.len().to_string();
        push(&server, "news", &next);
        expected.push(next);
    };
    for _ in 0..3 {
        eventually("all are back", || (subscribers(&server, "news") == 4).then_some(()));
        (0..5).for_each(|_| push_next());
        gate.shut();
        (0..5).for_each(|_| push_next());
        gate.open();
    }
    push(&server, "news", "end");
    let expected = expected.join(" ");
    for listener in LISTENERS {
        let heard = eventually("it has heard the end", || {
            let mut all = reports(&server).into_iter();
            let of = |(who, what): &(String, String)| who == listener && what != "ready";
            all.find(of).map(|(_, heard)| heard)
        });
        assert_eq!(heard, expected, "{listener}");
    }
}

/// One server, whose pages have two origins by its two names.
#[test]
fn a_page_of_an_origin_that_is_not_listed_is_kept_out() {
    let text = |section: &str| {
        let pages = in_pages("");
        format!("{section}\n[http]\nlisten = \"127.0.0.1:0\"\n[[http.files]]\nroot = {pages:?}\n")
    };
    let server = Setup::new().text(text("")).start();
    push(&server, "a", "one"); // What is waited for is there.
    let port = server.http_address().port();
    let show = |host: &str| {
        Browser::open(&format!(
            "http://{host}:{port}/origins.html?public=http://{}&admin=http://{}",
            server.public_address(),
            server.admin_address()
        ))
    };
    let all = "import simple preflight icomet poll events socket";
    let browser = show("localhost");
    assert_eq!(wait_for(&server, "localhost"), all, "without a list");
    drop(browser);
    assert_eq!(admin(&server).get("/close?cname=report").status, 200);

    server.rewrite(&text(&format!("[comet]\nallow_origins = [\"http://127.0.0.1:{port}\"]")));
    server.signal(Signal::SIGHUP);
    eventually("it is reloaded", || {
        HttpClient::connect(server.public_address()).get("/ping").field("Vary").map(drop)
    });
    let _browsers = ["localhost", "127.0.0.1"].map(show);
    assert_eq!(wait_for(&server, "127.0.0.1"), all);
    assert_eq!(wait_for(&server, "localhost"), "");
}

#[test]
fn two_tabs_chat() {
    let pages = tempfile::tempdir().expect("a private directory");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/chat");
    for file in std::fs::read_dir(example).expect("the example") {
        let file = file.expect("a file").path();
        std::fs::copy(&file, pages.path().join(file.file_name().expect("a name"))).expect("a copy");
    }
    std::fs::copy(in_pages("two_tabs.html"), pages.path().join("two_tabs.html")).expect("a copy");
    let server = site(pages.path());
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let _php = Background::start(
        Command::new(find("php", "php-cli"))
            .args(["-S", &address.to_string(), "-t"])
            .arg(pages.path())
            .env("ESERVER_ADMIN", format!("http://{}", server.admin_address()))
            .env("ESERVER_PUBLIC", format!("http://{}", server.public_address())),
    );
    eventually("PHP listens", || TcpStream::connect(address).ok());
    let admin_url = format!("http://{}", server.admin_address());
    let _browser = Browser::open(&format!("http://{address}/two_tabs.html?admin={admin_url}"));
    let mut last = None;
    let end = within(PATIENCE, || {
        last = reports(&server).pop().map(|(step, _)| step);
        (last.as_deref() == Some("done")).then_some(())
    });
    assert!(end.is_some(), "the page waits for this step: {last:?}");
}

/// What icomet.js sends, without the browser; the real one runs where `ESERVER_ICOMET_JS` names it.
#[test]
fn the_requests_of_icomets_client() {
    let server = Setup::new().set("comet.poll_timeout_s", 1).start();
    let sign = admin(&server).get("/sign?cb=icomet_cb_0&cname=a&_=1");
    let json = sign.text().strip_prefix("icomet_cb_0(").and_then(|rest| rest.strip_suffix(");\n"));
    let signed: Value = serde_json::from_str(json.expect("a call")).expect("JSON");
    assert_eq!((&signed["type"], &signed["cname"]), (&json!("sign"), &json!("a")));
    let token = signed["token"].as_str().expect("a token");
    assert_eq!(signed["sub_timeout"], 1);

    // JSONP: each answer is one call, and says what to ask for next.
    let mut public = HttpClient::connect(server.public_address());
    let mut ask = |seq: i64, noop: i64, then: &dyn Fn()| {
        let target = format!(
            "/sub?cb=icomet_cb_0&cname=a&seq={seq}&noop={noop}&token={token}&_=2&callback=icomet_cb_0"
        );
        public.send(request("GET", &target, "")).expect("it reads");
        then();
        let answer = public.answer("GET");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-type"), Some("text/javascript; charset=utf-8"));
        let text = answer.text().strip_prefix("icomet_cb_0(").expect("a call");
        let told: Value =
            serde_json::from_str(text.strip_suffix(");\n").expect("its end")).expect("JSON");
        told
    };
    let told = ask(0, 0, &|| {});
    assert_eq!((&told["type"], &told["seq"]), (&json!("next_seq"), &json!(1)));
    let told = ask(1, 7, &|| {});
    assert_eq!((&told["type"], &told["seq"]), (&json!("noop"), &json!(7)));
    let told = ask(1, 8, &|| {
        eventually("it waits", || (subscribers(&server, "a") == 1).then_some(()));
        push(&server, "a", "hello");
    });
    assert_eq!(
        (&told["type"], &told["seq"], &told["content"]),
        (&json!("data"), &json!(1), &json!("hello"))
    );
    push(&server, "a", "missed");
    let told = ask(2, 8, &|| {});
    assert_eq!(told[0]["content"], "missed", "an array of what was missed");

    // Events: the same parameters, no names, an object each.
    let target = format!("/sse?cb=icomet_cb_0&cname=a&seq=0&noop=0&token={token}&_=3");
    let mut stream = TcpStream::connect(server.public_address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request("GET", &target, "").as_bytes()).expect("it reads");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    let head: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head.iter().any(|line| line == "Access-Control-Allow-Origin: *"), "{head:?}");
    let mut told = || loop {
        let line = lines.next().expect("it goes on");
        if let Some(json) = line.strip_prefix("data: ") {
            return serde_json::from_str::<Value>(json).expect("JSON");
        }
    };
    assert_eq!((&told()["seq"], &told()["type"]), (&json!(3), &json!("noop")));
    push(&server, "a", "again");
    let event = std::iter::repeat_with(told).find(|event| event["type"] != "noop");
    assert_eq!(event.expect("it goes on")["content"], "again");

    if let Some(file) = std::env::var_os("ESERVER_ICOMET_JS") {
        let pages = tempfile::tempdir().expect("a private directory");
        let file = Path::new(&file);
        std::fs::copy(file, pages.path().join("icomet.js")).expect("icomet's client");
        let _ = std::fs::copy(
            file.with_file_name("jquery-1.9.1.js"),
            pages.path().join("jquery-1.9.1.js"),
        );
        std::fs::copy(in_pages("icomet.html"), pages.path().join("icomet.html")).expect("a copy");
        for mode in ["sse", "jsonp"] {
            run_icomet(mode, pages.path());
        }
    }
}

/// The unmodified client in a browser: it hears what is pushed, and what it publishes itself.
fn run_icomet(mode: &str, pages: &Path) {
    let server = site(pages);
    let _browser = Browser::open(&format!(
        "http://{}/icomet.html?mode={mode}&public=http://{}&admin=http://{}",
        server.http_address(),
        server.public_address(),
        server.admin_address()
    ));
    let channel = format!("room-{mode}");
    let hears = |content: &str| {
        eventually(content, || {
            let all = reports(&server);
            let alerts: Vec<_> = all.iter().filter(|(what, _)| what == "alert").collect();
            assert!(alerts.is_empty(), "{mode}: {alerts:?}");
            all.iter().any(|(_, told)| told == content).then_some(())
        });
    };
    let tell = |content: &str| {
        eventually("it listens", || (subscribers(&server, &channel) == 1).then_some(()));
        push(&server, &channel, content);
        hears(content);
    };
    tell("go");
    hears("from the page");
    assert_eq!(wait_for(&server, "published"), "ok");
    (0..5).for_each(|number| tell(&format!("message-{number}")));
    let told = reports(&server).into_iter().filter(|(kind, _)| kind == "data");
    let told: Vec<_> = told.map(|(_, content)| content).collect();
    let expected: Vec<_> = (0..5).map(|number| format!("message-{number}")).collect();
    assert_eq!(told[2..], expected, "{mode}");
}

/// Reads lines of a program until the one that ends it.
fn read_until(command: &mut Command, end: &str, ready: impl FnOnce()) -> Vec<String> {
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    ready();
    let mut read = Vec::new();
    for line in lines.map_while(Result::ok) {
        let is_end = line.contains(end);
        read.push(line);
        if is_end {
            break;
        }
    }
    let _ = child.kill(); // it may have ended by itself
    child.wait().expect("our own child");
    assert!(read.last().is_some_and(|line| line.contains(end)), "{command:?} read {read:?}");
    read
}

/// Publishes what the readers of events are to read, once somebody is there.
fn publish_three(server: &Server) {
    eventually("it listens", || (subscribers(server, "news") == 1).then_some(()));
    push(server, "news", "one");
    push(server, "news", "two");
    push(server, "news", "end");
}

#[test]
fn curl() {
    let server = Server::start();
    let base = format!("http://{}", server.public_address());
    let read = |target: &str| {
        let mut command = Command::new(find("curl", "curl"));
        command.args(["-sSN", "--max-time", "60"]).arg(format!("{base}{target}"));
        let lines = read_until(&mut command, "end", || publish_three(&server));
        admin(&server).get("/close?cname=news");
        lines.into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    let lines = read("/sse?cname=news&seq=1");
    let data = |seq: u8, content: &str| {
        format!(
            "data: {{\"type\":\"data\",\"cname\":\"news\",\"seq\":{seq},\"content\":\"{content}\"}}"
        )
    };
    assert_eq!(lines, [data(1, "one"), data(2, "two"), data(3, "end")]);

    let lines = read("/v1/events?channel=news");
    assert!(lines[0].starts_with("retry: "), "{lines:?}");
    assert_eq!(lines[1], "event: subscribed");
    let (epoch, none) =
        lines[2].split_once(':').and_then(|(_, id)| id.trim().split_once(':')).expect("an id");
    assert_eq!(none, "0");
    assert_eq!(lines[4], format!("id: {epoch}:1"));
    let message = "data: {\"type\":\"message\",\"channel\":\"news\",\"offset\":1,\"data\":\"one\"}";
    assert_eq!(lines[5], message);
    assert_eq!(lines.len(), 10, "{lines:?}");

    let lines = read("/v1/stream?channel=news");
    assert_eq!(lines.len(), 4, "{lines:?}");
}

#[test]
fn python() {
    let server = Server::start();
    let script = r#"
import json, sys, urllib.request
# Reads as the standard says: fields until an empty line.
request = urllib.request.Request(sys.argv[1], headers={"Last-Event-ID": sys.argv[2]})
with urllib.request.urlopen(request, timeout=60) as stream:
    assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8", stream.headers
    event = {}
    for line in stream:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field:
            event[field] = value
        elif "data" in event:
            print(event.get("event", "message"), event["id"], json.loads(event["data"]).get("data"), flush=True)
            event = {}
"#;
    let base = format!("http://{}/v1/events?channel=news", server.public_address());
    let read = |id: &str, ready: &dyn Fn()| {
        let mut command = Command::new(find("python3", "python3"));
        read_until(command.args(["-c", script, &base, id]), "end", ready)
    };
    let lines = read("", &|| publish_three(&server));
    let epoch = lines[0].strip_prefix("subscribed ").and_then(|rest| rest.strip_suffix(":0 None"));
    let epoch = epoch.expect("it is subscribed");
    let message = |offset: u8, data: &str| format!("message {epoch}:{offset} {data}");
    assert_eq!(lines[1..], [message(1, "one"), message(2, "two"), message(3, "end")]);
    let lines = read(&format!("{epoch}:1"), &|| {});
    assert_eq!(lines, [format!("subscribed {epoch}:1 None"), message(2, "two"), message(3, "end")]);
}

/// `EventSource` of npm, which comes back by itself with the id of the last event.
#[test]
#[ignore = "needs npm and its registry: cargo test -p eserver-cli --test comet_browser -- --ignored"]
fn event_source_of_node() {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a private directory");
    let install = Command::new("npm")
        .args(["install", "--silent", "--no-audit", "--no-fund", "eventsource@4"])
        .current_dir(directory.path())
        .output();
    let is_there = install.as_ref().is_ok_and(|output| output.status.success());
    assert!(is_there, "npm cannot install eventsource (`apt-get install npm`): {install:?}");
    let script = r#"
const {EventSource} = await import("eventsource");
const source = new EventSource(process.argv[2]);
source.onmessage = ({data, lastEventId}) => {
  const {offset, data: text} = JSON.parse(data);
  console.log(offset, text, lastEventId.endsWith(":" + offset));
  if (text === "end") process.exit(0);
};
"#;
    std::fs::write(directory.path().join("listen.mjs"), script).expect("our own directory");
    let gate = Gate::before(server.public_address());
    let url = format!("http://{}/v1/events?channel=news", gate.address);
    let mut command = Command::new(find("node", "nodejs"));
    command.args(["listen.mjs", &url]).current_dir(directory.path());
    let lines = read_until(&mut command, "end", || {
        eventually("it listens", || (subscribers(&server, "news") == 1).then_some(()));
        push(&server, "news", "one");
        gate.shut();
        push(&server, "news", "two");
        gate.open();
        eventually("it is back", || (subscribers(&server, "news") == 1).then_some(()));
        push(&server, "news", "end");
    });
    assert_eq!(lines, ["1 one true", "2 two true", "3 end true"]);
}

/// The client as it is served: it renews its token, publishes, and is told of a restart.
#[test]
fn the_client_and_a_restart() {
    let mut server = Setup::new().set("comet.auth", "token").start();
    let (public, admin_address) = (server.public_address(), server.admin_address());
    let directory = tempfile::tempdir().expect("a private directory");
    let client = directory.path().join("eserver.mjs");
    let served = HttpClient::connect(public).get("/eserver.js");
    std::fs::write(&client, served.text()).expect("our own directory");

    let mut command = Command::new(find("node", "nodejs"));
    // Node.js 20 has WebSockets, but not without being asked.
    command.args(["--no-warnings", "--experimental-websocket"]).arg(in_pages("restart.mjs"));
    command.args([format!("http://{public}"), format!("http://{admin_address}")]).arg(&client);
    let mut node = Background::start(&mut command);
    let mut wait_until_it_says = |word: &str| {
        eventually(word, || {
            let is_there = node.stdout().lines().any(|line| line == word);
            if !is_there {
                node.assert_running();
            }
            is_there.then_some(())
        });
    };
    wait_until_it_says("ready");
    push(&server, "news", "pushed");
    wait_until_it_says("renewed");
    server.kill();
    // No secret is set: the tokens of before are good for nothing now.
    let _server = Setup::new()
        .set("comet.auth", "token")
        .set("comet.listen", public)
        .set("admin.listen", admin_address)
        .start();
    wait_until_it_says("end");
}

/// Those of `eserver.js` without a server of ours.
#[test]
fn the_client_by_itself() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/eserver-comet/tests/js");
    let tests = tests.join("eserver.test.mjs");
    let report = run(Command::new(find("node", "nodejs")).arg("--test").arg(tests));
    assert!(report.contains("# fail 0"), "{report}");
}
