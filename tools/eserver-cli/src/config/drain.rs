//! [`DrainConfig`]: one `[[drain]]`, whose parts must go together.

use std::time::Duration;

use eserver_queue_sql::{DrainSettings, Engine, Target, check_statement};

use super::problem::Problem;
use super::secret::first_line;
use super::settings::{Setting, Settings, Table};
use super::source::Spot;
use super::suggest::nearest;
use super::value::{DEFAULT_QUEUE, Value};

/// A drain: the queue that it works off, the database, and how.
#[derive(Debug, Clone)]
pub(crate) struct DrainConfig {
    /// `default`, or one of `queue.names`.
    pub(crate) queue: String,
    /// The database, with the password.
    pub(crate) target: Target,
    /// Messages in one transaction, 1 to 100,000.
    pub(crate) batch_max: usize,
    /// How long a batch that is not full waits for more, at most 10 s.
    pub(crate) linger: Duration,
    /// Connections side by side, 1 to 64; 1 for SQLite.
    pub(crate) lanes: usize,
    /// Whether clients may send any SQL.
    pub(crate) raw_sql: bool,
    /// Times that a message is tried again, at most 100.
    pub(crate) retries_max: u32,
    /// Names with their SQL; some, unless `raw_sql`.
    pub(crate) statements: Vec<(String, String)>,
    url_spot: Spot,
    /// As many as statements.
    statement_spots: Vec<Spot>,
}

impl DrainConfig {
    /// What the drain is made from.
    pub(crate) fn settings(&self) -> DrainSettings {
        DrainSettings {
            queue: self.queue.clone(),
            target: self.target.clone(),
            batch_max: self.batch_max,
            linger: self.linger,
            lanes: self.lanes,
            raw_sql: self.raw_sql,
            retries_max: self.retries_max,
            statements: self.statements.clone(),
        }
    }

    /// The error `sentence` of the database, at the line to change: that of the statement, or else
    /// that of the URL.
    pub(crate) fn problem(&self, statement: Option<&str>, sentence: &str) -> Problem {
        let names = self.statements.iter().map(|(name, _)| Some(name.as_str()));
        match names.zip(&self.statement_spots).find(|(name, _)| *name == statement) {
            Some((Some(name), spot)) => {
                Problem::at(spot, format!("the database refuses the statement `{name}`"), sentence)
            }
            _ => {
                let title = format!("the drain of the queue {:?} cannot work", self.queue);
                Problem::at(&self.url_spot, title, sentence)
            }
        }
    }
}

/// All drains that are in order; what is wrong with the others is added to `problems`.
///
/// `whole` says that everything was understood so far, so that what is missing really is.
pub(super) fn read(
    settings: &Settings,
    names: &[String],
    whole: bool,
    problems: &mut Vec<Problem>,
) -> Vec<DrainConfig> {
    let tables = settings.tables("drain");
    let read = |(index, table): (usize, &Table)| {
        let mut reader = Reader { table, whole: whole && table.whole, problems };
        reader.check_queue(names, &tables[..index]);
        reader.drain()
    };
    tables.iter().enumerate().filter_map(read).collect()
}

