//! A network between clients and a server, in user space: it loses, delays, repeats and reorders datagrams, falls
//! silent, and moves its clients to other addresses.
//!
//! A [`Network`] runs on a thread of its own, so that it outlives the runtimes of the clients on it. A [`Path`] is one
//! way to the server: an address of 127.0.0.1 that clients connect to in its place, with conditions that may change at
//! any time. Clients that are to fare differently go by different paths. To the server every client of a path has a
//! port of its own on 127.0.0.2, 127.0.0.3 and so on.
//!
//! - `conditions`: what happens to a datagram
//! - `path`: sockets and timing

mod conditions;
mod path;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::Handle;
use tokio::sync::Notify;

pub use conditions::{Bottleneck, Conditions, HEADER_BYTES, Traffic, Volume};
pub use path::{Captured, Direction, Path};

/// A running network; it ends, and its paths with it, when it is dropped.
#[derive(Debug)]
pub struct Network {
    runtime: Handle,
    seed: u64,
    paths: AtomicU64,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    /// Starts a network without paths. What chance decides follows from `seed`.
    ///
    /// # Errors
    /// When the system gives no thread or no event queue.
    pub fn start(seed: u64) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        let stopped = Arc::clone(&stop);
        let run = move || runtime.block_on(stopped.notified());
        let thread = thread::Builder::new().name("network".to_owned()).spawn(run)?;
        Ok(Self { runtime: handle, seed, paths: AtomicU64::new(0), stop, thread: Some(thread) })
    }

    /// Opens a path to `server`, without any trouble on it yet.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn path(&self, server: SocketAddr) -> io::Result<Path> {
        let number = self.paths.fetch_add(1, Ordering::Relaxed);
        Path::open(&self.runtime, server, self.seed.wrapping_add(number))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing left to end.
            let _ = thread.join();
        }
    }
}
