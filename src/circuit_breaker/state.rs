mod follow;
mod pace;

use super::{
    BreakerBuilder, BreakerState,
    open_time::{Bounds, OpenTime},
    published::{Published, calls_are_timed},
    rules::Rules,
    ticket::{Evidence, Moment, Ticket},
    ticks::Ticks,
    window::{Counts, Window},
    word::Word,
};
use crate::{
    clock::{Origin, nanos},
    error::CircuitOpen,
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::{sync::OnceLock, time::Duration};
use tokio::time::Instant;

/// What all handles of one breaker share.
pub(super) struct Shared {
    pub(super) published: Published,
    /// When an open circuit lets probes through, in nanoseconds since the origin. A thread that reads an older word with
    /// it finds the instant of a later opening, never one of another meaning.
    open_until: AtomicU64,
    /// When a half-open circuit gives up on its probes.
    probes_until: AtomicU64,
    /// The era in the upper half, failures in a row in the lower one. Relaxed: each change is one atomic step.
    in_a_row: AtomicU64,
    failures: Window,
    /// Slow calls. There from when a rate of them is first configured, and set with the machine locked.
    slow: OnceLock<Box<Window>>,
    machine: Mutex<Machine>,
    origin: Origin,
}

/// What is only looked at with the lock held.
struct Machine {
    state: State,
    /// Counts the changes of state. Every permit carries the era that admitted it, and counts for no other.
    era: u32,
    config: BreakerBuilder,
    open_time: OpenTime,
}

/// The states, with what only their own era needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// All calls pass, and their results are counted.
    Closed,
    /// No call passes until `open_until`; the first call after it makes the circuit half-open. Entered for the
    /// [`OpenTime`].
    Open,
    /// At most `probes` calls pass: `in_flight + succeeded <= probes`, unless they were made fewer meanwhile; but always
    /// `succeeded < probes`. As many successes close the circuit; one failure opens it, and so does a series of probes that
    /// brings none of both until `probes_until`. A series goes on while a probe is in flight, and until `lasts_until`, in
    /// nanoseconds, after one that reached the service and was given up before its answer. A success ends it.
    HalfOpen { in_flight: u32, succeeded: u32, lasts_until: u64 },
    /// Opened by hand: no call passes until it is reset.
    ForcedOpen,
    /// Closed by hand: all calls pass and nothing is counted until it is reset.
    ForcedClosed,
}

impl Shared {
    pub(super) fn new(config: BreakerBuilder) -> Self {
        let origin = Origin::at(Instant::now());
        let machine = Machine { state: State::Closed, era: 0, config, open_time: OpenTime::default() };
        let config = &machine.config;
        let slow = OnceLock::new();
        if config.slow_call_rate.is_some() {
            let _ = slow.set(Box::new(Window::new(origin)));
        }
        Self {
            published: Published::new(machine.word(), config),
            open_until: AtomicU64::new(0),
            probes_until: AtomicU64::new(0),
            in_a_row: AtomicU64::new(0),
            failures: Window::new(origin),
            slow,
            machine: Mutex::new(machine),
            origin,
        }
    }

    #[inline]
    pub(super) fn look(&self) -> Word {
        self.published.word()
    }

    #[inline]
    pub(super) fn moment(&self, now: Instant) -> Moment {
        Moment(self.origin.nanos_to(now))
    }

    /// The calls in the window and the failures among them, where a failure rate is configured.
    pub(super) fn counts(&self, now: Instant) -> Counts {
        let (rules, ticks) = self.published.rules_and_ticks();
        if rules.has_rate() { self.failures.counts(&ticks, self.look().era(), now) } else { Counts::default() }
    }

    /// When an open circuit lets probes through.
    pub(super) fn half_open_at(&self) -> Option<Instant> {
        let open = self.look().state() == BreakerState::Open;
        open.then(|| self.origin.instant(self.open_until.load(Ordering::Relaxed))).flatten()
    }

