//! The example `load_leveling`: a burst, and the time until its backlog drains.

use crate::process::Process;
use crate::trial::trials;
use std::{env, fs};

trials![the_queue_predicts_when_the_backlog_of_a_burst_drains,];

async fn the_queue_predicts_when_the_backlog_of_a_burst_drains() {
    let picture = env::temp_dir().join(format!("steadfast-load-leveling-{}.svg", std::process::id()));
    let lines = Process::start("load_leveling", &["--burst", "5", "--svg", picture.to_str().unwrap()]).finish();
    // Second, waiting calls, predicted drain time, actual drain time; while calls wait and the burst has ended.
    let rows = lines.iter().filter_map(|line| {
        let [second, waiting, "in", predicted, "s", "in", truth, "s"] = line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        [second, waiting, predicted, truth].map(|word| word.parse::<f64>().ok()).into_iter().collect::<Option<Vec<_>>>()
    });
    let rows: Vec<_> = rows.filter(|row| row[0] > 16.5).collect();
    assert!(rows.len() >= 5, "{lines:#?}");
    for row in rows {
        let [second, waiting, predicted, truth] = row[..] else { panic!("{row:?}") };
        // 45 s of work, done in twice the time, and read every half second.
        assert!((waiting - 50.0 * (96.0 - second)).abs() <= 60.0, "{row:?}");
        assert!((predicted - truth).abs() <= 0.05 * truth + 0.5, "{row:?}");
    }
    assert!(lines.iter().any(|line| line.contains(" brought, 0 refused")), "{lines:#?}");
    let drawn = fs::read_to_string(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    assert!(drawn.contains("the queue says"), "{drawn}");
}
