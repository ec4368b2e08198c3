//! Who may write what: the enrolments of devices and gateways, as an append-only file of facts.
//!
//! One JSON object a line in `registry.jsonl`; the newest fact about a name wins. Every append happens under a
//! lock on the file and is fsynced, so that `icecore device enroll` works beside a running server, which reads
//! the new tail before it judges the next handshake.

mod labels;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use icecore_log::checked_line::{self, LineCheck};
use icecore_wire::Glob;
use serde::{Deserialize, Serialize};

pub use labels::{LabelHistory, Labels};

/// What an identity is: it decides whose events it may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sends its own events only.
    Device,
    /// Sends the events of every device that one of its grants names.
    Gateway,
}

impl Role {
    /// The word used in certificates, in the registry and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Gateway => "gateway",
        }
    }
}

/// One enrolled identity, as the newest facts about it say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The name in the certificate's URI SAN.
    pub name: String,
    /// Whether it speaks for itself or for others.
    pub role: Role,
    /// What the operator wrote beside it when it was enrolled; none changes nothing. [`Registry::labels`] has what holds
    /// now.
    #[serde(default)]
    pub labels: Labels,
    /// Globs of the device names that a gateway may write for; empty for a device.
    #[serde(default)]
    pub grants: Vec<String>,
    /// [`fingerprint`](crate::fingerprint) of the certificate that was issued last, with the enrolment or by renewal:
    /// enrolling again makes older certificates of the same name useless.
    pub certificate: String,
    /// When it was enrolled, in nanoseconds since the Unix epoch.
    pub enrolled_time: i64,
    /// Fingerprint of the certificate with which `certificate` was asked for over a session: both are good until one of
    /// them asks again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_from: Option<String>,
    /// When it was revoked, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_time: Option<i64>,
}

impl Enrolment {
    /// Whether the certificate with this [`fingerprint`](crate::fingerprint) is one of this enrolment's.
    #[must_use]
    pub fn accepts(&self, fingerprint: &str) -> bool {
        self.certificate == fingerprint || self.renewed_from.as_deref() == Some(fingerprint)
    }

