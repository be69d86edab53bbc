use super::{
    Pieces, StackConfig,
    config_gate::{ConfigGate, OVERTAKEN_AT, Version},
    depth,
    news::News,
    settings::SharedSettings,
};
use crate::{
    shell::{CallSettings, Frame, Recall},
    sync::{AtomicU64, Ordering},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
};
use tower::Service;

/// The state that the stages of a live stack share with its [`Control`](super::Control).
#[derive(Default)]
pub(super) struct LiveShared {
    pub(super) config_gate: ConfigGate,
    /// Not zero while the kill switch is on. Relaxed: a pass learns from the version whether its read was current.
    switched_off: Switch,
    /// Two images of the settings of new calls. The version says which one is current.
    settings: [SharedSettings; 2],
    /// The configurations that were applied and refused.
    pub(super) news: News,
}

struct Switch(AtomicU64);

impl Default for Switch {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl LiveShared {
    #[inline]
    pub(super) fn is_off(&self) -> bool {
        self.switched_off.0.load(Ordering::Relaxed) != 0
    }

    /// Sets the kill switch, within a change.
    pub(super) fn switch(&self, off: bool) {
        self.switched_off.0.store(off.into(), Ordering::Relaxed);
    }

    /// Returns the version at the start of a pass, after waiting for the gates to open. Does not wait within a change,
    /// because the gates open only at its end.
    #[inline]
    pub(super) fn version(&self) -> Version {
        loop {
            let version = self.config_gate.version();
            if !version.is_closed() || depth::is_in_change() {
                return version;
            }
            self.config_gate.wait_for_change();
        }
    }

    /// Returns the version at the start of a pass, and the settings of a call that starts with that version. Waits for
    /// the gates to open, as [`version`](Self::version) does.
    #[inline]
    pub(super) fn begin(&self) -> (Version, CallSettings) {
        loop {
            let version = self.version();
            let settings = self.settings(version);
            if self.config_gate.is_current(version) {
                return (version, settings);
            }
        }
    }

    /// Reads the settings that are current in `version`.
    #[inline]
    pub(super) fn settings(&self, version: Version) -> CallSettings {
        self.settings[version.image()].load()
    }

    /// Writes the settings to the image that is not current, within a change.
    pub(super) fn set_next_settings(&self, version: Version, settings: CallSettings) {
        self.settings[version.next_image()].store(settings);
    }

    /// Returns the settings in force.
    pub(super) fn settings_in_force(&self) -> CallSettings {
        self.begin().1
    }

    /// Reads the configuration in force. Called within a change or within [`look`](Self::look).
    pub(super) fn config(&self, pieces: &Pieces) -> StackConfig {
        let mut config = StackConfig { switched_off: self.is_off(), ..StackConfig::default() };
        pieces.iter().for_each(|piece| piece.read(&mut config));
        config.set_settings(self.settings_in_force());
        config
    }

    /// Runs `work` between two changes, so that it reads one whole configuration. A caller that is itself within a
    /// change or a read runs `work` at once.
    pub(super) fn look<T>(&self, work: impl FnOnce() -> T) -> T {
        if depth::is_in_change() {
            return work();
        }
        let read = || {
            self.config_gate.between_changes(|| {
                let _depth = depth::change();
                work()
            })
        };
        let result = catch_unwind(AssertUnwindSafe(read));
        // User code that runs within a read may call `apply`. Its change is refused, which adds news. A read without
        // such code runs no listener: its caller may hold a lock that a listener takes.
        if depth::take_refusal() {
            self.news.deliver();
        }
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

impl LiveShared {
    /// Ends the pass of a call. Repeats the pass if a change came in between and no gate refused the call. Runs in the
    /// call's first poll, because the call is pinned there and can be restarted in place. Returns whether a change came
    /// in between.
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
        let is_torn = !self.config_gate.is_current(version);
        if is_torn {
            self.begin_again::<Next, S, Request>(next, call, version, frame);
        }
        is_torn
    }

    /// Repeats a pass until no change comes in between, or a gate refuses the call. A refusal is the decision of one
    /// gate, and therefore of one configuration, so it stands.
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
        while !self.config_gate.is_current(version) {
            overtaken += 1;
            if overtaken == OVERTAKEN_AT {
                held_off = Some(self.config_gate.hold_off());
            }
            let Some(request) = next.recall(call.as_mut(), frame) else { return };
            frame.begin_pass_again();
            let settings;
            (version, settings) = self.begin();
            // Only the pass in which the call started sets its settings. A later pass keeps them.
            if frame.is_in_pass() {
                frame.set_settings(settings);
            }
            call.set(next.start(request, frame));
        }
        drop(held_off);
    }
}
