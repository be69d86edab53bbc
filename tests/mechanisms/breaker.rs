//! The circuit breaker against a plain model of its documentation.

use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};
use steadfast::{
    Outcome, Random,
    circuit_breaker::{Breaker, BreakerBuilder, BreakerState, Permit},
};
use tokio::{
    runtime,
    time::{Instant, advance},
};

/// The configuration of a breaker. All times are numbers of quarters: `quarter` is the unit of time. At first, a
/// sixteenth of the failure rate's window has four quarters. A step may change that.
#[derive(Clone, Copy, Debug)]
struct Spec {
    quarter: Duration,
    /// A sixteenth of the window of the failure rate, in quarters.
    sixteenth: u32,
    consecutive_failures: Option<u32>,
    /// In millionths.
    failure_rate: Option<u32>,
    /// The rate in millionths, and the threshold in quarters.
    slow_call_rate: Option<(u32, u32)>,
    minimum_calls: u32,
    open_for: u32,
    max_open_for: Option<u32>,
    probes: u32,
    probe_timeout: u32,
    cancelled_is_failure_after: Option<u32>,
}

/// One quarter more than the longest first open time and the longest probe timeout.
const LONGEST: u32 = 100;

impl Spec {
    fn builder(&self) -> BreakerBuilder {
        let mut builder = Breaker::builder()
            .minimum_calls(self.minimum_calls)
            .open_for(self.quarter * self.open_for)
            .probes(self.probes)
            .probe_timeout(self.quarter * self.probe_timeout);
        if let Some(failures) = self.consecutive_failures {
            builder = builder.consecutive_failures(failures);
        }
        if let Some(millionths) = self.failure_rate {
            builder = builder.failure_rate(f64::from(millionths) / 1e6, self.quarter * self.sixteenth * 16);
        }
        if let Some((millionths, threshold)) = self.slow_call_rate {
            builder = builder.slow_call_rate(f64::from(millionths) / 1e6, self.quarter * threshold);
        }
        if let Some(longest) = self.max_open_for {
            builder = builder.max_open_for(self.quarter * longest);
        }
        if let Some(after) = self.cancelled_is_failure_after {
            builder = builder.cancelled_is_failure_after(self.quarter * after);
        }
        builder
    }

    /// Returns the length of the windows if a rate is configured. If only slow calls have a rate, it is ten seconds.
    fn window(&self) -> Option<Duration> {
        match (self.failure_rate, self.slow_call_rate) {
            (Some(_), _) => Some(self.quarter * self.sixteenth * 16),
            (None, Some(_)) => Some(Duration::from_secs(10)),
            (None, None) => None,
        }
    }

    fn nanos(&self, quarters: i64) -> i128 {
        self.quarter.as_nanos() as i128 * i128::from(quarters)
    }

    /// The first and the longest open time, in nanoseconds.
    fn open_times(&self) -> (i128, i128) {
        let shortest = self.nanos(self.open_for.into());
        let longest = self.max_open_for.map_or(shortest.max(60_000_000_000), |longest| self.nanos(longest.into()));
        (shortest, longest)
    }
}

/// The rules that open the circuit: failures in a row, the failure rate, and the rate of slow calls with its threshold.
type Judges = (Option<u32>, Option<u32>, Option<(u32, u32)>);

/// The settings that may change while calls pass: all except the unit of times. In order: the rules, the minimum of
/// calls, the probes, the times, and the sixteenth. The times are the open time, the longest open time, the probe
/// timeout, and the time after which a cancelled call is a failure.
type Change = (Judges, u32, u32, (u32, Option<u32>, u32, Option<u32>), u32);

