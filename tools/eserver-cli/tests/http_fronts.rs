//! Behind nginx and behind HAProxy: what a front takes for one request is one request here, whatever
//! it looks like, and everybody gets the answer to what they asked.

mod support;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::corpus::{self, Case, PROBE_BODY, SMUGGLED_BODY};
use support::http::{HttpClient, request};
use support::program::{Background, find};
use support::server::Server;
use support::{eventually, within};
use tempfile::TempDir;

/// Requests by method and path, with how many there were.
type Requests = HashMap<String, usize>;

/// What somebody else asks for after each case.
const PROBE: &str = "GET /probe";

/// How often it is asked for.
const PROBES: usize = 2;

/// How long a front may take to write its log.
const LOG_PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn nothing_is_smuggled_past_nginx() {
    // What is passed on once it is whole, with a header of nginx' own; and what is passed on as it
    // comes, with the client's.
    for (buffering, host) in [("on", "$host"), ("off", "$http_host")] {
        let server = corpus::setup().start();
        let front = Front::nginx(server.http_address(), buffering, host);
        check_front(&server, front);
    }
}

#[test]
fn nothing_is_smuggled_past_haproxy() {
    for reuse in ["always", "safe"] {
        let server = corpus::setup().start();
        let front = Front::haproxy(server.http_address(), reuse);
        check_front(&server, front);
    }
}

/// Sends every case through the front. What arrives is what the front passed on, no more, and the
/// next client gets its own answer.
fn check_front(server: &Server, mut front: Front) {
    let (mut passed, mut server_log, mut front_log) = (0, Follower::default(), Follower::default());
    for case in corpus::cases() {
        let name = &case.name;
        let answered = send(&front, &case);
        // One after the other on a connection, so that what a case has left behind would be met.
        let mut probe = HttpClient::connect(front.address);
        for _ in 0..PROBES {
            let answer =
                probe.send(request("GET", "/probe", "")).and_then(|()| probe.receive("GET"));
            let Ok(Some(answer)) = answer else { panic!("{name}: the next client got {answer:?}") };
            assert_eq!((answer.status, answer.text()), (200, PROBE_BODY), "{name}");
        }
        drop(probe);
        front.check();
        let mut arrived = Requests::new();
        eventually("the probes are in the access log", || {
            server_log.count_in(&server.stderr(), arrived_request, &mut arrived);
            (count(&arrived, PROBE) >= PROBES).then_some(())
        });
        // The front may write its log when the answer is gone already.
        let mut forwarded = Requests::new();
        let agrees = within(LOG_PATIENCE, || {
            front_log.count_in(&front.log(), forwarded_request, &mut forwarded);
            arrived.iter().all(|(key, arrived)| *arrived <= count(&forwarded, key)).then_some(())
        });
        assert!(
            agrees.is_some(),
            "{name}: more has arrived than the front has passed on: {arrived:?}, {forwarded:?}"
        );
        let smuggled = count(&forwarded, "GET /smuggled");
        assert!(answered <= smuggled, "{name}: {answered} answers, {smuggled} passed on");
        passed += usize::from(arrived.values().sum::<usize>() > PROBES);
    }
    assert!(passed >= 40, "only {passed} cases have come through: this tests nothing");
    let said = server.stderr();
    assert!(!said.contains("panicked"), "{said}");
}

/// Sends a case and answers with how many of the answers are those of `/smuggled`.
fn send(front: &Front, case: &Case) -> usize {
    let mut client = HttpClient::connect(front.address);
    let _ = client.send(&case.input); // it may be refused before all of it is sent
    client.end_writing();
    let methods = case.answers.iter().map(|(method, _)| method.as_str());
    let mut methods = methods.chain(std::iter::repeat("GET"));
    let mut smuggled = 0;
    // A front may answer in ways of its own, HTTP/0.9 for instance, or end without an answer.
    while let Ok(Some(answer)) = client.receive_final(methods.next().expect("it goes on for ever"))
    {
        smuggled += usize::from(answer.body == SMUGGLED_BODY.as_bytes());
    }
    smuggled
}

fn count(requests: &Requests, key: &str) -> usize {
    requests.get(key).copied().unwrap_or(0)
}

/// Reads a growing log.
#[derive(Default)]
struct Follower {
    seen_bytes: usize,
}

impl Follower {
    /// Counts the requests in the whole lines that are new.
    fn count_in(
        &mut self,
        log: &str,
        request: impl Fn(&str) -> Option<String>,
        requests: &mut Requests,
    ) {
        let end = log.rfind('\n').map_or(0, |at| at + 1).max(self.seen_bytes);
        for request in log[self.seen_bytes..end].lines().filter_map(request) {
            *requests.entry(request).or_default() += 1;
        }
        self.seen_bytes = end;
    }
}

