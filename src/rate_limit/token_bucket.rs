use super::{
    Quota,
    line::{Line, Place, Standing},
    plan::{FRACTION, HORIZON, LONGEST_WARM_UP, Plan, SharedPlan, third_of},
    reservation::{Acquire, Reservation},
    scale::Scale,
};
use crate::{
    clock::{self, Origin},
    error::{ConfigError, RateLimited},
    random::Random,
    sync::{AtomicU64, Mutex, Ordering, lock},
    timeout::Deadline,
};
use rand::RngExt;
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Waker,
    time::Duration,
};
use tokio::time::Instant;

/// A rate with a burst: tokens are minted at a steady rate, at most a burst of them is saved up, each call costs some.
///
/// In every interval of length t at most `burst + rate * t` tokens are admitted, and a token that is there is not refused:
/// exactly for most rates in use, to within a nanosecond for the others (see below). A clock that stands still mints
/// nothing, one that jumps ahead mints at most a burst, and asking often loses nothing.
///
/// ```
/// use std::time::Duration;
/// use steadfast::rate_limit::TokenBucket;
/// use tokio::time::Instant;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let bucket = TokenBucket::builder(100, Duration::from_secs(1)).burst(2).build()?;
/// let now = Instant::now();
/// assert!(bucket.try_acquire_at(2, now).is_ok());
/// let refused = bucket.try_acquire_at(1, now).unwrap_err();
/// let wait = refused.retry_after().unwrap();
/// assert_eq!(wait, Duration::from_millis(10));
/// assert!(bucket.try_acquire_at(1, now + wait).is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Three ways to ask
///
/// [`try_acquire`](Self::try_acquire) admits or refuses at once. [`acquire`](Self::acquire) waits for its turn, behind
/// all who wait already and for no longer than it may. [`reserve`](Self::reserve) takes tokens for something that may
/// yet not happen. While somebody waits `try_acquire` is refused: what is being minted is spoken for.
///
/// # How it counts
///
/// The bucket is the generic cell rate algorithm (ITU-T I.371), turned from time into tokens: instead of the
/// theoretical arrival time of the next call it keeps the number of tokens spent, and compares it with the number minted
/// by now. So there is no interval to be cut to whole nanoseconds, no error adds up, and a change of the rate does not
/// price anew what was spent before.
///
/// A token is divided into parts. Where the rate in lowest terms is up to 2^14 tokens in some nanoseconds (100 per second
/// is 1 in 10,000,000; 1,500,000 per second 3 in 2,000), a whole number of parts is minted per nanosecond, and everything
/// is exact. So it is unless the parts of a burst were more than 2^55. All other rates are
/// exact to one in 10^10 at the least (in 10^15 if a burst is minted within an hour), and a token may come by a part too
/// early or too late: by less than a nanosecond, or 2^-54 of the time in which a burst is minted.
///
/// # Cost
///
/// One load and one compare-and-swap to admit, two loads to refuse; no allocation, no lock. Every 18 minutes, while
/// somebody waits, and while it warms up, a lock is taken. Clones share the bucket.
#[derive(Clone)]
pub struct TokenBucket {
    shared: Arc<Shared>,
}

/// On a line of the cache of its own: whoever takes tokens writes it, and reads what follows.
#[repr(align(128))]
struct Word(AtomicU64);

#[repr(align(128))]
struct Shared {
    /// Which plan counts, whether anybody waits, and the parts spent so far by that plan, or forfeited because the bucket
    /// was full. See the constants below.
    ///
    /// A success of a compare-and-swap shows that the plan which was reckoned with is still the one that counts: a plan is
    /// overwritten only after this word named the other one.
    word: Word,
    /// The plan that counts and the one before or after, by the generation's lowest bit.
    plans: [SharedPlan; 2],
    origin: Origin,
    max_wait: Duration,
    /// Held by whoever changes the plan or waits.
    slow: Mutex<Slow>,
}

struct Slow {
    quota: Quota,
    /// A third of the warm-up in nanoseconds; zero for a bucket that does not warm up.
    third: u64,
    /// When a bucket that warms up has been full for as long as that takes, if nothing more is taken until then. What is
    /// given back does not hasten it: a bucket whose calls are all refunded is in use.
    cold_at: u64,
    line: Line,
}

