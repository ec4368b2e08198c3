//! A real server that speaks S3, on this machine.

use std::collections::BTreeMap;
use std::env;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use icecore_tier::store::{Place, Store, Waiting};
use tempfile::TempDir;

/// How long the server may take until it listens.
const START: Duration = Duration::from_secs(60);
const BUCKET: &str = "icecore-test";
const SETTINGS: [&str; 7] = [
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
];
/// Every port that it would otherwise choose itself; the first is the one that speaks S3.
const PORTS: [&str; 10] = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
];

/// What a client shows to be let in.
pub(crate) const ACCESS_KEY: &str = "icecore";
pub(crate) const SECRET_KEY: &str = "for-tests-only";

/// The server; it ends with this value.
pub(crate) struct Server {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Server {
    /// Starts SeaweedFS, whose `weed` the environment variable `ICECORE_WEED` names.
    pub(crate) fn start() -> Option<Self> {
        let weed = env::var_os("ICECORE_WEED")?;
        let directory = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let mut command = Command::new(weed);
        command.arg("mini").args(SETTINGS).arg(format!("-dir={}", directory.path().display()));
        command.args(PORTS.iter().zip(ports).map(|(flag, port)| format!("-{flag}={port}")));
        for socket in ["s3", "filer"] {
            command.arg(format!("-{socket}.localSocket={}", directory.path().join(socket).display()));
        }
        let child = command
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("S3_BUCKET", BUCKET)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("ICECORE_WEED names a program");
        let server = Self { child, port: ports[0], _directory: directory };
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
            assert!(Instant::now() < deadline, "the S3 server does not listen");
            sleep(Duration::from_millis(100));
        }
        while !server.has_bucket() {
            assert!(Instant::now() < deadline, "the S3 server does not make its bucket");
            sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    /// Whether it can be used: it listens before its bucket is there.
    fn has_bucket(&self) -> bool {
        let store = self.store("begin", "");
        // On a thread of its own, since some tests are in a runtime already.
        let list = move || Waiting::new(None).unwrap().wait(store.list("", |_| {})).is_ok();
        thread::spawn(list).join().unwrap()
    }

    /// Where it listens, on 127.0.0.1.
    #[allow(dead_code, reason = "not every suite has processes that connect by themselves")]
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The store `name` under `prefix` in the server's bucket.
    pub(crate) fn store(&self, name: &str, prefix: &str) -> Store {
        Store::new(name, place(self.port, name, prefix), 0)
    }

    /// Where `prefix` is, as a configuration says it.
    pub(crate) fn url(prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// What a configuration has to say beside the URL; keys apart.
    #[allow(dead_code, reason = "not every suite configures a server of ours")]
    pub(crate) fn options(&self) -> [(&'static str, String); 3] {
        options(self.port)
    }
}

/// The place `prefix` in the bucket of the server at a port, for the store `name`.
pub(crate) fn place(port: u16, name: &str, prefix: &str) -> Place {
    let keys = [("access_key_id", ACCESS_KEY), ("secret_access_key", SECRET_KEY)];
    let keys = keys.map(|(key, value)| (key, value.to_owned()));
    let options: BTreeMap<String, String> =
        options(port).into_iter().chain(keys).map(|(key, value)| (key.to_owned(), value)).collect();
    Place::open(name, &Server::url(prefix), &options).unwrap()
}

fn options(port: u16) -> [(&'static str, String); 3] {
    [
        ("endpoint", format!("http://127.0.0.1:{port}")),
        ("allow_http", "true".to_owned()),
        ("region", "us-east-1".to_owned()),
    ]
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [u16; PORTS.len()] {
    let listeners: [TcpListener; PORTS.len()] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.each_ref().map(|listener| listener.local_addr().unwrap().port())
}
