//! From a put to a row, exactly once: the server and real databases, killed at random moments; a
//! statement that cannot be applied; a database that is away.

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Client;
use support::database::Database;
use support::server::{Server, Setup, binary};
use support::{eventually, rounds};
use tempfile::TempDir;

/// A server with a drain from the default queue, and all that outlives a `kill -9` of it.
struct Site {
    database: Database,
    directory: TempDir,
    /// What stands below `[[drain]]`, besides queue and url.
    drain: String,
    /// Where it listens, from the first start on.
    address: Option<SocketAddr>,
}

impl Site {
    fn new(database: Database, drain: &str) -> Self {
        let directory = TempDir::new().expect("a private directory");
        Site { database, directory, drain: drain.to_owned(), address: None }
    }

    fn start(&mut self) -> Server {
        let file = self.directory.path().join("eserver.toml");
        let text = format!(
            "[[drain]]\nqueue = \"default\"\nurl = {:?}\n{}\n",
            self.database.url(),
            self.drain
        );
        std::fs::write(&file, text).expect("our own directory");
        let mut setup = Setup::new().config(&file).data_dir(&self.directory.path().join("data"));
        if let Some(address) = self.address {
            setup = setup.set("queue.listen", address);
        }
        let server = setup.start();
        self.address = Some(server.address());
        server
    }

    /// Waits until the table `t` has so many rows.
    fn wait_for_rows(&self, count: u64) {
        let enough = || self.database.number("select count(*) from t") >= count;
        now_and_then(&format!("{count} rows"), || enough().then_some(()));
    }
}

/// [`eventually`], with a pause between two looks that a database can bear.
fn now_and_then<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut next = Instant::now();
    eventually(what, || {
        if Instant::now() < next {
            return None;
        }
        next = Instant::now() + Duration::from_millis(100);
        attempt()
    })
}

fn stats(server: &Server) -> Value {
    server.client().ask_json(8016, &json!({ "queue": "default" })).json()
}

/// Puts one item and returns its id.
fn put(client: &mut Client, item: &Value) -> u64 {
    let reply = client.ask_json(8015, &json!({ "items": [item] })).json();
    reply["ids"][0].as_u64().unwrap_or_else(|| panic!("not an id: {reply}"))
}

/// Clients that each put rows `(client, 1)`, `(client, 2)`, …, whatever happens to the server, and
/// know which of them were promised.
struct Producers {
    threads: Vec<JoinHandle<Vec<u64>>>,
    acked: Arc<AtomicU64>,
}

impl Producers {
    fn start(address: SocketAddr, clients: u64, rows: u64) -> Self {
        let acked = Arc::new(AtomicU64::new(0));
        let threads = (0..clients)
            .map(|client| {
                let acked = Arc::clone(&acked);
                std::thread::spawn(move || produce(address, client, rows, &acked))
            })
            .collect();
        Producers { threads, acked }
    }

