use super::AdmissionStage;
use crate::shell::{Describe, Explanation};

/// An admission that can describe itself, including how long calls wait.
pub trait DescribeAdmission {
    /// Adds this admission and the inner stages to the explanation.
    fn describe(&self, explanation: &mut Explanation, next: &impl Describe);
}

impl<A: DescribeAdmission, Next: Describe> Describe for AdmissionStage<A, Next> {
    fn describe(&self, explanation: &mut Explanation) {
        self.admission.describe(explanation, &self.next);
    }
}
