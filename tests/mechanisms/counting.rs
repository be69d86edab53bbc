//! An allocator that counts the allocations of each thread separately, because tests run in parallel.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static COUNT: Cell<Allocated> = const { Cell::new(Allocated { times: 0, bytes: 0 }) };
}

/// The number of allocations and of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    pub times: u64,
    pub bytes: u64,
}

/// Returns the allocations of this thread so far.
pub fn so_far() -> Allocated {
    COUNT.get()
}

/// Runs `code`. Returns its result, and the allocations that this thread made meanwhile.
#[cfg(feature = "constant-work")]
pub fn allocated<R>(code: impl FnOnce() -> R) -> (R, Allocated) {
    let before = so_far();
    let result = code();
    let after = so_far();
    (result, Allocated { times: after.times - before.times, bytes: after.bytes - before.bytes })
}

// SAFETY: each method delegates to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let so_far = COUNT.get();
        COUNT.set(Allocated { times: so_far.times + 1, bytes: so_far.bytes + layout.size() as u64 });
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}
