//! `[[drain]]`: tables that repeat, whose parts must go together.

use super::*;

/// The drain that nothing is wrong with.
const GOOD: &str = "[[drain]]\nurl = \"sqlite:app.db\"\n\
                    [drain.statements]\nadd_num = \"insert into t(num) values (?)\"\n";

/// A file, and what must be said about it, in this order: the title, the place, what the caret points
/// at, and the label. Nothing else may be said.
#[track_caller]
pub(super) fn check_errors(case: &Case<'_>, errors: &[(&str, &str, &str, &str)]) {
    let problems = case.load().map(|loaded| loaded.config).unwrap_err();
    let shown: Vec<&str> =
        problems.split("\n\n").filter(|one| one.starts_with("error: ")).collect();
    assert_eq!(shown.len(), errors.len(), "{problems}");
    for (shown, (title, place, pointed_at, label)) in shown.into_iter().zip(errors) {
        assert!(shown.starts_with(&format!("error: {title}")), "{title}\n{problems}");
        assert!(shown.contains(&format!("--> {place}:")), "{place}\n{problems}");
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines.iter().position(|line| line.contains('^')).expect("a caret");
        let (start, end) = (lines[caret].find('^'), lines[caret].rfind('^'));
        let above: String = lines[caret - 1]
            .chars()
            .skip(start.unwrap())
            .take(end.unwrap() + 1 - start.unwrap())
            .collect();
        assert_eq!(&above, pointed_at, "{problems}");
        assert!(lines[caret].contains(&format!("^ {label}")), "{label}\n{problems}");
    }
}

#[track_caller]
pub(super) fn check_error(text: &str, title: &str, line: usize, pointed_at: &str, label: &str) {
    let place = format!("eserver.toml:{line}");
    check_errors(&file(text), &[(title, &place, pointed_at, label)]);
}

#[test]
fn every_key_of_a_drain_can_be_given() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let password = path("password", "se cret\r\nmore\n");
    let url = path("url", "mysql://app@db/app\n");
    let text = format!(
        r#"
[[drain]]
queue = "sql"
url = "postgres://app@db:5433/app"
password_file = "{password}"
batch_max = 100_000
linger_ms = 0
lanes = 64
raw_sql = true
retries_max = 0
[[drain]]
url_file = "{url}"
[drain.statements]
b_2 = "insert into b(n) values (?)"
a = '''
insert into a(n)
values (?)'''
"#
    );
    let loaded = file(&text).good();
    assert!(loaded.notes.is_empty(), "{}", loaded.notes);
    let [first, second] = loaded.config.drains.as_slice() else {
        panic!("{:?}", loaded.config.drains);
    };
    assert_eq!((first.queue.as_str(), first.batch_max, first.lanes), ("sql", 100_000, 64));
    assert_eq!((first.linger, first.retries_max, first.raw_sql), (Duration::ZERO, 0, true));
    assert!(first.statements.is_empty());
    assert_eq!(first.target.engine(), eserver_queue_sql::Engine::Postgres);
    assert!(first.target.describe().contains("db:5433/app"), "{}", first.target.describe());
    assert_eq!((second.queue.as_str(), second.batch_max, second.lanes), ("default", 1000, 1));
    assert_eq!((second.linger, second.retries_max), (Duration::from_millis(5), 5));
    assert!(!second.raw_sql);
    assert_eq!(second.target.engine(), eserver_queue_sql::Engine::MySql);
    let statement = |name: &str, sql: &str| (name.to_owned(), sql.to_owned());
    let expected = [
        statement("a", "insert into a(n)\nvalues (?)"),
        statement("b_2", "insert into b(n) values (?)"),
    ];
    assert_eq!(second.statements, expected);
    let settings = second.settings();
    assert_eq!((settings.queue.as_str(), settings.batch_max), ("default", 1000));
    assert_eq!(settings.statements, expected);
    assert!(!format!("{loaded:?}").contains("se cret"), "{loaded:?}");
}