    /// Whether this identity may send events in the name of `device`. Revocation is judged apart.
    #[must_use]
    pub fn may_write_for(&self, device: &str) -> bool {
        match self.role {
            Role::Device => self.name == device,
            Role::Gateway => self.grants.iter().any(|grant| Glob::new(grant).matches(device)),
        }
    }
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
enum Fact {
    Enrolled(Enrolment),
    Revoked {
        name: String,
        time: i64,
    },
    /// `from` asked for a new certificate and got `certificate`.
    Renewed {
        name: String,
        from: String,
        certificate: String,
        time: i64,
    },
    /// From then on the device has these labels, and no others. It need not be enrolled: those behind a gateway are not.
    Labelled {
        name: String,
        labels: Labels,
        time: i64,
    },
}

/// Why the registry could not be read or extended.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file system refused.
    #[error("registry {path}: cannot {action}: {source}")]
    Io {
        /// The registry file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not a fact that this version knows. Nothing after it is believed.
    #[error("{path}:{line}: not a registry fact: {reason}; correct or remove the line")]
    BadLine {
        /// The registry file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A revocation names nobody.
    #[error("registry {path}: `{name}` is not enrolled")]
    Unknown {
        /// The registry file.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
}

/// The enrolments in one `registry.jsonl`, kept up with the file.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    loaded: Mutex<Loaded>,
}

/// What was read so far, and how far into the file that was.
#[derive(Debug, Default)]
struct Loaded {
    enrolments: BTreeMap<String, Enrolment>,
    labels: LabelHistory,
    /// Enrolled names about which there are new facts that nobody has asked for yet: at most all.
    changed: BTreeSet<String>,
    bytes: u64,
    lines: usize,
}

impl Loaded {
    /// Takes a fact in; returns whom it is news about.
    fn fold(&mut self, fact: Fact) -> Result<Option<String>, String> {
        if let Fact::Labelled { name, labels, time } = &fact {
            self.labels.set(name, *time, labels);
            return Ok(None);
        }
        if let Fact::Enrolled(enrolment) = fact {
            if !enrolment.labels.is_empty() {
                self.labels.set(&enrolment.name, enrolment.enrolled_time, &enrolment.labels);
            }
            let before = self.enrolments.insert(enrolment.name.clone(), enrolment);
            return Ok(before.map(|enrolment| enrolment.name));
        }
        let (Fact::Revoked { name, .. }
        | Fact::Renewed { name, .. }
        | Fact::Labelled { name, .. }
        | Fact::Enrolled(Enrolment { name, .. })) = &fact;
        let name = name.clone();
        let enrolment =
            self.enrolments.get_mut(&name).ok_or_else(|| format!("`{name}` was never enrolled"))?;
        match fact {
            Fact::Revoked { time, .. } => enrolment.revoked_time = Some(time),
            Fact::Renewed { from, certificate, .. } if enrolment.accepts(&from) => {
                enrolment.renewed_from = Some(from);
                enrolment.certificate = certificate;
            }
            // It crossed with an enrolment, which makes older certificates useless.
            Fact::Renewed { .. } | Fact::Labelled { .. } | Fact::Enrolled(_) => {}
        }
        Ok(Some(name))
    }
}

impl Registry {
    /// Reads the registry at `path`; a file that does not exist yet is an empty registry.
    ///
    /// # Errors
    /// When the file cannot be read, or a line of it is not a known fact (named by file and line).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let registry = Self { path: path.into(), loaded: Mutex::default() };
        registry.refresh()?;
        registry.take_changed();
        Ok(registry)
    }

    /// Where the registry is kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what other processes appended since the last look. Costs one `stat` when nothing was.
    ///
    /// # Errors
    /// As [`Registry::open`]; what was read before the bad line stays in force.
    pub fn refresh(&self) -> Result<(), RegistryError> {
        let length = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(self.io("look at it")(e)),
        };
        let mut loaded = self.loaded();
        if length == loaded.bytes {
            return Ok(());
        }
        if length < loaded.bytes {
            // Somebody put another file in its place: believe that one.
            let changed = loaded.enrolments.keys().cloned().collect();
            *loaded = Loaded { changed, ..Loaded::default() };
        }
        let mut tail = Vec::new();
        if length > 0 {
            let mut file = File::open(&self.path).map_err(self.io("open it"))?;
            file.seek(SeekFrom::Start(loaded.bytes)).map_err(self.io("seek in it"))?;
            file.read_to_end(&mut tail).map_err(self.io("read it"))?;
        }
        self.fold_lines(&mut loaded, &tail)
    }

    /// Folds every complete line of `tail`. A line without its newline is an append in progress, or one that a
    /// crash cut off before anybody was told that it succeeded; with something else in its place it is damaged.
    fn fold_lines(&self, loaded: &mut Loaded, tail: &[u8]) -> Result<(), RegistryError> {
        for line in tail.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let number = loaded.lines + 1;
            let bad =
                |reason: String| RegistryError::BadLine { path: self.path.clone(), line: number, reason };
            if !line.trim_ascii().is_empty() {
                let fact = parse(&line[..line.len() - 1]).map_err(bad)?;
                let changed = loaded.fold(fact).map_err(bad)?;
                loaded.changed.extend(changed);
            }
            loaded.bytes += line.len() as u64;
            loaded.lines += 1;
        }
        let rest = tail.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        match ends_damaged(rest) {
            true => Err(RegistryError::BadLine {
                path: self.path.clone(),
                line: loaded.lines + 1,
                reason: "its newline is damaged".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// The names about which something has changed since the last call; that of a newcomer is not among them.
    pub(crate) fn take_changed(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.loaded().changed)
    }

    /// The enrolment of `name`, revoked or not.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<Enrolment> {
        self.loaded().enrolments.get(name).cloned()
    }

    /// Every enrolment, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Enrolment> {
        self.loaded().enrolments.values().cloned().collect()
    }

