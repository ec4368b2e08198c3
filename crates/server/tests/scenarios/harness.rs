//! A site: a directory that `icecore init` made, and the processes that work in it.

use std::cell::RefCell;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// More than a start takes on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// More than any command takes on a busy machine.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);

/// More than what is waited for takes on a busy machine.
const WAIT_TIMEOUT: Duration = Duration::from_secs(90);

/// The workspace's `testdata/`.
pub(crate) fn testdata() -> PathBuf {
    workspace().join("testdata")
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// How often a crash test crashes: `ICECORE_CRASH_ROUNDS`, or 20 times.
pub(crate) fn crash_rounds() -> u64 {
    env::var("ICECORE_CRASH_ROUNDS").map_or(20, |rounds| rounds.parse().unwrap())
}

/// What a crash test's random choices follow from, which it prints: `ICECORE_CRASH_SEED`, or a new one.
pub(crate) fn crash_seed() -> u64 {
    let seed =
        env::var("ICECORE_CRASH_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("ICECORE_CRASH_SEED={seed}");
    seed
}

/// Waits until something has happened, but not for ever.
pub(crate) fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < WAIT_TIMEOUT, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A new directory with configuration, certificates and an empty log.
pub(crate) struct Site {
    directory: PathBuf,
    /// Removes the directory in the end, where it is the site's own.
    _owned: Option<TempDir>,
    /// The environment of its commands, beyond the free ports that every site has.
    environment: Vec<(String, String)>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let owned = tempfile::tempdir().unwrap();
        let site = Self::with(owned.path().to_owned(), Some(owned));
        let dir = site.path("").to_str().unwrap().to_owned();
        assert_success(&icecore(&["init", "--dir", &dir]));
        site
    }

    /// A site that is there already.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self::with(directory, None)
    }

    fn with(directory: PathBuf, owned: Option<TempDir>) -> Self {
        Self { directory, _owned: owned, environment: Vec::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Configures the site's commands from here on, through the environment: `key` is `SECTION__KEY`.
    pub(crate) fn set(&mut self, key: &str, value: impl Into<String>) {
        self.set_environment(&format!("ICECORE__{key}"), value);
    }

    /// Gives the site's commands an environment variable from here on.
    pub(crate) fn set_environment(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Has every server of the site listen where the others did: devices outlive them.
    pub(crate) fn keep_address(&mut self) -> SocketAddr {
        let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        self.set("LISTEN__QUIC", free.to_string());
        free
    }

    /// A command with this site's configuration and free ports.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command.arg("--config").arg(self.path("icecore.toml")).args(arguments);
        for key in ["QUIC", "HTTP"] {
            command.env(format!("ICECORE__LISTEN__{key}"), "127.0.0.1:0");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        output(self.command(arguments))
    }

    /// Runs a command that must succeed; returns its standard output.
    pub(crate) fn expect(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Enrolls the device `name`; returns its identity directory.
    pub(crate) fn enroll_device(&self, name: &str) -> PathBuf {
        let identity = self.path("identities").join(name);
        self.expect(&["device", "enroll", name, "--out", identity.to_str().unwrap()]);
        identity
    }

    /// Enrolls the gateway `name`; returns its identity directory.
    pub(crate) fn enroll_gateway(&self, name: &str, glob: &str) -> String {
        let identity = self.path(name).to_str().unwrap().to_owned();
        self.expect(&["device", "enroll", name, "--gateway-for", glob, "--out", &identity]);
        identity
    }

    /// Starts a server and waits until it is ready.
    pub(crate) fn serve(&self) -> Server {
        self.try_serve(&[]).unwrap()
    }

    /// The same at a given address.
    pub(crate) fn serve_at(&self, quic: SocketAddr) -> Server {
        let mut command = self.command(&["--log-format", "json", "serve"]);
        command.env("ICECORE__LISTEN__QUIC", quic.to_string());
        Server::start(command).unwrap()
    }

    /// The same with more arguments; returns what the server said if it ended instead.
    pub(crate) fn try_serve(&self, arguments: &[&str]) -> Result<Server, String> {
        let mut command = self.command(&["--log-format", "json", "serve"]);
        command.args(arguments);
        Server::start(command)
    }
}

/// A running server process, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) quic: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Where Flight SQL is, if it is configured.
    pub(crate) flight: Option<SocketAddr>,
    child: Child,
    log: mpsc::Receiver<String>,
    /// What it has said so far.
    said: RefCell<String>,
}

impl Server {
    fn start(mut command: Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server =
            Self { quic: nowhere, http: nowhere, flight: None, child, log, said: RefCell::default() };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        loop {
            let line = match self.log.recv_timeout(START_TIMEOUT) {
                Ok(line) => line,
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(self.said.take()),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the server does not get ready"),
            };
            *self.said.get_mut() += &(line.clone() + "\n");
            let line = serde_json::from_str(&line).unwrap_or(serde_json::Value::Null);
            if line["message"] == "ready" {
                let address = |key: &str| line[key].as_str().unwrap().parse().unwrap();
                (self.quic, self.http) = (address("quic"), address("http"));
                self.flight = line["flight"].as_str().and_then(|address| address.parse().ok());
                return Ok(());
            }
        }
    }

    /// The address as `--server` takes it.
    pub(crate) fn address(&self) -> String {
        self.quic.to_string()
    }

    /// What a GET of `path` answers, head and body.
    pub(crate) fn get(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.0\r\n\r\n"))
    }

    /// What a whole request is answered, head and body.
    pub(crate) fn request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    /// What `/metrics` says of a metric, `name` or `name{label="value"}`; 0 if it does not know it yet.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let metrics = self.get("/metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Whether its log has these words by now.
    pub(crate) fn has_said(&self, words: &str) -> bool {
        let mut said = self.said.borrow_mut();
        self.log.try_iter().for_each(|line| *said += &(line + "\n"));
        said.contains(words)
    }

    /// Its log has these words by now.
    pub(crate) fn assert_said(&self, words: &str) {
        assert!(self.has_said(words), "it does not say {words:?}: {}", self.said.borrow());
    }

    /// The first line of the answer to a GET of `path`, whose body may never end.
    pub(crate) fn get_head(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    /// Waits until it has taken this many events into the log since its start.
    pub(crate) fn wait_for_events(&self, least: u64) {
        wait_until("events to arrive", || self.metric("icecore_events_total") >= least as f64);
    }

    /// Waits until it says this in its log, which is read no further; returns the line.
    pub(crate) fn wait_to_say(&self, text: &str) -> String {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("it does not say {text:?}"));
            *self.said.borrow_mut() += &(line.clone() + "\n");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends SIGTERM and waits.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.said.take();
            eprintln!("the server said\n{said}{}", self.log.try_iter().collect::<Vec<_>>().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the binary without a site.
pub(crate) fn icecore(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
    command.args(arguments);
    output(command)
}

/// Runs a command to its end; one that hangs is killed, so that the scenario fails instead.
pub(crate) fn output(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (finished, watched) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watched.recv_timeout(RUN_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("killed a command that hung");
            kill_process(pid, Signal::KILL).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(finished);
    watchdog.join().unwrap();
    output
}

pub(crate) fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
}

/// Checks that a command failed and said all of `expected` on standard error.
pub(crate) fn assert_failure(output: &Output, expected: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in expected {
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
