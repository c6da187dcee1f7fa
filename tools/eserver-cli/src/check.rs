//! `eserver check`: the configuration as it would be used, or everything that is wrong with it; and
//! whether the databases in it are there.

use std::io::Write;

use eserver_queue_sql::Drain;

use crate::args::CheckArgs;
use crate::config::{DrainConfig, FILE_DEFAULT, Loaded, Problem};
use crate::exit::Exit;

/// Prints the merged configuration on stdout, or all problems on stderr.
pub(crate) fn run(args: CheckArgs) -> anyhow::Result<Exit> {
    let loaded = match args.config.sources().load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            problems.print();
            return Ok(Exit::Config);
        }
    };
    loaded.notes.print();
    let mut out = std::io::stdout().lock();
    match &loaded.file {
        Some(path) => writeln!(out, "# Read from {}.", path.display())?,
        None => writeln!(out, "# No file was read: there is no {FILE_DEFAULT} here.")?,
    }
    write!(out, "{}", loaded.settings.to_toml(args.explain))?;
    out.flush()?;
    if args.connect { connect(&loaded, &mut out) } else { Ok(Exit::Ok) }
}

/// Tries every drain's database: a line on stdout, as a comment, for each that is in order, and all
/// problems on stderr.
fn connect(loaded: &Loaded, out: &mut impl Write) -> anyhow::Result<Exit> {
    let drains = &loaded.config.drains;
    if drains.is_empty() {
        eprintln!("note: there is nothing to connect to: no queue has a [[drain]]");
    } else {
        writeln!(out)?;
    }
    let mut problems = Vec::new();
    let mut exit = Exit::Ok;
    for drain in drains {
        match try_drain(drain) {
            Ok(found) => {
                let statements = match drain.statements.len() {
                    0 => String::new(),
                    1 => ", 1 statement in order".to_owned(),
                    count => format!(", {count} statements in order"),
                };
                writeln!(out, "# The drain of the queue {:?}: {found}{statements}.", drain.queue)?;
            }
            Err((cause, problem)) => {
                // What has to be written differently comes before what may be there later.
                exit = if exit == Exit::Config { exit } else { cause };
                problems.push(problem);
            }
        }
        out.flush()?;
    }
    loaded.show(problems).print();
    Ok(exit)
}

/// What the database is, or the error with the line to change.
fn try_drain(drain: &DrainConfig) -> Result<String, (Exit, Problem)> {
    let made = Drain::new(drain.settings()).map_err(|error| {
        let sentence = format!("{:#}", anyhow::Error::new(error));
        (Exit::Config, drain.problem(None, &sentence))
    })?;
    made.try_connect().map_err(|error| {
        let exit = if error.statement.is_some() { Exit::Config } else { Exit::Unavailable };
        (exit, drain.problem(error.statement.as_deref(), &error.sentence))
    })
}
