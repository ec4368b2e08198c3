//! Work done on several threads, whose results come in the order in which it was given.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Pieces of work for each thread that are given ahead: what is done, and what waits for whoever takes the results.
const AHEAD: usize = 2;

/// Gives work to threads, and takes its results.
pub(crate) struct SideBySide<U, R> {
    work: Sender<(U, SyncSender<R>)>,
    results: VecDeque<Receiver<R>>,
    most: usize,
}

/// Does `work` on `threads` threads while `body` gives it pieces and takes the results. At most [`AHEAD`] pieces a thread are on their
/// way.
pub(crate) fn side_by_side<U: Send, R: Send, T>(
    threads: usize,
    work: impl Fn(U) -> R + Sync,
    body: impl FnOnce(&mut SideBySide<U, R>) -> T,
) -> T {
    let threads = threads.max(1);
    let (give, given) = channel::<(U, SyncSender<R>)>();
    let given = Mutex::new(given);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((piece, result)) = next else { break };
                    // Nobody waits any more if the results are not wanted after all.
                    let _ = result.send(work(piece));
                }
            });
        }
        let mut pieces = SideBySide { work: give, results: VecDeque::new(), most: threads * AHEAD };
        body(&mut pieces)
    })
}

impl<U, R> SideBySide<U, R> {
    /// Gives a piece of work; once enough is on its way, the oldest result is waited for.
    pub(crate) fn give(&mut self, piece: U) -> Option<R> {
        let oldest = (self.results.len() >= self.most).then(|| self.take()).flatten();
        let (send, receive) = sync_channel(1);
        self.work.send((piece, send)).expect("the threads take work until this is gone");
        self.results.push_back(receive);
        oldest
    }

    /// The oldest result that is still to come; `None` if all were taken.
    pub(crate) fn take(&mut self) -> Option<R> {
        let oldest = self.results.pop_front()?;
        Some(oldest.recv().expect("a thread that does the work ends only when it panics"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        let doubled = side_by_side(
            3,
            |n: u32| n * 2,
            |pieces| {
                let mut results = Vec::new();
                for n in 0..1_000 {
                    results.extend(pieces.give(n));
                }
                results.extend(std::iter::from_fn(|| pieces.take()));
                results
            },
        );
        assert_eq!(doubled, (0..1_000).map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_taken_holds_nobody_up() {
        side_by_side(2, |n: u32| n, |pieces| (0..3).for_each(|n| _ = pieces.give(n)));
    }
}
