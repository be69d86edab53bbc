//! The signals of one limiter. The state of each is a bit of one word. Together they cap the limit.

use super::cap::{Cap, EVERY};
use super::{Hysteresis, Signal};
use crate::{
    clock::Origin,
    error::ConfigError,
    panics::survives,
    sync::{AtomicU64, Ordering},
};
use std::fmt;
use tokio::time::Instant;

/// The most signals: each has one bit of a word.
const MOST: usize = u64::BITS as usize;

/// A signal, its name and its bounds.
pub(in crate::load_shed) struct Watched {
    pub(in crate::load_shed) name: &'static str,
    pub(in crate::load_shed) signal: Box<dyn Signal>,
    pub(in crate::load_shed) bounds: Hysteresis,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.name).field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// Several signals, and which of them report overload.
pub(in crate::load_shed) struct Signals {
    /// At most [`MOST`].
    list: Box<[Watched]>,
    /// A bit for each signal that reports overload. This and the words below are relaxed: they guard no other memory.
    overloaded: AtomicU64,
    /// When the signals are due to be read next, since the origin. The caller that advances it reads them.
    next: AtomicU64,
    /// A [`Cap`].
    cap: AtomicU64,
    origin: Origin,
}

impl Signals {
    /// Makes signals that the first arriving call reads.
    ///
    /// # Errors
    ///
    /// There may be at most 64, each with a unique name.
    pub(in crate::load_shed) fn new(list: Vec<Watched>, now: Instant) -> Result<Self, ConfigError> {
        if list.len() > MOST {
            return Err(ConfigError::new("load_shed.signals", list.len(), "must be at most 64"));
        }
        let mut known = list.iter().enumerate();
        if let Some((_, twice)) = known.find(|(at, one)| list[..*at].iter().any(|other| other.name == one.name)) {
            return Err(ConfigError::new("load_shed.signals", twice.name, "must have a name of its own"));
        }
        let [overloaded, next] = [0; 2].map(AtomicU64::new);
        let cap = AtomicU64::new(Cap::NONE.0);
        Ok(Self { list: list.into(), overloaded, next, cap, origin: Origin::at(now) })
    }

