//! `cargo xtask test`: everything that has to pass before a change goes in.
//!
//! All tests share one profile and one selection of crates, so each crate is built once for them.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::steps::Steps;
use crate::workspace::{cargo, members, root};
use crate::{install, tidy};

/// Packages of the programs that tests run: an old client, the web servers in front of it and of us,
/// clients of HTTP, what runs scripts, and load generators, a file system to cut off, what makes a disk
/// fail, what sets a clock, and the databases of the drains.
const PACKAGES: &[&str] = &[
    "php-cli",
    "php-fpm",
    "nginx",
    "haproxy",
    "apache2-utils",
    "wrk",
    "curl",
    "python3-requests",
    "chromium",
    "nodejs",
    "strace",
    "libfaketime",
    "e2fsprogs",
    "mount",
    "util-linux",
    "iproute2",
    "perl",
    "postgresql",
    "mariadb-server",
];

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Only the steps whose name contains this, such as "clippy", "unit" or "durability"
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
}

/// Runs the steps, all of them even when one fails, and prints the score.
///
/// # Errors
/// When a needed program cannot be had, or no step has such a name.
pub(crate) fn run(arguments: &TestArgs) -> Result<ExitCode> {
    let all = plan()?;
    let chosen: Vec<_> = all
        .iter()
        .filter(|step| arguments.only.as_ref().is_none_or(|only| step.name.contains(only)))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = all.iter().map(|step| step.name.as_str()).collect();
        bail!("no step has such a name; there are: {}", names.join(", "));
    }
    if chosen.iter().any(|step| step.name == "unit" || step.name.starts_with("test ")) {
        install::ensure(PACKAGES)?;
    }
    let mut steps = Steps::default();
    for step in chosen {
        match &step.work {
            Work::Tidy => steps.check(&step.name, tidy::check),
            Work::Cargo(arguments) => {
                let mut command = cargo(arguments);
                if step.name.starts_with("doc") {
                    command.env("RUSTDOCFLAGS", "-D warnings");
                }
                steps.run(&step.name, &mut command)?;
            }
        }
    }
    Ok(steps.finish())
}

struct Planned {
    name: String,
    work: Work,
}

enum Work {
    Tidy,
    Cargo(Vec<String>),
}

/// The steps in order: what fails fastest comes first.
fn plan() -> Result<Vec<Planned>> {
    let mut steps = vec![
        Planned { name: "tidy".to_owned(), work: Work::Tidy },
        by_cargo("format", "fmt --all --check"),
        by_cargo("clippy", "clippy --workspace --all-targets -- -D warnings"),
        by_cargo("unit", "test --workspace --no-fail-fast --lib --bins --examples"),
    ];
    for name in integration_tests()? {
        let arguments = format!("test --workspace --no-fail-fast --test {name}");
        steps.push(by_cargo(&format!("test {name}"), &arguments));
    }
    steps.push(by_cargo("examples in the documentation", "test --workspace --doc"));
    // The binary `eserver` and the crate `eserver` would write to the same page in one run.
    steps.push(by_cargo("documentation", "doc --workspace --no-deps --exclude eserver-cli"));
    steps.push(by_cargo("documentation of the binary", "doc --package eserver-cli --no-deps"));
    Ok(steps)
}

fn by_cargo(name: &str, arguments: &str) -> Planned {
    Planned {
        name: name.to_owned(),
        work: Work::Cargo(arguments.split(' ').map(str::to_owned).collect()),
    }
}

/// The names of all files `tests/NAME.rs` in the member crates, each once.
fn integration_tests() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for member in members()? {
        let Ok(entries) = std::fs::read_dir(root().join(member).join("tests")) else {
            continue; // a crate without integration tests
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_integration_test_is_a_step() {
        let names: Vec<_> = plan().unwrap().into_iter().map(|step| step.name).collect();
        for name in ["tidy", "clippy", "unit", "test durability", "test protocol"] {
            assert!(names.iter().any(|other| other == name), "{name} in {names:?}");
        }
    }
}
