use crate::sync::{AtomicU64, Mutex, Ordering, fence, lock};

/// Passes through the gates, any number at a time, and changes of what the gates go by, each alone. Neither waits for
/// the other, but for the moments in which the gates are closed.
///
/// A pass notes the version at its beginning and looks at it again at its end. If it has turned meanwhile, the gates
/// may have decided by different configurations, and the pass is made again. The end of a pass (an acquire fence, then
/// a load) pairs with a turn (a store, then a release fence): a pass that saw something which was written after a turn
/// sees the turn. Its beginning (an acquire) pairs with the turn (a release): it sees what was written before.
pub(crate) struct Passes {
    version: Word,
    /// The calls that changes have made begin again too often. Relaxed: a change that misses one waits the next time.
    overtaken: Word,
    /// Held during a change.
    change: Mutex<()>,
}

struct Word(AtomicU64);

/// How often a pass is made again before changes wait for it.
pub(crate) const OVERTAKEN_AT: u32 = 8;

/// How often a change gives way to overtaken calls: for about a millisecond where the processor has nothing else to do.
#[cfg(not(steadfast_loom))]
const MOST_PAUSES: u32 = 2000;
#[cfg(steadfast_loom)]
const MOST_PAUSES: u32 = 1;

#[cfg(not(steadfast_loom))]
fn pause() {
    std::thread::yield_now();
}

#[cfg(steadfast_loom)]
fn pause() {
    loom::thread::yield_now();
}

impl Word {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }
}

impl Default for Passes {
    fn default() -> Self {
        Self { version: Word::new(Version::TURN), overtaken: Word::new(0), change: Mutex::new(()) }
    }
}

/// From the lowest bit on: whether the gates are closed, which of two images counts, and a count of the turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    /// No version: the pass has ended.
    pub(crate) const NONE: Self = Self(0);

    /// The version that is this [word](Self::word).
    #[inline]
    pub(crate) fn of(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }
    const CLOSED: u64 = 1;
    const IMAGE: u64 = 2;
    const TURN: u64 = 4;

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }

    /// The image of what calls keep that counts.
    #[inline]
    pub(crate) fn image(self) -> usize {
        usize::from(self.0 & Self::IMAGE != 0)
    }

    /// The other image.
    pub(crate) fn next_image(self) -> usize {
        1 - self.image()
    }

    fn turned(self, to_image: usize) -> Self {
        let count = self.0.wrapping_add(Self::TURN) & !(Self::TURN - 1);
        Self(count | if to_image == 0 { 0 } else { Self::IMAGE })
    }
}

impl Passes {
    /// The version by which a pass begins.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        Version(self.version.0.load(Ordering::Acquire))
    }

    /// Whether all that was read since this version was read is of it.
    #[inline]
    pub(crate) fn is_current(&self, version: Version) -> bool {
        fence(Ordering::Acquire);
        self.version.0.load(Ordering::Relaxed) == version.0
    }

    /// Waits for the end of a change that is under way. Never in a change.
    #[cold]
    pub(crate) fn wait_for_change(&self) {
        drop(lock(&self.change));
    }

    /// Gives overtaken calls the time to pass. Not for ever: one of them may wait for this change.
    fn wait_for_the_overtaken(&self) {
        for _ in 0..MOST_PAUSES {
            if self.overtaken.0.load(Ordering::Relaxed) == 0 {
                return;
            }
            pause();
        }
    }

    /// Looks at what changes change, with no change under way. Never in a change.
    pub(crate) fn between_changes<T>(&self, work: impl FnOnce() -> T) -> T {
        let _change = lock(&self.change);
        work()
    }

    /// Lets changes wait for a call that was overtaken, until this is dropped.
    pub(crate) fn hold_off(&self) -> HeldOff<'_> {
        self.overtaken.0.fetch_add(1, Ordering::Relaxed);
        HeldOff(self)
    }

    /// Makes a change. Never in a change.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Changing<'_>) -> T) -> T {
        self.wait_for_the_overtaken();
        let _change = lock(&self.change);
        let version = self.version();
        work(&mut Changing { passes: self, version })
    }
}

/// Changes wait for a call.
pub(crate) struct HeldOff<'passes>(&'passes Passes);

impl Drop for HeldOff<'_> {
    fn drop(&mut self) {
        self.0.overtaken.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A change under way.
pub(crate) struct Changing<'passes> {
    passes: &'passes Passes,
    version: Version,
}

impl Changing<'_> {
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Begins the next version, with this image, and opens the gates if they are closed. A pass that began before and
    /// ends later is made again.
    pub(crate) fn turn(&mut self, image: usize) {
        self.set(self.version.turned(image));
    }

    /// Closes the gates to passes that begin until the next [turn](Self::turn). A pass that ends meanwhile is made
    /// again.
    pub(crate) fn close(&mut self) {
        self.set(Version(self.version.0 | Version::CLOSED));
    }

    fn set(&mut self, version: Version) {
        self.version = version;
        self.passes.version.0.store(version.0, Ordering::Release);
        fence(Ordering::Release);
    }
}

impl Drop for Changing<'_> {
    /// Opens the gates that a panic has left closed.
    fn drop(&mut self) {
        if self.version.is_closed() {
            self.turn(self.version.image());
        }
    }
}
