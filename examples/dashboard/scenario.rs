//! What happens, and when.

use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A part of the scenario.
#[derive(Debug)]
pub struct Phase {
    name: &'static str,
    says: &'static str,
    lasts: Duration,
    /// Orders per second, of all paying callers together.
    pub offered: f64,
    /// How long the dependency takes, in the median.
    pub latency: Duration,
    /// The share of payments that fail.
    pub failing: f64,
}

const PHASES: [Phase; 5] = [
    Phase {
        name: "calm",
        says: "only a free caller is refused, who asks for more than its quota",
        lasts: Duration::from_secs(15),
        offered: 60.0,
        latency: Duration::from_millis(40),
        failing: 0.005,
    },
    Phase {
        name: "rush",
        says: "callers ask for more than the server can do",
        lasts: Duration::from_secs(20),
        offered: 320.0,
        latency: Duration::from_millis(60),
        failing: 0.005,
    },
    Phase {
        name: "slow dependency",
        says: "half of the payments take longer than they may",
        lasts: Duration::from_secs(18),
        offered: 40.0,
        latency: Duration::from_millis(220),
        failing: 0.01,
    },
    Phase {
        name: "outage",
        says: "every payment fails",
        lasts: Duration::from_secs(18),
        offered: 60.0,
        latency: Duration::from_millis(15),
        failing: 1.0,
    },
    Phase {
        name: "recovery",
        says: "the dependency works again",
        lasts: Duration::from_secs(15),
        offered: 60.0,
        latency: Duration::from_millis(40),
        failing: 0.005,
    },
];

impl Phase {
    /// For people.
    pub fn text(&self) -> String {
        let Self { name, says, .. } = self;
        format!("{name}: {says}")
    }
}

/// The phases, one after the other, and again.
#[derive(Clone)]
pub struct Scenario(Arc<Inside>);

struct Inside {
    began: Instant,
    speed: f64,
}

impl Scenario {
    /// Begins now. Phases are this many times shorter.
    pub fn new(speed: f64) -> Self {
        Self(Arc::new(Inside { began: Instant::now(), speed }))
    }

    /// The phase of now.
    pub fn now(&self) -> &'static Phase {
        let round: Duration = PHASES.iter().map(|phase| phase.lasts).sum();
        let mut passed = self.passed() % round.as_secs_f64();
        for phase in &PHASES {
            let lasts = phase.lasts.as_secs_f64();
            if passed < lasts {
                return phase;
            }
            passed -= lasts;
        }
        &PHASES[0]
    }

    /// Whether each phase was there once.
    pub fn is_over(&self) -> bool {
        self.passed() >= PHASES.iter().map(|phase| phase.lasts.as_secs_f64()).sum()
    }

    /// Since the beginning, in seconds of the scenario.
    fn passed(&self) -> f64 {
        Instant::now().saturating_duration_since(self.0.began).as_secs_f64() * self.0.speed
    }
}
