use super::{
    BreakerBuilder, BreakerState,
    permit::{Evidence, Ticket},
    rules::Rules,
    ticks::{SharedTicks, Ticks},
    window::{Counts, Window},
    word::Word,
};
use crate::{
    clock::{Origin, nanos},
    error::CircuitOpen,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::time::Duration;
use tokio::time::Instant;

/// What all handles of one breaker share.
pub(super) struct Shared {
    looked_at: LookedAt,
    /// When an open circuit lets probes through, in nanoseconds since the origin. Whoever reads an older word with it
    /// finds the instant of a later opening, never one of another meaning.
    open_until: AtomicU64,
    /// When a half-open circuit gives up on its probes.
    probes_until: AtomicU64,
    /// The era in the upper half, failures in a row in the lower one. Relaxed: each change is one atomic step.
    in_a_row: AtomicU64,
    window: Window,
    machine: Mutex<Machine>,
    origin: Origin,
}

/// What every call reads and few write, on a line of the cache that no call writes while the circuit is closed. Written
/// with the machine locked.
#[repr(align(64))]
struct LookedAt {
    /// A [`Word`]: a copy of what the machine says. Written with release, so that whoever reads it (with acquire) also sees
    /// the instants that were written before it.
    word: AtomicU64,
    /// [`Rules`] of the machine's configuration.
    rules: AtomicU64,
    /// After how many nanoseconds a call that is dropped is a failure; zero for never.
    patience: AtomicU64,
    /// The ticks of the window that count and those before or after, by the numbering's lowest bit. Overwritten only after
    /// the rules have named the others.
    ticks: [SharedTicks; 2],
}

/// What is only looked at with the lock held.
struct Machine {
    state: State,
    /// Counts the changes of state. Every permit carries the era that admitted it, and counts for no other.
    era: u32,
    config: BreakerBuilder,
}

/// The states, with what only their own era needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// All calls pass, and their results are counted.
    Closed,
    /// No call passes until `open_until`; the first after it makes the circuit half-open.
    Open,
    /// At most `probes` calls pass: `in_flight + succeeded <= probes`, unless they were made fewer meanwhile; but always
    /// `succeeded < probes`. As many successes close the circuit; one failure
    /// opens it, and so does a series of probes that brings none of both until `probes_until`. `unanswered`: one of this
    /// series reached the service and was dropped before its answer. A success ends a series.
    HalfOpen { in_flight: u32, succeeded: u32, unanswered: bool },
    /// Opened by hand: no call passes until it is reset.
    ForcedOpen,
    /// Closed by hand: all calls pass and nothing is counted until it is reset.
    ForcedClosed,
}

impl Shared {
    pub(super) fn new(config: BreakerBuilder) -> Self {
        let origin = Origin::at(Instant::now());
        let machine = Machine { state: State::Closed, era: 0, config };
        let config = &machine.config;
        // Where no rate is configured, they are those of any window: none is counted, and one that is added begins empty.
        let ticks = Ticks::new(config.rate_and_window().map_or(Duration::from_secs(10), |(_, length)| length));
        Self {
            looked_at: LookedAt {
                word: AtomicU64::new(Word::pack(machine.era, BreakerState::Closed, 0).0),
                rules: AtomicU64::new(Rules::new(config, 0).0),
                patience: AtomicU64::new(config.cancelled_after.map_or(0, nanos)),
                ticks: [SharedTicks::new(ticks), SharedTicks::new(ticks)],
            },
            open_until: AtomicU64::new(0),
            probes_until: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            window: Window::new(origin),
            machine: Mutex::new(machine),
            origin,
        }
    }

    #[inline]
    pub(super) fn look(&self) -> Word {
        Word(self.looked_at.word.load(Ordering::Acquire))
    }

    #[inline]
    fn rules(&self) -> Rules {
        Rules(self.looked_at.rules.load(Ordering::Acquire))
    }

    /// The rules, and the ticks that they were published with.
    #[inline]
    fn rules_and_ticks(&self) -> (Rules, Ticks) {
        let mut rules = self.rules();
        loop {
            let ticks = self.ticks_of(rules.numbering()).load();
            let newer = self.rules();
            // The ticks were loaded before, with acquire: had they been overwritten, another numbering would count.
            if newer.numbering() == rules.numbering() {
                return (rules, ticks);
            }
            rules = newer;
        }
    }

    #[inline]
    fn ticks_of(&self, numbering: u64) -> &SharedTicks {
        &self.looked_at.ticks[(numbering & 1) as usize]
    }

    /// From when on a call that is admitted now is a failure if its caller drops it. Reads the clock only where there is
    /// such a time.
    #[inline]
    pub(super) fn overdue_at(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        match self.looked_at.patience.load(Ordering::Acquire) {
            0 => None,
            patience => now().checked_add(Duration::from_nanos(patience)),
        }
    }

    /// The calls and failures in the window, where a rate is configured.
    pub(super) fn counts(&self, now: Instant) -> Counts {
        let (rules, ticks) = self.rules_and_ticks();
        self.counts_by(rules, &ticks, self.look().era(), now)
    }

