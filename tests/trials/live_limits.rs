//! `live_limits`: what is published is in force, and what is broken is not.

use crate::process::Process;
use crate::trial::trials;
use serde_json::Value;
use std::{env, fs, process};

trials![
    each_tier_gets_what_was_published_last_and_a_broken_file_changes_nothing,
    a_configuration_in_json_is_published_as_it_is,
];

/// Runs the example, and reads what it measured. The name tells its picture from those of others.
fn run(name: &str, arguments: &[&str]) -> Value {
    let picture = env::temp_dir().join(format!("steadfast-live-limits-{name}-{}.svg", process::id()));
    let common = ["--json", "--svg", picture.to_str().unwrap()];
    let lines = Process::start("live_limits", &[&common, arguments].concat()).finish();
    let drawn = fs::read_to_string(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    assert!(drawn.contains("paid: answered"), "{drawn}");
    serde_json::from_str(lines.last().unwrap()).unwrap()
}

fn numbers(value: &Value) -> [f64; 2] {
    [&value[0], &value[1]].map(|number| number.as_f64().unwrap())
}

/// Whether what was answered is what the limits say, but for a quarter.
fn keeps_to_its_limits(step: &Value) -> bool {
    let (answered, limits) = (numbers(&step["answered"]), numbers(&step["limits"]));
    let near = |(answered, limit): (f64, f64)| (answered - limit).abs() <= limit / 4.0;
    match step["name"].as_str().unwrap() {
        "switched off" => answered == [0.0, 0.0] && numbers(&step["refused"]).iter().all(|refused| *refused > 0.0),
        // Eight at once, of 50 ms each.
        "fewer in flight" => (80.0..=170.0).contains(&(answered[0] + answered[1])) && step["most_in_flight"] == 8,
        _ => answered.into_iter().zip(limits).all(near),
    }
}

/// Whether all steps went as the operator meant them to, or which one did not.
fn check(report: &Value) -> Result<(), String> {
    let [usual, cut, raised] = [[100.0, 200.0], [40.0, 200.0], [40.0, 300.0]];
    let expected = [usual, cut, raised, raised, raised, raised, raised, raised, usual];
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), expected.len());
    for (step, expected) in steps.iter().zip(expected) {
        let is_in_force = |part: &&str| step["published"][part] == step["in_force"][part];
        let is_right = numbers(&step["limits"]) == expected
            && ["switched_off", "rate_limit", "load_shed"].iter().all(is_in_force)
            && keeps_to_its_limits(step);
        if !is_right {
            return Err(format!("{step:#}"));
        }
    }
    let damaged = steps.iter().filter(|step| step["is_damaged"] == true);
    assert_eq!(damaged.map(|step| &step["in_force"]).collect::<Vec<_>>(), [&steps[5]["in_force"]; 2]);
    let ticks = &report["ticks"];
    for count in [&ticks["good"], &ticks["refused"]["corrupt"], &ticks["refused"]["truncated"]] {
        assert!(count.as_u64() > Some(0), "{ticks:#}");
    }
    Ok(())
}

async fn each_tier_gets_what_was_published_last_and_a_broken_file_changes_nothing() {
    // On a machine that stalls a change comes late, and buckets overflow.
    let mut tries = (0..4).map(|_| check(&run("tiers", &["--step-seconds", "0.8"])));
    let first = tries.next().unwrap();
    assert!(first.is_ok() || tries.any(|another| another.is_ok()), "four runs, of which the first says {first:?}");
}

async fn a_configuration_in_json_is_published_as_it_is() {
    let file = env::temp_dir().join(format!("steadfast-live-limits-{}.json", process::id()));
    let quotas = r#"[{ "count": 150, "period": "1s", "burst": 15 }, { "count": 500, "period": "2s" }]"#;
    fs::write(&file, format!(r#"{{ "rate_limit": [{{ "quotas": {quotas} }}], "timeout": "700ms" }}"#)).unwrap();
    let report = run("json", &["--step-seconds", "0.4", "--config", file.to_str().unwrap()]);
    fs::remove_file(&file).unwrap();
    let [first, .., last] = &report["steps"].as_array().unwrap()[..] else { panic!("{report}") };
    for step in [first, last] {
        assert_eq!(numbers(&step["limits"]), [150.0, 250.0], "{step:#}");
        assert_eq!(step["in_force"]["timeout"], "700ms", "{step:#}");
    }
}
