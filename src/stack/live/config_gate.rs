use crate::sync::{AtomicU64, Mutex, Ordering, fence, lock};

/// Makes sure that one pass of a call through the gates sees one configuration. Any number of passes run at a time, one
/// change at a time. A pass waits for a change only while the change has closed the gates. A change waits only before
/// it starts. It waits for another change or a read that is running. For a bounded time, it also waits for calls that
/// changes have overtaken [`OVERTAKEN_AT`] times.
///
/// A pass reads the version at its start and again at its end. If a change has turned the version in between, the gates
/// may have decided by different configurations. The pass is then repeated, unless a gate refused the call.
///
/// The end of a pass (acquire fence, then load) pairs with a turn (store, then release fence). A pass that read
/// anything written after a turn therefore also sees the turn. The start of a pass (acquire load) pairs with the turn
/// (release store). A pass that reads the new version therefore sees everything written before the turn.
pub(crate) struct ConfigGate {
    version: Word,
    /// The number of calls at the gates that changes have overtaken [`OVERTAKEN_AT`] times or more. Relaxed: if one
    /// change does not see such a call, the next change yields to it.
    overtaken: Word,
    /// Held for the duration of a change, or of a read between two changes.
    change: Mutex<()>,
}

struct Word(AtomicU64);

/// How often changes overtake a call at the gates before later changes yield to it.
pub(crate) const OVERTAKEN_AT: u32 = 8;

/// How many times a change yields to overtaken calls: about a millisecond in total on an idle processor.
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

impl Default for ConfigGate {
    fn default() -> Self {
        Self { version: Word::new(Version::TURN), overtaken: Word::new(0), change: Mutex::new(()) }
    }
}

/// The state of the gates in one word. From the lowest bit: whether the gates are closed, the index of the current
/// image, and the count of turns. An image is one of two copies of the call settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    /// Stands for no version: no pass has started, or the pass has ended.
    pub(crate) const NONE: Self = Self(0);

    /// Reads a version from its [word](Self::word).
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

    /// Returns the index of the current image of the call settings.
    #[inline]
    pub(crate) fn image(self) -> usize {
        usize::from(self.0 & Self::IMAGE != 0)
    }

    /// Returns the index of the image that is not current. The next change of the settings writes it.
    pub(crate) fn next_image(self) -> usize {
        1 - self.image()
    }

    /// Returns the version that the next turn sets: with open gates, and with this image as the current one.
    fn turned(self, to_image: usize) -> Self {
        let count = self.0.wrapping_add(Self::TURN) & !(Self::TURN - 1);
        Self(count | if to_image == 0 { 0 } else { Self::IMAGE })
    }
}

impl ConfigGate {
    /// Returns the version at the start of a pass.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        Version(self.version.0.load(Ordering::Acquire))
    }

    /// Returns whether everything read since `version` was read belongs to that version.
    #[inline]
    pub(crate) fn is_current(&self, version: Version) -> bool {
        fence(Ordering::Acquire);
        self.version.0.load(Ordering::Relaxed) == version.0
    }

    /// Waits for the end of the running change. Must not be called within a change.
    #[cold]
    pub(crate) fn wait_for_change(&self) {
        drop(lock(&self.change));
    }

    /// Yields to overtaken calls. The wait is bounded, because a user's function within such a call may be waiting for
    /// this change.
    fn yield_to_overtaken(&self) {
        for _ in 0..MOST_PAUSES {
            if self.overtaken.0.load(Ordering::Relaxed) == 0 {
                return;
            }
            pause();
        }
    }

    /// Runs `work` while no change is running. Must not be called within a change.
    pub(crate) fn between_changes<T>(&self, work: impl FnOnce() -> T) -> T {
        let _change = lock(&self.change);
        work()
    }

    /// Makes changes yield to an overtaken call until the guard is dropped.
    pub(crate) fn hold_off(&self) -> HeldOff<'_> {
        self.overtaken.0.fetch_add(1, Ordering::Relaxed);
        HeldOff(self)
    }

    /// Yields to overtaken calls, waits for a running change, and runs `work` as the next change. Must not be called
    /// within a change.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Changing<'_>) -> T) -> T {
        self.yield_to_overtaken();
        let _change = lock(&self.change);
        let version = self.version();
        work(&mut Changing { gate: self, version })
    }
}

/// Until dropped, makes changes yield to one overtaken call.
pub(crate) struct HeldOff<'gate>(&'gate ConfigGate);

impl Drop for HeldOff<'_> {
    fn drop(&mut self) {
        self.0.overtaken.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running change.
pub(crate) struct Changing<'gate> {
    gate: &'gate ConfigGate,
    version: Version,
}

impl Changing<'_> {
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Starts the next version with `image`, and opens the gates if they are closed. Passes that started before the
    /// turn and end after it are repeated.
    pub(crate) fn turn(&mut self, image: usize) {
        self.set(self.version.turned(image));
    }

    /// Closes the gates until the next [turn](Self::turn): new passes wait. A pass that ends while the gates are closed
    /// is repeated.
    pub(crate) fn close(&mut self) {
        self.set(Version(self.version.0 | Version::CLOSED));
    }

    fn set(&mut self, version: Version) {
        self.version = version;
        self.gate.version.0.store(version.0, Ordering::Release);
        fence(Ordering::Release);
    }
}

impl Drop for Changing<'_> {
    /// Opens the gates if a panic left them closed.
    fn drop(&mut self) {
        if self.version.is_closed() {
            self.turn(self.version.image());
        }
    }
}
