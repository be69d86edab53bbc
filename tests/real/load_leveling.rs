//! The example `load_leveling`: a burst, and the end of its backlog.

use crate::process::Process;
use crate::trial::trials;
use std::{env, fs};

trials![the_queue_predicts_the_end_of_the_backlog_and_the_picture_shows_it,];

async fn the_queue_predicts_the_end_of_the_backlog_and_the_picture_shows_it() {
    let picture = env::temp_dir().join(format!("steadfast-load-leveling-{}.svg", std::process::id()));
    let lines = Process::start("load_leveling", &["--burst", "5", "--svg", picture.to_str().unwrap()]).finish();
    // The second, the waiters, and the predicted and actual time until the backlog is gone. Only rows with waiters
    // after the burst has left the window of the rates.
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
        // Nine times five seconds of work, done in twice the time, and sampled every half second.
        assert!((waiting - 50.0 * (96.0 - second)).abs() <= 60.0, "{row:?}");
        assert!((predicted - truth).abs() <= 0.05 * truth + 0.5, "{row:?}");
    }
    assert!(lines.iter().any(|line| line.contains(" brought, 0 refused")), "{lines:#?}");
    let drawn = fs::read_to_string(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    assert!(drawn.contains("predicted"), "{drawn}");
}
