use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Calls of the store that are under way: at most two, so that one is being served while the next one is on its way. What
/// comes meanwhile leaves together with the one after.
pub(super) struct Flights<T>([Option<Flight<T>>; 2]);

type Flight<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<T> Flights<T> {
    pub(super) fn new() -> Self {
        Self([None, None])
    }

    pub(super) fn has_room(&self) -> bool {
        self.0.iter().any(Option::is_none)
    }

    pub(super) fn are_done(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Adds one, where there is room.
    pub(super) fn start(&mut self, flight: impl Future<Output = T> + Send + 'static) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(Box::pin(flight));
        }
    }

    /// The result of one that has ended.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<T> {
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