#[test]
fn the_environment_lies_over_the_file_and_goes_on_behind_it() {
    let case = Case {
        file: &format!("[queue]\nnames = [\"a\", \"b\"]\n{GOOD}"),
        environment: &[
            ("ESERVER__DRAIN__0__LANES", "1"),
            ("ESERVER__DRAIN__0__STATEMENTS__ADD_NUM", "insert into u(num) values (?)"),
            ("ESERVER__DRAIN__0__STATEMENTS__A__B", "\"insert into v(num) values (?)\""),
            ("ESERVER__DRAIN__1__QUEUE", "b"),
            ("ESERVER__DRAIN__1__RAW_SQL", "true"),
            ("ESERVER__DRAIN__1__URL", "mysql://app@db/app"),
        ],
        set: &["drain.1.linger_ms=7", "drain.1.linger_ms=8"],
        data_dir: None,
    };
    let loaded = case.good();
    let [first, second] = loaded.config.drains.as_slice() else {
        panic!("{:?}", loaded.config.drains);
    };
    let names: Vec<&str> = first.statements.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a__b", "add_num"]);
    assert_eq!(first.statements[1].1, "insert into u(num) values (?)");
    assert_eq!((second.queue.as_str(), second.raw_sql), ("b", true));
    assert_eq!(second.linger, Duration::from_millis(8));
    let printed = loaded.settings.to_toml(false);
    for (start, end) in [
        ("lanes = 1 ", "# environment ESERVER__DRAIN__0__LANES"),
        ("url = \"sqlite:app.db\" ", "eserver.toml:4"),
        ("linger_ms = 8 ", "# --set"),
        ("linger_ms = 5 ", "# default"),
    ] {
        let is_it = |line: &&str| line.starts_with(start) && line.ends_with(end);
        assert_eq!(printed.lines().filter(is_it).count(), 1, "{start}\n{printed}");
    }
}

#[test]
fn more_than_ten_drains_keep_their_order() {
    let names: Vec<String> = (0..12).map(|number| format!("q{number}")).collect();
    let names_set = format!("queue.names={}", names.join(","));
    let variables: Vec<(String, String)> = (0..12)
        .flat_map(|number| {
            let variable = |key: &str| format!("ESERVER__DRAIN__{number}__{key}");
            [
                (variable("QUEUE"), names[number].clone()),
                (variable("URL"), format!("sqlite:{number}.db")),
                (variable("RAW_SQL"), "true".to_owned()),
            ]
        })
        .collect();
    let environment: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let case = Case { environment: &environment, set: &[&names_set], ..Case::default() };
    let queues: Vec<String> =
        case.good().config.drains.into_iter().map(|drain| drain.queue).collect();
    assert_eq!(queues, names);
}

#[test]
fn one_mistake_in_a_drain_is_one_error() {
    let drain = |line: &str| format!("{GOOD}[[drain]]\nqueue = \"sql\"\nraw_sql = true\n{line}\n");
    for (line, title, pointed_at, label) in [
        ("ulr = \"sqlite:a\"", "unknown key `drain.ulr`", "ulr", "did you mean `url`?"),
        ("listen = 1", "unknown key `drain.listen`", "listen", "`listen` belongs in [queue]"),
        ("url = 5", "`drain.url` cannot be a number", "5", "expected a URL in quotes, such as"),
        ("url = \"\"", "`drain.url` is empty", "\"\"", "expected a URL"),
        ("url = sqlite:app.db", "not valid TOML", "sqlite:app.db", "a text needs quotes"),
        ("url.a = 1", "`drain.url` cannot be a table", "url", "expected a URL"),
        ("url = \"oracle://db\"", "`drain.url` does not lead to a database", "\"oracle://db\"", ""),
        (
            "url = \"mysql://a:***@db/app\"",
            "`drain.url` was printed without its password",
            "\"mysql://a:***@db/app\"",
            "*** stands in the place of a password",
        ),
        (
            "url_file = \"/nowhere/url\"",
            "the file of `drain.url_file` cannot be used",
            "\"/nowhere/url\"",
            "No such file or directory",
        ),
        (
            "url = \"mysql://a@db/app\"\npassword_file = \"/nowhere/password\"",
            "the file of `drain.password_file` cannot be used",
            "\"/nowhere/password\"",
            "No such file or directory",
        ),
        (
            "url = \"sqlite:a\"\nbatch_max = 0",
            "`drain.batch_max` is out of range",
            "0",
            "expected a whole number from 1 to 100_000",
        ),
        (
            "url = \"sqlite:a\"\nlanes = 2",
            "`drain.lanes` must be 1 for SQLite",
            "2",
            "a SQLite database has one writer",
        ),
        (
            "url = \"sqlite:a\"\nretries_max = true",
            "`drain.retries_max` cannot be true or false",
            "true",
            "expected a whole number",
        ),
        (
            "url = \"sqlite:a\"\nstatements = \"insert\"",
            "`drain.statements` is a section, not a value",
            "statements",
            "write [drain.statements]",
        ),
        (
            "url = \"sqlite:a\"\nstatements.a = 1",
            "`drain.statements` cannot be a number",
            "1",
            "expected an SQL statement",
        ),
        (
            "url = \"sqlite:a\"\nstatements.A-1 = \"insert into t values (1)\"",
            "`drain.statements` cannot have the name \"A-1\"",
            "A-1",
            "a name is made of",
        ),
        (
            "url = \"sqlite:a\"\nstatements.a = \"drop table t\"",
            "the statement `a` cannot be used",
            "\"drop table t\"",
            "",
        ),
    ] {
        let last = drain(line).lines().count();
        check_error(&drain(line), title, last, pointed_at, label);
    }
    let twice = "url = \"sqlite:a\"\nurl_file = \"/nowhere/url\"";
    let title = "`drain.url` and `drain.url_file` are both given";
    let place = "the url stands at eserver.toml:8 already";
    let problems = file(&drain(twice)).load().map(|loaded| loaded.config).unwrap_err();
    assert!(problems.starts_with(&format!("error: {title}")), "{problems}");
    assert!(problems.contains("eserver.toml:8 already"), "{place}\n{problems}");
    check_error(
        &drain(""),
        "the drain of the queue \"sql\" has no database",
        5,
        "[[drain]]",
        "`url` is missing",
    );
}

