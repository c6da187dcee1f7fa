//! The servers that people use every day, in a Python environment of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::servers::{BODY, Peer};

const SCRIPT: &str = include_str!("everyday.py");

/// Makes the environment that `python` is part of, unless it is there.
///
/// # Errors
/// When the machine's Python cannot make one.
pub(super) fn make_environment(python: &Path) -> anyhow::Result<()> {
    if python.is_file() {
        return Ok(());
    }
    let directory = python.ancestors().nth(2).context("it is bin/python in a directory")?;
    let output = Command::new("python3").args(["-m", "venv"]).arg(directory).output()?;
    let complaint = String::from_utf8_lossy(&output.stdout);
    let complaint = complaint.lines().next().unwrap_or_default();
    ensure!(output.status.success(), "python3 -m venv (python3-venv on Debian): {complaint}");
    Ok(())
}

/// Makes sure that what the server needs is in the environment.
///
/// # Errors
/// When it cannot be installed from here.
pub(super) fn ensure(peer: Peer, python: &Path) -> anyhow::Result<()> {
    let Some(package) = package(peer) else { return Ok(()) };
    let imports = Command::new(python).args(["-c", &format!("import {package}")]).output()?;
    if imports.status.success() {
        return Ok(());
    }
    println!("installing {package}");
    let output =
        Command::new(python).args(["-m", "pip", "install", "--quiet", package]).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "pip cannot install it: {complaint}");
    Ok(())
}

/// What makes `command`, a Python, the server.
pub(super) fn arguments(peer: Peer, address: SocketAddr, command: &mut Command) {
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    command.args(["-c", SCRIPT, package(peer).unwrap_or("threads"), &ip, &port, BODY]);
}

/// The version of the server's package.
pub(super) fn version(peer: Peer, python: &Path) -> Option<String> {
    let package = package(peer)?;
    let ask = format!("import {package}; print({package}.__version__)");
    let output = Command::new(python).args(["-c", &ask]).output().ok()?;
    Some(format!("{package} {}", String::from_utf8_lossy(&output.stdout).trim()))
}

/// What is to be installed; Python's threads come with it.
fn package(peer: Peer) -> Option<&'static str> {
    match peer {
        Peer::Gevent => Some("gevent"),
        Peer::Aiohttp => Some("aiohttp"),
        _ => None,
    }
}
