//! The live display of the example `overload`, and its agreement with the report's table.

#[path = "../../examples/overload/counts.rs"]
mod counts;
#[path = "../../examples/overload/frame.rs"]
mod frame;
#[allow(dead_code, reason = "the example also runs steps")]
#[path = "../../examples/overload/report.rs"]
mod report;
#[allow(dead_code, reason = "the example also has a server")]
#[path = "../../examples/overload/scenario.rs"]
mod scenario;
#[allow(dead_code, reason = "the example also runs steps")]
#[path = "../../examples/overload/tally.rs"]
mod tally;

use counts::{Counters, Counts, Ending, Rates};
use frame::{COLUMNS, GOODPUT_LINE, History, INTERVAL, LINES, Step, block, sparkline, summary, time};
use report::{Report, Row};
use scenario::{Course, Lengths, Mode};
use std::time::Duration;
use tally::{Calls, Held};
use tokio::time::Instant;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn step(number: usize) -> Step {
    let lengths = Lengths { warm_up: secs(1.0), measured: secs(5.0) };
    let further = (number..10).map(|_| lengths.whole()).sum();
    Step { mode: Mode::Protected, multiple: 2.0, course: Course::Steady, number, steps: 10, lengths, further }
}

fn counts(offered: u64, endings: &[(Ending, u64)]) -> Counts {
    let counters = Counters::default();
    (0..offered).for_each(|_| counters.arrived());
    for (ending, count) in endings {
        (0..*count).for_each(|_| counters.ended(*ending));
    }
    counters.read()
}

fn rates(offered: u64, endings: &[(Ending, u64)]) -> Rates {
    counts(offered, endings).per_second_since(&Counts::default(), secs(1.0))
}

/// A call of the warm-up, five counted calls, and a call that arrives while the counted calls end. Another counted call
/// has no end yet.
fn some_calls() -> Calls {
    let calls = Calls::new(secs(2.0));
    for (counted, ending, latency) in [
        (false, Ending::Answered, 90),
        (true, Ending::Answered, 100),
        (true, Ending::Answered, 200),
        (true, Ending::Answered, 1_001),
        (true, Ending::LoadShed, 1),
        (true, Ending::Failed, 1),
        (false, Ending::LoadShed, 1),
    ] {
        calls.arrived(counted);
        calls.ended(counted, ending, 1, Duration::from_millis(latency));
    }
    calls.arrived(true);
    calls
}

#[test]
fn each_call_is_counted_once() {
    let calls = some_calls();
    let counted = [(Ending::Answered, 2), (Ending::TimedOut, 1), (Ending::LoadShed, 1), (Ending::Failed, 1)];
    assert_eq!(calls.counted.counts(), counts(6, &counted));
    assert_eq!(calls.counted.counts().unfinished(), 1);
    let all = [(Ending::Answered, 3), (Ending::TimedOut, 1), (Ending::LoadShed, 2), (Ending::Failed, 1)];
    assert_eq!(calls.all(), counts(8, &all));
}

#[test]
fn the_display_and_the_report_say_the_same() {
    let calls = some_calls();
    calls.close();
    calls.counted.held(Held { tasks: 41, bytes: 3 << 19 });
    calls.counted.held(Held { tasks: 40, bytes: 3 << 20 });
    calls.counted.held(Held { tasks: 2, bytes: 1 });
    let block = block(&step(1), secs(8.0), &mut History::new(), &calls);
    let counted = |line: &str| -> f64 { line[23..32].trim().parse().unwrap() };
    let row = Row::new(2.0, &calls.counted);
    assert_eq!((row.offered_rps, row.goodput_rps), (3.0, 1.0));
    assert_eq!((counted(&block[2]), counted(&block[GOODPUT_LINE]), counted(&block[LINES - 2])), (6.0, 2.0, 2.0));
    assert_eq!(block[LINES - 1], "  of those counted in time, p50 100 ms, p99 200 ms");
    let line = summary(&step(1), &calls.counted.rates(), Some(200.0));
    assert_eq!(line, "  protected at   2x     3 offered     1 in time     1 failed  p99 200 ms");
    assert_eq!(row_of(row), "  2x     3     1  33.3      0     0     0       1  0.83  100  200     41   3.0");
}

/// Returns the line of the report's table.
fn row_of(row: Row) -> String {
    let mut report = Report::new();
    report.rows(Mode::Protected).push(row);
    let mut table = Vec::new();
    report.write_table(&mut table).unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(table.lines().all(|line| line.len() <= COLUMNS), "{table}");
    table.lines().find(|line| line.starts_with("  2x")).unwrap().to_owned()
}

#[test]
fn unfinished_counted_calls_fail_when_the_step_ends() {
    let calls = some_calls();
    let before = calls.counted.counts();
    calls.close();
    calls.close();
    assert_eq!(calls.counted.counts(), before.plus(counts(0, &[(Ending::Failed, 1)])));
}

#[test]
fn mechanisms_have_the_names_in_rejections() {
    use steadfast::{
        Rejection,
        error::{CircuitOpen, Overloaded, RateLimited, TimedOut},
    };
    let expected: [(Rejection, Ending); 4] = [
        (TimedOut::new(None, false).into(), Ending::TimedOut),
        (CircuitOpen::new(None).into(), Ending::BreakerOpen),
        (Overloaded::new(1, None).into(), Ending::LoadShed),
        (RateLimited::new(None).into(), Ending::RateLimited),
    ];
    for (rejection, ending) in expected {
        assert_eq!(Ending::stopped_by(rejection.mechanism()), ending);
    }
    assert_eq!(Ending::stopped_by("somebody else's"), Ending::Failed);
}

