/// The state of the queues of a stack.
///
/// A delivery computes it once in each interval, for all stacks of one name. It uses the reading `queue_waiting` of
/// their mechanisms, and the calls that their queues rejected in the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueState {
    /// No call waits.
    #[default]
    Empty,
    /// Calls wait, and no queue rejected a call in the interval.
    Waiting,
    /// A queue rejected calls in the interval, at once or after their maximum waiting time.
    Refusing,
}
