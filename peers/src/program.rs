//! [`Program`]: a server process in a private directory.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// Longest time for a server to start, repairing included, or for its processes to be gone.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest time for a server to end when asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Whom the servers run as when root starts them, which most of them refuse to be.
const NOBODY: u32 = 65_534;

/// A directory that belongs to whoever runs the servers.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(&format!("eserver-{name}-")).tempdir()?;
        if is_root()? {
            chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
        }
        Ok(Home { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A command that runs in it, as whoever it belongs to.
    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env("HOME", self.path()).env("LC_ALL", "C");
        command.env("TMPDIR", self.path()).stdin(Stdio::null());
        if is_root()? {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ok(command)
    }
}

/// A server that runs in the background, its output in a file.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    /// The kernel ends the server together with the thread that started it; so this one lives for
    /// exactly as long as the server shall.
    keeper: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Program {
    /// Starts it and waits until `accepts` says yes.
    ///
    /// # Errors
    /// When it ends before that, with the end of what it said.
    pub(crate) fn start(
        home: &Home,
        program: &Path,
        arguments: &[String],
        accepts: impl Fn() -> bool,
    ) -> Result<Self> {
        let log = home.path().join("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let setpriv = find("setpriv", &[], "util-linux")?;
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL"]);
        if is_root()? {
            let nobody = NOBODY.to_string();
            command.args(["--clear-groups", "--regid", &nobody, "--reuid", &nobody]);
        }
        command.arg(program).args(arguments).current_dir(home.path()).env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.env("TMPDIR", home.path());
        let (end, ended) = mpsc::channel::<()>();
        let (started, child) = mpsc::channel();
        let thread = thread::spawn(move || {
            if started.send(command.spawn()).is_ok() {
                let _: Result<(), mpsc::RecvError> = ended.recv(); // it is only ever hung up
            }
        });
        let child = child.recv()?.with_context(|| format!("cannot run {}", program.display()))?;
        let mut program = Program { child, log, keeper: Some((end, thread)) };
        let deadline = Instant::now() + PATIENCE;
        while !accepts() {
            let ended = program.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the server has not started ({ended:?}): {}", program.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(program)
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned()
    }

    /// Kills it and all processes that it started, without a word, and waits until they are gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let children = children_of(self.child.id())?;
        self.child.kill()?; // which does nothing once it was waited for
        self.child.wait()?;
        // What it started and we did not kill ends by itself when it sees that it is alone.
        for child in &children {
            signal("-KILL", child)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while children.iter().any(|child| parent_of(child).is_some()) {
            ensure!(Instant::now() < deadline, "processes of the server are still there");
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// If it has children, asks it to end, so that it takes leave of them itself, and waits for that
    /// a while.
    fn ask_to_end(&mut self) -> Result<()> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        if self.child.try_wait()?.is_some() || children_of(self.child.id())?.is_empty() {
            return Ok(());
        }
        signal("-QUIT", &self.child.id().to_string())?;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

/// Sends a signal; that the process is gone already is no failure.
fn signal(name: &str, id: &str) -> Result<()> {
    Command::new("kill").args([name, id]).stderr(Stdio::null()).status()?;
    Ok(())
}

impl Drop for Program {
    fn drop(&mut self) {
        // At the end of a test there is nobody left to tell of a failure, and the kernel sees to it
        // as well.
        let _: Result<()> = self.ask_to_end();
        let _: Result<()> = self.kill();
        if let Some((end, thread)) = self.keeper.take() {
            drop(end);
            let _: thread::Result<()> = thread.join();
        }
    }
}

/// The ids of the processes that a process started.
fn children_of(parent: u32) -> Result<Vec<String>> {
    let parent = parent.to_string();
    let ids = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|id| parent_of(id).as_deref() == Some(&parent));
    Ok(ids.collect())
}

/// The id of the process that started it; `None` once it is dead.
fn parent_of(id: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Its name, in parentheses, may hold blanks and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    fields.next().filter(|_| !matches!(state, "Z" | "X")).map(str::to_owned)
}

/// Runs a command to its end and answers with what it printed.
///
/// # Errors
/// When it fails, with what it said.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout);
        bail!("{name} ended with {}: {said}{printed}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The program on the path, where system programs lie, or in one of `elsewhere`.
///
/// # Errors
/// When it is missing; the error is the command that installs it.
pub(crate) fn find(program: &str, elsewhere: &[PathBuf], package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    elsewhere
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{program} is missing: sudo apt-get install -y {package}"))
}

/// Ports that the kernel gives to nobody by itself, neither to who connects nor to who listens on any:
/// a server finds its own again when it was killed and comes back.
const PORTS: std::ops::Range<u16> = 10_000..16_000;

/// A port on 127.0.0.1 that nobody uses just now.
pub(crate) fn free_port() -> Result<u16> {
    // Processes begin at different places, so that they rarely look at the same port at once.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() as u16).wrapping_mul(97);
    for _ in PORTS {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start);
        let port = PORTS.start + turn % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port from {} to {} is free", PORTS.start, PORTS.end - 1)
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_an_error_that_names_its_package() {
        let error = find("no-such-program", &[], "no-such-package").unwrap_err();
        assert!(error.to_string().contains("apt-get install -y no-such-package"), "{error}");
    }

    #[test]
    fn a_program_that_ends_at_once_is_an_error_with_its_words() {
        let home = Home::new("test").unwrap();
        let shell = find("sh", &[], "dash").unwrap();
        let arguments = ["-c", "echo no room; exit 3"].map(str::to_owned);
        let error = Program::start(&home, &shell, &arguments, || false).err().expect("it ended");
        assert!(error.to_string().contains("no room"), "{error}");
    }

    #[test]
    fn killing_takes_the_children_along() {
        let home = Home::new("test").unwrap();
        let shell = find("sh", &[], "dash").unwrap();
        let arguments = ["-c", "sleep 1000 & echo $! > child; wait"].map(str::to_owned);
        let child = || std::fs::read_to_string(home.path().join("child")).unwrap_or_default();
        let mut program =
            Program::start(&home, &shell, &arguments, || child().ends_with('\n')).unwrap();
        assert!(parent_of(child().trim()).is_some());
        program.kill().unwrap();
        assert_eq!(parent_of(child().trim()), None);
    }
}
