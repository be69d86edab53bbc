use std::error::Error;

/// Returns the text of an error and of all its sources, separated by colons.
///
/// Errors of this crate say their own part only, and leave the cause to their `source()`. A log that prints an error
/// with `{}` has the first part; this has them all. A source whose words the text ends in already, as those of some
/// other crates do, is not repeated. Allocates.
///
/// ```
/// use steadfast::{ConfigError, constant_work::Refusal, error::chain};
///
/// let refusal = Refusal::Check(ConfigError::new("limit.rate", 0, "must be above zero"));
/// assert_eq!(refusal.to_string(), "the check refused it");
/// assert_eq!(chain(&refusal), "the check refused it: limit.rate = 0: must be above zero");
/// ```
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.ends_with(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}
