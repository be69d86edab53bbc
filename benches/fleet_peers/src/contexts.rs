//! The contexts that limitador needs for a call of each key, made once. A limit server would make one for each call.

use crate::limits::NAMES;
use limitador::limit::Context;
use std::{collections::HashMap, sync::LazyLock};

static CONTEXTS: LazyLock<Vec<Context<'static>>> =
    LazyLock::new(|| NAMES.iter().map(|name| HashMap::from([("key".to_owned(), name.clone())]).into()).collect());

pub fn contexts() -> &'static [Context<'static>] {
    &CONTEXTS
}
