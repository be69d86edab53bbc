//! Compares the strict sliding window with an exact log of admissions, and the estimating one with plain fractions.
//!
//! A strict window counts tokens in at most 256 cells. All tokens of a cell leave the window at once, together with the
//! last admission of that cell.

use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};
use steadfast::rate_limit::{SlidingWindow, SlidingWindowBuilder};
use tokio::{runtime, time::Instant};

const YEAR: u64 = 366 * 24 * 60 * 60 * 1_000_000_000;
const LARGEST_LIMIT: u64 = 1_000_000_000_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const NANO: Duration = Duration::from_nanos(1);

/// A stopped clock, so that the window is built at the instant from which the tests count.
fn standing_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn strict(limit: u64, window: Duration) -> SlidingWindow {
    SlidingWindow::builder(limit, window).build().unwrap()
}

fn estimate(limit: u64, window: Duration) -> SlidingWindow {
    SlidingWindow::builder(limit, window).estimate().build().unwrap()
}

fn wait(window: &SlidingWindow, tokens: u64, now: Instant) -> Option<Duration> {
    window.try_acquire_at(tokens, now).unwrap_err().retry_after()
}

/// The admissions that were not refunded: the time, in nanoseconds since the window was built, and the tokens.
#[derive(Debug, Default)]
struct ExactLog(Vec<(i64, u64)>);

impl ExactLog {
    /// The tokens admitted in the window `(end - length, end]`.
    fn in_window(&self, end: i64, length: i64) -> u64 {
        self.0.iter().filter(|(at, _)| end - length < *at && *at <= end).map(|(_, tokens)| tokens).sum()
    }

    /// The most tokens in any window. The fullest window ends with an admission.
    fn most(&self, length: i64) -> u64 {
        self.0.iter().map(|(end, _)| self.in_window(*end, length)).max().unwrap_or(0)
    }

    fn forget(&mut self, at: i64, tokens: u64) {
        let index = self.0.iter().position(|admitted| *admitted == (at, tokens)).unwrap();
        self.0.remove(index);
    }

    /// The time from `now` until the window holds at most `left` tokens.
    fn time_until(&self, left: u64, now: i64, length: i64) -> i64 {
        let leaving = self.0.iter().map(|(at, _)| at + length).filter(|at| *at > now);
        leaving.filter(|at| self.in_window(*at, length) <= left).min().unwrap() - now
    }
}

/// The model of the estimate: the tokens admitted in each period. It computes in fractions whose denominator is the
/// length of a period.
#[derive(Debug, Default)]
struct Periods(BTreeMap<i64, u64>);

impl Periods {
    fn of(&self, period: i64) -> i128 {
        self.0.get(&period).copied().unwrap_or(0).into()
    }

    fn has(&self, tokens: u64, limit: u64, now: i64, length: i64) -> bool {
        let (period, since, length) = (now / length, i128::from(now % length), i128::from(length));
        let estimate = self.of(period - 1) * (length - since) + self.of(period) * length;
        estimate + i128::from(tokens) * length <= i128::from(limit) * length
    }

    fn refund(&mut self, tokens: u64, period: i64) {
        if let Some(count) = self.0.get_mut(&period) {
            *count -= tokens.min(*count);
        }
    }
}

/// A number from 1 to `most`, as likely in the thousands as in the billions.
fn of_any_size(most: u64) -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..=most.ilog2()).prop_map(move |(random, shift)| ((random % most) >> shift) + 1)
}

/// A limit and the nanoseconds of a window.
fn any_window() -> impl Strategy<Value = (u64, i64)> {
    let limit = prop_oneof![4 => 1..=256u64, 4 => 257..=5_000u64, 1 => of_any_size(LARGEST_LIMIT)];
    (limit, of_any_size(YEAR).prop_map(|nanos| nanos as i64))
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(Cost),
    /// Takes tokens. If refused, tries again a nanosecond before the end of the wait, and at its end.
    Obey(Cost),
    /// Gives back the tokens that were taken last and not given back yet.
    Refund,
    /// Gives back the tokens of one admission: the latest for 0, the one before it for 1, and so on. Names the time at
    /// which the tokens were taken.
    RefundTaken(usize),
    /// Moves the clock by this many 1024ths of the window.
    Wait(i64),
    WaitNanos(i64),
    /// Moves the clock back by this many 1024ths of the window.
    Back(i64),
    Jump,
    SetLimit(u64),
}