/// The parts spent: at most a burst, a horizon's worth, and a burst that is owed, each up to 2^55.
const SPENT: u64 = (1 << GENERATION_SHIFT) - 1;
/// Counts the plans. A thread that slept through 64 of them, and finds the same number of parts spent by the last, takes
/// it for its own.
const GENERATION_SHIFT: u32 = 57;
const GENERATION: u64 = 0x3F << GENERATION_SHIFT;
/// Ask under the lock: somebody waits, or the bucket warms up.
const SLOW: u64 = 1 << 63;

/// What the parts spent and minted say of a call.
enum Reckoned {
    /// There are enough; so much will have been spent after the call.
    Enough { after: u64 },
    /// There would be enough once so much has been minted.
    TooFew { after: u64, anchor: u64, scale: Scale<FRACTION> },
    /// The cost is above the burst.
    Never,
    /// Only the lock can tell.
    Slow,
}

/// Why there are no tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// There will be enough at this time, in nanoseconds since the origin.
    Until(u64),
    /// The cost is above the burst.
    ForEver,
}

impl TokenBucket {
    /// A bucket with `count` new tokens every `period`, minted evenly over it.
    pub fn builder(count: u64, period: Duration) -> TokenBucketBuilder {
        Self::with_quota(Quota::new(count, period))
    }

    /// A bucket by this quota.
    pub fn with_quota(quota: Quota) -> TokenBucketBuilder {
        TokenBucketBuilder { quota, warm_up: Duration::ZERO, max_wait: None }
    }

    /// Takes `tokens` now, by tokio's clock. See [`try_acquire_at`](Self::try_acquire_at).
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn try_acquire(&self, tokens: u64) -> Result<(), RateLimited> {
        self.try_acquire_at(tokens, Instant::now())
    }

