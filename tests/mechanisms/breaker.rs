//! The circuit breaker against a plain model of its documentation.

use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};
use steadfast::circuit_breaker::{Breaker, BreakerBuilder, BreakerState, Permit};
use tokio::{
    runtime,
    time::{Instant, advance},
};

/// How a breaker is configured. All times are in quarters, of which a sixteenth of the window has four at first.
#[derive(Clone, Copy, Debug)]
struct Spec {
    quarter: Duration,
    /// A sixteenth of the window.
    sixteenth: u32,
    consecutive_failures: Option<u32>,
    /// In millionths.
    failure_rate: Option<u32>,
    minimum_calls: u32,
    open_for: u32,
    probes: u32,
    probe_timeout: u32,
    cancelled_is_failure_after: Option<u32>,
}

/// The longest open time and probe timeout, with a quarter to spare.
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
        if let Some(after) = self.cancelled_is_failure_after {
            builder = builder.cancelled_is_failure_after(self.quarter * after);
        }
        builder
    }
}

/// What may change of a configuration while it runs: all but the unit of its times.
type Change = ((Option<u32>, Option<u32>), u32, u32, (u32, u32, Option<u32>), u32);

fn any_change() -> impl Strategy<Value = Change> {
    let rate = prop::sample::select(vec![1, 10_000, 333_333, 500_000, 666_667, 999_999, 1_000_000]);
    let judges = prop_oneof![
        (1..5u32).prop_map(|failures| (Some(failures), None)),
        rate.clone().prop_map(|rate| (None, Some(rate))),
        (1..5u32, rate).prop_map(|(failures, rate)| (Some(failures), Some(rate))),
    ];
    let times = (1..LONGEST, 1..LONGEST, prop::option::of(1..100u32));
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
            minimum_calls,
            open_for: times.0,
            probes,
            probe_timeout: times.1,
            cancelled_is_failure_after: times.2,
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
            minimum_calls: 1,
            open_for: 1,
            probes: 1,
            probe_timeout: 1,
            cancelled_is_failure_after: None,
        };
        Spec { sixteenth: 4, ..first.with(change) }
    })
}

/// What the documentation says, with a list of all calls. The time is in quarters since the breaker was built.
struct Model {
    spec: Spec,
    state: State,
    /// Counts the changes of state.
    era: u32,
    /// The calls of this era that ended while the circuit was closed: in which sixteenth, and whether they failed.
    calls: VecDeque<(i64, bool)>,
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        until: i64,
    },
    HalfOpen {
        in_flight: u32,
        succeeded: u32,
        /// When the circuit opens again unless a probe brings success or failure, if there was one.
        patient_until: Option<i64>,
    },
    ForcedOpen,
    ForcedClosed,
}

/// A call that the model admitted.
#[derive(Clone, Copy, Debug)]
struct Call {
    era: u32,
    /// From when on it is a failure if it is dropped.
    overdue_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Success,
    Failure,
    /// Dropped by the caller.
    Cancelled,
}

impl Model {
    fn new(spec: Spec) -> Self {
        Self { spec, state: State::Closed, era: 0, calls: VecDeque::new(), in_a_row: 0 }
    }

    fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::ForcedOpen => BreakerState::ForcedOpen,
            State::ForcedClosed => BreakerState::ForcedClosed,
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.era += 1;
        self.calls.clear();
        self.in_a_row = 0;
    }

    fn open(&mut self, now: i64) {
        self.change(State::Open { until: now + i64::from(self.spec.open_for) });
    }

    fn patience_from(&self, now: i64) -> i64 {
        now + i64::from(self.spec.probe_timeout)
    }

    /// Follows another configuration.
    fn configure(&mut self, to: Spec, now: i64) {
        let from = std::mem::replace(&mut self.spec, to);
        if from.consecutive_failures.is_none() {
            self.in_a_row = 0;
        }
        match (from.failure_rate, to.failure_rate) {
            (None, Some(_)) => self.calls.clear(),
            (Some(_), Some(_)) => {
                // What is as young as a window, to a sixteenth of the old one, stays. It has the same number of sixteenths
                // left as it would have if the oldest of it were about to slide out of a full window.
                let kept = (16 * to.sixteenth).div_ceil(from.sixteenth).min(16);
                let (old, new) = (now.div_euclid(from.sixteenth.into()), now.div_euclid(to.sixteenth.into()));
                self.calls.retain(|(at, _)| old - at < kept.into());
                self.calls.iter_mut().for_each(|(at, _)| *at = new - (old - *at) - i64::from(16 - kept));
            }
            (_, None) => {}
        }
        match self.state {
            State::HalfOpen { succeeded, .. } if succeeded >= to.probes => self.change(State::Closed),
            _ => {}
        }
    }

    /// Admits a call, or says how long the circuit stays open where that is known.
    fn admit(&mut self, now: i64) -> Result<Call, Option<i64>> {
        match self.state {
            State::Closed | State::ForcedClosed => {}
            State::ForcedOpen => return Err(None),
            State::Open { until } if now < until => return Err(Some(until - now)),
            State::Open { .. } => {
                self.change(State::HalfOpen {
                    in_flight: 1,
                    succeeded: 0,
                    patient_until: Some(self.patience_from(now)),
                });
            }
            State::HalfOpen { in_flight, succeeded, patient_until } => {
                let until = patient_until.unwrap_or(self.patience_from(now));
                if now >= until {
                    self.open(now);
                    return Err(Some(self.spec.open_for.into()));
                }
                if in_flight + succeeded >= self.spec.probes {
                    return Err(None);
                }
                self.state = State::HalfOpen { in_flight: in_flight + 1, succeeded, patient_until: Some(until) };
            }
        }
        let overdue_at = self.spec.cancelled_is_failure_after.map(|after| now + i64::from(after));
        Ok(Call { era: self.era, overdue_at })
    }

    fn settle(&mut self, call: Call, verdict: Verdict, now: i64) {
        // A call from before a change of state says nothing about the time after it.
        if call.era != self.era {
            return;
        }
        let overdue = call.overdue_at.is_some_and(|at| now >= at);
        let failed = match verdict {
            Verdict::Success => Some(false),
            Verdict::Failure => Some(true),
            Verdict::Cancelled => overdue.then_some(true),
        };
        match (self.state, failed) {
            (State::Closed, Some(failed)) => {
                self.calls.push_back((now.div_euclid(self.spec.sixteenth.into()), failed));
                self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
                if failed && self.judge(now) {
                    self.open(now);
                }
            }
            (State::HalfOpen { .. }, Some(true)) => self.open(now),
            (State::HalfOpen { in_flight, succeeded, .. }, Some(false)) => {
                let (in_flight, succeeded) = (in_flight - 1, succeeded + 1);
                let patient_until = (in_flight > 0).then_some(self.patience_from(now));
                self.state = State::HalfOpen { in_flight, succeeded, patient_until };
                if succeeded >= self.spec.probes {
                    self.change(State::Closed);
                }
            }
            (State::HalfOpen { in_flight, succeeded, patient_until }, None) => {
                self.state = State::HalfOpen { in_flight: in_flight - 1, succeeded, patient_until };
            }
            _ => {}
        }
    }

    /// The calls and the failures in the window.
    fn counts(&self, now: i64) -> (u64, u64) {
        if self.spec.failure_rate.is_none() {
            return (0, 0);
        }
        let sixteenth = now.div_euclid(self.spec.sixteenth.into());
        let recent = self.calls.iter().filter(|(at, _)| sixteenth - at < 16);
        recent.fold((0, 0), |(calls, failures), (_, failed)| (calls + 1, failures + u64::from(*failed)))
    }

    fn judge(&self, now: i64) -> bool {
        let (calls, failures) = self.counts(now);
        let rate = self.spec.failure_rate.is_some_and(|millionths| {
            calls >= self.spec.minimum_calls.into() && failures * 1_000_000 >= calls * u64::from(millionths)
        });
        rate || self.spec.consecutive_failures.is_some_and(|most| self.in_a_row >= most)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    /// Ends one of the calls in flight.
    Settle(prop::sample::Index, Verdict),
    /// Moves the clock by so many quarters.
    Wait(i64),
    /// Moves the clock by one of the times of the configuration, or one quarter less or more.
    WaitFor(Time, i64),
    ForceOpen,
    ForceClosed,
    Reset,
    Configure(Change),
    /// Only the thresholds of the present configuration: in a row, and the minimum of calls.
    Tune(u32, u32),
    ConfigureTheSame,
    ConfigureNonsense(u32),
}

#[derive(Clone, Copy, Debug)]
enum Time {
    OpenFor,
    ProbeTimeout,
    CancelledIsFailure,
}

fn any_step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![3 => Just(Verdict::Success), 3 => Just(Verdict::Failure), 1 => Just(Verdict::Cancelled)];
    let time = prop::sample::select(vec![Time::OpenFor, Time::ProbeTimeout, Time::CancelledIsFailure]);
    prop_oneof![
        40 => Just(Step::Acquire),
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
        1 => (0..4u32).prop_map(Step::ConfigureNonsense),
    ]
}

