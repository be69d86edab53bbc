//! The calls of each tenant, in cells that tenants share.

use super::both;
use loom::sync::Arc;
use steadfast::load_shed::{Share, Tenants};

/// Two tenants that share the cells of two rows of four: bits 0, 16, 32 and 48 choose the cells.
const ONE: u64 = 0;
const OTHER: u64 = 1 | 1 << 16;

#[test]
fn calls_of_one_tenant_never_exceed_its_share_in_whichever_row_their_anchor_is() {
    super::check_with_interruptions(3, || {
        let tenants = Arc::new(Tenants::new(Share::of(1.0).unwrap(), Some(1)));
        let (one, other) = (Arc::clone(&tenants), Arc::clone(&tenants));
        let entered = both(move || one.enter_with_anchor(ONE, 1, 0), move || other.enter_with_anchor(ONE, 1, 1));
        assert!(entered != (true, true));
        assert_eq!(tenants.in_flight(ONE), u64::from(entered.0 || entered.1));
    });
}

#[test]
fn exactly_one_of_two_calls_of_one_tenant_gets_the_last_place() {
    super::check_with_interruptions(3, || {
        let tenants = Arc::new(Tenants::new(Share::of(1.0).unwrap(), Some(1)));
        let (one, other) = (Arc::clone(&tenants), Arc::clone(&tenants));
        let entered = both(move || one.enter(ONE, 1), move || other.enter(ONE, 1));
        assert!(entered.0 != entered.1);
        tenants.leave(ONE);
        assert_eq!(tenants.in_flight(ONE), 0);
    });
}

#[test]
fn no_count_of_tenants_that_share_cells_is_lost() {
    super::check_with_interruptions(2, || {
        let tenants = Arc::new(Tenants::new(Share::of(1.0).unwrap(), Some(1)));
        let (one, other) = (Arc::clone(&tenants), Arc::clone(&tenants));
        let calls = |tenants: Arc<Tenants>, tenant| {
            move || {
                assert!(tenants.enter(tenant, 2));
                assert!(tenants.in_flight(tenant) >= 1);
                tenants.leave(tenant);
            }
        };
        both(calls(one, ONE), calls(other, OTHER));
        assert_eq!((tenants.in_flight(ONE), tenants.in_flight(OTHER)), (0, 0));
    });
}
