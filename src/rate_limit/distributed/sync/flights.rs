use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// The calls to the store in flight: at most two, so that the store serves one while the next one travels. Requests
/// that arrive while two calls are in flight leave together in the next call, up to 64 keys in each call.
pub(crate) struct Flights<T>([Option<Flight<T>>; 2]);

type Flight<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Flights<T> {
    pub(crate) fn new() -> Self {
        Self([None, None])
    }

    pub(crate) fn has_room(&self) -> bool {
        self.0.iter().any(Option::is_none)
    }

    pub(crate) fn are_done(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Adds a call, if there is room.
    pub(crate) fn start(&mut self, flight: impl Future<Output = T> + Send + 'static) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(Box::pin(flight));
        }
    }

    /// Returns the result of a call that has ended.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        for slot in &mut self.0 {
            let Some(flight) = slot else { continue };
            if let Poll::Ready(result) = flight.as_mut().poll(cx) {
                *slot = None;
                return Poll::Ready(result);
            }
        }
        Poll::Pending
    }
}