    /// Not closed: refuse, or let a probe through. `word` is what was seen.
    pub(super) fn admit_probe(&self, word: Word, now: Instant) -> Result<Ticket, CircuitOpen> {
        // Without the lock while nothing can have changed, so that refusing costs the same on any number of threads.
        match word.state() {
            BreakerState::Open if !self.has_come(&self.open_until, now) => return Err(self.open_until(now)),
            BreakerState::HalfOpen if word.places() == 0 && !self.has_come(&self.probes_until, now) => {
                return Err(CircuitOpen::new(None));
            }
            _ => {}
        }

        let mut machine = lock(&self.machine);
        let ticket = |machine: &Machine| Ok(self.published.timed_ticket(machine.era, self.moment(now)));
        match machine.state {
            State::Closed | State::ForcedClosed => ticket(&machine),
            State::ForcedOpen => Err(CircuitOpen::new(None)),
            State::Open if !self.has_come(&self.open_until, now) => Err(self.open_until(now)),
            State::Open => {
                self.set(&self.probes_until, now, machine.config.probe_timeout);
                self.change(&mut machine, State::HalfOpen { in_flight: 1, succeeded: 0, lasts_until: 0 });
                ticket(&machine)
            }
            State::HalfOpen { in_flight, succeeded, lasts_until } => {
                if !self.series_goes_on(in_flight, lasts_until, now) {
                    // The first probe of a series.
                    self.set(&self.probes_until, now, machine.config.probe_timeout);
                } else if self.has_come(&self.probes_until, now) {
                    // A service that hangs is no better than one that fails.
                    self.reopen(&mut machine, now);
                    return Err(self.open_until(now));
                }
                if in_flight + succeeded >= machine.config.probes {
                    return Err(CircuitOpen::new(None));
                }
                machine.state = State::HalfOpen { in_flight: in_flight + 1, succeeded, lasts_until };
                self.published.set_word(machine.word());
                ticket(&machine)
            }
        }
    }

    /// Whether calls are refused now, and none of them would change that. Reads the clock only where it matters.
    pub(super) fn is_shut(&self, now: impl FnOnce() -> Instant) -> bool {
        let word = self.look();
        match word.state() {
            BreakerState::Closed | BreakerState::ForcedClosed => false,
            BreakerState::ForcedOpen => true,
            BreakerState::Open => !self.has_come(&self.open_until, now()),
            BreakerState::HalfOpen => word.places() == 0 && !self.has_come(&self.probes_until, now()),
        }
    }

    /// Whether a call at `due` would be refused, if no other call begins or ends before. Changes nothing.
    pub(super) fn would_refuse(&self, due: Instant) -> bool {
        match self.look().state() {
            BreakerState::Closed | BreakerState::ForcedClosed => false,
            BreakerState::ForcedOpen => true,
            BreakerState::Open => !self.has_come(&self.open_until, due),
            BreakerState::HalfOpen => {
                let machine = lock(&self.machine);
                let State::HalfOpen { in_flight, succeeded, lasts_until } = machine.state else { return false };
                // A call that finds the time of the probes up opens the circuit again.
                let goes_on = self.series_goes_on(in_flight, lasts_until, due);
                let is_overdue = goes_on && self.has_come(&self.probes_until, due);
                is_overdue || in_flight + succeeded >= machine.config.probes
            }
        }
    }

    pub(super) fn settle_probe(&self, ticket: &Ticket, evidence: Evidence, now: Instant) {
        let moment = self.moment(now);
        // A slow probe has failed, whatever it ended with.
        let evidence = if ticket.is_slow(moment) { Evidence::Failure } else { ticket.resolve(evidence, moment) };
        let mut machine = lock(&self.machine);
        if machine.era != ticket.era() {
            return;
        }
        let State::HalfOpen { in_flight, succeeded, lasts_until } = machine.state else { return };
        let in_flight = in_flight.saturating_sub(1);
        match evidence {
            // HalfOpen => Open
            Evidence::Failure => self.reopen(&mut machine, now),
            Evidence::Overloaded if machine.config.overload_is_failure => self.reopen(&mut machine, now),
            // HalfOpen => Closed
            Evidence::Success | Evidence::Overloaded if succeeded + 1 >= machine.config.probes => {
                self.close(&mut machine, now);
            }
            // HalfOpen => HalfOpen
            Evidence::Success | Evidence::Overloaded => {
                self.set(&self.probes_until, now, machine.config.probe_timeout);
                machine.state = State::HalfOpen { in_flight, succeeded: succeeded + 1, lasts_until: 0 };
                self.published.set_word(machine.word());
            }
            Evidence::Cancelled | Evidence::Unanswered => {
                // Half of the time of a series. So one that had less and was the last for long opens nothing.
                let half = nanos(machine.config.probe_timeout) / 2;
                let lasts_until = lasts_until.max(self.origin.nanos_to(now).saturating_add(half));
                machine.state = State::HalfOpen { in_flight, succeeded, lasts_until };
                self.published.set_word(machine.word());
            }
            Evidence::Nothing => {
                machine.state = State::HalfOpen { in_flight, succeeded, lasts_until };
                self.published.set_word(machine.word());
            }
        }
    }

