//! Models of the library's state machines. Loom runs each model under every interleaving of a few threads. A model that
//! would take too long bounds the number of interruptions.
//!
//! Run by `cargo test --release --manifest-path tests/loom/Cargo.toml`.

use loom::{
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};
use std::time::Duration;
use steadfast::{
    Random, Rejection,
    circuit_breaker::{Breaker, BreakerBuilder, BreakerState, Permit},
    error::RateLimited,
    load_level::{self, Queue},
    load_shed::Limiter,
    rate_limit::{Acquire, Keyed, OneTier, Overflow, Quota, SlidingWindow, TokenBucket},
    retry::{RetryBudget, RetryBudgetBuilder},
    stack::live::{BreakerConfig, Forced, LoadShedConfig, StackConfig},
};
use tokio::{runtime, time::Instant};
use tower::{Layer, Service};

mod fair;
mod shed;
mod most_open;
mod transitions;

const SECOND: Duration = Duration::from_secs(1);

/// Checks a body under all interleavings.
fn check(body: impl Fn() + Sync + Send + 'static) {
    check_with(Builder::new(), body);
}

/// Checks a body under all interleavings with at most this many interruptions (preemptions) of threads.
fn check_with_interruptions(interruptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(interruptions);
    check_with(builder, body);
}

fn check_with(builder: Builder, body: impl Fn() + Sync + Send + 'static) {
    // With a stopped clock, every run of a model sees the same time.
    let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _guard = clock.enter();
    builder.check(body);
}

