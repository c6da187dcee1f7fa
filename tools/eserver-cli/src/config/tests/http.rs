//! `[http]`: a section with tables that repeat within it.

use super::drains::{check_error, check_errors};
use super::*;

#[test]
fn every_key_of_http_can_be_given() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().display();
    let text = format!(
        r#"
[http]
listen = ["127.0.0.1:8080", "[::1]:8080"]
allow = ["10.0.0.0/8"]
newcomers = "at-once"
access_log_one_in = 100
[[http.respond]]
path = "/health"
[[http.respond]]
path = "/gone/成 功"
status = 410
body = "gone\n"
content_type = "text/html"
[[http.respond]]
path = "/"
status = 204
content_type = ""
[[http.files]]
root = "{root}"
[[http.files]]
prefix = "/static/"
root = "{root}"
"#
    );
    let loaded = file(&text).good();
    assert!(loaded.notes.is_empty(), "{}", loaded.notes);
    let respond = |path: &str, status, body: &str, content_type: &str| RespondConfig {
        path: path.to_owned(),
        status,
        body: body.to_owned(),
        content_type: content_type.to_owned(),
    };
    let files =
        |prefix: &str| FilesConfig { prefix: prefix.to_owned(), root: directory.path().to_owned() };
    let expected = HttpConfig {
        listen: vec!["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()],
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        newcomers: Newcomers::AtOnce,
        access_log_one_in: NonZeroU32::new(100),
        responds: vec![
            respond("/health", 200, "", "text/plain; charset=utf-8"),
            respond("/gone/成 功", 410, "gone\n", "text/html"),
            respond("/", 204, "", ""),
        ],
        files: vec![files(""), files("/static")],
    };
    assert_eq!(loaded.config.http, expected);
    let config = &file("").good().config.http;
    assert_eq!((config.listen.as_slice(), config.access_log_one_in), (&[][..], None));
    assert_eq!(config.newcomers, Newcomers::WithFirstBytes);
    assert_eq!(config.allow, ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()));
}

#[test]
fn what_is_printed_of_http_can_be_read_again() {
    let text = "[http]\nlisten = \"127.0.0.1:0\"\n[[http.files]]\nroot = \"/\"\n\
                [[http.respond]]\npath = \"/a\"\nbody = \"\"\"\nx\ty\"\"\"\n\
                [[http.respond]]\npath = \"/b\"\n[limits]\nidle_timeout_s = 7\n";
    let first = file(text).good();
    for explain in [false, true] {
        let printed = first.settings.to_toml(explain);
        let again = file(&printed).good();
        assert_eq!(again.config.http, first.config.http, "{printed}");
        assert_eq!(again.settings.changed_since(&first.settings).count(), 0, "{printed}");
    }
}

#[test]
fn the_environment_lies_over_http_in_the_file() {
    let case = Case {
        file: "[[http.respond]]\npath = \"/a\"\nbody = \"file\"\n",
        environment: &[
            ("ESERVER__HTTP__LISTEN", "127.0.0.1:0"),
            ("ESERVER__HTTP__RESPOND__0__BODY", "environment"),
            ("ESERVER__HTTP__RESPOND__1__PATH", "/b"),
            ("ESERVER__HTTP__FILES__0__ROOT", "/"),
        ],
        set: &["http.respond.1.status=201", "http.files.0.prefix=/files"],
        data_dir: None,
    };
    let config = case.good().config.http;
    let seen = config.responds.iter().map(|one| (one.path.as_str(), one.status, one.body.as_str()));
    assert_eq!(seen.collect::<Vec<_>>(), [("/a", 200, "environment"), ("/b", 201, "")]);
    assert_eq!(config.files.len(), 1);
    assert_eq!(config.files[0].prefix, "/files");
    assert_eq!(config.listen, ["127.0.0.1:0".parse().unwrap()]);
}