fn any_change() -> impl Strategy<Value = Change> {
    let rate = prop::sample::select(vec![1, 10_000, 333_333, 500_000, 666_667, 999_999, 1_000_000]);
    let slow = prop::option::of((rate.clone(), 1..LONGEST));
    let judges = prop_oneof![
        (1..5u32).prop_map(|failures| (Some(failures), None)),
        rate.clone().prop_map(|rate| (None, Some(rate))),
        (1..5u32, rate).prop_map(|(failures, rate)| (Some(failures), Some(rate))),
    ];
    let judges = (judges, slow).prop_map(|((in_a_row, rate), slow)| (in_a_row, rate, slow));
    let times = (1..LONGEST, prop::option::of(0..2 * LONGEST), 1..LONGEST, prop::option::of(1..100u32));
    let times = times.prop_map(|(open_for, more, probes, after)| (open_for, more.map(|m| open_for + m), probes, after));
    let sixteenth = prop::sample::select(vec![1, 2, 3, 4, 8, 64]);
    (judges, 1..6u32, 1..4u32, times, sixteenth)
}

impl Spec {
    fn with(self, (judges, minimum_calls, probes, times, sixteenth): Change) -> Self {
        Self {
            quarter: self.quarter,
            sixteenth,
            consecutive_failures: judges.0,
            failure_rate: judges.1,
            slow_call_rate: judges.2,
            minimum_calls,
            open_for: times.0,
            max_open_for: times.1,
            probes,
            probe_timeout: times.2,
            cancelled_is_failure_after: times.3,
        }
    }
}

fn any_spec() -> impl Strategy<Value = Spec> {
    let quarter = prop::sample::select(vec![
        Duration::from_nanos(64),
        Duration::from_nanos(25_000),
        Duration::from_millis(7),
        Duration::from_nanos(156_250_000),
        Duration::from_secs(3600),
    ]);
    (quarter, any_change()).prop_map(|(quarter, change)| {
        let first = Spec {
            quarter,
            sixteenth: 4,
            consecutive_failures: None,
            failure_rate: None,
            slow_call_rate: None,
            minimum_calls: 1,
            open_for: 1,
            max_open_for: None,
            probes: 1,
            probe_timeout: 1,
            cancelled_is_failure_after: None,
        };
        Spec { sixteenth: 4, ..first.with(change) }
    })
}

/// A model of the breaker as its documentation describes it, with a list of all calls. Times are in quarters, and start
/// half a quarter after the breaker was built.
struct Model {
    spec: Spec,
    state: State,
    /// Counts the changes of state.
    era: u32,
    /// The calls of this era that counted while the circuit was closed. Each has the number of the sixteenth in which
    /// it ended, and whether it failed.
    calls: VecDeque<(i128, bool)>,
    /// The calls of this era whose duration counted: the number of the sixteenth, and whether the call was slow.
    paces: VecDeque<(i128, bool)>,
    in_a_row: u32,
    /// The last open time in nanoseconds. Zero if the next one is the configured first open time again.
    last_open: i128,
    /// When the circuit was last closed, in quarters.
    closed_at: i64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        /// In nanoseconds.
        until: i128,
    },
    /// Open since a probe failed, for a random time within these bounds, in nanoseconds.
    Reopened {
        since: i128,
        shortest: i128,
        longest: i128,
    },
    HalfOpen {
        in_flight: u32,
        succeeded: u32,
        /// The end of the probe timeout of the present series. A call after it opens the circuit again, if the series
        /// then still continues. `None` after a success with no other probe in flight, until the next probe.
        patient_until: Option<i64>,
        /// Until this time, in nanoseconds, the series continues even if no probe is in flight.
        lasts_until: i128,
    },
    ForcedOpen,
    ForcedClosed,
}

/// A call that the model admitted.
#[derive(Clone, Copy, Debug)]
struct Call {
    era: u32,
    /// From this time on, a drop of the call is a failure.
    overdue_at: Option<i64>,
    /// From this time on, the call is slow. `None` without a rate of slow calls, or after this call was counted as
    /// slow.
    slow_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Success,
    Failure,
    /// Dropped by the caller.
    Cancelled,
    /// Ended by a deadline of the caller so early that it is no evidence.
    CutShort,
    /// The answer does not count.
    Ignored,
}