#[derive(Clone, Copy, Debug)]
enum Cost {
    Nothing,
    One,
    /// This many 256ths of the limit.
    Share(u64),
    TooMuch,
}

impl Cost {
    fn tokens(self, limit: u64) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::One => 1,
            Self::Share(share) => (u128::from(limit) * u128::from(share)).div_ceil(256) as u64,
            Self::TooMuch => limit + 1,
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let cost = prop_oneof![
        1 => Just(Cost::Nothing),
        10 => Just(Cost::One),
        6 => (1..=8u64).prop_map(Cost::Share),
        2 => (1..=256u64).prop_map(Cost::Share),
        1 => Just(Cost::TooMuch),
    ];
    prop_oneof![
        30 => cost.clone().prop_map(Step::Acquire),
        6 => cost.prop_map(Step::Obey),
        4 => Just(Step::Refund),
        20 => (0..=20i64).prop_map(Step::Wait),
        2 => (0..=1_500i64).prop_map(Step::Wait),
        4 => (0..=3i64).prop_map(Step::WaitNanos),
        2 => (0..=100i64).prop_map(Step::Back),
        1 => Just(Step::Jump),
    ]
}

/// Includes refunds after other calls have taken tokens, and changes of the limit.
fn any_step_at_all() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![1..=256u64, 1..=3_000u64];
    prop_oneof![
        20 => any_step(),
        4 => (0..30usize).prop_map(Step::RefundTaken),
        1 => limit.prop_map(Step::SetLimit),
    ]
}

/// A window and its model.
struct Trial<T> {
    window: SlidingWindow,
    limit: u64,
    length: i64,
    origin: Instant,
    /// The time, in nanoseconds since the window was built, and the latest time of an admission.
    now: i64,
    latest: i64,
    /// The admissions that can be refunded: the time by the caller's clock, the time by the window's, and the tokens.
    taken: Vec<(i64, i64, u64)>,
    reference: T,
}

impl<T: Default> Trial<T> {
    fn new(builder: SlidingWindowBuilder, (limit, length): (u64, i64)) -> Self {
        let window = builder.build().unwrap();
        let (origin, reference) = (Instant::now(), T::default());
        Self { window, limit, length, origin, now: 0, latest: 0, taken: Vec::new(), reference }
    }

    fn at(&self, nanos: i64) -> Instant {
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        if nanos >= 0 { self.origin + distance } else { self.origin - distance }
    }

    /// The instant that counts for a call now. A refusal does not move the latest time.
    fn seen(&self) -> i64 {
        self.latest.max(self.now)
    }

    /// Takes tokens. Returns `None` if it took them, and otherwise the wait: `i64::MAX` if no wait is long enough.
    fn ask(&mut self, tokens: u64) -> Result<Option<i64>, TestCaseError> {
        let Err(refused) = self.window.try_acquire_at(tokens, self.at(self.now)) else {
            prop_assert!(tokens <= self.limit, "more than the limit");
            if tokens > 0 {
                self.latest = self.seen();
                self.taken.push((self.now, self.latest, tokens));
            }
            return Ok(None);
        };
        prop_assert!(tokens > 0, "a call for zero tokens was refused");
        let wait = refused.retry_after().map(|wait| wait.as_nanos() as i64);
        prop_assert_eq!(wait.is_none(), tokens > self.limit);
        Ok(wait.or(Some(i64::MAX)))
    }

