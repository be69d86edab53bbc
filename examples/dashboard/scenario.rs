//! The phases of the scenario.

use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// One phase of the scenario.
#[derive(Debug)]
pub struct Phase {
    name: &'static str,
    description: &'static str,
    lasts: Duration,
    /// Orders per second of all paying callers.
    pub offered: f64,
    /// The median latency of the dependency.
    pub latency: Duration,
    /// The share of payments that fail.
    pub failing: f64,
}

const PHASES: [Phase; 5] = [
    Phase {
        name: "calm",
        description: "only one free caller is rejected, above its quota",
        lasts: Duration::from_secs(15),
        offered: 60.0,
        latency: Duration::from_millis(40),
        failing: 0.005,
    },
    Phase {
        name: "rush",
        description: "callers send more than the server can process",
        lasts: Duration::from_secs(20),
        offered: 320.0,
        latency: Duration::from_millis(60),
        failing: 0.005,
    },
    Phase {
        name: "slow dependency",
        description: "half of the payment attempts exceed their timeout",
        lasts: Duration::from_secs(18),
        offered: 40.0,
        latency: Duration::from_millis(220),
        failing: 0.01,
    },
    Phase {
        name: "outage",
        description: "every payment fails",
        lasts: Duration::from_secs(18),
        offered: 60.0,
        latency: Duration::from_millis(15),
        failing: 1.0,
    },
    Phase {
        name: "recovery",
        description: "the dependency works again",
        lasts: Duration::from_secs(15),
        offered: 60.0,
        latency: Duration::from_millis(40),
        failing: 0.005,
    },
];

impl Phase {
    /// The name and a description, for people.
    pub fn text(&self) -> String {
        let Self { name, description, .. } = self;
        format!("{name}: {description}")
    }
}

/// The phases in a loop.
#[derive(Clone)]
pub struct Scenario(Arc<ScenarioClock>);

struct ScenarioClock {
    began: Instant,
    speed: f64,
}

impl Scenario {
    /// Begins now. `speed` shortens the phases by this factor.
    pub fn new(speed: f64) -> Self {
        Self(Arc::new(ScenarioClock { began: Instant::now(), speed }))
    }

    /// Returns the current phase.
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

    /// Whether one round of all phases has ended.
    pub fn is_over(&self) -> bool {
        self.passed() >= PHASES.iter().map(|phase| phase.lasts.as_secs_f64()).sum()
    }

    /// The time since the beginning, in seconds of the scenario.
    fn passed(&self) -> f64 {
        Instant::now().saturating_duration_since(self.0.began).as_secs_f64() * self.0.speed
    }
}