impl Model {
    fn new(spec: Spec) -> Self {
        Self {
            spec,
            state: State::Closed,
            era: 0,
            calls: VecDeque::new(),
            paces: VecDeque::new(),
            in_a_row: 0,
            last_open: 0,
            closed_at: 0,
        }
    }

    fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } | State::Reopened { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::ForcedOpen => BreakerState::ForcedOpen,
            State::ForcedClosed => BreakerState::ForcedClosed,
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        self.calls.clear();
        self.paces.clear();
        self.in_a_row = 0;
    }

    /// Changes the state by hand. The next open time is then the first one again.
    fn force(&mut self, state: State) {
        self.last_open = 0;
        self.change(state);
    }

    fn open(&mut self, now: i64) {
        let (shortest, longest) = self.spec.open_times();
        // The open time starts over if the circuit was closed for at least as long as it was open before.
        if self.spec.nanos(now - self.closed_at) >= self.last_open {
            self.last_open = 0;
        }
        self.last_open = self.last_open.clamp(shortest, longest);
        self.change(State::Open { until: self.spec.nanos(now) + self.last_open });
    }

    /// A probe has failed. The next open time is random, from 1.5 to 2.5 times the last one, within the bounds.
    fn reopen(&mut self, now: i64) {
        let (shortest, longest) = self.spec.open_times();
        let within = |nanos: i128| nanos.clamp(shortest, longest);
        let (low, high) = (self.last_open + self.last_open / 2, 2 * self.last_open + self.last_open / 2);
        let since = self.spec.nanos(now);
        self.change(State::Reopened { since, shortest: within(low), longest: within(high) });
    }

    fn close(&mut self, now: i64) {
        self.closed_at = now;
        self.change(State::Closed);
    }

    /// Returns the end of a probe timeout that begins now.
    fn patience_from(&self, now: i64) -> i64 {
        now + i64::from(self.spec.probe_timeout)
    }

    /// Returns the number of the present sixteenth of a window of this length.
    fn sixteenth(&self, length: Duration, now: i64) -> i128 {
        (self.spec.nanos(now) + self.spec.nanos(1) / 2).div_euclid((length.as_nanos() / 16) as i128)
    }

    /// Changes the configuration.
    fn configure(&mut self, to: Spec, now: i64) {
        let from = std::mem::replace(&mut self.spec, to);
        if from.consecutive_failures.is_none() {
            self.in_a_row = 0;
        }
        if let (Some(old), Some(new)) = (from.window(), to.window()) {
            if old != new {
                // Calls younger than the new window stay, exact to a sixteenth of the old window. The oldest sixteenth
                // that stays becomes the oldest of the new window. The others keep their distance from it.
                let kept = (16 * new.as_nanos()).div_ceil(old.as_nanos()).min(16) as i128;
                let (before, after) = (self.sixteenth(old, now), self.sixteenth(new, now));
                for list in [&mut self.calls, &mut self.paces] {
                    list.retain(|(at, _)| before - at < kept);
                    list.iter_mut().for_each(|(at, _)| *at = after - (before - *at) - (16 - kept));
                }
            }
        }
        if from.failure_rate.is_none() {
            self.calls.clear();
        }
        if from.slow_call_rate.is_none() {
            self.paces.clear();
        }
        match self.state {
            State::HalfOpen { succeeded, .. } if succeeded >= to.probes => self.close(now),
            _ => {}
        }
    }

    /// Admits a call, or returns for how many nanoseconds the circuit stays open, if that is known.
    fn admit(&mut self, now: i64) -> Result<Call, Option<i128>> {
        match self.state {
            State::Closed | State::ForcedClosed => {}
            State::ForcedOpen => return Err(None),
            State::Reopened { .. } => unreachable!("its time was learned"),
            State::Open { until } if self.spec.nanos(now) < until => return Err(Some(until - self.spec.nanos(now))),
            State::Open { .. } => {
                let patient_until = Some(self.patience_from(now));
                self.change(State::HalfOpen { in_flight: 1, succeeded: 0, patient_until, lasts_until: 0 });
            }
            State::HalfOpen { in_flight, succeeded, patient_until, lasts_until } => {
                let goes_on = in_flight > 0 || self.spec.nanos(now) < lasts_until;
                let until = patient_until.filter(|_| goes_on).unwrap_or(self.patience_from(now));
                if now >= until {
                    self.reopen(now);
                    return Err(None);
                }
                if in_flight + succeeded >= self.spec.probes {
                    return Err(None);
                }
                let patient_until = Some(until);
                self.state = State::HalfOpen { in_flight: in_flight + 1, succeeded, patient_until, lasts_until };
            }
        }
        let overdue_at = self.spec.cancelled_is_failure_after.map(|after| now + i64::from(after));
        let slow_at = self.spec.slow_call_rate.map(|(_, threshold)| now + i64::from(threshold));
        Ok(Call { era: self.era, overdue_at, slow_at })
    }

    /// The call reports that it is still in flight. Counts it as slow if it has reached the threshold.
    fn under_way(&mut self, call: &mut Call, now: i64) {
        if call.era != self.era || call.slow_at.is_none_or(|at| now < at) {
            return;
        }
        call.slow_at = None;
        match self.state {
            State::Closed => self.count_pace(true, now),
            State::HalfOpen { .. } => self.reopen(now),
            _ => {}
        }
    }

    fn count_pace(&mut self, slow: bool, now: i64) {
        let (Some((millionths, _)), Some(length)) = (self.spec.slow_call_rate, self.spec.window()) else { return };
        self.paces.push_back((self.sixteenth(length, now), slow));
        if self.reaches(self.slow_counts(now), millionths) {
            self.open(now);
        }
    }

    fn count(&mut self, failed: bool, now: i64) {
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
        let mut opens = self.spec.consecutive_failures.is_some_and(|most| self.in_a_row >= most);
        if let (Some(millionths), Some(length)) = (self.spec.failure_rate, self.spec.window()) {
            self.calls.push_back((self.sixteenth(length, now), failed));
            opens |= self.reaches(self.counts(now), millionths);
        }
        if opens {
            self.open(now);
        }
    }

    fn settle(&mut self, call: Call, verdict: Verdict, now: i64) {
        // A call from before a change of state does not count after it.
        if call.era != self.era {
            return;
        }
        let overdue = call.overdue_at.is_some_and(|at| now >= at);
        let slow = call.slow_at.is_some_and(|at| now >= at);
        let failed = match verdict {
            Verdict::Success => Some(false),
            Verdict::Failure => Some(true),
            Verdict::Cancelled => overdue.then_some(true),
            Verdict::CutShort | Verdict::Ignored => None,
        };
        match (self.state, failed) {
            (State::Closed, failed) => {
                if slow || call.slow_at.is_some() && failed.is_some() {
                    self.count_pace(slow, now);
                }
                if let (Some(failed), true) = (failed, call.era == self.era) {
                    self.count(failed, now);
                }
            }
            (State::HalfOpen { .. }, _) if slow || failed == Some(true) => self.reopen(now),
            (State::HalfOpen { in_flight, succeeded, .. }, Some(_)) => {
                let (in_flight, succeeded) = (in_flight - 1, succeeded + 1);
                let patient_until = (in_flight > 0).then_some(self.patience_from(now));
                self.state = State::HalfOpen { in_flight, succeeded, patient_until, lasts_until: 0 };
                if succeeded >= self.spec.probes {
                    self.close(now);
                }
            }
            (State::HalfOpen { in_flight, succeeded, patient_until, lasts_until }, None) => {
                let in_flight = in_flight - 1;
                // A probe that was given up prolongs the series by half a probe timeout. An ignored answer does not.
                // After the end of the series, the next probe begins another one.
                let half = self.spec.nanos(self.spec.probe_timeout.into()) / 2;
                let given_up = verdict != Verdict::Ignored;
                let lasts_until = if given_up { lasts_until.max(self.spec.nanos(now) + half) } else { lasts_until };
                self.state = State::HalfOpen { in_flight, succeeded, patient_until, lasts_until };
            }
            _ => {}
        }
    }

    /// The calls in the window and the failures among them.
    fn counts(&self, now: i64) -> (u64, u64) {
        if self.spec.failure_rate.is_some() { self.recent(&self.calls, now) } else { (0, 0) }
    }

    /// The calls in the window and the slow ones among them.
    fn slow_counts(&self, now: i64) -> (u64, u64) {
        if self.spec.slow_call_rate.is_some() { self.recent(&self.paces, now) } else { (0, 0) }
    }

    fn recent(&self, list: &VecDeque<(i128, bool)>, now: i64) -> (u64, u64) {
        let Some(length) = self.spec.window() else { return (0, 0) };
        let sixteenth = self.sixteenth(length, now);
        let recent = list.iter().filter(|(at, _)| sixteenth - at < 16);
        recent.fold((0, 0), |(calls, bad), (_, is_bad)| (calls + 1, bad + u64::from(*is_bad)))
    }

    fn reaches(&self, (calls, bad): (u64, u64), millionths: u32) -> bool {
        calls >= self.spec.minimum_calls.into() && bad * 1_000_000 >= calls * u64::from(millionths)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// Reports one of the calls in flight as under way.
    UnderWay(prop::sample::Index),
    /// Ends one of the calls in flight.
    Settle(prop::sample::Index, Verdict),
    /// Advances the clock by this number of quarters.
    Wait(i64),
    /// Advances the clock by one of the times of the configuration, or one quarter less or more.
    WaitFor(Time, i64),
    ForceOpen,
    ForceClosed,
    Reset,
    Configure(Change),
    /// Changes only the thresholds: failures in a row, and the minimum of calls.
    Tune(u32, u32),
    ConfigureTheSame,
    ConfigureNonsense(u32),
}

