//! Compares the token bucket with an exact bucket under all events: waiters that join and leave, reservations, refunds,
//! debts, changes of the quota, and a clock that stands still, jumps, or is behind for some calls.

use crate::support::{
    ByHand,
    quotas::{YEAR, any_bucket, leeway_nanos, of_any_size},
};
use proptest::prelude::*;
use std::{cmp::Ordering, task::Poll, time::Duration};
use steadfast::rate_limit::{Acquire, Quota, Reservation, TokenBucket};
use tokio::{
    runtime,
    task::yield_now,
    time::{Instant, advance},
};

/// The nanoseconds after which a bucket moves its anchor, the instant from which it counts minted tokens.
const HORIZON: i128 = 1 << 40;

/// A token in the unit of the exact bucket, which is 2^-64 of a token.
const TOKEN: i128 = 1 << 64;

/// Which bound of the tested bucket an exact bucket is. It rounds in this direction: by 2^-64 of a token when it mints,
/// and by the [`leeway`] of both quotas when the quota changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// No call may get more than this.
    Most,
    /// No call may be refused this.
    Least,
}

/// An exact bucket whose quota can change.
#[derive(Clone, Debug)]
struct Exact {
    bound: Bound,
    quota: Quota,
    /// The contents at the instant `at`. Only refunds raise them above a burst, and the next call forfeits the excess.
    level: i128,
    at: i128,
}

impl Exact {
    fn new(bound: Bound, quota: Quota) -> Self {
        Self { bound, quota, level: i128::from(quota.burst()) * TOKEN, at: 0 }
    }

    fn full(&self) -> i128 {
        i128::from(self.quota.burst()) * TOKEN
    }

    fn minted(&self, nanos: i128) -> i128 {
        let period = self.quota.period().as_nanos() as i128;
        let product = i128::from(self.quota.count()) * nanos;
        let tokens = product.div_euclid(period).min(1 << 61);
        let fraction = product.rem_euclid(period) * TOKEN;
        let round_up = if self.bound == Bound::Most { period - 1 } else { 0 };
        tokens * TOKEN + (fraction + round_up) / period
    }

    fn at(&self, nanos: i128) -> i128 {
        (self.level + self.minted(nanos - self.at)).min(self.full())
    }

    fn has(&self, tokens: u64, nanos: i128) -> bool {
        self.at(nanos) >= i128::from(tokens) * TOKEN
    }

    /// Whether the contents at `nanos`, plus the tokens minted during a `wait`, are at least this many tokens. The
    /// burst does not limit the sum.
    fn has_after(&self, tokens: i128, nanos: i128, wait: i128) -> bool {
        self.at(nanos) + self.minted(wait) >= tokens * TOKEN
    }

    fn set(&mut self, level: i128, nanos: i128) {
        self.level = if nanos >= self.at { level } else { level + self.minted(self.at - nanos) };
        self.at = self.at.max(nanos);
    }

    fn take(&mut self, tokens: u64, nanos: i128) {
        self.set(self.at(nanos) - i128::from(tokens) * TOKEN, nanos);
    }

    /// Debts are at most a burst.
    fn owe(&mut self, tokens: u64, nanos: i128) {
        let level = self.at(nanos);
        self.set((level - i128::from(tokens) * TOKEN).max((-self.full()).min(level)), nanos);
    }

    fn refund(&mut self, tokens: u64) {
        self.level += i128::from(tokens) * TOKEN;
    }

    /// Converts the level to another quota. The tested bucket counts in subtokens, fractions of a token whose size
    /// depends on the quota. The rounding errors of both quotas carry over with the level.
    fn change(&mut self, quota: Quota, nanos: i128) {
        let level = self.at(nanos);
        let before = self.minted(leeway(self.quota));
        self.quota = quota;
        let after = self.minted(1 + leeway(quota));
        self.level = match self.bound {
            Bound::Most => level + before,
            Bound::Least => level - before - after,
        };
        self.level = self.level.clamp(-self.full(), self.full());
        self.at = nanos;
    }
}

