//! Room for reading: what reads the disk does so on threads behind ingestion, and only so many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task;

use super::problem::{Kind, Problem};

/// Requests that read at the same time: more would only wait for each other on a small machine, and each may sort 64 MiB.
pub(in crate::serve) const READERS: usize = 4;
/// Requests that wait for room.
const WAITING: usize = 64;
/// How long they do.
const PATIENCE: Duration = Duration::from_secs(2);

/// Room for [`READERS`] requests.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    room: Arc<Semaphore>,
    queue: Arc<Semaphore>,
}

/// Says whether the client still waits for the answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// What is set.
    pub(super) fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    /// Sets it when it is dropped.
    pub(super) fn guard(&self) -> Guard {
        Guard(self.clone())
    }
}

/// The client's end of it.
#[derive(Debug)]
pub(super) struct Guard(Cancelled);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(READERS)), queue: Arc::new(Semaphore::new(WAITING)) }
    }
}

impl Pool {
    /// Waits a little for room, which is held until it is dropped.
    ///
    /// # Errors
    /// [`Kind::Busy`] when there is none.
    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = || {
            let detail = format!("{READERS} requests are being answered; come again in a moment");
            Problem::new(Kind::Busy, detail)
        };
        let _place = self.queue.try_acquire().map_err(|_| busy())?;
        let room = tokio::time::timeout(PATIENCE, Arc::clone(&self.room).acquire_owned()).await;
        room.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// Does `work` on a thread of the pool.
    ///
    /// # Errors
    /// As [`Pool::room`], and what `work` says.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cancelled) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let room = self.room().await?;
        let cancelled = Cancelled::default();
        let _guard = cancelled.guard();
        let work = move || {
            let _room = room;
            work(&cancelled)
        };
        let done = task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| {
            Err(Problem::new(Kind::Internal, format!("the answer was not made: {error}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_is_told_to_come_again() {
        let pool = Pool::default();
        let mut held = Vec::new();
        for _ in 0..READERS {
            held.push(pool.room().await.unwrap());
        }
        let problem = pool.run(|_| Ok(())).await.unwrap_err().as_json();
        assert_eq!(problem["status"], 503);
        let waiting = (0..WAITING).map(|_| {
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.room().await.map(drop) }
            })
        });
        let waiting: Vec<_> = waiting.collect();
        while pool.queue.available_permits() > 0 {
            task::yield_now().await;
        }
        assert_eq!(pool.room().await.unwrap_err().as_json()["status"], 503, "at once, behind so many");
        held.clear();
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        pool.run(|_| Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn work_for_a_client_that_is_gone_is_told() {
        let pool = Pool::default();
        let (tell, told) = std::sync::mpsc::channel();
        let work = pool.run(move |cancelled| {
            tell.send(()).unwrap();
            while !cancelled.flag().load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            tell.send(()).unwrap();
            Ok(())
        });
        let work = tokio::time::timeout(Duration::from_millis(50), work);
        assert!(work.await.is_err());
        told.recv().unwrap();
        told.recv_timeout(Duration::from_secs(30)).unwrap();
    }
}
