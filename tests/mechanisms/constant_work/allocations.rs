//! The allocations of a tick. They do not depend on the answer of the source; only a write of the last-good file adds
//! some.

use super::{
    last_good::Directory,
    support::{Answer, Limit, Scripted, builder, copy, forged, in_force, limit, published, shape},
};
use crate::counting::{Allocated, allocated};
use std::collections::BTreeSet;
use steadfast::constant_work::SourceFailure;

const SLOTS: u32 = 200;

/// `used` rules, of which `changed` are different in each version.
fn rules(used: u32, changed: u32, version: u64) -> Vec<Limit> {
    let rate = |slot: u32| if slot < changed { 1_000 + version as u32 } else { 1_000 };
    (0..used).map(|slot| limit(slot.into(), rate(slot))).collect()
}

#[test]
fn every_tick_makes_the_same_allocations() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // The runtime and `ArcSwap` each allocate once per thread. This tick does so before the counting begins.
    let mut another = builder(&Scripted::down(), shape(1)).build(copy).unwrap();
    runtime.block_on(another.tick()).unwrap_err();
    let mut seen = BTreeSet::new();
    let mut ticks = 0;
    for used in [0, SLOTS / 2, SLOTS] {
        for changed in [0, 1, SLOTS / 10, SLOTS] {
            let good = |version| published(shape(SLOTS), 1, version, &rules(used, changed, version));
            let mut corrupt = good(99);
            corrupt[70] ^= 1;
            let invalid = forged(good(99), 64, &[255]);
            let source = Scripted::down();
            let mut poller = builder(&source, shape(SLOTS)).build(copy).unwrap();
            let mut tick = |answer: Answer, kind: Option<&str>| {
                source.answers(answer);
                let (outcome, cost) = allocated(|| runtime.block_on(poller.tick()));
                assert_eq!(outcome.err().map(|refusal| refusal.kind()), kind);
                let Allocated { times, bytes } = cost;
                seen.insert((times, bytes));
                ticks += 1;
            };
            // The first tick finds no snapshot, the second is the first good one. Both cost the same as later ones.
            tick(Answer::Fails(SourceFailure::Unreachable), Some("source"));
            for version in 1..4 {
                tick(Answer::Bytes(good(version)), None);
                tick(Answer::Fails(SourceFailure::Unreachable), Some("source"));
                tick(Answer::Hangs, Some("source"));
                tick(Answer::Bytes(corrupt.clone()), Some("corrupt"));
                tick(Answer::Bytes(Vec::new()), Some("empty"));
                tick(Answer::Bytes(good(0)), Some("backwards"));
                tick(Answer::Bytes(invalid.clone()), Some("encoding"));
            }
            assert_eq!(in_force(&poller.current()), rules(used, changed, 3));
        }
    }
    // The copy that the target makes, and the `Arc` around it.
    let copied = SLOTS as u64 * size_of::<Limit>() as u64;
    assert_eq!(ticks, 12 * 22);
    assert_eq!(Vec::from_iter(seen), [(2, copied + 40)]);
}

#[test]
fn the_last_good_file_costs_one_task_per_tick_or_nothing_while_a_write_runs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    let directory = Directory::new("allocations");
    let good = published(shape(SLOTS), 1, 1, &rules(SLOTS, 0, 1));
    let source = Scripted::new(Answer::Bytes(good.clone()));
    let mut poller = builder(&source, shape(SLOTS)).last_good(directory.file()).build(copy).unwrap();
    // The first tick looks for the file, allocates the buffer, and starts the only thread for blocking work. Its
    // allocations are not counted.
    runtime.block_on(poller.tick()).unwrap();
    let answers = [Answer::Bytes(good), Answer::Fails(SourceFailure::Unreachable), Answer::Bytes(Vec::new())];
    for answer in answers.into_iter().cycle().take(100_000) {
        source.answers(answer);
        let (_, cost) = allocated(|| runtime.block_on(poller.tick()));
        if poller.readings().now().last_good.written >= 10 {
            return;
        }
        // A tick makes two allocations, as above. A tick that begins a write makes three more: the task and two paths.
        assert!([2, 5].contains(&cost.times), "{cost:?}");
        let paths = 2 * (directory.file().as_os_str().len() as u64 + ".partial".len() as u64);
        assert!(cost.bytes <= SLOTS as u64 * size_of::<Limit>() as u64 + 40 + paths + 300, "{cost:?}");
    }
    panic!("a hundred thousand ticks, and not ten writes: {:?}", poller.readings());
}
