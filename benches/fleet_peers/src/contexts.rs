//! What limitador is told about a call of each key, made once: a server of limits would make it for each call.

use crate::limits::NAMES;
use limitador::limit::Context;
use std::{collections::HashMap, sync::LazyLock};

static CONTEXTS: LazyLock<Vec<Context<'static>>> =
    LazyLock::new(|| NAMES.iter().map(|name| HashMap::from([("key".to_owned(), name.clone())]).into()).collect());

pub fn contexts() -> &'static [Context<'static>] {
    &CONTEXTS
}
