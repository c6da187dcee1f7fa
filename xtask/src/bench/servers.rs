//! The servers under test: how each [`Peer`] is started, and a [`Server`] that is stopped when
//! dropped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use eserver_bench::protocol::Exact;
use eserver_wire::framed;
use tempfile::TempDir;

use super::program::{self, Program, free_address};
use crate::{install, workspace};

/// Longest time for one answer outside the measured runs.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections that servers with a limit of their own are told to allow; below the descriptor
/// limit of 20,000 that small machines have.
const CONNECTIONS_MAX: usize = 19_000;

/// A server in one setting of its durability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    EserverNever,
    EserverInterval,
    EserverAlways,
    RedisOff,
    RedisEverySecond,
    RedisAlways,
    BeanstalkdMemory,
    BeanstalkdSync,
    BeanstalkdSyncLarge,
    Original,
}

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Eserver,
    Redis,
    Beanstalkd,
    Original,
}

impl Peer {
    /// All of them, in the order of the report.
    pub(super) const ALL: [Self; 10] = [
        Self::EserverNever,
        Self::EserverInterval,
        Self::EserverAlways,
        Self::RedisOff,
        Self::RedisEverySecond,
        Self::RedisAlways,
        Self::BeanstalkdMemory,
        Self::BeanstalkdSync,
        Self::BeanstalkdSyncLarge,
        Self::Original,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::EserverNever => "eserver never",
            Self::EserverInterval => "eserver interval",
            Self::EserverAlways => "eserver always",
            Self::RedisOff => "Redis without AOF",
            Self::RedisEverySecond => "Redis everysec",
            Self::RedisAlways => "Redis always",
            Self::BeanstalkdMemory => "beanstalkd memory",
            Self::BeanstalkdSync => "beanstalkd -f0",
            Self::BeanstalkdSyncLarge => "beanstalkd -f0 -s 256M",
            Self::Original => "Python original",
        }
    }

    pub(super) fn family(self) -> Family {
        match self {
            Self::EserverNever | Self::EserverInterval | Self::EserverAlways => Family::Eserver,
            Self::RedisOff | Self::RedisEverySecond | Self::RedisAlways => Family::Redis,
            Self::BeanstalkdMemory | Self::BeanstalkdSync | Self::BeanstalkdSyncLarge => {
                Family::Beanstalkd
            }
            Self::Original => Family::Original,
        }
    }

    /// A question that changes nothing, and its answer while the queue is empty.
    pub(super) fn ping(self) -> Exact {
        let (request, reply): (&[u8], &[u8]) = match self.family() {
            Family::Eserver | Family::Original => (b"\x1f\x43\x00\x02{}", b"\x1f\x43\x00\x010"),
            Family::Redis => (b"LLEN queue\r\n", b":0\r\n"),
            Family::Beanstalkd => (b"list-tube-used\r\n", b"USING default\r\n"),
        };
        Exact { request: request.to_vec(), reply: reply.to_vec() }
    }
}

/// Where the programs are and where they may write.
#[derive(Debug)]
pub(super) struct Premises {
    /// The binary `eserver`.
    pub(super) eserver: PathBuf,
    /// `KEY=VALUE` settings on top of those every run has.
    pub(super) eserver_settings: Vec<String>,
    /// Holds the Python original as a package named `eserver`, when it takes part.
    pub(super) original: Option<TempDir>,
    /// The directory for all private directories: on a disk, not in memory.
    pub(super) scratch: PathBuf,
}

impl Premises {
    /// The peers that can be started here.
    pub(super) fn peers(&self) -> impl Iterator<Item = Peer> {
        let has_original = self.original.is_some();
        Peer::ALL.into_iter().filter(move |&peer| has_original || peer != Peer::Original)
    }

    fn command(&self, peer: Peer, address: SocketAddr, directory: &Path) -> Command {
        match peer {
            Peer::EserverNever => self.eserver("never", address, directory),
            Peer::EserverInterval => self.eserver("interval", address, directory),
            Peer::EserverAlways => self.eserver("always", address, directory),
            Peer::RedisOff => redis(&["--appendonly", "no"], address, directory),
            Peer::RedisEverySecond => {
                redis(&["--appendonly", "yes", "--appendfsync", "everysec"], address, directory)
            }
            Peer::RedisAlways => {
                redis(&["--appendonly", "yes", "--appendfsync", "always"], address, directory)
            }
            Peer::BeanstalkdMemory => beanstalkd(&[], address),
            Peer::BeanstalkdSync => {
                let mut command = beanstalkd(&["-f0", "-b"], address);
                command.arg(directory);
                command
            }
            Peer::BeanstalkdSyncLarge => {
                let mut command = beanstalkd(&["-f0", "-s", "268435456", "-b"], address);
                command.arg(directory);
                command
            }
            Peer::Original => self.original(address),
        }
    }

    fn eserver(&self, sync: &str, address: SocketAddr, directory: &Path) -> Command {
        let mut command = Command::new(&self.eserver);
        command.arg("serve").arg("--data-dir").arg(directory);
        let settings = [
            format!("queue.listen={address}"),
            format!("queue.sync={sync}"),
            "comet.listen=[]".to_owned(),
            // Never full, and the clients may come from any loopback address.
            "queue.length_max=1000000000".to_owned(),
            "queue.allow=[\"127.0.0.0/8\"]".to_owned(),
            format!("limits.connections_per_address_max={CONNECTIONS_MAX}"),
        ];
        for setting in settings.iter().chain(&self.eserver_settings) {
            command.arg("--set").arg(setting);
        }
        command
    }