    fn counts_by(&self, rules: Rules, ticks: &Ticks, era: u32, now: Instant) -> Counts {
        if rules.has_rate() { self.window.counts(ticks, era, now) } else { Counts::default() }
    }

    /// Not closed: refuse, or let a probe through. `word` is what was seen.
    pub(super) fn admit_probe(&self, word: Word, now: Instant) -> Result<Ticket, CircuitOpen> {
        // Without the lock while nothing can have changed, so that refusing costs the same on any number of threads.
        match word.state() {
            BreakerState::Open if !self.has_come(&self.open_until, now) => return Err(self.open_until(now)),
            BreakerState::HalfOpen if !word.has_place() && !self.has_come(&self.probes_until, now) => {
                return Err(CircuitOpen::new(None));
            }
            _ => {}
        }

        let mut machine = lock(&self.machine);
        let ticket = |machine: &Machine| {
            let overdue_at = machine.config.cancelled_after.and_then(|after| now.checked_add(after));
            Ok(Ticket { era: machine.era, overdue_at })
        };
        match machine.state {
            State::Closed | State::ForcedClosed => ticket(&machine),
            State::ForcedOpen => Err(CircuitOpen::new(None)),
            State::Open if !self.has_come(&self.open_until, now) => Err(self.open_until(now)),
            State::Open => {
                self.set(&self.probes_until, now, machine.config.probe_timeout);
                self.change(&mut machine, State::HalfOpen { in_flight: 1, succeeded: 0, unanswered: false });
                ticket(&machine)
            }
            State::HalfOpen { in_flight, succeeded, unanswered } => {
                if in_flight == 0 && !unanswered {
                    // The first probe of a series.
                    self.set(&self.probes_until, now, machine.config.probe_timeout);
                } else if self.has_come(&self.probes_until, now) {
                    // A service that hangs is no better than one that fails.
                    self.open(&mut machine, now);
                    return Err(self.open_until(now));
                }
                if in_flight + succeeded >= machine.config.probes {
                    return Err(CircuitOpen::new(None));
                }
                machine.state = State::HalfOpen { in_flight: in_flight + 1, succeeded, unanswered };
                self.publish(&machine);
                ticket(&machine)
            }
        }
    }

    /// Whether a circuit that was seen open or half-open refuses calls at `now`, and none of them changes its state.
    pub(super) fn is_shut(&self, word: Word, now: Instant) -> bool {
        match word.state() {
            BreakerState::Open => !self.has_come(&self.open_until, now),
            BreakerState::HalfOpen => !word.has_place() && !self.has_come(&self.probes_until, now),
            BreakerState::ForcedOpen => true,
            BreakerState::Closed | BreakerState::ForcedClosed => false,
        }
    }

    pub(super) fn settle_probe(&self, era: u32, evidence: Evidence, now: Instant) {
        let mut machine = lock(&self.machine);
        if machine.era != era {
            return;
        }
        let State::HalfOpen { in_flight, succeeded, unanswered } = machine.state else { return };
        let in_flight = in_flight.saturating_sub(1);
        match evidence {
            Evidence::Failure => self.open(&mut machine, now),
            Evidence::Overloaded if machine.config.overload_is_failure => self.open(&mut machine, now),
            Evidence::Success | Evidence::Overloaded if succeeded + 1 >= machine.config.probes => {
                self.change(&mut machine, State::Closed)
            }
            Evidence::Success | Evidence::Overloaded => {
                self.set(&self.probes_until, now, machine.config.probe_timeout);
                machine.state = State::HalfOpen { in_flight, succeeded: succeeded + 1, unanswered: false };
                self.publish(&machine);
            }
            Evidence::Unanswered | Evidence::Nothing => {
                let unanswered = unanswered || evidence == Evidence::Unanswered;
                machine.state = State::HalfOpen { in_flight, succeeded, unanswered };
                self.publish(&machine);
            }
        }
    }

    /// Counts a call of a closed circuit.
    #[inline]
    pub(super) fn record(&self, era: u32, evidence: Evidence, now: impl FnOnce() -> Instant) {
        if matches!(evidence, Evidence::Unanswered | Evidence::Nothing) {
            return;
        }
        let (rules, ticks) = self.rules_and_ticks();
        if evidence == Evidence::Failure || evidence == Evidence::Overloaded && rules.overload_is_failure() {
            return self.record_failure(rules, &ticks, era, now());
        }
        if rules.counts_in_a_row() {
            self.count_in_a_row(era, |_| 0);
        }
        if rules.has_rate() {
            self.window.record(&ticks, era, false, now());
        }
    }

