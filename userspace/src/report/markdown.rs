//! A report for a comment on a change: Markdown.
//!
//! Lets no captured value become markup: values stand in code spans or fenced blocks.

use std::fmt::{self, Write as _};

use super::facts::{CauseReport, ExperimentReport, LatencyReport, Report};
use super::latency::LatencyRow;
use super::text::{CAUSES_SHOWN_MAX, SIGNATURE_SHOWN_MAX};
use super::words::{counted, percent, plain, plural, shortened};

impl Report {
    /// The report in Markdown with tables (GitHub's flavour).
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        self.write_markdown(&mut text).unwrap_or_default();
        text
    }

    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        let Self { schema: _, run, experiments, verdict } = self;
        writeln!(out, "# understudy: {}\n", verdict.verdict.title())?;
        for reason in &verdict.reasons {
            writeln!(out, "- {}", escaped(reason))?;
        }
        writeln!(out, "\n{} from {}.", run.title(), run.started_at)?;
        experiments.iter().try_for_each(|experiment| experiment.write_markdown(out))
    }
}

impl ExperimentReport {
    fn write_markdown(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n## {}: {}\n", escaped(&self.name), self.verdict.verdict.title())?;
        if !self.context.is_empty() {
            let labels: Vec<_> = self.context.iter().map(|(k, v)| code(&format!("{k}={v}"))).collect();
            writeln!(out, "{}\n", labels.join(" "))?;
        }
        for reason in &self.verdict.reasons {
            writeln!(out, "- {}", escaped(reason))?;
        }
        writeln!(
            out,
            "\n| route | verdict | match | mismatch | undecided | withheld | ignored | noise | incomparable | latency |"
        )?;
        writeln!(out, "|---|---|--:|--:|--:|--:|--:|--:|--:|---|")?;
        for route in &self.routes {
            let verdict = route.latency.as_ref().map_or("-".to_owned(), LatencyReport::verdict_words);
            writeln!(
                out,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {verdict} |",
                code(&route.route).replace('|', "\\|"),
                route.verdict.verdict.title(),
                counted(route.matched),
                counted(route.mismatched),
                counted(route.undecided),
                counted(route.withheld),
                counted(route.ignored),
                counted(route.noise),
                counted(route.incomparable)
            )?;
        }
        if let Some(fleet) = &self.fleet {
            writeln!(out)?;
            fleet.lines().iter().try_for_each(|line| writeln!(out, "- {}", escaped(line)))?;
        }
        self.write_latency_markdown(out)?;
        let shown = self.causes.iter().take(CAUSES_SHOWN_MAX);
        shown.into_iter().try_for_each(|cause| cause.write_markdown(out, self.compared()))?;
        let more = self.causes.len().saturating_sub(CAUSES_SHOWN_MAX) as u64;
        if more > 0 {
            writeln!(out, "\nAnd {}: `--json` shows all.", plural(more, "more cause"))?;
        }
        self.advice.iter().try_for_each(|advice| writeln!(out, "\n{}", escaped(advice)))?;
        let idle: Vec<_> = self.rules.iter().filter(|r| r.differences == 0).map(|r| code(&r.rule)).collect();
        if !idle.is_empty() {
            writeln!(out, "\nRules that hid nothing: {}", idle.join(", "))?;
        }
        let broad: Vec<_> = self.rules.iter().filter(|r| r.is_broad()).map(|r| code(&r.rule)).collect();
        if !broad.is_empty() {
            writeln!(out, "\nRules that hid every difference at their place: {}", broad.join(", "))?;
        }
        Ok(())
    }

    fn write_latency_markdown(&self, out: &mut String) -> fmt::Result {
        let timed = || self.routes.iter().filter_map(|route| Some((route, route.latency.as_ref()?)));
        let Some((_, first)) = timed().next() else { return Ok(()) };
        writeln!(out, "\nTimes to the last byte, with {} % intervals:\n", first.confidence * 100.0)?;
        writeln!(out, "| route | pairs | | A ms | B ms | B/A | B − A ms |")?;
        writeln!(out, "|---|--:|---|--:|--:|---|---|")?;
        for (route, latency) in timed() {
            let mut first = (code(&route.route).replace('|', "\\|"), counted(latency.pairs as u64));
            for LatencyRow { part, control_ms, candidate_ms, ratio, extra } in latency.rows() {
                let (route, pairs) = std::mem::take(&mut first);
                let (ratio, extra) = (ratio.as_deref().unwrap_or("-"), extra.as_deref().unwrap_or("-"));
                writeln!(
                    out,
                    "| {route} | {pairs} | {part} | {control_ms:.2} | {candidate_ms:.2} | {ratio} | {extra} |"
                )?;
            }
        }
        Ok(())
    }
}

impl CauseReport {
    fn write_markdown(&self, out: &mut String, compared: u64) -> fmt::Result {
        writeln!(
            out,
            "\n### {} on {}\n\n{} of {} ({}), cause `{}`{}.",
            code(&shortened(&self.signature, SIGNATURE_SHOWN_MAX)),
            code(&self.route),
            counted(self.count),
            plural(compared, "comparison"),
            percent(self.count, compared),
            self.id,
            match self.state {
                "undecided" => "; undecided: it may be noise",
                "withheld" => "; withheld: nothing can tell whether it is noise",
                _ => "",
            }
        )?;
        if !self.rules.is_empty() {
            writeln!(out, "\nName a twin, or a rule in `[experiment.compare]`:\n")?;
            self.rules.iter().try_for_each(|rule| writeln!(out, "- {}", code(rule)))?;
        }
        let Some(example) = self.examples.first() else { return Ok(()) };
        let mut block = format!("{}\n", plain(&example.curl));
        for difference in &example.differences {
            let value = |value: &Option<String>| value.as_deref().map_or("(absent)".to_owned(), plain);
            writeln!(block, "\n# {} ({})", plain(&difference.place), difference.kind)?;
            writeln!(block, "# A: {}\n# B: {}", value(&difference.control), value(&difference.candidate))?;
        }
        let fence = "`".repeat(longest_run(&block).max(2) + 1);
        writeln!(out, "\n{fence}sh\n{block}{fence}")
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// A code span that holds any text (CommonMark 0.31 section 6.1).
fn code(text: &str) -> String {
    let text = plain(text);
    let ticks = "`".repeat(longest_run(&text) + 1);
    if ticks.len() > 1 { format!("{ticks} {text} {ticks}") } else { format!("`{text}`") }
}

fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in plain(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '&') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}
