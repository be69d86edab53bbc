/// How far the other end is trusted: which of its headers count, and which headers and texts it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A service of the same organization. It may ask for more than others: a higher criticality. With
    /// `steadfast-retry` it may also forbid a retry, or state that it did not process the request.
    Internal,
    /// Any other peer. It may only ask for less. It receives no criticality, no `steadfast-attempt` and no
    /// `steadfast-deadline-ms`. In gRPC it still receives the timeout and the number of earlier attempts. Responses to
    /// it do not reveal the settings of limits, unless [`rate_limit_fields`](super::Http::rate_limit_fields) reports
    /// them.
    External,
}
