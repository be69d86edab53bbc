//! Changes of a part of a configuration.

use serde_json::{Map, Value};
use steadfast::stack::live::{Control, StackConfig};

/// Applies a JSON merge patch to the current configuration. Named fields change. `null` restores the value of the
/// builder. A list of the same length changes item by item: `[{}, {"shadow": true}]` changes the second limit.
///
/// # Errors
///
/// Describes what is wrong with the patch or with the resulting configuration. Nothing has changed then.
pub fn apply(control: &Control, patch: &[u8]) -> Result<(), String> {
    let Ok(Value::Object(patch)) = serde_json::from_slice(patch) else {
        return Err("the patch must be a JSON object".to_owned());
    };
    let mut config = serde_json::to_value(control.config()).map_err(|error| error.to_string())?;
    if let Value::Object(config) = &mut config {
        merge(config, patch);
    }
    let config: StackConfig = serde_json::from_value(config).map_err(|error| error.to_string())?;
    control.apply(&config).map_err(|error| error.to_string())
}

fn merge(fields: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, given) in patch {
        match given {
            Value::Null => {
                fields.remove(&name);
            }
            given => set(fields.entry(name).or_insert(Value::Null), given),
        }
    }
}

fn set(value: &mut Value, given: Value) {
    match (value, given) {
        (Value::Object(fields), Value::Object(patch)) => merge(fields, patch),
        (Value::Array(items), Value::Array(given)) if items.len() == given.len() => {
            items.iter_mut().zip(given).for_each(|(item, given)| set(item, given));
        }
        (value, given) => *value = given,
    }
}