    fn record_failure(&self, rules: Rules, ticks: &Ticks, era: u32, now: Instant) {
        let mut in_a_row = 0;
        if rules.counts_in_a_row() {
            in_a_row = self.count_in_a_row(era, |failures| failures.saturating_add(1));
        }
        if rules.has_rate() {
            self.window.record(ticks, era, true, now);
        }
        if rules.open_at(in_a_row, self.counts_by(rules, ticks, era, now)) {
            let mut machine = lock(&self.machine);
            if machine.era != era || !matches!(machine.state, State::Closed) {
                return;
            }
            // The open time is that of the present configuration, which may be another than the one that was read: it then
            // has to find so too.
            let (present, ticks) = self.rules_and_ticks();
            if present == rules || present.open_at(in_a_row, self.counts_by(present, &ticks, era, now)) {
                self.open(&mut machine, now);
            }
        }
    }

    /// Changes the failures in a row of this era, unless a later one has begun to count. Returns the count.
    #[inline]
    fn count_in_a_row(&self, era: u32, change: impl Fn(u32) -> u32) -> u32 {
        let mut word = self.in_a_row.load(Ordering::Relaxed);
        loop {
            let counted = (word >> 32) as u32;
            // Eras wrap around: the later of two is the one that is ahead by less than half of them.
            if counted != era && counted.wrapping_sub(era) < u32::MAX / 2 {
                return 0;
            }
            let failures = change(if counted == era { word as u32 } else { 0 });
            let after = u64::from(era) << 32 | u64::from(failures);
            if after == word {
                return failures;
            }
            match self.in_a_row.compare_exchange_weak(word, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return failures,
                Err(newer) => word = newer,
            }
        }
    }

    fn open(&self, machine: &mut Machine, now: Instant) {
        self.set(&self.open_until, now, machine.config.open_for);
        self.change(machine, State::Open);
    }

    /// Begins a new era by hand.
    pub(super) fn force(&self, state: State) {
        self.change(&mut lock(&self.machine), state);
    }

    /// Begins a new era.
    fn change(&self, machine: &mut Machine, state: State) {
        machine.state = state;
        machine.era = machine.era.wrapping_add(1);
        self.publish(machine);
    }

    fn publish(&self, machine: &Machine) {
        let (state, places) = match machine.state {
            State::Closed => (BreakerState::Closed, 0),
            State::Open => (BreakerState::Open, 0),
            State::HalfOpen { in_flight, succeeded, .. } => {
                (BreakerState::HalfOpen, machine.config.probes.saturating_sub(in_flight + succeeded))
            }
            State::ForcedOpen => (BreakerState::ForcedOpen, 0),
            State::ForcedClosed => (BreakerState::ForcedClosed, 0),
        };
        self.looked_at.word.store(Word::pack(machine.era, state, places).0, Ordering::Release);
    }

    /// Follows a configuration that was checked.
    pub(super) fn follow(&self, to: BreakerBuilder) {
        let mut machine = lock(&self.machine);
        if machine.config == to {
            return;
        }
        if machine.config.consecutive_failures.is_none() {
            // What was counted when failures in a row were last asked for is no run any more.
            self.in_a_row.store(u64::from(machine.era) << 32, Ordering::Relaxed);
        }
        let old = self.rules().numbering();
        let window_of = |config: &BreakerBuilder| config.rate_and_window().map(|(_, length)| length);
        let numbering = match (window_of(&machine.config), window_of(&to)) {
            (old_length, Some(length)) if old_length != Some(length) => {
                let (ticks, now) = (self.ticks_of(old).load(), Instant::now());
                let ticks = match old_length {
                    Some(old_length) => self.window.resize(&ticks, old_length, length, machine.era, now),
                    None => self.window.empty_out(&ticks, length, machine.era, now),
                };
                let next = Rules::next_numbering(old);
                self.ticks_of(next).store(ticks);
                next
            }
            _ => old,
        };
        // A release, for whoever reads the ticks that it names; it comes after the failures in a row, and before the
        // patience: a call that was admitted by the new one is settled by the new rules.
        self.looked_at.rules.store(Rules::new(&to, numbering).0, Ordering::Release);
        self.looked_at.patience.store(to.cancelled_after.map_or(0, nanos), Ordering::Release);
        machine.config = to;
        match machine.state {
            State::HalfOpen { succeeded, .. } if succeeded >= machine.config.probes => {
                self.change(&mut machine, State::Closed);
            }
            _ => self.publish(&machine),
        }
    }

    pub(super) fn configuration(&self) -> BreakerBuilder {
        lock(&self.machine).config.clone()
    }

    /// Sets an instant, with the machine locked and before the word is published.
    fn set(&self, instant: &AtomicU64, now: Instant, after: Duration) {
        instant.store(self.origin.nanos_to(now).saturating_add(nanos(after)), Ordering::Relaxed);
    }

    fn has_come(&self, instant: &AtomicU64, now: Instant) -> bool {
        self.origin.nanos_to(now) >= instant.load(Ordering::Relaxed)
    }

    fn open_until(&self, now: Instant) -> CircuitOpen {
        let left = self.open_until.load(Ordering::Relaxed).saturating_sub(self.origin.nanos_to(now));
        CircuitOpen::new(Some(Duration::from_nanos(left)))
    }
}
