//! The JSON Schema of routes.yaml, made of the same tables that check it. Editors use it for completion; the
//! check itself says more.

use serde_json::{Map, Value, json};

use super::fields::{ROOT, SECRET};
use super::table::{Field, Keys, Shape, Table};

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = object(&ROOT, &mut definitions);
    definitions.insert("env".to_owned(), env());
    let mut secret = object(&SECRET, &mut definitions);
    set(&mut secret, "oneOf", json!([{ "required": ["env"] }, { "required": ["file"] }]));
    definitions.insert(SECRET.name.to_owned(), secret);
    definitions.insert("verify".to_owned(), verify());
    let mut sorted: Vec<_> = definitions.into_iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    set(&mut root, "$defs", Value::Object(sorted.into_iter().collect()));
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("routes.yaml of Kurier"));
    if let Value::Object(fields) = root {
        schema.extend(fields);
    }
    Value::Object(schema)
}

fn set(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(fields) = schema {
        fields.insert(key.to_owned(), value);
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn env() -> Value {
    json!({
        "description": "The value of an environment variable.",
        "type": "object",
        "properties": { "env": { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" } },
        "required": ["env"],
        "additionalProperties": false
    })
}

/// Loose on purpose: the scheme language checks its own keys.
fn verify() -> Value {
    json!({
        "description": "The word `none`, or a scheme: a preset, or the keys of the scheme language.",
        "anyOf": [
            { "const": "none" },
            {
                "type": "object",
                "minProperties": 1,
                "properties": {
                    "preset": { "type": "string" },
                    "secrets": { "anyOf": [
                        { "type": "array", "minItems": 1, "items": reference("secret") },
                        { "type": "object", "additionalProperties": reference("secret") }
                    ] },
                    "any": { "type": "array", "minItems": 1, "items": reference("verify") },
                    "all": { "type": "array", "minItems": 1, "items": reference("verify") }
                }
            }
        ]
    })
}

fn object(table: &Table, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in table.fields {
        properties.insert(field.name.to_owned(), property(field, definitions));
    }
    let required: Vec<&str> = table.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({ "description": table.doc, "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        set(&mut schema, "required", json!(required));
    }
    if table.one {
        set(&mut schema, "minProperties", json!(1));
        set(&mut schema, "maxProperties", json!(1));
    }
    schema
}

fn property(field: &Field, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = shape(&field.shape, definitions);
    let doc = if let Shape::Later(why) = field.shape { format!("{} ({why})", field.doc) } else { field.doc.to_owned() };
    set(&mut schema, "description", json!(doc));
    if !field.default.is_empty() {
        set(&mut schema, "default", default(field.default));
    }
    schema
}

/// The default as JSON: what is no number or list is a text.
fn default(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

fn text(pattern: Option<&str>) -> Value {
    let plain = match pattern {
        Some(pattern) => json!({ "type": "string", "pattern": pattern }),
        None => json!({ "type": "string", "minLength": 1 }),
    };
    json!({ "anyOf": [plain, reference("env")] })
}

fn defined(table: &'static Table, definitions: &mut Map<String, Value>) -> Value {
    if !definitions.contains_key(table.name) {
        // Its place first: a table may hold itself.
        definitions.insert(table.name.to_owned(), Value::Null);
        let schema = object(table, definitions);
        definitions.insert(table.name.to_owned(), schema);
    }
    reference(table.name)
}

fn shape(shape: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Text | Shape::Template | Shape::File | Shape::Folder | Shape::Destination | Shape::Socket | Shape::Net => text(None),
        Shape::Body => json!({ "anyOf": [{ "type": "string" }, reference("env")] }),
        Shape::HeaderValue => text(Some("^[ -~]+$")),
        Shape::Url => text(Some("^https?://[^#]+$")),
        Shape::Path => text(Some("^/")),
        Shape::MediaType => text(Some("^[^/ ]+/[^/ ]+")),
        Shape::Duration { .. } => text(Some("^(0|[1-9][0-9]*)(ms|s|m|min|h|d)$")),
        Shape::Size { .. } => text(Some("^(0|[1-9][0-9]*)(B|KiB|MiB|GiB|TiB)$")),
        Shape::Rate => text(Some("^[1-9][0-9]*/(s|min|h)$")),
        Shape::Word(words) => json!({ "anyOf": [{ "enum": words }, reference("env")] }),
        Shape::Integer { min, max } => json!({ "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, reference("env")] }),
        Shape::Factor { min, max } => json!({ "anyOf": [{ "type": "number", "minimum": min, "maximum": max }, reference("env")] }),
        Shape::Secret => reference(SECRET.name),
        Shape::TextOrSecret => json!({ "anyOf": [{ "type": "string", "minLength": 1 }, reference(SECRET.name)] }),
        Shape::Verify => reference("verify"),
        Shape::List { of, min } => json!({ "type": "array", "minItems": min, "items": self::shape(of, definitions) }),
        Shape::Map { of, keys } => {
            let pattern = match keys {
                Keys::Names => "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
                Keys::Headers => "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
            };
            json!({ "type": "object", "propertyNames": { "pattern": pattern }, "additionalProperties": self::shape(of, definitions) })
        }
        Shape::Object(table) => defined(table, definitions),
        Shape::System(table) => defined(table, definitions),
        Shape::Flag => json!({ "anyOf": [{ "type": "boolean" }, reference("env")] }),
        Shape::Date => text(Some("^[0-9]{4}-[0-9]{2}-[0-9]{2}$")),
        Shape::Short { short, long } => json!({ "anyOf": [self::shape(short, definitions), defined(long, definitions)] }),
        // Nothing is allowed there yet.
        Shape::Later(_) => json!({ "not": {} }),
    }
}
