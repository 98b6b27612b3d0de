//! JSON as lines that can be aligned: pretty-printed, members of both sides in one order, each line with its path.
//!
//! Reads no more deeply nested JSON than `serde_json` does (128 levels).

use serde_json::{Map, Value};

use super::align::Line;
use crate::compare::{Place, Step};

/// Bytes of a path, as in `CompareLimits`.
const PATH_BYTES_MAX: usize = 256;

struct Printer<'v> {
    lines: Vec<Line>,
    lines_max: usize,
    steps: Vec<Step<'v>>,
}

/// Both texts as lines; none when they are not both JSON.
pub(super) fn lines(control: &str, candidate: &str, lines_max: usize) -> Option<(Vec<Line>, Vec<Line>)> {
    let control: Value = serde_json::from_str(control).ok()?;
    let candidate = in_order_of(&control, serde_json::from_str(candidate).ok()?);
    let printed = |value: &Value| {
        let mut printer = Printer { lines: Vec::new(), lines_max, steps: Vec::new() };
        printer.print(value, "", "");
        printer.lines
    };
    Some((printed(&control), printed(&candidate)))
}

/// The same value with the members of its objects in the order that `model` has them, which means nothing in JSON.
fn in_order_of(model: &Value, value: Value) -> Value {
    match (model, value) {
        (Value::Object(model), Value::Object(mut members)) => {
            let mut ordered = Map::new();
            for (key, of_model) in model {
                if let Some(member) = members.remove(key) {
                    ordered.insert(key.clone(), in_order_of(of_model, member));
                }
            }
            ordered.extend(members);
            Value::Object(ordered)
        }
        (Value::Array(model), Value::Array(elements)) => {
            let pairs = elements.into_iter().enumerate();
            let ordered = |(at, element)| match model.get(at).or(model.last()) {
                Some(of_model) => in_order_of(of_model, element),
                None => element,
            };
            Value::Array(pairs.map(ordered).collect())
        }
        (_, value) => value,
    }
}

// === impl Printer ===

impl<'v> Printer<'v> {
    /// Prints a value behind `head`, the name of a member, and before `tail`, a comma.
    fn print(&mut self, value: &'v Value, head: &str, tail: &'static str) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                self.line(format!("{head}{{"), "");
                let last = members.len() - 1;
                for (at, (key, member)) in members.iter().enumerate() {
                    let head = format!("{}: ", Value::from(key.as_str()));
                    self.inside(Step::Key(key), member, &head, if at < last { "," } else { "" });
                }
                self.line("}".to_owned(), tail);
            }
            Value::Array(elements) if !elements.is_empty() => {
                self.line(format!("{head}["), "");
                let last = elements.len() - 1;
                for (at, element) in elements.iter().enumerate() {
                    self.inside(Step::Index(at), element, "", if at < last { "," } else { "" });
                }
                self.line("]".to_owned(), tail);
            }
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => self.line(format!("{head}{value}"), tail),
        }
    }

    fn inside(&mut self, step: Step<'v>, value: &'v Value, head: &str, tail: &'static str) {
        self.steps.push(step);
        self.print(value, head, tail);
        self.steps.pop();
    }

    fn line(&mut self, text: String, tail: &'static str) {
        // One more than are shown, so that it is known that there are more.
        if self.lines.len() > self.lines_max {
            return;
        }
        // Its own brackets stand where the container does.
        let path = Place::Json(&self.steps).normalised(PATH_BYTES_MAX);
        let indent = "  ".repeat(self.steps.len());
        self.lines.push(Line { text: format!("{indent}{text}"), tail, path: Some(path) });
    }
}
