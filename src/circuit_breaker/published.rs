use super::{
    BreakerBuilder,
    rules::{Rules, parts},
    state::Machine,
    ticket::Ticket,
    ticks::{SharedTicks, Ticks},
    word::Word,
};
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};
use std::time::Duration;

/// The words that every call reads, in cache lines that no call writes while the circuit is closed. The fields before
/// `times` fill one cache line. The admission of a call reads `times` only if calls are timed, or if the circuit was
/// not closed.
#[repr(C, align(64))]
pub(super) struct Published {
    /// A [`Word`]: a copy of the machine's state. Written with release and read with acquire. A thread that reads the
    /// word therefore also sees the instants that were written before it, such as the end of the open time.
    word: AtomicU64,
    /// [`Rules`] of the machine's configuration.
    rules: AtomicU64,
    /// Two slots for the ticks of the window. The lowest bit of [`Rules::numbering`] names the slot that is in force.
    /// The other slot has the ticks before the last change, and receives those of the next one. A slot is overwritten
    /// only after the rules have named the other one.
    ticks: [SharedTicks; 2],
    /// The rate of slow calls in parts per million, or zero for none. The rules name the slot, as for the ticks.
    slow_shares: [AtomicU64; 2],
    /// The times that an admitted call gets. The rules name the slot, as for the ticks.
    times: [Times; 2],
}

/// The times after which a call counts as a failure or as slow, in nanoseconds.
struct Times {
    /// A call that its caller drops after this time counts as a failure; zero for never.
    overdue_after: AtomicU64,
    /// A call that takes this time is slow; zero if no rate of slow calls is configured.
    slow_after: AtomicU64,
}

impl Times {
    fn new((overdue_after, slow_after): (Nanos, Nanos)) -> Self {
        Self { overdue_after: AtomicU64::new(overdue_after.0), slow_after: AtomicU64::new(slow_after.0) }
    }

    fn load(&self) -> (Nanos, Nanos) {
        (Nanos(self.overdue_after.load(Ordering::Acquire)), Nanos(self.slow_after.load(Ordering::Acquire)))
    }

    fn store(&self, (overdue_after, slow_after): (Nanos, Nanos)) {
        self.overdue_after.store(overdue_after.0, Ordering::Release);
        self.slow_after.store(slow_after.0, Ordering::Release);
    }
}

/// The length of the windows if no failure rate is configured.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

/// Returns the length of the windows, if a rate is configured.
pub(super) fn window_of(config: &BreakerBuilder) -> Option<Duration> {
    match config.rate_and_window() {
        Some((_, length)) => Some(length),
        None => config.slow_call_rate.map(|_| DEFAULT_WINDOW),
    }
}

fn slow_share(config: &BreakerBuilder) -> u64 {
    config.slow_call_rate.map_or(0, |(rate, _)| parts(rate).into())
}

/// Returns the times after which a call is overdue and slow; zero for never.
fn times(config: &BreakerBuilder) -> (Nanos, Nanos) {
    let of = |duration: Option<Duration>| duration.map_or(Nanos::ZERO, Nanos::of);
    (of(config.cancelled_after), of(config.slow_call_rate.map(|(_, threshold)| threshold)))
}

/// Returns whether calls are timed: whether their tickets carry the times after which they are overdue or slow.
pub(super) fn calls_are_timed(config: &BreakerBuilder) -> bool {
    times(config) != (Nanos::ZERO, Nanos::ZERO)
}

impl Published {
    pub(super) fn new(word: Word, config: &BreakerBuilder) -> Self {
        // Without a rate, no call is counted in a window, so any length will do. A window that is added later starts
        // empty, with its own length.
        let ticks = Ticks::new(window_of(config).unwrap_or(DEFAULT_WINDOW));
        Self {
            word: AtomicU64::new(word.0),
            rules: AtomicU64::new(Rules::new(config, 0).0),
            ticks: [SharedTicks::new(ticks), SharedTicks::new(ticks)],
            slow_shares: [slow_share(config), 0].map(AtomicU64::new),
            times: [Times::new(times(config)), Times::new(times(config))],
        }
    }

    #[inline]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    pub(super) fn set_word(&self, word: Word) {
        self.word.store(word.0, Ordering::Release);
    }

    #[inline]
    fn rules(&self) -> Rules {
        Rules(self.rules.load(Ordering::Acquire))
    }

    /// Returns the rules, and the values that were published with them in the slot that they name.
    #[inline]
    fn rules_with<T>(&self, load: impl Fn(usize) -> T) -> (Rules, T) {
        let mut rules = self.rules();
        loop {
            let loaded = load(place(rules));
            let newer = self.rules();
            // `loaded` was loaded before `newer`, with acquire. A slot is overwritten only after rules that name the
            // other slot were published. If this slot had been overwritten, `newer` would differ in its numbering.
            if newer.numbering() == rules.numbering() {
                return (rules, loaded);
            }
            rules = newer;
        }
    }

    #[inline]
    pub(super) fn rules_and_ticks(&self) -> (Rules, Ticks) {
        self.rules_with(|place| self.ticks[place].load())
    }

    /// Returns the rules, the ticks and the rate of slow calls.
    pub(super) fn slow_rules(&self) -> (Rules, Ticks, u64) {
        let load = |place: usize| (self.ticks[place].load(), self.slow_shares[place].load(Ordering::Acquire));
        let (rules, (ticks, share)) = self.rules_with(load);
        (rules, ticks, share)
    }

    /// Returns the ticket of a call that is admitted now, with the times of the configuration in force.
    #[cold]
    pub(super) fn timed_ticket(&self, era: u32, now: Nanos) -> Ticket {
        let (_, (overdue_after, slow_after)) = self.rules_with(|place| self.times[place].load());
        Ticket::timed(era, overdue_after, slow_after, now)
    }

    /// Publishes a configuration that differs from the machine's. `ticks` is `Some` if the windows get another length,
    /// or if the configuration adds the first window.
    pub(super) fn reconfigure(&self, machine: &Machine, to: &BreakerBuilder, ticks: Option<Ticks>) {
        let (rules, present) = self.rules_and_ticks();
        let mut numbering = rules.numbering();
        let published = |config: &BreakerBuilder| (slow_share(config), times(config));
        if ticks.is_some() || published(&machine.config) != published(to) {
            numbering = Rules::next_numbering(numbering);
            let next = (numbering & 1) as usize;
            self.ticks[next].store(ticks.unwrap_or(present));
            // Release, as for the ticks.
            self.slow_shares[next].store(slow_share(to), Ordering::Release);
            self.times[next].store(times(to));
        }
        // Release, for a thread that reads the slot that the rules name. A call that got the new times has read the new
        // rules, so it is settled by these rules or later ones.
        self.rules.store(Rules::new(to, numbering).0, Ordering::Release);
    }
}

/// Returns the slot that these rules name.
#[inline]
fn place(rules: Rules) -> usize {
    (rules.numbering() & 1) as usize
}
