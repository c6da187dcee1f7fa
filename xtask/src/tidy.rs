//! `cargo xtask tidy`: what holds this repository together and no compiler checks.
//!
//! Each check answers with a [`Finding`] per place that is wrong: [`shelves`] reads the manifests,
//! [`sources`] every file, [`written`] the commands in the documents that people type.

mod shelves;
mod sources;
mod written;

use anyhow::{Result, bail};

/// One place that is wrong, as a person would be told: `file:line: what and why`.
pub(crate) type Finding = String;

/// Runs all checks and says so when there is nothing to find.
///
/// # Errors
/// As [`check`].
pub(crate) fn run() -> Result<()> {
    check()?;
    println!("tidy");
    Ok(())
}

/// Runs all checks.
///
/// # Errors
/// With every finding, one per line; or when a file cannot be read.
pub(crate) fn check() -> Result<()> {
    let mut findings = shelves::check()?;
    findings.extend(sources::check()?);
    findings.extend(written::check()?);
    if findings.is_empty() {
        return Ok(());
    }
    bail!("{}\nnot tidy, places: {}", findings.join("\n"), findings.len())
}
