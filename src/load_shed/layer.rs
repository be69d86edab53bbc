use super::{Limiter, terms::Ask};
use crate::shell::{Classes, CriticalityBy, CriticalityOfContext, Frame, GateStage, KeepError, Leaf, StackLayer};
use std::hash::Hash;

/// Refuses calls over the limit, as a tower layer. See the [module](super).
///
/// The service's error type is kept and must be `From<Rejection>`. With [`typed_error`](StackLayer::typed_error) the
/// layer returns an [`Error`](crate::Error) instead, and with [`respond_with`](StackLayer::respond_with) a response.
#[doc(alias("bulkhead", "BulkheadLayer", "ConcurrencyLimitLayer", "AdaptiveLimiterLayer"))]
pub type LoadShedLayer<X = KeepError, K = NoTenants, C = CriticalityOfContext, E = NoneExempt> =
    StackLayer<GateStage<LoadShed<K, C, E>, Leaf>, X>;

impl<K, C, E> LoadShedLayer<KeepError, K, C, E> {
    /// Makes a layer that admits calls while the limiter has room. Takes a [`Limiter`] or a [`LoadShed`].
    pub fn new(limiter: impl Into<LoadShed<K, C, E>>) -> Self {
        StackLayer::from_stages(GateStage::new(limiter.into(), Leaf::default()), KeepError)
    }
}

/// A [`Limiter`] with functions that derive the tenant and the criticality of a request, and whether it is exempt.
///
/// ```
/// use steadfast::{Criticality, load_shed::{LoadShed, Limiter}};
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// struct Request {
///     tenant: String,
///     path: &'static str,
/// }
///
/// let limiter = Limiter::adaptive().by_criticality().build()?;
/// let shed = LoadShed::new(limiter)
///     .tenant(|request: &Request| request.tenant.clone())
///     .criticality(|request: &Request| match request.path {
///         "/prefetch" => Criticality::Sheddable,
///         _ => Criticality::Critical,
///     })
///     .exempt(|request: &Request| request.path == "/health");
/// # let handler = tower::service_fn(async |_: Request| Ok::<_, std::convert::Infallible>(()));
/// let server = steadfast::server().load_shed(shed).service(handler)?;
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LoadShed<K = NoTenants, C = CriticalityOfContext, E = NoneExempt> {
    pub(super) limiter: Limiter,
    tenant: K,
    class: C,
    exempt: E,
}

impl LoadShed {
    /// Takes the criticality of each call from its [context](crate::CallContext). No call has a tenant or is exempt.
    pub fn new(limiter: Limiter) -> Self {
        Self { limiter, tenant: NoTenants, class: CriticalityOfContext, exempt: NoneExempt }
    }
}

impl<C, E> LoadShed<NoTenants, C, E> {
    /// Derives the tenant of each call from its request: a user, a customer, an address. With a [fair
    /// share](super::LimiterBuilder::fair_share) no tenant fills the places of the others. Without one, `key` does not
    /// run.
    ///
    /// `key` is a closure or function `Fn(&Request) -> K` with `K: Hash`.
    pub fn tenant<F>(self, key: F) -> LoadShed<TenantBy<F>, C, E> {
        let Self { limiter, tenant: NoTenants, class, exempt } = self;
        LoadShed { limiter, tenant: TenantBy(key), class, exempt }
    }
}

impl<K, E> LoadShed<K, CriticalityOfContext, E> {
    /// Derives the criticality of each call from its request, and ignores the criticality in the
    /// [context](crate::CallContext). Default: the criticality in the context. With the feature `http` the
    /// criticality of the context is the one that the caller sent. An external peer can only lower it.
    ///
    /// `criticality` is a closure or function `Fn(&Request) -> Criticality`.
    pub fn criticality<F>(self, criticality: F) -> LoadShed<K, CriticalityBy<F>, E> {
        let Self { limiter, tenant, class: CriticalityOfContext, exempt } = self;
        LoadShed { limiter, tenant, class: CriticalityBy(criticality), exempt }
    }
}

impl<K, C> LoadShed<K, C, NoneExempt> {
    /// Admits a request regardless of the limit if `exempt` returns `true` for it: health checks, an operator's calls.
    /// Exempt requests take places. They are [counted](Limiter::exempted) unless the limit is a plain fixed limit.
    ///
    /// This exempts from this limit only. [`ServerBuilder::exempt`](crate::stack::ServerBuilder::exempt) and
    /// [`ClientBuilder::exempt`](crate::stack::ClientBuilder::exempt) exempt from all limits that the builder has so
    /// far. A request that the builder exempts takes no place and is not counted.
    ///
    /// `exempt` is a closure or function `Fn(&Request) -> bool`.
    pub fn exempt<F>(self, exempt: F) -> LoadShed<K, C, ExemptBy<F>> {
        let Self { limiter, tenant, class, exempt: NoneExempt } = self;
        LoadShed { limiter, tenant, class, exempt: ExemptBy(exempt) }
    }
}

impl<K, C, E> LoadShed<K, C, E> {
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Collects what the limiter needs to know about a call.
    #[inline]
    pub(super) fn ask<Request>(&self, request: &Request, frame: &mut Frame) -> Ask
    where
        K: TenantOf<Request>,
        C: Classes<Request>,
        E: ExemptOf<Request>,
    {
        let tenant = self.tenant.tenant(request, &self.limiter, frame);
        let is_exempt = self.exempt.is_exempt(request, frame);
        let class = self.class.criticality(request, frame);
        Ask { class, deadline: frame.inherited().deadline(), is_exempt, tenant }
    }
}

impl From<Limiter> for LoadShed {
    fn from(limiter: Limiter) -> Self {
        Self::new(limiter)
    }
}

/// Derives the tenant of a call, as a hash: zero for a call without a tenant, and without a fair share.
#[doc(hidden)]
pub trait TenantOf<Request> {
    fn tenant(&self, request: &Request, limiter: &Limiter, frame: &mut Frame) -> u64;
}

/// No call has a tenant. The default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTenants;

/// A function derives the tenant of each call.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct TenantBy<F>(F);

impl<Request> TenantOf<Request> for NoTenants {
    #[inline]
    fn tenant(&self, _request: &Request, _limiter: &Limiter, _frame: &mut Frame) -> u64 {
        0
    }
}

impl<Request, F, K> TenantOf<Request> for TenantBy<F>
where
    F: Fn(&Request) -> K,
    K: Hash,
{
    #[inline]
    fn tenant(&self, request: &Request, limiter: &Limiter, frame: &mut Frame) -> u64 {
        if limiter.tenants().is_none() {
            return 0;
        }
        frame.user_code_runs();
        limiter.hash_of(&(self.0)(request))
    }
}

/// Decides whether a call is admitted regardless of the limit.
#[doc(hidden)]
pub trait ExemptOf<Request> {
    /// Whether no call is ever exempt.
    const NONE: bool = false;

    fn is_exempt(&self, request: &Request, frame: &mut Frame) -> bool;
}

/// No call is exempt. The default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NoneExempt;

/// A function decides which calls are exempt.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ExemptBy<F>(F);

impl<Request> ExemptOf<Request> for NoneExempt {
    const NONE: bool = true;

    #[inline]
    fn is_exempt(&self, _request: &Request, _frame: &mut Frame) -> bool {
        false
    }
}

impl<Request, F: Fn(&Request) -> bool> ExemptOf<Request> for ExemptBy<F> {
    #[inline]
    fn is_exempt(&self, request: &Request, frame: &mut Frame) -> bool {
        frame.user_code_runs();
        (self.0)(request)
    }
}
