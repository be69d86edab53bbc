//! Faults of a sink, and of its content.

use super::fixture::{Limit, Memory, Way, builder, publisher, rules, shape};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};
use steadfast::constant_work::{PublishError, Publisher, Refusal, Snapshot, SourceFailure};

#[tokio::test]
async fn one_publication_repairs_a_corrupt_snapshot() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    publisher.publish(&rules(2, 5)).await.expect("a sink that is right");
    let good = sink.bytes();
    let mut damaged = Vec::new();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        damaged.push(bytes);
    }
    damaged.extend((0..good.len()).map(|length| good[..length].to_vec()));
    damaged.push([good.clone(), vec![0]].concat());
    damaged.push([good.clone(), good.clone()].concat());
    damaged.push(vec![0xff; good.len()]);
    damaged.push(vec![0; 100_000]);
    for bytes in damaged {
        Snapshot::<Limit>::decode(&bytes, shape()).expect_err("it is damaged");
        sink.put(bytes);
        publisher.publish(&rules(2, 5)).await.expect("it is replaced");
        assert_eq!(sink.published(), (1, 1, rules(2, 5)));
    }
    // A publication of changed rules repairs the snapshot, too.
    sink.put(good[1..].to_vec());
    publisher.publish(&rules(2, 6)).await.expect("it is replaced");
    assert_eq!(sink.published(), (1, 2, rules(2, 6)));
    sink.put(None);
    publisher.publish(&rules(2, 6)).await.expect("there is nothing");
    assert_eq!(sink.published(), (1, 2, rules(2, 6)));
}

#[tokio::test]
async fn a_restored_backup_is_replaced_by_a_later_version() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
    let backup = sink.bytes();
    publisher.publish(&rules(1, 2)).await.expect("a sink that is right");
    for (rate, version) in [(2, 2), (1, 3)] {
        sink.put(backup.clone());
        publisher.publish(&rules(1, rate)).await.expect("a sink that is right");
        assert_eq!(sink.published(), (1, version, rules(1, rate)));
    }
}

#[tokio::test]
async fn a_publisher_without_a_version_leaves_an_unreadable_snapshot() {
    let sink = Memory::default();
    publisher(&sink).publish(&rules(1, 1)).await.expect("a sink that is right");
    let mut corrupt = sink.bytes();
    corrupt[70] ^= 1;
    for bytes in [corrupt, Vec::new(), b"something else".to_vec(), vec![1; 200_000]] {
        sink.put(bytes.clone());
        let mut publisher = builder(&sink).epoch(2).build().expect("settings that work");
        for _ in 0..2 {
            let error = publisher.publish(&rules(1, 1)).await.expect_err("it cannot be read");
            assert!(matches!(error, PublishError::Unknown(_)), "{error:?}");
            assert_eq!(sink.bytes(), bytes);
        }
        // An operator removes the snapshot.
        sink.put(None);
        publisher.publish(&rules(1, 1)).await.expect("there is nothing");
        assert_eq!(sink.published(), (2, 1, rules(1, 1)));
    }
}

#[tokio::test]
async fn a_later_format_is_never_replaced() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
    let mut later = sink.bytes();
    later[8] = 2;
    let end = later.len() - 4;
    let checksum = crc32(&later[..end]).to_le_bytes();
    later[end..].copy_from_slice(&checksum);
    // The checksum is correct, but this publisher does not know format 2.
    sink.put(later.clone());
    for _ in 0..2 {
        let error = publisher.publish(&rules(1, 2)).await.expect_err("a snapshot of another publisher");
        assert!(matches!(error, PublishError::Unknown(Refusal::Format { found: 2, .. })), "{error:?}");
        assert_eq!(sink.bytes(), later);
    }
}

/// Computes the CRC-32 of zlib bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32| if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), |sum, _| step(sum)))
}

#[tokio::test]
async fn a_version_that_may_have_been_written_is_not_given_to_other_rules() {
    for way in [Way::NotWritable, Way::Unanswered] {
        let sink = Memory::default();
        let mut publisher = publisher(&sink);
        publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
        sink.go(way);
        let error = publisher.publish(&rules(1, 2)).await.expect_err("the sink reports a failure");
        assert!(
            matches!(&error, PublishError::Sink(error) if error.failure() == SourceFailure::Unreachable),
            "{error:?}"
        );
        sink.go(Way::Well);
        publisher.publish(&rules(1, 3)).await.expect("a sink that is right");
        assert_eq!(sink.published(), (1, 3, rules(1, 3)), "{way:?}");
        sink.go(way);
        publisher.publish(&rules(1, 4)).await.expect_err("the sink reports a failure");
        sink.go(Way::Well);
        publisher.publish(&rules(1, 4)).await.expect("a sink that is right");
        assert_eq!(sink.published(), (1, 4, rules(1, 4)), "{way:?}");
    }
}

#[tokio::test]
async fn a_sink_whose_read_fails_is_not_written_to() {
    let sink = Memory::default();
    let mut publisher = publisher(&sink);
    publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
    sink.go(Way::NotReadable);
    let error = publisher.publish(&rules(1, 2)).await.expect_err("it cannot be read");
    assert_eq!((error.kind(), sink.calls().1), ("sink", 1));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_costs_the_timeout() {
    let sink = Memory::default();
    let mut publisher = builder(&sink).timeout(Duration::from_millis(300)).build().expect("settings that work");
    for way in [Way::ReadHangs, Way::WriteHangs] {
        sink.go(way);
        let began = tokio::time::Instant::now();
        let error = publisher.publish(&rules(1, 1)).await.expect_err("it hangs");
        let PublishError::Sink(error) = error else { panic!("{error:?}") };
        assert_eq!(error.failure(), SourceFailure::TimedOut(Duration::from_millis(300)));
        assert_eq!(tokio::time::Instant::now() - began, Duration::from_millis(300));
        sink.go(Way::Well);
        publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
    }
}

/// Drops the future after this many polls, unless it completes earlier.
async fn poll_times<F: Future>(future: F, polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test]
async fn a_dropped_publication_is_old_or_new() {
    let mut ended = 0;
    for polls in 0..10 {
        let sink = Memory::default();
        let mut publisher: Publisher<Limit, Memory> = publisher(&sink);
        publisher.publish(&rules(1, 1)).await.expect("a sink that is right");
        ended += u32::from(poll_times(publisher.publish(&rules(2, 2)), polls).await.is_some());
        let found = sink.published();
        assert!([(1, 1, rules(1, 1)), (1, 2, rules(2, 2))].contains(&found), "{found:?}");
        publisher.publish(&rules(3, 3)).await.expect("it still works");
        let (_, version, published) = sink.published();
        assert!(version > found.1 && published == rules(3, 3), "{version} after {found:?}");
    }
    assert_eq!(ended, 5, "four pauses");
}
