//! The old PHP client, unchanged: alone, and as a web page behind nginx and php-fpm under load.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use support::database::Database;
use support::program::{Background, find, find_versioned, require_root, run};
use support::server::{Server, Setup};
use support::{eventually, load};
use tempfile::TempDir;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/php").join(name)
}

#[test]
fn the_client_works_alone() {
    let server = Server::start();
    let printed = run(Command::new(find("php", "php-cli"))
        .arg(script("alone.php"))
        .arg(server.address().to_string()));
    let expected = [
        "[8003,0]",
        r#"[8001,{"msg":"success"}]"#,
        r#"[8001,{"msg":"success"}]"#,
        "[8003,2]",
        r#"[8002,"insert into t(num) values (1)"]"#,
        r#"[8002,"insert into t(name) values ('李')"]"#,
        r#"[0,{"msg":"error"}]"#,
        r#"[8001,{"msg":"success7"}]"#,
        "[8003,1]",
        r#"[8002,{"i":7,"row":{"a":1}}]"#,
        r#"[4002,{"msg":"queue is empty"}]"#,
        r#"[4001,{"msg":"queue type error"}]"#,
        r#"[0,{"error":"cmd not defined"}]"#,
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_web_page_enqueues_under_load() {
    absorb_page_loads(4_000, 1_000);
}

#[test]
#[ignore = "minutes of load: cargo xtask soak php"]
fn a_web_page_enqueues_under_long_load() {
    absorb_page_loads(20_000, 1_000);
}

#[test]
#[ignore = "minutes of load: cargo xtask soak php"]
fn a_web_page_enqueues_for_ten_thousand_at_once() {
    require_root("a network namespace with longer accept queues");
    // A thread of its own enters the namespace, and takes along all it starts. php-fpm's accept
    // queue holds net.core.somaxconn connections, too few by default for 10,000 at once.
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
        run(Command::new(find("ip", "iproute2")).args(["link", "set", "lo", "up"]));
        for (key, value) in [
            ("core/somaxconn", "65535"),
            ("ipv4/tcp_max_syn_backlog", "65535"),
            ("ipv4/ip_local_port_range", "1024 65535"),
        ] {
            std::fs::write(format!("/proc/sys/net/{key}"), value)
                .unwrap_or_else(|error| panic!("set {key}: {error}"));
        }
        absorb_page_loads(20_000, 10_000);
    })
    .join()
    .expect("the load was absorbed");
}

#[test]
fn a_web_page_s_statements_become_rows() {
    const REQUESTS: u64 = 4_000;
    let database = Database::mariadb();
    database.query("create table t(num bigint)");
    let directory = TempDir::new().expect("a private directory");
    let config = directory.path().join("eserver.toml");
    let url = database.url();
    let text = format!("[[drain]]\nqueue = \"default\"\nurl = {url:?}\nraw_sql = true\n");
    std::fs::write(&config, text).expect("our own directory");
    let mut server = Setup::new().config(&config).start();
    load_page(&server, REQUESTS, 1_000);
    eventually("every statement is a row", || {
        let rows = database.number("select count(*) from t");
        assert!(rows <= REQUESTS, "{rows} rows of {REQUESTS} answered requests");
        (rows == REQUESTS).then_some(())
    });
    let numbers = database.query("select num from t order by num");
    let expected = (1..=REQUESTS).map(|number| vec![number.to_string()]);
    assert!(numbers.into_iter().eq(expected), "each number once");
    server.stop();
}

/// Loads the page `requests` times, `at_once` at a time: none fails, each stored exactly once.
fn absorb_page_loads(requests: u64, at_once: u64) {
    let server = Setup::new().set("limits.connections_per_address_max", 20_000).start();
    load_page(&server, requests, at_once);
    let mut numbers: Vec<u64> = load::drain(server.address())
        .iter()
        .map(|sql| {
            sql.strip_prefix("insert into t(num) values (")
                .and_then(|rest| rest.strip_suffix(")"))
                .and_then(|number| number.parse().ok())
                .unwrap_or_else(|| panic!("not what the page stores: {sql}"))
        })
        .collect();
    assert_eq!(numbers.len() as u64, requests, "as many stored as answered");
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=requests), "each number once");
}

