use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};

pin_project! {
    /// The one timer of a call, made when it is first needed.
    pub(crate) struct Timer {
        #[pin]
        sleep: Option<Sleep>,
        // Whether `sleep` is set to an instant that has not come yet. A sleep that has fired is kept to be reset.
        armed: bool,
    }
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { sleep: None, armed: false }
    }

    /// Ready once `instant` has come. On `Pending` the waker is registered for it.
    pub(crate) fn poll_until(self: Pin<&mut Self>, instant: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        match this.sleep.as_mut().as_pin_mut() {
            None => this.sleep.set(Some(sleep_until(instant))),
            Some(sleep) if *this.armed && sleep.deadline() == instant => {}
            Some(sleep) => sleep.reset(instant),
        }
        *this.armed = true;
        let fired = this.sleep.as_pin_mut().map_or(Poll::Ready(()), |sleep| sleep.poll(cx));
        *this.armed = fired.is_pending();
        fired
    }

    /// The call waits for no instant any more.
    #[inline]
    pub(crate) fn disarm(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.sleep.is_some() {
            this.sleep.set(None);
            *this.armed = false;
        }
    }
}
