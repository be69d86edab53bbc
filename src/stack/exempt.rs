use super::{
    ClientBuilder, ServerBuilder,
    adapt::{Adapt, Adapter},
    client::AdaptedClient,
    server::AdaptedServer,
    slot::{Limit, Off},
};
use crate::{
    error::Rejection,
    shell::{Admission, Decision, Describe, DescribeAdmission, Ending, Explanation, Frame, RefusesNow},
    timeout::Patience,
};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// An admission that some requests bypass.
#[derive(Clone, Copy, Debug)]
pub struct Exempting<A, F> {
    admission: A,
    is_exempt: F,
}

/// The [`Adapter`] of the builders' `exempt`: replaces each admission by an [`Exempting`] one, with this function.
#[derive(Clone, Copy, Debug)]
pub struct Exempt<F>(F);

impl<F: Clone> Adapter for Exempt<F> {
    type Admission<A> = Exempting<A, F>;
    type Empty = Off;
    type Timeout<P: Patience> = Limit<P>;

    fn admission<A>(&self, admission: A) -> Exempting<A, F> {
        Exempting { admission, is_exempt: self.0.clone() }
    }

    fn empty(&self) -> Off {
        Off
    }

    fn timeout<P: Patience>(&self, limit: Limit<P>) -> Limit<P> {
        limit
    }
}

impl<A, F, Request, Response, ServiceError> Admission<Request, Response, ServiceError> for Exempting<A, F>
where
    A: Admission<Request, Response, ServiceError>,
    F: Fn(&Request) -> bool,
{
    const READS_DEADLINE: bool = A::READS_DEADLINE;
    const HOLDS_ROOM: bool = A::HOLDS_ROOM;

    /// `None` for an exempt request.
    type Permit = Option<A::Permit>;
    type Place = A::Place;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Decision<Option<A::Permit>, A::Place> {
        frame.user_code_runs();
        if (self.is_exempt)(request) {
            return Decision::Admitted(None);
        }
        match self.admission.admit(request, frame) {
            Decision::Admitted(permit) => Decision::Admitted(Some(permit)),
            Decision::Waits(place) => Decision::Waits(place),
            Decision::Refused(refused) => Decision::Refused(refused),
        }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        frame.user_code_runs();
        !(self.is_exempt)(request) && self.admission.would_refuse(request, due, frame)
    }

    #[inline]
    fn poll(
        &self,
        place: &mut A::Place,
        cx: &mut Context<'_>,
        frame: &mut Frame,
    ) -> Poll<Result<Option<A::Permit>, Rejection>> {
        self.admission.poll(place, cx, frame).map_ok(Some)
    }

    fn leave(&self, place: &mut A::Place, frame: &mut Frame) {
        self.admission.leave(place, frame);
    }

    #[inline]
    fn under_way(&self, permit: &mut Option<A::Permit>, frame: &mut Frame) {
        if let Some(permit) = permit {
            self.admission.under_way(permit, frame);
        }
    }

    #[inline]
    fn counts(&self, answer: Result<&Response, &ServiceError>, frame: &mut Frame) -> bool {
        self.admission.counts(answer, frame)
    }

    #[inline]
    fn keep(&self, permit: Option<A::Permit>, response: &mut Response, ending: Ending) -> Option<Option<A::Permit>> {
        permit.and_then(|permit| self.admission.keep(permit, response, ending)).map(Some)
    }

    #[inline]
    fn refund(&self, permit: Option<A::Permit>, frame: &mut Frame) {
        if let Some(permit) = permit {
            self.admission.refund(permit, frame);
        }
    }

    #[inline]
    fn settle(&self, permit: Option<A::Permit>, ending: Ending, frame: &mut Frame) {
        if let Some(permit) = permit {
            self.admission.settle(permit, ending, frame);
        }
    }
}

/// Without a request, nothing is exempt.
impl<A: RefusesNow, F> RefusesNow for Exempting<A, F> {
    fn refuses_now(&self, frame: &mut Frame) -> bool {
        self.admission.refuses_now(frame)
    }
}

