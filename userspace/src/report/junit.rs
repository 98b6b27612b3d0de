//! A report for build servers: JUnit's XML, as most of them read it.
//!
//! Makes one test case of each route and one of each experiment as a whole; gives no durations of its own: A's and B's times stand in the
//! output of a case.

use std::fmt::{self, Write as _};

use super::facts::{ExperimentReport, Report, RouteReport};
use super::fleet::FleetReport;
use super::latency::LatencyRow;
use super::verdict::{Conclusion, Verdict};
use super::words::{plain, plural};

impl Report {
    /// The report as an XML document.
    pub fn to_junit(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        self.write_junit(&mut text).unwrap_or_default();
        text
    }

    fn write_junit(&self, out: &mut String) -> fmt::Result {
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(out, r#"<testsuites name="understudy {}">"#, self.run.title().to_lowercase())?;
        self.experiments.iter().try_for_each(|experiment| experiment.write_junit(out))?;
        writeln!(out, "</testsuites>")
    }
}

impl ExperimentReport {
    fn write_junit(&self, out: &mut String) -> fmt::Result {
        let verdicts = || self.routes.iter().map(|route| &route.verdict).chain([&self.verdict]);
        let count = |conclusion| verdicts().filter(|verdict| verdict.verdict == conclusion).count();
        let (failed, skipped) = (count(Conclusion::Fail), count(Conclusion::NotEnoughData));
        let name = xml(&self.name);
        let tests = self.routes.len() + 1;
        writeln!(
            out,
            r#"  <testsuite name="{name}" tests="{tests}" failures="{failed}" skipped="{skipped}">"#
        )?;
        for route in &self.routes {
            write_case(out, &name, &route.route, &route.verdict, &self.details(route), &times(route))?;
        }
        let fleet = self.fleet.as_ref().map(FleetReport::lines).unwrap_or_default();
        write_case(out, &name, "verdict", &self.verdict, &[], &fleet)?;
        writeln!(out, "  </testsuite>")
    }

    /// The causes on a route, each with a command.
    fn details(&self, route: &RouteReport) -> Vec<String> {
        let causes = self.causes.iter().filter(|cause| cause.route == route.route);
        causes
            .flat_map(|cause| {
                let curl = cause.examples.first().map(|example| example.curl.clone());
                [Some(format!("{} times: {}", cause.count, cause.signature)), curl]
            })
            .flatten()
            .collect()
    }
}

/// A line for each part of both branches' times.
fn times(route: &RouteReport) -> Vec<String> {
    let Some(latency) = &route.latency else { return Vec::new() };
    let line = |row: LatencyRow| {
        let LatencyRow { part, control_ms, candidate_ms, ratio, extra } = row;
        let mut line = format!("{part}: A {control_ms:.2} ms, B {candidate_ms:.2} ms");
        if let (Some(ratio), Some(extra)) = (ratio, extra) {
            line += &format!(", B/A {ratio}, B - A {extra} ms");
        }
        line
    };
    let head = format!("latency: {}, {}", latency.verdict_words(), plural(latency.pairs as u64, "pair"));
    [head].into_iter().chain(latency.rows().into_iter().map(line)).collect()
}

fn write_case(
    out: &mut String,
    suite: &str,
    name: &str,
    verdict: &Verdict,
    details: &[String],
    output: &[String],
) -> fmt::Result {
    writeln!(out, r#"    <testcase classname="{suite}" name="{}">"#, xml(name))?;
    let (message, details) = (xml(&verdict.reasons.join(" ")), xml_lines(details));
    match verdict.verdict {
        Conclusion::Pass => {}
        Conclusion::Fail => writeln!(out, "      <failure message=\"{message}\">{details}</failure>")?,
        Conclusion::NotEnoughData => writeln!(out, "      <skipped message=\"{message}\"/>")?,
    }
    if !output.is_empty() {
        writeln!(out, "      <system-out>{}</system-out>", xml_lines(output))?;
    }
    writeln!(out, "    </testcase>")
}

fn xml_lines(lines: &[String]) -> String {
    lines.iter().map(|line| xml(line)).collect::<Vec<_>>().join("\n")
}

/// Text for element and attribute; XML 1.0 section 2.2 has no way to write most control characters.
fn xml(text: &str) -> String {
    let mut safe = String::new();
    for c in plain(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => safe.push(char::REPLACEMENT_CHARACTER),
            c => safe.push(c),
        }
    }
    safe
}