/// Runs `body` in this many threads.
fn in_threads<T: 'static>(count: usize, body: impl Fn() -> T + Clone + 'static) -> Vec<T> {
    let threads: Vec<JoinHandle<T>> = (0..count).map(|_| thread::spawn(body.clone())).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Runs each function in its own thread.
fn both<A: 'static, B: 'static>(one: impl FnOnce() -> A + 'static, other: impl FnOnce() -> B + 'static) -> (A, B) {
    let (one, other) = (thread::spawn(one), thread::spawn(other));
    (one.join().unwrap(), other.join().unwrap())
}

fn count(answers: &[bool]) -> usize {
    answers.iter().filter(|answer| **answer).count()
}

mod token_bucket {
    use super::*;

    /// A token per second.
    fn bucket(burst: u64) -> TokenBucket {
        TokenBucket::builder(1, SECOND).burst(burst).build().unwrap()
    }

    /// Takes tokens in several threads at once. Returns the number of threads that got them.
    fn ask(threads: usize, bucket: &TokenBucket, tokens: u64, now: Instant) -> usize {
        let bucket = bucket.clone();
        count(&in_threads(threads, move || bucket.try_acquire_at(tokens, now).is_ok()))
    }

    #[test]
    fn three_threads_get_two_tokens_and_the_third_gets_none() {
        check(|| {
            let bucket = bucket(2);
            let now = Instant::now();
            assert_eq!(ask(3, &bucket, 1, now), 2);
            assert_eq!(bucket.available_at(now), 0);
        });
    }

    #[test]
    fn a_refusal_takes_nothing() {
        check(|| {
            let bucket = bucket(3);
            let now = Instant::now();
            assert_eq!(ask(2, &bucket, 2, now), 1);
            assert_eq!(bucket.available_at(now), 1);
        });
    }

    #[test]
    fn a_bucket_that_is_full_again_gives_its_burst_once() {
        check(|| {
            let bucket = bucket(2);
            let now = Instant::now();
            bucket.try_acquire_at(2, now).unwrap();
            let later = now + 3600 * SECOND;
            assert_eq!(ask(2, &bucket, 2, later), 1);
            assert_eq!(bucket.available_at(later), 0);
        });
    }

    #[test]
    fn threads_whose_clocks_differ_share_the_minted_tokens() {
        check(|| {
            let bucket = bucket(2);
            let now = Instant::now();
            bucket.try_acquire_at(2, now).unwrap();
            let (early, late) = (bucket.clone(), bucket.clone());
            let (early, late) = both(
                move || early.try_acquire_at(1, now + SECOND).is_ok(),
                move || late.try_acquire_at(1, now + 2 * SECOND).is_ok(),
            );
            assert!(late, "one of two tokens is left for the later call");
            let taken = 1 + u64::from(early);
            assert_eq!(bucket.available_at(now + 2 * SECOND), 2 - taken);
        });
    }

    #[test]
    fn exactly_one_call_gets_a_refunded_token() {
        check(|| {
            let bucket = bucket(1);
            let now = Instant::now();
            bucket.try_acquire_at(1, now).unwrap();
            let returning = bucket.clone();
            let refund = thread::spawn(move || returning.refund(1));
            let granted = ask(2, &bucket, 1, now);
            refund.join().unwrap();
            assert!(granted <= 1, "one token for two");
            assert_eq!(bucket.available_at(now), 1 - granted as u64);
        });
    }

    #[test]
    fn late_refunds_do_not_overfill_a_bucket() {
        check(|| {
            let bucket = bucket(2);
            let now = Instant::now();
            bucket.try_acquire_at(2, now).unwrap();
            let later = now + 3600 * SECOND;
            let (returning, asking) = (bucket.clone(), bucket.clone());
            let ((), granted) = both(move || returning.refund(1), move || asking.try_acquire_at(2, later).is_ok());
            assert!(granted, "it was full");
            assert!(bucket.available_at(later) <= 1, "forfeited tokens are not given back");
        });
    }

    /// A rate with another number of subtokens per token than one per second has. A bucket counts in subtokens, so a
    /// change to this rate converts its contents.
    fn another(burst: u64) -> Quota {
        Quota::new(3, 7 * SECOND).with_burst(burst)
    }

    #[test]
    fn two_threads_get_two_tokens_while_the_rate_is_changed() {
        check_with_interruptions(3, || {
            let bucket = bucket(2);
            let now = Instant::now();
            let changing = bucket.clone();
            let change = thread::spawn(move || changing.set_quota_at(another(3), now).unwrap());
            assert_eq!(ask(2, &bucket, 1, now), 2);
            change.join().unwrap();
            assert_eq!(bucket.available_at(now), 0);
        });
    }

    #[test]
    fn a_token_is_taken_once_while_the_rate_is_changed_and_changed_back() {
        check_with_interruptions(3, || {
            let bucket = bucket(1);
            let now = Instant::now();
            let (changing, asking) = (bucket.clone(), bucket.clone());
            let change = move || {
                // The bucket keeps two schedules. The second change overwrites the one that the first change replaced.
                changing.set_quota_at(another(1), now).unwrap();
                changing.set_quota_at(Quota::new(1, SECOND), now).unwrap();
            };
            let ((), answers) = both(change, move || [(); 2].map(|()| asking.try_acquire_at(1, now).is_ok()));
            assert_eq!(answers, [true, false]);
            assert_eq!(bucket.available_at(now), 0);
        });
    }

    #[test]
    fn a_refusal_while_the_rate_is_changed_twice_names_the_time_of_one_of_the_three() {
        check_with_interruptions(3, || {
            let bucket = bucket(1);
            let now = Instant::now();
            bucket.try_acquire_at(1, now).unwrap();
            let (changing, asking) = (bucket.clone(), bucket.clone());
            let ((), answer) = both(
                move || {
                    changing.set_quota_at(Quota::new(1, 60 * SECOND), now).unwrap();
                    changing.set_quota_at(Quota::new(1, 7 * SECOND), now + SECOND).unwrap();
                },
                move || asking.try_acquire_at(1, now).unwrap_err().retry_after(),
            );
            // After one second at a token per minute, the bucket has a 60th of a token. The rest of the token comes at
            // one per 7 s.
            let last = SECOND + 7 * SECOND * 59 / 60;
            let times = [SECOND, 60 * SECOND, last].map(|time| time.as_millis());
            assert!(times.contains(&answer.unwrap().as_millis()), "{answer:?}");
        });
    }

    #[test]
    fn a_token_refunded_while_the_rate_is_changed_is_one_token() {
        check_with_interruptions(3, || {
            let bucket = bucket(3);
            let now = Instant::now();
            bucket.try_acquire_at(3, now).unwrap();
            let (changing, returning) = (bucket.clone(), bucket.clone());
            both(move || changing.set_quota_at(another(2), now).unwrap(), move || returning.refund(1));
            assert_eq!(bucket.available_at(now), 1);
            let twenty_thirds = Duration::from_millis(6_667);
            assert_eq!(bucket.available_at(now + twenty_thirds), 2);
        });
    }

    #[test]
    fn rebasing_the_anchor_takes_nothing_and_loses_nothing() {
        check_with_interruptions(2, || {
            let bucket = bucket(3);
            let now = Instant::now();
            bucket.try_acquire_at(3, now).unwrap();
            // A bucket counts time from an anchor. More than 2^40 ns (18 minutes) later, the next call moves the
            // anchor.
            let later = now + 1200 * SECOND;
            assert_eq!(ask(3, &bucket, 1, later), 3);
            assert_eq!(bucket.available_at(later), 0);
            assert_eq!(bucket.available_at(later + SECOND), 1);
        });
    }

    #[test]
    fn a_clock_that_is_a_horizon_behind_shares_tokens_with_one_that_rebases() {
        check_with_interruptions(3, || {
            let bucket = bucket(2);
            let now = Instant::now();
            bucket.try_acquire_at(2, now).unwrap();
            let later = now + 1200 * SECOND;
            let (behind, ahead) = (bucket.clone(), bucket.clone());
            let (behind, ahead) = both(
                move || behind.try_acquire_at(2, now + 2 * SECOND).is_ok(),
                move || ahead.try_acquire_at(2, later).is_ok(),
            );
            // Before the anchor moves, each call finds two tokens, by its own clock. After that, both calls find the
            // same two.
            assert!(ahead || behind);
            let taken = if ahead { 2 } else { 0 };
            assert_eq!(bucket.available_at(later), 2 - taken);
        });
    }
}

mod wait_queue {
    use super::*;
    use std::{
        pin::Pin,
        sync,
        task::{Context, Poll, Wake, Waker},
    };

    /// A waiter of a bucket. It counts its wake-ups.
    pub struct Waiter {
        acquire: Pin<Box<Acquire>>,
        wakes: sync::Arc<Wakes>,
    }

    #[derive(Default)]
    pub struct Wakes(sync::atomic::AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: sync::Arc<Self>) {
            self.0.fetch_add(1, sync::atomic::Ordering::SeqCst);
        }
    }

    impl Waiter {
        pub fn of(bucket: &TokenBucket) -> Self {
            Self { acquire: Box::pin(bucket.acquire(1)), wakes: sync::Arc::default() }
        }

        /// Makes a waiter that has joined the wait queue.
        pub fn queued(bucket: &TokenBucket) -> Self {
            let mut waiter = Self::of(bucket);
            assert!(!waiter.is_served());
            waiter
        }

        fn is_served(&mut self) -> bool {
            match self.poll() {
                Poll::Ready(answer) => {
                    answer.unwrap();
                    true
                }
                Poll::Pending => false,
            }
        }

        pub fn poll(&mut self) -> Poll<Result<(), RateLimited>> {
            let waker = Waker::from(self.wakes.clone());
            self.acquire.as_mut().poll(&mut Context::from_waker(&waker))
        }

        /// Returns whether it was admitted, at once or after its wake-up. Otherwise it was refused as closed.
        pub fn is_admitted_or_closed(&mut self, at_once: Poll<Result<(), RateLimited>>) -> bool {
            let answer = match at_once {
                Poll::Pending => {
                    assert!(self.was_woken(), "it waits forever");
                    self.poll()
                }
                answer => answer,
            };
            let Poll::Ready(answer) = answer else { panic!("woken in vain") };
            assert!(answer.as_ref().is_ok() || answer.as_ref().is_err_and(RateLimited::is_closed));
            answer.is_ok()
        }

        fn was_woken(&self) -> bool {
            self.wakes.0.load(sync::atomic::Ordering::SeqCst) > 0
        }
    }

    /// An empty bucket that lets calls wait.
    pub fn empty() -> TokenBucket {
        let bucket = TokenBucket::builder(1, SECOND).burst(2).max_wait(3600 * SECOND).build().unwrap();
        bucket.try_acquire(2).unwrap();
        bucket
    }

    #[test]
    fn a_waiter_that_gives_up_while_it_is_served_leaves_the_token_to_the_next() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let (first, mut second) = (Waiter::queued(&bucket), Waiter::queued(&bucket));
            let returning = bucket.clone();
            both(move || returning.refund(1), move || drop(first));
            assert!(second.was_woken() && second.is_served());
            assert_eq!((bucket.waiting(), bucket.available_at(Instant::now())), (0, 0));
        });
    }

    #[test]
    fn a_waiter_that_gives_up_after_a_poll_leaves_the_token_to_the_next() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let (mut first, mut second) = (Waiter::queued(&bucket), Waiter::queued(&bucket));
            let returning = bucket.clone();
            let ((), served) = both(
                move || returning.refund(1),
                move || {
                    let served = first.is_served();
                    drop(first);
                    served
                },
            );
            assert_eq!(second.is_served(), !served);
            assert!(second.was_woken(), "it moved up, whether the token was taken or not");
        });
    }

    #[test]
    fn no_call_overtakes_a_waiter() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let mut waiter = Waiter::queued(&bucket);
            let (returning, asking) = (bucket.clone(), bucket.clone());
            let now = Instant::now();
            let ((), overtook) = both(move || returning.refund(1), move || asking.try_acquire_at(1, now).is_ok());
            assert!(!overtook);
            assert!(waiter.was_woken() && waiter.is_served());
        });
    }

    #[test]
    fn either_a_waiter_or_try_acquire_gets_the_token() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let now = Instant::now();
            let (returning, asking, mut waiter) = (bucket.clone(), bucket.clone(), Waiter::of(&bucket));
            let refund = thread::spawn(move || returning.refund(1));
            let (taken, (at_once, mut waiter)) =
                both(move || asking.try_acquire_at(1, now).is_ok(), move || (waiter.is_served(), waiter));
            refund.join().unwrap();
            if at_once {
                assert!(!taken);
            } else {
                // The refund wakes it, unless the other call took the token.
                assert_eq!(waiter.was_woken(), !taken);
                assert_eq!(waiter.is_served(), !taken);
            }
            assert_eq!(bucket.available_at(now), 0);
        });
    }

    #[test]
    fn a_waiter_that_joins_while_the_last_one_leaves_is_served() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let leaving = Waiter::queued(&bucket);
            let mut joining = Waiter::of(&bucket);
            let ((), mut joined) = both(
                move || drop(leaving),
                move || {
                    assert!(!joining.is_served());
                    joining
                },
            );
            let now = Instant::now();
            assert!(bucket.try_acquire_at(1, now).is_err());
            bucket.refund(1);
            assert!(bucket.try_acquire_at(1, now).is_err(), "it belongs to the waiter");
            assert!(joined.was_woken() && joined.is_served());
        });
    }

    #[test]
    fn two_waiters_polled_while_two_tokens_come_are_both_served() {
        check_with_interruptions(2, || {
            let bucket = empty();
            let (first, second) = (Waiter::queued(&bucket), Waiter::queued(&bucket));
            let ask = |mut waiter: Waiter| move || (waiter.is_served(), waiter);
            let returning = bucket.clone();
            let refund = thread::spawn(move || returning.refund(2));
            let ((first_served, mut first), (second_served, mut second)) = both(ask(first), ask(second));
            refund.join().unwrap();
            assert!(first_served || (first.was_woken() && first.is_served()));
            assert!(second_served || (second.was_woken() && second.is_served()));
            assert_eq!(bucket.available_at(Instant::now()), 0);
        });
    }

    #[test]
    fn a_waiter_that_joins_while_the_rate_rises_is_served_at_the_new_rate() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let now = Instant::now();
            let (changing, mut waiter) = (bucket.clone(), Waiter::of(&bucket));
            let ((), mut waiter) = both(
                move || changing.set_quota_at(Quota::new(1000, SECOND), now).unwrap(),
                move || {
                    assert!(!waiter.is_served());
                    waiter
                },
            );
            // A call two milliseconds later serves the waiter with the first token, and takes the second.
            assert!(bucket.try_acquire_at(1, now + Duration::from_millis(2)).is_ok());
            assert!(waiter.was_woken() && waiter.is_served());
            assert!(bucket.try_acquire_at(1, now + Duration::from_millis(2)).is_err());
        });
    }
}

