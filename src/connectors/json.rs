//! Reading what vendors write: ids that are a number today and a text tomorrow.

use serde_json::Value;

/// A text or a number as text; nothing else, and no empty text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The scalar at this pointer.
pub(super) fn at(document: &Value, pointer: &str) -> Option<String> {
    scalar(document.pointer(pointer)?)
}
