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

/// A network between a caller and a service: every request and every answer arrives after a latency.
///
/// A sent request arrives even if its caller has gone, and the service continues with it. Without a link, a service is
/// part of its caller. A caller that gives up then drops its call, together with the permits that the service's layers
/// gave it. The call's [`CallContext`](crate::CallContext) arrives with the request.
#[derive(Clone)]
pub struct Link<S> {
    sim: Sim,
    latency: Latency,
    random: Stream,
    service: S,
}

impl<S> Link<S> {
    /// Returns a link to `service` that takes this latency in each direction.
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

/// The future of an answer over a link.
pub struct Arrival<Response, E>(oneshot::Receiver<Result<Response, E>>);

impl<Response, E> Future for Arrival<Response, E> {
    type Output = Result<Response, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.0).poll(cx) {
            Poll::Ready(Ok(result)) => Poll::Ready(result),
            // The sender is dropped without an answer only at the end of the run, and then no caller is polled again.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}
