//! What can be read of a limit that is in no stack.

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
            /// `store_up`: 1 while the store decides, else 0; `store_sync_age_seconds`: the time since it last answered
            /// (a limit without news does not ask); `store_debt`: the tokens that were admitted and that the store has
            /// not confirmed to have counted; `keys` of the mechanism `rate_limit`: those in memory.
            ///
            /// A stack that has the limit gives them the label `name`, which is that of the limit: several limits in
            /// different stores need [names](crate::rate_limit::RateLimit::named). A watched handle keeps the limit in
            /// use, flusher and all; that of a stack does not.
            ///
            /// # Cost
            ///
            /// A look at every key in use, a 16th of them at a time: a call waits for at most that.
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
