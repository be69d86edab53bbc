/// Who is at the other end. It decides whose headers are believed, and which headers and texts are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A service of the same organization. It may ask for more than others: to be more important than the default, or
    /// not to be tried again.
    Internal,
    /// Anyone else. It may only ask for less. It is not sent attempts, criticalities and our own deadline header, and
    /// answers to it do not name the settings of limits.
    External,
}
