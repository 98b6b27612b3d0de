//! Writes what would help into a form that is ready for a configuration: rules that hide a cause, routes.
//!
//! Proposes nothing broader than what the example shows, where a rule can say it.

use std::collections::BTreeSet;

use super::causes::JudgedCause;
use crate::compare::{Likeness, is_name_of_one, likeness};
use crate::model::Change;

/// A line of `[experiment.compare]` for each change of a cause.
pub(super) fn fitting(judged: &JudgedCause) -> Vec<String> {
    let shown = |path: &str| {
        let differences = judged.examples.iter().flat_map(|example| &example.differences);
        let mut here = differences.filter(|difference| difference.path == path);
        here.find_map(|difference| likeness(difference.control.as_deref()?, difference.candidate.as_deref()?))
    };
    let rule = |Change { path, kind: _, classes: _ }: &Change| line(path, shown(path));
    judged.cause.changes.iter().map(rule).collect()
}

/// Route under which everything falls where none is configured.
const ROUTE_OTHER: &str = "other";

/// Routes that are proposed at most.
const ROUTES_PROPOSED_MAX: usize = 8;

/// Advice to name routes, where everything is one; with those that causes were seen on.
pub(super) fn name_routes<'r>(
    routes: impl IntoIterator<Item = &'r str>,
    causes: &[JudgedCause],
) -> Option<String> {
    if !routes.into_iter().eq([ROUTE_OTHER]) {
        return None;
    }
    let examples = causes.iter().flat_map(|cause| cause.examples.first());
    let seen: BTreeSet<String> = examples.map(|example| template(&example.target)).collect();
    let named = seen.iter().take(ROUTES_PROPOSED_MAX).map(|route| quoted(route));
    // What no pattern fits would not be replayed.
    let list = named.chain([quoted("~/.*")]).collect::<Vec<_>>().join(", ");
    Some(format!(
        "No routes are configured, so that all paths are one: noise on one page may hide what is wrong at the same place \
         of another, and their times are judged together. Name them: routes = [{list}]"
    ))
}

/// The path of a target as a pattern of routes, with ids left open.
fn template(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut open = 0_u32;
    let mut step = |step: &str| match step {
        step if is_name_of_one(step) => {
            open = open.saturating_add(1);
            if open == 1 { "{id}".to_owned() } else { format!("{{id{open}}}") }
        }
        // A brace would begin a name.
        step => step.replace('{', "{{").replace('}', "}}"),
    };
    path.split('/').map(&mut step).collect::<Vec<_>>().join("/")
}

fn line(path: &str, likeness: Option<Likeness>) -> String {
    let at = quoted(path);
    match likeness {
        Some(Likeness::Class(class)) => format!("ignore = [{{ at = {at}, class = \"{class}\" }}]"),
        Some(Likeness::Part(part)) => {
            format!("clean = [{{ at = {at}, replace = \"{part}\", with = \"0\" }}]")
        }
        None => format!("ignore = [{at}]"),
    }
}

/// A basic string of TOML 1.0.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, control: &str, candidate: &str, expected: &str) {
        let line = line(path, likeness(control, candidate));
        assert_eq!(line, expected);
        let value: toml::Table = line.parse().unwrap();
        assert_eq!(value.len(), 1, "{value:?}");
    }

    #[track_caller]
    fn check_template(target: &str, expected: &str) {
        assert_eq!(template(target), expected);
        assert!(
            crate::select::Selector::new(crate::select::SelectConfig {
                routes: vec![template(target)],
                ..crate::select::SelectConfig::default()
            })
            .is_ok(),
            "{expected}"
        );
    }

    #[test]
    fn ids_in_a_target_are_left_open() {
        check_template("/items/17?page=2", "/items/{id}");
        check_template("/u/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/days/2026-08-22", "/u/{id}/days/{id2}");
        check_template("/v1/search", "/v1/search");
        check_template("/a/{b}", "/a/{{b}}");
    }

    #[test]
    fn the_narrowest_rule_that_fits() {
        check("json:$.id", "17", "23", r#"ignore = [{ at = "json:$.id", class = "counter" }]"#);
        check(
            "json:$['a \"b\\']",
            "\"f81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
            "\"e81d4fae-7dec-11d0-a765-00a0c91e6bf6\"",
            r#"ignore = [{ at = "json:$['a \"b\\']", class = "uuid" }]"#,
        );
        check(
            "header:location",
            "/orders/17",
            "/orders/23",
            r#"clean = [{ at = "header:location", replace = "[0-9]+", with = "0" }]"#,
        );
        check("json:$.x", "\"a\"", "\"b\"", r#"ignore = ["json:$.x"]"#);
    }
}
