//! The servers that are compared: [`Peer`], each started privately as a [`Server`].

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use eserver_bench::hold::Profile;
use eserver_bench::protocol::HttpPublish;
use tempfile::TempDir;

use super::cases::Way;
use crate::bench::cores::Cores;
use crate::bench::machine::version;
use crate::bench::program::{self, Program, free_address};

/// Connections and channels that servers with a limit of their own are told to allow.
const CONNECTIONS_MAX: usize = 19_000;

/// Messages that a channel keeps.
const HISTORY_MESSAGES: usize = 10;

/// How long nothing has to happen until a server says so: longer than anything here.
const SILENCE_SECONDS: usize = 3_600;

/// The channel that nobody listens to.
const CHANNEL: &str = "nobody";

/// The server under comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Eserver,
    Icomet,
    Nchan,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Eserver => "eserver",
            Self::Icomet => "icomet",
            Self::Nchan => "nchan",
        }
    }

    /// How one subscribes to it: to eserver in icomet's words.
    pub(super) fn profile(self, way: Way) -> Profile {
        match (self, way) {
            (Self::Eserver, Way::Polls) => Profile::Eserver,
            (Self::Icomet, Way::Polls) => Profile::Icomet,
            (Self::Eserver | Self::Icomet, Way::Streams) => Profile::IcometSse,
            (Self::Nchan, Way::Polls) => Profile::nchan(),
            (Self::Nchan, Way::Streams) => Profile::nchan_sse(),
        }
    }

    /// A publication of `content` to a channel that nobody listens to.
    pub(super) fn publication(
        self,
        admin: SocketAddr,
        content: &str,
    ) -> anyhow::Result<HttpPublish> {
        let host = admin.to_string();
        Ok(match self {
            Self::Eserver | Self::Icomet => {
                HttpPublish::get(&host, &format!("/push?cname={CHANNEL}&content={content}"))?
            }
            Self::Nchan => {
                HttpPublish::post(&host, &format!("/pub/{CHANNEL}"), content.as_bytes())?
            }
        })
    }

    /// What it says of itself.
    pub(super) fn versions(self, premises: &Premises) -> Vec<String> {
        match self {
            Self::Eserver => vec![version(&premises.eserver.display().to_string(), "--version")],
            Self::Icomet => {
                let icomet = premises.icomet.as_deref().unwrap_or(Path::new("icomet-server"));
                let text = version(&icomet.display().to_string(), "-v");
                vec![text.lines().next().unwrap_or_default().to_owned()]
            }
            Self::Nchan => {
                let package = ["-W", "-f", "${Package} ${Version}", "libnginx-mod-nchan"];
                let package = Command::new("dpkg-query").args(package).output();
                let package = package.map(|output| output.stdout).unwrap_or_default();
                vec![version("nginx", "-v"), String::from_utf8_lossy(&package).into_owned()]
            }
        }
    }
}

/// Where the programs are and where they may write.
#[derive(Debug)]
pub(super) struct Premises {
    /// The binary `eserver`.
    pub(super) eserver: PathBuf,
    /// The binary `icomet-server`, if it takes part.
    pub(super) icomet: Option<PathBuf>,
    /// The module for nginx, if it takes part.
    pub(super) nchan: Option<PathBuf>,
    /// The directory for all private directories.
    pub(super) scratch: PathBuf,
    pub(super) cores: Cores,
}

