//! A report for build servers: JUnit's XML, as most of them read it.
//!
//! Makes one test case of each route and one of each experiment as a whole; reports no times as durations.

use std::fmt::{self, Write as _};

use super::facts::{ExperimentReport, LatencyReport, Report, RouteReport};
use super::verdict::Conclusion;
use super::words::plain;

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
        writeln!(out, r#"<testsuites name="understudy run {}">"#, self.run.id)?;
        self.experiments.iter().try_for_each(|experiment| experiment.write_junit(out))?;
        writeln!(out, "</testsuites>")
    }
}

impl ExperimentReport {
    fn write_junit(&self, out: &mut String) -> fmt::Result {
        let failed = self.routes.iter().filter(|route| self.failure(route).is_some()).count()
            + usize::from(self.verdict.verdict == Conclusion::Fail);
        let skipped = usize::from(self.verdict.verdict == Conclusion::NotEnoughData);
        let name = xml(&self.name);
        let tests = self.routes.len() + 1;
        writeln!(
            out,
            r#"  <testsuite name="{name}" tests="{tests}" failures="{failed}" skipped="{skipped}">"#
        )?;
        for route in &self.routes {
            write!(out, r#"    <testcase classname="{name}" name="{}""#, xml(&route.route))?;
            match self.failure(route) {
                None => writeln!(out, "/>")?,
                Some((message, details)) => {
                    let (message, details) = (xml(&message), xml_lines(&details));
                    writeln!(
                        out,
                        ">\n      <failure message=\"{message}\">{details}</failure>\n    </testcase>"
                    )?;
                }
            }
        }
        let reason = xml(&self.verdict.reasons.join(" "));
        write!(out, r#"    <testcase classname="{name}" name="verdict""#)?;
        match self.verdict.verdict {
            Conclusion::Pass => writeln!(out, "/>")?,
            Conclusion::Fail => writeln!(out, ">\n      <failure message=\"{reason}\"/>\n    </testcase>")?,
            Conclusion::NotEnoughData => {
                writeln!(out, ">\n      <skipped message=\"{reason}\"/>\n    </testcase>")?;
            }
        }
        writeln!(out, "  </testsuite>")
    }

    /// Message and details of a route that failed: by mismatches where the verdict fails, or by latency.
    fn failure(&self, route: &RouteReport) -> Option<(String, Vec<String>)> {
        let slower = route.latency.as_ref().is_some_and(LatencyReport::is_slower);
        let differs = route.mismatched > 0 && self.verdict.verdict == Conclusion::Fail;
        if !slower && !differs {
            return None;
        }
        let mut messages = Vec::new();
        if differs {
            messages.push(format!("{} mismatches", route.mismatched));
        }
        if slower {
            messages.push("B is slower".to_owned());
        }
        let details = self
            .causes
            .iter()
            .filter(|cause| cause.route == route.route)
            .flat_map(|cause| {
                let curl = cause.examples.first().map(|example| example.curl.clone());
                [Some(format!("{} times: {}", cause.count, cause.signature)), curl]
            })
            .flatten()
            .collect();
        Some((messages.join(", "), details))
    }
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
