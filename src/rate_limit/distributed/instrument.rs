//! The readings of a limit that is not part of a stack.

use super::{
    Exact, Leased, WriteBehind,
    sync::{instrument, synchronizer::Synchronizer},
};
use crate::{
    held::address,
    shell::{Instrument, Readings},
};
use tokio::time::Instant;

macro_rules! instruments {
    ($($limit:ty),*) => {
        $(
            /// Reads four gauges. `store_up` is 1 while the store decides, else 0. `store_sync_age_seconds` is the time
            /// since the store last answered. It also grows while a limit has nothing to ask or to report. `store_debt`
            /// is the number of admitted tokens that the store has not confirmed. `keys`, with the label
            /// `mechanism="rate_limit"`, is the number of keys in memory.
            ///
            /// A stack adds the label `name`, the name of its limit, to all gauges but `keys`. Several limits in
            /// different stores need [names](crate::rate_limit::RateLimit::named). Without names their readings are
            /// merged, and `store_up` is 1 while any of the stores decides. Metrics that watch a handle of the limit
            /// keep the limit and its flusher in use. Metrics that watch a stack do not.
            ///
            /// # Cost
            ///
            /// Reads every key in use, one 16th of the table at a time. A call waits at most while one 16th is read.
            impl Instrument for $limit {
                fn read(&self, now: Instant, readings: &mut Readings<'_>) {
                    instrument::give(&self.handle.synchronizer().readings(now), None, readings);
                }

                fn address(&self) -> Option<usize> {
                    Some(address(self.handle.shared()))
                }
            }
        )*
    };
}

instruments!(Exact, Leased, WriteBehind);
