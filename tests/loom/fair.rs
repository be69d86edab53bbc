//! The calls in flight of each tenant, counted in rows of cells that tenants share.
//!
//! A call is counted in one cell of each row. One of these cells, its anchor, decides whether it may enter. See
//! `src/load_shed/fair/tenants.rs`.

use super::both;
use loom::sync::Arc;
use steadfast::load_shed::{Share, Tenants};

/// Two tenants that share their cells in two of the four rows. The bits 0, 16, 32 and 48 choose the cell of each row,
/// and the tenants differ in the bits 0 and 16.
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
