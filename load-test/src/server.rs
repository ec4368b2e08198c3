//! The server under test: the release `icecore` binary in a temporary directory, driven only through its command line.

use std::env;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process;

/// How long the server may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long the server may take to drain and close its log.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The gateway identity under which the fleet writes, and the devices it may write for.
const GATEWAY: &str = "load-gateway";
const GATEWAY_GRANT: &str = "load/*";

/// A running server of our own; stopped and removed on drop.
#[derive(Debug)]
pub struct TestServer {
    icecore: PathBuf,
    directory: TempDir,
    child: Child,
    quic: SocketAddr,
    http: SocketAddr,
    /// Configuration from the environment, `SECTION__KEY`.
    settings: Vec<(String, String)>,
}

impl TestServer {
    /// Makes a directory under `parent` (the system's temporary directory without it), certificates and a gateway
    /// identity, and starts the server.
    ///
    /// # Errors
    /// When a command fails, or the server does not answer in time.
    pub fn start(parent: Option<&Path>) -> Result<Self> {
        Self::start_with(parent, &[])
    }

    /// The same with `settings`, which are keys of the configuration as `SECTION__KEY` and their values.
    ///
    /// # Errors
    /// When a command fails, or the server does not answer in time.
    pub fn start_with(parent: Option<&Path>, settings: &[(&str, &str)]) -> Result<Self> {
        let icecore = icecore_binary()?;
        let mut directory = tempfile::Builder::new();
        directory.prefix("icecore-load-");
        let directory = match parent {
            Some(parent) => directory.tempdir_in(parent),
            None => directory.tempdir(),
        }
        .context("cannot make a directory for the server")?;
        run(Command::new(&icecore).arg("init").arg("--dir").arg(directory.path()))?;
        let quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let listen = [("LISTEN__QUIC", quic.to_string()), ("LISTEN__HTTP", http.to_string())];
        let settings = settings.iter().map(|&(key, value)| (key, value.to_owned())).chain(listen);
        let settings = settings.map(|(key, value)| (format!("ICECORE__{key}"), value)).collect::<Vec<_>>();
        let child = spawn(&icecore, directory.path(), &settings)?;
        let mut server = Self { icecore, directory, child, quic, http, settings };
        server.wait_until_listening()?;
        server.enroll_gateway(GATEWAY, GATEWAY_GRANT)?;
        Ok(server)
    }

    /// Ends the server with SIGKILL.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Starts the server again, where it was; returns as soon as it listens.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn restart(&mut self) -> Result<()> {
        self.child = spawn(&self.icecore, self.directory.path(), &self.settings)?;
        self.wait_until_listening()
    }

    /// Enrolls the device `name`; returns its identity directory.
    ///
    /// # Errors
    /// When the command fails.
    pub fn enroll_device(&self, name: &str) -> Result<PathBuf> {
        self.enroll(name, &[])
    }

    /// Enrolls the gateway `name` for the devices that `glob` matches; returns its identity directory.
    ///
    /// # Errors
    /// When the command fails.
    pub fn enroll_gateway(&self, name: &str, glob: &str) -> Result<PathBuf> {
        self.enroll(name, &["--gateway-for", glob])
    }

    fn enroll(&self, name: &str, more: &[&str]) -> Result<PathBuf> {
        let identity = self.path(name);
        let out = identity.to_str().context("the directory's name is not UTF-8")?;
        self.command(&[&["device", "enroll", name, "--out", out], more].concat())?;
        Ok(identity)
    }

    /// Runs an `icecore` command with the server's configuration; returns what it printed.
    ///
    /// # Errors
    /// When the command fails.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        run(Command::new(&self.icecore)
            .arg("--config")
            .arg(self.path("icecore.toml"))
            .args(arguments)
            .envs(self.settings.iter().map(|(key, value)| (key, value))))
    }

    /// A path in the server's directory, such as `data`, its log.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where devices connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.quic
    }

    /// The directory of the gateway identity.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.path(GATEWAY)
    }

    /// Processor time used since its start, in seconds.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// Memory in RAM, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        process::resident_bytes(self.child.id())
    }

    /// The part of it that no file backs, in bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn anonymous_bytes(&self) -> Result<u64> {
        process::anonymous_bytes(self.child.id())
    }

    /// Batch bytes that the log took over bytes that it wrote, since the start; `None` before the first block.
    ///
    /// # Errors
    /// When the server does not tell its metrics.
    pub fn compression_ratio(&self) -> Result<Option<f64>> {
        let metrics = self.metrics()?;
        let taken = metric(&metrics, "icecore_log_raw_bytes_total");
        let written = metric(&metrics, "icecore_log_stored_bytes_total");
        Ok(taken.zip(written).filter(|&(_, written)| written > 0.0).map(|(taken, written)| taken / written))
    }

    /// Its metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn metrics(&self) -> Result<String> {
        let mut connection =
            TcpStream::connect(self.http).context("the server's HTTP port does not answer")?;
        write!(connection, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http)?;
        let mut response = String::new();
        connection.read_to_string(&mut response)?;
        Ok(response)
    }

    /// Asks the server to stop and waits until it has.
    ///
    /// # Errors
    /// When it takes too long or does not exit in good order.
    pub fn stop(&mut self) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the server has no pid")?;
        kill_process(pid, Signal::TERM).context("cannot signal the server")?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}:\n{}", self.last_words());
                return Ok(());
            }
            ensure!(begin.elapsed() < STOP_LIMIT, "the server did not stop within {STOP_LIMIT:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Replays the whole log and counts; every batch is validated on the way.
    ///
    /// # Errors
    /// When the replay fails or its answer has no such number.
    pub fn replay_count(&self) -> Result<StoredCount> {
        let text = self.command(&["replay", "--format", "count"])?;
        serde_json::from_str(&text).with_context(|| format!("unexpected answer of `icecore replay`: {text}"))
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.http).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", self.last_words());
            }
            ensure!(begin.elapsed() < START_LIMIT, "the server does not answer:\n{}", self.last_words());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        let start = log.char_indices().rev().nth(2_000).map_or(0, |(at, _)| at);
        log[start..].to_owned()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Both fail harmlessly when the server was stopped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the server of `directory`.
