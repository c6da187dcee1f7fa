//! `cargo xtask fuzz`: inputs nobody thought of, for as long as one likes.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::steps::Steps;
use crate::workspace::{manifest, root};

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// The target; each in turn unless given
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Fuzzes.
///
/// # Errors
/// When cargo-fuzz or a nightly toolchain is missing (the error is the command to type), or there
/// is no such target.
pub(crate) fn run(arguments: &FuzzArgs) -> Result<ExitCode> {
    require_cargo_fuzz()?;
    let targets = targets()?;
    let chosen: Vec<_> = targets
        .iter()
        .filter(|&target| arguments.target.as_ref().is_none_or(|only| only == target))
        .collect();
    if chosen.is_empty() {
        bail!("there is no such target, but: {}", targets.join(", "));
    }
    let mut steps = Steps::default();
    for target in chosen {
        let mut command = cargo_fuzz();
        command.args(["run", target, &format!("fuzz/corpus/{target}")]);
        command.arg(format!("fuzz/seeds/{target}"));
        command.args(["--", "-use_value_profile=1"]);
        command.arg(format!("-max_total_time={}", arguments.seconds));
        let corpus = root().join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("cannot create {}", corpus.display()))?;
        steps.run(target, &mut command)?;
    }
    Ok(steps.finish())
}

/// `cargo +nightly fuzz`; by name, because the cargo that runs us knows only its own toolchain.
fn cargo_fuzz() -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(["+nightly", "fuzz"]);
    // These point to the toolchain that runs us and would win over `+nightly`.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn require_cargo_fuzz() -> Result<()> {
    let found = cargo_fuzz()
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        bail!(
            "cargo-fuzz or a nightly toolchain is missing: \
             rustup toolchain install nightly && cargo install cargo-fuzz"
        );
    }
    Ok(())
}

/// The names of the fuzz targets in their manifest.
fn targets() -> Result<Vec<String>> {
    let manifest = manifest(&root().join("fuzz"))?;
    let binaries = manifest.get("bin").and_then(toml::Value::as_array);
    let binaries = binaries.context("fuzz/Cargo.toml lists its targets as [[bin]]")?;
    let names = binaries.iter().filter_map(|binary| binary.get("name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}
