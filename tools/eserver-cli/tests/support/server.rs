//! A private server: its own data directory, its own port, its output kept for when a test fails.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::client::Client;
use super::http::HttpClient;
use super::program::Transcript;
use super::{PATIENCE, eventually, within};

/// The binary under test; `ESERVER_TEST_BINARY` names another one, such as a release build.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("ESERVER_TEST_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_eserver").into(), PathBuf::from)
}

/// A command line for `eserver serve`, taken together piece by piece.
pub(crate) struct Setup {
    /// A program that starts the server in its place (`prlimit`, `strace -D`), with arguments.
    wrapper: Vec<String>,
    data_dir: Option<PathBuf>,
    config: Option<PathBuf>,
    /// What is written into a configuration file of the server's own.
    text: Option<String>,
    settings: Vec<String>,
}

impl Setup {
    /// The defaults, on free ports and a new data directory.
    pub(crate) fn new() -> Self {
        Self {
            wrapper: Vec::new(),
            data_dir: None,
            config: None,
            text: None,
            settings: ["queue", "comet", "admin"]
                .map(|service| format!("{service}.listen=127.0.0.1:0"))
                .to_vec(),
        }
    }

    /// `--set KEY=VALUE`.
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.settings.push(format!("{key}={value}"));
        self
    }

    /// A directory that outlives this server.
    pub(crate) fn data_dir(mut self, directory: &Path) -> Self {
        self.data_dir = Some(directory.to_owned());
        self
    }

    /// `--config FILE`.
    pub(crate) fn config(mut self, file: &Path) -> Self {
        self.config = Some(file.to_owned());
        self
    }

    /// `--config` with a file of its own that holds this; paths in it start beside the file.
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Runs the server by a program that becomes it (so that the process id is the server's).
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Starts the server and waits until it says where it listens.
    pub(crate) fn start(self) -> Server {
        let mut server = self.spawn();
        server.address = server.wait_for_address();
        server
    }

    /// Starts the server, which must end by itself and with an error; answers with its stderr.
    pub(crate) fn refuse(self) -> String {
        let mut server = self.spawn();
        let status = server.wait();
        let stderr = server.stderr();
        let code = status.code().unwrap_or_else(|| {
            panic!("the server must refuse with an exit code, not {status}: {stderr}")
        });
        assert_ne!(code, 0, "the server must refuse, not end well: {stderr}");
        assert!(!stderr.contains("panicked at"), "a refusal is a sentence: {stderr}");
        stderr
    }

    fn spawn(self) -> Server {
        let directory = TempDir::new().expect("a private directory");
        let data_dir = self.data_dir.unwrap_or_else(|| directory.path().join("data"));
        let mut words = self.wrapper.into_iter().map(Into::into);
        let mut command = match words.next() {
            Some(wrapper) => {
                let wrapper: std::ffi::OsString = wrapper;
                let mut command = Command::new(wrapper);
                command.args(words).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        command.arg("serve").arg("--data-dir").arg(&data_dir);
        let own_file = directory.path().join("eserver.toml");
        if let Some(text) = &self.text {
            std::fs::write(&own_file, text).expect("our own directory");
        }
        if let Some(file) = self.config.or(self.text.map(|_| own_file)) {
            command.arg("--config").arg(file);
        }
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ESERVER_") {
                command.env_remove(name); // the tests decide, not the shell they run in
            }
        }
        let mut child = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Server {
            stdout: Transcript::follow(child.stdout.take().expect("stdout is a pipe")),
            stderr: Transcript::follow(child.stderr.take().expect("stderr is a pipe")),
            child,
            exit: None,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            data_dir,
            _directory: directory,
        }
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    exit: Option<ExitStatus>,
    stdout: Transcript,
    stderr: Transcript,
    address: SocketAddr,
    data_dir: PathBuf,
    _directory: TempDir,
}

impl Server {
    /// A server with the defaults.
    pub(crate) fn start() -> Self {
        Setup::new().start()
    }

    fn wait_for_address(&mut self) -> SocketAddr {
        let found = within(PATIENCE, || {
            let exited = self.has_exited();
            match listening_address("queue ", &self.stdout.text()) {
                Some(address) => Some(Ok(address)),
                None => exited.then_some(Err(())),
            }
        });
        match found {
            Some(Ok(address)) => address,
            Some(Err(())) => panic!("the server ended at start with {:?}", self.exit),
            None => panic!("the server did not say where it listens"),
        }
    }

    /// Where the queue listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where HTTP listens.
    pub(crate) fn http_address(&self) -> SocketAddr {
        eventually("the server says where HTTP listens", || {
            listening_address("http ", &self.stdout.text())
        })
    }

    /// Where the public port of channels is.
    pub(crate) fn public_address(&self) -> SocketAddr {
        eventually("the server says where its public port is", || {
            listening_address("public ", &self.stdout.text())
        })
    }

    /// Where the admin port is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        eventually("the server says where its admin port is", || {
            listening_address("admin ", &self.stdout.text())
        })
    }

    /// Waits until these words stand in what it has printed: it may be listening before that is so.
    #[track_caller]
    pub(crate) fn wait_to_say(&self, words: &str) {
        let says = within(PATIENCE, || self.stdout().contains(words).then_some(()));
        assert!(says.is_some(), "{words:?} in {}", self.stdout());
    }

    /// A new connection by HTTP.
    pub(crate) fn http_client(&self) -> HttpClient {
        HttpClient::connect(self.http_address())
    }

    /// Replaces the configuration file of [`Setup::text`].
    pub(crate) fn rewrite(&self, text: &str) {
        std::fs::write(self._directory.path().join("eserver.toml"), text)
            .expect("our own directory");
    }

    /// Where its messages lie.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The process id, as the kernel's tools want it.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Everything on stderr so far; all of it once the server ended.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Everything on stdout so far; all of it once the server ended.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(self.exit.is_none(), "the server already ended");
        let process = Pid::from_raw(self.child.id().try_into().expect("a process id"));
        kill(process, signal).expect("a child that was not waited for exists");
    }

    /// Whether the process is over.
    pub(crate) fn has_exited(&mut self) -> bool {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("our own child");
        }
        self.exit.is_some()
    }

    /// Waits for the end of the process and of its output.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let exited = within(PATIENCE, || self.has_exited().then_some(()));
        assert!(exited.is_some(), "the server did not end within {PATIENCE:?}");
        self.stdout.join();
        self.stderr.join();
        self.exit.expect("it has exited")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// SIGTERM, which must end in order.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "SIGTERM ends with {status}");
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most resident memory since the last [`Server::forget_peak`], in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Lets [`Server::peak_bytes`] start again from what is resident now.
    pub(crate) fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("our own child");
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).expect("the server runs");
        let kibibytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {path}"));
        kibibytes * 1024
    }

    /// Descriptors it has open, summed over its threads: a shard may have a table of its own.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .expect("the server runs")
            .filter_map(|task| std::fs::read_dir(task.ok()?.path().join("fd")).ok())
            .map(Iterator::count)
            .sum()
    }

    /// Processor time of all its threads so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let tasks = format!("/proc/{}/task", self.child.id());
        let nanoseconds = std::fs::read_dir(&tasks)
            .expect("the server runs")
            .filter_map(|task| {
                // A thread may end between the listing and this look.
                let schedule = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
                schedule.split_whitespace().next()?.parse::<u64>().ok()
            })
            .sum();
        Duration::from_nanos(nanoseconds)
    }

    /// Waits until a fresh connection is answered, as after an overload.
    pub(crate) fn wait_until_answering(&self) -> Duration {
        let start = Instant::now();
        eventually("a new connection is answered", || {
            let mut client = Client::try_connect(self.address).ok()?;
            client.set_patience(Duration::from_secs(1));
            let reply = client.try_ask(8003, "")?;
            (reply.command == 8003).then_some(())
        });
        start.elapsed()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.exit.is_none() {
            // Nothing to do about a failure here: the process is then gone already.
            drop(self.child.kill());
            drop(self.child.wait());
        }
        self.stdout.join();
        self.stderr.join();
        if std::thread::panicking() {
            eprintln!("--- stdout of the server\n{}", self.stdout.last_lines());
            eprintln!("--- stderr of the server\n{}---", self.stderr.last_lines());
        }
    }
}

/// The address in the first line `queue     listening on 127.0.0.1:8888 …`, or that of another
/// service. A line that has not come to its end has none.
fn listening_address(service: &str, stdout: &str) -> Option<SocketAddr> {
    let line = stdout.lines().find(|line| line.starts_with(service))?;
    let (_, rest) = line.split_once("listening on ")?;
    let (word, _) = rest.split_once(' ')?;
    word.trim_end_matches([',', ';', '.']).parse().ok()
}
