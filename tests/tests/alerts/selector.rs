//! Finds what an expression of PromQL selects, and which labels it names.
//!
//! Knows no more of the language than that: Prometheus judges the rest.

use anyhow::ensure;

use crate::Case;

pub(crate) const CASES: &[Case] =
    &[Case { name: "selectors_and_labels_are_found", needs: &[], run: selectors_and_labels_are_found }];

/// What every metric of ours begins with.
const PREFIX: &str = "understudy_";

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The selectors of our metrics, with their matchers and without a range.
pub(crate) fn selectors(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices(PREFIX) {
        if expression[..at].chars().next_back().is_some_and(is_name) {
            continue;
        }
        let rest = &expression[at..];
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let matchers = &rest[name.len()..];
        let end = if matchers.starts_with('{') { matchers_end(matchers) } else { 0 };
        found.push(format!("{name}{}", &matchers[..end]));
    }
    found
}

/// Behind the brace that closes what begins here.
fn matchers_end(text: &str) -> usize {
    let mut is_quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' => is_quoted = !is_quoted,
            '}' if !is_quoted => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The labels that an expression groups or joins by.
pub(crate) fn grouping(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    for word in ["by", "without", "on", "ignoring"] {
        for (at, _) in expression.match_indices(word) {
            let is_word = !expression[..at].chars().next_back().is_some_and(is_name);
            let rest = expression[at + word.len()..].trim_start();
            if let (true, Some(rest)) = (is_word, rest.strip_prefix('(')) {
                let list = rest.split(')').next().unwrap_or_default();
                found.extend(list.split(',').map(|label| label.trim().to_owned()));
            }
        }
    }
    found
}

/// The labels that a template names: `{{ $labels.x }}` of an alert, `{{x}}` of a dashboard.
pub(crate) fn templated(text: &str) -> Vec<String> {
    let inner = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    inner
        .filter_map(|inner| {
            let inner = inner.trim();
            match inner.strip_prefix("$labels.") {
                Some(label) => Some(label.to_owned()),
                None => inner.chars().all(is_name).then(|| inner.to_owned()),
            }
        })
        .collect()
}

fn selectors_and_labels_are_found() -> anyhow::Result<()> {
    let expression = "sum without (reason) (rate(understudy_a_total{reason!~\"x|}\", b=\"c\"}[5m])) \
                      / on (job, instance) my_understudy_b + understudy_c > 0";
    ensure!(selectors(expression) == ["understudy_a_total{reason!~\"x|}\", b=\"c\"}", "understudy_c"]);
    ensure!(grouping(expression) == ["reason", "job", "instance"]);
    ensure!(templated("{{ $labels.a }} {{b}} {{ $value | humanize }}") == ["a", "b"]);
    Ok(())
}
