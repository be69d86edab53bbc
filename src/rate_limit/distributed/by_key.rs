use crate::{
    error::RateLimited,
    rate_limit::{BorrowedKey, DescribeLimit, KeyOf, Limit, OwnedKey, RateLimit},
    shell::{Decision, Ending, Explanation, Frame, RefusesNow, SettleOnDrop},
};
use std::{
    marker::PhantomData,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// The interface through which a [`RateLimit`] asks a distributed limit: [`Exact`](super::Exact),
/// [`Leased`](super::Leased) or [`WriteBehind`](super::WriteBehind).
pub trait Distributed {
    /// Whether a call may wait for the store.
    const WAITS: bool;

    /// The tokens that an admitted call has taken.
    type Permit;

    /// The place of a call that waits for the store.
    type Place;

    /// Takes tokens of this key, or refuses, or returns a place if the store has to be asked.
    fn admit(&self, key: &[u8], tokens: u64, now: Instant) -> Decision<Self::Permit, Self::Place, RateLimited>;

    /// Returns whether a call would be refused at `due`, as far as this process knows. Changes no state. Default:
    /// `false`.
    fn would_refuse(&self, _key: &[u8], _tokens: u64, _due: Instant) -> bool {
        false
    }

    /// Polls for the answer of the store. Stays pending until [`give_up_at`](Self::give_up_at) at most.
    fn poll(
        &self,
        place: &mut Self::Place,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<Result<Self::Permit, RateLimited>>;

    /// Returns the time at which the call stops waiting for the store.
    fn give_up_at(&self, place: &Self::Place) -> Instant;

    /// Gives up a place. Tokens that were granted to it go back to the store.
    fn leave(&self, place: &mut Self::Place);

    /// Gives back the tokens of a call that was not made after all.
    fn refund(&self, permit: Self::Permit);

    /// Describes in words how much the limit allows.
    fn describe(&self) -> String;

    /// Returns the longest time that a call may wait for the store.
    fn longest_wait(&self) -> Duration;

    /// Adds the instrument of the limit to the explanation.
    fn instruments(&self, name: &'static str, explanation: &mut Explanation);
}

/// A distributed limit, and a function that finds the key of each request: [`RateLimit::distributed`].
#[derive(Clone, Debug)]
pub struct DistributedByKey<D, F> {
    pub(in crate::rate_limit) limit: D,
    key_of: F,
}

impl<D, F> RateLimit<DistributedByKey<D, OwnedKey<F>>> {
    /// Takes one token per call from the limit of the request's key, which many processes share. `key_of` makes the key
    /// of a request, of at most [`LONGEST_KEY`](super::LONGEST_KEY) bytes. Use
    /// [`distributed_ref`](RateLimit::distributed_ref) to borrow a key that the request contains.
    ///
    /// `key_of` is a closure or function `Fn(&Request) -> Key`, where the key is `AsRef<[u8]>`.
    ///
    /// A request without a key needs one too, for example an empty one. All requests with that key share its limit.
    ///
    /// A call that has to ask the store waits for the answer, at most for the limit's own deadline.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use steadfast::rate_limit::{Quota, RateLimit, distributed::{Embedded, Exact}};
    /// use tower::{BoxError, ServiceExt, service_fn};
    ///
    /// let (limit, flusher) = Exact::builder(Embedded::new(), Quota::new(2, Duration::from_secs(1))).build()?;
    /// tokio::spawn(flusher.run());
    ///
    /// let service = service_fn(async |tenant: u32| Ok::<_, BoxError>(tenant));
    /// let limit = RateLimit::distributed(limit, |tenant: &u32| tenant.to_be_bytes());
    /// let service = steadfast::server().rate_limit(limit).service(service)?;
    /// for _ in 0..2 {
    ///     assert!(service.clone().oneshot(7).await.is_ok());
    /// }
    /// assert!(service.clone().oneshot(7).await.is_err());
    /// assert!(service.oneshot(8).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn distributed(limit: D, key_of: F) -> Self
    where
        D: Distributed,
    {
        Self::new(DistributedByKey { limit, key_of: OwnedKey::new(key_of) })
    }
}

impl<D, F, Key: ?Sized> RateLimit<DistributedByKey<D, (BorrowedKey<F>, PhantomData<fn(&Key)>)>> {
    /// Like [`distributed`](RateLimit::distributed), but `key_of` borrows a key that the request contains.
    ///
    /// Write the closure in the call, as below, or pass a function. If the request is itself a reference, such as
    /// `&Order`, pass a function: `fn tenant<'a>(order: &'a &Order) -> &'a str`. See
    /// [`by_key_ref`](RateLimit::by_key_ref).
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::rate_limit::{RateLimit, distributed::{Embedded, Leased}};
    ///
    /// struct Order {
    ///     tenant: String,
    /// }
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let (limit, flusher) = Leased::builder(Embedded::new(), 1000, Duration::from_secs(10)).build()?;
    /// let limit = RateLimit::distributed_ref(limit, |order: &Order| order.tenant.as_str());
    /// # let _ = (limit, flusher);
    /// # Ok(())
    /// # }
    /// ```
    pub fn distributed_ref<Request>(limit: D, key_of: F) -> Self
    where
        D: Distributed,
        F: Fn(&Request) -> &Key,
        Key: AsRef<[u8]>,
    {
        Self::new(DistributedByKey { limit, key_of: (BorrowedKey::new(key_of), PhantomData) })
    }
}

/// Finds the bytes of a request's key.
pub trait BytesOf<Request> {
    /// Calls `work` with the bytes of the key.
    fn with_bytes<R>(&self, request: &Request, work: impl FnOnce(&[u8]) -> R) -> R;
}

impl<Request, F, Key> BytesOf<Request> for OwnedKey<F>
where
    F: Fn(&Request) -> Key,
    Key: AsRef<[u8]>,
{
    fn with_bytes<R>(&self, request: &Request, work: impl FnOnce(&[u8]) -> R) -> R {
        self.with_key(request, |key: &Key| work(key.as_ref()))
    }
}

impl<Request, F, Key> BytesOf<Request> for (BorrowedKey<F>, PhantomData<fn(&Key)>)
where
    F: Fn(&Request) -> &Key,
    Key: AsRef<[u8]> + ?Sized,
{
    fn with_bytes<R>(&self, request: &Request, work: impl FnOnce(&[u8]) -> R) -> R {
        self.0.with_key(request, |key: &Key| work(key.as_ref()))
    }
}

impl<Request, D, F> Limit<Request> for DistributedByKey<D, F>
where
    D: Distributed,
    F: BytesOf<Request>,
{
    const WAITS: bool = D::WAITS;
    const ASKS: bool = D::WAITS;

    type Permit = D::Permit;
    type Place = D::Place;

    fn admit(&self, request: &Request, tokens: u64, frame: &mut Frame) -> Decision<D::Permit, D::Place, RateLimited> {
        frame.user_code_runs();
        let refused = Ending::Refused { retry_after: None };
        let refund = |permit, _, _: &mut Frame| self.limit.refund(permit);
        let admission = self.key_of.with_bytes(request, |key| match self.limit.admit(key, tokens, frame.now()) {
            // The key is dropped after this. If its destructor panics, the guard refunds the tokens.
            Decision::Admitted(permit) => Ok(SettleOnDrop::new(refund, Some(permit), refused)),
            other => Err(other),
        });
        // The destructor of the key is user code, and may have taken long. So the frame has to read the clock again.
        frame.user_code_runs();
        match admission.map(SettleOnDrop::keep) {
            Ok(Some(permit)) => Decision::Admitted(permit),
            Err(other) => other,
            // Does not happen: a guard that was not settled still has its permit.
            Ok(None) => Decision::Refused(RateLimited::new(None)),
        }
    }

    fn would_refuse(&self, request: &Request, tokens: u64, due: Instant, frame: &mut Frame) -> bool {
        frame.user_code_runs();
        self.key_of.with_bytes(request, |key| self.limit.would_refuse(key, tokens, due))
    }

    fn poll(
        &self,
        place: &mut D::Place,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<D::Permit, RateLimited>> {
        let answer = self.limit.poll(place, cx, frame.now());
        // The limit may have cloned the waker. That is user code, so the frame has to read the clock again.
        frame.user_code_runs();
        if answer.is_pending() {
            frame.wake_at(self.limit.give_up_at(place));
        }
        answer
    }

    fn leave(&self, place: &mut D::Place, _frame: &mut Frame) {
        self.limit.leave(place);
    }

    fn refund(&self, permit: D::Permit, _frame: &mut Frame) {
        self.limit.refund(permit);
    }
}

/// The default of `refuses_now` is `false`. It fits here: `refuses_now` gets no request, and without a request there is
/// no key.
impl<D: Distributed, F> RefusesNow for DistributedByKey<D, F> {}

impl<D: Distributed, F> DescribeLimit for DistributedByKey<D, F> {
    fn describe(&self) -> String {
        self.limit.describe()
    }

    fn instruments(&self, name: &'static str, explanation: &mut Explanation) {
        self.limit.instruments(name, explanation);
    }

    fn longest_wait(&self) -> Duration {
        self.limit.longest_wait()
    }

    fn longest_wait_in_shadow(&self) -> Duration {
        self.limit.longest_wait()
    }
}
