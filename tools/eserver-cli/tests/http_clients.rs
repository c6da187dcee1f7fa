//! The programs that people have: curl, ab, wrk, Python's requests, PHP, and a browser.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use eserver::http::App;
use eserver::{AllowList, Server as HttpServer};
use support::program::{find, run};
use support::server::{Server, Setup};
use tempfile::TempDir;

/// The length of a file that is sent in pieces.
const LARGE_BYTES: usize = 3 << 20;

/// A page whose script asks for more and writes down what came.
const PAGE: &str = r#"<!doctype html>
<title>page</title>
<link rel="stylesheet" href="style.css">
<p id="outcome">nothing came</p>
<script type="module">
const text = async (path, options) => (await fetch(path, options)).text();
const told = [await text("/hello"), await text("/hello", {method: "POST", body: "x".repeat(100000)})];
const many = await Promise.all(Array.from({length: 20}, (_, n) => text("/static/number?" + n)));
told.push(many.every(one => one === "7"), (await (await fetch("large.bin")).arrayBuffer()).byteLength);
told.push((await fetch("/none")).status, getComputedStyle(document.body).color);
document.getElementById("outcome").textContent = told.join(" ");
</script>
"#;

/// A server with an answer at `/hello` and files at `/static/`.
fn site() -> (Server, TempDir) {
    let directory = tempfile::tempdir().expect("a private directory");
    let write = |name: &str, content: &[u8]| {
        std::fs::write(directory.path().join(name), content).expect("our own directory");
    };
    write("page.html", PAGE.as_bytes());
    write("style.css", b"body { color: rgb(1, 2, 3) }");
    write("number", b"7");
    write("large.bin", &[b'x'; LARGE_BYTES]);
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[[http.respond]]\npath = \"/hello\"\nbody = \"Hello\"\n\
         [[http.files]]\nprefix = \"/static\"\nroot = {:?}\n",
        directory.path()
    );
    (Setup::new().text(text).start(), directory)
}

#[test]
fn curl() {
    let (server, directory) = site();
    let curl = find("curl", "curl");
    let base = format!("http://{}", server.http_address());
    let ask = |arguments: &[&str], path: &str| {
        let url = format!("{base}{path}");
        run(Command::new(&curl).args(["-sS", "--max-time", "60"]).args(arguments).arg(url))
    };
    assert_eq!(ask(&[], "/hello"), "Hello");
    assert_eq!(ask(&["--http1.0"], "/hello"), "Hello");
    assert_eq!(ask(&["-r", "1-3"], "/static/style.css"), "ody");
    assert!(ask(&["-I"], "/hello").starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(ask(&["-L"], "/static/../hello"), "Hello");
    let status = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects}"];
    assert_eq!(ask(&status, "/none"), "404 1");
    let large = directory.path().join("large.bin");
    let upload = format!("@{}", large.display());
    // Longer than what a fixed answer takes, with the go-ahead asked for and without.
    for expect in ["Expect: 100-continue", "Expect:"] {
        let post = ["-H", expect, "--data-binary", &upload];
        assert_eq!(ask(&[&status[..], &post].concat(), "/hello"), "413 1", "{expect}");
    }
    let page = format!("@{}", directory.path().join("page.html").display());
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["-H", "Expect: 100-continue"]] {
        assert_eq!(ask(&[&["--data-binary", &page], more].concat(), "/hello"), "Hello", "{more:?}");
    }
    // Two requests, one connection.
    let twice = format!("{base}/hello");
    assert_eq!(ask(&["-w", " %{num_connects} ", &twice], "/hello"), "Hello 1 Hello 0 ");
}

#[test]
fn apache_bench() {
    let (server, _directory) = site();
    for (options, kept) in [(&[][..], None), (&["-k"], Some(5_000))] {
        for path in ["/hello", "/static/number"] {
            let report = run(Command::new(find("ab", "apache2-utils"))
                .args(["-q", "-s", "60", "-n", "5000", "-c", "100"])
                .args(options)
                .arg(format!("http://{}{path}", server.http_address())));
            let figure = |name: &str| report_figure(&report, name);
            assert_eq!(figure("Complete requests:"), Some(5_000), "{report}");
            assert_eq!(figure("Failed requests:"), Some(0), "{report}");
            assert_eq!(figure("Non-2xx responses:"), None, "{report}");
            assert_eq!(figure("Keep-Alive requests:"), kept, "{report}");
        }
    }
}

/// The comparison that people know: half a second of waiting for each request, as many at once as
/// asked for.
#[test]
fn apache_bench_on_handlers_that_wait() {
    const REQUESTS: u64 = 1_000;
    const AT_ONCE: u64 = 500;
    const WAIT: Duration = Duration::from_millis(500);
    let mut app = App::new();
    app.get_async("/", async |_| {
        tokio::time::sleep(WAIT).await;
        "half a second later"
    });
    let service = app.service().expect("one route");
    let server = HttpServer::new().listen("127.0.0.1:0", AllowList::loopback(), service);
    let running = server.and_then(HttpServer::start).expect("a free port");
    let address = running.addresses().next().expect("one address");
    let began = Instant::now();
    let report = run(Command::new(find("ab", "apache2-utils"))
        .args(["-q", "-s", "60", "-n", &REQUESTS.to_string(), "-c", &AT_ONCE.to_string()])
        .arg(format!("http://{address}/")));
    let took = began.elapsed();
    assert_eq!(report_figure(&report, "Complete requests:"), Some(REQUESTS), "{report}");
    assert_eq!(report_figure(&report, "Failed requests:"), Some(0), "{report}");
    // `ab` makes its first request alone, and then as many at once as it is told to. A machine that
    // is busy with other things is slower, but not as slow as if some had waited for others.
    let rounds = 1 + REQUESTS.div_ceil(AT_ONCE) as u32;
    assert!(took >= WAIT * rounds, "{took:?}: {report}");
    assert!(took < WAIT * rounds * 3, "{took:?}: {report}");
}

