//! The commands of docs/comet-api.md, one after the other, and the answers that stand below them; and
//! what is said on a WebSocket there.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;
use support::http::{HttpClient, request};
use support::program::{Background, find};
use support::server::Setup;
use support::{PATIENCE, eventually, within};
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};

/// Says of the first of several commands that it goes on while the others are given.
const IS_LEFT_RUNNING: &str = "# leave it running";

/// What stands in the documentation where a server has its own; answers may have anything there.
const EPOCH: &str = "5b3c90d1a2e4f607";
const ITS_OWN: [&str; 3] = [EPOCH, "1767225600", "2467"];

/// The commands that have an answer right below them.
fn commands(document: &str) -> Vec<(&str, &str)> {
    // Outside, inside, outside, …
    let parts: Vec<_> = document.split("```").collect();
    let mut found = Vec::new();
    for (nth, part) in parts.iter().enumerate().skip(1).step_by(2) {
        let Some(command) = part.strip_prefix("sh\n") else { continue };
        if parts.get(nth + 1).is_some_and(|between| between.trim().is_empty()) {
            let (_, answer) = parts[nth + 2].split_once('\n').expect("a line with its language");
            found.push((command, answer));
        }
    }
    found
}

/// The contents of the blocks that are in a language, but for commands and their answers.
fn blocks<'d>(document: &'d str, language: &str) -> Vec<&'d str> {
    let parts = document.split("```").skip(1).step_by(2);
    parts.filter_map(|part| part.strip_prefix(language)?.strip_prefix('\n')).collect()
}

/// Whether `text` is as it is written, with anything in the place of `…`.
fn is_as_written(text: &str, written: &str) -> bool {
    let written = ITS_OWN.iter().fold(written.to_owned(), |written, own| written.replace(own, "…"));
    let mut pieces: Vec<_> = written.split('…').collect();
    let last = pieces.pop().unwrap_or_default();
    let Some(mut rest) = text.strip_suffix(last) else { return false };
    for (nth, piece) in pieces.into_iter().enumerate() {
        match rest.find(piece) {
            Some(at) if nth > 0 || at == 0 => rest = &rest[at + piece.len()..],
            _ => return false,
        }
    }
    rest.is_empty() || written.contains('…')
}

fn json(address: SocketAddr, request: &str) -> Value {
    let mut client = HttpClient::connect(address);
    client.send(request).expect("it reads");
    serde_json::from_str(client.answer("GET").text()).expect("JSON")
}

