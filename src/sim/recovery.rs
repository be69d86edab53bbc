//! Decides whether goodput recovered after a disturbance.

use super::Span;
use std::{fmt, time::Duration};

/// The fewest calls of one window, unless fewer arrive in all: enough to judge goodput. `Usual::is_kept_to_the_end`
/// defines windows.
const ENOUGH_CALLS: u64 = 200;

/// Fewer calls prove nothing, before or after the disturbance.
const LEAST_EVIDENCE: u64 = 20;

/// Goodput has recovered at this share of its earlier value.
const BACK: f64 = 0.95;

/// A window may have more failures than [`BACK`] allows, by this number of standard deviations. If calls fail by
/// chance, as rarely as usual, at most one window in 740 has more failures than that.
const DEVIATIONS: f64 = 3.0;

/// Whether goodput recovered after the last disturbance.
///
/// `Display` writes it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(tag = "state", content = "seconds", rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Recovery {
    /// There was no disturbance of a backend, and no load changed its rate.
    Undisturbed,
    /// Fewer than 20 calls arrived in the spans that begin after the last disturbance: too few to judge.
    Untested,
    /// Goodput recovered this time after the last disturbance, and stayed good. In JSON, the seconds.
    After(#[cfg_attr(feature = "serde", serde(serialize_with = "in_seconds"))] Duration),
    /// Goodput did not recover before the end of the run, or did not stay good.
    Never,
}

impl Recovery {
    /// Returns the worse of two. `Undisturbed` gives way to every other result, and `Untested` to `After` and `Never`.
    pub(super) fn or_worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, _) | (_, Self::Never) => Self::Never,
            (Self::After(one), Self::After(other)) => Self::After(one.max(other)),
            (Self::After(time), _) | (_, Self::After(time)) => Self::After(time),
            (Self::Untested, _) | (_, Self::Untested) => Self::Untested,
            (Self::Undisturbed, Self::Undisturbed) => Self::Undisturbed,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undisturbed => f.write_str("no disturbance"),
            Self::Untested => f.write_str("too few calls after the last disturbance"),
            Self::After(time) => write!(f, "recovered {time:?} after the last disturbance"),
            Self::Never => f.write_str("never recovered"),
        }
    }
}

#[cfg(feature = "serde")]
fn in_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// The start of the first disturbance of a run, and the end of the last one, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Disturbed {
    pub(super) from: f64,
    pub(super) to: f64,
}

/// Returns how long after the disturbance goodput recovered. [`Report::recovery`](super::Report::recovery) defines it.
pub(super) fn recovery(spans: &[Span], disturbed: Option<Disturbed>) -> Recovery {
    let Some(disturbed) = disturbed else { return Recovery::Undisturbed };
    let after = |span: &&Span| span.from >= disturbed.to;
    if Calls::of(spans.iter().filter(after)).offered < LEAST_EVIDENCE {
        return Recovery::Untested;
    }
    let usual = Usual::before(disturbed.from, spans);
    // Includes the span in which the disturbance ends: it may be as good as the others.
    let after: Vec<Span> = spans.iter().filter(|span| span.to > disturbed.to && span.offered > 0).copied().collect();
    let enough = ENOUGH_CALLS.min(Calls::of(&after).offered / 2);
    let back = (0..after.len()).map(|index| &after[index..]).find(|rest| usual.is_kept_to_the_end(rest, enough));
    match back.and_then(<[Span]>::first) {
        Some(span) => Recovery::After(Duration::from_secs_f64((span.from - disturbed.to).max(0.0))),
        None => Recovery::Never,
    }
}

/// The share of the calls that was answered in time before the disturbance.
#[derive(Clone, Copy)]
struct Usual(f64);

impl Usual {
    /// Returns the share before the disturbance, or 1 if there were too few calls to judge.
    fn before(disturbance: f64, spans: &[Span]) -> Self {
        let before = Calls::of(spans.iter().filter(|span| span.to <= disturbance));
        let share = before.in_time as f64 / before.offered.max(1) as f64;
        Self(if before.offered < LEAST_EVIDENCE { 1.0 } else { share })
    }

    /// Returns whether goodput has recovered at the first of these spans, and stays good:
    ///
    /// - Goodput in the first span is at least half as good as usual.
    /// - At least `enough` calls arrive.
    /// - Goodput is good in each window. A window is the shortest sequence of spans with at least [`ENOUGH_CALLS`]. The
    ///   last window also includes the remaining calls, if they are too few for another window. If all calls are too
    ///   few for one window, they form the only window.
    fn is_kept_to_the_end(self, spans: &[Span], enough: u64) -> bool {
        let half_as_good = spans.first().is_some_and(|span| 2.0 * span.in_time as f64 >= self.0 * span.offered as f64);
        let mut left = Calls::of(spans);
        if !half_as_good || left.offered < enough {
            return false;
        }
        let mut window = Calls::default();
        for span in spans {
            window = window.and(span);
            let rest = left.offered - window.offered;
            if window.offered >= ENOUGH_CALLS && rest >= ENOUGH_CALLS {
                if !self.is_kept_by(window) {
                    return false;
                }
                left = Calls { offered: rest, in_time: left.in_time - window.in_time };
                window = Calls::default();
            }
        }
        self.is_kept_by(left)
    }

    /// Returns whether the share of these calls that was answered in time reaches [`BACK`] of the usual share. Failures
    /// by chance, up to [`DEVIATIONS`] standard deviations, do not count.
    fn is_kept_by(self, calls: Calls) -> bool {
        let (usual, offered) = (self.0, calls.offered as f64);
        let chance = DEVIATIONS * (offered * usual * (1.0 - usual)).sqrt();
        calls.in_time as f64 >= BACK * usual * offered - chance
    }
}

/// A number of calls, and how many of them were answered in time.
#[derive(Clone, Copy, Default)]
pub(super) struct Calls {
    pub(super) offered: u64,
    pub(super) in_time: u64,
}

impl Calls {
    pub(super) fn of<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Self {
        spans.into_iter().fold(Self::default(), Self::and)
    }

    fn and(self, span: &Span) -> Self {
        Self { offered: self.offered + span.offered, in_time: self.in_time + span.in_time }
    }

    /// Returns the share that was answered in time; `None` if there were no calls.
    pub(super) fn goodput(self) -> Option<f64> {
        (self.offered > 0).then(|| self.in_time as f64 / self.offered as f64)
    }
}
