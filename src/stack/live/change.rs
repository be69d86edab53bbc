//! Applies a configuration while calls pass through the gates.

use super::{Pieces, StackConfig, config_gate::Changing, depth, news::Outcome, pieces::Remaining, shared::LiveShared};

/// A running change. A pass is the way of one call through all gates. The change has three steps:
///
/// 1. Tighten: each gate becomes as strict as the old and the new configuration together. A pass that ends before the
///    turn sees each gate as in the old configuration or stricter. A call that is admitted in such a pass is one that
///    the old configuration admits.
/// 2. Turn: the version number increases. Calls that start afterwards use the new settings.
/// 3. Loosen: each gate follows the new configuration. A pass that starts after the turn sees each gate as in the new
///    configuration or stricter. A call that is admitted in such a pass is one that the new configuration admits. A
///    pass that spans the turn is repeated.
///
/// For some gates no intermediate configuration is as strict as both; see [`Course`](crate::shell::Course). If exactly
/// one such gate changes, in one step, and the settings stay, it changes between two turns. A pass between the two
/// turns sees this gate in its old or its new configuration, and every other gate at its strictest. A pass that spans
/// one of the turns is repeated.
///
/// In three other cases, the gates close until all such gates have changed. New passes wait, and passes that are
/// running are repeated:
///
/// - Several such gates change.
/// - One such gate changes in several steps.
/// - The settings change along with such a gate.
pub(super) struct Change<'change> {
    shared: &'change LiveShared,
    pieces: &'change Pieces,
    to: &'change StackConfig,
    /// Whether the kill switch changes. Turning it on tightens, because the stack then refuses all calls. Turning it
    /// off loosens.
    kill_switch_changes: bool,
    /// The work that remains for each piece, in the order of `pieces`.
    remaining: Vec<Remaining>,
}

impl<'change> Change<'change> {
    /// Applies the configuration that the stack was built with, without a report.
    pub(super) fn apply_built(shared: &'change LiveShared, pieces: &'change Pieces, to: &'change StackConfig) {
        Self::apply_reporting(shared, pieces, to, |_| None);
    }

    /// Applies `to`, which must be complete and checked. Reports it if it differs from the configuration in force.
    pub(super) fn apply(shared: &'change LiveShared, pieces: &'change Pieces, to: &'change StackConfig) {
        Self::apply_reporting(shared, pieces, to, |shared| Some(shared.config(pieces)));
    }

    fn apply_reporting(
        shared: &'change LiveShared,
        pieces: &'change Pieces,
        to: &'change StackConfig,
        read: impl FnOnce(&LiveShared) -> Option<StackConfig>,
    ) {
        shared.config_gate.change(|changing| {
            let _depth = depth::change();
            // A guard, so that listeners learn of the change even if a user's limit panics. After such a panic, some
            // gates and the settings may be unchanged. The guard is declared before `change`, so it is dropped later.
            // First the drop of `change` loosens the gates, then the drop of the guard adds the news.
            let _report = ReportOnDrop { shared, before: read(shared), to };
            let kill_switch_changes = shared.is_off() != to.switched_off;
            let mut change = Self { shared, pieces, to, kill_switch_changes, remaining: Vec::new() };
            change.tighten();
            change.turn(changing);
            change.loosen();
        });
    }

    fn tighten(&mut self) {
        if self.to.switched_off {
            self.shared.switch(true);
        }
        self.remaining.extend(self.pieces.iter().map(|piece| piece.tighten(self.to)));
    }

    fn turn(&mut self, changing: &mut Changing<'_>) {
        let (version, settings) = (changing.version(), self.to.settings());
        let settings_change = settings != self.shared.settings(version);
        if !settings_change
            && !self.kill_switch_changes
            && self.remaining.iter().all(|work| *work == Remaining::Unchanged)
        {
            // Nothing that a pass depends on has changed, so no pass needs to be repeated.
            return;
        }
        let image = if settings_change { version.next_image() } else { version.image() };
        if settings_change {
            self.shared.set_next_settings(version, settings);
        }
        let count = |work| self.remaining.iter().filter(|other| **other == work).count();
        match (count(Remaining::OneStep), count(Remaining::SeveralSteps)) {
            (0, 0) => changing.turn(image),
            (1, 0) if !settings_change => {
                changing.turn(image);
                self.step();
                changing.turn(image);
            }
            _ => {
                changing.close();
                self.step();
                changing.turn(image);
            }
        }
    }

    /// Changes the gates that have no intermediate configuration.
    fn step(&mut self) {
        for (piece, work) in self.pieces.iter().zip(&mut self.remaining) {
            if matches!(work, Remaining::OneStep | Remaining::SeveralSteps) {
                *work = Remaining::Done;
                piece.apply(self.to);
            }
        }
    }

    fn loosen(&mut self) {
        for (piece, work) in self.pieces.iter().zip(&mut self.remaining) {
            if *work == Remaining::Loosen {
                // Set before `apply`: if a user's limit panics there, `drop` must not call it again.
                *work = Remaining::Done;
                piece.apply(self.to);
            }
        }
        if !self.to.switched_off {
            self.shared.switch(false);
        }
    }
}

/// When dropped, adds the change to the news, unless the new configuration equals the old one.
/// [`Control::apply`](super::Control::apply) delivers the news after the change.
struct ReportOnDrop<'change> {
    shared: &'change LiveShared,
    before: Option<StackConfig>,
    to: &'change StackConfig,
}

impl Drop for ReportOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take().filter(|before| before != self.to) {
            let (before, after) = (Box::new(before), Box::new(self.to.clone()));
            self.shared.news.add(Outcome::Applied { before, after });
        }
    }
}

impl Drop for Change<'_> {
    /// After a panic, loosens the gates that are still as strict as both configurations. Without a panic, this has been
    /// done already, and doing it again has no effect.
    fn drop(&mut self) {
        self.loosen();
    }
}
