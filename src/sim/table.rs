//! Writes a report as a table.

use super::{BackendCounts, ClassReport, Latencies, Recovery, Report, report::ratio};
use std::fmt;

const COLUMNS: [&str; 8] = ["offered", "in time", "late", "failed", "rejected", "unanswered", "p50 ms", "p99 ms"];

/// Writes the head of the table, and a row for each class. Below the row, lines show the rejections by mechanism, and
/// how long rejected and failed calls took.
fn write_classes<'a>(f: &mut fmt::Formatter<'_>, classes: impl IntoIterator<Item = &'a ClassReport>) -> fmt::Result {
    writeln!(f, "{:<12}{}", "class", COLUMNS.map(|name| format!("{name:>11}")).concat())?;
    for class in classes {
        let rejected: u64 = class.rejected.values().sum();
        let counts = [class.offered, class.in_time, class.late, class.failed, rejected, class.unanswered];
        write!(f, "{:<12}{}", class.name, counts.map(|count| format!("{count:>11}")).concat())?;
        match &class.latency {
            Some(latency) => writeln!(f, "{:>11.1}{:>11.1}", latency.p50 * 1e3, latency.p99 * 1e3)?,
            None => writeln!(f, "{:>11}{:>11}", "-", "-")?,
        }
        for (mechanism, count) in &class.rejected {
            writeln!(f, "  rejected by {mechanism}: {count}")?;
        }
        write_latency(f, "rejected", class.latency_of_rejected)?;
        write_latency(f, "failed", class.latency_of_failed)?;
    }
    Ok(())
}

fn write_latency(f: &mut fmt::Formatter<'_>, what: &str, latency: Option<Latencies>) -> fmt::Result {
    match latency {
        Some(Latencies { p50, p99, .. }) => {
            writeln!(f, "  {what} after: p50 {:.1} ms, p99 {:.1} ms", p50 * 1e3, p99 * 1e3)
        }
        None => Ok(()),
    }
}

impl fmt::Display for ClassReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_classes(f, [self])?;
        match self.recovery() {
            Recovery::Undisturbed => Ok(()),
            recovery => writeln!(f, "{recovery}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_classes(f, &self.classes)?;
        for backend in &self.backends {
            write_backend(f, backend, self.offered())?;
        }
        for (what, held) in self.held.iter().filter(|(_, held)| **held > 0) {
            writeln!(f, "{what}: {held} still held")?;
        }
        write!(f, "goodput {:.4}, {} tasks at once", self.goodput(), self.most_tasks)?;
        match self.recovery() {
            Recovery::Undisturbed => writeln!(f),
            recovery => writeln!(f, ", {recovery}"),
        }
    }
}

fn write_backend(f: &mut fmt::Formatter<'_>, backend: &BackendCounts, offered: u64) -> fmt::Result {
    let BackendCounts { name, received, answered, refused, wasted, abandoned, in_flight, most_in_flight, .. } = backend;
    write!(f, "{name}: {received} received ({:.3} per call), ", ratio(*received, offered))?;
    write!(f, "{answered} answered, {refused} refused, {wasted} wasted, {abandoned} abandoned, ")?;
    write!(f, "{in_flight} in flight; {most_in_flight} at once, {:.1} waiting", backend.mean_waiting)?;
    match backend.utilization {
        Some(utilization) => writeln!(f, ", {:.1}% busy", utilization * 100.0),
        None => writeln!(f, ", {:.1} busy", backend.mean_busy),
    }
}
