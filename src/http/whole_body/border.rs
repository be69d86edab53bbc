use super::{body::WholeBody, deadline::BodyDeadline, held::take_parked};
use crate::{
    error::Error,
    http::{peer::Peer, verdict::Verdict},
    shell::{Border, Frame},
};
use http::Response;
use http_body::Body;

/// The border of a stack with [`whole_body`](crate::stack::ServerBuilder::whole_body). It moves the permits and the
/// deadline of a call into the body of its response, and leaves everything else to the inner border.
#[derive(Clone, Debug)]
pub struct ToTheEnd<X> {
    border: X,
    /// Classifies trailers as those of an external peer. Stacks write `steadfast-retry` only into heads, so the one in
    /// trailers is not believed.
    judge: Verdict,
}

impl<X> ToTheEnd<X> {
    pub(super) fn new(border: X) -> Self {
        Self { border, judge: Verdict::new(Peer::External) }
    }
}

impl<X, Request, B, E> Border<Request, Response<B>, E> for ToTheEnd<X>
where
    X: Border<Request, Response<WholeBody<B>>, E>,
    B: Body,
{
    type Response = X::Response;
    type Error = X::Error;
    type Seen = X::Seen;

    #[inline]
    fn enter(&self, request: &mut Request, frame: &mut Frame) -> X::Seen {
        self.border.enter(request, frame)
    }

    fn exit(
        &self,
        seen: X::Seen,
        result: Result<Response<B>, Error<E>>,
        frame: &mut Frame,
    ) -> Result<X::Response, X::Error> {
        let result = result.map(|mut response| {
            let extensions = response.extensions_mut();
            let permits = take_parked(extensions);
            let deadline = extensions.remove::<BodyDeadline>();
            WholeBody::of(response, permits, deadline, &self.judge)
        });
        // `of` may have dropped the body, which is user code.
        frame.user_code_runs();
        self.border.exit(seen, result, frame)
    }
}
