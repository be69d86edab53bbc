//! What the server holds at a moment: its live tasks, and the bytes that its threads allocated and have not freed.
//!
//! Clients and server share a process, so the allocator counts on the server's threads alone. What one of them allocates,
//! the server frees: the two sides share nothing but a socket.

use super::tally::Held;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicI64, Ordering},
};
use tokio::runtime::RuntimeMetrics;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocated less freed, on the threads of all servers so far. Relaxed: it guards no other memory.
static BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Without a destructor, so that it can be read as long as the thread frees memory.
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
    /// What earlier servers have left.
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

/// The system's allocator, and a counter.
struct Counting;

impl Counting {
    #[inline]
    fn count(&self, bytes: i64) {
        if IS_SERVER.get() {
            BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: all four methods hand their arguments on to `System`, whose contract is the one that the caller keeps.
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
