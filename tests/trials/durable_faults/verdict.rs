//! The checks of a run.

use super::{
    deliveries::{Ended, Kind, Outcome, any_number_of, read},
    part::{BACKOFF, CONCURRENCY, MAX_TRIES, PREFETCH},
    scene::{BACK_WITHIN, Fault, Run},
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The events that a run must have had to be a meaningful test.
#[derive(Clone, Copy, Default)]
pub struct Expected {
    /// No fault: messages are redelivered only for reasons of their own.
    pub is_calm: bool,
    /// Producers have sent messages again.
    pub resends: bool,
    /// Producers have received duplicates for them.
    pub finds_duplicates: bool,
    /// Workers have taken over from others.
    pub takes_over: bool,
}

/// The end of a call may be unreported for this time before a fault.
const UNTOLD_BEFORE: u64 = 500_000_000;

type Deliveries = BTreeMap<u32, Vec<Ended>>;

/// Checks a run, and prints its numbers.
pub fn check(what: &str, run: Run, expected: Expected) {
    let deliveries = read(&run.logs);
    let ids = the_receipts_are_complete(what, &run);
    let (duplicates, unexplained) = duplicates(&run.faults, &deliveries);
    print(what, &run, &deliveries, &duplicates, unexplained.len());
    none_is_lost(what, &run, &deliveries, &ids);
    the_dead_are_the_poison(what, &run, &deliveries);
    all_is_over(what, &run);
    assert!(unexplained.is_empty(), "{what}: redelivered without a reason: {:?}", &unexplained[..1]);
    for (fault, count) in run.faults.iter().zip(&duplicates) {
        let most = most_in_progress(fault);
        assert!(*count <= most, "{what}: {count} duplicates by {}, at most {most} were in progress", fault.name);
    }
    let (resends, told) = resends(&run);
    assert!(!expected.resends || resends > 0, "{what}: nothing was sent again");
    assert!(!expected.finds_duplicates || told > 0, "{what}: no repeated send was a duplicate");
    assert!(!expected.takes_over || taken_over(&run, &deliveries) > 0, "{what}: nothing was taken over");
    if expected.is_calm {
        each_is_tried_as_often_as_it_must_be(what, &deliveries);
        assert_eq!(taken_over(&run, &deliveries), 0, "{what}: taken over");
    }
}

/// Checks that every message has a receipt with an identity of its own. Returns the identities.
fn the_receipts_are_complete(what: &str, run: &Run) -> HashMap<u32, String> {
    let ids: HashMap<u32, String> = run.sent.iter().map(|sent| (sent.number, sent.id.clone())).collect();
    assert_eq!((ids.len(), run.sent.len()), (run.load.messages as usize, run.load.messages as usize), "{what}");
    let different: BTreeSet<_> = ids.values().collect();
    assert_eq!(different.len(), ids.len(), "{what}: two messages have one identity");
    ids
}

fn none_is_lost(what: &str, run: &Run, deliveries: &Deliveries, ids: &HashMap<u32, String>) {
    let has = |number: u32, outcome: Outcome| {
        deliveries.get(&number).is_some_and(|ends| ends.iter().any(|ended| ended.outcome == outcome))
    };
    let lost: Vec<u32> = (0..run.load.messages)
        .filter(|number| match Kind::of(*number) {
            Kind::Plain | Kind::FailsOnce => !has(*number, Outcome::Success),
            Kind::Poison => !has(*number, Outcome::Failure),
            Kind::Undecodable => !has(*number, Outcome::Undecodable),
        })
        .collect();
    assert!(lost.is_empty(), "{what}: {} are lost, the first is {}; {:?}", lost.len(), lost[0], run.readings);
    for (number, ends) in deliveries {
        let id = &ids[number];
        assert!(ends.iter().all(|ended| ended.id == *id), "{what}: message {number} is {id}, delivered as {ends:?}");
        let known = Kind::of(*number);
        let fails = ends.iter().all(|ended| ended.outcome != Outcome::Success);
        assert_eq!(fails, known.dies(), "{what}: message {number} is {known:?}: {ends:?}");
    }
}

fn the_dead_are_the_poison(what: &str, run: &Run, deliveries: &Deliveries) {
    let mut dead: Vec<u32> = run.dead.iter().filter_map(|letter| any_number_of(&letter.payload)).collect();
    dead.sort_unstable();
    let poison: Vec<u32> = (0..run.load.messages).filter(|number| Kind::of(*number).dies()).collect();
    assert_eq!(dead, poison, "{what}: the dead letters, and those that should be");
    for letter in &run.dead {
        let number = any_number_of(&letter.payload).expect("it is one of them");
        let is_right = match Kind::of(number) {
            Kind::Undecodable => letter.reason.starts_with("undecodable"),
            _ => {
                letter.attempts >= MAX_TRIES
                    && ["told to", "the worker died during the call"].contains(&&*letter.reason)
            }
        };
        assert!(is_right, "{what}: {letter:?}, delivered {:?}", deliveries.get(&number));
    }
}

/// Checks that each message was appended once, and ended once.
fn all_is_over(what: &str, run: &Run) {
    let (readings, dead) = (&run.readings, run.dead.len() as u64);
    let counts = [readings.backlog(), readings.appended, readings.acknowledged, readings.dead, readings.dead_letters];
    let messages = u64::from(run.load.messages);
    assert_eq!(counts, [0, messages, messages - dead, dead, dead], "{what}: {readings:?}");
    let unconfirmed: u64 = run.reports.iter().map(|report| report.unconfirmed).sum();
    assert_eq!(unconfirmed, 0, "{what}: unconfirmed ends");
}

/// Counts the messages that were delivered again after a success, for each fault that explains them, and returns the
/// unexplained ones.
fn duplicates<'a>(faults: &[Fault], deliveries: &'a Deliveries) -> (Vec<usize>, Vec<(&'a Ended, &'a Ended)>) {
    let (mut counts, mut unexplained) = (vec![0; faults.len()], Vec::new());
    for ends in deliveries.values() {
        let Some(first) = ends.iter().position(|ended| ended.outcome == Outcome::Success) else { continue };
        for pair in ends[first..].windows(2) {
            let by =
                faults.iter().position(|fault| pair[1].at >= fault.begin && pair.iter().any(|end| hits(fault, end)));
            match by {
                Some(fault) => counts[fault] += 1,
                None => unexplained.push((&pair[0], &pair[1])),
            }
        }
    }
    (counts, unexplained)
}

