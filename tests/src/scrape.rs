//! The daemon's `/metrics`, read as numbers.
//!
//! Reads the text format (OpenMetrics and Prometheus alike) as far as counters and gauges need it.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// The samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

// === impl Scrape ===

impl Scrape {
    /// Reads the text of `/metrics`.
    ///
    /// # Errors
    /// When a line is no sample.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("failed to parse the sample `{line}`")))
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    /// The sum over the samples of this name whose labels include `labels`.
    ///
    /// # Errors
    /// When there is no such sample: a name that nobody exports must not read as zero.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> anyhow::Result<u64> {
        let mut values = self.0.iter().filter(|sample| {
            sample.name == name
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|have| have == value))
        });
        let first = values.next().with_context(|| format!("no sample {name}{labels:?} in /metrics"))?;
        // Counters of a test stay far below 2^53, up to which this is exact.
        Ok((first.value + values.map(|sample| sample.value).sum::<f64>()) as u64)
    }

    /// All values of one label over the samples of this name.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<String> = self
            .0
            .iter()
            .filter(|sample| sample.name == name)
            .filter_map(|sample| sample.labels.get(label).cloned())
            .collect();
        values.sort();
        values.dedup();
        values
    }

    /// What was counted, one counter that is not zero per line, for whoever reads why a test failed.
    pub fn counted(&self) -> String {
        let counters = self.0.iter().filter(|sample| sample.name.ends_with("_total") && sample.value != 0.0);
        counters.map(|Sample { name, labels, value }| format!("{name}{labels:?} {value}\n")).collect()
    }
}

/// `name{label="value",…} number`, without escapes in values, which the daemon's closed sets do not need.
fn sample(line: &str) -> Option<Sample> {
    let (head, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = rest.rsplit_once('}')?;
            ((name, labels), rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            ((name, ""), rest)
        }
    };
    let labels = head
        .1
        .split("\",")
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (key, value) = label.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect::<Option<_>>()?;
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: head.0.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a Help.\n# TYPE a counter\na_total{reason=\"x\",experiment=\"e\"} 3\n\
                        a_total{reason=\"y\",experiment=\"e\"} 4 1700000000\nb 5\n# EOF\n";

    #[track_caller]
    fn check(name: &str, labels: &[(&str, &str)], expected: Option<u64>) {
        assert_eq!(Scrape::parse(TEXT).unwrap().sum(name, labels).ok(), expected, "{name}{labels:?}");
    }

    #[test]
    fn sums_over_labels() {
        check("a_total", &[], Some(7));
        check("a_total", &[("reason", "y")], Some(4));
        check("b", &[], Some(5));
        check("a_total", &[("reason", "z")], None);
        check("missing", &[], None);
    }

    #[test]
    fn a_line_that_is_no_sample_is_an_error() {
        Scrape::parse("nonsense").unwrap_err();
        Scrape::parse("a{b=\"c\" 1").unwrap_err();
    }
}
