use super::{Ending, Frame};

/// Holds a permit while user code may panic. If a panic drops the guard, the guard settles the permit.
pub(crate) struct SettleOnDrop<P, F>
where
    F: Fn(P, Ending, &mut Frame),
{
    /// Takes the permit back.
    settle: F,
    /// `None` once [`keep`](Self::keep) or [`settle`](Self::settle) has taken the permit, or [`change`](Self::change)
    /// has given it away. Also `None` for a call that an earlier panic tore down.
    permit: Option<P>,
    /// How the call has ended if a panic drops this guard.
    panicked: Ending,
}

impl<P, F> SettleOnDrop<P, F>
where
    F: Fn(P, Ending, &mut Frame),
{
    #[inline]
    pub(crate) fn new(settle: F, permit: Option<P>, panicked: Ending) -> Self {
        Self { settle, permit, panicked }
    }

    /// Returns the permit, while the guard holds it.
    #[inline]
    pub(crate) fn held(&mut self) -> Option<&mut P> {
        self.permit.as_mut()
    }

    /// Replaces the permit with the result of `change`. If `change` panics, the permit is lost.
    #[inline]
    pub(crate) fn change(&mut self, change: impl FnOnce(P) -> Option<P>) {
        self.permit = self.permit.take().and_then(change);
    }

    /// Returns the permit after user code ran without a panic.
    #[inline]
    pub(crate) fn keep(mut self) -> Option<P> {
        self.permit.take()
    }

    /// Settles the permit of a call that has ended.
    #[inline]
    pub(crate) fn settle(mut self, ending: Ending, frame: &mut Frame) {
        if let Some(permit) = self.permit.take() {
            (self.settle)(permit, ending, frame);
        }
    }
}

impl<P, F> Drop for SettleOnDrop<P, F>
where
    F: Fn(P, Ending, &mut Frame),
{
    #[inline]
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            (self.settle)(permit, self.panicked, &mut Frame::new());
        }
    }
}