impl<A: DescribeAdmission, F> DescribeAdmission for Exempting<A, F> {
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe) {
        explanation.layer("exempt", "some requests bypass the next layer");
        self.admission.describe(explanation, next);
    }
}

impl<O, T, R, B, Q, L, A, F, X> ClientBuilder<O, T, R, B, Q, L, A, F, X> {
    /// Lets requests for which `is_exempt` returns true bypass every gate and limit that the builder has at this point.
    /// These can be the circuit breaker, the rate limit and the load shed. Exempt requests take no permit or token. The
    /// bypassed limits do not count them, and they are no evidence for the breaker. Timeouts, retries and slots that
    /// are filled later still apply to them. Call this after the limits to bypass, and before `whole_body`. The maximum
    /// number of calls in flight that `explain` states does not include exempt calls.
    ///
    /// [`LoadShed::exempt`](crate::load_shed::LoadShed::exempt) exempts from one limit only. The requests that it
    /// exempts take places. The limit [counts](crate::load_shed::Limiter::exempted) them unless it is a plain fixed
    /// limit.
    ///
    /// In each attempt, the function runs for each bypassed gate or limit that the attempt reaches. Unless the retry
    /// [waits for refusals](crate::retry::Retry::wait_for_refusals), the stack asks the gates before each retry whether
    /// they would refuse the attempt. The function then runs again. A closure must name the type of its parameter.
    pub fn exempt<E, Request>(self, is_exempt: E) -> AdaptedClient<O, T, R, B, Q, L, A, F, X, Exempt<E>>
    where
        E: Fn(&Request) -> bool + Clone,
        T: Adapt<Exempt<E>>,
        R: Adapt<Exempt<E>>,
        B: Adapt<Exempt<E>>,
        Q: Adapt<Exempt<E>>,
        L: Adapt<Exempt<E>>,
        A: Adapt<Exempt<E>>,
    {
        self.adapt(&Exempt(is_exempt))
    }
}

impl<O, Q, L, V, T, F, X> ServerBuilder<O, Q, L, V, T, F, X> {
    /// Lets requests for which `is_exempt` returns true, such as health checks, bypass every gate and limit that the
    /// builder has at this point. These can be the rate limit, the load shed and the load level. Exempt requests take
    /// no permit or token, and wait in no queue. The bypassed limits do not count them. The timeout and slots that are
    /// filled later still apply to them. Call this after the limits to bypass, and before `whole_body`. The maximum
    /// number of calls in flight that `explain` states does not include exempt calls.
    ///
    /// [`LoadShed::exempt`](crate::load_shed::LoadShed::exempt) exempts from one limit only. The requests that it
    /// exempts take places. The limit [counts](crate::load_shed::Limiter::exempted) them unless it is a plain fixed
    /// limit. A route outside the stack, as in the example `axum_server`, has neither limits nor timeout.
    ///
    /// The function runs for each bypassed gate or limit that the call reaches. A closure must name the type of its
    /// parameter.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io;
    /// use steadfast::load_shed::Limiter;
    /// use tower::{ServiceExt, service_fn};
    ///
    /// let places = Limiter::fixed(1)?;
    /// let service = steadfast::server()
    ///     .load_shed(places.clone())
    ///     .exempt(|path: &&str| *path == "/health")
    ///     .service(service_fn(async |path: &'static str| Ok::<_, io::Error>(path)))?;
    ///
    /// let _taken = places.try_acquire()?;
    /// assert!(service.clone().oneshot("/order").await.is_err());
    /// assert_eq!(service.oneshot("/health").await?, "/health");
    /// # Ok(())
    /// # }
    /// ```
    pub fn exempt<E, Request>(self, is_exempt: E) -> AdaptedServer<O, Q, L, V, T, F, X, Exempt<E>>
    where
        E: Fn(&Request) -> bool + Clone,
        Q: Adapt<Exempt<E>>,
        L: Adapt<Exempt<E>>,
        V: Adapt<Exempt<E>>,
        T: Adapt<Exempt<E>>,
    {
        self.adapt(&Exempt(is_exempt))
    }
}