mod closing_bucket {
    use super::{
        wait_queue::{Waiter, empty},
        *,
    };

    /// Checks that a closed bucket refuses, and has `left` tokens.
    fn assert_closed(bucket: &TokenBucket, left: u64) {
        let now = Instant::now();
        assert!(bucket.is_closed() && bucket.try_acquire_at(1, now).unwrap_err().is_closed());
        assert_eq!((bucket.waiting(), bucket.available_at(now)), (0, left));
    }

    #[test]
    fn two_waiters_get_their_answers_and_no_token_is_lost_while_a_token_comes_and_the_bucket_closes() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let mut waiting = [Waiter::queued(&bucket), Waiter::queued(&bucket)];
            let (returning, closing) = (bucket.clone(), bucket.clone());
            both(move || returning.refund(1), move || closing.close());
            let [first, second] =
                waiting.each_mut().map(|waiter| waiter.is_admitted_or_closed(std::task::Poll::Pending));
            assert!(!second, "one token, for the first one");
            assert_closed(&bucket, u64::from(!first));
        });
    }

    #[test]
    fn a_waiter_that_joins_while_the_bucket_closes_is_refused_at_once_or_woken() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let (mut joining, closing) = (Waiter::of(&bucket), bucket.clone());
            let ((answer, mut joined), ()) = both(
                move || {
                    let answer = joining.poll();
                    (answer, joining)
                },
                move || closing.close(),
            );
            assert!(!joined.is_admitted_or_closed(answer));
            assert_closed(&bucket, 0);
        });
    }

    #[test]
    fn a_waiter_that_gives_up_while_the_bucket_closes_gives_back_its_token() {
        check_with_interruptions(3, || {
            let bucket = empty();
            let waiter = Waiter::queued(&bucket);
            let (returning, closing) = (bucket.clone(), bucket.clone());
            let refund = thread::spawn(move || returning.refund(1));
            both(move || drop(waiter), move || closing.close());
            refund.join().unwrap();
            assert_closed(&bucket, 1);
        });
    }

    #[test]
    fn no_call_is_admitted_without_the_lock_once_the_bucket_is_closed() {
        check(|| {
            let bucket = TokenBucket::builder(1, SECOND).burst(2).build().unwrap();
            let now = Instant::now();
            let (asking, closing) = (bucket.clone(), bucket.clone());
            let (answers, after) = both(
                move || [(); 2].map(|()| asking.try_acquire_at(1, now)),
                move || {
                    closing.close();
                    closing.try_acquire_at(1, now)
                },
            );
            assert!(after.unwrap_err().is_closed());
            assert!(!(answers[0].is_err() && answers[1].is_ok()), "it was open again");
            let taken = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            assert!(
                answers.into_iter().all(|answer| answer.is_ok() || answer.is_err_and(|refused| refused.is_closed()))
            );
            assert_closed(&bucket, 2 - taken);
        });
    }

    #[test]
    fn a_bucket_that_is_closed_while_its_rate_changes_and_its_last_waiter_leaves_stays_closed() {
        check_with_interruptions(2, || {
            let bucket = empty();
            let now = Instant::now();
            let waiter = Waiter::queued(&bucket);
            let (changing, closing) = (bucket.clone(), bucket.clone());
            let change = thread::spawn(move || changing.set_quota_at(Quota::new(1, 60 * SECOND), now).unwrap());
            both(move || drop(waiter), move || closing.close());
            change.join().unwrap();
            assert_closed(&bucket, 0);
        });
    }
}

mod sliding_window {
    use super::*;

    fn windows(limit: u64) -> [SlidingWindow; 2] {
        let builder = SlidingWindow::builder(limit, SECOND);
        [builder.clone().build().unwrap(), builder.estimate().build().unwrap()]
    }

    #[test]
    fn of_two_threads_one_gets_the_last_place() {
        check(|| {
            for window in windows(2) {
                let now = Instant::now();
                window.try_acquire_at(1, now).unwrap();
                let asking = window.clone();
                assert_eq!(count(&in_threads(2, move || asking.try_acquire_at(1, now).is_ok())), 1);
                assert_eq!(window.available_at(now), 0);
            }
        });
    }

    #[test]
    fn threads_whose_clocks_differ_share_the_freed_tokens() {
        check(|| {
            let [window, _] = windows(2);
            let now = Instant::now();
            window.try_acquire_at(1, now).unwrap();
            let (early, late) = (window.clone(), window.clone());
            let (early, late) = both(
                move || early.try_acquire_at(2, now + SECOND / 2).is_ok(),
                move || late.try_acquire_at(2, now + SECOND).is_ok(),
            );
            assert!(late && !early, "the first token leaves the window after a second, and then there are two");
        });
    }

    #[test]
    fn a_place_that_is_given_back_is_had_by_exactly_one() {
        check(|| {
            for window in windows(1) {
                let now = Instant::now();
                window.try_acquire_at(1, now).unwrap();
                let (returning, asking) = (window.clone(), window.clone());
                let ((), granted) = both(move || returning.refund(1), move || asking.try_acquire_at(1, now).is_ok());
                assert_eq!(window.available_at(now), 1 - u64::from(granted));
                assert_eq!(window.try_acquire_at(1, now).is_ok(), !granted);
            }
        });
    }

    #[test]
    fn a_limit_raised_by_one_admits_one_more_call() {
        check(|| {
            for window in windows(1) {
                let now = Instant::now();
                window.try_acquire_at(1, now).unwrap();
                let (raising, asking) = (window.clone(), window.clone());
                let ((), granted) = both(
                    move || raising.set_limit(2).unwrap(),
                    move || (0..2).filter(|_| asking.try_acquire_at(1, now).is_ok()).count() as u64,
                );
                assert!(granted <= 1);
                assert_eq!(window.available_at(now), 1 - granted);
            }
        });
    }
}

mod queue {
    use super::*;
    use std::{
        pin::Pin,
        sync,
        task::{Context, Poll, Wake, Waker},
    };

    /// A call at a queue, which counts its wake-ups.
    pub struct Caller {
        acquire: Pin<Box<load_level::Acquire>>,
        wakes: sync::Arc<Wakes>,
    }

