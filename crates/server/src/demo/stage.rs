//! Where the demo happens: a directory with certificates and identities, and the server process.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use icecore_device::Identity;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{DeviceCommand, EnrollArgs, InitArgs};
use crate::config::{Config, Listen};
use crate::{device, init};

/// How long the server may take to answer after its start, and to drain and close its log at the end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
const GLANCE: Duration = Duration::from_millis(20);

/// A prepared directory.
#[derive(Debug)]
pub(super) struct Stage {
    directory: PathBuf,
    config: Config,
}

impl Stage {
    /// Prepares `directory`, which must be new or empty, or a temporary one: configuration, ports, certificates.
    pub(super) fn set_up(directory: Option<&Path>) -> Result<Self> {
        let directory = match directory {
            Some(directory) => directory.to_owned(),
            None => tempfile::Builder::new().prefix("icecore-demo-").tempdir()?.keep(),
        };
        let is_free = fs::read_dir(&directory).map_or(true, |mut entries| entries.next().is_none());
        ensure!(is_free, "{} is not empty; choose a new directory", directory.display());
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let directory = fs::canonicalize(directory)?;
        init::run(&InitArgs { dir: directory.clone(), hosts: Vec::new() }, &mut io::sink())?;
        take_free_ports(&config_file(&directory))?;
        let config = Config::load(&config_file(&directory))?;
        Ok(Self { directory, config })
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration file in it.
    pub(super) fn config_file(&self) -> PathBuf {
        config_file(&self.directory)
    }

    /// The data directory of its server.
    pub(super) fn data(&self) -> &Path {
        &self.config.data.dir
    }

    /// Where devices connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.config.listen.quic
    }

    /// Enrols `name`, as a gateway if it is to write for devices that match `grant`, and loads its identity.
    pub(super) fn enroll(&self, name: &str, grant: Option<&str>) -> Result<Identity> {
        let out = self.directory.join("identities").join(name);
        let args = EnrollArgs {
            name: name.parse()?,
            labels: vec![("made-by".to_owned(), "demo".to_owned())],
            csr: None,
            valid_for: None,
            gateway_for: grant.into_iter().map(str::to_owned).collect(),
            out: out.clone(),
        };
        device::run(&DeviceCommand::Enroll(args), &self.config, &mut io::sink())?;
        Ok(Identity::load(&out)?)
    }

    /// Starts the server process.
    pub(super) fn launch_server(&self) -> Result<Server> {
        let log = self.directory.join("server.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("--config")
            .arg(self.config_file())
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the server process")?;
        Ok(Server { child, http: self.config.listen.http, log })
    }
}

/// The server process; killed on drop.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    http: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Waits until it answers over HTTP.
    pub(super) fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(self.http).is_err() {
            self.check()?;
            ensure!(begin.elapsed() < PATIENCE, "the server did not answer within {PATIENCE:?}");
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Fails when it has ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the server ended with {status}; its log is {}", self.log.display()),
            None => Ok(()),
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL, in whatever it was doing.
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill().context("cannot kill the server")?;
        self.child.wait().context("cannot wait for the killed server")?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM and waits until it has, in good order.
    pub(super) fn stop(mut self) -> Result<()> {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the server has no pid")?;
        kill_process(pid, Signal::TERM).context("cannot signal the server")?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status}");
                return Ok(());
            }
            ensure!(begin.elapsed() < PATIENCE, "the server did not stop within {PATIENCE:?}");
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail harmlessly when it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config_file(directory: &Path) -> PathBuf {
    directory.join("icecore.toml")
}

/// Replaces the default ports by free ones, so that a demo runs beside a real server.
fn take_free_ports(config: &Path) -> Result<()> {
    let mut text = fs::read_to_string(config)?;
    let Listen { quic, http } = Listen::default();
    let free_quic = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let free_http = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    for (key, default, free) in [("quic", quic, free_quic), ("http", http, free_http)] {
        let line = format!("\n{key} = \"{default}\"\n");
        ensure!(text.contains(&line), "{} has no {key} = \"{default}\"", config.display());
        text = text.replacen(&line, &format!("\n{key} = \"{free}\"\n"), 1);
    }
    fs::write(config, text).with_context(|| format!("cannot write {}", config.display()))
}
