use crate::{
    stripes::{self, STRIPES, Stripe},
    sync::{AtomicUsize, Mutex, Ordering, lock, yield_now},
};

/// Passes through the gates, any number at a time, and changes of what the gates go by, each alone: no pass sees a half
/// of one.
///
/// A pass and a change exclude each other on one word per stripe: the passes under way, and whether a change is.
/// The beginning of a pass acquires that word, which the end of each change released; a change acquires it once it
/// counts no pass, each of which released it at its end.
#[derive(Default)]
pub(crate) struct Passes {
    stripes: [Stripe<Word>; STRIPES],
    /// Held during a change; passes that find one wait for it here.
    change: Mutex<()>,
}

struct Word(AtomicUsize);

impl Default for Word {
    fn default() -> Self {
        Self(AtomicUsize::new(0))
    }
}

const CHANGING: usize = 1 << (usize::BITS - 1);

/// A pass under way. It ends when dropped.
pub(crate) struct Pass<'passes>(&'passes Word);

impl Passes {
    /// Begins a pass. It waits for a change that is under way.
    #[inline]
    pub(crate) fn enter(&self) -> Pass<'_> {
        let own = stripes::own(&self.stripes);
        if own.0.fetch_add(1, Ordering::Acquire) & CHANGING == 0 {
            return Pass(own);
        }
        self.enter_after_change(own)
    }

    #[cold]
    fn enter_after_change<'passes>(&self, own: &'passes Word) -> Pass<'passes> {
        loop {
            own.0.fetch_sub(1, Ordering::Release);
            drop(lock(&self.change));
            if own.0.fetch_add(1, Ordering::Acquire) & CHANGING == 0 {
                return Pass(own);
            }
        }
    }

    /// Begins a pass of a thread that is in one already, and so must not wait for a change that waits for it.
    pub(crate) fn enter_within(&self) -> Pass<'_> {
        let own = stripes::own(&self.stripes);
        own.0.fetch_add(1, Ordering::Acquire);
        Pass(own)
    }

    /// Looks at what changes change, with no change under way. Passes go on. Never within a pass or a change.
    pub(crate) fn between_changes<T>(&self, work: impl FnOnce() -> T) -> T {
        let _change = lock(&self.change);
        work()
    }

    /// Makes a change, with no pass under way. Never within a pass.
    pub(crate) fn change<T>(&self, work: impl FnOnce() -> T) -> T {
        let _change = lock(&self.change);
        let _closed = Closed::close(&self.stripes);
        work()
    }
}

impl Drop for Pass<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Release);
    }
}

/// No new passes until it is dropped, be it by a panic.
struct Closed<'passes>(&'passes [Stripe<Word>; STRIPES]);

impl<'passes> Closed<'passes> {
    /// Lets no call in, and waits for those inside: for as long as it takes to pass the gates.
    fn close(stripes: &'passes [Stripe<Word>; STRIPES]) -> Self {
        for stripe in stripes {
            stripe.0.0.fetch_or(CHANGING, Ordering::Relaxed);
        }
        let closed = Self(stripes);
        for stripe in stripes {
            while stripe.0.0.load(Ordering::Acquire) != CHANGING {
                yield_now();
            }
        }
        closed
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        for stripe in self.0 {
            stripe.0.0.fetch_and(!CHANGING, Ordering::Release);
        }
    }
}
