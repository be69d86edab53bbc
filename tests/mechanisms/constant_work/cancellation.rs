//! Ticks and pollers that are dropped.

use super::last_good::Directory;
use super::support::{Answer, Scripted, builder, copy, in_force, limit, published, shape};
use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

#[tokio::test(start_paused = true)]
async fn a_tick_dropped_at_any_poll_changes_nothing_and_the_next_one_works() {
    let rules = |version: u64| vec![limit(version, 1)];
    let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 0, &rules(0))));
    let directory = Directory::new("cancelled");
    let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
    let current = poller.current();
    poller.tick().await.unwrap();
    source.pends(4);
    for version in 1..=5 {
        source.gives(&published(shape(2), 1, version, &rules(version)));
        // Each tick is dropped after `polls` polls. A tick needs five polls to end.
        for polls in 0..4 {
            let mut tick = pin!(poller.tick());
            for _ in 0..polls {
                let poll = tick.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(matches!(poll, Poll::Pending));
            }
        }
        assert_eq!(in_force(&current), rules(version - 1));
        assert_eq!(poller.readings().now().ticks.good(), version);
        poller.tick().await.unwrap();
        assert_eq!(in_force(&current), rules(version));
    }
}

/// The first tick begins to read the file. The read cannot end before three ticks have been dropped, because the only
/// thread for blocking work hangs.
#[test]
fn a_tick_continues_the_file_read_of_a_dropped_first_tick() {
    super::last_good::while_the_disk_hangs(async |go_on| {
        let directory = Directory::new("dropped_first");
        std::fs::write(directory.file(), published(shape(2), 1, 7, &[limit(7, 7)])).unwrap();
        let source = Scripted::down();
        let mut poller = builder(&source, shape(2)).last_good(directory.file()).build(copy).unwrap();
        for _ in 0..3 {
            let mut tick = pin!(poller.tick());
            assert!(tick.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        go_on.send(()).unwrap();
        poller.tick().await.unwrap_err();
        assert_eq!(in_force(&poller.current()), [limit(7, 7)]);
        assert_eq!(poller.readings().now().last_good.refused, 0);
    });
}

#[tokio::test(start_paused = true)]
async fn the_value_outlives_the_poller() {
    let source = Scripted::new(Answer::Bytes(published(shape(2), 1, 1, &[limit(1, 1)])));
    let poller = builder(&source, shape(2)).build(copy).unwrap();
    let current = poller.current();
    let task = tokio::spawn(poller.run());
    tokio::time::sleep(super::support::SECOND).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert_eq!(in_force(&current), [limit(1, 1)]);
}