/// A breaker and its model side by side, on a clock of their own.
struct Trial<'breaker> {
    breaker: &'breaker Breaker,
    model: Model,
    clock: runtime::Runtime,
    /// In quarters.
    now: i64,
    in_flight: Vec<(Permit<'breaker>, Call)>,
}

/// A clock that stands still until it is told to move.
fn paused_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

impl Trial<'_> {
    fn wait(&mut self, quarters: i64) {
        self.now += quarters;
        self.clock.block_on(advance(self.model.spec.quarter * quarters as u32));
    }

    fn acquire(&mut self) -> Result<bool, TestCaseError> {
        let _guard = self.clock.enter();
        let (answer, expected) = (self.breaker.try_acquire(), self.model.admit(self.now));
        let admitted = expected.is_ok();
        match (answer, expected) {
            (Ok(permit), Ok(call)) => self.in_flight.push((permit, call)),
            (Err(refused), Err(wait)) => {
                let wait = wait.map(|quarters| self.model.spec.quarter * quarters as u32);
                prop_assert_eq!(refused.retry_after(), wait);
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
        }
        self.model.settle(call, verdict, self.now);
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Acquire => {
                self.acquire()?;
            }
            Step::Settle(index, verdict) if !self.in_flight.is_empty() => {
                self.settle(index.index(self.in_flight.len()), verdict);
            }
            Step::Settle(..) => {}
            Step::Wait(quarters) => self.wait(quarters),
            Step::WaitFor(time, offset) => {
                let spec = &self.model.spec;
                let quarters = match time {
                    Time::OpenFor => spec.open_for,
                    Time::ProbeTimeout => spec.probe_timeout,
                    Time::CancelledIsFailure => spec.cancelled_is_failure_after.unwrap_or(1),
                };
                self.wait(i64::from(quarters) + offset);
            }
            Step::ForceOpen => {
                self.breaker.force_open();
                self.model.change(State::ForcedOpen);
            }
            Step::ForceClosed => {
                self.breaker.force_closed();
                self.model.change(State::ForcedClosed);
            }
            Step::Reset => {
                self.breaker.reset();
                self.model.change(State::Closed);
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
                    _ => builder.failure_rate(1.1, Duration::from_secs(7)),
                };
                self.breaker.configure(nonsense).unwrap_err();
            }
        }
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
        prop_assert_eq!(self.breaker.configuration(), self.model.spec.builder());
        if let State::HalfOpen { in_flight, .. } = self.model.state {
            let probes = self.in_flight.iter().filter(|(_, call)| call.era == self.model.era).count();
            prop_assert_eq!(probes, in_flight as usize, "probes in flight");
        }
        Ok(())
    }
}

/// Runs the steps, then what comes after them.
fn run(
    spec: Spec,
    steps: Vec<Step>,
    then: impl FnOnce(&mut Trial<'_>) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let clock = paused_clock();
    let breaker = {
        let _guard = clock.enter();
        spec.builder().build().unwrap()
    };
    // Half a quarter away from where one sixteenth of a window becomes the next.
    clock.block_on(advance(spec.quarter / 2));
    let mut trial = Trial { breaker: &breaker, model: Model::new(spec), clock, now: 0, in_flight: Vec::new() };
    for step in steps {
        trial.step(step)?;
    }
    then(&mut trial)?;
    // The permits that are left are dropped on the clock that they were made on.
    let _guard = trial.clock.enter();
    trial.in_flight.clear();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_its_documentation_says(
        spec in any_spec(),
        steps in prop::collection::vec(any_step(), 1..300),
    ) {
        run(spec, steps, |_| Ok(()))?;
    }

    #[test]
    fn whatever_happened_and_whatever_hangs_a_service_that_works_again_closes_it(
        spec in any_spec(),
        steps in prop::collection::vec(any_step(), 1..100),
    ) {
        run(spec, steps, |trial| {
            if trial.breaker.state() == BreakerState::ForcedOpen {
                return trial.step(Step::Reset);
            }
            // Whoever is in flight hangs for ever. At worst: the open time, the probes that hang, the open time again.
            // The first two may have been told by another configuration.
            for wait in [0, LONGEST, trial.model.spec.open_for, 0].map(i64::from) {
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
fn however_long_nobody_called_an_outage_is_noticed() {
    let clock = paused_clock();
    let _guard = clock.enter();
    let window = Duration::from_millis(16);
    let sixteenth = Duration::from_millis(1);
    // Round numbers in binary too, since counters wrap around.
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
