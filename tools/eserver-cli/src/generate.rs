//! Completion scripts and manual pages, made from the same description as `--help`.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::args::Args;
use crate::exit::{Exit, OrExit};

/// Prints the completion script for `shell`.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    // The generator panics when its writer fails, so it gets one that cannot.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "eserver", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Exit::Ok)
}

/// Prints `eserver(1)`, or writes one page for each command into `directory`.
pub(crate) fn manual(directory: Option<&Path>) -> anyhow::Result<Exit> {
    let mut root = Args::command();
    root.build();
    match directory {
        None => io::stdout().lock().write_all(page(&Man::new(root))?.as_bytes())?,
        Some(directory) => std::fs::create_dir_all(directory)
            .and_then(|()| write_pages(&root, directory))
            .with_context(|| format!("cannot write manual pages into {}", directory.display()))
            .or_exit(Exit::CannotCreate)?,
    }
    Ok(Exit::Ok)
}

fn write_pages(command: &clap::Command, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_pages(subcommand, directory)?;
    }
    let manual = Man::new(command.clone());
    std::fs::write(directory.join(manual.get_filename()), page(&manual)?)
}

/// One page. What stands below the options is laid out by hand, so `man` must not fill its lines.
fn page(manual: &Man) -> io::Result<String> {
    let mut roff = Vec::new();
    manual.render(&mut roff)?;
    let roff = String::from_utf8(roff).map_err(io::Error::other)?;
    Ok(roff.replacen("\n.SH EXTRA\n", "\n.SH NOTES\n.nf\n", 1))
}