#[derive(Clone, Copy, Debug)]
enum Time {
    /// Until an open circuit lets probes through.
    Open,
    ProbeTimeout,
    CancelledIsFailure,
    Slow,
}

fn any_step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        6 => Just(Verdict::Success),
        6 => Just(Verdict::Failure),
        2 => Just(Verdict::Cancelled),
        1 => Just(Verdict::CutShort),
        1 => Just(Verdict::Ignored),
    ];
    let time = prop::sample::select(vec![Time::Open, Time::ProbeTimeout, Time::CancelledIsFailure, Time::Slow]);
    prop_oneof![
        40 => Just(Step::Acquire),
        12 => any::<prop::sample::Index>().prop_map(Step::UnderWay),
        40 => (any::<prop::sample::Index>(), verdict).prop_map(|(index, verdict)| Step::Settle(index, verdict)),
        16 => (1..8i64).prop_map(Step::Wait),
        4 => (8..400i64).prop_map(Step::Wait),
        12 => (time, -1..=1i64).prop_map(|(time, offset)| Step::WaitFor(time, offset)),
        1 => (1..100_000i64).prop_map(Step::Wait),
        1 => Just(Step::ForceOpen),
        1 => Just(Step::ForceClosed),
        2 => Just(Step::Reset),
        4 => any_change().prop_map(Step::Configure),
        2 => (1..5u32, 1..6u32).prop_map(|(in_a_row, minimum)| Step::Tune(in_a_row, minimum)),
        1 => Just(Step::ConfigureTheSame),
        1 => (0..6u32).prop_map(Step::ConfigureNonsense),
    ]
}

