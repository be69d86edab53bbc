//! Little's law: the calls in flight are the rate of completions times the latency.
//!
//! A call that finds `n` others in flight ends after about `(n + 1) / rate`. It is refused if this duration is more
//! than a share of the time left until its deadline. No latency is compared with an ideal latency, so a service that
//! becomes slower for good does not count as overloaded.
//!
//! | from | to | when |
//! |---|---|---|
//! | unknown | known | eight answers within eight windows, or a window in which calls were only given up |
//! | known | starved | more calls were given up than answered |
//! | starved | known | more calls were answered than were late or given up, with calls given up counted twice |
//!
//! Only measured calls count as early, late or given up. Answered calls count whether or not they are measured.
//!
//! - Unknown: the first window in which a call was answered or given up does not count. The windows after it do.
//! - Known: in two cases the limit counts as in use in a window. Either a call was late. Or the most calls in flight
//!   were at least half of `share * deadline * rate`, and not all of the measured calls were early. The second case
//!   also holds if no call was measured.
//!   - The rate is the measured rate once the limit was in use for eight windows in a row. Fewer windows in a row
//!     suffice if they have 32 completions together.
//!   - Otherwise, if the last eight windows have 32 completions, the last known rate decays. The rate is the larger of
//!     the decayed rate and the measured rate.
//!   - Otherwise the rate stays as it is and does not decay.
//! - Starved: a call that was given up is also late, so it counts twice in the last row of the table. Two calls at a
//!   time test whether the service answers again. The limit is these two and the calls that stand still. If no call
//!   ended in a window, the calls in flight at its end stand still. Work on calls that were given up may go on and
//!   cannot be observed. When the service answers, the rate starts at half of the last known rate.
//!
//! The standard deviation of a count of completions is its square root. While no answer is late, the limit is up to 2.5
//! standard deviations above `share * deadline * rate`. While many are late, it is up to 2.5 below. It settles where
//! about 3% of the answers near the limit take more than 85% of their time.

use super::algorithm::{Algorithm, Limit, Window};
use std::time::Duration;

/// The rate is measured over this number of windows, or over more until there are [`STEADY`] completions.
const SHORT: usize = 8;
/// The length of [`SHORT`] windows together, as a share of the deadline.
const SPAN: f64 = 0.7;
/// With this number of completions the standard deviation of a rate is 9%.
const STEADY: u64 = 128;
/// The most windows over which the rate is measured.
const WINDOWS: usize = 32;
/// The rate of the longer span predicts the completions of the last [`SHORT`] windows. If their number differs by more
/// than this number of standard deviations, the rate has changed. Then only the last [`SHORT`] windows count.
const CHANGE: f64 = 2.5;
/// The least completions for a measurement of the rate, unless the limit was in use for [`SHORT`] windows in a row.
const ENOUGH: u64 = 32;
/// The least completions for the first rate.
const ENOUGH_TO_BEGIN: u64 = 8;
/// The most by which the limit differs from `share * deadline * rate`, in standard deviations.
const SLACK: f64 = 2.5;
/// The gain in [trust](Little::trust) when the number of answers in time is `share * deadline * rate`.
const TRUST_GAINED: f64 = 1.0 / 4.0;
/// One late answer cancels the trust gained by this number of answers in time.
const LATE: f64 = 32.0;
/// The calls that are admitted to a starved service, beside those that stand still, to test whether it answers again.
const TRICKLE: usize = 2;
/// While the limit is not in use, the last known rate decays by this share in each window: to half in about 60
/// deadlines. It decays only while the last [`SHORT`] windows have [`ENOUGH`] completions.
const DECAY: f64 = 1.0 / 1024.0;

/// Estimates the duration of each call by Little's law. Refuses a call that would take more than a share of the time
/// left until its deadline. The default.
///
/// It needs deadlines: those in the calls' [context](crate::CallContext), or the
/// [deadline](super::super::LimiterBuilder::deadline) of the limiter.
#[derive(Clone, Debug)]
pub struct Little {
    share: f64,
    state: LittleState,
    /// The last windows. A new window replaces the oldest one.
    ring: [Seen; WINDOWS],
    /// The index in `ring` at which the next window is stored.
    next: usize,
    /// The number of latest windows in a row in which the limit was in use. A change of the rate cuts this number to
    /// [`SHORT`] at most.
    in_use: usize,
    /// Completions per second.
    rate: f64,
    /// The distance of the limit from `share * deadline * rate`, from -1 to 1, in units of [`SLACK`] standard
    /// deviations.
    trust: f64,
    /// The calls that stood still in the last window, while the service is starved; zero if a call ended in it.
    standing: usize,
    /// The [deadline](Window::deadline) of the last window.
    deadline: Duration,
}

/// The state of the [table](self). `has_begun` is set after the first window in which a call was answered or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LittleState {
    Unknown { has_begun: bool },
    Known,
    Starved,
}

/// The busy time, in seconds, and the completions of one window, or of several together.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    busy: f64,
    completed: u64,
}

impl Seen {
    fn rate(self) -> f64 {
        if self.busy > 0.0 { self.completed as f64 / self.busy } else { 0.0 }
    }
}

