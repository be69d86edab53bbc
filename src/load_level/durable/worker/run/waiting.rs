//! The messages that wait for their call.

use super::super::{memory::Ticket, requests::Outcome};
use crate::load_level::durable::entry::Entry;
use std::{collections::VecDeque, time::Duration};

/// The messages that wait for their call, by kind, in the order of their arrival.
#[derive(Default)]
pub(super) struct WaitingMessages {
    pub(super) ordinary: VecDeque<Ready>,
    /// The messages that may have killed a worker.
    pub(super) suspects: VecDeque<Ready>,
}

/// A message that waits for its call, and its payload.
pub(super) struct Ready {
    pub(super) ticket: Ticket,
    pub(super) payload: Vec<u8>,
}

impl WaitingMessages {
    pub(super) fn add(&mut self, ready: Ready) {
        let queue = if ready.ticket.memory.is_suspect { &mut self.suspects } else { &mut self.ordinary };
        queue.push_back(ready);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.suspects.is_empty()
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(Entry) -> bool) {
        for queue in [&mut self.ordinary, &mut self.suspects] {
            queue.retain(|ready| keeps(ready.ticket.entry));
        }
    }

    /// Removes all messages, to be delivered again at once.
    pub(super) fn give_back(&mut self) -> Vec<Outcome> {
        let all = self.suspects.drain(..).chain(self.ordinary.drain(..));
        all.map(|Ready { ticket, .. }| Outcome::again(ticket, Duration::ZERO)).collect()
    }
}
