use crate::error::ConfigError;

/// The number of parts of a whole: shares are in millionths.
const ONE: u64 = 1_000_000;

/// The calls that one tenant may have in flight, as a share of the free places, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    pub fn of(share: f64) -> Result<Self, ConfigError> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(ConfigError::new("load_shed.fair_share", share, "must be above 0 and at most 1"));
        }
        Ok(Self(((share * ONE as f64).round() as u64).max(1)))
    }

    /// Returns the number of places that one tenant may hold: the share of the places that are free beside all calls in
    /// flight. It is at least one while a place is free, and zero otherwise.
    #[inline]
    pub fn allowed(self, limit: u64, in_flight: u64) -> u64 {
        let free = limit.saturating_sub(in_flight);
        let part = u128::from(free) * u128::from(self.0) / u128::from(ONE);
        u64::try_from(part).unwrap_or(u64::MAX).max(free.min(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lets `large` tenants of unlimited demand enter in turn until none is admitted, beside `small` calls of others.
    /// Returns the places of each large tenant.
    fn fill(limit: u64, share: f64, small: u64, large: usize) -> Vec<u64> {
        let share = Share::of(share).unwrap();
        let mut held = vec![0; large];
        loop {
            let before = held.clone();
            for tenant in 0..large {
                let all = small + held.iter().sum::<u64>();
                held[tenant] += u64::from(held[tenant] < share.allowed(limit, all));
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn a_large_tenant_holds_its_share_of_the_places_that_stay_free() {
        assert_eq!(fill(400, 1.0, 0, 1), [200]);
        assert_eq!(fill(400, 1.0, 100, 1), [150]);
        assert_eq!(fill(300, 0.5, 0, 1), [100]);
    }

    #[test]
    fn large_tenants_get_equal_shares_and_leave_places_free() {
        assert_eq!(fill(600, 1.0, 0, 5), [100; 5]);
        assert_eq!(fill(700, 0.5, 0, 5), [100; 5]);
        // Large tenants together do not fill the limit: about one part in `large + 1` stays free.
        for large in 1..=50 {
            let held = fill(1_000, 1.0, 0, large);
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            assert!(most - least <= 1, "{held:?}");
            let free = 1_000 - held.iter().sum::<u64>();
            assert!(free.abs_diff(1_000 / (large as u64 + 1)) <= large as u64, "{large}: {free}");
        }
    }

    #[test]
    fn thousands_of_tenants_with_a_call_each_fill_the_limit() {
        let held = fill(1_000, 1.0, 0, 10_000);
        assert_eq!(held.iter().sum::<u64>(), 1_000);
        assert_eq!(held.iter().max(), Some(&1));
    }

    #[test]
    fn shares_outside_of_0_to_1_are_errors() {
        for share in [0.0, -0.5, 1.001, f64::NAN, f64::INFINITY] {
            let error = Share::of(share).unwrap_err().to_string();
            assert!(error.contains("load_shed.fair_share") && error.contains("above 0 and at most 1"), "{error}");
        }
        assert_eq!(Share::of(f64::MIN_POSITIVE).unwrap(), Share(1));
    }

    proptest! {
        #[test]
        fn a_tenant_without_a_call_gets_a_place_while_one_is_free(share in 1e-9_f64..=1.0, limit: u64, in_flight: u64) {
            let allowed = Share::of(share).unwrap().allowed(limit, in_flight);
            prop_assert_eq!(allowed > 0, in_flight < limit);
            prop_assert!(allowed <= limit.saturating_sub(in_flight));
        }
    }
}
