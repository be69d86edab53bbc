use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, Sleep, sleep_until};

pin_project! {
    /// The only timer of a call. It is made when it is first needed.
    pub(crate) struct Timer {
        #[pin]
        sleep: Option<Sleep>,
        // Whether `sleep` is set and has not fired. A sleep that has fired is kept until it is reset or dropped.
        armed: bool,
    }
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self { sleep: None, armed: false }
    }

    /// Is ready at `instant`. `Pending` registers the waker for that instant.
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

    /// Drops the timer: the call no longer waits for an instant.
    #[inline]
    pub(crate) fn disarm(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.sleep.is_some() {
            this.sleep.set(None);
            *this.armed = false;
        }
    }
}