/// Returns whether the fault may have kept a worker from reporting this end, or from learning that another worker had
/// the message.
fn hits(fault: &Fault, ended: &Ended) -> bool {
    let untold = fault.begin.saturating_sub(UNTOLD_BEFORE)..fault.end + BACK_WITHIN.as_nanos() as u64;
    fault.workers.contains(&ended.worker) && untold.contains(&ended.at)
}

/// The messages that a worker takes over may exceed those that it takes.
fn most_in_progress(fault: &Fault) -> usize {
    fault.workers.len() * 2 * (CONCURRENCY + PREFETCH)
}

/// Returns the number of repeated sends, and of producers that received a duplicate.
fn resends(run: &Run) -> (u32, usize) {
    let resends = run.sent.iter().map(|sent| sent.sends - 1).sum();
    (resends, run.sent.iter().filter(|sent| sent.is_duplicate).count())
}

/// Returns the number of redeliveries, without those after a failure.
fn taken_over(run: &Run, deliveries: &Deliveries) -> u64 {
    let put_back = deliveries.iter().flat_map(|(number, ends)| ends.iter().map(|ended| (*number, ended)));
    let put_back = put_back.filter(|(number, ended)| {
        ended.outcome == Outcome::Failure && !(Kind::of(*number) == Kind::Poison && ended.attempt >= MAX_TRIES)
    });
    run.readings.redelivered.saturating_sub(put_back.count() as u64)
}

/// Checks that failed tries are repeated after their backoff, and no other message is redelivered.
fn each_is_tried_as_often_as_it_must_be(what: &str, deliveries: &Deliveries) {
    for (number, ends) in deliveries {
        let tries = match Kind::of(*number) {
            Kind::Plain | Kind::Undecodable => 1,
            Kind::FailsOnce => 2,
            Kind::Poison => MAX_TRIES,
        };
        let attempts: Vec<u32> = ends.iter().map(|ended| ended.attempt).collect();
        assert_eq!(attempts, (1..=tries).collect::<Vec<_>>(), "{what}: message {number}");
        let least = BACKOFF.as_nanos() as u64;
        assert!(ends.windows(2).all(|pair| pair[1].at - pair[0].at >= least), "{what}: message {number}: {ends:?}");
    }
}

fn print(what: &str, run: &Run, deliveries: &Deliveries, duplicates: &[usize], unexplained: usize) {
    let (resends, told) = resends(run);
    println!(
        "{what}: {} messages in {:.1} s, {resends} sent again of which {told} were there, {} deliveries, {} taken over, {} \
         dead, {} delivered again after a success",
        run.sent.len(),
        run.took.as_secs_f64(),
        deliveries.values().map(Vec::len).sum::<usize>(),
        taken_over(run, deliveries),
        run.dead.len(),
        duplicates.iter().sum::<usize>() + unexplained,
    );
    if !run.faults.is_empty() {
        println!("    {:26} {:>7} {:>8} {:>10} {:>8} {:>8}", "", "at s", "lasts s", "deliveries", "again", "at most");
    }
    let ends = || deliveries.values().flatten();
    for (fault, count) in run.faults.iter().zip(duplicates) {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        println!(
            "    {:26} {:>7.2} {:>8.2} {:>10} {:>8} {:>8}",
            fault.name,
            seconds(fault.begin.saturating_sub(run.begin)),
            seconds(fault.end - fault.begin),
            ends().filter(|ended| (fault.begin..=fault.end).contains(&ended.at)).count(),
            count,
            most_in_progress(fault),
        );
    }
}
