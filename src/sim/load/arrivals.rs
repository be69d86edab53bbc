//! Computes the instants at which calls arrive, for a rate that changes over time.

use super::Arrivals;
use crate::sim::kernel::Stream;
use rand_distr::{Distribution, Exp1};
use std::{iter, time::Duration};

/// A rate of calls over time: a base, and segments with other rates.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    pub(super) base: f64,
    /// In the order of their addition. Where segments overlap, the one added last sets the rate.
    pub(super) segments: Vec<Segment>,
}

/// A rate that changes linearly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) from: Duration,
    /// `None`: to the end of the run, at the constant rate `rate_from`.
    pub(super) to: Option<Duration>,
    pub(super) rate_from: f64,
    pub(super) rate_to: f64,
}

impl Segment {
    fn covers(&self, at: Duration) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }

    /// Returns the change of the rate per second, in calls per second squared.
    fn slope(&self) -> f64 {
        self.to.map_or(0.0, |to| (self.rate_to - self.rate_from) / to.saturating_sub(self.from).as_secs_f64())
    }
}

/// A span of time in which the rate is one straight line.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: Duration,
    /// `None`: without an end.
    to: Option<Duration>,
    /// The rate at `from`, in calls per second.
    rate: f64,
    slope: f64,
}

impl Piece {
    /// Returns the part before an instant.
    fn until(self, end: Duration) -> Self {
        Self { to: Some(self.to.map_or(end, |to| to.min(end))), ..self }
    }

    /// Returns the mean number of calls that arrive in this piece.
    fn calls(&self) -> f64 {
        match self.to {
            Some(to) => {
                let length = to.saturating_sub(self.from).as_secs_f64();
                length * (self.rate + self.slope * length / 2.0)
            }
            None if self.rate > 0.0 => f64::INFINITY,
            None => 0.0,
        }
    }

    /// Returns when this number of calls has arrived in this piece, in seconds since its start. The number is less than
    /// the piece's mean number of calls.
    fn time_of(&self, calls: f64) -> f64 {
        // Solves rate * x + slope * x^2 / 2 = calls for x, in the form that is exact for a small slope.
        let root = (self.rate * self.rate + 2.0 * self.slope * calls).max(0.0).sqrt();
        let divisor = self.rate + root;
        // The divisor is zero only if `calls` is zero and the piece starts at rate zero. The call is then due at the
        // start.
        if divisor > 0.0 { 2.0 * calls / divisor } else { 0.0 }
    }
}

impl Rate {
    /// Returns the mean number of calls that arrive until `end`.
    pub(super) fn calls_until(&self, end: Duration) -> f64 {
        self.pieces().take_while(|piece| piece.from < end).map(|piece| piece.until(end).calls()).sum()
    }

    /// Returns when the last change of the rate ends, if it changes.
    pub(super) fn last_change(&self) -> Option<Duration> {
        self.segments.iter().map(|segment| segment.to.unwrap_or(segment.from)).max()
    }

    /// Returns when the first change of the rate begins, if it changes.
    pub(super) fn first_change(&self) -> Option<Duration> {
        self.segments.iter().map(|segment| segment.from).min()
    }

    /// Returns the instants of the calls, in order.
    pub(super) fn arrivals(&self, arrivals: Arrivals, random: Stream) -> impl Iterator<Item = Duration> + use<> {
        Instants { arrivals, pieces: self.pieces(), piece: None, calls: 0.0, random }
    }

    /// Returns the pieces of the rate. The last piece has no end.
    fn pieces(&self) -> impl Iterator<Item = Piece> + use<> {
        let rate = self.clone();
        let first = rate.piece(Duration::ZERO);
        iter::successors(Some(first), move |piece| piece.to.map(|to| rate.piece(to)))
    }

    /// Returns the piece that begins at an instant.
    fn piece(&self, from: Duration) -> Piece {
        let edges = self.segments.iter().flat_map(|segment| [Some(segment.from), segment.to]);
        let to = edges.flatten().filter(|edge| *edge > from).min();
        match self.segments.iter().rev().find(|segment| segment.covers(from)) {
            Some(segment) => {
                let slope = segment.slope();
                let rate = segment.rate_from + slope * from.saturating_sub(segment.from).as_secs_f64();
                Piece { from, to, rate: rate.max(0.0), slope }
            }
            None => Piece { from, to, rate: self.base, slope: 0.0 },
        }
    }
}

/// Iterates over the instants of the calls, piece by piece of a rate. The integral of the rate is the mean number of
/// calls up to an instant. The next call arrives when the integral has grown by 1, or for a Poisson load by a random
/// number with mean 1.
struct Instants<P> {
    arrivals: Arrivals,
    pieces: P,
    /// The present piece. Time counts from its start, because a float that counts seconds from the start of the run
    /// cannot represent nanoseconds after about fifty days.
    piece: Option<Piece>,
    /// The mean number of calls from the start of the piece to the last arrival.
    calls: f64,
    random: Stream,
}

impl<P: Iterator<Item = Piece>> Iterator for Instants<P> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.calls += match self.arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => self.random.draw(|random| Exp1.sample(random)),
            Arrivals::Closed { .. } => return None,
        };
        loop {
            let piece = match self.piece {
                Some(piece) => piece,
                None => *self.piece.insert(self.pieces.next()?),
            };
            let all = piece.calls();
            if self.calls < all {
                let time = Duration::try_from_secs_f64(piece.time_of(self.calls)).ok()?;
                let instant = piece.from.saturating_add(time);
                // A call that is due at exactly the end of a piece belongs to the next piece that has calls.
                if piece.to.is_none_or(|to| instant < to) {
                    return Some(instant);
                }
            }
            self.calls = (self.calls - all).max(0.0);
            self.piece = None;
        }
    }
}