    #[derive(Default)]
    pub struct Wakes(sync::atomic::AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: sync::Arc<Self>) {
            self.0.fetch_add(1, sync::atomic::Ordering::SeqCst);
        }
    }

    impl Caller {
        pub fn of(queue: &Queue) -> Self {
            Self { acquire: Box::pin(queue.acquire()), wakes: sync::Arc::default() }
        }

        /// Returns a call that waits.
        pub fn waiting(queue: &Queue) -> Self {
            let mut caller = Self::of(queue);
            assert!(caller.poll().is_none());
            caller
        }

        /// Returns its permit, if its turn has come.
        fn poll(&mut self) -> Option<load_level::Permit> {
            match self.ask() {
                Poll::Ready(answer) => Some(answer.unwrap()),
                Poll::Pending => None,
            }
        }

        /// Polls once. Returns itself, and its permit if its turn has come.
        fn asked(mut self) -> (Self, Option<load_level::Permit>) {
            let permit = self.poll();
            (self, permit)
        }

        pub fn ask(&mut self) -> Poll<Result<load_level::Permit, Rejection>> {
            let waker = Waker::from(self.wakes.clone());
            self.acquire.as_mut().poll(&mut Context::from_waker(&waker))
        }

        /// Returns its permit, if it was admitted at once or after its wake-up. If not, a closed queue has refused it.
        pub fn admitted_or_refused(
            &mut self,
            at_once: Poll<Result<load_level::Permit, Rejection>>,
        ) -> Option<load_level::Permit> {
            let answer = match at_once {
                Poll::Pending => {
                    assert_eq!(self.wakes(), 1, "it was not woken");
                    self.ask()
                }
                answer => answer,
            };
            match answer {
                Poll::Ready(Ok(permit)) => Some(permit),
                Poll::Ready(Err(Rejection::Closed(_))) => None,
                answer => panic!("{answer:?}"),
            }
        }

        fn wakes(&self) -> usize {
            self.wakes.0.load(sync::atomic::Ordering::SeqCst)
        }

        /// Returns whether it was served at once or after its wake-up.
        fn is_served(&mut self, at_once: Option<load_level::Permit>) -> bool {
            at_once.is_some() || self.wakes() == 1 && self.poll().is_some()
        }
    }

    pub fn queue(concurrency: usize) -> Queue {
        Queue::builder(concurrency, 10).max_wait(3600 * SECOND).build().unwrap()
    }

    /// Asserts that all places are free, each of them once, and that no call waits.
    fn assert_free(queue: &Queue) {
        let permits: Vec<_> = std::iter::from_fn(|| queue.try_acquire()).collect();
        assert_eq!((permits.len(), queue.readings().waiting), (queue.concurrency(), 0));
        drop(permits);
        assert_eq!(queue.in_service(), 0);
    }

    /// Tries to enter. A call that enters asserts that fewer than `most` calls were inside, and leaves. Returns whether
    /// it entered.
    fn come_and_go(queue: &Queue, inside: &AtomicUsize, most: usize) -> bool {
        let permit = queue.try_acquire();
        if permit.is_some() {
            assert!(inside.fetch_add(1, Ordering::SeqCst) < most, "more than the limit");
            inside.fetch_sub(1, Ordering::SeqCst);
        }
        permit.is_some()
    }

    #[test]
    fn the_concurrency_limit_is_kept_and_no_place_is_lost() {
        for limit in [1, 2] {
            check_with_interruptions(2, move || {
                let (queue, inside) = (queue(limit), Arc::new(AtomicUsize::new(0)));
                let (coming, within) = (queue.clone(), inside.clone());
                let answers = in_threads(3, move || come_and_go(&coming, &within, limit));
                assert!(count(&answers) >= limit);
                assert_free(&queue);
            });
        }
    }

    #[test]
    fn a_call_that_comes_while_the_last_place_is_returned_is_served() {
        check(|| {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let caller = Caller::of(&queue);
            let ((), (mut caller, at_once)) = both(move || drop(permit), move || caller.asked());
            assert!(caller.is_served(at_once), "it was not woken");
            assert_free(&queue);
        });
    }

    #[test]
    fn two_calls_that_come_while_the_only_place_is_returned_are_both_served() {
        check_with_interruptions(3, || {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let (one, other) = (queue.clone(), queue.clone());
            let come = |queue: Queue| move || Caller::of(&queue).asked();
            let returning = thread::spawn(move || drop(permit));
            let ((mut first, first_permit), (mut second, second_permit)) = both(come(one), come(other));
            returning.join().unwrap();
            assert!(queue.in_service() <= 1);
            // The call that is served first leaves its place to the other.
            let first_was_served = first.is_served(first_permit);
            assert!(second.is_served(second_permit), "it was not woken");
            assert!(first_was_served || first.is_served(None), "it was not woken");
            assert_free(&queue);
        });
    }

    #[test]
    fn two_places_returned_at_once_wake_both_waiters() {
        check_with_interruptions(3, || {
            let queue = queue(2);
            let permits = [(); 2].map(|()| queue.try_acquire().unwrap());
            let mut waiting = [(); 2].map(|()| Caller::waiting(&queue));
            let [one, other] = permits;
            both(move || drop(one), move || drop(other));
            assert_eq!(waiting.each_ref().map(Caller::wakes), [1, 1]);
            let held = waiting.each_mut().map(|caller| caller.poll().unwrap());
            assert_eq!(queue.in_service(), 2);
            drop(held);
            assert_free(&queue);
        });
    }

    #[test]
    fn a_waiter_dropped_while_it_is_admitted_leaves_its_place_to_the_next() {
        check(|| {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let (first, mut second) = (Caller::waiting(&queue), Caller::waiting(&queue));
            both(move || drop(permit), move || drop(first));
            assert_eq!(second.wakes(), 1);
            assert!(second.poll().is_some());
            assert_free(&queue);
        });
    }

    #[test]
    fn a_waiter_polled_while_it_is_admitted_is_served_once() {
        check(|| {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let caller = Caller::waiting(&queue);
            let ((), (mut caller, asked)) = both(move || drop(permit), move || caller.asked());
            assert!(caller.is_served(asked));
            assert_free(&queue);
        });
    }

    #[test]
    fn a_waiter_dropped_while_both_places_are_returned_leaves_both_free() {
        check_with_interruptions(3, || {
            let queue = queue(2);
            let [one, other] = [(); 2].map(|()| queue.try_acquire().unwrap());
            let waiting = Caller::waiting(&queue);
            both(move || drop((waiting, one)), move || drop(other));
            assert_eq!(queue.in_service(), 0);
            assert_free(&queue);
        });
    }

    #[test]
    fn a_higher_concurrency_admits_the_newcomer_and_the_waiter() {
        check_with_interruptions(3, || {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let mut waiting = Caller::waiting(&queue);
            let (changing, coming) = (queue.clone(), queue.clone());
            let ((), (mut newcomer, at_once)) =
                both(move || changing.set_concurrency(3).unwrap(), move || Caller::of(&coming).asked());
            assert_eq!(waiting.wakes(), 1);
            assert!(waiting.poll().is_some() && newcomer.is_served(at_once));
            drop(permit);
            assert_free(&queue);
        });
    }

    #[test]
    fn a_change_of_the_concurrency_loses_and_creates_no_place() {
        check_with_interruptions(3, || {
            let (queue, inside) = (queue(2), Arc::new(AtomicUsize::new(0)));
            let changing = queue.clone();
            let change = thread::spawn(move || changing.set_concurrency(1).unwrap());
            let (coming, within) = (queue.clone(), inside.clone());
            in_threads(2, move || come_and_go(&coming, &within, 2));
            change.join().unwrap();
            assert_eq!((queue.in_service(), queue.concurrency()), (0, 1));
            assert_free(&queue);
        });
    }

    #[test]
    fn a_waiter_is_not_overtaken_by_try_acquire() {
        check_with_interruptions(3, || {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let mut waiting = Caller::waiting(&queue);
            let hurried = queue.clone();
            let ((), overtook) = both(move || drop(permit), move || hurried.try_acquire().is_some());
            assert!(!overtook && waiting.wakes() == 1 && waiting.poll().is_some());
            assert_free(&queue);
        });
    }

    #[test]
    fn removing_the_pace_while_a_call_comes_leaves_no_call_waiting() {
        check_with_interruptions(3, || {
            let queue = Queue::builder(5, 10).max_wait(3600 * SECOND).pace(1, 3600 * SECOND).build().unwrap();
            drop(queue.try_acquire().unwrap());
            let (changing, coming) = (queue.clone(), queue.clone());
            let ((), (mut caller, at_once)) =
                both(move || changing.set_pace(None).unwrap(), move || Caller::of(&coming).asked());
            assert!(caller.is_served(at_once), "it was not woken");
            assert_free(&queue);
        });
    }
}

mod closing_queue {
    use super::{
        queue::{Caller, queue},
        *,
    };
    use std::task::Poll;

    /// Asserts that the queue refuses each call as closed, that `in_service` calls are in the service, and that no call
    /// waits.
    fn assert_closed(queue: &Queue, in_service: usize) {
        assert!(queue.is_closed() && queue.try_acquire().is_none());
        assert!(matches!(Caller::of(queue).ask(), Poll::Ready(Err(Rejection::Closed(_)))));
        assert_eq!((queue.in_service(), queue.readings().waiting), (in_service, 0));
    }

    #[test]
    fn while_a_place_is_returned_and_the_queue_closes_two_waiters_get_one_answer_each() {
        check_with_interruptions(3, || {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let mut waiting = [(); 2].map(|()| Caller::waiting(&queue));
            let closing = queue.clone();
            both(move || drop(permit), move || closing.close());
            let [first, second] = waiting.each_mut().map(|caller| caller.admitted_or_refused(Poll::Pending));
            assert!(second.is_none(), "the only place belongs to the first waiter");
            assert_closed(&queue, usize::from(first.is_some()));
            drop(first);
            assert_closed(&queue, 0);
        });
    }

    #[test]
    fn a_call_that_comes_while_the_queue_closes_is_admitted_or_refused() {
        for is_full in [false, true] {
            check_with_interruptions(3, move || {
                let queue = queue(1);
                let held = is_full.then(|| queue.try_acquire().unwrap());
                let (mut caller, closing) = (Caller::of(&queue), queue.clone());
                let ((answer, mut caller), ()) = both(
                    move || {
                        let answer = caller.ask();
                        (answer, caller)
                    },
                    move || closing.close(),
                );
                let permit = caller.admitted_or_refused(answer);
                assert!(!is_full || permit.is_none());
                assert_closed(&queue, usize::from(is_full || permit.is_some()));
                drop((held, permit));
                assert_closed(&queue, 0);
            });
        }
    }

