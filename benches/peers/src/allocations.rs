//! Counts heap allocations, on all threads, while asked to.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Off while time is measured: then it is a word that all threads read and none writes, so counting slows nobody down.
static ASKED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, and a counter.
struct Counting;

impl Counting {
    #[inline]
    fn count(&self) {
        if ASKED.load(Ordering::Relaxed) {
            COUNT.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its trait; every call goes to the system's as it came")]
// SAFETY: all four methods hand their arguments on to `System`, whose contract is the one that the caller keeps.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: see above.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count();
        // SAFETY: see above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Begins or ends to count.
pub fn count(asked: bool) {
    ASKED.store(asked, Ordering::SeqCst);
}

/// The allocations counted so far.
pub fn so_far() -> u64 {
    COUNT.load(Ordering::SeqCst)
}