    /// Takes `tokens` at `now`, all or none. Zero tokens are always there.
    ///
    /// An instant before the bucket was built, or its quota was last changed, counts as that one.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] with the time until there are enough, or with none where the cost is above the burst: such a call
    /// is refused for ever.
    #[inline]
    pub fn try_acquire_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        if tokens == 0 {
            return Ok(());
        }
        let nanos = self.shared.origin.nanos_to(now);
        self.shared.try_take(tokens, nanos).map_err(|refusal| refusal.seen_at(nanos))
    }

    /// Takes `tokens` at `now` as [`try_acquire_at`](Self::try_acquire_at) does, but a refused call counts as well: it
    /// owes what it costs, up to a burst in all. Whoever asks too often and does not stop is not admitted again.
    ///
    /// # Errors
    ///
    /// As there. The time until there are enough includes what was owed before.
    pub fn try_acquire_or_owe_at(&self, tokens: u64, now: Instant) -> Result<(), RateLimited> {
        let refused = self.try_acquire_at(tokens, now);
        if refused.is_err() {
            self.shared.owe(tokens, self.shared.origin.nanos_to(now));
        }
        refused
    }

    /// Waits for `tokens` in order of arrival: all of them are taken at once, when it is their turn and they are there.
    ///
    /// The wait is at most the bucket's [`max_wait`](TokenBucketBuilder::max_wait), and ends before the deadline of the
    /// [current context](crate::CallContext::current). The place in line is taken in the first poll. Dropping the future
    /// gives up the place, and those behind move up; or gives the tokens back, if they were granted but not seen. A future
    /// that is neither polled nor dropped costs its tokens and holds up nobody: they are set aside for it, at the latest when
    /// the turn of the one behind it has come. Only if the rate rises meanwhile, or one in between gives up, does nobody
    /// tell those behind it before the time that they were told.
    ///
    /// Timers fire at whole milliseconds: where a burst is minted in less, those who wait get a burst per millisecond.
    ///
    /// # Errors
    ///
    /// [`RateLimited`] at once where it would take longer, with the time that it would take, or where the cost is above
    /// the burst; later only where a change of the burst makes the cost more than is ever there.
    ///
    /// # Cost
    ///
    /// Where the tokens are there, as [`try_acquire`](Self::try_acquire). Otherwise one lock and one timer, an entry in a
    /// map, and one wake-up when it is admitted, however many wait; a second one where others before it gave up, or the
    /// rate was changed.
    pub fn acquire(&self, tokens: u64) -> Acquire {
        Acquire::new(self.clone(), tokens)
    }

    /// Takes `tokens` now, if they are there, and gives them back unless they are [committed](Reservation::commit).
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn reserve(&self, tokens: u64) -> Result<Reservation, RateLimited> {
        self.reserve_at(tokens, Instant::now())
    }

    /// The same at `now`.
    ///
    /// # Errors
    ///
    /// As [`try_acquire_at`](Self::try_acquire_at).
    pub fn reserve_at(&self, tokens: u64, now: Instant) -> Result<Reservation, RateLimited> {
        self.try_acquire_at(tokens, now)?;
        Ok(Reservation::new(self.clone(), tokens))
    }

    /// Gives `tokens` back that were taken for a call which then was not made, or need not count. Never more than a burst
    /// is kept. Those who wait have them at once.
    #[inline]
    pub fn refund(&self, tokens: u64) {
        if self.shared.give_back(tokens) {
            self.shared.slowly(self.shared.origin.nanos_to(Instant::now()), |_| ());
        }
    }

    /// Follows another quota from now on. What the bucket holds stays, in tokens, up to the new burst. Those who wait go on
    /// waiting, at the new rate, for longer than [`max_wait`](Self::max_wait) if need be; whoever costs more than the new
    /// burst is refused at once.
    ///
    /// # Errors
    ///
    /// As [`build`](TokenBucketBuilder::build); the old quota stays.
    pub fn set_quota(&self, quota: Quota) -> Result<(), ConfigError> {
        self.set_quota_at(quota, Instant::now())
    }

    /// The same at `now`. From then on an earlier instant counts as this one, as it does for all that is taken.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn set_quota_at(&self, quota: Quota, now: Instant) -> Result<(), ConfigError> {
        quota.check()?;
        self.shared.change_quota(quota, self.shared.origin.nanos_to(now));
        Ok(())
    }

    /// Spends a random part of a token of a new bucket.
    pub(crate) fn spend_a_fraction(&self, random: &Random) {
        let plan = self.shared.plans[0].load();
        let parts = random.with(|random| random.random_range(1..=plan.scale.parts_per_token.max(1)));
        self.shared.word.0.fetch_add(parts, Ordering::Relaxed);
    }

    /// The whole tokens that are there at `now`, for whoever waits or whoever comes. Nothing changes by looking, not even
    /// into the future.
    pub fn available_at(&self, now: Instant) -> u64 {
        self.shared.available(self.shared.origin.nanos_to(now))
    }

    /// What the bucket goes by.
    pub fn quota(&self) -> Quota {
        lock(&self.shared.slow).quota
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.slow).line.len()
    }

    /// The longest that [`acquire`](Self::acquire) waits.
    pub fn max_wait(&self) -> Duration {
        self.shared.max_wait
    }

    /// Takes the tokens at once, or a place in line, where the wait may last as long as that and until the deadline.
    pub(super) fn join_at(&self, tokens: u64, now: Instant, deadline: Deadline) -> Result<Option<Place>, RateLimited> {
        if tokens == 0 {
            return Ok(None);
        }
        let shared = &*self.shared;
        let nanos = shared.origin.nanos_to(now);
        let joined = match shared.try_take(tokens, nanos) {
            Ok(()) => Ok(None),
            Err(Refusal::ForEver) => Err(Refusal::ForEver),
            Err(Refusal::Until(_)) => {
                let longest = clock::nanos(shared.max_wait);
                // At its very instant the deadline has passed.
                let before = deadline.remaining(now).map_or(longest, |left| clock::nanos(left).saturating_sub(1));
                shared.join(tokens, nanos, longest.min(before))
            }
        };
        joined.map_err(|refusal| refusal.seen_at(nanos))
    }

    /// Whether it is this place's turn. Then the tokens have been taken and the place is gone; so it is after a refusal.
    /// If not, the waker is woken when it is, or earlier; at the instant that comes back it is to be asked again.
    pub(super) fn poll_place_at(&self, place: &Place, waker: &Waker, now: Instant) -> Turn {
        let nanos = self.shared.origin.nanos_to(now);
        match self.shared.poll_place(place, waker, nanos) {
            Ok(None) => Turn::Come,
            Ok(Some(due)) => match now.checked_add(Duration::from_nanos(due.saturating_sub(nanos))) {
                Some(instant) => Turn::NotBefore(instant),
                None => {
                    self.shared.leave(place, nanos);
                    Turn::Refused(Refusal::Until(due).seen_at(nanos))
                }
            },
            Err(refusal) => Turn::Refused(refusal.seen_at(nanos)),
        }
    }

    /// Gives up a place, with the tokens that were granted to it meanwhile.
    pub(super) fn leave_at(&self, place: &Place, now: Instant) {
        self.shared.leave(place, self.shared.origin.nanos_to(now));
    }
}

