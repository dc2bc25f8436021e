//! A JSON body as common writers would have written it.

use serde_json::Value;

/// The same JSON in other spellings; numbers keep their text.
pub(super) fn reserialised(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let compact = json.to_string();
    let mut sorted = json.clone();
    sorted.sort_all_objects();
    let ascii: String = compact.chars().map(|c| if c.is_ascii() { c.to_string() } else { utf16(c) }).collect();
    let mut forms = vec![
        ("the JSON was written without blanks", compact.clone().into_bytes()),
        ("the JSON was written with blanks after commas and colons", spaced(&compact).into_bytes()),
        ("the JSON was written with blanks and in ASCII (\\uHHHH)", spaced(&ascii).into_bytes()),
        ("the JSON was written without blanks and its keys sorted", sorted.to_string().into_bytes()),
        ("the JSON was written without blanks and its slashes escaped", compact.replace('/', "\\/").into_bytes()),
        ("the JSON was written without blanks and in ASCII (\\uHHHH)", ascii.into_bytes()),
    ];
    if let Ok(pretty) = serde_json::to_vec_pretty(&json) {
        forms.push(("the JSON was written on many lines", pretty));
    }
    forms
}

fn utf16(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Blanks after the commas and colons that are not inside of a text.
fn spaced(compact: &str) -> String {
    let (mut text, mut inside, mut escaped) = (String::with_capacity(compact.len() * 2), false, false);
    for c in compact.chars() {
        text.push(c);
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            ',' | ':' if !inside => text.push(' '),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_common_writers() {
        let forms = reserialised(r#"{"b":"ä, /:\"","a":[1.50,{}]}"#.as_bytes());
        let texts: Vec<&str> = forms.iter().map(|(_, text)| std::str::from_utf8(text).unwrap()).collect();
        assert_eq!(texts[1], r#"{"b": "ä, /:\"", "a": [1.50, {}]}"#);
        assert_eq!(texts[2], r#"{"b": "\u00e4, /:\"", "a": [1.50, {}]}"#);
        assert_eq!(texts[3], r#"{"a":[1.50,{}],"b":"ä, /:\""}"#);
        assert_eq!(texts[4], r#"{"b":"ä, \/:\"","a":[1.50,{}]}"#);
        assert!(texts[6].starts_with("{\n  \"b\""));
        assert!(reserialised(b"a=1").is_empty());
    }
}
