//! One history: everything that happens, in order, until every device is content.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use icecore_log::disk::{Access, Crash, SimDisk};
use icecore_log::{CommitError, Disk, LogError, Options};
use icecore_wire::Digest;

use crate::device::Device;
use crate::fault::{self, Fault};
use crate::network::{Event, MS, Network};
use crate::oracle::{Content, Oracle, Violation, read_log};
use crate::sample::Schemas;
use crate::server::Server;
use crate::{Failure, History, Tally, data};

/// After peace has come, every device must be content within this time.
const PATIENCE: u64 = 120_000 * MS;

/// Starts that may fail in a row while nothing new goes wrong.
const MOST_FAILED_STARTS: u32 = 20;

pub(crate) struct World {
    seed: u64,
    net: Network,
    disk: SimDisk,
    options: Options,
    schemas: Schemas,
    devices: Vec<Device>,
    server: Option<Server>,
    /// Counts processes of the server.
    boot: u64,
    /// Whether the disk is at work on a block.
    committing: bool,
    /// How the machine goes down when the disk says that it does.
    crash: Crash,
    failed_starts: u32,
    /// When trouble ends.
    peace: u64,
    oracle: Oracle,
    tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = SimDisk::new(rng.u64(..));
        disk.create_dir(data()).expect("the disk works");
        disk.sync_dir(data().parent().expect("it is not the root")).expect("the disk works");
        let options = Options {
            segment_bytes: [6 << 10, 16 << 10, 64 << 10][rng.usize(..3)],
            segment_age: Duration::from_secs(3600),
            block_bytes: [1 << 10, 3 << 10, 8 << 10][rng.usize(..3)],
            ..Options::default()
        };
        let peace = rng.u64(300..2500) * MS;
        let count = rng.usize(1..=4);
        let faults = fault::plan(count, peace, &mut rng);
        let pace = rng.u64(8..60) * MS;
        let mut net = Network::new(rng);
        net.schedule(0, Event::Start);
        net.schedule(peace, Event::Peace);
        for (time, fault) in faults {
            net.schedule(time, Event::Fault(fault));
        }
        let devices: Vec<_> = (0..count).map(|id| Device::new(id, &mut net)).collect();
        for device in 0..count {
            net.schedule(MS, Event::Connect { device });
            let mut time = 0;
            while time < peace {
                net.schedule(time, Event::Cut { device });
                time += net.rng.u64(..2 * pace);
            }
        }
        Self {
            seed,
            net,
            disk,
            options,
            schemas: Schemas::new(),
            devices,
            server: None,
            boot: 0,
            committing: false,
            crash: Crash::Power,
            failed_starts: 0,
            peace,
            oracle: Oracle::default(),
            tally: Tally::default(),
        }
    }

    pub(crate) fn run(mut self) -> Result<History, Box<Failure>> {
        match self.live().and_then(|()| self.end()) {
            Ok(()) => Ok(History { trace: self.net.trace, tally: self.tally, disk: self.disk }),
            Err(violation) => Err(Box::new(Failure { seed: self.seed, violation, trace: self.net.trace })),
        }
    }

    /// Everything up to the time when every device is content.
    fn live(&mut self) -> Result<(), Violation> {
        while self.net.now < self.peace || !self.is_content() {
            if self.net.now > self.peace + PATIENCE {
                return Err(Violation::new("peace came, and some device is still not content"));
            }
            let event = self.net.next_event().ok_or_else(|| Violation::new("nothing happens any more"))?;
            self.happen(event)?;
            if self.disk.is_down() {
                self.go_down(self.crash);
            }
        }
        Ok(())
    }

    fn is_content(&self) -> bool {
        self.devices.iter().all(Device::is_content) && self.server.as_ref().is_some_and(Server::is_at_rest)
    }

    /// Stops the server in good order and takes stock.
    fn end(&mut self) -> Result<(), Violation> {
        self.net.note(format_args!("everybody is content"));
        let server = self.server.take().expect("a content world has a server");
        self.tally.duplicates += server.duplicates();
        let stopped = server.stop(self.net.now);
        stopped.map_err(|e| Violation::new(format!("the server does not stop in good order: {e}")))?;
        let content = self.look()?.expect("the disk is up");
        self.oracle.check_complete(&content)?;
        self.tally.stored = content.batches();
        self.tally.refused = content.refusals();
        self.tally.acked = self.oracle.acked();
        self.net.note(format_args!("the log holds {} batches", content.batches()));
        let disk = self.disk.clone();
        for (file, len) in disk.files() {
            let bytes =
                read_file(&disk, &file).map_err(|e| Violation::new(format!("{}: {e}", file.display())))?;
            self.net.note(format_args!("{}: {len} bytes {}", file.display(), Digest::of(&bytes)));
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Cut { device } => self.devices[device].cut(&self.schemas, &mut self.net, &mut self.oracle),
            Event::Connect { device } => self.connect(device),
            Event::Send { device } => self.devices[device].send(&mut self.net, &mut self.oracle),
            Event::ToServer { connection, stream, bytes } => {
                if self.server.is_none() {
                    self.net.close(connection);
                }
                if let Some(server) = self.server.as_mut().filter(|_| self.net.gets_through(connection)) {
                    let heard = server.hear(connection, stream, &bytes, self.net.now);
                    heard.map_err(|e| {
                        Violation::new(format!("the server does not understand {connection}: {e}"))
                    })?;
                    self.schedule_write();
                }
            }
            Event::ToClient { connection, bytes } => {
                if let Some(device) = self.listener(connection).filter(|_| self.net.gets_through(connection))
                {
                    self.devices[device].hear(&bytes, &mut self.net, &mut self.oracle)?;
                }
            }
            Event::ClientLost { connection } => {
                if let Some(device) = self.listener(connection) {
                    self.devices[device].disconnect(&mut self.net);
                }
            }
            Event::ServerLost { connection } => {
                self.net.close(connection);
                if let Some(server) = &mut self.server {
                    server.lose(connection);
                }
            }
            Event::Write { boot } if boot == self.boot => self.write(),
            Event::Commit { boot } if boot == self.boot => self.commit(),
            Event::Idle { boot } if boot == self.boot => self.idle(),
            Event::Write { .. } | Event::Commit { .. } | Event::Idle { .. } => {}
            Event::Start => self.start()?,
            Event::Peace => self.disk.mend(),
            Event::SpaceReturns => self.disk.set_capacity(None),
            Event::Fault(fault) => self.suffer(fault)?,
        }
        Ok(())
    }

    /// The device that a connection still belongs to.
    fn listener(&self, connection: u64) -> Option<usize> {
        let device = self.net.client(connection)?;
        (self.devices[device].connection() == Some(connection)).then_some(device)
    }

    fn connect(&mut self, device: usize) {
        if self.server.is_some() {
            self.devices[device].connect(&mut self.net);
        } else {
            let backoff = self.net.rng.u64(10..200) * MS;
            self.net.schedule(backoff, Event::Connect { device });
        }
    }

    fn suffer(&mut self, fault: Fault) -> Result<(), Violation> {
        self.net.note(format_args!("{fault:?}"));
        match fault {
            Fault::Crash(crash) => self.go_down(crash),
            Fault::CrashAfter { changes, crash } => {
                self.crash = crash;
                self.disk.go_down_after(changes);
            }
            Fault::SyncFails => self.disk.fail_next_sync(),
            Fault::DiskFull { left, duration } => {
                self.disk.set_capacity(Some(self.disk.used_space() + left));
                self.net.schedule(duration, Event::SpaceReturns);
            }
            Fault::Stop => self.stop(),
            Fault::Disconnect { device } => self.devices[device].disconnect(&mut self.net),
            Fault::Silence { device } => {
                if let Some(connection) = self.devices[device].connection() {
                    self.net.sever(connection);
                }
            }
            Fault::Restart { device, fate } => {
                self.devices[device].restart(fate, &mut self.net, &mut self.oracle);
            }
            Fault::Replay => self.net.replay(),
            Fault::Impostor { device } => {
                let id = self.devices.len();
                let impostor = self.devices[device].impostor(id, &self.schemas, &mut self.net);
                self.devices.push(impostor);
                self.net.schedule(0, Event::Connect { device: id });
            }
            Fault::Seal { hot_bytes, pieces } => self.seal(hot_bytes, pieces)?,
            Fault::Look => {
                if self.server.is_some() {
                    self.look()?;
                }
            }
        }
        Ok(())
    }

    /// Seals while the log is open. That it fails costs nothing, unless the machine goes down with it.
    fn seal(&mut self, hot_bytes: u64, pieces: u64) -> Result<(), Violation> {
        let Some(server) = &self.server else { return Ok(()) };
        match server.seal(hot_bytes, pieces, self.net.now) {
            Ok(done) => self.tally.sealed += u64::from(done),
            Err(LogError::Io { .. } | LogError::SealsPoisoned) => {
                self.net.note(format_args!("the seal fails"));
            }
            Err(e) => return Err(Violation::new(format!("a seal finds what it should not: {e}"))),
        }
        if !self.disk.is_down() {
            self.look()?;
        }
        Ok(())
    }

    fn schedule_write(&mut self) {
        let delay = self.net.rng.u64(..MS / 2);
        self.net.schedule(delay, Event::Write { boot: self.boot });
    }

    fn write(&mut self) {
        let Some(server) = &mut self.server else { return };
        let most = self.net.rng.usize(1..20);
        server.write(most, self.net.now);
        let again = server.has_submissions() && !server.has_blocks();
        if again {
            self.schedule_write();
        }
        self.use_disk();
        self.say();
    }

    /// Gives the disk the next block, if it has none.
    fn use_disk(&mut self) {
        if !self.committing && self.server.as_ref().is_some_and(Server::has_blocks) {
            self.committing = true;
            let latency = self.net.rng.u64(100..8 * MS);
            self.net.schedule(latency, Event::Commit { boot: self.boot });
        }
    }

    fn commit(&mut self) {
        self.committing = false;
        let Some(server) = &mut self.server else { return };
        match server.commit() {
            Ok(()) => {
                self.say();
                self.schedule_write();
                self.use_disk();
                self.net.schedule(200 * MS, Event::Idle { boot: self.boot });
            }
            Err(CommitError::Full { .. }) => {
                self.tally.full += 1;
                self.net.note(format_args!("the disk is full"));
                self.committing = true;
                self.net.schedule(50 * MS, Event::Commit { boot: self.boot });
            }
            Err(CommitError::Fatal { .. } | CommitError::Poisoned) => {
                self.net.note(format_args!("the log failed"));
                self.tally.failed += 1;
                // The process exits; unless the machine goes down with it, the page cache stays.
                if !self.disk.is_down() {
                    self.go_down(Crash::Process);
                }
            }
        }
    }

    fn idle(&mut self) {
        if let Some(server) = &mut self.server {
            server.prove_last_block(self.net.now);
            self.use_disk();
        }
    }

    fn say(&mut self) {
        let said = self.server.as_mut().map(Server::say).unwrap_or_default();
        for (connection, bytes) in said {
            self.net.send_to_client(connection, bytes);
        }
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        self.tally.duplicates += server.duplicates();
        server.go_away();
        match server.stop(self.net.now) {
            Ok(last_words) => {
                for (connection, bytes) in last_words {
                    self.net.send_to_client(connection, bytes);
                }
            }
            Err(e) => self.net.note(format_args!("the server stops in disorder: {}", kind(&e))),
        }
        let crash = if self.disk.is_down() { self.crash } else { Crash::Process };
        self.go_down(crash);
    }

    /// The server's process ends, in whatever way, and starts again some time later.
    fn go_down(&mut self, crash: Crash) {
        self.net.note(format_args!("the server is gone: {crash:?}"));
        self.tally.duplicates += self.server.take().map_or(0, |server| server.duplicates());
        self.disk.crash(crash);
        self.net.sever_all();
        self.boot += 1;
        self.committing = false;
        let downtime = self.net.rng.u64(..300) * MS;
        self.net.schedule(downtime, Event::Start);
    }

    fn start(&mut self) -> Result<(), Violation> {
        if self.server.is_some() {
            return Ok(());
        }
        let clock = self.net.rng.i64(-2_000_000_000..2_000_000_000);
        match Server::start(&self.disk, self.options.clone(), self.net.now, clock) {
            Ok((server, recovery)) => {
                self.failed_starts = 0;
                self.tally.recoveries += 1;
                self.tally.torn += u64::from(recovery.torn.is_some());
                self.net.note(format_args!("the server starts at position {}", recovery.position));
                self.server = Some(server);
                if let (Some(content), Some(server)) = (self.look()?, &self.server) {
                    content.check_ledger(server.core().ledger())?;
                }
            }
            Err(e) if self.disk.is_down() => {
                self.net.note(format_args!("the machine goes down while the server starts ({})", reason(&e)));
            }
            Err(LogError::Io { what, source, .. }) if self.failed_starts < MOST_FAILED_STARTS => {
                self.failed_starts += 1;
                self.net.note(format_args!("the server cannot start: cannot {what}: {source}"));
                self.go_down(Crash::Process);
            }
            Err(e) => return Err(Violation::new(format!("the server cannot start: {e}"))),
        }
        Ok(())
    }

    /// Reads the log as another process would, and compares it with what was said; `None` if the machine goes down
    /// meanwhile.
    fn look(&mut self) -> Result<Option<Content>, Violation> {
        let records = match read_log(Arc::new(self.disk.clone())) {
            Ok(records) => records,
            Err(_) if self.disk.is_down() => return Ok(None),
            Err(violation) => return Err(violation),
        };
        let content = Content::of(&records)?;
        self.oracle.check(&content)?;
        Ok(Some(content))
    }
}

fn read_file(disk: &SimDisk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read)?;
    let mut bytes = vec![0; usize::try_from(file.len()?).expect("simulated files fit in memory")];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn kind(e: &CommitError) -> &'static str {
    match e {
        CommitError::Full { .. } => "the disk is full",
        CommitError::Fatal { .. } | CommitError::Poisoned => "the log failed",
    }
}

fn reason(e: &LogError) -> &'static str {
    match e {
        LogError::Io { what, .. } => what,
        _ => "for another reason",
    }
}
