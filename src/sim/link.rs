use super::{
    Latency, Sim,
    kernel::{Draws, Stream},
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use tower::{Service, ServiceExt};

/// A network between a caller and a service: every request and every answer takes its time on the way.
///
/// A request that was sent arrives, even if its caller has gone, and the service goes on with it. A service that is
/// called without a link is part of its caller: a caller that gives up drops its call, with the permits that it holds
/// in the layers of the service. The call's [`CallContext`](crate::CallContext) arrives with it.
#[derive(Clone)]
pub struct Link<S> {
    sim: Sim,
    latency: Latency,
    random: Stream,
    service: S,
}

impl<S> Link<S> {
    /// A way to `service` that takes this long in each direction.
    pub fn new(sim: &Sim, latency: Latency, service: S) -> Self {
        sim.expect(latency.check());
        Self { sim: sim.clone(), latency, random: sim.stream(Draws::Link), service }
    }
}

impl<S, Request> Service<Request> for Link<S>
where
    S: Service<Request> + Clone + 'static,
    Request: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Arrival<S::Response, S::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (sender, receiver) = oneshot::channel();
        let Self { sim, latency, random, service } = self.clone();
        let there = sim.clone();
        let context = crate::context::CallContext::current();
        sim.spawn(context.scope(async move {
            let hop = || there.sleep(random.draw(|random| latency.draw(0, random)));
            hop().await;
            let result = service.oneshot(request).await;
            hop().await;
            let _ = sender.send(result);
        }));
        Arrival(receiver)
    }
}

/// The answer, on its way.
pub struct Arrival<Response, E>(oneshot::Receiver<Result<Response, E>>);

impl<Response, E> Future for Arrival<Response, E> {
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(result)) => Poll::Ready(result),
            // The sender is dropped unsent only when the whole run ends, and then no caller waits.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}
