//! `eserver check`: the configuration as it would be used, or everything that is wrong with it.

use std::io::Write;

use crate::args::CheckArgs;
use crate::config::FILE_DEFAULT;
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
    Ok(Exit::Ok)
}