#[test]
fn a_queue_has_one_drain_and_must_exist() {
    let drain = "[[drain]]\nraw_sql = true\nurl = \"sqlite:a\"\n";
    let (there, slip) = (format!("{drain}queue = \"imgs\"\n"), "did you mean \"img\"?");
    let title = "`drain.queue` is \"imgs\", and there is no such queue";
    check_error(&there, title, 4, "\"imgs\"", slip);
    let other = format!("{drain}queue = \"mail\"\n");
    let title = "`drain.queue` is \"mail\", and there is no such queue";
    check_error(&other, title, 4, "\"mail\"", "not in queue.names");
    let no_name = format!("{drain}queue = \"a/b\"\n");
    check_error(
        &no_name,
        "`drain.queue` is a name that no queue can have",
        4,
        "\"a/b\"",
        "a queue",
    );
    let configured = format!("[queue]\nnames = [\"mail\"]\n{other}");
    assert_eq!(file(&configured).good().config.drains[0].queue, "mail");

    let title = "two drains work off the queue \"default\"";
    let twice = format!("{drain}{drain}");
    let problems = file(&twice).load().map(|loaded| loaded.config).unwrap_err();
    assert!(problems.contains("eserver.toml:1 does so already"), "{problems}");
    assert!(problems.starts_with(&format!("error: {title}")), "{problems}");
    check_error(&twice, title, 4, "[[drain]]", "the [[drain]] of ");
    // What the queues are is not known here, so nothing is said about it.
    let unknown = format!("[queue]\nnames = [\"mail\", 5]\n{other}");
    check_error(&unknown, "`queue.names` cannot be a number", 2, "5", "expected a list");
}

#[test]
fn a_drain_that_nothing_can_use_is_refused() {
    check_error(
        "[[drain]]\nurl = \"sqlite:a\"\n",
        "no message could ever be put into the queue \"default\"",
        1,
        "[[drain]]",
        "this drain has no statements, and allows no other SQL",
    );
    check_error(
        "[[drain]]\nurl = \"sqlite:a\"\n[drain.statements]\n",
        "no message could ever be put into the queue \"default\"",
        1,
        "[[drain]]",
        "this drain has no statements",
    );
}