    /// Moves the clock.
    fn pass(&mut self, step: Step) {
        let share = |parts: i64| (i128::from(self.length) * i128::from(parts) / 1024) as i64;
        let by = match step {
            Step::Wait(parts) => share(parts),
            Step::WaitNanos(nanos) => nanos,
            Step::Back(parts) => -share(parts),
            Step::Jump => YEAR as i64,
            _ => 0,
        };
        // A few years are long enough for any process.
        self.now = (self.now + by).min(9 * YEAR as i64);
    }
}

type Strict = Trial<ExactLog>;

impl Strict {
    /// The most tokens that count for longer than a window: those that the oldest cell had before its last admission.
    /// A cell with a 256th of the limit gets no further admission, except at the same instant.
    fn overdue(&self) -> u64 {
        self.limit.div_ceil(256) - 1
    }

    /// Takes tokens, and compares the answer with the log's.
    fn acquire(&mut self, tokens: u64, exact: bool) -> Result<Option<i64>, TestCaseError> {
        let seen = self.seen();
        let before = self.reference.in_window(seen, self.length);
        let Some(wait) = self.ask(tokens)? else {
            if tokens > 0 {
                prop_assert!(before + tokens <= self.limit, "{} and {} more than {}", before, tokens, self.limit);
                self.reference.0.push((self.latest, tokens));
            }
            return Ok(None);
        };
        if exact && tokens <= self.limit {
            prop_assert!(
                before + tokens + self.overdue() > self.limit,
                "{} are in the window: {} refused",
                before,
                tokens
            );
            if self.overdue() == 0 {
                let exact = self.reference.time_until(self.limit - tokens, seen, self.length);
                prop_assert_eq!(wait, exact + seen - self.now);
            }
        }
        Ok(Some(wait))
    }

    fn step(&mut self, step: Step, exact: bool) -> Result<(), TestCaseError> {
        match step {
            Step::Acquire(cost) => {
                self.acquire(cost.tokens(self.limit), exact)?;
            }
            Step::Obey(cost) => {
                let tokens = cost.tokens(self.limit);
                if let Some(wait) = self.acquire(tokens, exact)?.filter(|wait| *wait < i64::MAX) {
                    self.now += wait - 1;
                    prop_assert_eq!(self.acquire(tokens, exact)?, Some(1), "a nanosecond before a wait of {}", wait);
                    self.now += 1;
                    prop_assert_eq!(self.acquire(tokens, exact)?, None, "after a wait of {}", wait);
                }
            }
            Step::Refund => {
                // Tokens that have left the window cannot be given back.
                if let Some((_, at, tokens)) = self.taken.pop().filter(|(_, at, _)| self.latest - at < self.length) {
                    self.window.refund(tokens);
                    self.reference.forget(at, tokens);
                }
            }
            Step::RefundTaken(ago) => {
                if ago < self.taken.len() {
                    let (now, at, tokens) = self.taken.remove(self.taken.len() - 1 - ago);
                    self.window.refund_taken_at(tokens, self.at(now));
                    self.reference.forget(at, tokens);
                }
            }
            Step::SetLimit(limit) => {
                self.window.set_limit(limit).unwrap();
                self.limit = limit;
            }
            _ => self.pass(step),
        }
        if exact {
            let there = self.limit - self.reference.in_window(self.seen(), self.length);
            let available = self.window.available_at(self.at(self.now));
            prop_assert!(
                (there.saturating_sub(self.overdue())..=there).contains(&available),
                "{} of {}",
                available,
                there
            );
        }
        Ok(())
    }
}

type Estimate = Trial<Periods>;

