//! The way from a site to its store, which can be cut for a while.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::cold::Cold;
use crate::harness::Site;

/// Is open at first.
pub(crate) enum Door {
    /// The directory is moved away.
    Directory(PathBuf),
    /// All connections are cut, and new ones turned out.
    Proxy(Proxy),
}

impl Door {
    /// Between a site and the store that it was configured with.
    pub(crate) fn between(site: &mut Site, cold: &Cold) -> Self {
        let Cold::S3(server) = cold else { return Self::Directory(site.path("bucket")) };
        let [(key, endpoint), others @ ..] = server.options();
        let proxy = Proxy::of(endpoint.strip_prefix("http://").unwrap().parse().unwrap());
        let endpoint = (key, format!("http://{}", proxy.address));
        let options = [endpoint].into_iter().chain(others).map(|(key, value)| format!("{key} = {value:?}"));
        let options: Vec<_> = options.collect();
        site.set("STORE__ARCHIVE__OPTIONS", format!("{{ {} }}", options.join(", ")));
        Self::Proxy(proxy)
    }

    pub(crate) fn shut(&self) {
        match self {
            Self::Directory(path) => fs::rename(path, path.with_extension("away")).unwrap(),
            Self::Proxy(proxy) => {
                let ends = proxy.through.lock().unwrap().take();
                ends.into_iter().flatten().for_each(|end| drop(end.shutdown(Shutdown::Both)));
            }
        }
    }

    pub(crate) fn open(&self) {
        match self {
            Self::Directory(path) => {
                // A write that was under way may have made it anew; what is mounted there again hides that.
                drop(fs::remove_dir_all(path));
                fs::rename(path.with_extension("away"), path).unwrap();
            }
            Self::Proxy(proxy) => *proxy.through.lock().unwrap() = Some(Vec::new()),
        }
    }
}

/// Passes connections on. Its threads end with the process.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// The ends of all connections; `None` while none are passed on.
    through: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Proxy {
    fn of(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let through = Arc::new(Mutex::new(Some(Vec::new())));
        let ends = Arc::clone(&through);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Some(ends) = &mut *ends.lock().unwrap() else { continue };
                let Ok(server) = TcpStream::connect(server) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    ends.push(from.try_clone().unwrap());
                    pass_on(from.try_clone().unwrap(), to.try_clone().unwrap());
                }
            }
        });
        Self { address, through }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}