/// Returns by how many nanoseconds a bucket of this quota may admit too early or too late.
fn leeway(quota: Quota) -> i128 {
    leeway_nanos(quota.count(), quota.period(), quota.burst()).into()
}

/// The admissions and the quotas of a trial, in order.
struct Log {
    /// The time and the tokens of each admission. A refund has a negative number of tokens.
    calls: Vec<(i128, i128)>,
    /// Each quota, with the time from which it was in force.
    quotas: Vec<(i128, Quota)>,
}

impl Log {
    /// The tokens that the quotas minted between two instants, in units of 2^-64 of a token.
    fn minted(&self, from: i128, to: i128) -> i128 {
        let ends = self.quotas[1..].iter().map(|(start, _)| *start).chain([i128::MAX]);
        let spans = self.quotas.iter().zip(ends).map(|((start, quota), end)| {
            let length = (to.min(end) - from.max(*start)).max(0);
            // In each quota, a token may come too early by this much.
            let early = if length > 0 { leeway(*quota) + 1 } else { 0 };
            Exact::new(Bound::Most, *quota).minted(length + early)
        });
        spans.sum()
    }

    /// The largest burst in force at an instant. At the instant of a change, two quotas are in force.
    fn burst_at(&self, nanos: i128) -> i128 {
        let ends = self.quotas[1..].iter().map(|(start, _)| *start).chain([i128::MAX]);
        let in_force = self.quotas.iter().zip(ends).filter(|((start, _), end)| *start <= nanos && nanos <= *end);
        in_force.map(|((_, quota), _)| i128::from(quota.burst())).max().unwrap()
    }

