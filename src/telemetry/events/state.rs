/// What a queue of a stack does with calls.
///
/// A delivery judges it once in each interval: by the reading `queue_waiting` of the mechanisms of the stacks of one
/// name, and by the calls that their queues refused in the interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueState {
    /// No call waits.
    #[default]
    Empty,
    /// Calls wait, and none was refused in the interval.
    Waiting,
    /// A queue refused calls in the interval, or let them wait for as long as they are worth.
    Refusing,
}