impl Little {
    /// Limits calls to this share of their remaining deadline.
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            state: LittleState::Unknown { has_begun: false },
            ring: [Seen::default(); WINDOWS],
            next: 0,
            in_use: 0,
            rate: 0.0,
            trust: 1.0,
            standing: 0,
            deadline: Duration::ZERO,
        }
    }

    fn remember(&mut self, window: &Window) {
        self.ring[self.next] = Seen { busy: window.busy.as_secs_f64(), completed: window.completed };
        self.next = (self.next + 1) % WINDOWS;
    }

    fn forget(&mut self) {
        self.ring = [Seen::default(); WINDOWS];
        self.in_use = 0;
    }

    /// Returns the sum of the last windows.
    fn last(&self, windows: usize) -> Seen {
        let index = |back: usize| (self.next + WINDOWS - back) % WINDOWS;
        (1..=windows.min(WINDOWS)).map(|back| self.ring[index(back)]).fold(Seen::default(), |sum, seen| Seen {
            busy: sum.busy + seen.busy,
            completed: sum.completed + seen.completed,
        })
    }

    // Unknown => Known
    fn begin(&mut self, window: &Window, has_begun: bool) {
        let standstill = window.completed == 0 && window.given_up > 0;
        if has_begun {
            self.remember(window);
            let all = self.last(SHORT);
            if all.completed >= ENOUGH_TO_BEGIN || standstill {
                self.rate = all.rate();
                self.state = LittleState::Known;
            }
        } else if window.completed > 0 || standstill {
            // The time before the first answer is no evidence of the rate.
            self.state = LittleState::Unknown { has_begun: true };
        }
    }

    /// Updates the rate, and whether the limit is in use, after a window in the known state.
    fn measure(&mut self, window: &Window) {
        self.remember(window);
        let is_half_full = 2.0 * window.most_in_flight as f64 >= self.calls();
        let is_early = window.measured > 0 && window.early == window.measured;
        let is_in_use = window.late > 0 || is_half_full && !is_early;
        if is_in_use && self.in_use == 0 {
            // Trust gained while few calls were in flight is no evidence near the limit.
            self.trust = self.trust.min(0.0);
        }
        self.in_use = if is_in_use { self.in_use + 1 } else { 0 };
        if self.in_use >= SHORT || self.last(self.in_use).completed >= ENOUGH {
            self.rate = self.steady(self.in_use);
        } else {
            let all = self.last(SHORT);
            if all.completed >= ENOUGH {
                self.rate = all.rate().max(self.rate * (1.0 - DECAY));
            }
        }
    }

    /// Measures the rate over the last windows, at most this number. If the rate has changed, forgets the windows
    /// before the last [`SHORT`].
    fn steady(&mut self, windows: usize) -> f64 {
        let short = self.last(SHORT.min(windows));
        let lengths = SHORT.min(windows)..=WINDOWS.min(windows);
        let long = lengths.map(|length| self.last(length)).find(|seen| seen.completed >= STEADY);
        let long = long.unwrap_or_else(|| self.last(windows));
        let expected = long.rate() * short.busy;
        if (short.completed as f64 - expected).abs() > CHANGE * expected.sqrt() {
            self.in_use = SHORT.min(windows);
            return short.rate();
        }
        long.rate()
    }

    /// Changes [`trust`](Self::trust) by the answers of a window: those in time raise it, and late ones lower it.
    fn weigh(&mut self, window: &Window) {
        // A window without a measured call counts as one answer in time.
        let in_time = window.measured.saturating_sub(window.late).max(u64::from(window.measured == 0));
        let change = (in_time as f64 - LATE * window.late as f64) * TRUST_GAINED / self.calls().max(1.0);
        self.trust = (self.trust + change).clamp(-1.0, 1.0);
    }

    /// Returns the number of calls that end within the share of the deadline.
    fn calls(&self) -> f64 {
        self.share * self.deadline.as_secs_f64() * self.rate
    }

    fn limit(&self) -> Limit {
        match self.state {
            LittleState::Unknown { .. } => Limit::Unknown,
            // Two more calls, in addition to those that stand still.
            LittleState::Starved => Limit::Calls(self.standing.saturating_add(TRICKLE)),
            LittleState::Known => {
                let calls = self.calls();
                let slack = SLACK * self.trust * calls.sqrt();
                let per_second = if calls > 0.0 { self.rate * (1.0 + slack / calls).max(0.0) } else { self.rate };
                Limit::Rate { per_second, share: self.share }
            }
        }
    }
}

impl Algorithm for Little {
    fn first(&mut self) -> Limit {
        Limit::Unknown
    }

    fn learn(&mut self, window: &Window) -> Limit {
        self.deadline = window.deadline;
        match self.state {
            LittleState::Unknown { has_begun } => self.begin(window, has_begun),
            // Known => Starved
            LittleState::Known if window.given_up > window.completed => {
                self.state = LittleState::Starved;
                self.standing = 0;
                self.forget();
            }
            // Starved => Known
            LittleState::Starved if window.completed > window.late + window.given_up => {
                self.rate /= 2.0;
                self.state = LittleState::Known;
            }
            LittleState::Starved => {
                let stands = window.completed + window.given_up == 0;
                self.standing = if stands { window.in_flight } else { 0 };
            }
            LittleState::Known => {
                self.measure(window);
                self.weigh(window);
            }
        }
        self.limit()
    }

    fn window(&self, deadline: Duration) -> Duration {
        deadline.mul_f64(SPAN / SHORT as f64)
    }

    fn measures_all(&self) -> bool {
        false
    }
}
