//! `quotas`: a quota for each key protects the neighbours of a noisy caller.

use crate::{process::Process, trial::trials};
use std::{env, fs};

trials![a_noisy_neighbour_takes_nothing_from_the_others_and_the_picture_shows_it];

async fn a_noisy_neighbour_takes_nothing_from_the_others_and_the_picture_shows_it() {
    let picture = env::temp_dir().join(format!("steadfast-quotas-{}.svg", std::process::id()));
    let lines = Process::start("quotas", &["--svg", picture.to_str().unwrap()]).finish();
    let by_key = lines.iter().position(|line| line == "one for each key:").unwrap();
    for (line, caller) in lines[by_key + 1..].iter().zip(["pro-noisy", "pro-anna", "free-ben", "free-eve"]) {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [answered, sent] = numbers[..] else { panic!("{line}") };
        assert!(line.trim_start().starts_with(caller), "{line}");
        match caller {
            // A burst of 50, and 50 per second for four seconds, or a little more on a busy machine.
            "pro-noisy" => assert!((200..=400).contains(&answered) && sent == 1600, "{line}"),
            _ => assert_eq!(answered, sent, "{line}"),
        }
    }
    let drawn = fs::read_to_string(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    assert!(drawn.contains("free-eve, 4 per second"), "{drawn}");
}
