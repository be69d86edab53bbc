//! How a configuration is applied while calls pass.

use super::{Pieces, StackConfig, depth, news::Outcome, passes::Changing, pieces::Left, shared::Shared};

/// A change under way.
///
/// 1. Each gate becomes as strict as the old configuration and the new one together. A pass sees gates by the old one
///    or stricter gates, and so what it admits the old one admits.
/// 2. The version turns, and the terms of new calls are the new ones.
/// 3. Each gate follows the new configuration. A pass that began after the turn sees stricter gates or gates by the new
///    one, and so what it admits the new one admits. A pass that began before is made again.
///
/// A gate that has no such way changes between two turns, which no pass spans: it is the only one between them that is
/// not stricter. Where several change, or the terms change with it, no pass begins until all have.
pub(super) struct Change<'change> {
    shared: &'change Shared,
    pieces: &'change Pieces,
    to: &'change StackConfig,
    /// Whether the kill switch changes.
    switches: bool,
    /// For each piece.
    left: Vec<Left>,
}

impl<'change> Change<'change> {
    /// Puts what was built in force.
    pub(super) fn make_first(shared: &'change Shared, pieces: &'change Pieces, to: &'change StackConfig) {
        Self::make_noted(shared, pieces, to, |_| None);
    }

    /// Makes the change: `to` is complete and was checked. If it changes something, that is news in the end.
    pub(super) fn make(shared: &'change Shared, pieces: &'change Pieces, to: &'change StackConfig) {
        Self::make_noted(shared, pieces, to, |shared| Some(shared.config(pieces)));
    }

    fn make_noted(
        shared: &'change Shared,
        pieces: &'change Pieces,
        to: &'change StackConfig,
        read: impl FnOnce(&Shared) -> Option<StackConfig>,
    ) {
        shared.passes.change(|changing| {
            let _deeper = depth::change();
            // Dropped last. It is news also where a limit of the user's panics: the others have followed.
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
        let (version, terms) = (changing.version(), self.to.terms());
        let terms_change = terms != self.shared.terms(version);
        if !terms_change && !self.switches && self.left.iter().all(|left| *left == Left::Same) {
            // No pass is made again for nothing.
            return;
        }
        let image = if terms_change { version.next_image() } else { version.image() };
        if terms_change {
            self.shared.set_next_terms(version, terms);
        }
        let is_left = |left| self.left.iter().filter(|other| **other == left).count();
        match is_left(Left::Step) + 2 * is_left(Left::Steps) {
            0 => changing.turn(image),
            1 if !terms_change => {
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
                // First, since a limit of the user's may panic.
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

/// Adds the change to the news when it has been made.
struct Noted<'change> {
    shared: &'change Shared,
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
    /// After a panic in one step the other gates do not stay as strict as both configurations together.
    fn drop(&mut self) {
        self.loosen();
    }
}
