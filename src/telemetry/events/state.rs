/// The state of the queues of a stack.
///
/// A [`Delivery`](super::Delivery) computes it at the end of each interval, for all stacks of one name. It uses the
/// reading `queue_waiting` of their mechanisms, and the number of calls that `load_level` rejected in the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueState {
    /// No call waits at the end of the interval, and no queue rejected a call in it.
    #[default]
    Empty,
    /// Calls wait at the end of the interval, and no queue rejected a call in it.
    Waiting,
    /// A queue rejected calls in the interval, at once or after a wait. Other calls may be waiting.
    Refusing,
}
