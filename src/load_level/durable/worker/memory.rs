use std::time::Duration;

/// What a message that is delivered again remembers: `<identity> <failed tries> <milliseconds of the last delay>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::load_level::durable) struct Memory {
    /// The identity that its first append got.
    pub(in crate::load_level::durable) id: String,
    pub(in crate::load_level::durable) failed: u32,
    pub(in crate::load_level::durable) delay: Duration,
}

impl Memory {
    /// That of the stream's entry of this identity. Without any, or any that can be read, it is a message's first.
    pub(in crate::load_level::durable) fn of(entry: &str, memory: Option<&[u8]>) -> Self {
        let parse = || {
            let mut words = std::str::from_utf8(memory?).ok()?.split(' ');
            let id = words.next()?.to_owned();
            let failed = words.next()?.parse().ok()?;
            Some(Self { id, failed, delay: Duration::from_millis(words.next()?.parse().ok()?) })
        };
        let first = || Self { id: entry.to_owned(), failed: 0, delay: Duration::ZERO };
        parse().unwrap_or_else(first)
    }

    pub(in crate::load_level::durable) fn text(&self) -> String {
        format!("{} {} {}", self.id, self.failed, self.delay.as_millis())
    }

    /// When it was appended first, in milliseconds of the server's clock.
    pub(in crate::load_level::durable) fn appended_at(&self) -> u64 {
        self.id.split('-').next().and_then(|millis| millis.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_is_read_as_it_was_written() {
        let memory = Memory { id: "1700000000123-4".to_owned(), failed: 3, delay: Duration::from_millis(1500) };
        assert_eq!(memory.text(), "1700000000123-4 3 1500");
        assert_eq!(Memory::of("9-9", Some(memory.text().as_bytes())), memory);
        assert_eq!(memory.appended_at(), 1_700_000_000_123);
    }

    #[test]
    fn a_message_without_a_memory_is_its_first_entry() {
        let first = Memory { id: "7-1".to_owned(), failed: 0, delay: Duration::ZERO };
        for memory in [None, Some(&b""[..]), Some(b"nonsense"), Some(b"1-1 x 3"), Some(b"\xff 1 1")] {
            assert_eq!(Memory::of("7-1", memory), first, "{memory:?}");
        }
    }
}