/// Where a place in line stands.
pub(super) enum Turn {
    Come,
    NotBefore(Instant),
    Refused(RateLimited),
}

impl Refusal {
    fn seen_at(self, nanos: u64) -> RateLimited {
        RateLimited::new(match self {
            Self::Until(due) => Some(Duration::from_nanos(due.saturating_sub(nanos))),
            Self::ForEver => None,
        })
    }
}

impl Shared {
    fn plan_of(&self, word: u64) -> &SharedPlan {
        &self.plans[(word >> GENERATION_SHIFT) as usize & 1]
    }

    /// Takes tokens, at least one. A first try, without what is seldom needed.
    #[inline]
    fn try_take(&self, tokens: u64, nanos: u64) -> Result<(), Refusal> {
        let word = self.word.0.load(Ordering::Acquire);
        match self.reckon(word, tokens, nanos) {
            Reckoned::Enough { after } => match self.replace_spent(word, after) {
                Ok(_) => Ok(()),
                Err(newer) => self.try_take_again(newer, tokens, nanos),
            },
            Reckoned::TooFew { after, anchor, scale } if self.is_current(word) => Err(too_few(after, anchor, &scale)),
            _ => self.try_take_again(word, tokens, nanos),
        }
    }

    /// The same from this word on, until it succeeds or there is no doubt.
    #[cold]
    fn try_take_again(&self, mut word: u64, tokens: u64, nanos: u64) -> Result<(), Refusal> {
        loop {
            let refusal = match self.reckon(word, tokens, nanos) {
                Reckoned::Slow => return self.try_take_slowly(tokens, nanos),
                Reckoned::Enough { after } => match self.replace_spent(word, after) {
                    Ok(_) => return Ok(()),
                    Err(newer) => {
                        word = newer;
                        continue;
                    }
                },
                Reckoned::TooFew { after, anchor, scale } => too_few(after, anchor, &scale),
                Reckoned::Never => Refusal::ForEver,
            };
            if self.is_current(word) {
                return Err(refusal);
            }
            word = self.word.0.load(Ordering::Acquire);
        }
    }

    /// What the plan that `word` names says of a call, if `word` still counts. A plan that is being overwritten is any
    /// numbers, so that all arithmetic wraps or saturates.
    #[inline]
    fn reckon(&self, word: u64, tokens: u64, nanos: u64) -> Reckoned {
        let (anchor, scale) = self.plan_of(word).load_rate();
        let since = nanos.saturating_sub(anchor);
        if word & SLOW != 0 || since >= HORIZON {
            return Reckoned::Slow;
        }
        let forfeited = scale.minted(since);
        let minted = scale.full.wrapping_add(forfeited);
        // More than fits is above the burst.
        let cost = tokens.saturating_mul(scale.parts_per_token);
        let after = (word & SPENT).max(forfeited).wrapping_add(cost);
        if cost > scale.full {
            Reckoned::Never
        } else if after > minted {
            Reckoned::TooFew { after, anchor, scale }
        } else {
            Reckoned::Enough { after }
        }
    }

    /// Whether the plan that `word` named still counts, and nobody waits. The loads of the plan were acquires: they came
    /// before this one.
    #[inline]
    fn is_current(&self, word: u64) -> bool {
        (self.word.0.load(Ordering::Acquire) ^ word) & (GENERATION | SLOW) == 0
    }

    #[inline]
    fn replace_spent(&self, word: u64, spent: u64) -> Result<u64, u64> {
        let newer = (word & !SPENT) | spent;
        self.word.0.compare_exchange(word, newer, Ordering::AcqRel, Ordering::Acquire)
    }

    /// The same, when the fast way is not open: the plan has to be moved on, or somebody waits.
    #[cold]
    fn try_take_slowly(&self, tokens: u64, nanos: u64) -> Result<(), Refusal> {
        self.slowly(nanos, |slow| match slow.line.is_empty() {
            true => self.take(tokens, nanos, slow),
            false => self.refuse_behind(tokens, nanos, slow),
        })
    }