impl Estimate {
    /// Takes tokens, and compares the answer with the fractions.
    fn acquire(&mut self, tokens: u64) -> Result<Option<i64>, TestCaseError> {
        let has = self.reference.has(tokens, self.limit, self.seen(), self.length);
        let wait = self.ask(tokens)?;
        if tokens > 0 {
            prop_assert_eq!(wait.is_none(), has, "{} tokens of {} at {}", tokens, self.limit, self.now);
        }
        if wait.is_none() {
            *self.reference.0.entry(self.latest / self.length).or_default() += tokens;
        }
        Ok(wait)
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        // The present period of the window.
        let period = self.latest / self.length;
        match step {
            Step::Acquire(cost) => {
                self.acquire(cost.tokens(self.limit))?;
            }
            Step::Obey(cost) => {
                let tokens = cost.tokens(self.limit);
                if let Some(wait) = self.acquire(tokens)?.filter(|wait| *wait < i64::MAX) {
                    self.now += wait - 1;
                    prop_assert_eq!(self.acquire(tokens)?, Some(1), "a nanosecond before a wait of {}", wait);
                    self.now += 1;
                    prop_assert_eq!(self.acquire(tokens)?, None, "after a wait of {}", wait);
                }
            }
            Step::Refund => {
                if let Some((_, _, tokens)) = self.taken.pop() {
                    self.window.refund(tokens);
                    let present = tokens.min(self.reference.of(period) as u64);
                    self.reference.refund(present, period);
                    self.reference.refund(tokens - present, period - 1);
                }
            }
            Step::RefundTaken(ago) => {
                if ago < self.taken.len() {
                    let (now, _, tokens) = self.taken.remove(self.taken.len() - 1 - ago);
                    self.window.refund_taken_at(tokens, self.at(now));
                    self.reference.refund(tokens, now.div_euclid(self.length));
                }
            }
            Step::SetLimit(limit) => {
                self.window.set_limit(limit).unwrap();
                self.limit = limit;
            }
            _ => self.pass(step),
        }
        let now = self.latest.max(self.now);
        let available = self.window.available_at(self.at(self.now));
        prop_assert!(available == 0 || self.reference.has(available, self.limit, now, self.length));
        prop_assert!(!self.reference.has(available + 1, self.limit, now, self.length));
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::support::cases(400))]

    #[test]
    fn no_window_admits_more_than_its_limit_and_few_calls_are_refused_that_an_exact_log_would_admit(
        (limit, length) in any_window(),
        steps in prop::collection::vec(any_step(), 1..300),
    ) {
        let clock = standing_clock();
        let _guard = clock.enter();
        let builder = SlidingWindow::builder(limit, Duration::from_nanos(length as u64));
        let mut trial = Strict::new(builder, (limit, length));
        for step in steps {
            trial.step(step, true)?;
        }
        prop_assert!(trial.reference.most(length) <= limit);
    }

    #[test]
    fn no_window_admits_more_than_its_limit_under_any_refunds_and_changes_of_the_limit(
        (limit, length) in any_window(),
        steps in prop::collection::vec(any_step_at_all(), 1..300),
    ) {
        let clock = standing_clock();
        let _guard = clock.enter();
        let builder = SlidingWindow::builder(limit, Duration::from_nanos(length as u64));
        let mut trial = Strict::new(builder, (limit, length));
        for step in steps {
            // `Step::Refund` is left out. After a `Step::RefundTaken`, the newest tokens may not be those of the last
            // admission.
            if !matches!(step, Step::Refund) {
                trial.step(step, false)?;
            }
        }
    }

    #[test]
    fn an_estimate_equals_the_fractions(
        (limit, length) in any_window(),
        steps in prop::collection::vec(any_step_at_all(), 1..200),
    ) {
        let clock = standing_clock();
        let _guard = clock.enter();
        let builder = SlidingWindow::builder(limit, Duration::from_nanos(length as u64)).estimate();
        let mut trial = Estimate::new(builder, (limit, length));
        for step in steps {
            trial.step(step)?;
        }
    }
}

/// Takes one token this many times, and returns how many were admitted.
fn ask(window: &SlidingWindow, times: u64, now: Instant) -> u64 {
    (0..times).filter(|_| window.try_acquire_at(1, now).is_ok()).count() as u64
}

#[test]
fn an_admission_counts_for_a_window_and_not_a_nanosecond_longer() {
    let now = Instant::now() + SECOND;
    let window = strict(1, MINUTE);
    assert!(window.try_acquire_at(1, now).is_ok());
    assert_eq!(wait(&window, 1, now), Some(MINUTE));
    assert_eq!(wait(&window, 1, now + MINUTE - NANO), Some(NANO));
    assert_eq!(window.available_at(now + MINUTE - NANO), 0);
    assert_eq!(window.available_at(now + MINUTE), 1);
    assert!(window.try_acquire_at(1, now + MINUTE).is_ok());
}