    #[test]
    fn a_waiter_dropped_while_it_is_admitted_and_the_queue_closes_returns_its_place() {
        check_with_interruptions(3, || {
            let queue = queue(1);
            let permit = queue.try_acquire().unwrap();
            let caller = Caller::waiting(&queue);
            let closing = queue.clone();
            let close = thread::spawn(move || closing.close());
            both(move || drop(permit), move || drop(caller));
            close.join().unwrap();
            assert_closed(&queue, 0);
        });
    }

    #[test]
    fn a_closed_queue_admits_no_call_without_the_lock() {
        check_with_interruptions(3, || {
            let queue = queue(2);
            let (coming, closing) = (queue.clone(), queue.clone());
            let (permits, after) = both(
                move || {
                    let one = coming.try_acquire();
                    let other = coming.try_acquire();
                    (one, other)
                },
                move || {
                    closing.close();
                    closing.try_acquire()
                },
            );
            assert!(after.is_none());
            assert!(!(permits.0.is_none() && permits.1.is_some()), "it had opened again");
            assert_closed(&queue, usize::from(permits.0.is_some()) + usize::from(permits.1.is_some()));
            drop(permits);
            assert_closed(&queue, 0);
        });
    }
}

mod limiter {
    use super::*;

    #[test]
    fn of_two_threads_one_gets_the_only_place() {
        check(|| {
            let limiter = Limiter::fixed(1).unwrap();
            let asking = limiter.clone();
            let admitted = in_threads(2, move || asking.try_acquire().map(std::mem::forget).is_ok());
            assert_eq!((count(&admitted), limiter.in_flight()), (1, 1));
        });
    }

    /// Lets threads enter and leave, and asserts that at most `limit` are inside at once. Returns how many got in.
    fn come_and_go(threads: usize, limit: usize) -> usize {
        let limiter = Limiter::fixed(limit).unwrap();
        let inside = Arc::new(AtomicUsize::new(0));
        let asking = limiter.clone();
        let admitted = in_threads(threads, move || {
            asking.try_acquire().is_ok_and(|_permit| {
                assert!(inside.fetch_add(1, Ordering::SeqCst) < limit, "more than {limit} inside");
                inside.fetch_sub(1, Ordering::SeqCst);
                true
            })
        });
        assert_eq!(limiter.in_flight(), 0, "a place leaked");
        count(&admitted)
    }

    #[test]
    fn a_call_is_refused_only_if_the_limit_is_full() {
        check(|| assert!(come_and_go(2, 1) >= 1));
        check_with_interruptions(2, || assert!(come_and_go(3, 2) >= 2, "two were refused, and never were two inside"));
    }

    #[test]
    fn a_limit_raised_by_one_admits_one_more_call() {
        check(|| {
            let limiter = Limiter::fixed(1).unwrap();
            std::mem::forget(limiter.try_acquire().unwrap());
            let (changing, asking) = (limiter.clone(), limiter.clone());
            let ((), admitted) = both(
                move || changing.set_limit(2).unwrap(),
                move || asking.try_acquire().map(std::mem::forget).is_ok(),
            );
            assert_eq!(limiter.in_flight(), 1 + usize::from(admitted));
            assert_eq!(limiter.try_acquire().is_ok(), !admitted);
        });
    }

    #[test]
    fn a_call_beyond_the_limit_is_let_in_and_counted_or_refused_while_shadow_ends() {
        check(|| {
            let limiter = Limiter::fixed(1).unwrap();
            limiter.set_shadow(true);
            let (changing, asking) = (limiter.clone(), limiter.clone());
            std::mem::forget(limiter.try_acquire().unwrap());
            let ask = move || asking.try_acquire().map(std::mem::forget).is_ok();
            let (admitted, ()) = both(ask, move || changing.set_shadow(false));
            assert_eq!(
                (limiter.in_flight(), limiter.would_have_refused()),
                (1 + usize::from(admitted), admitted.into())
            );
            assert!(limiter.try_acquire().is_err(), "it is full");
        });
    }

    #[test]
    fn no_call_sees_the_limit_of_one_configuration_and_the_mode_of_another() {
        check(|| {
            // A limit of 1 in shadow admits two calls, and so does a limit of 2. A limit of 1 without shadow would not.
            let limiter = Limiter::fixed(1).unwrap();
            limiter.set_shadow(true);
            std::mem::forget(limiter.try_acquire().unwrap());
            let (changing, asking) = (limiter.clone(), limiter.clone());
            let ask = move || asking.try_acquire().map(std::mem::forget).is_ok();
            let (admitted, ()) = both(ask, move || changing.configure(2, false).unwrap());
            assert!(admitted);
            assert!(limiter.would_have_refused() <= 1);
        });
    }

    #[test]
    fn the_limit_and_the_mode_that_are_set_at_once_are_both_kept() {
        check(|| {
            let limiter = Limiter::fixed(1).unwrap();
            let (one, other) = (limiter.clone(), limiter.clone());
            both(move || one.set_limit(7).unwrap(), move || other.set_shadow(true));
            assert_eq!(limiter.configuration(), (7, true));
        });
    }
}

mod breaker {
    use super::*;