/// A breaker and its model, on a common clock.
struct Trial<'breaker> {
    breaker: &'breaker Breaker,
    model: Model,
    clock: runtime::Runtime,
    begin: Instant,
    /// In quarters since the beginning.
    now: i64,
    in_flight: Vec<(Permit<'breaker>, Call)>,
}

/// A clock that a test advances.
fn paused_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl Trial<'_> {
    fn wait(&mut self, quarters: i64) {
        self.now += quarters;
        self.clock.block_on(advance(self.model.spec.quarter * quarters as u32));
    }

    /// Copies the random open time of the breaker to the model. Checks that it is within the bounds of the model.
    fn learn(&mut self) -> Result<(), TestCaseError> {
        if let State::Reopened { since, shortest, longest } = self.model.state {
            let at = self.breaker.half_open_at();
            let Some(at) = at else { return Err(TestCaseError::fail("it does not say when it lets probes through")) };
            let until = (at - self.begin).as_nanos() as i128;
            let open_for = until - since;
            prop_assert!((shortest..=longest).contains(&open_for), "{} of {} to {}", open_for, shortest, longest);
            self.model.last_open = open_for;
            self.model.state = State::Open { until };
        }
        Ok(())
    }

    fn acquire(&mut self) -> Result<bool, TestCaseError> {
        let _guard = self.clock.enter();
        let (answer, expected) = (self.breaker.try_acquire(), self.model.admit(self.now));
        let admitted = expected.is_ok();
        let reopened = matches!(self.model.state, State::Reopened { .. });
        self.learn()?;
        match (answer, expected) {
            (Ok(permit), Ok(call)) => self.in_flight.push((permit, call)),
            (Err(refused), Err(wait)) => {
                let wait = if reopened { Some(self.model.last_open) } else { wait };
                prop_assert_eq!(refused.retry_after().map(|wait| wait.as_nanos() as i128), wait);
            }
            (answer, expected) => prop_assert!(false, "{:?}, not {:?}", answer, expected),
        }
        Ok(admitted)
    }

    fn settle(&mut self, index: usize, verdict: Verdict) {
        let _guard = self.clock.enter();
        let (permit, call) = self.in_flight.swap_remove(index);
        match verdict {
            Verdict::Success => permit.success(),
            Verdict::Failure => permit.failure(),
            Verdict::Cancelled => drop(permit),
            Verdict::CutShort => permit.cut_short(),
            Verdict::Ignored => permit.outcome(Outcome::Ignored),
        }
        self.model.settle(call, verdict, self.now);
    }

    fn under_way(&mut self, index: usize) {
        let _guard = self.clock.enter();
        let (permit, call) = &mut self.in_flight[index];
        permit.under_way();
        self.model.under_way(call, self.now);
    }

    /// The quarters until an open circuit lets probes through, if it is open.
    fn until_half_open(&self) -> Option<i64> {
        let State::Open { until } = self.model.state else { return None };
        let quarter = self.model.spec.nanos(1);
        Some((until - self.model.spec.nanos(self.now) + quarter - 1).div_euclid(quarter).max(0) as i64)
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Acquire => {
                self.acquire()?;
            }
            Step::UnderWay(index) if !self.in_flight.is_empty() => self.under_way(index.index(self.in_flight.len())),
            Step::Settle(index, verdict) if !self.in_flight.is_empty() => {
                self.settle(index.index(self.in_flight.len()), verdict);
            }
            Step::UnderWay(_) | Step::Settle(..) => {}
            Step::Wait(quarters) => self.wait(quarters),
            Step::WaitFor(time, offset) => {
                let spec = &self.model.spec;
                let quarters = match time {
                    Time::Open => self.until_half_open().unwrap_or(1),
                    Time::ProbeTimeout => spec.probe_timeout.into(),
                    Time::CancelledIsFailure => spec.cancelled_is_failure_after.unwrap_or(1).into(),
                    Time::Slow => spec.slow_call_rate.map_or(1, |(_, threshold)| threshold.into()),
                };
                self.wait((quarters + offset).max(0));
            }
            Step::ForceOpen => {
                self.breaker.force_open();
                self.model.force(State::ForcedOpen);
            }
            Step::ForceClosed => {
                self.breaker.force_closed();
                self.model.force(State::ForcedClosed);
            }
            Step::Reset => {
                self.breaker.reset();
                self.model.force(State::Closed);
            }
            Step::Configure(change) => self.configure(self.model.spec.with(change)),
            Step::Tune(in_a_row, minimum_calls) => {
                let spec = self.model.spec;
                let consecutive_failures = spec.consecutive_failures.map(|_| in_a_row);
                self.configure(Spec { consecutive_failures, minimum_calls, ..spec });
            }
            Step::ConfigureTheSame => self.breaker.configure(self.model.spec.builder()).unwrap(),
            Step::ConfigureNonsense(which) => {
                let builder = Breaker::builder().consecutive_failures(1).failure_rate(0.1, Duration::from_secs(7));
                let nonsense = match which {
                    0 => builder.probes(0),
                    1 => builder.minimum_calls(1_000_001),
                    2 => builder.open_for(Duration::ZERO),
                    3 => builder.open_for(Duration::from_secs(2)).max_open_for(Duration::from_secs(1)),
                    4 => builder.slow_call_rate(0.0, Duration::from_secs(1)),
                    _ => builder.failure_rate(1.1, Duration::from_secs(7)),
                };
                self.breaker.configure(nonsense).unwrap_err();
            }
        }
        self.learn()?;
        self.check()
    }

    fn configure(&mut self, to: Spec) {
        let _guard = self.clock.enter();
        self.breaker.configure(to.builder()).unwrap();
        self.model.configure(to, self.now);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.breaker.state(), self.model.state());
        let _guard = self.clock.enter();
        prop_assert_eq!(self.breaker.counts_at(Instant::now()), self.model.counts(self.now), "in the window");
        prop_assert_eq!(self.breaker.slow_counts_at(Instant::now()), self.model.slow_counts(self.now), "slow");
        let half_open_at = self.breaker.half_open_at().map(|at| (at - self.begin).as_nanos() as i128);
        let until = if let State::Open { until } = self.model.state { Some(until) } else { None };
        prop_assert_eq!(half_open_at, until, "lets probes through");
        prop_assert_eq!(self.breaker.configuration(), self.model.spec.builder());
        let mut free = 0;
        if let State::HalfOpen { in_flight, succeeded, .. } = self.model.state {
            free = self.model.spec.probes.saturating_sub(in_flight + succeeded);
            let probes = self.in_flight.iter().filter(|(_, call)| call.era == self.model.era).count();
            prop_assert_eq!(probes, in_flight as usize, "probes in flight");
        }
        prop_assert_eq!(self.breaker.free_probes(), free);
        Ok(())
    }
}