#[test]
fn all_mistakes_of_all_drains_come_at_once() {
    let case = Case {
        file: "[[drain]]\nurl = \"sqlite:a\"\nlanes = 0\n[drain.statements]\na = \"begin\"\n\
               [[drain]]\nqueue = \"mail\"\nraw_sql = \"true\"\nurl = \"x://y\"\n\
               [[drain]]\nraw_sql = true\n",
        environment: &[
            ("ESERVER__DRAIN__0__ULR", "sqlite:b"),
            ("ESERVER__DRAIN__9__URL", "sqlite:b"),
            ("ESERVER__DRAIN__URL", "sqlite:b"),
            ("ESERVER__DRAIN__1__STATEMENTS__", "insert into t values (1)"),
        ],
        set: &["drain.1.lanes=x", "drain=1"],
        data_dir: None,
    };
    check_errors(
        &case,
        &[
            ("`drain.lanes` is out of range", "eserver.toml:3", "0", "expected a whole number"),
            ("the statement `a` cannot be used", "eserver.toml:5", "\"begin\"", ""),
            ("`drain.raw_sql` cannot be a text", "eserver.toml:8", "\"true\"", "expected true"),
            ("`drain.url` does not lead to a database", "eserver.toml:9", "\"x://y\"", ""),
            ("two drains work off the queue \"default\"", "eserver.toml:10", "[[drain]]", "the [["),
            (
                "the environment variable ESERVER__DRAIN__URL names no key",
                "environment",
                "ESERVER__DRAIN__URL",
                "did you mean ESERVER__DRAIN__0__URL?",
            ),
            (
                "the environment variable ESERVER__DRAIN__0__ULR names no key",
                "environment",
                "ESERVER__DRAIN__0__ULR",
                "did you mean ESERVER__DRAIN__0__URL?",
            ),
            (
                "`drain.statements` cannot have the name \"\"",
                "environment",
                "ESERVER__DRAIN__1__STATEMENTS__",
                "a name is made of",
            ),
            (
                "there are 3 sections [[drain]], so none is number 9",
                "environment",
                "ESERVER__DRAIN__9__URL",
                "they count from 0, so the next one is 3",
            ),
            ("`drain.lanes` cannot be a text", "command line", "x", "expected a whole number"),
            ("unknown key `drain`", "command line", "drain", "no such key"),
        ],
    );
}

#[test]
fn a_password_is_never_shown() {
    const SECRET: &str = "s3cr3t-ä";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    std::fs::write(&path, SECRET).unwrap();
    let url = format!("postgres://app:{SECRET}@db/app");
    let with = |line: &str| format!("[[drain]]\nurl = \"{url}\"\nraw_sql = true\n{line}\n");
    let loaded = file(&with("")).good();
    let printed = loaded.settings.to_toml(true);
    assert!(printed.contains("url = \"postgres://app:***@db/app\""), "{printed}");
    let setting = loaded.settings.get("drain").value.to_string();
    let expected = "[{ url = \"postgres://app:***@db/app\", raw_sql = true }]";
    assert_eq!(setting, expected, "what a reload writes into the log");
    let problem = loaded.config.drains[0].problem(None, &format!("no {url} here"));
    let shown = loaded.show(vec![problem]).to_string();
    assert!(shown.contains("\"postgres://app:***@db/app\""), "{shown}");
    assert!(shown.contains("^ no postgres://app:***@db/app here"), "{shown}");
    for text in [printed, setting, shown, format!("{loaded:?}")] {
        assert!(!text.contains(SECRET), "{text}");
    }
    for text in [
        with(&format!("password_file = {:?}", path.display().to_string())),
        with(&format!("password = \"{SECRET}\"")),
        with("url_file = \"x\""),
        with("url = \"x\""),
        format!("[[drain]]\nurl = {url}\n"),
        format!("[[drain]]\nurl = \"{url}\n"),
        format!("[[drain]]\nurl = [\"{url}\"]\n"),
        format!("[[drain]]\nulr = \"{url}\"\n"),
        format!("[[drain]]\nurl = \"{}\"\n", url.replace("postgres", "oracle")),
        format!("[[drain]]\nurl = \"{}\"\n", url.replace("@db", "@db:port")),
        format!(
            "[[drain]]\nurl = \"{}\"\n",
            url.replace("postgres", "mysql").replace("@db", "@:1")
        ),
        format!("[[drain]]\nurl = \"{}\"\n", url.replace("@db", "@db?password=x")),
        format!("url = \"{url}\"\n"),
    ] {
        let problems = file(&text).load().map(|loaded| loaded.config).unwrap_err();
        assert!(!problems.contains(SECRET), "{problems}");
    }
    for variable in ["ESERVER__DRAIN__0__PASSWORD", "ESERVER__DRAIN__0__ULR", "ESERVER__SHARDS"] {
        let case = Case {
            environment: &[(variable, &url), ("ESERVER__LOG__LEVEL", &url)],
            ..Case::default()
        };
        let problems = case.load().map(|loaded| loaded.config).unwrap_err();
        assert!(!problems.contains(SECRET), "{problems}");
    }
}