    /// Builds a breaker. It is leaked, so that a permit can go to another thread.
    fn build(builder: BreakerBuilder) -> &'static Breaker {
        Box::leak(Box::new(builder.build().unwrap()))
    }

    /// Returns a breaker that opens at the first failure, for a second.
    fn touchy(probes: u32) -> &'static Breaker {
        let builder = Breaker::builder().consecutive_failures(1).open_for(SECOND).max_open_for(SECOND);
        build(builder.probes(probes).probe_timeout(60 * SECOND))
    }

    /// Returns a breaker whose open time of a second has just passed, and the instant at which this is so.
    fn due(probes: u32) -> (&'static Breaker, Instant) {
        let breaker = touchy(probes);
        let now = Instant::now();
        admit(breaker, now).failure_at(now);
        (breaker, now + SECOND)
    }

    fn admit(breaker: &'static Breaker, now: Instant) -> Permit<'static> {
        breaker.try_acquire_at(now).unwrap()
    }

    /// Asks for a permit. An admitted call stays in flight forever. Returns the `retry_after` of a refusal.
    fn ask(breaker: &Breaker, now: Instant) -> Result<(), Option<Duration>> {
        breaker.try_acquire_at(now).map(std::mem::forget).map_err(|refused| refused.retry_after())
    }

    fn admitted(answers: &[Result<(), Option<Duration>>]) -> usize {
        answers.iter().filter(|answer| answer.is_ok()).count()
    }

    #[test]
    fn after_the_open_time_all_probes_are_admitted() {
        check(|| {
            let (breaker, now) = due(2);
            let answers = in_threads(2, move || ask(breaker, now));
            assert_eq!(answers, [Ok(()), Ok(())], "two asked for two places");
        });
    }

    #[test]
    fn after_the_open_time_no_more_than_the_probes_are_admitted() {
        check(|| {
            let (breaker, now) = due(2);
            let answers = in_threads(3, move || ask(breaker, now));
            assert_eq!(admitted(&answers), 2, "{answers:?}");
            assert!(answers.contains(&Err(None)), "the circuit is not open any more: {answers:?}");
        });
    }

    #[test]
    fn of_two_threads_one_gets_the_last_probe() {
        check(|| {
            let (breaker, now) = due(2);
            ask(breaker, now).unwrap();
            let answers = in_threads(2, move || ask(breaker, now));
            assert_eq!(admitted(&answers), 1, "{answers:?}");
            assert_eq!(ask(breaker, now), Err(None));
        });
    }

    #[test]
    fn exactly_one_call_gets_the_place_of_a_cancelled_probe() {
        check(|| {
            let (breaker, now) = due(1);
            let probe = admit(breaker, now);
            let cancelling = thread::spawn(move || drop(probe));
            let answers = in_threads(2, move || ask(breaker, now));
            cancelling.join().unwrap();
            assert!(admitted(&answers) <= 1, "{answers:?}");
            assert_eq!(ask(breaker, now).is_ok(), admitted(&answers) == 0, "after {answers:?}");
        });
    }

    #[test]
    fn two_probes_that_succeed_together_close_the_circuit() {
        check(|| {
            let (breaker, now) = due(2);
            let (one, other) = (admit(breaker, now), admit(breaker, now));
            both(move || one.success_at(now), move || other.success_at(now));
            assert_eq!(breaker.state(), BreakerState::Closed);
        });
    }

    #[test]
    fn of_two_probes_that_end_together_the_failed_one_opens_the_circuit() {
        check(|| {
            let (breaker, now) = due(2);
            let (well, badly) = (admit(breaker, now), admit(breaker, now));
            both(move || well.success_at(now), move || badly.failure_at(now));
            assert_eq!(ask(breaker, now), Err(Some(SECOND)));
        });
    }

    #[test]
    fn two_failures_open_the_circuit_once_and_for_the_time_of_the_first() {
        check(|| {
            let breaker = touchy(1);
            let now = Instant::now();
            let wait = move || ask(breaker, now).unwrap_err();
            let fail = move |call: Permit<'static>, at| {
                move || {
                    call.failure_at(at);
                    wait()
                }
            };
            let (early, late) = (admit(breaker, now), admit(breaker, now));
            let (early, late) = both(fail(early, now), fail(late, now + SECOND / 2));
            assert_eq!((early, late), (wait(), wait()), "opened twice");
        });
    }

    /// Returns a breaker that opens for a second if this share of at least two calls takes a second or longer.
    fn timing(rate: f64) -> BreakerBuilder {
        let builder = Breaker::builder().slow_call_rate(rate, SECOND).minimum_calls(2).open_for(SECOND);
        builder.max_open_for(SECOND).probes(2).probe_timeout(60 * SECOND)
    }

    /// Returns a function that reports that this call is still in flight at this instant. If the call was admitted a
    /// second earlier, it counts as slow from then on.
    fn under_way(mut call: Permit<'static>, at: Instant) -> impl FnOnce() -> Permit<'static> + Send {
        move || {
            call.under_way_at(at);
            call
        }
    }

    #[test]
    fn two_calls_that_become_slow_together_open_the_circuit_once() {
        check(|| {
            let breaker = build(timing(1.0));
            let now = Instant::now();
            let (one, other) = (admit(breaker, now), admit(breaker, now));
            // Both calls are judged at one instant: a call that is judged at an earlier one does not see a record of a
            // later one.
            let (early, late) = (now + SECOND, now + SECOND * 3 / 2);
            let (one, other) = both(under_way(one, early), under_way(other, early));
            let wait = Some(early + SECOND);
            assert_eq!(breaker.half_open_at(), wait);
            one.failure_at(late);
            other.failure_at(late);
            assert_eq!((breaker.state(), breaker.half_open_at()), (BreakerState::Open, wait), "opened twice");
        });
    }

    #[test]
    fn a_slow_call_is_counted_once_beside_a_fast_one() {
        check(|| {
            let breaker = build(timing(0.75));
            let now = Instant::now();
            let (slow, fast) = (admit(breaker, now), admit(breaker, now));
            let (slow, ()) = both(under_way(slow, now + SECOND), move || fast.success_at(now));
            slow.success_at(now + SECOND);
            assert_eq!(breaker.slow_counts_at(now + SECOND), (2, 1));
        });
    }

    #[test]
    fn of_two_probes_the_slow_one_opens_the_circuit() {
        check(|| {
            let breaker = build(timing(1.0).consecutive_failures(1));
            let now = Instant::now();
            admit(breaker, now).failure_at(now);
            let now = now + SECOND;
            let (well, slow) = (admit(breaker, now), admit(breaker, now));
            let ((), slow) = both(move || well.success_at(now), under_way(slow, now + SECOND));
            assert_eq!(breaker.half_open_at(), Some(now + 2 * SECOND));
            slow.success_at(now + SECOND);
            assert_eq!(breaker.half_open_at(), Some(now + 2 * SECOND));
        });
    }

    #[test]
    fn a_call_during_the_change_to_slow_calls_is_counted_once_or_not_at_all() {
        check(|| {
            let breaker = build(Breaker::builder().consecutive_failures(2));
            let now = Instant::now();
            let call = move || {
                let mut call = admit(breaker, now);
                call.under_way_at(now + SECOND);
                call.success_at(now + SECOND);
            };
            both(call, move || breaker.configure(timing(1.0)).unwrap());
            let counts = breaker.slow_counts_at(now + SECOND);
            assert!([(0, 0), (1, 1)].contains(&counts), "{counts:?}");
        });
    }

    #[test]
    fn a_failure_from_before_a_reset_is_not_counted_after_it() {
        check(|| {
            let builder = Breaker::builder().consecutive_failures(2);
            let breaker = build(builder.failure_rate(1.0, 16 * SECOND).minimum_calls(2));
            let now = Instant::now();
            let early = admit(breaker, now);
            both(move || early.failure_at(now), move || breaker.reset());
            assert_eq!(breaker.counts_at(now), (0, 0));
            admit(breaker, now).failure_at(now);
            assert_eq!(breaker.state(), BreakerState::Closed, "one failure is not two");
            admit(breaker, now).failure_at(now);
            assert_eq!(breaker.state(), BreakerState::Open);
        });
    }

    #[test]
    fn a_reset_while_the_circuit_opens_leaves_it_closed() {
        check(|| {
            let breaker = touchy(1);
            let now = Instant::now();
            let call = admit(breaker, now);
            let reset = move || {
                breaker.force_closed();
                breaker.reset();
            };
            both(move || call.failure_at(now), reset);
            assert!(ask(breaker, now).is_ok());
            assert_eq!(breaker.state(), BreakerState::Closed);
        });
    }

    #[test]
    fn after_any_end_of_a_probe_a_reset_closes_the_circuit_and_force_opens_it() {
        for success in [true, false] {
            let end = move |probe: Permit<'static>, now| {
                move || if success { probe.success_at(now) } else { probe.failure_at(now) }
            };
            check(move || {
                let (breaker, now) = due(1);
                both(end(admit(breaker, now), now), move || breaker.reset());
                assert!(ask(breaker, now).is_ok());
                assert_eq!(breaker.state(), BreakerState::Closed);
            });
            check(move || {
                let (breaker, now) = due(1);
                both(end(admit(breaker, now), now), move || breaker.force_open());
                assert_eq!(ask(breaker, now), Err(None));
                assert_eq!(breaker.state(), BreakerState::ForcedOpen);
            });
        }
    }

    #[test]
    fn a_probe_that_answers_at_the_probe_timeout_counts_for_its_own_era_or_not_at_all() {
        for success in [true, false] {
            check(move || {
                let (breaker, now) = due(1);
                let probe = admit(breaker, now);
                let later = now + 60 * SECOND;
                // The first `ask` gives up the probe, if it has not answered. The second one sends another probe, a
                // second later.
                let next = move || {
                    ask(breaker, later).is_err() && {
                        ask(breaker, later + SECOND).unwrap();
                        true
                    }
                };
                let answer = move || if success { probe.success_at(later) } else { probe.failure_at(later) };
                let ((), sent) = both(answer, next);
                let expected = if sent { BreakerState::HalfOpen } else { BreakerState::Closed };
                assert_eq!(breaker.state(), expected);
            });
        }
    }

    #[test]
    fn a_probe_that_fails_refuses_the_next_probe() {
        check(|| {
            let (breaker, now) = due(1);
            let probe = move || breaker.try_acquire_at(now).map(|probe| probe.failure_at(now)).is_ok();
            assert_eq!(count(&in_threads(2, probe)), 1);
            assert_eq!(ask(breaker, now), Err(Some(SECOND)));
        });
    }

    #[test]
    fn two_failures_at_once_are_two_in_a_row() {
        check(|| {
            let breaker = build(Breaker::builder().consecutive_failures(2));
            let now = Instant::now();
            in_threads(2, move || admit(breaker, now).failure_at(now));
            assert_eq!(breaker.state(), BreakerState::Open);
        });
    }

    #[test]
    fn a_failure_from_before_a_reset_does_not_undo_counts_after_it() {
        check(|| {
            let breaker = build(Breaker::builder().consecutive_failures(2));
            let now = Instant::now();
            let early = admit(breaker, now);
            let reset = move || {
                breaker.reset();
                admit(breaker, now).failure_at(now);
            };
            both(move || early.failure_at(now), reset);
            assert_eq!(breaker.state(), BreakerState::Closed);
            admit(breaker, now).failure_at(now);
            assert_eq!(breaker.state(), BreakerState::Open);
        });
    }

    #[test]
    fn no_call_is_lost_from_the_window_after_a_long_silence() {
        check(|| {
            let breaker = build(Breaker::builder().failure_rate(1.0, 16 * SECOND).minimum_calls(1000));
            let now = Instant::now() + SECOND / 2;
            admit(breaker, now).failure_at(now);
            // A bucket of the window has a tag: the lowest 28 bits of its tick. A tick takes a second here, so 2^28 s
            // later the tag of the old count is also that of a new one.
            let later = now + (1 << 28) * SECOND;
            let (one, other) = (admit(breaker, later), admit(breaker, later));
            both(move || one.success_at(later), move || other.success_at(later));
            assert_eq!(breaker.counts_at(later), (2, 0));
        });
    }

    #[test]
    fn no_call_is_lost_when_a_bucket_of_the_window_starts_again() {
        check(|| {
            let breaker = build(Breaker::builder().failure_rate(1.0, 16 * SECOND).minimum_calls(1000));
            let now = Instant::now() + SECOND / 2;
            admit(breaker, now).failure_at(now);
            let later = now + 16 * SECOND;
            let (well, badly) = (admit(breaker, later), admit(breaker, later));
            both(move || well.success_at(later), move || badly.failure_at(later));
            assert_eq!(breaker.counts_at(later), (2, 1));
        });
    }

    #[test]
    fn a_success_ends_a_run_of_failures_at_any_position() {
        check(|| {
            let breaker = build(Breaker::builder().consecutive_failures(2));
            let now = Instant::now();
            admit(breaker, now).failure_at(now);
            let (well, badly) = (admit(breaker, now), admit(breaker, now));
            both(move || well.success_at(now), move || badly.failure_at(now));
            // Failure, failure: open. Failure, success, failure: one failure is missing.
            if breaker.state() == BreakerState::Closed {
                admit(breaker, now).failure_at(now);
            }
            assert_eq!(breaker.state(), BreakerState::Open);
        });
    }

    #[test]
    fn a_failure_is_judged_by_one_of_two_configurations_and_never_by_a_mixture() {
        check(|| {
            // One failure of two calls opens by neither configuration: too few calls, or too low a rate. A mixture of
            // both would open.
            let rate = |rate, minimum| Breaker::builder().failure_rate(rate, 16 * SECOND).minimum_calls(minimum);
            let breaker = build(rate(0.5, 3));
            let now = Instant::now();
            admit(breaker, now).success_at(now);
            let call = admit(breaker, now);
            both(move || call.failure_at(now), move || breaker.configure(rate(1.0, 1)).unwrap());
            assert_eq!((breaker.state(), breaker.counts_at(now)), (BreakerState::Closed, (2, 1)));
        });
    }

    #[test]
    fn a_failure_during_a_reconfiguration_opens_the_circuit_for_the_time_of_its_own_configuration() {
        check(|| {
            let breaker = touchy(1);
            let now = Instant::now();
            let call = admit(breaker, now);
            let to = Breaker::builder().consecutive_failures(2).open_for(60 * SECOND);
            both(move || call.failure_at(now), move || breaker.configure(to).unwrap());
            match ask(breaker, now) {
                // By the new configuration, a single failure does not open.
                Ok(()) => assert_eq!(breaker.state(), BreakerState::Closed),
                Err(wait) => assert_eq!(wait, Some(SECOND)),
            }
        });
    }

    #[test]
    fn no_call_is_lost_from_a_window_whose_length_changes() {
        for length in [8 * SECOND, 64 * SECOND] {
            check_with_interruptions(3, move || {
                let rate = |length| Breaker::builder().failure_rate(1.0, length).minimum_calls(1000);
                let breaker = build(rate(16 * SECOND));
                let now = Instant::now();
                let (well, badly) = (admit(breaker, now), admit(breaker, now));
                let settle = move || {
                    well.success_at(now);
                    badly.failure_at(now);
                };
                both(settle, move || breaker.configure(rate(length)).unwrap());
                assert_eq!(breaker.counts_at(now), (2, 1));
            });
        }
    }

    #[test]
    fn fewer_probes_while_a_probe_succeeds_close_the_circuit_and_admit_no_more_probes() {
        check(|| {
            let (breaker, now) = due(3);
            let (one, other) = (admit(breaker, now), admit(breaker, now));
            let to = breaker.configuration().probes(1);
            both(move || one.success_at(now), move || breaker.configure(to).unwrap());
            assert_eq!(breaker.state(), BreakerState::Closed, "one success is enough");
            other.failure_at(now);
            assert_eq!(breaker.state(), BreakerState::Closed, "the other probe is of an era that is over");
        });
    }

    #[test]
    fn a_change_to_fewer_probes_admits_no_more_than_the_old_number() {
        check(|| {
            let (breaker, now) = due(2);
            ask(breaker, now).unwrap();
            let to = breaker.configuration().probes(1);
            let (answer, ()) = both(move || ask(breaker, now), move || breaker.configure(to).unwrap());
            assert!(matches!(answer, Ok(()) | Err(None)), "{answer:?}");
            assert_eq!(ask(breaker, now), Err(None));
        });
    }
}

