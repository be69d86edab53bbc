use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// A future that runs beside others.
pub(super) type Running<'a, Output> = Pin<Box<dyn Future<Output = Output> + Send + 'a>>;

/// Runs all futures at the same time, each to its end. Returns their outputs in order.
pub(super) async fn all<Output>(mut running: Vec<Running<'_, Output>>) -> Vec<Output> {
    let mut outputs: Vec<Option<Output>> = running.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
