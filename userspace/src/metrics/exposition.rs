//! The two texts in which metrics are told, and which of them a client wants.
//!
//! Knows no metric.

/// A text form of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4, for everybody else.
    Text,
}

// === impl Format ===

impl Format {
    /// What a client wants by its field `Accept` (RFC 9110 section 12.5.1): OpenMetrics where that is named and nothing
    /// else weighs more. Several fields are joined with commas.
    pub fn wanted(accept: &str) -> Self {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let parameters: Vec<(&str, &str)> = parts
                .filter_map(|part| part.split_once('='))
                .map(|(key, value)| (key.trim(), value.trim()))
                .collect();
            let of_key = |key: &str| {
                parameters.iter().find(|(have, _)| have.eq_ignore_ascii_case(key)).map(|(_, value)| *value)
            };
            let weight: f64 = of_key("q").map_or(Some(1.0), |weight| weight.parse().ok()).unwrap_or(0.0);
            // 0.0.1 is what clients called 1.0 before it was final.
            let version_fits = of_key("version").is_none_or(|version| matches!(version, "1.0.0" | "0.0.1"));
            if name.eq_ignore_ascii_case("application/openmetrics-text") && version_fits {
                open_metrics = f64::max(open_metrics, weight);
            } else if name.eq_ignore_ascii_case("text/plain") {
                text = f64::max(text, weight);
            }
        }
        if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
    }

    /// The media type of the text.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text format of Prometheus of what is OpenMetrics: a counter's family is named like its samples, and there are no
/// exemplars, units or end mark.
pub(super) fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    // HELP comes before TYPE, and is named by it.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(named) = line.strip_prefix("# HELP ") {
            help = named.split_once(' ').map(|(_, help)| help);
        } else if let Some(named) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = named.split_once(' ') else { continue };
            let ending = if kind == "counter" { "_total" } else { "" };
            if let Some(help) = help.take() {
                text += &format!("# HELP {name}{ending} {help}\n");
            }
            text += &format!("# TYPE {name}{ending} {kind}\n");
        } else if !line.starts_with('#') {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

/// A sample up to its value; a label value may hold what begins an exemplar.
fn without_exemplar(line: &str) -> &str {
    let mut is_quoted = false;
    let mut is_escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted => return line.get(..at).unwrap_or(line).trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, expected: Format) {
        assert_eq!(Format::wanted(accept), expected, "{accept:?}");
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it() {
        check("", Format::Text);
        check("*/*", Format::Text);
        check("text/html, */*;q=0.8", Format::Text);
        check("application/openmetrics-text", Format::OpenMetrics);
        check("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", Format::OpenMetrics);
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
             text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        );
        check("application/openmetrics-text;version=0.0.1;q=0.5,text/plain;q=0.9", Format::Text);
        check("application/openmetrics-text;version=2.0.0", Format::Text);
        check("application/openmetrics-text;q=0", Format::Text);
        check("application/openmetrics-text;q=nonsense", Format::Text);
    }

    #[track_caller]
    fn check_text(open_metrics: &str, expected: &str) {
        assert_eq!(to_text(open_metrics), expected);
    }

    #[test]
    fn the_text_format_names_counters_by_their_samples_and_has_no_exemplars() {
        check_text(
            "# HELP a Some.\n# TYPE a counter\na_total{l=\"x # {y\"} 3 # {exchange=\"0a\"} 1\n\
             # HELP b More.\n# TYPE b gauge\n# UNIT b bytes\nb 5\n# EOF\n",
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{l=\"x # {y\"} 3\n\
             # HELP b More.\n# TYPE b gauge\nb 5\n",
        );
        check_text("a_total{l=\"\\\" # \"} 3 # {e=\"1\"} 1\n", "a_total{l=\"\\\" # \"} 3\n");
    }
}
