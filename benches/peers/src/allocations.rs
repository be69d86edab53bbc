//! Counts heap allocations and their bytes, on all threads, while enabled.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Disabled while time is measured. All threads read this word and no thread writes it, so it slows no thread down.
static ASKED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Bytes allocated less bytes freed.
static BYTES: AtomicI64 = AtomicI64::new(0);

/// The system's allocator with a counter.
struct Counting;

impl Counting {
    #[inline]
    fn count(&self, allocations: u64, bytes: i64) {
        if ASKED.load(Ordering::Relaxed) {
            COUNT.fetch_add(allocations, Ordering::Relaxed);
            BYTES.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its trait; it passes every call on to the system's")]
// SAFETY: all four methods pass their arguments on to `System`, whose contract the caller keeps.
unsafe impl GlobalAlloc for Counting {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(1, layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(1, layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(1, size as i64 - layout.size() as i64);
        // SAFETY: see above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.count(0, -(layout.size() as i64));
        // SAFETY: see above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Counts while `run` executes. One count at a time, because the tests of this crate run in parallel.
pub fn counted<T>(run: impl FnOnce() -> T) -> T {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    ASKED.store(true, Ordering::SeqCst);
    let done = run();
    ASKED.store(false, Ordering::SeqCst);
    done
}

/// Returns the allocations counted so far.
pub fn so_far() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// Returns the bytes that `make` allocated and kept.
pub fn kept<T>(make: impl FnOnce() -> T) -> u64 {
    let (made, bytes) = counted(|| {
        let before = BYTES.load(Ordering::SeqCst);
        let made = make();
        (made, BYTES.load(Ordering::SeqCst) - before)
    });
    drop(made);
    bytes.max(0) as u64
}
