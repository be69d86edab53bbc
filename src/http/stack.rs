//! The HTTP of both builders.

use super::{border::Http, peer::Peer, verdict::Verdict, wire::Wire};
use crate::{
    classify::AnyError,
    shell::{Leaf, NoStamp, TypedError},
    stack::{ClientBuilder, ServerBuilder},
};

impl<O, T, R, B, Q, L, A, X> ClientBuilder<O, T, R, B, Q, L, A, Leaf<AnyError, NoStamp>, X> {
    /// Calls an HTTP or gRPC service: its answers mean what the [`Verdict`] says, and each attempt sends its deadline,
    /// its number and its criticality by a [`Wire`]. Rejections stay [typed](crate::Error).
    ///
    /// `peer` says whether the service is one of your own. A verdict of your own, as one that knows which errors come
    /// before a request is sent, is given with [`http_by`](Self::http_by).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::{convert::Infallible, time::Duration};
    /// use http::{Request, Response, StatusCode};
    /// use steadfast::http::{self as of_http, Peer};
    /// use tower::{ServiceExt, service_fn};
    ///
    /// let payments = service_fn(async |request: Request<String>| {
    ///     let mut answer = Response::new(request.headers()["steadfast-deadline-ms"].clone());
    ///     if !request.headers().contains_key("steadfast-attempt") {
    ///         *answer.status_mut() = StatusCode::BAD_GATEWAY;
    ///     }
    ///     Ok::<_, Infallible>(answer)
    /// });
    /// let payments = steadfast::client()
    ///     .timeout(Duration::from_secs(2))
    ///     .retry(of_http::retry(3).without_budget())
    ///     .attempt_timeout(Duration::from_millis(600))
    ///     .http(Peer::Internal)
    ///     .service(payments)?;
    /// let answer = payments.oneshot(Request::get("/balance").body(String::new())?).await?;
    /// assert_eq!((answer.status(), answer.into_body().to_str()?), (StatusCode::OK, "600"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn http(self, peer: Peer) -> ClientBuilder<O, T, R, B, Q, L, A, Leaf<Verdict, Wire>, X> {
        self.http_by(peer, Verdict::new(peer))
    }

    /// As [`http`](Self::http), with a classifier of your own: a [`Verdict`] that knows more, or any
    /// [`Classify`](crate::classify::Classify).
    pub fn http_by<C>(self, peer: Peer, verdict: C) -> ClientBuilder<O, T, R, B, Q, L, A, Leaf<C, Wire>, X> {
        self.fill_leaf(|leaf| leaf.classify_with(verdict).stamp(Wire::new(peer)))
    }
}

impl<O, T, R, B, Q, L, A, F> ClientBuilder<O, T, R, B, Q, L, A, F, TypedError> {
    /// Turns rejections into responses, and keeps the service's error type: for what stands above and knows HTTP only.
    /// A generated client of tonic finds the status and the pushback of a rejection there. See [`Http`].
    pub fn respond_http<C, S>(
        self,
        border: impl Into<Http<C, S>>,
    ) -> ClientBuilder<O, T, R, B, Q, L, A, F, Http<C, S>> {
        self.fill_border(|TypedError| border.into().of_client())
    }
}

impl<O, Q, L, V, T> ServerBuilder<O, Q, L, V, T, Leaf<AnyError, NoStamp>, TypedError> {
    /// Serves HTTP or gRPC: the call takes over what the caller's headers say of its deadline, its attempts and its
    /// criticality; rejections become responses; and the handler's answers mean what the [`Verdict`] says. The error
    /// type of the service stays what it is. See [`Http`], which can be given in place of the peer.
    ///
    /// A caller's deadline ends the call only if the stack has a [`timeout`](Self::timeout), however long. Without one
    /// it is passed on to what the handler calls.
    pub fn http<C, S>(self, border: impl Into<Http<C, S>>) -> ServerBuilder<O, Q, L, V, T, Leaf<Verdict>, Http<C, S>> {
        let border = border.into();
        let verdict = Verdict::of_handler(border.peer());
        self.fill_leaf(|leaf| leaf.classify_with(verdict)).fill_border(|TypedError| border)
    }
}