    /// The labels of all names, and when they had them.
    #[must_use]
    pub fn labels(&self) -> LabelHistory {
        self.loaded().labels.clone()
    }

    /// Gives `name` these labels and no others, from `time` (nanoseconds since the Unix epoch) on; what was received before
    /// keeps those it had. Durable when it returns.
    ///
    /// # Errors
    /// When the file cannot be locked, written or fsynced.
    pub fn label(&self, name: &str, labels: Labels, time: i64) -> Result<(), RegistryError> {
        self.append(&Fact::Labelled { name: name.to_owned(), labels, time })
    }

    /// Enrols an identity, or replaces its enrolment. Durable when it returns.
    ///
    /// # Errors
    /// When the file cannot be locked, written or fsynced.
    pub fn enrol(&self, enrolment: Enrolment) -> Result<(), RegistryError> {
        self.append(&Fact::Enrolled(enrolment))
    }

    /// Takes an identity's right to connect away, from `time` (nanoseconds since the Unix epoch) on. Durable
    /// when it returns.
    ///
    /// # Errors
    /// When `name` is not enrolled, or the file cannot be locked, written or fsynced.
    pub fn revoke(&self, name: &str, time: i64) -> Result<(), RegistryError> {
        self.refresh()?;
        if self.lookup(name).is_none() {
            return Err(RegistryError::Unknown { path: self.path.clone(), name: name.to_owned() });
        }
        self.append(&Fact::Revoked { name: name.to_owned(), time })
    }

    /// Records that the certificate `from` of `name` asked for another at `time` (nanoseconds since the Unix epoch) and gets
    /// the one with the fingerprint `certificate`. Durable when it returns. It counts for nothing where `from` is not good
    /// any more, because the identity was enrolled again meanwhile.
    ///
    /// # Errors
    /// When the file cannot be locked, written or fsynced.
    pub fn renew(&self, name: &str, from: &str, certificate: &str, time: i64) -> Result<(), RegistryError> {
        let (name, from, certificate) = (name.to_owned(), from.to_owned(), certificate.to_owned());
        self.append(&Fact::Renewed { name, from, certificate, time })
    }

    fn append(&self, fact: &Fact) -> Result<(), RegistryError> {
        let mut line = serde_json::to_vec(fact).expect("a fact has string keys only");
        checked_line::close(&mut line);
        line.push(b'\n');
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)
            .map_err(self.io("open it for appending"))?;
        file.lock().map_err(self.io("lock it"))?;
        self.refresh()?;
        self.cut_torn_line(&mut file)?;
        file.write_all(&line).map_err(self.io("append to it"))?;
        file.sync_all().map_err(self.io("fsync it"))?;
        if let Some(directory) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            // The file may be new: its name has to survive a crash as well.
            File::open(directory).and_then(|d| d.sync_all()).map_err(self.io("fsync its directory"))?;
        }
        drop(file);
        self.refresh()
    }

    /// Removes what a crashed append left behind its last newline: it was never confirmed to anybody.
    fn cut_torn_line(&self, file: &mut File) -> Result<(), RegistryError> {
        let whole = self.loaded().bytes;
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(whole)).map_err(self.io("seek in it"))?;
        file.read_to_end(&mut tail).map_err(self.io("read it"))?;
        if !tail.is_empty() {
            file.set_len(whole).map_err(self.io("cut a torn line off"))?;
        }
        Ok(())
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        // Every mutation leaves `Loaded` consistent, so a panic elsewhere cannot have spoilt it.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self, action: &'static str) -> impl FnOnce(std::io::Error) -> RegistryError + use<> {
        let path = self.path.clone();
        move |source| RegistryError::Io { path, action, source }
    }
}

