use super::{
    Pieces, StackConfig, depth,
    news::News,
    passes::{OVERTAKEN_AT, Passes, Version},
    terms::SharedTerms,
};
use crate::{
    shell::{Frame, Recall, Terms},
    sync::{AtomicU64, Ordering},
};
use std::pin::Pin;
use tower::Service;

/// What the stages of a live stack share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) passes: Passes,
    /// Not zero if no call passes. Relaxed: a pass sees by the version whether it was read in time.
    switched_off: Switch,
    /// The terms of new calls. The version says which of the two count.
    terms: [SharedTerms; 2],
    /// What was applied and refused.
    pub(super) news: News,
}

struct Switch(AtomicU64);

impl Default for Switch {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Shared {
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.switched_off.0.load(Ordering::Relaxed) != 0
    }

    /// Sets the kill switch, in a change.
    pub(super) fn switch(&self, off: bool) {
        self.switched_off.0.store(off.into(), Ordering::Relaxed);
    }

    /// The version by which a pass begins. It waits until the gates are open.
    #[inline]
    pub(super) fn version(&self) -> Version {
        loop {
            let version = self.passes.version();
            if !version.is_closed() || depth::is_in_change() {
                return version;
            }
            self.passes.wait_for_change();
        }
    }

    /// The version by which a pass begins, and the terms of a call that begins with it.
    #[inline]
    pub(super) fn begin(&self) -> (Version, Terms) {
        loop {
            let version = self.version();
            let terms = self.terms(version);
            if self.passes.is_current(version) {
                return (version, terms);
            }
        }
    }

    /// The terms by this version.
    #[inline]
    pub(super) fn terms(&self, version: Version) -> Terms {
        self.terms[version.image()].load()
    }

    /// Sets the terms in the image that does not count, in a change.
    pub(super) fn set_next_terms(&self, version: Version, terms: Terms) {
        self.terms[version.next_image()].store(terms);
    }

    /// The terms in force.
    pub(super) fn terms_in_force(&self) -> Terms {
        self.begin().1
    }

    /// The configuration in force, in a change or a look.
    pub(super) fn config(&self, pieces: &Pieces) -> StackConfig {
        let mut config = StackConfig { switched_off: self.is_off(), ..StackConfig::default() };
        pieces.iter().for_each(|piece| piece.read(&mut config));
        config.set_terms(self.terms_in_force());
        config
    }

    /// Looks at what is in force, between two changes.
    pub(super) fn look<T>(&self, work: impl FnOnce() -> T) -> T {
        if depth::is_in_change() {
            return work();
        }
        self.passes.between_changes(|| {
            let _deeper = depth::change();
            work()
        })
    }
}

impl Shared {
    /// Ends the pass of a call, in its first poll: there the call has its place, and need not be moved to begin again.
    /// Returns whether it has.
    #[inline]
    pub(super) fn end_pass<Next, S, Request>(
        &self,
        next: &Next,
        call: Pin<&mut Next::Call>,
        version: Version,
        frame: &mut Frame,
    ) -> bool
    where
        Next: Recall<S, Request>,
        S: Service<Request>,
    {
        let is_torn = !self.passes.is_current(version);
        if is_torn {
            self.begin_again::<Next, S, Request>(next, call, version, frame);
        }
        is_torn
    }

    /// Makes a pass again until no change comes in between, or the call is refused: by one gate, and so by one
    /// configuration.
    #[cold]
    #[inline(never)]
    fn begin_again<Next, S, Request>(
        &self,
        next: &Next,
        mut call: Pin<&mut Next::Call>,
        mut version: Version,
        frame: &mut Frame,
    ) where
        Next: Recall<S, Request>,
        S: Service<Request>,
    {
        let _pass = depth::pass();
        let (mut overtaken, mut held_off) = (0, None);
        while !self.passes.is_current(version) {
            overtaken += 1;
            if overtaken == OVERTAKEN_AT {
                held_off = Some(self.passes.hold_off());
            }
            let Some(request) = next.recall(call.as_mut(), frame) else { return };
            frame.begin_pass_again();
            let terms;
            (version, terms) = self.begin();
            if frame.is_in_pass() {
                frame.set_terms(terms);
            }
            call.set(next.start(request, frame));
        }
        drop(held_off);
    }
}
