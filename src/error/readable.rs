use std::{fmt, time::Duration};

/// Displays a duration for people: rounded, with one unit, and with tenths below ten: `1.1 ms`, `250 ms`, `46 s`,
/// `3 h`.
pub(crate) struct Readable(pub(crate) Duration);

/// Each unit's name, its nanoseconds, and the number from which the next unit is used.
const UNITS: [(&str, u128, u128); 7] = [
    ("ns", 1, 1_000),
    ("us", 1_000, 1_000),
    ("ms", 1_000_000, 1_000),
    ("s", 1_000_000_000, 120),
    ("min", 60_000_000_000, 120),
    ("h", 3_600_000_000_000, 48),
    ("d", 86_400_000_000_000, u128::MAX),
];

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        for (name, unit, most) in UNITS {
            let tenths = (nanos * 10 + unit / 2) / unit;
            if tenths < 100 && tenths % 10 != 0 {
                return write!(f, "{}.{} {name}", tenths / 10, tenths % 10);
            }
            let whole = (nanos + unit / 2) / unit;
            if whole < most {
                return write!(f, "{whole} {name}");
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit_with_tenths_below_ten() {
        let texts = [
            (0, "0 ns"),
            (1, "1 ns"),
            (999, "999 ns"),
            (1_000, "1 us"),
            (1_099_486, "1.1 ms"),
            (9_949_999, "9.9 ms"),
            (9_950_000, "10 ms"),
            (250_000_000, "250 ms"),
            (999_499_999, "999 ms"),
            (999_500_000, "1 s"),
            (1_960_000_000, "2 s"),
            (45_678_000_000, "46 s"),
            (119_000_000_000, "119 s"),
            (300_000_000_000, "5 min"),
            (7_200_000_000_000, "2 h"),
            (86_400_000_000_000 * 30, "30 d"),
        ];
        for (nanos, text) in texts {
            assert_eq!(Readable(Duration::from_nanos(nanos)).to_string(), text);
        }
        assert_eq!(Readable(Duration::MAX).to_string(), "213503982334601 d");
    }
}