    /// Checks that no interval admits more tokens than a burst plus the tokens minted in it.
    fn keeps_to_the_quotas(&self) -> Result<(), String> {
        for (first, (start, _)) in self.calls.iter().enumerate() {
            let (mut earliest, mut latest, mut tokens) = (*start, *start, 0);
            for (at, more) in &self.calls[first..] {
                tokens += more;
                (earliest, latest) = (earliest.min(*at), latest.max(*at));
                if tokens * TOKEN > self.burst_at(earliest) * TOKEN + self.minted(earliest, latest) {
                    return Err(format!("{tokens} tokens from {earliest} ns to {latest} ns"));
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Cost {
    One,
    /// This many 256ths of a burst.
    Share(u64),
    TooMuch,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Takes tokens by a clock that is this many nanoseconds behind.
    TryAcquire(Cost, i64),
    Owe(Cost),
    Reserve(Cost),
    /// Commits a reservation, or drops it.
    EndReservation(bool),
    RefundTheLatest,
    Join(Cost),
    /// Polls a waiter, whether it was woken or not.
    Poll(usize),
    PollAllWhoWereWoken,
    /// Drops a waiter, which may have been served without a poll since.
    Leave(usize),
    SetQuota(Quota),
    /// Multiplies the count by the first number of 16ths, and the burst by the second.
    Scale(u64, u64),
    Wait(u64),
    /// Moves the clock by this many 64ths of the time in which a token is minted.
    WaitForTokens(u64),
    WaitToFill,
    /// Moves the clock to a horizon after the anchor, plus this many nanoseconds. If that time is past, moves the clock
    /// by a horizon.
    WaitForTheHorizon(i64),
    WaitAYear,
    Close,
}

fn any_quota() -> impl Strategy<Value = Quota> {
    any_bucket().prop_map(|(count, period, burst)| Quota::new(count, period).with_burst(burst))
}

fn any_step() -> impl Strategy<Value = Step> {
    let cost = || prop_oneof![6 => Just(Cost::One), 6 => (1..=256u64).prop_map(Cost::Share), 1 => Just(Cost::TooMuch)];
    let behind = prop_oneof![2 => Just(0), 1 => of_any_size(10_000_000).prop_map(|nanos| nanos as i64)];
    prop_oneof![
        10 => (cost(), behind).prop_map(|(cost, behind)| Step::TryAcquire(cost, behind)),
        1 => cost().prop_map(Step::Owe),
        2 => cost().prop_map(Step::Reserve),
        2 => any::<bool>().prop_map(Step::EndReservation),
        2 => Just(Step::RefundTheLatest),
        10 => cost().prop_map(Step::Join),
        4 => (0..8usize).prop_map(Step::Poll),
        8 => Just(Step::PollAllWhoWereWoken),
        3 => (0..8usize).prop_map(Step::Leave),
        1 => any_quota().prop_map(Step::SetQuota),
        2 => (1..64u64, 1..64u64).prop_map(|(rate, burst)| Step::Scale(rate, burst)),
        2 => of_any_size(10_000_000).prop_map(Step::Wait),
        10 => (1..400u64).prop_map(Step::WaitForTokens),
        2 => Just(Step::WaitForTokens(64)),
        1 => Just(Step::WaitToFill),
        1 => (-1000..1000i64).prop_map(Step::WaitForTheHorizon),
        1 => Just(Step::WaitAYear),
    ]
}

/// A call that joined the wait queue.
struct Waiter {
    acquire: ByHand<Acquire>,
    tokens: u64,
    /// How often it had been woken when it was last polled.
    wakes: usize,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Waits,
    Granted,
    Refused,
    Closed,
}

/// A token bucket, and the two exact buckets that bound it.
struct Trial {
    bucket: TokenBucket,
    most: Exact,
    least: Exact,
    quota: Quota,
    origin: Instant,
    max_wait: i128,
    is_closed: bool,
    /// When the quota last changed.
    started: i128,
    /// The latest time that the bucket has seen.
    seen: i128,
    /// All calls that joined and have not ended, in order.
    waiters: Vec<Waiter>,
    reservations: Vec<Reservation>,
    taken: Vec<u64>,
    log: Log,
}

type Verdict = Result<(), TestCaseError>;

impl Trial {
    fn new(quota: Quota, max_wait: Duration) -> Self {
        Self {
            bucket: TokenBucket::with_quota(quota).max_wait(max_wait).build().unwrap(),
            most: Exact::new(Bound::Most, quota),
            least: Exact::new(Bound::Least, quota),
            quota,
            origin: Instant::now(),
            max_wait: max_wait.as_nanos() as i128,
            is_closed: false,
            started: 0,
            seen: 0,
            waiters: Vec::new(),
            reservations: Vec::new(),
            taken: Vec::new(),
            log: Log { calls: Vec::new(), quotas: vec![(0, quota)] },
        }
    }

    fn now(&self) -> i128 {
        (Instant::now() - self.origin).as_nanos() as i128
    }

    /// Notes that the bucket has seen an instant. Returns the time that the bucket uses for it: that of the anchor, if
    /// the instant is before the anchor.
    fn see(&mut self, nanos: i128) -> i128 {
        self.seen = self.seen.max(nanos);
        self.counts_as(nanos)
    }

    /// Returns the time that the bucket uses for an instant, as `see` does, for a call that changes nothing.
    fn counts_as(&self, nanos: i128) -> i128 {
        nanos.max(self.started + (self.seen - self.started) / HORIZON * HORIZON)
    }

    fn tokens(&self, cost: Cost) -> u64 {
        let burst = self.quota.burst();
        match cost {
            Cost::One => 1,
            Cost::Share(share) => (u128::from(burst) * u128::from(share)).div_ceil(256) as u64,
            Cost::TooMuch => burst + 1,
        }
    }

    fn in_line(&self) -> i128 {
        self.waiters
            .iter()
            .filter(|waiter| waiter.standing == Standing::Waits)
            .map(|waiter| i128::from(waiter.tokens))
            .sum()
    }

    fn admitted(&mut self, tokens: u64, nanos: i128) -> Verdict {
        let latest = nanos + leeway(self.quota);
        prop_assert!(self.most.has(tokens, latest), "{} of {:?} too many at {}", tokens, self.most, nanos);
        self.most.take(tokens, nanos);
        self.least.take(tokens, nanos);
        self.log.calls.push((nanos, tokens.into()));
        Ok(())
    }

    fn refunded(&mut self, tokens: u64) {
        self.most.refund(tokens);
        self.least.refund(tokens);
        let nanos = self.now();
        self.log.calls.push((nanos, -i128::from(tokens)));
    }

    /// The bucket has taken its lock at `nanos`. Checks that the waiters whose turn it was were served in order and
    /// woken. The waiter that was `polled` needs no wake-up.
    fn served(&mut self, nanos: i128, polled: Option<usize>) -> Verdict {
        let waiting = self.waiters.iter().filter(|waiter| waiter.standing == Standing::Waits).count();
        for _ in self.bucket.waiting()..waiting {
            let first = self.waiters.iter().position(|waiter| waiter.standing == Standing::Waits).unwrap();
            self.admitted(self.waiters[first].tokens, nanos)?;
            let waiter = &mut self.waiters[first];
            waiter.standing = Standing::Granted;
            prop_assert!(
                polled == Some(first) || waiter.acquire.wakes() > waiter.wakes,
                "number {} was not woken",
                first
            );
        }
        if let Some(first) = self.waiters.iter().find(|waiter| waiter.standing == Standing::Waits) {
            prop_assert!(!self.least.has(first.tokens, nanos), "{} are not served by {:?}", first.tokens, self.least);
        }
        Ok(())
    }

    /// Checks that a refusal says when there will be enough tokens behind all waiters.
    fn refused(&self, tokens: u64, retry_after: Option<Duration>, asked: i128, nanos: i128) -> Verdict {
        if tokens > self.quota.burst() {
            prop_assert_eq!(retry_after, None);
            return Ok(());
        }
        // `retry_after` counts from `asked`. This wait counts from `nanos`, which is not earlier.
        let wait = retry_after.unwrap().as_nanos() as i128 - (nanos - asked);
        let all = self.in_line() + i128::from(tokens);
        // The contents may be off by the leeway of a burst. The wait may be off by as much for each burst that is
        // minted during the wait.
        let bursts = all / i128::from(self.quota.burst());
        let leeway = leeway(self.quota) * (2 + bursts) + (wait >> 50);
        prop_assert!(self.most.has_after(all, nanos, wait + leeway), "{} of {:?} early by {}", all, self.most, wait);
        let early = wait - 1 - 2 * leeway;
        prop_assert!(
            early < 0 || !self.least.has_after(all, nanos, early),
            "{} of {:?} late by {}",
            all,
            self.least,
            wait
        );
        Ok(())
    }

    fn try_acquire(&mut self, tokens: u64, behind: i64, owe: bool) -> Result<bool, TestCaseError> {
        let asked = (self.now() - i128::from(behind)).max(0);
        let instant = self.origin + Duration::from_nanos(asked as u64);
        let answer = match owe {
            true => self.bucket.try_acquire_or_owe_at(tokens, instant),
            false => self.bucket.try_acquire_at(tokens, instant),
        };
        if self.is_closed {
            // Nothing changes, and there is no debt.
            prop_assert!(answer.is_err_and(|refused| refused.is_closed()));
            return Ok(false);
        }
        let nanos = if answer.is_ok() || owe {
            let nanos = self.see(asked);
            // Before it admitted or refused this call, the bucket served the waiters whose turn had come.
            self.served(nanos, None)?;
            nanos
        } else {
            // A refusal changes nothing, and serves no waiter.
            self.counts_as(asked)
        };
        match &answer {
            Ok(()) => {
                prop_assert_eq!(self.in_line(), 0, "it has overtaken");
                self.admitted(tokens, nanos)?;
            }
            Err(refused) => {
                self.refused(tokens, refused.retry_after(), asked, nanos)?;
                prop_assert!(
                    self.in_line() > 0 || !self.least.has(tokens, nanos),
                    "{} of {:?} refused, though there",
                    tokens,
                    self.least
                );
                if owe {
                    self.most.owe(tokens, nanos);
                    self.least.owe(tokens, nanos);
                }
            }
        }
        Ok(answer.is_ok())
    }

    fn join(&mut self, tokens: u64) -> Verdict {
        let mut acquire = ByHand::new(self.bucket.acquire(tokens));
        let polled = acquire.poll();
        if self.is_closed {
            prop_assert!(matches!(polled, Poll::Ready(Err(refused)) if refused.is_closed()));
            return Ok(());
        }
        let now = self.now();
        if tokens > self.quota.burst() {
            let Poll::Ready(Err(refused)) = polled else { panic!("more than a burst") };
            return self.refused(tokens, refused.retry_after(), now, self.counts_as(now));
        }
        match polled {
            Poll::Ready(Ok(())) => {
                let nanos = self.see(now);
                self.served(nanos, None)?;
                prop_assert_eq!(self.in_line(), 0, "it has overtaken");
                self.admitted(tokens, nanos)?;
                self.taken.push(tokens);
            }
            Poll::Ready(Err(refused)) => {
                // A refusal changes nothing, and serves no waiter.
                self.refused(tokens, refused.retry_after(), now, self.counts_as(now))?;
                let wait = refused.retry_after().map_or(i128::MAX, |wait| wait.as_nanos() as i128);
                prop_assert!(wait > self.max_wait, "refused, for a wait of {}", wait);
            }
            Poll::Pending => {
                let nanos = self.see(now);
                // The new waiter joined behind the waiters that the bucket served first.
                let waiter = Waiter { acquire, tokens, wakes: 0, standing: Standing::Waits };
                self.waiters.push(waiter);
                self.served(nanos, None)?;
                let wait = self.max_wait + leeway(self.quota) + (self.max_wait >> 50);
                prop_assert!(self.most.has_after(self.in_line(), nanos, wait), "{} wait for too long", tokens);
            }
        }
        Ok(())
    }

    fn poll(&mut self, number: usize) -> Verdict {
        if self.waiters.is_empty() {
            return Ok(());
        }
        let number = number % self.waiters.len();
        let waiter = &mut self.waiters[number];
        let polled = waiter.acquire.poll();
        let wakes = waiter.acquire.wakes();
        let nanos = self.now();
        let nanos = self.see(nanos);
        self.served(nanos, Some(number))?;
        let waiter = &mut self.waiters[number];
        waiter.wakes = wakes;
        match (polled, waiter.standing) {
            (Poll::Pending, Standing::Waits) => return Ok(()),
            (Poll::Ready(Ok(())), Standing::Granted) => self.taken.push(waiter.tokens),
            (Poll::Ready(Err(refused)), Standing::Refused | Standing::Closed) => {
                prop_assert_eq!(refused.retry_after(), None);
                prop_assert_eq!(refused.is_closed(), waiter.standing == Standing::Closed);
            }
            (answer, expected) => prop_assert!(false, "{:?}, but expected {:?}", answer, expected),
        }
        self.waiters.remove(number);
        Ok(())
    }

    /// Makes the bucket serve the waiters that are due.
    fn touch(&mut self) -> Verdict {
        self.bucket.set_quota(self.quota).unwrap();
        let nanos = self.now();
        let nanos = self.see(nanos);
        self.served(nanos, None)
    }

    fn leave(&mut self, number: usize) -> Verdict {
        if self.waiters.is_empty() {
            return Ok(());
        }
        self.touch()?;
        let waiter = self.waiters.remove(number % self.waiters.len());
        if waiter.standing == Standing::Granted {
            self.refunded(waiter.tokens);
        }
        drop(waiter);
        let nanos = self.now();
        self.served(nanos.max(self.started), None)
    }

    /// Gives tokens back with `give`. The bucket then takes its lock, and serves waiters, only if calls wait or if it
    /// is closed.
    fn give_back(&mut self, tokens: u64, give: impl FnOnce(&mut Self)) -> Verdict {
        self.refunded(tokens);
        give(self);
        match self.in_line() {
            0 if !self.is_closed => Ok(()),
            _ => {
                let nanos = self.now();
                let nanos = self.see(nanos);
                self.served(nanos, None)
            }
        }
    }

    fn set_quota(&mut self, quota: Quota) -> Verdict {
        self.touch()?;
        let changed = self.bucket.set_quota(quota);
        if changed.is_err() || quota == self.quota {
            prop_assert_eq!(self.bucket.quota(), self.quota);
            return Ok(());
        }
        let nanos = self.now();
        self.quota = quota;
        self.most.change(quota, nanos);
        self.least.change(quota, nanos);
        (self.started, self.seen) = (nanos, nanos);
        self.log.quotas.push((nanos, quota));
        for waiter in &mut self.waiters {
            if waiter.standing == Standing::Waits && waiter.tokens > quota.burst() {
                waiter.standing = Standing::Refused;
                prop_assert!(waiter.acquire.wakes() > waiter.wakes, "it waits for tokens that cannot come");
            }
        }
        self.served(nanos, None)
    }

    /// Checks that the waiters that are due got their tokens, and the others were refused.
    fn close(&mut self) -> Verdict {
        self.touch()?;
        self.bucket.close();
        self.is_closed = true;
        for waiter in &mut self.waiters {
            if waiter.standing == Standing::Waits {
                waiter.standing = Standing::Closed;
                prop_assert!(waiter.acquire.wakes() > waiter.wakes, "it waits for a closed bucket");
            }
        }
        prop_assert_eq!((self.bucket.is_closed(), self.bucket.waiting()), (true, 0));
        Ok(())
    }

    async fn wait(&mut self, nanos: u128) -> Verdict {
        // Five years are long enough for any process.
        if self.now() < 5 * i128::from(YEAR) {
            advance(Duration::from_nanos(nanos.min(YEAR.into()) as u64)).await;
            yield_now().await;
        }
        // tokio's timers fire at whole milliseconds.
        let nanos = self.now() - 1_000_000 - leeway(self.quota);
        if let Some(first) = self.waiters.iter().find(|waiter| waiter.standing == Standing::Waits) {
            let due = nanos > self.least.at && self.least.has(first.tokens, nanos);
            prop_assert!(!due || first.acquire.wakes() > first.wakes, "nothing wakes the first one, by {}", nanos);
        }
        Ok(())
    }

    /// Checks that each waiter knows when its wait ends, and that reading changes nothing.
    fn check_due(&self) -> Verdict {
        let now = Instant::now();
        let mut up_to = 0;
        for waiter in &self.waiters {
            let due = waiter.acquire.future().due_at().unwrap();
            if waiter.standing != Standing::Waits {
                prop_assert_eq!(due, now);
                continue;
            }
            up_to += i128::from(waiter.tokens);
            let (nanos, wait) = (self.counts_as(self.now()), (due - now).as_nanos() as i128);
            let wait = wait - (nanos - self.now());
            let leeway = leeway(self.quota) * (2 + up_to / i128::from(self.quota.burst())) + (wait.max(0) >> 50);
            prop_assert!(
                self.most.has_after(up_to, nanos, wait + leeway),
                "{} of {:?} early by {}",
                up_to,
                self.most,
                wait
            );
            let early = wait - 1 - 2 * leeway;
            let is_late = early >= 0 && self.least.has_after(up_to, nanos, early);
            prop_assert!(!is_late, "{} of {:?} late by {}", up_to, self.least, wait);
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Verdict {
        let quota = self.quota;
        let period = quota.period().as_nanos();
        match step {
            Step::TryAcquire(cost, behind) => {
                let tokens = self.tokens(cost);
                if self.try_acquire(tokens, behind, false)? {
                    self.taken.push(tokens);
                }
                Ok(())
            }
            Step::Owe(cost) => self.try_acquire(self.tokens(cost), 0, true).map(|_| ()),
            Step::Reserve(cost) => {
                let tokens = self.tokens(cost);
                // `reserve` takes tokens as `try_acquire` does. So the trial checks a `try_acquire`, gives its tokens
                // back, and then reserves them.
                if self.try_acquire(tokens, 0, false)? {
                    self.bucket.refund(tokens);
                    self.reservations.push(self.bucket.reserve(tokens).unwrap());
                }
                Ok(())
            }
            Step::EndReservation(commit) => match self.reservations.pop() {
                Some(reservation) if commit => {
                    self.taken.push(reservation.tokens());
                    reservation.commit();
                    Ok(())
                }
                Some(reservation) => self.give_back(reservation.tokens(), |_| drop(reservation)),
                None => Ok(()),
            },
            Step::RefundTheLatest => match self.taken.pop() {
                Some(tokens) => self.give_back(tokens, |trial| trial.bucket.refund(tokens)),
                None => Ok(()),
            },
            Step::Join(cost) => self.join(self.tokens(cost)),
            Step::Poll(number) => self.poll(number),
            Step::PollAllWhoWereWoken => {
                while let Some(number) = self.waiters.iter().position(|waiter| waiter.acquire.wakes() > waiter.wakes) {
                    self.poll(number)?;
                }
                Ok(())
            }
            Step::Leave(number) => self.leave(number),
            Step::SetQuota(quota) => self.set_quota(quota),
            Step::Scale(rate, burst) => {
                let scaled = |number: u64, by: u64| (u128::from(number) * u128::from(by) / 16).clamp(1, 1 << 55) as u64;
                self.set_quota(
                    Quota::new(scaled(quota.count(), rate), quota.period()).with_burst(scaled(quota.burst(), burst)),
                )
            }
            Step::Wait(nanos) => self.wait(nanos.into()).await,
            Step::WaitForTokens(parts) => {
                self.wait((period * u128::from(parts)).div_ceil(64 * u128::from(quota.count()))).await
            }
            Step::WaitToFill => self.wait(period * u128::from(quota.burst()) / u128::from(quota.count())).await,
            Step::WaitForTheHorizon(more) => {
                let anchor = self.started + (self.seen - self.started) / HORIZON * HORIZON;
                match (anchor + HORIZON + i128::from(more) - self.now()).cmp(&0) {
                    Ordering::Greater => self.wait((anchor + HORIZON + i128::from(more) - self.now()) as u128).await,
                    _ => self.wait(HORIZON as u128).await,
                }
            }
            Step::WaitAYear => self.wait(YEAR.into()).await,
            Step::Close => self.close(),
        }
    }
}

/// Buckets of all sizes, mostly typical ones: up to thousands per second or hour, with small bursts.
fn any_start() -> impl Strategy<Value = Quota> {
    let usual = (1..5000u64, prop_oneof![Just(1), Just(60), Just(3600)], 1..50u64)
        .prop_map(|(count, secs, burst)| Quota::new(count, Duration::from_secs(secs)).with_burst(burst));
    prop_oneof![3 => usual, 1 => any_quota()]
}

proptest! {
    #![proptest_config(crate::support::cases(1500))]

    #[test]
    fn no_call_gets_unminted_tokens_and_no_call_waits_for_available_ones(
        quota in any_start(),
        max_wait in prop_oneof![1 => Just(0), 3 => of_any_size(YEAR), 6 => Just(YEAR)],
        steps in prop::collection::vec(any_step(), 1..60),
        after_the_close in prop::option::of(prop::collection::vec(any_step(), 1..20)),
    ) {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        clock.block_on(async {
            let mut trial = Trial::new(quota, Duration::from_nanos(max_wait));
            let close = after_the_close.map(|steps| [Step::Close].into_iter().chain(steps));
            for step in steps.into_iter().chain(close.into_iter().flatten()) {
                trial.step(step).await?;
                trial.check_due()?;
            }
            // The contents are at most the tokens minted less the tokens taken. Tokens that waiters will get are not
            // yet taken.
            let (nanos, there) = (trial.now().max(trial.seen), trial.bucket.available_at(Instant::now()));
            let is_minted = there == 0 || trial.most.has(there, nanos + leeway(trial.quota));
            prop_assert!(is_minted, "{} of {:?}", there, trial.most);
            prop_assert_eq!(trial.log.keeps_to_the_quotas(), Ok(()));
            Ok(())
        })?;
    }
}
