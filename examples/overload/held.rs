//! What the server holds: its live tasks, and the bytes that its threads allocated and have not freed.
//!
//! Clients and server share a process, so the allocator counts on the server's threads only. The server frees
//! everything that its threads allocate, because the two sides share only a socket.

use super::tally::Held;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
};
use tokio::runtime::RuntimeMetrics;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated less bytes freed, on the threads of all servers so far. Relaxed: it orders no other memory.
static BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Has no destructor, so it can be read until the thread frees its last memory.
    static IS_SERVER: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread is one of the server's.
pub fn count_this_thread() {
    IS_SERVER.set(true);
}

/// Reads what one server holds.
#[derive(Clone)]
pub struct Gauge {
    metrics: RuntimeMetrics,
    /// What earlier servers left allocated.
    before: i64,
}

impl Gauge {
    pub fn new(metrics: RuntimeMetrics) -> Self {
        Self { metrics, before: BYTES.load(Ordering::Relaxed) }
    }

    pub fn read(&self) -> Held {
        let bytes = BYTES.load(Ordering::Relaxed).saturating_sub(self.before);
        Held { tasks: self.metrics.num_alive_tasks() as u64, bytes: u64::try_from(bytes).unwrap_or(0) }
    }
}

/// The system's allocator with a counter.
struct Counting;

impl Counting {
    #[inline]
    fn count(&self, bytes: i64) {
        if IS_SERVER.get() {
            BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: all four methods pass their arguments on to `System`, whose contract the caller keeps.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(size as i64 - layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.count(-(layout.size() as i64));
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
