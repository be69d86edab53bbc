use crate::{
    clock::Nanos,
    load_level::{
        DrainTime,
        rates::{Rates, Totals, drain_time, time_for},
    },
    sync::{Mutex, lock},
};
use std::time::Duration;

/// How fast messages are appended, and how fast they end, by the counts in the answers of Redis.
pub(super) struct Consumption(Mutex<Known>);

/// The counts of a queue, from an answer of Redis.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Milliseconds of the server's clock.
    pub(super) millis: u64,
    /// The messages that are waiting, in progress, or waiting for another try.
    pub(super) backlog: u64,
    pub(super) appended: u64,
    /// The messages that ended: acknowledged, dropped or dead.
    pub(super) ended: u64,
}

struct Known {
    rates: Rates,
    /// The counts of the last answer that was learned. Zero before the first one.
    last: Counted,
    /// The time of the last answer which showed that a message had ended, that the backlog was empty, or that a backlog
    /// had begun. In milliseconds of the server's clock.
    idle_since: u64,
}

/// A backlog stands still if no message has ended for this many milliseconds.
const STANDSTILL: u64 = 10_000;

/// The most milliseconds by which a late answer is older than the last one. If an answer is older still, the server's
/// clock was set, or another server has answered.
const LONGEST_STEP_BACK: u64 = 10_000;

impl Counted {
    fn at(&self) -> Nanos {
        Nanos(self.millis.saturating_mul(1_000_000))
    }

    fn totals(&self) -> Totals {
        Totals { arrived: self.appended, joined: self.appended, served: self.ended, left: self.ended }
    }
}

impl Default for Consumption {
    fn default() -> Self {
        Self(Mutex::new(Known::new()))
    }
}

impl Consumption {
    /// Learns the counts of an answer, unless a later answer has overtaken it or the clock went back a little. Begins
    /// the rates again if the clock went back far, or if the server lost its data. Lower counts show a loss only if the
    /// clock of the answer is later than that of the last one. After a failover to a server whose clock is behind, the
    /// rates are therefore old for up to 10 s.
    pub(super) fn learn(&self, counted: Counted) {
        let known = &mut *lock(&self.0);
        let last = known.last;
        let counts_less = counted.ended < last.ended || counted.appended < last.appended;
        if counted.millis.saturating_add(LONGEST_STEP_BACK) < last.millis {
            // The clock went back far: another server has answered, or the server's clock was set.
            *known = Known::new();
        } else if counted.millis < last.millis || counted.millis == last.millis && counts_less {
            // A later answer has overtaken this one, or the clock went back a little.
            return;
        } else if counts_less {
            // The server lost its data.
            *known = Known::new();
        }
        let (at, totals) = (counted.at(), counted.totals());
        match (known.last.backlog > 0, counted.backlog > 0) {
            (false, true) => known.rates.begin(at, totals),
            (true, true) => known.rates.note(at, totals),
            (true, false) => known.rates.end(at, totals),
            (false, false) => {}
        }
        if counted.backlog == 0 || known.last.backlog == 0 || counted.ended != known.last.ended {
            known.idle_since = counted.millis;
        }
        known.last = counted;
    }

    /// Returns the time in which this many messages are expected to end. `None` while the rate is not known, and while
    /// the backlog stands still.
    pub(super) fn time_for(&self, messages: u64) -> Option<Duration> {
        let known = &*lock(&self.0);
        let flow = known.rates.flow(known.last.at(), known.last.totals())?;
        time_for(messages, flow.left).filter(|_| !known.stands_still())
    }

    /// Returns the time until the backlog is gone.
    pub(super) fn drain_time(&self) -> DrainTime {
        let known = &*lock(&self.0);
        if known.stands_still() {
            return DrainTime::Never;
        }
        drain_time(known.last.backlog, known.rates.flow_of_this(known.last.at(), known.last.totals()))
    }
}

impl Known {
    fn new() -> Self {
        Self { rates: Rates::new(), last: Counted::default(), idle_since: 0 }
    }

    fn stands_still(&self) -> bool {
        self.last.backlog > 0 && self.last.millis.saturating_sub(self.idle_since) >= STANDSTILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let consumption = Consumption::default();
        consumption.learn(counted(10_000, 1000, 1000, 0));
        consumption.learn(counted(11_000, 800, 1100, 300));
        let before = consumption.time_for(1);
        assert!(before.is_some());
        for late in [counted(10_500, 900, 1050, 150), counted(11_000, 810, 1095, 285)] {
            consumption.learn(late);
            assert_eq!(consumption.time_for(1), before);
        }
        // The server lost its data.
        consumption.learn(counted(11_001, 5, 5, 0));
        assert_eq!(consumption.time_for(1), None);
    }

    fn counted(millis: u64, backlog: u64, appended: u64, ended: u64) -> Counted {
        Counted { millis, backlog, appended, ended }
    }

    #[test]
    fn a_backlog_drains_if_more_messages_end_than_are_appended() {
        let consumption = Consumption::default();
        consumption.learn(counted(10_000, 1000, 1000, 0));
        assert_eq!((consumption.time_for(100), consumption.drain_time()), (None, DrainTime::Unknown));
        // 300 ended in a second, and 100 came.
        consumption.learn(counted(11_000, 800, 1100, 300));
        assert_eq!(consumption.time_for(300), Some(Duration::from_secs(1)));
        assert_eq!(consumption.drain_time(), DrainTime::In(Duration::from_secs(4)));
        consumption.learn(counted(12_000, 1100, 1700, 600));
        assert_eq!(consumption.drain_time(), DrainTime::Never, "more came");
    }

    #[test]
    fn a_backlog_without_a_worker_never_drains() {
        let consumption = Consumption::default();
        consumption.learn(counted(10_000, 5, 5, 0));
        consumption.learn(counted(19_999, 5, 5, 0));
        assert_eq!(consumption.drain_time(), DrainTime::Unknown);
        consumption.learn(counted(20_000, 5, 5, 0));
        assert_eq!((consumption.time_for(5), consumption.drain_time()), (None, DrainTime::Never));
        consumption.learn(counted(20_001, 0, 5, 5));
        assert_eq!(consumption.drain_time(), DrainTime::In(Duration::ZERO));
    }

    #[test]
    fn a_clock_that_goes_back_restarts_the_rates() {
        let consumption = Consumption::default();
        consumption.learn(counted(10_000_000, 1000, 1000, 0));
        consumption.learn(counted(10_001_000, 900, 1000, 100));
        consumption.learn(counted(6_400_000, 900, 1000, 100));
        assert_eq!((consumption.time_for(500), consumption.drain_time()), (None, DrainTime::Unknown));
        consumption.learn(counted(6_401_000, 400, 1000, 600));
        assert_eq!(consumption.time_for(500), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_server_that_loses_its_data_restarts_the_rates() {
        let consumption = Consumption::default();
        consumption.learn(counted(10_000, 1000, 1000, 0));
        consumption.learn(counted(11_000, 800, 1100, 300));
        consumption.learn(counted(12_000, 7, 7, 0));
        assert_eq!((consumption.time_for(7), consumption.drain_time()), (None, DrainTime::Unknown));
    }
}