mod retry_budget {
    use super::*;

    fn builder() -> RetryBudgetBuilder {
        RetryBudget::builder().ratio(1.0).no_floor().random(Random::seeded(1))
    }

    fn withdraw_in_threads(threads: usize, budget: &RetryBudget, now: Instant) -> usize {
        let budget = budget.clone();
        count(&in_threads(threads, move || budget.withdraw_at(now).is_some()))
    }

    #[test]
    fn exactly_one_of_two_gets_one_earned_retry() {
        check(|| {
            let budget = builder().build().unwrap();
            let start = budget.balance();
            budget.deposit();
            assert_eq!(withdraw_in_threads(2, &budget, Instant::now()), 1);
            assert_eq!(budget.balance(), start);
        });
    }

    #[test]
    fn exactly_one_of_two_gets_one_retry_of_the_floor() {
        check(|| {
            let budget = builder().ratio(0.0).floor(1, SECOND).build().unwrap();
            // The floor gives its first retry at a random instant of the first second, and saves up at most one.
            let now = Instant::now() + SECOND;
            assert_eq!(withdraw_in_threads(2, &budget, now), 1);
        });
    }

    #[test]
    fn a_deposit_at_the_cap_never_exceeds_it_and_loses_no_retry() {
        check(|| {
            let budget = builder().cap(1).build().unwrap();
            budget.deposit();
            assert_eq!(budget.balance(), 1.0);
            let now = Instant::now();
            let (paying, retrying) = (budget.clone(), budget.clone());
            let ((), granted) = both(move || paying.deposit(), move || retrying.withdraw_at(now).is_some());
            assert!(granted, "there was one");
            assert!([0.0, 1.0].contains(&budget.balance()), "{}", budget.balance());
        });
    }

    #[test]
    fn deposits_refunds_and_withdrawals_at_once_lose_nothing() {
        check_with_interruptions(4, || {
            let budget = builder().build().unwrap();
            let start = budget.balance();
            let now = Instant::now();
            budget.deposit();
            let withdrawal = budget.withdraw_at(now).unwrap();
            let (paying, returning) = (budget.clone(), budget.clone());
            let paying = thread::spawn(move || paying.deposit());
            let returning = thread::spawn(move || returning.refund(withdrawal));
            let retries = withdraw_in_threads(1, &budget, now);
            paying.join().unwrap();
            returning.join().unwrap();
            assert_eq!(budget.balance(), start + 2.0 - retries as f64);
        });
    }

    #[test]
    fn a_deposit_while_the_cap_falls_leaves_no_more_than_the_new_cap() {
        check(|| {
            let budget = builder().cap(3).build().unwrap();
            (0..2).for_each(|_| budget.deposit());
            let (paying, changing) = (budget.clone(), budget.clone());
            let to = budget.configuration().cap(2);
            both(move || paying.deposit(), move || changing.configure(to).unwrap());
            assert_eq!(budget.balance(), 2.0);
        });
    }
}

