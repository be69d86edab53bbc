//! The readings of a [`Keyed`]: the number of live keys, and the calls whose key found no slot.

use super::{number, read, read_at};
use crate::support::secs;
use std::collections::BTreeMap;
use steadfast::rate_limit::{Keyed, Overflow, Quota};
use tokio::time::{Instant, advance};

const KEYS: &str = r#"keys{mechanism="rate_limit"}"#;
const OVERFLOWS: &str = r#"keys_overflow_total{mechanism="rate_limit"}"#;

fn readings(keys: f64, overflows: f64) -> BTreeMap<String, f64> {
    [(KEYS.to_owned(), keys), (OVERFLOWS.to_owned(), overflows)].into()
}

#[tokio::test(start_paused = true)]
async fn live_keys_are_read_from_the_start_until_their_buckets_are_full() {
    let buckets = Keyed::<u64>::builder(100, Quota::new(1, secs(10))).build().unwrap();
    assert_eq!(read(&buckets), readings(0.0, 0.0));
    for key in 0..7 {
        buckets.try_acquire(&key, 1).unwrap();
    }
    assert_eq!(read(&buckets), readings(7.0, 0.0));
    // Reads at later instants, the last of them long after the states of the buckets have wrapped around.
    for later in [10, 366 * 24 * 3600, 100 * 366 * 24 * 3600] {
        assert_eq!(read_at(&buckets, Instant::now() + secs(later)), readings(0.0, 0.0));
    }
    assert_eq!(read(&buckets), readings(7.0, 0.0));
    assert!((0..7).all(|key| buckets.try_acquire(&key, 1).is_err()));
    advance(secs(10)).await;
    assert_eq!(read(&buckets), readings(0.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn each_call_whose_key_finds_no_slot_counts_refused_or_shared() {
    for overflow in [Overflow::Shared, Overflow::Refuse] {
        let builder = Keyed::<u64>::builder(1, Quota::new(1, secs(10))).overflow(overflow);
        let buckets = builder.build().unwrap();
        let mut without_slot = 0;
        for key in 0..100 {
            let admitted = buckets.try_acquire(&key, 1).is_ok();
            // A call that costs more than the burst is refused for its cost. It does not count as an overflow.
            assert!(buckets.try_acquire(&key, 2).is_err());
            let live = number(&buckets, KEYS);
            // If neither number has grown by this key, the key found no slot.
            if live as u64 + without_slot == key {
                without_slot += 1;
            }
            assert!(admitted || without_slot > 0);
            assert_eq!(number(&buckets, OVERFLOWS), without_slot as f64);
        }
        assert!(without_slot > 0, "{overflow:?}");
        // A read of the table does not count as overflow.
        assert!((0..100).all(|key| buckets.available_at(&key, Instant::now()) <= 1));
        assert_eq!(number(&buckets, OVERFLOWS), without_slot as f64);
    }
}