/// A request that the server has answered, of a line of its log.
fn arrived_request(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).expect("the log is JSON");
    (line["target"] == "eserver::access")
        .then(|| format!("{} {}", text(&line["method"]), path_of(text(&line["path"]))))
}

/// A request that the front has passed on, of a line of its log.
fn forwarded_request(line: &str) -> Option<String> {
    let (server, request) = line.split_once('|')?;
    let request = plain(request);
    let mut words = request.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let is_passed = !matches!(server, "" | "-" | "<NOSRV>");
    is_passed.then(|| format!("{method} {}", path_of(target)))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A reverse proxy that keeps its connections to the server.
struct Front {
    address: SocketAddr,
    program: Background,
    /// A line for each request: the server it was passed on to, a bar, its method and its target.
    log: Log,
    _directory: TempDir,
}

enum Log {
    File(PathBuf),
    Stdout,
}

impl Front {
    fn nginx(server: SocketAddr, buffering: &str, host: &str) -> Self {
        let directory = TempDir::new().expect("a private directory");
        let (shown, address) = (directory.path().display(), free_address());
        let text = format!(
            "daemon off;\n\
             worker_processes 1;\n\
             pid {shown}/nginx.pid;\n\
             error_log stderr crit;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
               log_format requests '$upstream_addr|$request_method $request_uri';\n\
               access_log {shown}/requests requests;\n\
               client_body_temp_path {shown}/body;\n\
               proxy_temp_path {shown}/proxy;\n\
               fastcgi_temp_path {shown}/fastcgi;\n\
               uwsgi_temp_path {shown}/uwsgi;\n\
               scgi_temp_path {shown}/scgi;\n\
               lingering_close off;\n\
               upstream eserver {{ server {server}; keepalive 4; }}\n\
               server {{\n\
                 listen {address};\n\
                 ignore_invalid_headers off;\n\
                 underscores_in_headers on;\n\
                 location / {{\n\
                   proxy_pass http://eserver;\n\
                   proxy_http_version 1.1;\n\
                   proxy_ignore_client_abort on;\n\
                   proxy_request_buffering {buffering};\n\
                   proxy_set_header Host {host};\n\
                   proxy_set_header Connection \"\";\n\
                 }}\n\
               }}\n\
             }}\n"
        );
        let file = write(directory.path(), "nginx.conf", &text);
        let mut command = Command::new(find("nginx", "nginx"));
        command.arg("-c").arg(file).args(["-e", "stderr", "-p"]).arg(directory.path());
        let log = Log::File(directory.path().join("requests"));
        Front::start(address, &mut command, log, directory)
    }

    fn haproxy(server: SocketAddr, reuse: &str) -> Self {
        let directory = TempDir::new().expect("a private directory");
        let address = free_address();
        let text = format!(
            "global\n\
             \x20 log stdout format raw local0\n\
             \x20 maxconn 512\n\
             defaults\n\
             \x20 mode http\n\
             \x20 log global\n\
             \x20 timeout connect 10s\n\
             \x20 timeout client 10s\n\
             \x20 timeout server 10s\n\
             \x20 log-format %s|%r\n\
             frontend front\n\
             \x20 bind {address}\n\
             \x20 default_backend back\n\
             backend back\n\
             \x20 http-reuse {reuse}\n\
             \x20 server eserver {server}\n"
        );
        let file = write(directory.path(), "haproxy.cfg", &text);
        let mut command = Command::new(find("haproxy", "haproxy"));
        command.arg("-db").arg("-f").arg(file);
        Front::start(address, &mut command, Log::Stdout, directory)
    }

    fn start(address: SocketAddr, command: &mut Command, log: Log, directory: TempDir) -> Self {
        let program = Background::start(command);
        let mut front = Front { address, program, log, _directory: directory };
        eventually("the front listens", || {
            front.check();
            TcpStream::connect(address).ok()
        });
        front
    }

    fn check(&mut self) {
        self.program.assert_running();
    }

    /// What it has said so far.
    fn log(&self) -> String {
        match &self.log {
            Log::File(path) => std::fs::read_to_string(path).expect("nginx writes its log"),
            Log::Stdout => self.program.stdout(),
        }
    }
}

/// A line's text without the `#7C` that HAProxy writes for a `|`.
fn plain(text: &str) -> String {
    let mut parts = text.split('#');
    let mut plain = parts.next().expect("a text has a first part").to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => plain.extend([char::from(byte).to_string().as_str(), &part[2..]]),
            None => plain.extend(["#", part]),
        }
    }
    plain
}

/// The part of a target that the server's log has.
fn path_of(target: &str) -> &str {
    let after_host = target.split_once("://").map(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let path = after_host.map_or(target, |path| path.unwrap_or("/"));
    match path.split('?').next().expect("a path begins the target") {
        // A front may turn the one into the other.
        "*" => "/",
        path => path,
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, text).expect("our own directory");
    file
}

/// A port that was free a moment ago; a front cannot say which one it took.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