    fn wait_for_acks(&self, count: u64) {
        eventually("puts are acknowledged", || {
            (self.acked.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    /// For each client, the rows of which it does not know whether they were stored.
    fn join(self) -> Vec<Vec<u64>> {
        let join = |thread: JoinHandle<Vec<u64>>| thread.join().expect("no panic");
        self.threads.into_iter().map(join).collect()
    }
}

/// Puts until `rows` puts were acknowledged. One that was neither acknowledged nor refused may have
/// been stored: it is not repeated, and remembered.
fn produce(address: SocketAddr, client: u64, rows: u64, total: &AtomicU64) -> Vec<u64> {
    let mut unknown = Vec::new();
    let (mut acked, mut num) = (0, 0);
    let mut connection = None;
    while acked < rows {
        let stream = match &mut connection {
            Some(stream) => stream,
            none => none.insert(eventually("the server accepts again", || {
                Client::try_connect(address).ok()
            })),
        };
        num += 1;
        let item = json!({ "stmt": "add", "params": [client, num], "key": client });
        match stream.try_ask(8015, json!({ "items": [item] }).to_string()) {
            Some(reply) if reply.command == 8015 => {
                acked += 1;
                total.fetch_add(1, Ordering::Relaxed);
            }
            Some(reply) => panic!("a put was refused: {}", reply.json()),
            None => {
                unknown.push(num);
                connection = None;
            }
        }
    }
    unknown
}

/// Who is killed.
#[derive(Clone)]
enum Kill {
    Server,
    Database,
}

/// Many clients, `kill -9` at random moments; in the end each promised row is there, once, and each client's
/// rows in their order.
fn every_statement_once(database: Database) {
    let (clients, rows) =
        (rounds("ESERVER_DRAIN_CLIENTS", 16) as u64, rounds("ESERVER_DRAIN_ROWS", 500) as u64);
    let server_kills = rounds("ESERVER_DRAIN_SERVER_KILLS", 3);
    let database_kills = rounds("ESERVER_DRAIN_DATABASE_KILLS", 2);
    let counter = database.counter();
    database.query(&format!("create table t(at {counter}, client int, num int)"));
    let drain = format!(
        "batch_max = 200\nlanes = {}\n[drain.statements]\n\
         add = \"insert into t(client, num) values (?, ?)\"",
        database.lanes_max()
    );
    let mut site = Site::new(database, &drain);
    let mut server = site.start();
    let producers = Producers::start(server.address(), clients, rows);
    let mut kills = vec![Kill::Server; server_kills];
    kills.resize(server_kills + database_kills, Kill::Database);
    fastrand::shuffle(&mut kills);
    for (at, kill) in kills.iter().enumerate() {
        // Spread over the whole load.
        producers.wait_for_acks(clients * rows * (at as u64 + 1) / (kills.len() as u64 + 1));
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
        match kill {
            Kill::Server => {
                server.kill();
                server = site.start();
            }
            Kill::Database => {
                site.database.kill();
                std::thread::sleep(Duration::from_millis(fastrand::u64(0..100)));
                site.database.restart();
            }
        }
    }
    let unknown = producers.join();
    eventually("the queue is empty", || (server.client().length() == 0).then_some(()));
    let buried = stats(&server)["buried"].as_u64();
    assert_eq!(buried, Some(0), "nothing is wrong with any statement: {}", stats(&server));

    let mut seen = vec![Vec::new(); clients as usize];
    for row in site.database.query("select client, num from t order by at") {
        let [client, num] = [0, 1].map(|at: usize| row[at].parse::<u64>().expect("a number"));
        seen[client as usize].push(num);
    }
    for (client, (nums, unknown)) in seen.iter().zip(&unknown).enumerate() {
        assert!(nums.is_sorted(), "the rows of client {client} are in order: {nums:?}");
        assert!(nums.windows(2).all(|pair| pair[0] < pair[1]), "no row of {client} comes twice");
        let promised = (1..=rows + unknown.len() as u64).filter(|num| !unknown.contains(num));
        let missing: Vec<_> = promised.filter(|num| nums.binary_search(num).is_err()).collect();
        assert!(missing.is_empty(), "rows of client {client} are missing: {missing:?}");
    }
    server.stop();
}

#[test]
fn every_statement_once_into_sqlite() {
    every_statement_once(Database::sqlite());
}

#[test]
fn every_statement_once_into_postgres() {
    every_statement_once(Database::postgres());
}

#[test]
fn every_statement_once_into_mariadb() {
    every_statement_once(Database::mariadb());
}

/// `eserver queue …` against the server.
fn command(server: &Server, words: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.args(["queue", "--addr", &server.address().to_string()]).args(words);
    support::program::run(&mut command)
}

/// One in 10,000 breaks a constraint: it alone is set aside, with the database's words, and can be
/// given another chance when the trouble is over.
fn one_bad_statement_is_set_aside(database: Database, words: &str) {
    const MESSAGES: u64 = 10_000;
    const BAD: u64 = 4_321;
    database.query("create table t(num int primary key)");
    database.query(&format!("insert into t(num) values ({BAD})"));
    let mut site = Site::new(
        database,
        "batch_max = 1000\n[drain.statements]\nadd = \"insert into t(num) values (?)\"",
    );
    let mut server = site.start();
    let mut client = server.client();
    for from in (1..=MESSAGES).step_by(1000) {
        let items: Vec<_> =
            (from..from + 1000).map(|num| json!({ "stmt": "add", "params": [num] })).collect();
        let reply = client.ask_json(8015, &json!({ "items": items })).json();
        assert_eq!(reply["ids"].as_array().map(Vec::len), Some(1000), "{reply}");
    }
    site.wait_for_rows(MESSAGES); // 9,999, and the one that was there
    eventually("one is buried", || (stats(&server)["buried"] == 1).then_some(()));
    assert_eq!(server.client().length(), 0, "those behind it went on");
    let drain = stats(&server)["drain"].clone();
    assert_eq!(drain["applied"], MESSAGES - 1, "{drain}");
    assert_eq!(drain["retried"], 0, "none of those behind it waited for another try: {drain}");

    let buried = command(&server, &["buried"]);
    assert!(buried.contains(words) && buried.contains(&BAD.to_string()), "{buried}");
    // It outlives the server, and comes back when somebody wants it to.
    server.kill();
    server = site.start();
    site.database.query(&format!("delete from t where num = {BAD}"));
    command(&server, &["kick", &BAD.to_string()]);
    site.wait_for_rows(MESSAGES);
    eventually("nothing is left", || (stats(&server)["buried"] == 0).then_some(()));

    // Again it is in the way; this time it is dropped.
    put(&mut server.client(), &json!({ "stmt": "add", "params": [BAD] }));
    eventually("one is buried again", || (stats(&server)["buried"] == 1).then_some(()));
    command(&server, &["drop", "--all"]);
    assert_eq!(stats(&server)["buried"], 0);
    server.stop();
}

#[test]
fn one_bad_statement_is_set_aside_from_sqlite() {
    one_bad_statement_is_set_aside(Database::sqlite(), "UNIQUE constraint failed");
}

#[test]
fn one_bad_statement_is_set_aside_from_postgres() {
    one_bad_statement_is_set_aside(Database::postgres(), "duplicate key value");
}

#[test]
fn one_bad_statement_is_set_aside_from_mariadb() {
    one_bad_statement_is_set_aside(Database::mariadb(), "Duplicate entry");
}

/// `eserver check --connect` with a drain into this url; its exit code and what it says.
fn check(url: &str, drain: &str) -> (Option<i32>, String) {
    let directory = TempDir::new().expect("a private directory");
    let file = directory.path().join("eserver.toml");
    let text = format!("[[drain]]\nurl = {url:?}\n{drain}\n");
    std::fs::write(&file, text).expect("our own directory");
    let mut command = Command::new(binary());
    let output = command.args(["check", "--connect", "--config"]).arg(&file).output();
    let output = output.expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("UTF-8"))
}

/// What is wrong with a server's database is said beforehand, with the line that it is about.
fn a_check_says_what_would_not_work(database: &Database) {
    const ADD: &str = "[drain.statements]\nadd = \"insert into t(num) values (?)\"";
    database.query("create table t(num int)");
    let url = database.url();
    let (code, said) = check(&url, ADD);
    assert!(code == Some(0) && said.contains("1 statement in order"), "{said}");
    // The password is the user's name.
    let (user, place) = url.split_once('@').expect("a user, and where");
    let (scheme, user) = user.split_once("://").expect("a scheme");
    let (user, password) = user.split_once(':').expect("a name and a password");
    for (given, expected) in [(password, 0), ("wr0ng", 69)] {
        let secret = TempDir::new().expect("a private directory");
        let file = secret.path().join("password");
        std::fs::write(&file, format!("{given}\n")).expect("our own directory");
        let drain = format!("password_file = {:?}\n{ADD}", file.display().to_string());
        let (code, said) = check(&format!("{scheme}://{user}@{place}"), &drain);
        assert_eq!(code, Some(expected), "{said}");
        assert!(expected == 0 || said.contains("eserver.toml:2:7"), "{said}");
        assert!(!said.contains("wr0ng"), "{said}");
    }
    let nowhere = url.replace("/app", "/nowhere");
    let (code, said) = check(&nowhere, ADD);
    assert!(code == Some(69) && said.contains("eserver.toml:2:7"), "{said}");
    assert!(said.contains("nowhere"), "in the database's words: {said}");
    for lost in ["insert into lost(num) values (?)", "insert into t(lost) values (?)"] {
        let (code, said) = check(&url, &format!("{ADD}\nlost = \"{lost}\""));
        assert!(code == Some(78) && said.contains("eserver.toml:5:8"), "{said}");
        assert!(said.contains("the database refuses the statement `lost`"), "{said}");
    }
}

#[test]
fn a_check_says_what_would_not_work_on_postgres() {
    a_check_says_what_would_not_work(&Database::postgres());
}

#[test]
fn a_check_says_what_would_not_work_on_mariadb() {
    a_check_says_what_would_not_work(&Database::mariadb());
}

fn a_database_that_is_away_costs_nothing_but_waiting(database: Database, called: &str) {
    database.query("create table t(num int)");
    let mut site =
        Site::new(database, "[drain.statements]\nadd = \"insert into t(num) values (?)\"");
    let mut server = site.start();
    let mut client = server.client();
    put(&mut client, &json!({ "stmt": "add", "params": [1] }));
    site.wait_for_rows(1);

    site.database.kill();
    for num in 2..=500 {
        put(&mut client, &json!({ "stmt": "add", "params": [num] }));
    }
    let waits = |server: &Server| {
        let state = stats(server)["drain"]["state"].as_str().map(str::to_owned);
        state.filter(|state| state.starts_with(&format!("waiting for {called}")))
    };
    eventually("the statistics say what is waited for", || waits(&server));
    // Long enough for the back-off to have reached its longest wait nearly.
    std::thread::sleep(Duration::from_secs(3));
    let (before, began) = (server.processor_time(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let share = (server.processor_time() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share <= 0.02, "a drain that waits costs {:.1} % of a core", share * 100.0);
    let said = server.stderr().matches("cannot use its database").count();
    assert_eq!(said, 1, "it says so once: {}", server.stderr());

    site.database.restart();
    site.wait_for_rows(500);
    assert_eq!(site.database.number("select count(distinct num) from t"), 500);
    eventually("it is running again", || {
        (stats(&server)["drain"]["state"] == "running").then_some(())
    });
    server.stop();
}

#[test]
fn postgres_that_is_away_costs_nothing_but_waiting() {
    a_database_that_is_away_costs_nothing_but_waiting(Database::postgres(), "PostgreSQL");
}

#[test]
fn mariadb_that_is_away_costs_nothing_but_waiting() {
    a_database_that_is_away_costs_nothing_but_waiting(Database::mariadb(), "MySQL");
}

#[test]
fn a_database_that_comes_late_is_waited_for() {
    let mut database = Database::postgres();
    database.query("create table t(num int)");
    database.kill();
    let mut site =
        Site::new(database, "[drain.statements]\nadd = \"insert into t(num) values (?)\"");
    let mut server = site.start();
    let state = |server: &Server| stats(server)["drain"]["state"].as_str().map(str::to_owned);
    eventually("it waits", || state(&server).filter(|state| state.starts_with("waiting")));
    site.database.restart();
    // Also when there is nothing to do that would show it.
    eventually("it is running", || state(&server).filter(|state| state == "running"));
    server.stop();
}

#[test]
fn a_data_directory_that_is_older_than_the_database_is_noticed() {
    let database = Database::sqlite();
    database.query("create table t(num int)");
    let mut site =
        Site::new(database, "[drain.statements]\nadd = \"insert into t(num) values (?)\"");
    let (data, backup) = (site.directory.path().join("data"), site.directory.path().join("backup"));
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        support::program::run(Command::new("cp").arg("-r").arg(from).arg(to));
    };
    for num in 1..=2 {
        let mut server = site.start();
        put(&mut server.client(), &json!({ "stmt": "add", "params": [num] }));
        site.wait_for_rows(num);
        server.stop();
        if num == 1 {
            copy(&data, &backup);
        }
    }
    std::fs::remove_dir_all(&data).expect("our own directory");
    copy(&backup, &data);

    let mut server = site.start();
    put(&mut server.client(), &json!({ "stmt": "add", "params": [3] }));
    eventually("it says what is wrong", || {
        let stats = stats(&server);
        stats["drain"]["state"].as_str()?.contains("older than the database").then_some(())
    });
    // Message 2 comes a second time, with another content: it is neither applied nor forgotten.
    assert_eq!(server.client().length(), 1);
    assert_eq!(site.database.number("select count(*) from t"), 2);
    server.stop();
}

#[test]
fn a_message_of_the_wrong_shape_is_refused_at_the_put() {
    let database = Database::sqlite();
    database.query("create table t(num int)");
    let mut site =
        Site::new(database, "[drain.statements]\nadd = \"insert into t(num) values (?)\"");
    let mut server = site.start();
    let mut client = server.client();
    let cases = [
        (json!({ "stmt": "ad", "params": [1] }), "ad"),
        (json!({ "stmt": "add", "params": [1, 2] }), "param"),
        (json!({ "stmt": "add", "params": 1 }), "params"),
        (json!({ "stmt": "add", "param": [1] }), "param"),
        (json!({ "sql": "insert into t values (1)" }), "raw_sql"),
        (json!("insert into t values (1)"), "raw_sql"),
        (json!(17), "object"),
    ];
    for (item, expected) in cases {
        let reply = client.ask_json(8015, &json!({ "items": [item] }));
        assert_eq!(reply.command, 0, "{item}");
        assert!(reply.error().contains(expected), "{item}: {}", reply.error());
    }
    let reply = client.ask_json(8001, &json!({ "sql": "insert into t(num) values (%d)" }));
    assert!(reply.command == 0 && reply.error().contains("raw_sql"), "{}", reply.error());
    assert_eq!(client.length(), 0, "nothing of it was stored");
    put(&mut client, &json!({ "stmt": "add", "params": [1] }));
    site.wait_for_rows(1);
    server.stop();
}

#[test]
fn what_became_of_a_message_is_told_to_who_listens() {
    let database = Database::sqlite();
    database.query("create table t(num int not null)");
    let mut site = Site::new(
        database,
        "[drain.statements]\nadd = \"insert into t(num) values (?)\"\n\
         all = \"update t set num = num + ?\"",
    );
    let mut server = site.start();
    let mut client = server.client();
    let now = server.client().ask_json(8020, &json!({ "wait_ms": 0 })).json();
    let cursor = now["cursor"].clone();
    let mut put = |stmt: &str, param: Value, channel: Option<&str>| {
        put(&mut client, &json!({ "stmt": stmt, "params": [param], "notify": channel }))
    };
    let first = put("add", json!(1), Some("jobs"));
    put("add", json!(2), None);
    let both = put("all", json!(10), Some("jobs"));
    let bad = put("add", Value::Null, Some("jobs"));
    let mut events = Vec::new();
    let mut after = cursor;
    while events.len() < 3 {
        let asked = json!({ "channel": "jobs", "after": after, "wait_ms": 30_000 });
        let reply = server.client().ask_json(8020, &asked).json();
        events.extend(reply["events"].as_array().expect("a list").iter().cloned());
        after = reply["cursor"].clone();
    }
    let told = |id: u64| {
        let event = events.iter().find(|event| event["event"]["id"] == id);
        event.unwrap_or_else(|| panic!("nothing about {id}: {events:?}"))["event"].clone()
    };
    assert_eq!(told(first)["rows"], 1);
    assert_eq!((told(both)["ok"].clone(), told(both)["rows"].clone()), (json!(true), json!(2)));
    assert_eq!(told(bad)["ok"], false);
    assert!(
        told(bad)["error"].as_str().is_some_and(|text| text.contains("NOT NULL")),
        "{events:?}"
    );
    server.stop();
}

#[test]
fn raw_statements_are_applied_as_they_stand() {
    for database in [Database::sqlite(), Database::postgres(), Database::mariadb()] {
        database.query("create table t(num int, name text)");
        let mut site = Site::new(database, "raw_sql = true");
        let mut server = site.start();
        server.wait_to_say("raw SQL");
        let mut client = server.client();
        for _ in 0..50 {
            client.put("insert into t(num, name) values (%d, 'it''s')");
        }
        let body =
            json!({ "sql": "insert into t(num, name) values (?, ?)", "params": [51, "'; --"] });
        assert_eq!(client.ask_json(8001, &body).command, 8001);
        client.put("update t set name = 'all' where num > 10");
        site.wait_for_rows(51);
        eventually("the queue is empty", || (client.length() == 0).then_some(()));
        assert_eq!(site.database.number("select sum(num) from t"), 51 * 52 / 2);
        assert_eq!(site.database.number("select count(*) from t where name = 'all'"), 41);
        assert_eq!(site.database.number("select count(*) from t where name = 'it''s'"), 10);
        let bad =
            client.ask_json(8001, &json!({ "sql": "insert into t values (1, 'x'); drop table t" }));
        assert!(bad.command == 0 && bad.error().contains("one statement"), "{}", bad.error());
        server.stop();
    }
}
