/// Who is at the other end: whose headers are believed, and who is sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A service of the same organization. It may ask for more than others: to be more important than the default, or
    /// not to be tried again.
    Internal,
    /// Anyone else. It may only ask for less, and learns nothing of how calls are made here.
    External,
}
