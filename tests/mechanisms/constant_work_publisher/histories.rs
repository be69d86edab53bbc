//! Random histories of a publisher that restarts, fails and is dropped. The content of its sink is damaged at random.
//! One publisher runs at a time.

use super::fixture::{Limit, Memory, Way, publisher, rules, shape};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{collections::HashMap, time::Duration};
use steadfast::constant_work::{PublishError, Snapshot, Version};
use tokio::time::timeout;

/// A reader that records the greatest version it has read, and the rules of each version.
#[derive(Default)]
struct Reader {
    last: Version,
    rules: HashMap<Version, Vec<Limit>>,
}

impl Reader {
    /// Reads the sink. Returns whether it contained a good snapshot.
    fn look(&mut self, sink: &Memory) -> bool {
        let Ok(snapshot) = Snapshot::<Limit>::decode(&sink.bytes(), shape()) else { return false };
        let known = self.rules.entry(snapshot.version).or_insert_with(|| snapshot.rules.clone());
        assert_eq!(*known, snapshot.rules, "other rules by {}", snapshot.version);
        self.last = self.last.max(snapshot.version);
        true
    }
}

#[tokio::test(start_paused = true)]
async fn readers_never_see_a_version_go_back_or_change() {
    let mut refusals = 0;
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let (sink, mut reader) = (Memory::default(), Reader::default());
        let mut one = publisher(&sink);
        one.publish(&rules(1, 1)).await.expect("a sink that is right");
        // Whether this publisher knows its version, because it has attempted a write.
        let mut has_published = true;
        for _ in 0..40 {
            reader.look(&sink);
            let damaged = random.random_bool(0.2);
            if damaged {
                let mut bytes = sink.bytes();
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
                sink.put(bytes);
            }
            if random.random_bool(0.2) {
                (one, has_published) = (publisher(&sink), false);
            }
            let ways = [Way::Well, Way::Well, Way::NotReadable, Way::NotWritable, Way::Unanswered, Way::WriteHangs];
            let way = ways[random.random_range(0..ways.len())];
            sink.go(way);
            let wanted = rules(1, random.random_range(1..4));
            let whole = Snapshot::<Limit>::decode(&sink.bytes(), shape()).is_ok();
            let ended = timeout(Duration::from_secs(1), one.publish(&wanted)).await;
            sink.go(Way::Well);
            match ended {
                Ok(Ok(_)) => {
                    assert!(reader.look(&sink));
                    let snapshot = sink.snapshot();
                    assert_eq!(snapshot.rules, wanted);
                    assert_eq!(reader.last, snapshot.version, "every reader takes it");
                    has_published = true;
                }
                Ok(Err(PublishError::Unknown(_))) => {
                    assert!(!has_published && !whole, "one that knows heals, and what is whole is known");
                    refusals += 1;
                    // An operator restores the snapshot that the readers had.
                    let last = Snapshot {
                        version: reader.last,
                        published_at_nanos: 0,
                        rules: reader.rules[&reader.last].clone(),
                    };
                    let mut bytes = Vec::new();
                    last.encode(shape(), &mut bytes).expect("rules that are right");
                    sink.put(bytes);
                }
                Ok(Err(error)) => {
                    assert!(way != Way::Well, "{error:?}");
                    // The publisher attempted a write, so it knows its version.
                    has_published |= way == Way::NotWritable || way == Way::Unanswered;
                }
                Err(_) => has_published = true,
            }
        }
    }
    assert!(refusals > 50, "{refusals}");
}