/// The fact in a line without its newline. Lines without a checksum are of earlier versions, or written by hand.
fn parse(line: &[u8]) -> Result<Fact, String> {
    match checked_line::check(line) {
        LineCheck::Whole | LineCheck::Absent => serde_json::from_slice(line).map_err(|e| e.to_string()),
        LineCheck::Damaged => {
            let what = "its checksum does not fit, it is damaged or was edited (without its last member, `crc32c`, it is \
                        believed as it is)";
            Err(what.to_owned())
        }
    }
}

/// Whether these bytes behind the last newline are a whole line with something else than a newline at its end. What a crash
/// leaves there is a part of a line.
fn ends_damaged(rest: &[u8]) -> bool {
    rest.split_last().is_some_and(|(end, line)| *end != 0 && parse(line).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> Enrolment {
        Enrolment {
            name: name.to_owned(),
            role: Role::Device,
            labels: BTreeMap::from([("site".to_owned(), "oslo".to_owned())]),
            grants: Vec::new(),
            certificate: "00ff".to_owned(),
            enrolled_time: 1,
            renewed_from: None,
            revoked_time: None,
        }
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registry.jsonl");
        (dir, path)
    }

    #[test]
    fn a_running_server_sees_what_another_process_enrols_and_revokes() {
        let (_dir, path) = scratch();
        let server = Registry::open(&path).unwrap();
        let cli = Registry::open(&path).unwrap();
        cli.enrol(device("pump/1")).unwrap();
        assert_eq!(server.lookup("pump/1"), None, "not looked yet");
        server.refresh().unwrap();
        assert_eq!(server.lookup("pump/1"), Some(device("pump/1")));
        cli.revoke("pump/1", 7).unwrap();
        server.refresh().unwrap();
        assert_eq!(server.lookup("pump/1").unwrap().revoked_time, Some(7));
        cli.enrol(device("pump/1")).unwrap();
        server.refresh().unwrap();
        assert_eq!(server.lookup("pump/1").unwrap().revoked_time, None, "enrolled again");
        assert_eq!(Registry::open(&path).unwrap().list(), server.list());
    }

    #[test]
    fn the_certificate_that_asked_and_the_one_it_got_are_good_until_one_asks_again() {
        let (_dir, path) = scratch();
        let registry = Registry::open(&path).unwrap();
        let accepted = || {
            let enrolment = Registry::open(&path).unwrap().lookup("pump").unwrap();
            ["00ff", "a", "b", "c"].map(|fingerprint| enrolment.accepts(fingerprint))
        };
        registry.enrol(device("pump")).unwrap();
        assert_eq!(accepted(), [true, false, false, false]);
        registry.renew("pump", "00ff", "a", 2).unwrap();
        assert_eq!(accepted(), [true, true, false, false]);
        registry.renew("pump", "00ff", "b", 3).unwrap();
        assert_eq!(accepted(), [true, false, true, false], "the device never got the one before");
        registry.renew("pump", "b", "c", 4).unwrap();
        assert_eq!(accepted(), [false, false, true, true]);
        registry.renew("pump", "00ff", "a", 5).unwrap();
        assert_eq!(accepted(), [false, false, true, true], "it was not good any more");
    }

    #[test]
    fn names_with_news_are_told_once() {
        let (_dir, path) = scratch();
        let registry = Registry::open(&path).unwrap();
        registry.enrol(device("a")).unwrap();
        registry.enrol(device("b")).unwrap();
        registry.enrol(device("c")).unwrap();
        assert!(registry.take_changed().is_empty(), "newcomers");
        registry.revoke("a", 1).unwrap();
        registry.enrol(device("b")).unwrap();
        assert_eq!(registry.take_changed().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(registry.take_changed().is_empty());
        assert!(Registry::open(&path).unwrap().take_changed().is_empty(), "nothing is news at the start");
    }

    #[test]
    fn labels_change_without_an_enrolment_and_keep_their_past() {
        let (_dir, path) = scratch();
        let registry = Registry::open(&path).unwrap();
        registry.enrol(device("pump")).unwrap();
        let bergen = Labels::from([("site".to_owned(), "bergen".to_owned())]);
        registry.label("pump", bergen.clone(), 5).unwrap();
        registry.label("behind a gateway", bergen.clone(), 6).unwrap();
        assert!(registry.take_changed().is_empty(), "no session ends for a label");
        let labels = Registry::open(&path).unwrap().labels();
        assert_eq!(labels.at("pump", 4), Some(&device("pump").labels));
        assert_eq!(labels.now("pump"), Some(&bergen));
        assert_eq!(labels.now("behind a gateway"), Some(&bergen));
        registry.enrol(Enrolment { enrolled_time: 7, ..device("pump") }).unwrap();
        assert_eq!(registry.labels().now("pump"), Some(&device("pump").labels), "enrolled again");
        assert_eq!(registry.list().len(), 1);
    }

    #[test]
    fn grants_decide_for_gateways_and_the_name_for_devices() {
        assert!(device("pump/1").may_write_for("pump/1"));
        assert!(!device("pump/1").may_write_for("pump/11"));
        let gateway = Enrolment {
            role: Role::Gateway,
            grants: vec!["pump/*".into(), "valve-?".into()],
            ..device("gw")
        };
        assert!(gateway.may_write_for("pump/hall/3"));
        assert!(gateway.may_write_for("valve-3"));
        assert!(!gateway.may_write_for("valve-33"));
        assert!(!gateway.may_write_for("gw"), "a gateway has no events of its own unless granted");
    }

    #[test]
    fn a_bad_line_is_named_and_a_torn_one_is_cut() {
        let (_dir, path) = scratch();
        let registry = Registry::open(&path).unwrap();
        registry.enrol(device("a")).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"fact\":\"enrol").unwrap();
        assert_eq!(Registry::open(&path).unwrap().list().len(), 1, "a torn line was never confirmed");
        registry.enrol(device("b")).unwrap();
        assert_eq!(Registry::open(&path).unwrap().list().len(), 2);
        file.write_all(b"{\"fact\":\"promoted\"}\n").unwrap();
        let error = Registry::open(&path).unwrap_err().to_string();
        assert!(error.contains("registry.jsonl:3"), "{error}");
    }

    #[test]
    fn a_flipped_bit_is_named_by_its_line() {
        let (_dir, path) = scratch();
        let registry = Registry::open(&path).unwrap();
        registry.enrol(device("a")).unwrap();
        registry.revoke("a", 5).unwrap();
        registry.label("b", Labels::new(), 6).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            let line = 1 + whole[..bit / 8].iter().filter(|&&byte| byte == b'\n').count();
            let error = Registry::open(&path).expect_err(&format!("bit {bit}")).to_string();
            assert!(error.contains(&format!("registry.jsonl:{line}")), "bit {bit}: {error}");
        }
    }

    #[test]
    fn lines_without_a_checksum_are_believed() {
        let (_dir, path) = scratch();
        std::fs::write(
            &path,
            concat!(
                r#"{"fact":"enrolled","name":"a","role":"device","certificate":"00","enrolled_time":1}"#,
                "\n",
                r#"{"fact":"revoked","time":7,"name":"a"}"#,
                "\n",
            ),
        )
        .unwrap();
        let registry = Registry::open(&path).unwrap();
        assert_eq!(registry.lookup("a").unwrap().revoked_time, Some(7));
        registry.label("a", Labels::new(), 8).unwrap();
        assert_eq!(Registry::open(&path).unwrap().list().len(), 1);
    }

    #[test]
    fn revoking_a_stranger_is_an_error() {
        let (_dir, path) = scratch();
        let error = Registry::open(&path).unwrap().revoke("nobody", 0).unwrap_err();
        assert!(error.to_string().contains("`nobody` is not enrolled"), "{error}");
    }
}
