//! The servers that are compared: [`Peer`], each started privately as a [`Server`].

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use eserver_bench::protocol::HttpGet;
use tempfile::TempDir;

use super::cases::Case;
use super::everyday;
use crate::bench::cores::Cores;
use crate::bench::machine::version;
use crate::bench::program::{self, Program, free_address};
use crate::workspace;

/// What every server answers with.
pub(super) const BODY: &str = "Hello, World!";

/// Connections that servers with a limit of their own are told to allow.
const CONNECTIONS_MAX: usize = 19_000;

/// The manifest of the servers that were written for this comparison.
const PEERS_MANIFEST: &str = "xtask/peers-http/Cargo.toml";

/// A server, and how it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Eserver,
    EserverAtOnce,
    Floor,
    FloorDeferred,
    Nginx,
    NginxDeferred,
    Hyper,
    Threads,
    Gevent,
    Aiohttp,
}

impl Peer {
    /// Those that meet every case, in the order of the report.
    pub(super) const FAST: [Self; 7] = [
        Self::Eserver,
        Self::EserverAtOnce,
        Self::Floor,
        Self::FloorDeferred,
        Self::Nginx,
        Self::NginxDeferred,
        Self::Hyper,
    ];

    /// Those that people use every day.
    pub(super) const EVERYDAY: [Self; 3] = [Self::Aiohttp, Self::Gevent, Self::Threads];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Eserver => "eserver",
            Self::EserverAtOnce => "eserver, at once",
            Self::Floor => "floor",
            Self::FloorDeferred => "floor, deferred",
            Self::Nginx => "nginx",
            Self::NginxDeferred => "nginx, deferred",
            Self::Hyper => "hyper",
            Self::Threads => "Python threads",
            Self::Gevent => "gevent",
            Self::Aiohttp => "aiohttp",
        }
    }

    /// Whether it is a server that is there already, with the other choice of when the kernel shows
    /// it a connection: at once, or when the first request is there.
    pub(super) fn is_variant(self) -> bool {
        self.is_deferred() || self == Self::EserverAtOnce
    }

    fn is_deferred(self) -> bool {
        matches!(self, Self::FloorDeferred | Self::NginxDeferred)
    }

    /// What it says of itself; nothing where that would say nothing to readers.
    pub(super) fn version(self, premises: &Premises) -> Option<String> {
        match self {
            Self::Eserver => Some(version(&premises.eserver.display().to_string(), "--version")),
            Self::Nginx | Self::NginxDeferred => Some(version("nginx", "-v")),
            Self::Hyper => locked_version("hyper"),
            Self::Threads => Some(version(&premises.python.display().to_string(), "--version")),
            Self::Gevent | Self::Aiohttp => everyday::version(self, &premises.python),
            Self::EserverAtOnce | Self::Floor | Self::FloorDeferred => None,
        }
    }
}

/// Where the programs are and where they may write.
#[derive(Debug)]
pub(super) struct Premises {
    /// The binary `eserver`.
    pub(super) eserver: PathBuf,
    /// `KEY=VALUE` settings on top of those every run has.
    pub(super) eserver_settings: Vec<String>,
    /// The directory with the servers of [`PEERS_MANIFEST`].
    pub(super) peers: PathBuf,
    /// The Python of the environment with gevent and aiohttp.
    pub(super) python: PathBuf,
    /// The directory for all private directories.
    pub(super) scratch: PathBuf,
    pub(super) cores: Cores,
}

