//! Counts what the current thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static IN_USE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.get().saturating_add(layout.size());
        IN_USE.set(in_use);
        PEAK.set(PEAK.get().max(in_use));
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.set(IN_USE.get().saturating_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What running `work` took from the heap: the most bytes at a time, and the number of allocations.
pub(crate) fn taken_by<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let (before, count) = (IN_USE.get(), COUNT.get());
    PEAK.set(before);
    let result = work();
    (result, PEAK.get() - before, COUNT.get() - count)
}