/// Runs the steps, then `then`.
fn run(
    spec: Spec,
    steps: Vec<Step>,
    then: impl FnOnce(&mut Trial<'_>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let clock = paused_clock();
    let breaker = {
        let _guard = clock.enter();
        spec.builder().random(Random::seeded(25)).build().unwrap()
    };
    // Later instants are then half a quarter away from the boundaries between sixteenths of a window.
    clock.block_on(advance(spec.quarter / 2));
    let begin = {
        let _guard = clock.enter();
        Instant::now()
    };
    let mut trial = Trial { breaker: &breaker, model: Model::new(spec), clock, begin, now: 0, in_flight: Vec::new() };
    for step in steps {
        trial.step(step)?;
    }
    then(&mut trial)?;
    // Drops the remaining permits on the clock that they were made on.
    let _guard = trial.clock.enter();
    trial.in_flight.clear();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_follows_the_model_of_its_documentation(
        spec in any_spec(),
        steps in prop::collection::vec(any_step(), 1..300),
    ) {
        run(spec, steps, |_| Ok(()))?;
    }

    #[test]
    fn a_service_that_works_again_closes_the_circuit_after_any_history(
        spec in any_spec(),
        steps in prop::collection::vec(any_step(), 1..100),
    ) {
        run(spec, steps, |trial| {
            if trial.breaker.state() == BreakerState::ForcedOpen {
                return trial.step(Step::Reset);
            }
            // All calls in flight hang forever. Two things can still open the circuit. If the window contains failures,
            // the success that completes the minimum of calls may open it. If probes hang, a call after the probe
            // timeout opens it again. After the open time, new probes succeed.
            for round in 0..4 + trial.model.spec.minimum_calls {
                let hung = if round == 0 { 0 } else { LONGEST.into() };
                let wait = trial.until_half_open().unwrap_or(hung);
                trial.wait(wait);
                for _ in 0..trial.model.spec.probes {
                    if trial.acquire()? {
                        trial.settle(trial.in_flight.len() - 1, Verdict::Success);
                        trial.check()?;
                    }
                }
            }
            let state = trial.breaker.state();
            prop_assert!(matches!(state, BreakerState::Closed | BreakerState::ForcedClosed), "still {:?}", state);
            Ok(())
        })?;
    }
}

#[test]
fn an_outage_opens_the_circuit_after_a_silence_of_any_length() {
    let clock = paused_clock();
    let _guard = clock.enter();
    let window = Duration::from_millis(16);
    let sixteenth = Duration::from_millis(1);
    // The silences are up to a thousand sixteenths shorter than a power of two, or than 3 or 5 times 2^28. The tags
    // that number the sixteenths have 28 bits, and wrap around.
    let around = |round: u64| [round.saturating_sub(1000), round.saturating_sub(20), round];
    for idle in (0..34).map(|bits| 1u64 << bits).chain([3 << 28, 5 << 28]).flat_map(around) {
        for recorded in [0, 19] {
            let breaker = Breaker::builder().failure_rate(0.5, window).minimum_calls(20).build().unwrap();
            let origin = Instant::now() + sixteenth / 2;
            let call = |now: Instant| breaker.try_acquire_at(now).unwrap();
            (0..recorded).for_each(|_| call(origin).failure_at(origin));
            let now = origin + Duration::from_millis(idle + 16);
            (0..19).for_each(|_| call(now).failure_at(now));
            assert_eq!(breaker.counts_at(now), (19, 19), "{recorded} failures, then {idle} ms");
            call(now).failure_at(now);
            assert_eq!(breaker.state(), BreakerState::Open, "{recorded} failures, then {idle} ms");
        }
    }
}

fn three_failures_then_successes(breaker: &Breaker, successes: u32) {
    (0..3).for_each(|_| breaker.try_acquire().unwrap().failure());
    (0..successes).for_each(|_| breaker.try_acquire().unwrap().success());
}

#[test]
fn a_success_that_completes_the_minimum_opens_at_the_rate_but_not_below() {
    let clock = paused_clock();
    let _guard = clock.enter();
    let of = |rate| Breaker::builder().failure_rate(rate, Duration::from_secs(10)).minimum_calls(5).build().unwrap();
    let breaker = of(0.5);
    three_failures_then_successes(&breaker, 1);
    assert_eq!(breaker.state(), BreakerState::Closed, "four calls are not five");
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), BreakerState::Open);

    let breaker = of(0.61);
    three_failures_then_successes(&breaker, 100);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_expires_exactly_one_window_after_its_end() {
    for nanos in [1_024, 7_000_000, 1_000_000_000, 1_000_000_016, 10_000_000_000, 60_000_000_000] {
        let window = Duration::from_nanos(nanos);
        let breaker = Breaker::builder().failure_rate(0.5, window).build().unwrap();
        let start = Instant::now();
        breaker.try_acquire().unwrap().failure_at(start);
        assert_eq!(breaker.counts_at(start + window - Duration::from_nanos(1)), (1, 1), "{window:?}");
        assert_eq!(breaker.counts_at(start + window), (0, 0), "{window:?}");
    }
}
