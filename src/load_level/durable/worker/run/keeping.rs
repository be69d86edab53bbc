//! Keeps messages alive: tells Redis which messages the worker has had for long, so that no other worker takes them
//! over.

use super::{Asking, Run};
use crate::{load_level::durable::entry::Entry, redis::Fault};
use std::{
    collections::HashMap,
    task::{Context, Poll},
};
use tokio::time::Instant;

/// The most messages of one request.
const MOST_KEPT: usize = 500;

type Answer = (Vec<Entry>, Result<Vec<Entry>, Fault>);

pub(super) struct Keeping {
    /// All messages that this worker has, until Redis has confirmed their end. The value is the instant from which the
    /// next renewal counts: when the message was received, or when the last answered request with the message was made.
    held: HashMap<Entry, Instant>,
    /// The request in flight, and the time at which it was made.
    request: Option<(Instant, Asking<Answer>)>,
    /// The next request is made no earlier.
    next_at: Instant,
}

/// The messages of a request, and the time at which it was made.
pub(super) struct KeptAlive {
    entries: Vec<Entry>,
    since: Instant,
}

impl Keeping {
    pub(super) fn new(now: Instant) -> Self {
        Self { held: HashMap::new(), request: None, next_at: now }
    }

    /// Returns the number of messages that the worker has.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn holds(&self, entry: Entry) -> bool {
        self.held.contains_key(&entry)
    }

    /// Notes that the worker has this message from now on.
    pub(super) fn hold(&mut self, entry: Entry, now: Instant) {
        self.held.insert(entry, now);
    }

    /// Sets `now` as the instant from which the next renewal of this message counts. Returns `false` if the worker does
    /// not have the message.
    pub(super) fn renew(&mut self, entry: Entry, now: Instant) -> bool {
        self.held.get_mut(&entry).map(|noticed| *noticed = now).is_some()
    }

    /// Notes that the worker no longer has this message.
    pub(super) fn release(&mut self, entry: Entry) {
        self.held.remove(&entry);
    }

    /// Returns when the next request is due, if none is in flight and the worker has messages.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.request.is_none() && !self.held.is_empty()).then_some(self.next_at)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(KeptAlive, Result<Vec<Entry>, Fault>)> {
        let Some((since, request)) = &mut self.request else { return Poll::Pending };
        let since = *since;
        request.as_mut().poll(cx).map(|(entries, result)| {
            self.request = None;
            (KeptAlive { entries, since }, result)
        })
    }
}

impl<C> Run<C> {
    /// Renews messages: tells Redis that the worker still has them. A message is renewed once a quarter of the takeover
    /// time has passed since it was received or last renewed. A message that ends sooner needs no request.
    pub(super) fn keep(&mut self, now: Instant) {
        let keeping = &mut self.keeping;
        if keeping.request.is_some() || now < keeping.next_at {
            return;
        }
        let quarter = self.settings.takeover_after / 4;
        let long = keeping.held.iter().filter(|(_, noticed)| now >= **noticed + quarter);
        let entries: Vec<Entry> = long.map(|(entry, _)| *entry).take(MOST_KEPT).collect();
        // The messages that did not fit go with the next request, which is made once this one is answered. After a
        // failure, `Health` delays it. If all fit, the worker looks again after a sixteenth of the takeover time.
        keeping.next_at = if entries.len() == MOST_KEPT { now } else { now + quarter / 4 };
        if !entries.is_empty() {
            keeping.request = Some((now, Box::pin(self.requests.clone().keep(entries))));
        }
    }

    /// Notes that messages were renewed, and drops the waiting messages that the worker no longer has.
    pub(super) fn kept(&mut self, kept: KeptAlive, result: Result<Vec<Entry>, Fault>, now: Instant) {
        let Some(mut lost) = self.answered(result, now) else { return };
        // This includes lost messages. Those whose call has begun stay held, and are in a request again after a quarter
        // of the takeover time.
        for entry in kept.entries {
            self.keeping.renew(entry, kept.since);
        }
        if lost.is_empty() {
            return;
        }
        lost.sort_unstable();
        // This worker no longer has these messages in Redis. Other workers have taken them over, or they have ended, or
        // Redis has lost its data. Those that wait are dropped here. A message whose call has begun stays held: the
        // call goes on, and the worker still reports its end to Redis.
        self.waiting.retain(|entry| {
            let is_lost = lost.binary_search(&entry).is_ok();
            if is_lost {
                self.keeping.release(entry);
            }
            !is_lost
        });
    }
}