    fn original(&self, address: SocketAddr) -> Command {
        /// Its own start file cannot choose a port, and Python 3.12 has dropped a method it uses.
        const START: &str = r#"
import sys, configparser
sys.path.insert(0, sys.argv[1])
if not hasattr(configparser.ConfigParser, "readfp"):
    configparser.ConfigParser.readfp = configparser.ConfigParser.read_file
import eserver.library.epoll as epoll
from eserver.app.queue.circularQueue import CircularQueue
server = epoll.createServer(CircularQueue())
server.setAllowIp(["127.0.0.%d" % number for number in range(2, 64)])
server.listen(int(sys.argv[2]))
"#;
        let package = self.original.as_ref().map(TempDir::path);
        let mut command = Command::new("python3");
        command
            .args(["-c", START])
            .arg(package.unwrap_or(Path::new(".")))
            .arg(address.port().to_string());
        command
    }
}

fn redis(durability: &[&str], address: SocketAddr, directory: &Path) -> Command {
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--protected-mode", "no"])
        .args(["--port", &address.port().to_string()])
        .args(["--maxclients", &CONNECTIONS_MAX.to_string()])
        .args(["--tcp-backlog", "4096", "--save", ""])
        // A rewrite in the middle would only make Redis look worse.
        .args(["--auto-aof-rewrite-percentage", "0"])
        .args(durability)
        .arg("--dir")
        .arg(directory);
    command
}

fn beanstalkd(durability: &[&str], address: SocketAddr) -> Command {
    let mut command = Command::new("beanstalkd");
    command.args(["-l", "127.0.0.1", "-p", &address.port().to_string()]).args(durability);
    command
}

/// Builds the binary `eserver` as it is shipped, and says where it lies.
pub(super) fn build_eserver() -> anyhow::Result<PathBuf> {
    let built = workspace::cargo(["build", "--release", "--package", "eserver-cli"]).status()?;
    ensure!(built.success(), "eserver does not build");
    Ok(workspace::release_binary())
}

/// Copies a checkout of the Python original where it is a package named `eserver`. A copy, because
/// it writes its logs beside its sources.
pub(super) fn package_original(checkout: &Path) -> anyhow::Result<TempDir> {
    install::ensure(&["python3"])?;
    let directory = tempfile::tempdir()?;
    let copied = Command::new("cp")
        .arg("-r")
        .arg(checkout)
        .arg(directory.path().join("eserver"))
        .status()?;
    if !copied.success() || !directory.path().join("eserver/circularQueue.py").is_file() {
        bail!("{} is not a checkout of the Python original", checkout.display());
    }
    Ok(directory)
}

/// A running server with a directory of its own; killed, waited for and swept away when dropped.
#[derive(Debug)]
pub(super) struct Server {
    // Ended before its directory is swept away.
    program: Program,
    peer: Peer,
    pub(super) address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    /// Starts `peer` and waits until it accepts connections.
    pub(super) fn start(peer: Peer, premises: &Premises) -> anyhow::Result<Self> {
        program::start(peer.name(), || Self::attempt(peer, premises))
    }

    fn attempt(peer: Peer, premises: &Premises) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("server-").tempdir_in(&premises.scratch)?;
        let data = directory.path().join("data");
        fs::create_dir(&data)?;
        let messages = directory.path().join("messages");
        let address = free_address()?;
        let mut command = premises.command(peer, address, &data);
        command.stdout(match peer.family() {
            // It prints every message.
            Family::Original => Stdio::null(),
            _ => File::create(&messages)?.into(),
        });
        let program = Program::start(&mut command, address, &messages)?;
        Ok(Self { program, peer, address, _directory: directory })
    }

    /// The process, for CPU time and memory.
    pub(super) fn process(&self) -> u32 {
        self.program.id()
    }

    /// The last of what it has printed.
    pub(super) fn messages(&self) -> String {
        self.program.messages()
    }

    /// How many messages it holds, when it can be asked that in one question.
    pub(super) fn length(&self) -> anyhow::Result<Option<u64>> {
        let is_whole: fn(&[u8]) -> Option<String> = match self.peer.family() {
            Family::Eserver | Family::Original => |received| {
                let frame = framed::decode(received).filter(|frame| frame.command == 8003)?;
                Some(String::from_utf8_lossy(frame.body).into_owned())
            },
            Family::Redis => |received| {
                let line = received.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
                Some(String::from_utf8_lossy(line).into_owned())
            },
            Family::Beanstalkd => return Ok(None),
        };
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(ASK_TIMEOUT))?;
        stream.write_all(&self.peer.ping().request)?;
        let mut received = Vec::new();
        let mut buffer = [0; 256];
        loop {
            if let Some(number) = is_whole(&received) {
                let number = number.trim().parse().context("the length is a number")?;
                return Ok(Some(number));
            }
            match stream.read(&mut buffer)? {
                0 => bail!("no answer to the question for the length"),
                bytes => received.extend_from_slice(&buffer[..bytes]),
            }
        }
    }
}
