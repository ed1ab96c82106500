//! What programs read: an object on a line, in the shape that `docs/json.md` documents.

use serde::Serialize;
use serde_json::Value;
use std::io::{Result, Write};

/// Of the shapes in `docs/json.md`.
const VERSION: u32 = 1;

/// Says of an object which command it is of, and in which version of its shape.
pub fn of(command: &str, object: &impl Serialize) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    if let Some(object) = value.as_object_mut() {
        object.insert("version".into(), VERSION.into());
        object.insert("command".into(), command.into());
    }
    Ok(value)
}

/// [`of`], on a line.
pub fn write(out: &mut impl Write, command: &str, object: &impl Serialize) -> Result<()> {
    writeln!(out, "{}", of(command, object)?)
}