fn spawn(icecore: &Path, directory: &Path, settings: &[(String, String)]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("server.log"))?;
    Command::new(icecore)
        .arg("--config")
        .arg(directory.join("icecore.toml"))
        .arg("serve")
        .envs(settings.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", icecore.display()))
}

/// What a replay found in the log.
#[derive(Debug, serde::Deserialize)]
pub struct StoredCount {
    /// Events.
    pub events: u64,
}

/// The value of the metric `name` in Prometheus text; `name` ends with the labels, if it has any.
#[must_use]
pub fn metric(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The `icecore` binary beside this program. Under cargo it is built first, so that it is never an old one.
fn icecore_binary() -> Result<PathBuf> {
    /// Where it is, once it was built.
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(icecore) = &*built {
        return Ok(icecore.clone());
    }
    let mut beside = env::current_exe()?;
    beside.pop();
    if beside.ends_with("deps") {
        // This is a test.
        beside.pop();
    }
    if let Some(cargo) = env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        // What cargo tells programs about their own package would have build scripts run again that watch it.
        for (variable, _) in env::vars_os() {
            let package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
            if variable.to_str().is_some_and(|name| package.iter().any(|prefix| name.starts_with(prefix))) {
                build.env_remove(variable);
            }
        }
        // As a run of all tests or of this program builds it, so that its dependencies have the same features: they are not built again.
        build.args(if cfg!(debug_assertions) {
            &["test", "--quiet", "--no-run", "--workspace", "--test", "scenarios"][..]
        } else {
            &["build", "--quiet", "--release", "--workspace", "--bin", "icecore"]
        });
        build.arg("--target-dir").arg(beside.parent().context("this program is not in a target directory")?);
        run(&mut build)?;
    }
    let icecore = beside.join("icecore");
    ensure!(
        icecore.exists(),
        "{} is not there; build it with `cargo build --release -p icecore-server`",
        icecore.display()
    );
    Ok(built.insert(icecore).clone())
}

/// Runs a command to its end and returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{:?} failed with {}:\n{}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# TYPE icecore_a counter\nicecore_a_total 7\nicecore_a{kind=\"b\"} 2\nicecore_a 3.5\n";
        assert_eq!(metric(text, "icecore_a"), Some(3.5));
        assert_eq!(metric(text, "icecore_a_total"), Some(7.0));
        assert_eq!(metric(text, "icecore_a{kind=\"b\"}"), Some(2.0));
        assert_eq!(metric(text, "icecore"), None);
    }
}
