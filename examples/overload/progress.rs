//! What the run says while it goes on, all of it on standard error: bars on a terminal, plain lines elsewhere.

use crate::{
    report::Tally,
    scenario::{Lengths, Mode},
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

pub struct Progress {
    title: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn start(mode: Mode, multiple: f64, lengths: Lengths) -> Self {
        let title = format!("{:>11} at {multiple:>3}x", mode.name());
        let bar = stderr().is_terminal().then(|| {
            let whole = lengths.warm_up + lengths.measured;
            ProgressBar::new(millis(whole)).with_style(style()).with_prefix(title.clone())
        });
        Self { title, bar }
    }

    pub fn show(&self, elapsed: Duration, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.set_position(millis(elapsed));
            bar.set_message(sentence(tally));
        }
    }

    pub fn finish(self, tally: &Tally) {
        match self.bar {
            Some(bar) => bar.finish_with_message(sentence(tally)),
            None => eprintln!("{}  {}", self.title, sentence(tally)),
        }
    }
}

fn sentence(tally: &Tally) -> String {
    format!("{} calls: {} answered in time, {} not", tally.finished(), tally.answered, tally.not_answered())
}

fn style() -> ProgressStyle {
    // The template is a constant; if it were wrong, the default would do.
    ProgressStyle::with_template("{prefix}  {bar:24.cyan/dim}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