#[test]
fn a_whole_limit_passes_at_one_instant_and_then_no_call_for_a_window() {
    for limit in [1, 100, 256, 257, 10_000] {
        let now = Instant::now() + SECOND;
        let window = strict(limit, MINUTE);
        assert_eq!(ask(&window, 2 * limit, now), limit);
        assert_eq!(ask(&window, 2 * limit, now + MINUTE - NANO), 0);
        assert_eq!(ask(&window, 2 * limit, now + MINUTE), limit);
    }
}

#[test]
fn a_call_waits_until_its_cost_has_left_the_window() {
    let now = Instant::now() + SECOND;
    let window = strict(10, MINUTE);
    for second in 0..5 {
        window.try_acquire_at(2, now + second * SECOND).unwrap();
    }
    let now = now + 4 * SECOND;
    for (tokens, seconds) in [(1, 56), (2, 56), (3, 57), (8, 59), (9, 60), (10, 60)] {
        assert_eq!(wait(&window, tokens, now), Some(seconds * SECOND), "{tokens} tokens");
    }
}

#[test]
fn a_refusal_takes_nothing() {
    let now = Instant::now() + SECOND;
    for window in [strict(10, MINUTE), estimate(10, MINUTE)] {
        window.try_acquire_at(7, now).unwrap();
        assert!(window.try_acquire_at(4, now).is_err());
        assert_eq!(window.available_at(now), 3);
        assert!(window.try_acquire_at(3, now).is_ok());
    }
}

#[test]
fn a_cost_above_the_limit_is_never_admitted_and_costs_nothing() {
    let now = Instant::now() + SECOND;
    for window in [strict(5, MINUTE), estimate(5, MINUTE)] {
        for tokens in [6, 1000, u64::MAX] {
            assert_eq!(wait(&window, tokens, now + Duration::from_nanos(YEAR)), None);
        }
        assert!(window.try_acquire_at(5, now).is_ok());
    }
}

#[test]
fn a_call_for_zero_tokens_passes_even_in_a_full_window() {
    let now = Instant::now() + SECOND;
    for window in [strict(1, MINUTE), estimate(1, MINUTE)] {
        assert!(window.try_acquire_at(1, now).is_ok());
        assert!(window.try_acquire_at(0, now).is_ok());
        assert!(window.try_acquire_at(0, now - 2 * SECOND).is_ok());
    }
}

#[test]
fn a_stopped_clock_frees_nothing_and_a_jump_of_a_year_frees_a_limit() {
    let now = Instant::now() + SECOND;
    for window in [strict(500, MINUTE), estimate(500, MINUTE)] {
        assert_eq!(ask(&window, 5_000, now), 500);
        assert_eq!(ask(&window, 1_000, now + Duration::from_nanos(YEAR)), 500);
        assert_eq!(ask(&window, 1_000, now + Duration::from_nanos(YEAR)), 0);
    }
}

#[test]
fn an_instant_before_the_latest_counts_as_the_latest() {
    let now = Instant::now() + 1000 * SECOND;
    for early in [NANO, SECOND, 2 * MINUTE, 2000 * SECOND] {
        let window = strict(2, MINUTE);
        window.try_acquire_at(1, now).unwrap();
        window.try_acquire_at(1, now - early).unwrap();
        assert_eq!(wait(&window, 1, now - early), Some(MINUTE + early));
        assert_eq!(wait(&window, 1, now + MINUTE - NANO), Some(NANO));
        assert_eq!(ask(&window, 3, now + MINUTE), 2);
    }
}

