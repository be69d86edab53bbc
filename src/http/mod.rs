//! At home in HTTP and gRPC.

mod answer;
mod body;
mod border;
mod grpc;
mod key;
mod peek;
mod peer;
mod rate_limit_fields;
mod repeat;
mod replay_body;
mod retry_after;
mod stack;
mod verdict;
mod whole_body;
mod wire;

pub use answer::Answer;
pub use body::HttpBody;
pub use border::Http;
#[doc(hidden)]
pub use border::{AsItIs, Changed, ChangedBy, NotSaid, Said};
pub use key::{AuthorityKey, ClientAddress, authority, header};
#[doc(hidden)]
pub use key::{InExtensions, PeerAddress};
pub use peek::{Peek, PeekBody, PeekFuture, PeekService, peek};
pub use peer::Peer;
pub use rate_limit_fields::{Advertise, ByKey, Standing};
pub use repeat::{DEFAULT_REPLAY_CAP, Repeatable, retry};
#[doc(hidden)]
pub use repeat::{Idempotent, KeptBody, ReplayBodies, SaysIdempotent, SendClones, StandardOnly};
pub use replay_body::{ReplayBody, ReplayError};
pub use verdict::Verdict;
#[doc(hidden)]
pub use whole_body::ToTheEnd;
pub use whole_body::{NoBodyDeadline, WholeBody};
pub use wire::{IgnoredHeaders, Wire, ignored_headers};
