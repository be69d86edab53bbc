use super::{
    handle::Keyed,
    shared::{CountedOn, HashedKey},
    tier_of::TierOf,
};
use crate::{
    error::RateLimited,
    rate_limit::{
        layer::RateLimit,
        limit::{DescribeLimit, Limit},
    },
    shell::{Decision, Explanation, Frame, RefusesNow},
};
use std::{
    borrow::Borrow,
    convert::Infallible,
    fmt,
    hash::{BuildHasher, Hash},
};
use tokio::time::Instant;

/// A token bucket for each key, and a function that returns the key of a request: [`RateLimit::by_key`].
pub struct ByKey<K: ?Sized, T, S, F> {
    pub(in crate::rate_limit) keyed: Keyed<K, T, S>,
    key_of: F,
}

/// Finds the key of a request.
pub trait KeyOf<Request, K: ?Sized> {
    /// Finds the key, and runs `work` with it.
    fn with_key<R>(&self, request: &Request, work: impl FnOnce(&K) -> R) -> R;
}

/// A function that makes the key of a request.
#[derive(Clone, Copy, Debug)]
pub struct OwnedKey<F>(F);

impl<F> OwnedKey<F> {
    pub(in crate::rate_limit) fn new(key_of: F) -> Self {
        Self(key_of)
    }
}

impl<F> BorrowedKey<F> {
    pub(in crate::rate_limit) fn new(key_of: F) -> Self {
        Self(key_of)
    }
}

// Not derived: a derived impl would require `K: Clone`, and `str` is not `Clone`.

impl<K: ?Sized, T, S, F: Clone> Clone for ByKey<K, T, S, F> {
    fn clone(&self) -> Self {
        Self { keyed: self.keyed.clone(), key_of: self.key_of.clone() }
    }
}

/// A function that finds the key in a request.
#[derive(Clone, Copy, Debug)]
pub struct BorrowedKey<F>(F);

impl<Request, K, F, Key> KeyOf<Request, K> for OwnedKey<F>
where
    K: ?Sized,
    F: Fn(&Request) -> Key,
    Key: Borrow<K>,
{
    #[inline]
    fn with_key<R>(&self, request: &Request, work: impl FnOnce(&K) -> R) -> R {
        let key = (self.0)(request);
        let result = work(key.borrow());
        // Dropped here, because a panic in a drop at the end of the scope would leak the result.
        drop(key);
        result
    }
}

impl<Request, K, F> KeyOf<Request, K> for BorrowedKey<F>
where
    K: ?Sized,
    F: Fn(&Request) -> &K,
{
    #[inline]
    fn with_key<R>(&self, request: &Request, work: impl FnOnce(&K) -> R) -> R {
        work((self.0)(request))
    }
}

/// The tokens that a call has taken, and their bucket.
#[derive(Clone, Copy, Debug)]
pub struct TakenByKey {
    key: HashedKey,
    counted: CountedOn,
    tokens: u64,
}

impl<K: ?Sized, T, S, F> RateLimit<ByKey<K, T, S, OwnedKey<F>>> {
    /// Makes a limit in which each call costs one token of its key's bucket. `key_of` returns the key of a request, by
    /// value. To borrow the key from the request, use [`by_key_ref`](RateLimit::by_key_ref).
    ///
    /// `key_of` is a closure or function `Fn(&Request) -> Key`. The key is a `K`, or borrows as a `K`, as a `String`
    /// borrows as a `str`.
    ///
    /// `key_of` runs once per attempt that costs tokens, before the call is admitted, and so does the function that
    /// returns the key's tier. Both may run once more before the backoff of an outer [retry](crate::retry).
    ///
    /// ```
    /// use std::{net::IpAddr, time::Duration};
    /// use steadfast::rate_limit::{Keyed, Quota, RateLimit};
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let buckets = Keyed::<IpAddr>::builder(10_000, Quota::new(10, Duration::from_secs(1))).build()?;
    /// let limit = RateLimit::by_key(buckets, |caller: &(IpAddr, u16)| caller.0);
    /// # let _ = limit;
    /// # Ok(())
    /// # }
    /// ```
    pub fn by_key(keyed: Keyed<K, T, S>, key_of: F) -> Self {
        Self::new(ByKey { keyed, key_of: OwnedKey::new(key_of) })
    }
}

