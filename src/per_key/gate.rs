//! Gates by key: circuit breakers and limiters in a stack.

use super::{handle::PerKey, mechanism::Mechanism, table::Entry};
use crate::{
    error::Rejection,
    shell::{DescribeGate, Ending, Explanation, Frame, Gate, RefusesNow},
};
use std::{hash::Hash, sync::Arc};
use tokio::time::Instant;

/// The permit of a call, and the entry that gave it. The entry is in use while the permit exists.
pub struct Admitted<T, K, P> {
    pub(super) entry: Arc<Entry<T, K>>,
    pub(super) permit: P,
}

impl<T: Mechanism, K, F> PerKey<T, K, F> {
    /// Returns the entry for a request. If the key is new, makes an entry. Returns the overflow entry if there is no
    /// place, or if the mechanism of the key cannot be made.
    #[inline]
    pub(super) fn entry<Request>(&self, request: &Request, frame: &mut Frame) -> Arc<Entry<T, K>>
    where
        K: Hash,
        F: Fn(&Request) -> K,
    {
        let key = (self.key_of)(request);
        let hash = self.keys.hash(&key);
        let Some(entry) = self.keys.find(hash) else {
            frame.user_code_runs();
            let entry = self.keys.find_place(hash, key, frame.now());
            // User code may have made a mechanism, and dropped keys.
            frame.user_code_runs();
            return entry;
        };
        drop(key);
        frame.user_code_runs();
        entry
    }

    /// Returns whether the entry that would serve this request would refuse it. Returns `false` if that entry is not
    /// known. Changes nothing.
    pub(super) fn would_refuse_by<Request>(
        &self,
        request: &Request,
        due: Instant,
        frame: &mut Frame,
        would_refuse: impl FnOnce(&T, &mut Frame) -> bool,
    ) -> bool
    where
        K: Hash,
        F: Fn(&Request) -> K,
    {
        let key = (self.key_of)(request);
        let hash = self.keys.hash(&key);
        drop(key);
        frame.user_code_runs();
        let found = self.keys.find(hash);
        let entry = found.as_ref().or_else(|| self.keys.forecast_for_newcomer(due));
        entry.is_some_and(|entry| would_refuse(&entry.handle, frame))
    }
}

impl<Request, T, K, F> Gate<Request> for PerKey<T, K, F>
where
    T: Mechanism + Gate<Request>,
    K: Hash,
    F: Fn(&Request) -> K,
{
    const HOLDS_ROOM: bool = T::HOLDS_ROOM;
    const READS_DEADLINE: bool = T::READS_DEADLINE;

    type Permit = Admitted<T, K, T::Permit>;

    #[inline]
    fn admit(&self, request: &Request, frame: &mut Frame) -> Result<Self::Permit, Rejection> {
        let entry = self.entry(request, frame);
        match entry.handle.admit(request, frame) {
            // The call is noted as a use when it ends. Until then the entry is in use.
            Ok(permit) => Ok(Admitted { entry, permit }),
            Err(refused) => {
                entry.touch(self.time(frame.now()));
                Err(refused)
            }
        }
    }

    fn would_refuse(&self, request: &Request, due: Instant, frame: &mut Frame) -> bool {
        self.would_refuse_by(request, due, frame, |handle, frame| handle.would_refuse(request, due, frame))
    }

    #[inline]
    fn under_way(&self, permit: &mut Self::Permit, frame: &mut Frame) {
        permit.entry.handle.under_way(&mut permit.permit, frame);
    }

    #[inline]
    fn settle(&self, Admitted { entry, permit }: Self::Permit, ending: Ending, frame: &mut Frame) {
        entry.handle.settle(permit, ending, frame);
        // This reference is not the last one, because the table does not forget an entry in use. Dropping it therefore
        // drops no key, and runs no user code.
        entry.touch(self.time(frame.now()));
    }
}

/// Never refuses: without a request there is no key.
impl<T: Mechanism, K, F> RefusesNow for PerKey<T, K, F> {}

impl<T: Mechanism, K, F> PerKey<T, K, F> {
    /// Describes the rule.
    pub(super) fn rule(&self) -> String {
        let rule = self.keys.overflow().map_or_else(|| "its own rule".to_owned(), |entry| entry.handle.rule());
        let most_open = self.keys.most_open().share();
        // Shares are exact to a millionth, so more digits would only show the error of the `f64`.
        let percent = |share: f64| (share * 1e6).round() / 1e4;
        let most_open = most_open.map(|share| format!("; at most {}% of them open", percent(share)));
        format!("for each key, at most {}: {rule}{}", self.keys.max_keys(), most_open.unwrap_or_default())
    }
}

impl<T: Mechanism, K, F> DescribeGate for PerKey<T, K, F> {
    fn describe(&self, explanation: &mut Explanation) {
        explanation.layer(T::LAYER, self.rule());
        self.keys.instruments(explanation);
    }
}
