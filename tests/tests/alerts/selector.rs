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

/// The labels that a template names: `$labels.x` of an alert, `{{x}}` of a dashboard.
pub(crate) fn templated(text: &str) -> Vec<String> {
    let of_alert =
        text.split("$labels.").skip(1).map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default());
    let inner = text.split("{{").skip(1).filter_map(|part| Some(part.split("}}").next()?.trim()));
    // What begins with a word and has another one is a piece of a program.
    let of_dashboard =
        inner.filter(|inner| *inner != "end" && *inner != "else" && inner.chars().all(is_name));
    of_alert.chain(of_dashboard).map(str::to_owned).collect()
}

/// The expressions that a template asks Prometheus with: `printf "…" … | query`. Whatever is put into them may be anything.
pub(crate) fn asked(template: &str) -> Vec<String> {
    let texts = template.split("printf \"").skip(1);
    let unquoted = |text: &str| {
        let mut plain = String::new();
        let mut characters = text.chars();
        loop {
            match characters.next()? {
                '"' => return Some(plain),
                '\\' => plain.push(characters.next()?),
                character => plain.push(character),
            }
        }
    };
    texts.filter_map(unquoted).map(|text| text.replace("=%q", "=~\".*\"")).collect()
}

fn selectors_and_labels_are_found() -> anyhow::Result<()> {
    let expression = "sum without (reason) (rate(understudy_a_total{reason!~\"x|}\", b=\"c\"}[5m])) \
                      / on (job, instance) my_understudy_b + understudy_c > 0";
    ensure!(selectors(expression) == ["understudy_a_total{reason!~\"x|}\", b=\"c\"}", "understudy_c"]);
    ensure!(grouping(expression) == ["reason", "job", "instance"]);
    ensure!(templated("{{ $labels.a }} {{b}} {{ $value | humanize }}{{- end }}") == ["a", "b"]);
    let asking = "{{ with printf \"max(a{b=%q, c=\\\"d\\\"}) > 0\" $labels.b | query }}{{ . | first | value }}{{ end }}";
    ensure!(asked(asking) == ["max(a{b=~\".*\", c=\"d\"}) > 0"] && templated(asking) == ["b"]);
    Ok(())
}
