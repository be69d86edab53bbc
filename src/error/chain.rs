use std::error::Error;

/// Returns the text of an error and of all its sources, separated by colons.
///
/// An error of this crate, except [`Error`](crate::Error), prints only its own part; `source()` returns the cause. A
/// log that prints an error with `{}` shows the first part, this function all of them. `Error` and the errors of some
/// other crates end with the text of their source. This function then does not repeat that text. Allocates.
///
/// ```
/// use steadfast::{ConfigError, constant_work::Refusal, error::chain};
///
/// let refusal = Refusal::Check(ConfigError::new("limit.rate", 0, "must be above zero"));
/// assert_eq!(refusal.to_string(), "the check refused the rules");
/// assert_eq!(chain(&refusal), "the check refused the rules: limit.rate = 0: must be above zero");
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
