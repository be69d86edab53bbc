use crate::load_level::durable::entry::Entry;
use std::time::Duration;

/// A message with its stream entry and its history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) entry: Entry,
    pub(super) memory: Memory,
}

/// The history of a message that is delivered again. As text: `<identity> <failed tries> <milliseconds of the last
/// delay>`, followed by ` suspect` if it is a suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load_level::durable) struct Memory {
    /// The identity of its first append.
    pub(in crate::load_level::durable) id: Entry,
    /// The tries that failed. If a worker dies during the call of a message that is already a suspect, that is a failed
    /// try, too.
    pub(in crate::load_level::durable) failed: u32,
    /// The delay after the last failed call, from which the backoff draws the next one.
    pub(in crate::load_level::durable) delay: Duration,
    /// Whether a worker that died or was cut off may have begun a call of the message. `false` again once a later call
    /// of the message has ended. A call that was rejected before any work, and may be admitted later, is no try: it
    /// does not end the suspicion.
    pub(in crate::load_level::durable) is_suspect: bool,
}

const SUSPECT: &str = "suspect";

impl Memory {
    /// Returns the history of a stream entry. An entry without a readable history is a first delivery.
    pub(in crate::load_level::durable) fn of(entry: Entry, memory: Option<&[u8]>) -> Self {
        memory.and_then(Self::parse).unwrap_or(Self { id: entry, failed: 0, delay: Duration::ZERO, is_suspect: false })
    }

    pub(in crate::load_level::durable) fn parse(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let id = Entry::parse(words.next()?.as_bytes())?;
        let failed = words.next()?.parse().ok()?;
        let delay = Duration::from_millis(words.next()?.parse().ok()?);
        Some(Self { id, failed, delay, is_suspect: words.next() == Some(SUSPECT) })
    }

    pub(in crate::load_level::durable) fn text(&self) -> String {
        let Self { id, failed, delay, is_suspect } = self;
        let suspect = if *is_suspect { format!(" {SUSPECT}") } else { String::new() };
        format!("{id} {failed} {}{suspect}", delay.as_millis())
    }

    /// Returns the time of its first append, in milliseconds of the server's clock.
    pub(in crate::load_level::durable) fn appended_at(&self) -> u64 {
        self.id.millis
    }
}

impl Ticket {
    /// Returns the message after one more failed try.
    pub(super) fn after_a_failure(mut self) -> Self {
        self.memory.failed = self.memory.failed.saturating_add(1);
        // Its call has ended, and the worker is alive.
        self.memory.is_suspect = false;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        Entry::parse(text.as_bytes()).expect("an identity")
    }

    #[test]
    fn a_memory_is_read_as_it_was_written() {
        let (id, delay) = (entry("1700000000123-4"), Duration::from_millis(1500));
        for (is_suspect, text) in [(false, "1700000000123-4 3 1500"), (true, "1700000000123-4 3 1500 suspect")] {
            let memory = Memory { id, failed: 3, delay, is_suspect };
            assert_eq!(memory.text(), text);
            assert_eq!(Memory::of(entry("9-9"), Some(text.as_bytes())), memory);
            assert_eq!(memory.appended_at(), 1_700_000_000_123);
        }
    }

    #[test]
    fn a_message_without_a_readable_memory_is_a_first_delivery() {
        let first = Memory { id: entry("7-1"), failed: 0, delay: Duration::ZERO, is_suspect: false };
        for memory in [None, Some(&b""[..]), Some(b"nonsense"), Some(b"1 1 3"), Some(b"1-1 x 3"), Some(b"\xff 1 1")] {
            assert_eq!(Memory::of(entry("7-1"), memory), first, "{memory:?}");
        }
    }
}