#[test]
fn an_address_of_http_is_shown_with_its_usual_port() {
    for (value, pointed_at, label) in [
        ("\"127.0.0.1\"", "\"127.0.0.1\"", "the port is missing"),
        ("\"http://127.0.0.1:80\"", "\"http://127.0.0.1:80\"", "a URL"),
        ("\"\"", "\"\"", "the address is missing"),
    ] {
        let text = format!("[http]\nlisten = {value}\n");
        let title = "`http.listen` takes an IP address and a port";
        check_error(&text, title, 2, pointed_at, label);
    }
    let problems = file("[http]\nlisten = \"::1\"\n").load().map(|loaded| loaded.config);
    let problems = problems.unwrap_err();
    assert!(problems.contains("write \"[::1]:8080\""), "{problems}");
    for off in ["http.listen=[]", "http.listen=[ ]"] {
        let loaded =
            Case { set: &[off], file: "[http]\nlisten = \"[::1]:1\"\n", ..Case::default() };
        assert!(loaded.good().config.http.listen.is_empty(), "{off}");
    }
}

#[test]
fn a_path_is_one_that_clients_ask_for() {
    for (path, label) in [
        ("", "expected a path"),
        ("health", "it does not begin with a slash"),
        ("http://a/b", "a URL"),
        ("/a%20b", "it is encoded"),
        ("/a?b", "'?' cannot be in it"),
        ("/a#b", "'#' cannot be in it"),
        ("/{a}", "'{' cannot be in it"),
        ("/*", "'*' cannot be in it"),
        ("/a\tb", "'\\t' cannot be in it"),
        ("/a/../b", "clients leave out steps"),
        ("/.", "clients leave out steps"),
    ] {
        let value = toml::Value::String(path.to_owned()).to_string();
        let title = if path.is_empty() { "is empty" } else { "is no path" };
        let text = format!("[[http.respond]]\npath = {value}\n");
        check_error(&text, &format!("`http.respond.path` {title}"), 2, &value, label);
        let text = format!("[[http.files]]\nroot = \"/\"\nprefix = {value}\n");
        check_error(&text, &format!("`http.files.prefix` {title}"), 3, &value, label);
    }
}

#[test]
fn an_answer_is_one_that_can_be_sent() {
    let respond = |line: &str| format!("[[http.respond]]\npath = \"/a\"\n{line}\n");
    for (line, title, pointed_at, label) in [
        ("status = 199", "`http.respond.status` is out of range", "199", "expected a whole number"),
        ("status = 600", "`http.respond.status` is out of range", "600", "expected a whole number"),
        ("status = \"200\"", "`http.respond.status` cannot be a text", "\"200\"", "expected a"),
        ("body = 7", "`http.respond.body` cannot be a number", "7", "expected a text in quotes"),
        (
            "content_type = \"a\\r\\nb: c\"",
            "`http.respond.content_type` cannot be a header field",
            "\"a\\r\\nb: c\"",
            "'\\r' cannot be in it",
        ),
        ("bodi = 1", "unknown key `http.respond.bodi`", "bodi", "did you mean `body`?"),
    ] {
        check_error(&respond(line), title, 3, pointed_at, label);
    }
    for status in [204, 205, 304] {
        let title = format!("an answer with the status {status} has no body");
        let text = respond(&format!("status = {status}\nbody = \"x\""));
        check_error(&text, &title, 4, "\"x\"", "leave it out");
    }
    let title = "this answer is for no request";
    check_error("[[http.respond]]\nstatus = 404\n", title, 1, "[[http.respond]]", "`path` is");
}

#[test]
fn files_lie_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("file").display().to_string();
    let check = |label: &str| {
        let title = format!("`http.files.root` is no directory: {name}");
        let text = format!("[[http.files]]\nroot = {name:?}\n");
        check_error(&text, &title, 2, &format!("{name:?}"), label);
    };
    check("No such file or directory");
    std::fs::write(&name, "").unwrap();
    check("it is a file");
    let title = "these files lie nowhere";
    check_error("[[http.files]]\nprefix = \"/a\"\n", title, 1, "[[http.files]]", "`root` is");
}