impl<K: ?Sized, T, S, F> RateLimit<ByKey<K, T, S, BorrowedKey<F>>> {
    /// Makes a limit like [`by_key`](RateLimit::by_key), but `key_of` borrows the key from the request, without an
    /// allocation.
    ///
    /// Write the closure inside the call, as below, or pass a function: `fn tenant(order: &Order) -> &str`. A closure
    /// that is first bound by `let` does not compile, because Rust then does not infer that the key borrows from the
    /// request.
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast::rate_limit::{Keyed, Quota, RateLimit};
    ///
    /// struct Order {
    ///     tenant: String,
    /// }
    ///
    /// # fn main() -> Result<(), steadfast::ConfigError> {
    /// let buckets = Keyed::<str>::builder(10_000, Quota::new(10, Duration::from_secs(1))).build()?;
    /// let limit = RateLimit::by_key_ref(buckets, |order: &Order| order.tenant.as_str());
    /// # let _ = limit;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Requests that borrow
    ///
    /// If the request is itself a reference, such as `&Order`, pass a function that names both lifetimes. A closure
    /// compiles here, but accepts references of a single lifetime only. The compiler then reports an error where the
    /// stack is called: the order "does not live long enough" (E0597).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{convert::Infallible, future::ready, time::Duration};
    /// use steadfast::rate_limit::{Keyed, Quota, RateLimit};
    /// use tower::{ServiceExt, service_fn};
    ///
    /// struct Order {
    ///     tenant: String,
    ///     lines: u64,
    /// }
    ///
    /// fn tenant<'a>(order: &'a &Order) -> &'a str {
    ///     &order.tenant
    /// }
    ///
    /// let buckets = Keyed::<str>::builder(10_000, Quota::new(10, Duration::from_secs(1))).build()?;
    /// let limit = RateLimit::by_key_ref(buckets, tenant).cost(|order: &&Order| order.lines);
    /// let service = service_fn(|order: &Order| ready(Ok::<_, Infallible>(order.lines)));
    /// let stack = steadfast::client().rate_limit(limit).service(service)?;
    /// for lines in [3, 7] {
    ///     let order = Order { tenant: "acme".to_owned(), lines };
    ///     assert_eq!(stack.clone().oneshot(&order).await?, lines);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The closures of [`cost`](Self::cost), [`weight`](crate::load_level::LoadLevel::weight) and
    /// [`replay_if`](crate::retry::Retry::replay_if) return no borrowed value. They only need the type of their
    /// parameter, as `cost` above: `|order: &&Order|`. With the type, they may also be bound by `let` first. A closure
    /// of [`classify`](crate::stack::ClientBuilder::classify) needs the type only if it is bound by `let`.
    pub fn by_key_ref<Request>(keyed: Keyed<K, T, S>, key_of: F) -> Self
    where
        F: Fn(&Request) -> &K,
    {
        Self::new(ByKey { keyed, key_of: BorrowedKey::new(key_of) })
    }
}

impl<Request, K, T, S, F> Limit<Request> for ByKey<K, T, S, F>
where
    K: Hash + ?Sized,
    T: TierOf<K>,
    S: BuildHasher,
    F: KeyOf<Request, K>,
{
    /// `None` if the call costs nothing.
    type Permit = Option<TakenByKey>;
    type Place = Infallible;

    #[inline]
    fn admit(
        &self,
        request: &Request,
        tokens: u64,
        frame: &mut Frame,
    ) -> Decision<Self::Permit, Infallible, RateLimited> {
        if tokens == 0 {
            return Decision::Admitted(None);
        }
        frame.user_code_runs();
        let key = self.key_of.with_key(request, |key| self.keyed.hash(key));
        let counted = self.keyed.take_at(key, tokens, frame.now());
        counted.map(|counted| Some(TakenByKey { key, counted, tokens })).into()
    }

    fn would_refuse(&self, request: &Request, tokens: u64, due: Instant, frame: &mut Frame) -> bool {
        if tokens == 0 {
            return false;
        }
        frame.user_code_runs();
        self.key_of.with_key(request, |key| self.keyed.would_refuse_at(key, tokens, due))
    }

    fn refund(&self, taken: Self::Permit, frame: &mut Frame) {
        if let Some(TakenByKey { key, counted, tokens }) = taken {
            self.keyed.give_back_at(key, counted, tokens, frame.now());
        }
    }
}

/// Never refuses: without a request there is no key.
impl<K: ?Sized, T, S, F> RefusesNow for ByKey<K, T, S, F> {}

impl<K: ?Sized, T, S, F> DescribeLimit for ByKey<K, T, S, F> {
    fn describe(&self) -> String {
        let quotas: Vec<_> = (0..self.keyed.tiers()).map(|tier| self.keyed.quota(tier).to_string()).collect();
        format!("for each of {} keys: {}", self.keyed.max_keys(), quotas.join(", or "))
    }

    fn instruments(&self, _name: &'static str, explanation: &mut Explanation) {
        explanation.instrument(self.keyed.instrument());
    }
}

impl<K: ?Sized, T, S, F> fmt::Debug for ByKey<K, T, S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByKey").field("keyed", &self.describe()).finish_non_exhaustive()
    }
}
