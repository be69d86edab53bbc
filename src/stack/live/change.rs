//! Applies a configuration while calls pass through the gates.

use super::{Pieces, StackConfig, config_gate::Changing, depth, news::Outcome, pieces::Left, shared::LiveShared};

/// A running change. It has three steps:
///
/// 1. Tighten: each gate becomes as strict as the old and the new configuration together. A pass sees gates that follow
///    the old configuration or are stricter. The old configuration admits every call that such a pass admits.
/// 2. Turn: the version turns, and new calls start with the new settings.
/// 3. Loosen: each gate follows the new configuration. A pass that started after the turn sees gates that follow the
///    new configuration or are stricter. The new configuration admits every call that such a pass admits. A pass that
///    started before the turn is repeated.
///
/// Some gates have no state that is as strict as both configurations. If one such gate changes alone, it changes
/// between two turns, and a pass that spans a turn is repeated. If several change, or the settings change too, the
/// gates close until all have changed.
pub(super) struct Change<'change> {
    shared: &'change LiveShared,
    pieces: &'change Pieces,
    to: &'change StackConfig,
    /// Whether the kill switch changes.
    switches: bool,
    /// For each piece.
    left: Vec<Left>,
}

impl<'change> Change<'change> {
    /// Puts the built configuration in force.
    pub(super) fn make_first(shared: &'change LiveShared, pieces: &'change Pieces, to: &'change StackConfig) {
        Self::make_noted(shared, pieces, to, |_| None);
    }

    /// Makes the change to `to`, which is complete and checked. Adds it to the news if it changes anything.
    pub(super) fn make(shared: &'change LiveShared, pieces: &'change Pieces, to: &'change StackConfig) {
        Self::make_noted(shared, pieces, to, |shared| Some(shared.config(pieces)));
    }

    fn make_noted(
        shared: &'change LiveShared,
        pieces: &'change Pieces,
        to: &'change StackConfig,
        read: impl FnOnce(&LiveShared) -> Option<StackConfig>,
    ) {
        shared.config_gate.change(|changing| {
            let _depth = depth::change();
            // Dropped last, so that the change becomes news even if a user's limit panics: the other gates have
            // changed.
            let _noted = Noted { shared, before: read(shared), to };
            let switches = shared.is_off() != to.switched_off;
            let mut change = Self { shared, pieces, to, switches, left: Vec::new() };
            change.tighten();
            change.turn(changing);
            change.loosen();
        });
    }

    fn tighten(&mut self) {
        if self.to.switched_off {
            self.shared.switch(true);
        }
        self.left.extend(self.pieces.iter().map(|piece| piece.tighten(self.to)));
    }

    fn turn(&mut self, changing: &mut Changing<'_>) {
        let (version, settings) = (changing.version(), self.to.settings());
        let settings_change = settings != self.shared.settings(version);
        if !settings_change && !self.switches && self.left.iter().all(|left| *left == Left::Same) {
            // Nothing that passes depend on has changed: repeat no pass.
            return;
        }
        let image = if settings_change { version.next_image() } else { version.image() };
        if settings_change {
            self.shared.set_next_settings(version, settings);
        }
        let is_left = |left| self.left.iter().filter(|other| **other == left).count();
        match is_left(Left::Step) + 2 * is_left(Left::Steps) {
            0 => changing.turn(image),
            1 if !settings_change => {
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

    fn step(&mut self) {
        for (piece, left) in self.pieces.iter().zip(&mut self.left) {
            if matches!(left, Left::Step | Left::Steps) {
                // Set before the call, because a user's limit may panic.
                *left = Left::Nothing;
                piece.apply(self.to);
            }
        }
    }

    fn loosen(&mut self) {
        for (piece, left) in self.pieces.iter().zip(&mut self.left) {
            if *left == Left::Loosen {
                *left = Left::Nothing;
                piece.apply(self.to);
            }
        }
        if !self.to.switched_off {
            self.shared.switch(false);
        }
    }
}

/// Adds the change to the news when dropped.
struct Noted<'change> {
    shared: &'change LiveShared,
    before: Option<StackConfig>,
    to: &'change StackConfig,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take().filter(|before| before != self.to) {
            let (before, after) = (Box::new(before), Box::new(self.to.clone()));
            self.shared.news.add(Outcome::Applied { before, after });
        }
    }
}

impl Drop for Change<'_> {
    /// Loosens the other gates if one step panicked, so that they do not stay as strict as both configurations.
    fn drop(&mut self) {
        self.loosen();
    }
}