#[test]
fn a_request_has_one_answer() {
    let both = |first: &str, second: &str| {
        let section = |given: &str| match given.split_once('=') {
            Some(("path", path)) => format!("[[http.respond]]\npath = \"{path}\"\n"),
            Some(("prefix", prefix)) => {
                format!("[[http.files]]\nroot = \"/\"\nprefix = \"{prefix}\"\n")
            }
            _ => panic!("{given}"),
        };
        section(first) + &section(second)
    };
    for (first, second, line, path) in [
        ("path=/a", "path=/a", 4, "/a"),
        ("prefix=/a", "prefix=/a/", 6, "/a"),
        ("prefix=/", "prefix=/", 6, "/"),
        ("prefix=/a", "path=/a", 5, "/a"),
    ] {
        let pointed_at = format!("\"{}\"", second.split_once('=').unwrap().1);
        let title = format!("{path:?} is answered twice");
        check_error(&both(first, second), &title, line, &pointed_at, "the section of ");
    }
    for (first, second) in
        [("path=/a", "path=/a/"), ("prefix=/", "path=/"), ("prefix=/a", "path=/a/b")]
    {
        file(&both(first, second)).good();
    }
}

#[test]
fn all_mistakes_of_http_come_at_once() {
    let case = Case {
        file: "[http]\nlisten = 80\n[[http.respond]]\nstatus = 0\npath = \"a\"\n\
               [[http.files]]\nroot = \"/nowhere/at/all\"\n",
        environment: &[
            ("ESERVER__HTTP__FILES__ROOT", "/"),
            ("ESERVER__HTTP__FILES__7__ROOT", "/"),
            ("ESERVER__HTTP__RESPOND__0__PAHT", "/"),
        ],
        set: &["http.respond.0.bdy=x", "http.files=x"],
        data_dir: None,
    };
    check_errors(
        &case,
        &[
            ("`http.listen` cannot be a number", "eserver.toml:2", "80", "expected an address"),
            ("`http.respond.status` is out of", "eserver.toml:4", "0", "expected a whole number"),
            ("`http.respond.path` is no path", "eserver.toml:5", "\"a\"", "it does not begin"),
            (
                "`http.files.root` is no directory",
                "eserver.toml:7",
                "\"/nowhere/at/all\"",
                "No such file",
            ),
            (
                "the environment variable ESERVER__HTTP__FILES__ROOT names no key",
                "environment",
                "ESERVER__HTTP__FILES__ROOT",
                "did you mean ESERVER__HTTP__FILES__0__ROOT?",
            ),
            (
                "there are 1 sections [[http.files]], so none is number 7",
                "environment",
                "ESERVER__HTTP__FILES__7__ROOT",
                "they count from 0",
            ),
            (
                "the environment variable ESERVER__HTTP__RESPOND__0__PAHT names no key",
                "environment",
                "ESERVER__HTTP__RESPOND__0__PAHT",
                "did you mean ESERVER__HTTP__RESPOND__0__PATH?",
            ),
            (
                "unknown key `http.respond.0.bdy`",
                "command line",
                "http.respond.0.bdy",
                "did you mean `http.respond.0.body`?",
            ),
            ("unknown key `http.files`", "command line", "http.files", "no such key"),
        ],
    );
}

#[test]
fn http_that_has_no_effect_is_a_note() {
    let notes = |text: &str| file(text).good().notes.to_string();
    let note = notes("[[http.respond]]\npath = \"/a\"\n");
    assert!(note.contains("`[[http.respond]]` (") && note.contains("HTTP is off"), "{note}");
    let note = notes("[[http.files]]\nroot = \"/\"\n");
    assert!(note.contains("`[[http.files]]` (") && note.contains("HTTP is off"), "{note}");
    let note = notes("[http]\nlisten = \"127.0.0.1:0\"\n");
    assert!(note.contains("has nothing to answer"), "{note}");
}