impl Premises {
    fn command(
        &self,
        peer: Peer,
        case: &Case,
        address: SocketAddr,
        directory: &Path,
    ) -> anyhow::Result<Command> {
        let mut command = match peer {
            Peer::Eserver => self.eserver(address, directory)?,
            Peer::EserverAtOnce => {
                let mut command = self.eserver(address, directory)?;
                command.args(["--set", "http.newcomers=at-once"]);
                command
            }
            Peer::Floor | Peer::FloorDeferred => {
                let mut command = self.cores.server_command(self.peers.join("floor"));
                command.arg(address.to_string());
                if case.is_per_request() {
                    command.arg("close");
                } else {
                    let get = HttpGet::new(&address.to_string(), "/", BODY.as_bytes())?;
                    command.arg(get.request_bytes().to_string());
                }
                if peer.is_deferred() {
                    command.arg("deferred");
                }
                command
            }
            Peer::Nginx | Peer::NginxDeferred => {
                let file = directory.join("nginx.conf");
                fs::write(&file, nginx_configuration(peer, address, directory))?;
                let mut command = self.cores.server_command("nginx");
                command.arg("-p").arg(directory).arg("-c").arg(file);
                command.arg("-e").arg(directory.join("errors"));
                command
            }
            Peer::Hyper => {
                let mut command = self.cores.server_command(self.peers.join("hyper"));
                command.arg(address.to_string());
                command
            }
            Peer::Threads | Peer::Gevent | Peer::Aiohttp => {
                let mut command = self.cores.server_command(&self.python);
                everyday::arguments(peer, address, &mut command);
                command
            }
        };
        let messages = File::options().create(true).append(true).open(directory.join("messages"));
        command.stdout(messages?);
        Ok(command)
    }

    fn eserver(&self, address: SocketAddr, directory: &Path) -> anyhow::Result<Command> {
        let file = directory.join("eserver.toml");
        let respond = format!("[[http.respond]]\npath = \"/\"\nbody = \"{BODY}\"\n");
        fs::write(&file, respond)?;
        let mut command = self.cores.server_command(&self.eserver);
        command.arg("serve").arg("--config").arg(file);
        command.arg("--data-dir").arg(directory.join("data"));
        let settings = [
            format!("http.listen=\"{address}\""),
            // It is there, but nobody asks.
            "queue.listen=\"127.0.0.1:0\"".to_owned(),
            "comet.listen=[]".to_owned(),
            format!("limits.connections_per_address_max={CONNECTIONS_MAX}"),
        ];
        for setting in settings.iter().chain(&self.eserver_settings) {
            command.arg("--set").arg(setting);
        }
        Ok(command)
    }
}

fn nginx_configuration(peer: Peer, address: SocketAddr, directory: &Path) -> String {
    let directory = directory.display();
    let deferred = if peer.is_deferred() { " deferred" } else { "" };
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {directory}/pid;
events {{ worker_connections {CONNECTIONS_MAX}; }}
http {{
    access_log off;
    default_type text/plain;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {address} backlog=65535{deferred};
        location / {{ return 200 \"{BODY}\"; }}
    }}
}}
"
    )
}

/// Which version of a library those servers are built with.
fn locked_version(library: &str) -> Option<String> {
    let lock = workspace::root().join(PEERS_MANIFEST).with_extension("lock");
    let lock: toml::Table = workspace::read(&lock).ok()?.parse().ok()?;
    let mut packages = lock.get("package")?.as_array()?.iter();
    let package = packages.find(|package| package["name"].as_str() == Some(library))?;
    Some(format!("{library} {}", package["version"].as_str()?))
}

/// Builds the servers that were written for this comparison, and says where they lie.
pub(super) fn build_peers() -> anyhow::Result<PathBuf> {
    let target = workspace::release_binary().with_file_name("peers-http");
    let mut cargo = workspace::cargo(["build", "--release", "--manifest-path", PEERS_MANIFEST]);
    let built = cargo.arg("--target-dir").arg(&target).status()?;
    ensure!(built.success(), "the servers to compare with do not build");
    Ok(target.join("release"))
}

/// A running server with a directory of its own; killed, waited for and swept away when dropped.
#[derive(Debug)]
pub(super) struct Server {
    // Ended before its directory is swept away.
    program: Program,
    pub(super) address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    /// Starts `peer` as `case` needs it, on its core, and waits until it accepts connections.
    pub(super) fn start(peer: Peer, case: &Case, premises: &Premises) -> anyhow::Result<Self> {
        program::start(peer.name(), || Self::attempt(peer, case, premises))
    }

    fn attempt(peer: Peer, case: &Case, premises: &Premises) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("server-").tempdir_in(&premises.scratch)?;
        let address = free_address()?;
        let mut command = premises.command(peer, case, address, directory.path())?;
        let messages = directory.path().join("messages");
        let program = Program::start(&mut command, address, &messages)?;
        Ok(Self { program, address, _directory: directory })
    }

    /// The process, for CPU time and memory.
    pub(super) fn process(&self) -> u32 {
        self.program.id()
    }

    /// The last of what it has printed.
    pub(super) fn messages(&self) -> String {
        self.program.messages()
    }
}
