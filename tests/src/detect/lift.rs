//! Turns an answer into one tree of values, as Diffy lifts responses into fields.
//!
//! Kinder than Diffy where it matters little: markup is lifted into members named after the elements, so that a
//! difference has a telling path, and lines of JSON into a list.

use serde_json::{Map, Value, json};

use super::log::Observed;
use crate::wire::field;

/// Elements without an end tag (HTML, section 13.1.2).
const VOID: &[&str] = &["br", "hr", "img", "input", "link", "meta"];

/// `{"status": …, "headers": {…}, "body": …}`.
pub(super) fn lift(observed: &Observed) -> Value {
    let mut headers = Map::new();
    for (name, value) in &observed.fields {
        headers.insert(name.to_ascii_lowercase(), json!(value));
    }
    let media_type = field(&observed.fields, "content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let text = || json!(observed.body);
    let body = match media_type {
        "application/json" => serde_json::from_str(&observed.body).unwrap_or_else(|_| text()),
        "application/x-ndjson" => observed
            .body
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<Vec<Value>, _>>()
            .map_or_else(|_| text(), Value::Array),
        "text/html" => markup(&observed.body, true),
        xml if xml.ends_with("xml") => markup(&observed.body, false),
        _ => text(),
    };
    json!({"status": observed.status, "headers": headers, "body": body})
}

/// Elements as members of objects: a list for several of one name; attributes as `@name`, text as `#text`. Reads the
/// well-formed markup of the bench's own applications and no other.
fn markup(text: &str, html: bool) -> Value {
    let mut open: Vec<(String, Map<String, Value>)> = vec![(String::new(), Map::new())];
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        add_text(&mut open, &rest[..start]);
        let after = &rest[start..];
        let end =
            if after.starts_with("<!--") { after.find("-->").map(|end| end + 2) } else { after.find('>') };
        let Some(end) = end else { break };
        let tag = &after[1..end];
        rest = &after[end + 1..];
        if tag.starts_with(['!', '?']) {
            continue;
        }
        if tag.starts_with('/') {
            close(&mut open);
            continue;
        }
        let inner = tag.trim_end_matches('/');
        let (name, attributes) = inner.split_once(' ').unwrap_or((inner, ""));
        let mut members = Map::new();
        let mut pieces = attributes.split('"');
        while let (Some(key), Some(value)) = (pieces.next(), pieces.next()) {
            members.insert(format!("@{}", key.trim().trim_end_matches('=')), json!(value));
        }
        open.push((name.to_owned(), members));
        if tag.ends_with('/') || (html && VOID.contains(&name)) {
            close(&mut open);
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map_or(Value::Null, |(_, members)| Value::Object(members))
}

fn add_text(open: &mut [(String, Map<String, Value>)], text: &str) {
    let text = text.trim();
    if let (false, Some((_, members))) = (text.is_empty(), open.last_mut()) {
        members.insert("#text".to_owned(), json!(text));
    }
}

fn close(open: &mut Vec<(String, Map<String, Value>)>) {
    if open.len() < 2 {
        return;
    }
    let (Some((name, members)), Some((_, parent))) = (open.pop(), open.last_mut()) else { return };
    let element = Value::Object(members);
    match parent.get_mut(&name) {
        None => drop(parent.insert(name, element)),
        Some(Value::Array(list)) => list.push(element),
        Some(first) => *first = json!([first.take(), element]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(media_type: &str, body: &str, expected: &Value) {
        let fields = vec![("Content-Type".to_owned(), media_type.to_owned())];
        let observed = Observed {
            number: 0,
            request: String::new(),
            status: 200,
            fields,
            body: body.to_owned(),
            changed: false,
        };
        assert_eq!(lift(&observed)["body"], *expected);
    }

    #[test]
    fn bodies_become_trees() {
        check("application/json; charset=utf-8", r#"{"a":[1]}"#, &json!({"a": [1]}));
        check("application/json", "{", &json!("{"));
        check("application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n", &json!([{"a": 1}, {"a": 2}]));
        check("text/plain", "a\nb", &json!("a\nb"));
        check(
            "text/html",
            "<!doctype html><ul><!-- x > y --><li id=\"1\">a</li><li><input name=\"b c\"></li></ul>",
            &json!({"ul": {"li": [{"@id": "1", "#text": "a"}, {"input": {"@name": "b c"}}]}}),
        );
        check("application/atom+xml", "<?xml?><f><l href=\"/\"/></f>", &json!({"f": {"l": {"@href": "/"}}}));
    }
}