    /// Returns the name of the first signal that reported overload in the last [`refresh`](Self::refresh). One load.
    #[inline]
    pub(in crate::load_shed) fn overloaded_by(&self) -> Option<&'static str> {
        let overloaded = self.overloaded.load(Ordering::Relaxed);
        // The index is beyond the list only if no bit is set.
        self.list.get(overloaded.trailing_zeros() as usize).map(|watched| watched.name)
    }

    /// Returns the most calls that the signals allow.
    #[inline]
    pub(in crate::load_shed) fn cap(&self) -> u64 {
        Cap(self.cap.load(Ordering::Relaxed)).calls()
    }

    /// Reads all signals and adapts the cap, if the last reading is at least 10 ms old. If several callers find that at
    /// the same time, only one of them reads. Returns whether it read the signals, and so whether user code ran. One
    /// load if the signals are not due.
    #[inline]
    pub(in crate::load_shed) fn refresh(&self, in_flight: u64, limit: u64, now: Instant) -> bool {
        let (now_nanos, next) = (self.origin.to(now), self.next.load(Ordering::Relaxed));
        // The signals are also due if the clock went back to before their last reading.
        let is_due = now_nanos.0 >= next || next - now_nanos.0 > EVERY.0;
        if !is_due {
            return false;
        }
        let later = now_nanos.0.saturating_add(EVERY.0);
        if self.next.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return false;
        }
        let was_overloaded = self.overloaded_by().is_some();
        self.read(now);
        let is_overloaded = self.overloaded_by().is_some();
        // The periods since the last reading count only if the state has not changed.
        let passed = if is_overloaded == was_overloaded { now_nanos.0.saturating_sub(next) / EVERY.0 } else { 0 };
        let cap = Cap(self.cap.load(Ordering::Relaxed));
        // One caller at a time gets here: the one that advanced `next`. There are two only if a thread took a whole
        // period to read the signals, for example because it was preempted.
        self.cap.store(cap.after(passed + 1, is_overloaded, in_flight, limit).0, Ordering::Relaxed);
        true
    }

    #[cold]
    fn read(&self, now: Instant) {
        for (index, watched) in self.list.iter().enumerate() {
            let mut level = None;
            if !survives(|| level = watched.signal.level(now)) {
                level = None;
            }
            let bit = 1_u64 << index;
            let is_overloaded = self.overloaded.load(Ordering::Relaxed) & bit != 0;
            if watched.bounds.step(is_overloaded, level) {
                self.overloaded.fetch_or(bit, Ordering::Relaxed);
            } else {
                self.overloaded.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.list.iter().map(|watched| watched.name).collect::<Vec<_>>();
        f.debug_struct("Signals").field("names", &names).field("overloaded_by", &self.overloaded_by()).finish()
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, atomic::AtomicU64 as Count},
        time::Duration,
    };

    const TICK: Duration = Duration::from_millis(10);

    fn watched(name: &'static str, signal: impl Signal + 'static) -> Watched {
        Watched { name, signal: Box::new(signal), bounds: Hysteresis::new(0.9, 0.7).unwrap() }
    }

    #[test]
    fn the_first_overloaded_signal_is_named_until_it_has_recovered() {
        let percent = Arc::new(Count::new(0));
        let level = Arc::clone(&percent);
        let now = Instant::now();
        let list = vec![watched("idle", || 0.0), watched("cpu", move || level.load(Ordering::Relaxed) as f64 / 100.0)];
        let signals = Signals::new(list, now).unwrap();
        let steps = [(80, None), (90, Some("cpu")), (71, Some("cpu")), (69, None), (89, None)];
        for (step, (at, wanted)) in (0..).zip(steps) {
            percent.store(at, Ordering::Relaxed);
            assert!(signals.refresh(1, 100, now + TICK * step));
            assert_eq!(signals.overloaded_by(), wanted, "at {at}%");
        }
    }

    #[test]
    fn signals_are_read_at_most_every_ten_milliseconds_though_the_clock_goes_back() {
        let reads = Arc::new(Count::new(0));
        let count = Arc::clone(&reads);
        let start = Instant::now();
        let count_reads = move || count.fetch_add(1, Ordering::Relaxed) as f64 * 0.0;
        let signals = Signals::new(vec![watched("count", count_reads)], start).unwrap();
        let later = start + Duration::from_secs(100);
        assert!(signals.refresh(1, 100, later));
        assert!(!signals.refresh(1, 100, later + TICK - Duration::from_nanos(1)));
        assert!(signals.refresh(1, 100, later + TICK));
        assert!(signals.refresh(1, 100, start), "a clock that went back");
        assert!(!signals.refresh(1, 100, start));
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_signal_that_panics_is_unknown_and_the_others_count() {
        let list = vec![watched("bad", || panic!("of a signal")), watched("high", || 1.0)];
        let signals = Signals::new(list, Instant::now()).unwrap();
        assert!(signals.refresh(1, 100, Instant::now()));
        assert_eq!(signals.overloaded_by(), Some("high"));
    }

    #[test]
    fn the_last_of_64_signals_counts_and_there_is_no_65th() {
        const NAMES: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
        let list = |count| {
            let all = (0..count).map(|at| (at, &NAMES[at..=at]));
            all.map(|(at, name)| watched(name, move || f64::from(u8::from(at == 63)))).collect()
        };
        let signals = Signals::new(list(64), Instant::now()).unwrap();
        signals.refresh(1, 100, Instant::now());
        assert_eq!(signals.overloaded_by(), Some("_"));
        assert_eq!(Signals::new(list(65), Instant::now()).unwrap_err().field(), "load_shed.signals");
    }

    #[test]
    fn two_signals_with_one_name_are_an_error() {
        let error = Signals::new(vec![watched("cpu", || 0.0), watched("cpu", || 0.0)], Instant::now()).unwrap_err();
        assert_eq!(error.to_string(), r#"load_shed.signals = "cpu": must have a name of its own"#);
    }

    #[test]
    fn no_signals_are_no_overload() {
        let signals = Signals::new(Vec::new(), Instant::now()).unwrap();
        assert!(signals.overloaded_by().is_none());
    }
}