#[test]
fn a_refusal_forgets_no_tokens_that_an_earlier_instant_still_counts() {
    let now = Instant::now() + SECOND;
    let window = strict(3, MINUTE);
    window.try_acquire_at(2, now).unwrap();
    window.try_acquire_at(1, now + SECOND).unwrap();
    // The two tokens have left the window of this call, which is refused.
    assert_eq!(wait(&window, 3, now + MINUTE), Some(SECOND));
    // The two tokens are still in the window of a call that is a second earlier.
    assert_eq!(wait(&window, 2, now + 59 * SECOND), Some(SECOND));
    window.try_acquire_at(2, now + MINUTE).unwrap();
    assert_eq!(wait(&window, 3, now + 2 * MINUTE - NANO), Some(NANO));
}

#[test]
fn refunded_tokens_can_be_taken_again_at_the_same_instant() {
    let now = Instant::now() + SECOND;
    for window in [strict(1, MINUTE), estimate(1, MINUTE)] {
        for _ in 0..10 {
            window.try_acquire_at(1, now).unwrap();
            assert_eq!(window.available_at(now), 0);
            window.refund(1);
            assert_eq!(window.available_at(now), 1);
            window.try_acquire_at(1, now).unwrap();
            window.refund_taken_at(1, now);
        }
    }
}

#[test]
fn a_refund_takes_the_newest_first() {
    let now = Instant::now() + SECOND;
    let window = strict(4, MINUTE);
    window.try_acquire_at(2, now).unwrap();
    window.try_acquire_at(2, now + SECOND).unwrap();
    window.refund(3);
    assert_eq!(window.available_at(now + SECOND), 3);
    assert_eq!(window.available_at(now + MINUTE), 4);
}

#[test]
fn a_refund_gives_back_at_most_the_tokens_taken() {
    let now = Instant::now() + SECOND;
    for window in [strict(300, MINUTE), estimate(300, MINUTE)] {
        for tokens in [1, 300, u64::MAX] {
            window.try_acquire_at(1, now).unwrap();
            window.refund(tokens);
            window.refund_taken_at(tokens, now);
            assert_eq!(window.available_at(now), 300);
        }
        assert_eq!(ask(&window, 1_000, now), 300);
    }
}

#[test]
fn a_late_refund_does_not_free_tokens_that_others_took_since() {
    let now = Instant::now() + SECOND;
    for late in [MINUTE, 3 * MINUTE] {
        let window = strict(1, MINUTE);
        window.try_acquire_at(1, now).unwrap();
        window.try_acquire_at(1, now + late).unwrap();
        window.refund_taken_at(1, now);
        assert!(window.try_acquire_at(1, now + late).is_err());
    }
    let window = estimate(1, MINUTE);
    window.try_acquire_at(1, now).unwrap();
    window.try_acquire_at(1, now + 3 * MINUTE).unwrap();
    window.refund_taken_at(1, now);
    assert!(window.try_acquire_at(1, now + 3 * MINUTE).is_err());
}

#[test]
fn a_refund_by_its_instant_does_not_free_tokens_that_others_took_since() {
    let now = Instant::now() + SECOND;
    for (given_back, after_a_minute, after_ninety_seconds) in [(0, 1, 2), (30, 2, 2), (50, 2, 3)] {
        let window = strict(3, MINUTE);
        for seconds in [0, 30, 50] {
            window.try_acquire_at(1, now + seconds * SECOND).unwrap();
        }
        window.refund_taken_at(1, now + given_back * SECOND);
        assert_eq!(window.available_at(now + 50 * SECOND), 1);
        assert_eq!(window.available_at(now + MINUTE), after_a_minute, "of {given_back} s");
        assert_eq!(window.available_at(now + 90 * SECOND), after_ninety_seconds, "of {given_back} s");
    }
}