#[test]
fn rates_are_those_of_the_last_second() {
    let mut history = History::new();
    let (mut elapsed, mut offered) = (Duration::ZERO, 0);
    let seen = [10, 10, 10, 10, 50, 50, 50, 50, 0].map(|more| {
        elapsed += INTERVAL;
        offered += more;
        history.add(elapsed, counts(offered, &[])).offered
    });
    assert_eq!(seen, [40.0, 40.0, 40.0, 40.0, 80.0, 120.0, 160.0, 200.0, 150.0]);
}

#[test]
fn late_and_simultaneous_samples_have_rates() {
    let mut history = History::new();
    assert_eq!(history.add(Duration::ZERO, counts(3, &[])).offered, 0.0);
    assert_eq!(history.add(secs(2.0), counts(30, &[])).offered, 15.0);
    assert_eq!(history.add(secs(2.0), counts(2, &[])).offered, 1.0);
    // A count that goes back gives a rate of zero.
    assert_eq!(counts(1, &[]).per_second_since(&counts(2, &[]), secs(1.0)).offered, 0.0);
}

#[test]
fn a_sparkline_shows_zero_as_blank_and_any_other_rate() {
    let rates = [0.0, 0.1, 37.5, 75.0, 300.0, 599.0, 600.0, 9_000.0];
    assert_eq!(sparkline(&rates, 600.0), " ▁▁▁▄███");
    assert_eq!(sparkline(&[f64::NAN, f64::INFINITY, -1.0, 1.0], 0.0), "    ");
    assert_eq!(sparkline(&[], 600.0), "");
}

#[test]
fn a_block_has_aligned_lines_that_fit_into_80_columns() {
    let calls = Calls::new(secs(5.0));
    let mut history = History::new();
    let mut lines = block(&step(3), Duration::ZERO, &mut history, &calls);
    assert_eq!(lines[2], "  offered            0         0");
    for sample in 1..=60 {
        for number in 0..150 {
            calls.arrived(sample > 4);
            let ending = if number < 75 { Ending::Answered } else { Ending::LoadShed };
            calls.ended(sample > 4, ending, 1, secs(0.1));
        }
        lines = block(&step(3), INTERVAL * sample, &mut history, &calls);
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:#?}");
    }
    let expected = [
        "Step 3 of 10, protected at 2x: last calls, 0.0 s left, 46 s in all",
        "  calls          now/s   counted  the last ten seconds, up to 600/s",
        "  offered          600      8400  ████████████████████████████████████████",
        "  in time          300      4200  ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄",
        "  timed out          0         0",
        "  breaker open       0         0",
        "  load shed        300      4200  ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄",
        "  rate limited       0         0",
        "  failed             0         0",
        "  of those counted in time, p50 100 ms, p99 100 ms",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn the_first_line_names_the_phase_and_the_time_left() {
    let head = |number, elapsed| {
        let [head, ..] = block(&step(number), secs(elapsed), &mut History::new(), &Calls::new(secs(5.0)));
        head
    };
    assert_eq!(head(1, 0.0), "Step 1 of 10, protected at 2x: warming up, 1.0 s left, 65 s in all");
    assert_eq!(head(1, 1.0), "Step 1 of 10, protected at 2x: measuring, 5.0 s left, 64 s in all");
    assert_eq!(head(10, 5.9), "Step 10 of 10, protected at 2x: measuring, 0.1 s left, 0.6 s in all");
    assert_eq!(head(10, 6.2), "Step 10 of 10, protected at 2x: last calls, 0.8 s left, 0.3 s in all");
    // A step that is late has no time left, and neither has a step after the last one.
    assert_eq!(head(11, 60.0), "Step 11 of 10, protected at 2x: last calls, 0.0 s left, 0.0 s in all");
}

#[test]
fn times_are_formatted_for_people() {
    let times = [0.04, 0.05, 9.94, 9.96, 119.4, 119.6, 3_600.0].map(|seconds| time(secs(seconds)));
    assert_eq!(times, ["0.0 s", "0.1 s", "9.9 s", "10 s", "119 s", "2 min", "60 min"]);
}

#[test]
fn a_summary_lists_the_most_frequent_endings_within_80_columns() {
    let none = summary(&step(1), &rates(0, &[]), None);
    assert_eq!(none, "  protected at   2x     0 offered     0 in time");
    let two = [(Ending::Answered, 299), (Ending::TimedOut, 8), (Ending::LoadShed, 300)];
    assert_eq!(
        summary(&step(1), &rates(607, &two), None),
        "  protected at   2x   607 offered   299 in time   300 load shed     8 timed out"
    );
    assert_eq!(
        summary(&step(1), &rates(607, &two[..1]), Some(193.6)),
        "  protected at   2x   607 offered   299 in time  p99 194 ms"
    );
    // The first ending without room is left out, and so are all later ones, even shorter ones.
    let long = [(Ending::RateLimited, 30), (Ending::BreakerOpen, 20), (Ending::Failed, 10)];
    assert_eq!(
        summary(&step(1), &rates(60, &long), Some(200.0)),
        "  protected at   2x    60 offered     0 in time    30 rate limited"
    );
    let all = Ending::ALL.map(|ending| (ending, 1_000 + ending as u64));
    let line = summary(&step(1), &rates(7_000, &all), Some(1_000.0));
    assert_eq!(line, "  protected at   2x  7000 offered  1000 in time  1005 failed  1004 rate limited");
}

#[test]
fn the_time_of_a_step_begins_with_its_load() {
    let (start, calls) = (Instant::now(), Calls::new(secs(1.0)));
    assert_eq!(calls.elapsed(start), None);
    calls.start(start + secs(1.0));
    assert_eq!(calls.elapsed(start + secs(3.0)), Some(secs(2.0)));
    assert_eq!(calls.elapsed(start), Some(Duration::ZERO));
}