    /// Does something with the lock held, after those who can be served were, and wakes them when it is released.
    fn slowly<T>(&self, nanos: u64, work: impl FnOnce(&mut Slow) -> T) -> T {
        self.slowly_for(None, nanos, work)
    }

    /// The same for a place that is about to be asked for.
    fn slowly_for<T>(&self, place: Option<&Place>, nanos: u64, work: impl FnOnce(&mut Slow) -> T) -> T {
        let mut slow = lock(&self.slow);
        if let Some(place) = place {
            slow.line.announce(place);
        }
        self.move_on(nanos);
        self.serve(nanos, &mut slow);
        let result = work(&mut slow);
        self.serve(nanos, &mut slow);
        let (woken, dropped) = slow.line.take_wakers();
        drop(slow);
        // A waker is another task's code: if it panics, that costs neither this call's result nor the others' wake-ups.
        for waker in woken {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        for waker in dropped {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
        }
        result
    }

    /// Makes a new plan count, and `convert`s what was spent by the old one. With the lock held.
    fn replace(&self, plan: &Plan, convert: impl Fn(u64) -> u64) {
        let mut word = self.word.0.load(Ordering::Acquire);
        let next = word.wrapping_add(1 << GENERATION_SHIFT) & GENERATION;
        self.plan_of(next).store(plan);
        loop {
            let newer = (word & SLOW) | next | convert(word & SPENT).min(SPENT);
            // A release, for whoever reads the plan that it names; an acquire, so that no part of the next plan but one is
            // stored before.
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Moves the anchor of a plan that was reached long ago. With the lock held, as all below.
    fn move_on(&self, nanos: u64) {
        let plan = self.plan();
        let (moved, fewer) = plan.moved_on_to(nanos);
        if moved.anchor != plan.anchor {
            self.replace(&moved, |spent| spent.saturating_sub(fewer));
        }
    }

    /// The plan that counts.
    fn plan(&self) -> Plan {
        self.plan_of(self.word.0.load(Ordering::Acquire)).load()
    }

    /// Takes tokens that are there.
    fn take(&self, tokens: u64, nanos: u64, slow: &mut Slow) -> Result<(), Refusal> {
        if tokens > slow.quota.burst() {
            return Err(Refusal::ForEver);
        }
        self.warm_up(nanos, slow);
        let plan = self.plan();
        let minted = plan.minted(nanos);
        self.update(|spent| {
            let after = spent.max(minted - plan.scale.full) + tokens * plan.scale.parts_per_token;
            if after > minted { Err(Refusal::Until(plan.due(after))) } else { Ok(after) }
        })?;
        self.note_use(slow);
        Ok(())
    }

    /// Changes what was spent, and nothing else.
    fn update(&self, mut change: impl FnMut(u64) -> Result<u64, Refusal>) -> Result<(), Refusal> {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let newer = (word & !SPENT) | change(word & SPENT)?.min(SPENT);
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(newer) => word = newer,
            }
        }
    }

    /// Lets a bucket that was full for as long as it takes to warm up begin anew, cold: with one token.
    fn warm_up(&self, nanos: u64, slow: &mut Slow) {
        if slow.third > 0 && nanos >= slow.cold_at {
            let cold = self.plan().warming_up(nanos, slow.third);
            self.replace(&cold, |_| cold.scale.full - cold.scale.parts_per_token);
            self.note_use(slow);
        }
    }

    /// Reckons anew when the bucket gets cold: what it has spent, or how fast it fills, has changed.
    fn note_use(&self, slow: &mut Slow) {
        if slow.third > 0 {
            let spent = self.word.0.load(Ordering::Acquire) & SPENT;
            slow.cold_at = self.plan().cold_after(spent, slow.third);
        }
    }

    /// When so many tokens will have been minted beyond those that were spent.
    fn due_after(&self, tokens: u64, nanos: u64) -> u64 {
        let plan = self.plan();
        let forfeited = plan.minted(nanos) - plan.scale.full;
        let spent = (self.word.0.load(Ordering::Acquire) & SPENT).max(forfeited);
        plan.due(spent.saturating_add(tokens.saturating_mul(plan.scale.parts_per_token)))
    }

    /// The same for somebody behind all who wait.
    fn due_behind(&self, tokens: u64, nanos: u64, slow: &Slow) -> u64 {
        self.due_after(slow.line.tokens().saturating_add(tokens), nanos)
    }

    fn refuse_behind(&self, tokens: u64, nanos: u64, slow: &Slow) -> Result<(), Refusal> {
        if tokens > slow.quota.burst() {
            return Err(Refusal::ForEver);
        }
        Err(Refusal::Until(self.due_behind(tokens, nanos, slow)))
    }

    fn join(&self, tokens: u64, nanos: u64, longest: u64) -> Result<Option<Place>, Refusal> {
        // From here on nobody overtakes: what others take they take under the lock.
        self.slowly(nanos, |slow| {
            self.word.0.fetch_or(SLOW, Ordering::AcqRel);
            if slow.line.is_empty() {
                match self.take(tokens, nanos, slow) {
                    Ok(()) => return Ok(None),
                    Err(Refusal::ForEver) => return Err(Refusal::ForEver),
                    Err(Refusal::Until(_)) => {}
                }
            }
            if tokens > slow.quota.burst() {
                return Err(Refusal::ForEver);
            }
            let due = self.due_behind(tokens, nanos, slow);
            if due.saturating_sub(nanos) > longest {
                return Err(Refusal::Until(due));
            }
            Ok(Some(slow.line.join(tokens, due)))
        })
    }

    /// Grants tokens to those whose turn it is, and opens the fast way where nobody is left to wait.
    fn serve(&self, nanos: u64, slow: &mut Slow) {
        while let Some(tokens) = slow.line.first() {
            match self.take(tokens, nanos, slow) {
                Ok(()) => slow.line.grant(),
                Err(Refusal::ForEver) => slow.line.refuse(),
                Err(Refusal::Until(due)) => {
                    slow.line.expect(due);
                    return;
                }
            }
        }
        if slow.third == 0 {
            self.word.0.fetch_and(!SLOW, Ordering::AcqRel);
        }
    }

    /// `None` where the tokens have been granted, or else when to ask again.
    fn poll_place(&self, place: &Place, waker: &Waker, nanos: u64) -> Result<Option<u64>, Refusal> {
        self.slowly_for(Some(place), nanos, |slow| match slow.line.poll(place, waker, nanos) {
            Standing::Granted => Ok(None),
            Standing::Refused => Err(Refusal::ForEver),
            Standing::Expected(due) => Ok(Some(due)),
            Standing::Behind { tokens } => {
                let due = self.due_after(tokens, nanos);
                slow.line.expect_at(place, due);
                Ok(Some(due))
            }
        })
    }

    fn leave(&self, place: &Place, nanos: u64) {
        self.slowly(nanos, |slow| {
            if let Some(tokens) = slow.line.leave(place) {
                self.give_back(tokens);
            }
        });
    }

    /// Whether somebody may wait for what is given back. Whoever begins to later finds it there: the one word says both.
    fn give_back(&self, tokens: u64) -> bool {
        let mut word = self.word.0.load(Ordering::Acquire);
        loop {
            let parts = tokens.saturating_mul(self.plan_of(word).load().scale.parts_per_token);
            let newer = (word & !SPENT) | (word & SPENT).saturating_sub(parts);
            match self.word.0.compare_exchange_weak(word, newer, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return word & SLOW != 0,
                Err(newer) => word = newer,
            }
        }
    }

    fn owe(&self, tokens: u64, nanos: u64) {
        self.slowly(nanos, |slow| {
            let plan = self.plan();
            let minted = plan.minted(nanos);
            let cost = tokens.saturating_mul(plan.scale.parts_per_token);
            let owed = |spent: u64| {
                let spent = spent.max(minted - plan.scale.full);
                Ok(spent.saturating_add(cost).min(minted + plan.scale.full).max(spent))
            };
            // It never refuses.
            let _ = self.update(owed);
            self.note_use(slow);
        });
    }

    fn change_quota(&self, quota: Quota, nanos: u64) {
        self.slowly(nanos, |slow| {
            if quota == slow.quota {
                return;
            }
            // Cold it stays: the next call begins to warm it up.
            let is_cold = slow.third > 0 && nanos >= slow.cold_at;
            slow.quota = quota;
            slow.line.refuse_above(quota.burst());
            let old = self.plan();
            let minted = old.minted(nanos);
            let rate = Plan::new(quota, nanos);
            // Also for a clock that another change has overtaken: it begins where that did, and mints nothing twice.
            let new = if nanos < old.warm() { rate.warming_up(old.start(), old.third) } else { rate };
            let new_minted = new.minted(nanos);
            self.replace(&new, |spent| match minted.checked_sub(spent) {
                Some(left) => new_minted - old.convert(left.min(old.scale.full), &new).min(new.scale.full),
                // Spent by a thread with a later clock, or owed. A part of a debt is a whole one, lest it be forgiven.
                None => new_minted + old.convert_up(spent - minted, &new).min(new.scale.full),
            });
            if !is_cold {
                self.note_use(slow);
            }
        });
    }

    /// Looks and changes nothing: whoever asks about another time than now moves neither the anchor nor the line.
    fn available(&self, nanos: u64) -> u64 {
        let slow = lock(&self.slow);
        if slow.third > 0 && nanos >= slow.cold_at {
            return 1;
        }
        let spent = self.word.0.load(Ordering::Acquire) & SPENT;
        let (plan, fewer) = self.plan().moved_on_to(nanos);
        let unspent = plan.minted(nanos).saturating_sub(spent.saturating_sub(fewer));
        (unspent / plan.scale.parts_per_token.max(1)).min(plan.burst)
    }
}

/// There will be enough once so many parts have been minted.
#[inline]
fn too_few(after: u64, anchor: u64, scale: &Scale<FRACTION>) -> Refusal {
    Refusal::Until(anchor.saturating_add(scale.nanos_to_mint(after.saturating_sub(scale.full))))
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenBucket").field("quota", &self.quota()).finish_non_exhaustive()
    }
}