/// Loads the page through nginx and php-fpm; no request fails.
fn load_page(server: &Server, requests: u64, at_once: u64) {
    let mut site = Site::start(server.address());
    let report = run(Command::new(find("ab", "apache2-utils"))
        .args(["-q", "-s", "120"])
        .args(["-n", &requests.to_string(), "-c", &at_once.to_string()])
        .arg(format!("http://{}/", site.address)));
    site.check();
    let figure = |name: &str| report_figure(&report, name);
    assert_eq!(figure("Complete requests:"), Some(requests), "{report}");
    assert_eq!(figure("Failed requests:"), Some(0), "{report}");
    assert_eq!(figure("Non-2xx responses:"), None, "{report}");
}

/// The number behind `name` in the report of `ab`.
fn report_figure(report: &str, name: &str) -> Option<u64> {
    let line = report.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].trim().parse().ok()
}

/// nginx with 8 workers in front of php-fpm with 12 children, each in the foreground.
struct Site {
    address: SocketAddr,
    nginx: Background,
    fpm: Background,
    _directory: TempDir,
}

impl Site {
    fn start(eserver: SocketAddr) -> Self {
        let directory = TempDir::new().expect("a private directory");
        // The workers run as somebody else when this runs as root.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))
            .expect("our own directory");
        let pages = directory.path().join("pages");
        std::fs::create_dir(&pages).expect("a new directory");
        for page in ["client.php", "enqueue.php"] {
            std::fs::copy(script(page), pages.join(page)).expect("the page is readable");
        }
        let address = free_address();
        let fpm = start_fpm(directory.path());
        let nginx = start_nginx(directory.path(), address, eserver);
        let mut site = Self { address, nginx, fpm, _directory: directory };
        eventually("nginx and php-fpm listen", || {
            site.check();
            let socket = site._directory.path().join("fpm.socket");
            (socket.exists() && TcpStream::connect(address).is_ok()).then_some(())
        });
        site
    }

    /// Fails the test when a program of the site is gone.
    fn check(&mut self) {
        self.fpm.assert_running();
        self.nginx.assert_running();
    }
}

fn start_fpm(directory: &Path) -> Background {
    let shown = directory.display();
    let file = directory.join("fpm.conf");
    let text = format!(
        "[global]\n\
         error_log = /dev/stderr\n\
         daemonize = no\n\
         [www]\n\
         user = nobody\n\
         group = nogroup\n\
         listen = {shown}/fpm.socket\n\
         listen.mode = 0666\n\
         listen.backlog = 65535\n\
         pm = static\n\
         pm.max_children = 12\n\
         catch_workers_output = yes\n"
    );
    std::fs::write(&file, text).expect("our own directory");
    Background::start(
        Command::new(find_versioned("php-fpm", "php-fpm"))
            .arg("--nodaemonize")
            .arg("--fpm-config")
            .arg(file),
    )
}

fn start_nginx(directory: &Path, address: SocketAddr, eserver: SocketAddr) -> Background {
    let shown = directory.display();
    let file = directory.join("nginx.conf");
    let text = format!(
        "daemon off;\n\
         worker_processes 8;\n\
         worker_rlimit_nofile 20000;\n\
         pid {shown}/nginx.pid;\n\
         error_log stderr error;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {shown}/body;\n\
           proxy_temp_path {shown}/proxy;\n\
           fastcgi_temp_path {shown}/fastcgi;\n\
           uwsgi_temp_path {shown}/uwsgi;\n\
           scgi_temp_path {shown}/scgi;\n\
           server {{\n\
             listen {address} backlog=65535;\n\
             location / {{\n\
               fastcgi_pass unix:{shown}/fpm.socket;\n\
               fastcgi_read_timeout 120s;\n\
               fastcgi_param SCRIPT_FILENAME {shown}/pages/enqueue.php;\n\
               fastcgi_param REQUEST_METHOD $request_method;\n\
               fastcgi_param ESERVER_ADDRESS {eserver};\n\
             }}\n\
           }}\n\
         }}\n"
    );
    std::fs::write(&file, text).expect("our own directory");
    Background::start(
        Command::new(find("nginx", "nginx"))
            .arg("-c")
            .arg(file)
            .args(["-e", "stderr", "-p"])
            .arg(directory),
    )
}

/// A port that was free a moment ago; nginx cannot say which one it took.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