    /// Whether a probe that is let through now would belong to the series before it.
    fn series_goes_on(&self, in_flight: u32, lasts_until: u64, now: Instant) -> bool {
        in_flight > 0 || self.origin.nanos_to(now) < lasts_until
    }

    /// Counts a call of a closed circuit.
    #[inline]
    pub(super) fn record(&self, era: u32, evidence: Evidence, now: impl FnOnce() -> Instant) {
        if matches!(evidence, Evidence::Cancelled | Evidence::Unanswered | Evidence::Nothing) {
            return;
        }
        let (rules, ticks) = self.published.rules_and_ticks();
        if evidence == Evidence::Failure || evidence == Evidence::Overloaded && rules.overload_is_failure() {
            return self.record_failure(rules, &ticks, era, now());
        }
        if rules.counts_in_a_row() {
            self.count_in_a_row(era, |_| 0);
        }
        if rules.has_rate() {
            let now = now();
            if self.failures.record(&ticks, era, false, now) {
                self.judge(rules, &ticks, 0, era, now);
            }
        }
    }

    fn record_failure(&self, rules: Rules, ticks: &Ticks, era: u32, now: Instant) {
        let mut in_a_row = 0;
        if rules.counts_in_a_row() {
            in_a_row = self.count_in_a_row(era, |failures| failures.saturating_add(1));
        }
        if rules.has_rate() {
            self.failures.record(ticks, era, true, now);
        }
        self.judge(rules, ticks, in_a_row, era, now);
    }

    /// Opens the circuit if the failures in a row or in the window suffice.
    #[cold]
    fn judge(&self, rules: Rules, ticks: &Ticks, in_a_row: u32, era: u32, now: Instant) {
        let opens = |rules: Rules, ticks: &Ticks| {
            let rate = rules.has_rate() && self.failures.reaches(rules.failure_rate(), ticks, era, now);
            rate || rules.open_at(in_a_row)
        };
        if opens(rules, ticks) {
            self.open_if(era, now, || {
                let (present, ticks) = self.published.rules_and_ticks();
                present == rules || opens(present, &ticks)
            });
        }
    }

    /// Opens a closed circuit, unless its era is over. The open time is that of the present configuration, which may be
    /// another than the one that was read: the present one has to find so too.
    fn open_if(&self, era: u32, now: Instant, present_finds_so: impl FnOnce() -> bool) {
        let mut machine = lock(&self.machine);
        if machine.era == era && matches!(machine.state, State::Closed) && present_finds_so() {
            // Closed => Open
            let (bounds, now) = (machine.bounds(), self.origin.nanos_to(now));
            let open_for = machine.open_time.after_closed(bounds, now);
            self.open(&mut machine, now, open_for);
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

    /// A probe has failed, or the probes have brought nothing.
    fn reopen(&self, machine: &mut Machine, now: Instant) {
        let bounds = machine.bounds();
        let Machine { open_time, config, .. } = machine;
        let open_for = open_time.after_failed_probe(bounds, || config.random.get());
        self.open(machine, self.origin.nanos_to(now), open_for);
    }

    fn open(&self, machine: &mut Machine, now: u64, open_for: u64) {
        self.open_until.store(now.saturating_add(open_for), Ordering::Relaxed);
        self.change(machine, State::Open);
    }

    fn close(&self, machine: &mut Machine, now: Instant) {
        machine.open_time.closed(self.origin.nanos_to(now));
        self.change(machine, State::Closed);
    }

    /// Begins a new era by hand.
    pub(super) fn force(&self, state: State) {
        let mut machine = lock(&self.machine);
        machine.open_time = OpenTime::default();
        self.change(&mut machine, state);
    }

    /// Begins a new era.
    fn change(&self, machine: &mut Machine, state: State) {
        machine.state = state;
        machine.era = machine.era.wrapping_add(1);
        self.published.set_word(machine.word());
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

impl Machine {
    fn bounds(&self) -> Bounds {
        Bounds::new(self.config.open_for, self.config.longest_open())
    }

    /// What those who only look see.
    fn word(&self) -> Word {
        let (state, places) = match self.state {
            State::Closed => (BreakerState::Closed, 0),
            State::Open => (BreakerState::Open, 0),
            State::HalfOpen { in_flight, succeeded, .. } => {
                (BreakerState::HalfOpen, self.config.probes.saturating_sub(in_flight + succeeded))
            }
            State::ForcedOpen => (BreakerState::ForcedOpen, 0),
            State::ForcedClosed => (BreakerState::ForcedClosed, 0),
        };
        Word::pack(self.era, state, places, calls_are_timed(&self.config))
    }
}
