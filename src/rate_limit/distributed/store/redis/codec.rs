//! Charges, demands and their answers in the format of the scripts: doubles, the least significant byte first. Only the
//! number of a client is not a double, but its 8 bytes.

use crate::rate_limit::distributed::store::{Charge, Charged, Demand, Settled, StoreError, StoreErrorKind};
use std::time::Duration;

/// The largest integer up to which doubles represent all integers. Larger numbers count as this one.
const LARGEST: u64 = 1 << 53;

/// Packs a charge for `charge.lua`.
pub(super) fn pack_charge(charge: &Charge) -> Vec<u8> {
    let Charge { quota, client, sequence, spent, late, max_debt, refund, refund_of, want, least, hint, .. } = charge;
    let period_micros = quota.period().as_nanos() as f64 / 1000.0;
    let rate = quota.count().max(1) as f64 / period_micros.max(f64::MIN_POSITIVE);
    let mut packed = Vec::with_capacity(14 * 8);
    put(&mut packed, quota.burst());
    put(&mut packed, quota.burst().saturating_add(*max_debt));
    packed.extend(rate.to_le_bytes());
    put(&mut packed, *spent);
    put(&mut packed, *late);
    put(&mut packed, *refund);
    put(&mut packed, micros(*refund_of));
    for number in [*want, *least, hint.level, micros(hint.at), hint.total, *sequence] {
        put(&mut packed, number);
    }
    packed.extend(client.to_le_bytes());
    packed
}

/// Packs a demand for `settle.lua`.
pub(super) fn pack_demand(demand: &Demand) -> Vec<u8> {
    let Demand { limit, window, client, sequence, spent, spends, held, want, total, .. } = demand;
    let mut packed = Vec::with_capacity(8 * 8 + 16 * spends.len());
    put(&mut packed, *limit);
    put(&mut packed, u64::try_from(window.as_nanos().div_ceil(1000)).unwrap_or(LARGEST).max(1));
    for number in [*sequence, *spent, *held, *want, *total] {
        put(&mut packed, number);
    }
    packed.extend(client.to_le_bytes());
    for (age, tokens) in spends {
        put(&mut packed, micros(*age));
        put(&mut packed, *tokens);
    }
    packed
}

/// Unpacks the answer of `charge.lua` to this charge.
pub(super) fn unpack_charged(charge: &Charge, answer: &[u8]) -> Result<Charged, StoreError> {
    let [granted, level, debt, total, retry_after, at] = numbers(answer)?;
    if granted > charge.want {
        return Err(nonsense(format_args!("{granted} tokens were granted, but at most {} were wanted", charge.want)));
    }
    let retry_after = Duration::from_micros(retry_after);
    Ok(Charged { granted, level, debt, total, retry_after, at: Duration::from_micros(at) })
}

/// Unpacks the answer of `settle.lua` to this demand.
pub(super) fn unpack_settled(demand: &Demand, answer: &[u8]) -> Result<Settled, StoreError> {
    let [granted, free, total, lost] = numbers(answer)?;
    if granted > demand.want {
        return Err(nonsense(format_args!("{granted} tokens were granted, but at most {} were wanted", demand.want)));
    }
    Ok(Settled { granted, free, total, lost: lost != 0 })
}

/// Makes the error for an answer that no script of this crate gives.
pub(super) fn nonsense(detail: impl std::fmt::Display) -> StoreError {
    StoreError::new(StoreErrorKind::Incomprehensible, detail)
}

fn put(packed: &mut Vec<u8>, number: u64) {
    // Exact, since it is at most `LARGEST`.
    packed.extend((number.min(LARGEST) as f64).to_le_bytes());
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(LARGEST)
}

fn numbers<const COUNT: usize>(answer: &[u8]) -> Result<[u64; COUNT], StoreError> {
    let mut numbers = [0; COUNT];
    if answer.len() != 8 * COUNT {
        return Err(nonsense(format_args!("{} bytes instead of {}", answer.len(), 8 * COUNT)));
    }
    for (number, bytes) in numbers.iter_mut().zip(answer.chunks_exact(8)) {
        let double = bytes.try_into().map(f64::from_le_bytes).unwrap_or(f64::NAN);
        if !(0.0..=LARGEST as f64 * 2.0).contains(&double) {
            return Err(nonsense(format_args!("{double} is not a valid count")));
        }
        *number = double as u64;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::{Quota, distributed::Hint};

    fn charge(want: u64) -> Charge {
        Charge {
            key: b"key"[..].into(),
            quota: Quota::new(u64::MAX, Duration::from_nanos(1)),
            client: u64::MAX,
            sequence: u64::MAX,
            spent: u64::MAX,
            late: u64::MAX,
            max_debt: u64::MAX,
            refund: u64::MAX,
            refund_of: Duration::MAX,
            want,
            least: u64::MAX,
            hint: Hint { level: u64::MAX, at: Duration::MAX, total: u64::MAX },
        }
    }

    #[test]
    fn numbers_above_2_to_the_53_are_packed_as_2_to_the_53() {
        let packed = pack_charge(&charge(u64::MAX));
        assert_eq!(packed.len(), 112);
        // The third number is the rate, which is a fraction.
        for (place, number) in packed[..104].chunks(8).enumerate().filter(|(place, _)| *place != 2) {
            assert_eq!(number, (LARGEST as f64).to_le_bytes(), "number {place}");
        }
        assert_eq!(packed[104..], [255; 8]);
    }

    #[test]
    fn an_answer_with_a_wrong_length_or_an_invalid_number_is_an_error() {
        let doubles = |numbers: [f64; 6]| numbers.map(f64::to_le_bytes).concat();
        let good =
            Charged { granted: 2, level: 3, debt: 1, total: 4, at: Duration::from_micros(5), ..Charged::default() };
        assert_eq!(unpack_charged(&charge(2), &doubles([2.0, 3.0, 1.0, 4.0, 0.0, 5.0])), Ok(good));
        for bad in [
            doubles([2.0, 3.0, 1.0, 4.0, 0.0, 5.0])[1..].to_vec(),
            Vec::new(),
            doubles([3.0, 3.0, 1.0, 4.0, 0.0, 5.0]),
            doubles([2.0, f64::NAN, 1.0, 4.0, 0.0, 5.0]),
            doubles([2.0, -1.0, 1.0, 4.0, 0.0, 5.0]),
            doubles([2.0, f64::INFINITY, 1.0, 4.0, 0.0, 5.0]),
        ] {
            let error = unpack_charged(&charge(2), &bad).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Incomprehensible, "{bad:?}");
        }
    }
}