/// Uses a table of four slots, any of which may hold any key.
mod keyed {
    use super::*;
    use std::hash::{BuildHasherDefault, DefaultHasher};

    type Limit<T = OneTier> = Keyed<u64, T, BuildHasherDefault<DefaultHasher>>;

    fn per_second(burst: u64) -> Quota {
        Quota::new(1, SECOND).with_burst(burst)
    }

    fn limit(burst: u64) -> Limit {
        let builder = Keyed::builder(1, per_second(burst)).overflow(Overflow::Refuse);
        builder.hasher(BuildHasherDefault::default()).build().unwrap()
    }

    /// Takes one token of each of the keys 1 to 4, so that no slot is left. Key 1 is full again at the returned
    /// instant.
    fn crowded(burst: u64) -> (Limit, Instant) {
        let limit = limit(burst);
        let now = Instant::now();
        limit.try_acquire_at(&1, 1, now).unwrap();
        let later = now + SECOND;
        for key in 2..=4 {
            limit.try_acquire_at(&key, 1, later).unwrap();
        }
        (limit, later)
    }

    fn ask(limit: &Limit, key: u64, tokens: u64, now: Instant) -> impl FnOnce() -> bool + use<> {
        let limit = limit.clone();
        move || limit.try_acquire_at(&key, tokens, now).is_ok()
    }

    #[test]
    fn two_threads_with_one_known_key_get_its_tokens() {
        check(|| {
            let limit = limit(3);
            let now = Instant::now();
            limit.try_acquire_at(&1, 1, now).unwrap();
            let got = both(ask(&limit, 1, 1, now), ask(&limit, 1, 1, now));
            assert_eq!(got, (true, true));
            assert_eq!(limit.available_at(&1, now), 0);
        });
    }

    #[test]
    fn two_threads_that_add_one_new_key_share_one_bucket() {
        check(|| {
            let limit = limit(3);
            let now = Instant::now();
            let (one, other) = both(ask(&limit, 1, 2, now), ask(&limit, 1, 2, now));
            assert!(one != other, "two times two of three tokens");
            assert_eq!((limit.available_at(&1, now), limit.live_keys_at(now)), (1, 1));
        });
    }

    #[test]
    fn two_new_keys_do_not_get_the_same_slot() {
        check(|| {
            let limit = limit(3);
            let now = Instant::now();
            assert_eq!(both(ask(&limit, 1, 1, now), ask(&limit, 2, 2, now)), (true, true));
            assert_eq!([1, 2].map(|key| limit.available_at(&key, now)), [2, 1]);
        });
    }

    #[test]
    fn either_a_known_key_takes_from_its_bucket_or_a_new_key_gets_its_slot() {
        check(|| {
            let (limit, now) = crowded(2);
            let (known, stranger) = both(ask(&limit, 1, 1, now), ask(&limit, 5, 2, now));
            assert!(known != stranger, "one slot for both: {known}, {stranger}");
            let left = [1, 2, 3, 4, 5].map(|key| limit.available_at(&key, now));
            assert_eq!(left, if known { [1, 1, 1, 1, 2] } else { [2, 1, 1, 1, 0] });
        });
    }

    #[test]
    fn a_slot_that_is_reused_counts_each_key_separately() {
        check_with_interruptions(3, || {
            let (limit, now) = crowded(2);
            // By the later clock of the third call, no bucket is full again. So key 6 gets no slot.
            let (one, other) = (limit.clone(), limit.clone());
            let next = move || {
                let stranger = other.try_acquire_at(&5, 1, now).is_ok();
                (stranger, other.try_acquire_at(&6, 2, now + SECOND / 2).is_ok())
            };
            let (known, (stranger, third)) = both(move || one.try_acquire_at(&1, 2, now).is_ok(), next);
            assert!(!third, "all four are live by now");
            assert!(known != stranger);
            assert_eq!(limit.available_at(&1, now), if known { 0 } else { 2 });
            assert_eq!(limit.available_at(&5, now), if known { 2 } else { 1 });
        });
    }

    #[test]
    fn a_call_during_a_change_of_the_quota_neither_loses_nor_mints() {
        check(|| {
            let limit = limit(4);
            let now = Instant::now();
            limit.try_acquire_at(&1, 1, now).unwrap();
            let changing = limit.clone();
            let minutes = Quota::new(1, 60 * SECOND);
            let change = move || changing.set_quota_at(0, minutes.with_burst(5), now).unwrap();
            let (got, ()) = both(ask(&limit, 1, 2, now), change);
            assert!(got, "there were three");
            assert_eq!(limit.available_at(&1, now), 1);
        });
    }

    #[test]
    fn a_call_during_two_changes_of_the_quota_neither_loses_nor_mints() {
        check_with_interruptions(3, || {
            let limit = limit(4);
            let now = Instant::now();
            limit.try_acquire_at(&1, 1, now).unwrap();
            let changing = limit.clone();
            let change = move || {
                changing.set_quota_at(0, Quota::new(1, 60 * SECOND).with_burst(5), now).unwrap();
                changing.set_quota_at(0, Quota::new(1, 3600 * SECOND).with_burst(6), now).unwrap();
            };
            let (got, ()) = both(ask(&limit, 1, 2, now), change);
            assert!(got, "there were three");
            assert_eq!(limit.available_at(&1, now), 1);
        });
    }

    #[test]
    fn a_call_during_a_change_of_the_tier_neither_loses_nor_mints() {
        check(|| {
            let tier = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let tier_now = tier.clone();
            let builder = Keyed::<u64>::builder(1, per_second(4)).overflow(Overflow::Refuse);
            let builder = builder.tiers([Quota::new(1, 60 * SECOND).with_burst(5)], move |_| {
                tier_now.load(std::sync::atomic::Ordering::Relaxed)
            });
            let limit = builder.hasher(BuildHasherDefault::<DefaultHasher>::default()).build().unwrap();
            let now = Instant::now();
            limit.try_acquire_at(&1, 1, now).unwrap();
            let (one, other) = (limit.clone(), limit.clone());
            let moved = move || {
                tier.store(1, std::sync::atomic::Ordering::Relaxed);
                other.try_acquire_at(&1, 1, now).is_ok()
            };
            let got = both(move || one.try_acquire_at(&1, 1, now).is_ok(), moved);
            assert_eq!(got, (true, true));
            assert_eq!(limit.available_at(&1, now), 1);
        });
    }

    #[test]
    fn a_refund_while_a_new_key_comes_is_kept_or_its_bucket_is_full() {
        check(|| {
            let (limit, now) = crowded(2);
            // After the refund, key 2 is full and may lose its slot to key 5. Before the refund, only key 1 may.
            let returning = limit.clone();
            let ((), stranger) = both(move || returning.refund_at(&2, 1, now), ask(&limit, 5, 1, now));
            assert!(stranger);
            assert_eq!([1, 2, 3, 4, 5].map(|key| limit.available_at(&key, now)), [2, 2, 1, 1, 1]);
        });
    }
}

/// In each configuration one gate refuses all calls. A call that saw half of each configuration would pass.
#[test]
fn no_call_passes_by_a_half_of_each_of_two_configurations() {
    check_with_interruptions(3, || {
        let limiter = Limiter::fixed(1).unwrap();
        let held = limiter.try_acquire().unwrap();
        let (layer, control) = steadfast::client()
            .circuit_breaker(Breaker::builder().build().unwrap())
            .load_shed(limiter.clone())
            .live()
            .unwrap();
        let caller = thread::spawn(move || {
            let mut service = layer.layer(tower::service_fn(async |()| Ok::<(), std::convert::Infallible>(())));
            let call = std::pin::pin!(service.call(()));
            let polled = call.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(matches!(polled, std::task::Poll::Ready(Err(_))), "it passed");
        });
        let forced = BreakerConfig { forced: Some(Forced::Open), ..BreakerConfig::default() };
        let open = StackConfig {
            circuit_breaker: Some(forced),
            load_shed: Some(LoadShedConfig::new(2)),
            ..StackConfig::default()
        };
        control.apply(&open).unwrap();
        caller.join().unwrap();
        drop(held);
        assert_eq!(limiter.in_flight(), 0);
    });
}