#[test]
fn a_lowered_limit_frees_nothing_and_locks_no_caller_out_for_longer_than_a_window() {
    let now = Instant::now() + SECOND;
    for window in [strict(1_000, MINUTE), estimate(1_000, MINUTE)] {
        assert_eq!(ask(&window, 1_000, now), 1_000);
        window.set_limit(10).unwrap();
        assert_eq!((window.limit(), window.available_at(now)), (10, 0));
        assert_eq!(wait(&window, 11, now), None);
        let later = now + wait(&window, 1, now).unwrap();
        assert!(later <= now + 2 * MINUTE);
        assert!(window.try_acquire_at(1, later - NANO).is_err());
        assert!(window.try_acquire_at(1, later).is_ok());
    }
    // A strict window has forgotten all tokens after its length.
    let window = strict(1_000, MINUTE);
    assert_eq!(ask(&window, 1_000, now), 1_000);
    window.set_limit(10).unwrap();
    assert_eq!(wait(&window, 10, now), Some(MINUTE));
}

#[test]
fn a_raised_limit_admits_the_added_tokens_at_once() {
    let now = Instant::now() + SECOND;
    for window in [strict(10, MINUTE), estimate(10, MINUTE)] {
        assert_eq!(ask(&window, 100, now), 10);
        window.set_limit(1_000).unwrap();
        assert_eq!(ask(&window, 2_000, now), 990);
    }
    // The first 256 tokens fill all cells. Under the raised limit, the newest cell takes all further tokens.
    let window = strict(256, MINUTE);
    assert_eq!((0..256).filter(|n| window.try_acquire_at(1, now + *n * NANO).is_ok()).count(), 256);
    window.set_limit(LARGEST_LIMIT).unwrap();
    assert!((256..1_000).all(|n| window.try_acquire_at(1, now + n * NANO).is_ok()));
    assert_eq!(window.available_at(now + 1_000 * NANO), LARGEST_LIMIT - 1_000);
    assert_eq!(window.available_at(now + MINUTE + 1_000 * NANO), LARGEST_LIMIT);
}

#[test]
fn cells_of_a_raised_limit_forget_no_token_too_early() {
    let now = Instant::now() + SECOND;
    let at = |tick: u32| now + tick * Duration::from_millis(100);
    let window = strict(256, MINUTE);
    assert!((0..256).all(|tick| window.try_acquire_at(1, at(tick)).is_ok()));
    window.set_limit(1_000).unwrap();
    // Under the raised limit a cell holds four tokens. The newest cell takes three more. For the next token there is no
    // cell left, so the window merges the others to cells of four tokens.
    assert!((256..=260).all(|tick| window.try_acquire_at(1, at(tick)).is_ok()));
    for tick in 0..=260 {
        let available = 1_000 - u64::from(260 - tick);
        let there = window.available_at(at(tick) + MINUTE);
        assert!((available - 6..=available).contains(&there), "{there}, not {available}, {tick} ticks after a minute");
    }
}

#[test]
fn clones_share_their_tokens_and_their_limit() {
    let now = Instant::now() + SECOND;
    let window = strict(2, MINUTE);
    let other = window.clone();
    window.try_acquire_at(1, now).unwrap();
    other.try_acquire_at(1, now).unwrap();
    assert!(window.try_acquire_at(1, now).is_err());
    other.set_limit(3).unwrap();
    assert_eq!((window.limit(), window.window()), (3, MINUTE));
    assert!(window.try_acquire_at(1, now).is_ok());
}

#[test]
fn an_estimate_admits_nearly_twice_the_limit_if_a_period_is_filled_at_its_end() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let period = Instant::now() + MINUTE;
    for (window, most) in [(strict(100, MINUTE), 100), (estimate(100, MINUTE), 199)] {
        assert_eq!(ask(&window, 200, period - NANO), 100);
        let admitted: u64 = (0..60_000).map(|milli| ask(&window, 1, period + Duration::from_millis(milli))).sum();
        assert_eq!(100 + admitted, most);
    }
}

#[test]
fn an_estimate_weights_the_last_period_by_the_part_that_the_window_covers() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let period = Instant::now() + MINUTE;
    let window = estimate(100, MINUTE);
    assert_eq!(ask(&window, 40, period - NANO), 40);
    for (seconds, available) in [(0, 60), (15, 70), (30, 80), (45, 90), (60, 100)] {
        assert_eq!(window.available_at(period + seconds * SECOND), available, "after {seconds} s");
    }
}