/// Configures a [`TokenBucket`].
#[derive(Clone, Debug)]
#[must_use]
pub struct TokenBucketBuilder {
    quota: Quota,
    warm_up: Duration,
    max_wait: Option<Duration>,
}

impl TokenBucketBuilder {
    /// The most tokens that are saved up, and so the most that one call may cost.
    ///
    /// Default: the count, so that whoever was quiet for a period may use a period's worth at once.
    pub fn burst(self, burst: u64) -> Self {
        Self { quota: self.quota.with_burst(burst), ..self }
    }

    /// For so long the rate grows, evenly, from a third to the whole: when the bucket is new, and whenever it was left full
    /// for as long. Such a bucket is cold and holds one token. For what stands behind it: a cache that is empty, a pool
    /// that has to be filled.
    ///
    /// The shape is that of Guava's `SmoothWarmingUp`. Default: none. A bucket with a warm-up takes its lock with each call.
    pub fn warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up, ..self }
    }

    /// The longest that [`acquire`](TokenBucket::acquire) waits, and so also how many can wait: no more than are minted in
    /// that time.
    ///
    /// Default: a second, for which whoever waits for an answer may not notice it; who would wait longer had better be
    /// refused, and come back.
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait: Some(max_wait), ..self }
    }

    /// The bucket, full; or cold, if it has a warm-up.
    ///
    /// # Errors
    ///
    /// The count must be from 1 to one per nanosecond; the period longer than zero and at most 366 days; the burst at
    /// least 1, at most 2^55, and such that it fills within a hundred years; the warm-up at most ten minutes; the longest
    /// wait at most 366 days.
    pub fn build(self) -> Result<TokenBucket, ConfigError> {
        let Self { quota, warm_up, max_wait } = self;
        quota.check()?;
        if warm_up > LONGEST_WARM_UP {
            return Err(ConfigError::new("rate_limit.warm_up", warm_up, "must be at most ten minutes"));
        }
        let max_wait = max_wait.unwrap_or(Duration::from_secs(1));
        if max_wait > crate::error::LONGEST {
            return Err(ConfigError::new("rate_limit.max_wait", max_wait, "must be at most 366 days"));
        }
        let third = third_of(warm_up);
        let plan = if third > 0 { Plan::new(quota, 0).warming_up(0, third) } else { Plan::new(quota, 0) };
        let word = if third > 0 { SLOW | (plan.scale.full - plan.scale.parts_per_token) } else { 0 };
        Ok(TokenBucket {
            shared: Arc::new(Shared {
                word: Word(AtomicU64::new(word)),
                plans: [SharedPlan::new(&plan), SharedPlan::new(&plan)],
                origin: Origin::at(Instant::now()),
                max_wait,
                slow: Mutex::new(Slow {
                    quota,
                    third,
                    cold_at: plan.cold_after(word & SPENT, third),
                    line: Line::default(),
                }),
            }),
        })
    }
}