/// The number behind `name` in the report of `ab`.
fn report_figure(report: &str, name: &str) -> Option<u64> {
    let line = report.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].trim().parse().ok()
}

#[test]
fn wrk() {
    let (server, _directory) = site();
    for path in ["/hello", "/static/number", "/static/large.bin"] {
        let report = run(Command::new(find("wrk", "wrk"))
            .args(["-t1", "-c50", "-d1s", "--timeout", "60s"])
            .arg(format!("http://{}{path}", server.http_address())));
        for wrong in ["Socket errors", "Non-2xx"] {
            assert!(!report.contains(wrong), "{path}: {report}");
        }
        let done = report.lines().find_map(|line| line.trim().split_once(" requests in "));
        let done: u64 = done.and_then(|(count, _)| count.parse().ok()).expect("a count");
        assert!(done >= 50, "{path}: {report}");
    }
}

#[test]
fn python_requests() {
    let (server, _directory) = site();
    let script = r#"
import sys, requests
base, large = sys.argv[1], int(sys.argv[2])
with requests.Session() as session:
    for _ in range(20):
        answer = session.get(base + "/hello")
        assert (answer.status_code, answer.text) == (200, "Hello"), answer
        assert answer.headers["Content-Type"] == "text/plain; charset=utf-8", answer.headers
    assert session.head(base + "/hello").headers["Content-Length"] == "5"
    assert session.post(base + "/hello", json={"a": [1]}).text == "Hello"
    assert session.post(base + "/hello", data=(b"chunk" for _ in range(9))).text == "Hello"
    assert session.put(base + "/hello", data=b"x" * 2000000).status_code == 413
    assert len(session.get(base + "/static/large.bin").content) == large
    page = session.get(base + "/static", allow_redirects=False)
    assert (page.status_code, page.headers["Location"]) == (301, "/static/"), page.headers
    known = session.get(base + "/static/number").headers["ETag"]
    again = session.get(base + "/static/number", headers={"If-None-Match": known})
    assert (again.status_code, again.text) == (304, ""), again
    assert session.get(base + "/none").status_code == 404
print("done")
"#;
    let base = format!("http://{}", server.http_address());
    let mut command = Command::new(python_with_requests());
    command.args(["-c", script, &base, &LARGE_BYTES.to_string()]);
    assert_eq!(run(&mut command), "done\n");
}

/// The Python that has the library: the first on the path, or the system's own.
fn python_with_requests() -> PathBuf {
    let package = "python3-requests";
    let has_it = |python: &PathBuf| {
        let output = Command::new(python).args(["-c", "import requests"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    [find("python3", package), PathBuf::from("/usr/bin/python3")]
        .into_iter()
        .find(has_it)
        .unwrap_or_else(|| panic!("Python's requests is missing: apt-get install -y {package}"))
}

#[test]
fn php_file_get_contents() {
    let (server, _directory) = site();
    let script = r#"
$base = $argv[1];
$told = [file_get_contents("$base/hello"), $http_response_header[0]];
$post = ['http' => ['method' => 'POST', 'content' => http_build_query(['a' => 'ü']),
    'header' => 'Content-Type: application/x-www-form-urlencoded']];
$told[] = file_get_contents("$base/hello", false, stream_context_create($post));
$newer = stream_context_create(['http' => ['protocol_version' => 1.1, 'ignore_errors' => true]]);
$told[] = file_get_contents("$base/hello", false, $newer);
file_get_contents("$base/none", false, $newer);
$told[] = $http_response_header[0];
$told[] = strlen(file_get_contents("$base/static/large.bin"));
$told[] = file_get_contents("$base/static/number");
echo implode("|", $told);
"#;
    let base = format!("http://{}", server.http_address());
    let printed = run(Command::new(find("php", "php-cli")).args(["-r", script, &base]));
    let expected =
        format!("Hello|HTTP/1.1 200 OK|Hello|Hello|HTTP/1.1 404 Not Found|{LARGE_BYTES}|7");
    assert_eq!(printed, expected);
}

#[test]
fn a_browser() {
    let (server, _directory) = site();
    let profile = tempfile::tempdir().expect("a private directory");
    let shown = dump_page(profile.path(), &format!("http://{}", server.http_address()));
    let expected = format!("Hello Hello true {LARGE_BYTES} 404 rgb(1, 2, 3)");
    assert!(shown.contains(&format!("<p id=\"outcome\">{expected}</p>")), "{shown}");
}

/// The page as the browser has it once its script is done.
fn dump_page(profile: &Path, base: &str) -> String {
    run(Command::new(find("chromium", "chromium"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("{base}/static/page.html")))
}