impl Premises {
    fn command(
        &self,
        peer: Peer,
        front: SocketAddr,
        admin: SocketAddr,
        directory: &Path,
    ) -> anyhow::Result<Command> {
        let mut command = match peer {
            Peer::Eserver => {
                let mut command = self.cores.server_command(&self.eserver);
                command.arg("serve").arg("--data-dir").arg(directory.join("data"));
                for setting in [
                    format!("comet.listen=\"{front}\""),
                    format!("admin.listen=\"{admin}\""),
                    // It is there, but nobody asks.
                    "queue.listen=\"127.0.0.1:0\"".to_owned(),
                    format!("comet.poll_timeout_s={SILENCE_SECONDS}"),
                    format!("comet.history_messages_max={HISTORY_MESSAGES}"),
                ] {
                    command.arg("--set").arg(setting);
                }
                command
            }
            Peer::Icomet => {
                let file = directory.join("icomet.conf");
                fs::write(&file, icomet_configuration(front, admin, directory))?;
                let icomet = self.icomet.as_ref().context("no icomet was named")?;
                let mut command = self.cores.server_command(icomet);
                command.arg(file);
                command
            }
            Peer::Nchan => {
                let file = directory.join("nginx.conf");
                let module = self.nchan.as_ref().context("the module nchan is not there")?;
                fs::write(&file, nginx_configuration(module, front, admin, directory))?;
                let mut command = self.cores.server_command("nginx");
                command.arg("-p").arg(directory).arg("-c").arg(file);
                command.arg("-e").arg(directory.join("errors"));
                command
            }
        };
        let messages = File::options().create(true).append(true).open(directory.join("messages"));
        command.stdout(messages?);
        Ok(command)
    }
}

/// icomet wants tabs, and loses the last character of a last line that has no end.
fn icomet_configuration(front: SocketAddr, admin: SocketAddr, directory: &Path) -> String {
    let log = directory.join("log");
    format!(
        "logger:
\tlevel: error
\toutput: {log}
\trotate:
\t\tsize: 1000000000
admin:
\tlisten: {admin}
front:
\tlisten: {front}
\tauth: none
\tmax_channels: {CONNECTIONS_MAX}
\tmax_subscribers_per_channel: {CONNECTIONS_MAX}
\tchannel_buffer_size: {HISTORY_MESSAGES}
\tchannel_timeout: {SILENCE_SECONDS}
\tpolling_timeout: {SILENCE_SECONDS}
",
        log = log.display()
    )
}

fn nginx_configuration(
    module: &Path,
    front: SocketAddr,
    admin: SocketAddr,
    directory: &Path,
) -> String {
    let (module, directory) = (module.display(), directory.display());
    format!(
        "load_module {module};
daemon off;
master_process off;
worker_processes 1;
pid {directory}/pid;
events {{ worker_connections {CONNECTIONS_MAX}; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    nchan_shared_memory_size 512m;
    nchan_message_buffer_length {HISTORY_MESSAGES};
    server {{
        listen {front} backlog=65535;
        location ~ ^/sub/(\\w+)$ {{
            nchan_subscriber longpoll eventsource;
            nchan_channel_id $1;
        }}
    }}
    server {{
        listen {admin};
        location ~ ^/pub/(\\w+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
        }}
    }}
}}
"
    )
}

/// A running server with a directory of its own; killed, waited for and swept away when dropped.
#[derive(Debug)]
pub(super) struct Server {
    // Ended before its directory is swept away.
    program: Program,
    pub(super) front: SocketAddr,
    pub(super) admin: SocketAddr,
    _directory: TempDir,
}

impl Server {
    /// Starts `peer` on its core, and waits until it accepts connections.
    pub(super) fn start(peer: Peer, premises: &Premises) -> anyhow::Result<Self> {
        program::start(peer.name(), || Self::attempt(peer, premises))
    }

    fn attempt(peer: Peer, premises: &Premises) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("server-").tempdir_in(&premises.scratch)?;
        let (front, admin) = (free_address()?, free_address()?);
        let mut command = premises.command(peer, front, admin, directory.path())?;
        let messages = directory.path().join("messages");
        let program = Program::start(&mut command, front, &messages)?;
        Ok(Self { program, front, admin, _directory: directory })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_say_where_and_end_in_a_line_feed() {
        let (front, admin) = ("127.0.0.1:81".parse().unwrap(), "127.0.0.1:82".parse().unwrap());
        let directory = Path::new("/d");
        for text in [
            icomet_configuration(front, admin, directory),
            nginx_configuration(Path::new("/m.so"), front, admin, directory),
        ] {
            assert!(text.contains("listen") && text.contains("127.0.0.1:81"), "{text}");
            assert!(text.contains("127.0.0.1:82") && text.ends_with('\n'), "{text}");
        }
    }
}