/// Reads one table.
struct Reader<'a> {
    table: &'a Table,
    whole: bool,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// The drain, if enough of it is in order to make one.
    fn drain(&mut self) -> Option<DrainConfig> {
        let url = self.url();
        let target = url.as_ref().and_then(|(url, setting)| self.target(url, setting));
        let engine = target.as_ref().map(Target::engine);
        let (statements, statement_spots) = self.statements(engine).into_iter().unzip();
        self.check_lanes(engine);
        self.check_use();
        let size =
            |name| usize::try_from(self.table.integer(name)).expect("KEYS bounds it far below");
        Some(DrainConfig {
            queue: self.queue().to_owned(),
            batch_max: size("batch_max"),
            linger: Duration::from_millis(self.table.integer("linger_ms")),
            lanes: size("lanes"),
            raw_sql: self.raw_sql(),
            retries_max: u32::try_from(self.table.integer("retries_max")).expect("KEYS bounds it"),
            statements,
            url_spot: self.table.spot_of(url.map(|(_, setting)| setting)),
            statement_spots,
            target: target?,
        })
    }

    fn check_queue(&mut self, names: &[String], earlier: &[Table]) {
        let queue = self.queue();
        let spot = self.table.spot_of(self.table.get("queue"));
        if self.whole && queue != DEFAULT_QUEUE && !names.iter().any(|name| name == queue) {
            let names: Vec<_> =
                [DEFAULT_QUEUE].into_iter().chain(names.iter().map(String::as_str)).collect();
            let label = match nearest(queue, names.iter().copied()) {
                Some(name) => format!("did you mean {name:?}?"),
                None => "not in queue.names".to_owned(),
            };
            let title = format!("`drain.queue` is {queue:?}, and there is no such queue");
            let help = format!("the queues are {}", names.join(", "));
            self.problems.push(Problem::at(&spot, title, label).help(help));
        }
        if let Some(first) = earlier.iter().find(|table| queue_of(table) == queue) {
            let title = format!("two drains work off the queue {queue:?}");
            let label = format!("the [[drain]] of {} does so already", first.origin);
            self.problems.push(Problem::at(&spot, title, label));
        }
    }

    /// The URL, and the setting that it came from.
    fn url(&mut self) -> Option<(String, &'a Setting)> {
        let (inline, file) = (self.table.get("url"), self.table.get("url_file"));
        if let (Some(inline), Some(file)) = (inline, file) {
            let title = "`drain.url` and `drain.url_file` are both given";
            let label = format!("the url stands at {} already", inline.origin);
            self.problems.push(Problem::at(&self.table.spot_of(Some(file)), title, label));
            return None;
        }
        if let Some(setting) = file {
            return Some((self.first_line(setting)?, setting));
        }
        let Some(setting) = inline else {
            if self.whole {
                let title = format!("the drain of the queue {:?} has no database", self.queue());
                let help = "write url = \"sqlite:app.db\", \"postgres://user@host/db\" or \
                            \"mysql://user@host/db\"";
                let problem = Problem::at(&self.table.spot, title, "`url` is missing").help(help);
                self.problems.push(problem);
            }
            return None;
        };
        match &setting.value {
            Value::Url(url) => Some((url.0.clone(), setting)),
            other => unreachable!("KEYS gives url another kind: {other:?}"),
        }
    }

    fn target(&mut self, url: &str, setting: &Setting) -> Option<Target> {
        let password = match self.table.get("password_file") {
            Some(setting) => Some(self.first_line(setting)?),
            None => None,
        };
        match Target::parse(url, password.as_deref()) {
            Ok(target) => Some(target),
            Err(error) => {
                let title = format!("`{}` does not lead to a database", setting.key.path);
                let label = format!("{:#}", anyhow::Error::new(error));
                self.problems.push(Problem::at(&self.table.spot_of(Some(setting)), title, label));
                None
            }
        }
    }

    /// The first line of the file that the setting names, without its end.
    fn first_line(&mut self, setting: &Setting) -> Option<String> {
        match first_line(setting.text()) {
            Ok(line) => Some(line),
            Err(error) => {
                let title = format!("the file of `{}` cannot be used", setting.key.path);
                let spot = self.table.spot_of(Some(setting));
                self.problems.push(Problem::at(&spot, title, error.to_string()));
                None
            }
        }
    }

    /// Names, SQL, and where each stands; checked if it is known for which engine.
    fn statements(&mut self, engine: Option<Engine>) -> Vec<((String, String), Spot)> {
        let mut statements = Vec::new();
        for setting in self.table.entries("statements") {
            let name = setting.entry.clone().expect("a statement has a name");
            let (sql, spot) = (setting.text(), self.table.spot_of(Some(setting)));
            if let Some(Err(sentence)) = engine.map(|engine| check_statement(engine, sql)) {
                let title = format!("the statement `{name}` cannot be used");
                self.problems.push(Problem::at(&spot, title, sentence));
            }
            statements.push(((name, sql.to_owned()), spot));
        }
        statements
    }

    fn check_lanes(&mut self, engine: Option<Engine>) {
        if engine == Some(Engine::Sqlite) && self.table.integer("lanes") > 1 {
            let spot = self.table.spot_of(self.table.get("lanes"));
            let label = "a SQLite database has one writer at a time";
            self.problems.push(Problem::at(&spot, "`drain.lanes` must be 1 for SQLite", label));
        }
    }

    /// A drain without statements that allows no others would never get anything to do.
    fn check_use(&mut self) {
        if self.whole && !self.raw_sql() && self.table.get("statements").is_none() {
            let title = format!("no message could ever be put into the queue {:?}", self.queue());
            let label = "this drain has no statements, and allows no other SQL";
            let help = "name statements in [drain.statements], or set raw_sql = true if every \
                        client may run any SQL";
            self.problems.push(Problem::at(&self.table.spot, title, label).help(help));
        }
    }

    fn queue(&self) -> &'a str {
        queue_of(self.table)
    }

    fn raw_sql(&self) -> bool {
        self.table.get("raw_sql").is_some_and(|setting| setting.value == Value::Switch(true))
    }
}

fn queue_of(table: &Table) -> &str {
    table.get("queue").expect("KEYS gives queue a default").text()
}
