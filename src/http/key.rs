mod address;
mod authority;
mod forwarded;

pub use address::ClientAddress;
#[doc(hidden)]
pub use address::{InExtensions, PeerAddress};
pub use authority::{AuthorityKey, authority};

use http::{HeaderName, Request};

/// Returns a function that borrows the value of a header: the key of a limit per tenant, for
/// [`by_key_ref`](crate::rate_limit::RateLimit::by_key_ref) with a `Keyed<[u8]>`.
///
/// All requests without the header share one key, the empty value. If the header occurs more than once, its first value
/// counts. The sender of the request chooses the value. A limit by this value is only safe behind a check that the
/// value is genuine, such as a check of the API key.
///
/// A [`tenant`](crate::load_shed::LoadShed::tenant) and the key of a [`PerKey`](crate::per_key::PerKey) must be owned.
/// Write a closure for them: `|request: &Request<B>| request.headers().get("api-key").cloned()`.
///
/// The function allocates nothing and never panics.
///
/// ```
/// use std::time::Duration;
/// use hyper::header::HeaderName;
/// use steadfast::{http, rate_limit::{Keyed, Quota, RateLimit}};
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let tenants = Keyed::<[u8]>::builder(10_000, Quota::new(100, Duration::from_secs(1))).build()?;
/// let limit = RateLimit::by_key_ref(tenants, http::header::<String>(HeaderName::from_static("tenant")));
/// # let _ = limit;
/// # Ok(())
/// # }
/// ```
pub fn header<B>(name: HeaderName) -> impl Fn(&Request<B>) -> &[u8] + Clone {
    move |request: &Request<B>| request.headers().get(&name).map_or(&[], |value| value.as_bytes())
}