/// What a command does with `curl` in it, as this machine has it.
struct Shell {
    curl: String,
    /// What stands in the documentation, and what stands for it here.
    instead: [(&'static str, String); 3],
}

impl Shell {
    fn command(&self, text: &str) -> Command {
        let mut command = Command::new("sh");
        let text =
            self.instead.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        command.args(["-c", &text]);
        command
    }

    /// What commands write that are given one after the other.
    fn run(&self, commands: &str) -> String {
        // A stream has said what is known when it has said nothing for so long.
        let seconds = if commands.starts_with("curl -N") { 2 } else { PATIENCE.as_secs() };
        let curl = format!("curl() {{ {} -sS --max-time {seconds} \"$@\"; }}\n", self.curl);
        let output = self.command(&(curl + commands)).output().expect("a shell");
        String::from_utf8(output.stdout).expect("UTF-8").replace("\r\n", "\n")
    }

    /// What the first of several commands writes while the others are given: as much as is
    /// `written`.
    fn run_beside(&self, first: &str, others: &str, written: &str) -> String {
        let first = first.replacen("curl", &format!("exec {} -sS", self.curl), 1);
        let first = Background::start(&mut self.command(&first));
        eventually("it listens", || Some(first.stdout()).filter(|said| !said.is_empty()));
        self.run(others);
        let lines = written.trim_end().lines().count();
        let begun = || first.stdout().lines().take(lines).collect::<Vec<_>>().join("\n");
        within(PATIENCE, || Some(begun()).filter(|said| is_as_written(said, written.trim_end())))
            .unwrap_or_else(begun)
    }
}

/// Says on a WebSocket what a client says in a conversation, and compares what the server says. What
/// it says until the client speaks again may come in any order.
fn converse(public: SocketAddr, token: &str, conversation: &str) {
    let mut stream = TcpStream::connect(public).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let target = format!("/v1/socket?token={token}");
    let fields = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    stream.write_all(request("GET", &target, fields).as_bytes()).expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    let mut lines = conversation.trim_end().lines().peekable();
    while let Some(said) = lines.next() {
        let order = said.strip_prefix("> ").unwrap_or_else(|| panic!("{said}: nobody asked"));
        socket.send(Message::text(order)).expect("it reads");
        let mut due = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('>')) {
            due.push(line.strip_prefix("< ").unwrap_or_else(|| panic!("{line}: who?")));
        }
        while !due.is_empty() {
            let told = match socket.read() {
                Ok(Message::Text(told)) => told,
                other => panic!("after {order} came {other:?} instead of one of {due:#?}"),
            };
            let at = due.iter().position(|due| is_as_written(&told, due));
            due.remove(at.unwrap_or_else(|| panic!("after {order} came {told}, not {due:#?}")));
        }
    }
}

#[test]
fn the_answers_are_those_of_the_server() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/comet-api.md");
    let document = std::fs::read_to_string(document).expect("the documentation");
    let configuration = blocks(&document, "toml").concat();
    assert!(configuration.contains("allow_origins"), "{configuration}");
    let server = Setup::new().text(configuration).start();
    let (admin, public) = (server.admin_address(), server.public_address());
    // Somebody of whom the documentation tells listens twice.
    let order = r#"{"channels": ["news"], "subject": "ann"}"#;
    let length = format!("Content-Length: {}\r\n", order.len());
    let token = json(admin, &(request("POST", "/v1/tokens", &length) + order))["token"].clone();
    let token = token.as_str().expect("a token");
    let target = format!("/v1/stream?channel=news&token={token}");
    let _ann = [(); 2].map(|()| {
        let mut client = HttpClient::connect(public);
        client.send(request("GET", &target, "")).expect("it reads");
        client
    });
    let news = || json(admin, &request("GET", "/v1/channels/news", ""));
    let news = eventually("ann listens", || Some(news()).filter(|news| news["subscribers"] == 2));
    let epoch = news["epoch"].as_str().expect("an epoch");

    let commands = commands(&document);
    assert!(commands.len() >= 18, "{commands:?}");
    let shell = Shell {
        curl: find("curl", "curl").display().to_string(),
        instead: [
            ("127.0.0.1:8000", admin.to_string()),
            ("127.0.0.1:8100", public.to_string()),
            (EPOCH, epoch.to_owned()),
        ],
    };
    let mut signed = None;
    for (command, written) in commands {
        assert!(command.starts_with("curl "), "{command}");
        let answer = match command.split_once('\n') {
            Some((first, others)) if first.ends_with(IS_LEFT_RUNNING) => {
                shell.run_beside(first, others, written)
            }
            _ => shell.run(command),
        };
        assert!(
            is_as_written(answer.trim_end(), written.trim_end()),
            "{command}\nis answered with\n{answer}\nand not with\n{written}"
        );
        if command.contains("/v1/tokens") && signed.is_none() {
            signed = serde_json::from_str::<Value>(&answer).ok();
        }
    }

    let signed = signed.expect("a token is signed there");
    let conversations: Vec<_> =
        blocks(&document, "text").into_iter().filter(|block| block.starts_with("> ")).collect();
    assert_eq!(conversations.len(), 1, "{conversations:?}");
    for conversation in conversations {
        converse(public, signed["token"].as_str().expect("a token"), conversation);
    }
}
