//! A client under test: an adapter's process, and what it said.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use icecore_device::SequenceRanges;
use serde_json::{Value as Json, json};

use crate::harness::workspace;

/// More than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The waits of every client between two attempts.
pub(crate) const BACKOFF: Range<Duration> = Duration::from_millis(50)..Duration::from_millis(200);

/// Rows of a batch of [`Client::record`].
pub(crate) const ROWS: i64 = 10;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Sdk {
    Rust,
    Python,
}

/// The interpreter that can run the Python client, if one was named.
pub(crate) fn python() -> Option<OsString> {
    std::env::var_os("ICECORE_PYTHON")
}

/// The Rust SDK's adapter. Part of every build of the whole workspace, and brought up to date for those who test less: it
/// alone, but with the workspace's features of its dependencies, or they would be built once more for it.
static RUST_ADAPTER: LazyLock<PathBuf> = LazyLock::new(|| {
    let beside = Path::new(env!("CARGO_BIN_EXE_icecore")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--workspace", "--example", "conformance"]);
    if beside.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the Rust SDK's adapter cannot be built");
    beside.join("examples/conformance")
});

pub(crate) struct Client {
    child: Child,
    commands: ChildStdin,
    said: mpsc::Receiver<Json>,
    /// Events that nobody has asked for yet.
    events: VecDeque<Json>,
}

impl Client {
    /// Starts an adapter and has it connect; batches have [`ROWS`] rows.
    pub(crate) fn connect(sdk: Sdk, server: SocketAddr, identity: &Path) -> Self {
        Self::connect_with(sdk, server, identity, ROWS as usize)
    }

    pub(crate) fn connect_with(sdk: Sdk, server: SocketAddr, identity: &Path, max_rows: usize) -> Self {
        let mut client = Self::start(sdk);
        client.obeys(&json!({
            "do": "connect", "server": server.to_string(), "identity": identity,
            "max_rows": max_rows, "max_bytes": 1 << 20,
            "backoff_min_ms": BACKOFF.start.as_millis() as u64, "backoff_max_ms": BACKOFF.end.as_millis() as u64,
        }));
        client.schema(
            "n",
            &json!([{"name": "n", "type": "i64", "kind": "gauge", "unit": "", "nullable": false}]),
        );
        client
    }

    fn start(sdk: Sdk) -> Self {
        let mut command = match sdk {
            Sdk::Rust => Command::new(RUST_ADAPTER.as_path()),
            Sdk::Python => {
                let client = workspace().join("clients/python");
                let mut command = Command::new(python().unwrap());
                command.arg(client.join("conformance.py")).env("PYTHONPATH", &client);
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| sender.send(serde_json::from_str(&line).unwrap()))
        });
        let commands = child.stdin.take().unwrap();
        Self { child, commands, said, events: VecDeque::new() }
    }

    /// Gives a command; returns the answer.
    fn ask(&mut self, command: &Json) -> Json {
        writeln!(self.commands, "{command}").unwrap();
        loop {
            let line = self.said.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no answer to {command}"));
            if line["event"].is_null() {
                return line;
            }
            self.events.push_back(line);
        }
    }

    fn obeys(&mut self, command: &Json) {
        let answer = self.ask(command);
        assert_eq!(answer["answer"], "ok", "{}: {answer}", command["do"]);
    }

    /// Adds a device, with an epoch of the suite's choice (gateways only) or the client's own.
    pub(crate) fn attach(&mut self, device: &str, epoch: Option<[u8; 16]>) {
        let epoch = epoch.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        self.obeys(&json!({ "do": "attach", "device": device, "epoch": epoch }));
    }

    /// Makes a schema known: its name is the key for [`Client::rows`] too.
    pub(crate) fn schema(&mut self, name: &str, fields: &Json) {
        self.obeys(&json!({ "do": "schema", "schema": name, "name": name, "version": 1, "fields": fields }));
    }

    pub(crate) fn rows(&mut self, device: &str, schema: &str, rows: &[Json]) {
        self.obeys(&json!({ "do": "record", "device": device, "schema": schema, "rows": rows }));
    }

    /// Records events of one integer, which is also their time and, for whoever begins at 0, their sequence.
    pub(crate) fn record(&mut self, device: &str, numbers: Range<i64>) {
        let rows: Vec<_> = numbers.map(|n| json!([n, n])).collect();
        self.rows(device, "n", &rows);
    }

    /// Waits until everything is settled.
    pub(crate) fn flush(&mut self) {
        self.obeys(&json!({ "do": "flush", "timeout_ms": PATIENCE.as_millis() as u64 / 2 }));
    }

    /// The next event of this kind for which the rest holds; those before it are passed over.
    pub(crate) fn wait(&mut self, kind: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["event"] == kind && wanted(&event) {
                    return event;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left).unwrap_or_else(|_| panic!("{kind} does not come"));
            self.events.push_back(line);
        }
    }

    /// Waits until all sequences of `range` are reported as durable.
    pub(crate) fn wait_for_acks(&mut self, device: &str, range: Range<u64>) {
        let mut acked = SequenceRanges::new();
        while !acked.covers(&range) {
            let event = self.wait("acked", |event| event["device"] == device && event["level"] == "durable");
            acked.insert(event["start"].as_u64().unwrap()..event["end"].as_u64().unwrap());
        }
    }

    /// Everything of a kind that was said and not yet asked for.
    pub(crate) fn count(&mut self, kind: &str) -> usize {
        self.events.extend(self.said.try_iter());
        self.events.iter().filter(|event| event["event"] == kind).count()
    }

    /// Ends the client in good order.
    pub(crate) fn close(mut self) {
        self.obeys(&json!({ "do": "close" }));
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if thread::panicking() {
            self.events.extend(self.said.try_iter());
            eprintln!("not asked for: {:#?}", self.events);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
