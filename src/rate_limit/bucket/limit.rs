//! Token buckets as limits of a stack: one that refuses, one that counts refused calls, and one that lets calls wait.

use super::{state::TakePath, token_bucket::TokenBucket, turn::Turn};
use crate::{
    deadline::Deadline,
    error::RateLimited,
    rate_limit::{
        instrument::Named,
        layer::RateLimit,
        limit::{DescribeLimit, Limit},
    },
    shell::{Decision, Explanation, Frame, RefusesNow},
    waiters::WaiterId,
};
use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

impl<Request> Limit<Request> for TokenBucket {
    /// The tokens taken.
    type Permit = u64;
    type Place = Infallible;

    #[inline]
    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Decision<u64, Infallible, RateLimited> {
        let taken = self.take_at(tokens, frame.now());
        // If the call took the lock, it may have woken waiters, and a waker is user code. A refusal does not say
        // whether it took the lock, so it counts as if it did.
        if taken != Ok(TakePath::LockFree) {
            frame.user_code_runs();
        }
        taken.map(|_| tokens).into()
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, _frame: &mut Frame) -> bool {
        self.would_refuse_at(tokens, due)
    }

    #[inline]
    fn refund(&self, tokens: u64, frame: &mut Frame) {
        self.refund(tokens);
        // The refund may have woken waiters, and a waker is user code.
        frame.user_code_runs();
    }
}

impl DescribeLimit for TokenBucket {
    fn describe(&self) -> String {
        match self.is_closed() {
            true => format!("{}, closed", self.quota()),
            false => self.quota().to_string(),
        }
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        explanation.instrument(Named { name, limit: self.clone() });
    }
}

/// Answers for a call that costs one token.
impl RefusesNow for TokenBucket {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.would_refuse_at(1, frame.now())
    }
}

/// A token bucket that counts refused calls: [`RateLimit::count_refused`](crate::rate_limit::RateLimit::count_refused).
#[derive(Clone, Debug)]
pub struct Owing(pub(in crate::rate_limit) TokenBucket);

impl<Request> Limit<Request> for Owing {
    /// The tokens taken.
    type Permit = u64;
    type Place = Infallible;

    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Decision<u64, Infallible, RateLimited> {
        let taken = self.0.try_acquire_or_owe_at(tokens, frame.now());
        frame.user_code_runs();
        taken.map(|()| tokens).into()
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, _frame: &mut Frame) -> bool {
        self.0.would_refuse_at(tokens, due)
    }

    fn refund(&self, tokens: u64, frame: &mut Frame) {
        self.0.refund(tokens);
        frame.user_code_runs();
    }
}

impl DescribeLimit for Owing {
    fn describe(&self) -> String {
        format!("{}, refused calls count", self.0.describe())
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        self.0.instruments(name, explanation);
    }
}

impl RefusesNow for Owing {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.0.refuses_now(frame)
    }
}

/// A token bucket that lets calls wait: [`RateLimit::wait`](crate::rate_limit::RateLimit::wait).
#[derive(Clone, Debug)]
pub struct InLine(pub(in crate::rate_limit) TokenBucket);

/// The place of a call in the wait queue of a token bucket.
#[derive(Debug)]
pub struct PlaceInLine {
    place: WaiterId,
    tokens: u64,
}

impl<Request> Limit<Request> for InLine {
    const WAITS: bool = true;

    type Permit = u64;
    type Place = PlaceInLine;

    #[inline]
    fn admit(&self, _request: &Request, tokens: u64, frame: &mut Frame) -> Decision<u64, PlaceInLine, RateLimited> {
        let now = frame.now();
        let joined = self.0.join_at(tokens, now, frame.inherited().deadline());
        // The call may have woken waiters, and a waker is user code.
        frame.user_code_runs();
        match joined {
            Ok(None) => Decision::Admitted(tokens),
            Ok(Some(place)) => Decision::Waits(PlaceInLine { place, tokens }),
            Err(refused) => Decision::Refused(refused),
        }
    }

    fn would_refuse(&self, _request: &Request, tokens: u64, due: Instant, frame: &mut Frame) -> bool {
        self.0.would_refuse_a_place_at(tokens, due, frame.inherited().deadline())
    }

    fn poll(&self, place: &mut PlaceInLine, cx: &mut Context<'_>, frame: &mut Frame) -> Poll<Result<u64, RateLimited>> {
        let turn = self.0.poll_place_at(place.place, cx.waker(), frame.now());
        // The poll cloned the waker and may have woken waiters. Both are user code.
        frame.user_code_runs();
        match turn {
            Turn::Come => Poll::Ready(Ok(place.tokens)),
            Turn::Refused(refused) => Poll::Ready(Err(refused)),
            Turn::NotBefore(instant) => {
                frame.wake_at(instant);
                Poll::Pending
            }
        }
    }

    fn leave(&self, place: &mut PlaceInLine, frame: &mut Frame) {
        self.0.leave_at(place.place, frame.now());
        frame.user_code_runs();
    }

    fn refund(&self, tokens: u64, frame: &mut Frame) {
        self.0.refund(tokens);
        frame.user_code_runs();
    }
}

/// Answers for a call that costs one token and has no deadline. The call is refused if its turn would come too late.
impl RefusesNow for InLine {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.0.would_refuse_a_place_at(1, frame.now(), Deadline::NEVER)
    }
}

impl DescribeLimit for InLine {
    fn describe(&self) -> String {
        format!("{}, calls wait up to {:?}", self.0.describe(), self.0.max_wait())
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        self.0.instruments(name, explanation);
    }

    fn longest_wait(&self) -> Duration {
        self.0.max_wait()
    }
}

impl<C, J> RateLimit<TokenBucket, C, J> {
    /// Lets calls wait in order of arrival, as [`TokenBucket::acquire`] does. A call that finds too few tokens waits if
    /// its turn is expected within the bucket's [`max_wait`](crate::rate_limit::TokenBucketBuilder::max_wait), and
    /// before the call's deadline. Otherwise the call is refused at once. The refusal says how long the wait would have
    /// been, unless the call costs more than the burst or the bucket is closed.
    ///
    /// Only a single [`TokenBucket`] can let calls wait for tokens. Other limits, and [combined](RateLimit::and) ones,
    /// refuse. To pace calls evenly, give the bucket a burst of one:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use steadfast::rate_limit::{RateLimit, TokenBucket};
    /// use tokio::time::Instant;
    /// use tower::{ServiceExt, service_fn};
    ///
    /// let send = service_fn(async |row: u32| Ok::<_, std::io::Error>(row));
    /// let pace = TokenBucket::builder(50, Duration::from_secs(1)).burst(1).max_wait(Duration::from_secs(10)).build()?;
    /// let batch = steadfast::client().rate_limit(RateLimit::new(pace).wait()).service(send)?;
    ///
    /// let start = Instant::now();
    /// futures::future::try_join_all((0..=100).map(|row| batch.clone().oneshot(row))).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A call that is dropped, or ended by a timeout of an outer layer, gives up its place.
    pub fn wait(self) -> RateLimit<InLine, C, J> {
        self.map(InLine)
    }

    /// Counts refused calls as well: each adds its cost to a debt of at most a burst. A caller that keeps calling above
    /// the rate is not admitted until it slows down. Default: a refused call costs nothing.
    pub fn count_refused(self) -> RateLimit<Owing, C, J> {
        self.map(Owing)
    }
}
