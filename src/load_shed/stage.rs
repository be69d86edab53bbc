use super::Limiter;
use crate::{
    error::Rejection,
    shell::{DescribeGate, Ending, Explanation, Frame, Gate, RefusesNow},
};

impl<Request> Gate<Request> for Limiter {
    /// One place among the calls in flight.
    type Permit = ();

    #[inline]
    fn admit(&self, _request: &Request, _frame: &mut Frame) -> Result<(), Rejection> {
        Ok(self.enter()?)
    }

    #[inline]
    fn settle(&self, (): (), _ending: Ending, _frame: &mut Frame) {
        self.leave();
    }
}

impl RefusesNow for Limiter {
    fn refuses_now(&self, _frame: &mut Frame) -> bool {
        self.is_full()
    }
}

impl DescribeGate for Limiter {
    fn describe(&self, explanation: &mut Explanation) {
        let (limit, shadow) = self.configuration();
        let in_shadow = if shadow { " (shadow)" } else { "" };
        explanation.layer("load shed", format!("at most {limit} in flight{in_shadow}"));
        explanation.instrument(self.clone());
        if !shadow {
            explanation.limit_in_flight("load_shed.limit", limit);
        }
    }
}
