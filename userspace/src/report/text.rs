//! A report for people at a terminal.
//!
//! Uses colours only when asked to, and says nothing with colour alone.

use std::fmt::{self, Write as _};

use super::facts::{
    CauseReport, ChangeReport, ExampleReport, ExperimentReport, Report, RouteReport, RunReport,
};
use super::latency::LatencyRow;
use super::verdict::Conclusion;
use super::words::{counted, duration, percent, plain, plural, share, shortened};
use crate::journal::RateEvidence;

/// Differences shown of one example.
const DIFFERENCES_SHOWN_MAX: usize = 8;

/// Causes shown.
pub(super) const CAUSES_SHOWN_MAX: usize = 20;

/// Characters shown of the set of paths that makes a cause.
pub(super) const SIGNATURE_SHOWN_MAX: usize = 300;

/// Paths shown with what is known of their noise.
const PATHS_SHOWN_MAX: usize = 50;

/// A rate with its bounds in words.
fn rate(rate: Option<&RateEvidence>) -> String {
    match rate {
        None => "not measured".to_owned(),
        Some(RateEvidence { count, of, low, high, recent: _ }) => {
            let low = if *low > 0.0 { share(*low) } else { "0 %".to_owned() };
            format!("{} of {} [{low}, {}]", counted(*count), counted(*of), share(*high))
        }
    }
}

/// Colours and bold type, or nothing of the kind.
pub(super) struct Paint {
    pub(super) on: bool,
}

impl Report {
    /// The report in lines; the last line begins with `VERDICT: `.
    pub fn to_text(&self, colours: bool) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        self.write_text(&mut text, &Paint { on: colours }).unwrap_or_default();
        text
    }

    fn write_text(&self, out: &mut String, paint: &Paint) -> fmt::Result {
        let Self { schema: _, run, experiments, verdict } = self;
        write_run(out, run)?;
        for experiment in experiments {
            experiment.write_text(out, run, paint)?;
        }
        writeln!(out, "\n{}", paint.verdict(verdict.verdict, &format!("VERDICT: {}", plain(&verdict.line()))))
    }
}

fn write_run(out: &mut String, run: &RunReport) -> fmt::Result {
    write!(out, "{}, {} to ", run.title(), run.started_at)?;
    match (&run.ended_at, run.seconds) {
        (Some(ended), Some(seconds)) => write!(out, "{ended} ({})", duration(seconds))?,
        (_, _) => write!(out, "now (it has not ended)")?,
    }
    writeln!(out, ", understudy {}", plain(&run.version))?;
    if run.paused_seconds > 0 {
        writeln!(out, "It paused for {}: nothing was captured and sent then.", duration(run.paused_seconds))?;
    }
    if run.comparisons_removed > 0 {
        let removed = counted(run.comparisons_removed);
        writeln!(out, "The {removed} oldest comparisons were removed; they count, but not for latency.")?;
    }
    Ok(())
}

// === impl RunReport ===

impl RunReport {
    /// What it is called.
    pub(super) fn title(&self) -> String {
        if self.store == "journal" { format!("Run {}", self.id) } else { "Fleet".to_owned() }
    }
}

// === impl ExperimentReport ===

impl ExperimentReport {
    fn write_text(&self, out: &mut String, run: &RunReport, paint: &Paint) -> fmt::Result {
        let ports: Vec<_> = run.ports.iter().map(|port| format!(":{port}")).collect();
        // Of a file, all connections may have been read, whatever their ports.
        let a = if ports.is_empty() { plain(&run.summary) } else { ports.join(" ") };
        let title = format!("Experiment {}: A {} against B {}", plain(&self.name), a, plain(&self.candidate));
        writeln!(out, "\n{}", paint.bold(&title))?;
        if !self.context.is_empty() {
            let labels: Vec<_> =
                self.context.iter().map(|(k, v)| format!("{}={}", plain(k), plain(v))).collect();
            writeln!(out, "  {}", labels.join(" "))?;
        }
        self.write_fates(out)?;
        self.fleet.as_ref().map_or(Ok(()), |fleet| fleet.write_text(out))?;
        self.write_outcomes(out)?;
        self.write_routes(out, paint)?;
        self.write_causes(out, paint)?;
        self.write_paths(out)?;
        self.write_latency(out)?;
        self.write_rules(out)?;
        let line = format!("{}: {}", plain(&self.name), plain(&self.verdict.line()));
        self.advice.iter().try_for_each(|advice| writeln!(out, "\n  {}", plain(advice)))?;
        writeln!(out, "\n  {}", paint.verdict(self.verdict.verdict, &line))
    }

    fn write_fates(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n  Exchanges: {} seen, {} in flight", counted(self.seen), counted(self.in_flight))?;
        for fate in self.fates.iter().filter(|fate| fate.count > 0) {
            writeln!(out, "  {:>12}  {:<16} {}", counted(fate.count), fate.name, fate.meaning)?;
        }
        Ok(())
    }

    fn write_outcomes(&self, out: &mut String) -> fmt::Result {
        writeln!(
            out,
            "\n  Comparisons: {} match, {} mismatch, {} ignored, {} incomparable",
            counted(self.matched),
            counted(self.mismatched),
            counted(self.ignored),
            counted(self.incomparable)
        )?;
        if self.noise > 0 {
            writeln!(out, "  {:>12}  differ in what is noise only", counted(self.noise))?;
        }
        if self.undecided > 0 {
            writeln!(out, "  {:>12}  differ in what may be noise: undecided", counted(self.undecided))?;
        }
        if self.withheld > 0 {
            writeln!(
                out,
                "  {:>12}  differ where nothing can measure noise: withheld",
                counted(self.withheld)
            )?;
        }
        for reason in &self.incomparable_reasons {
            writeln!(out, "  {:>12}  {:<22} {}", counted(reason.count), reason.name, reason.meaning)?;
        }
        Ok(())
    }

    fn write_routes(&self, out: &mut String, paint: &Paint) -> fmt::Result {
        let width = |route: &RouteReport| plain(&route.route).chars().count();
        let width = self.routes.iter().map(width).max().unwrap_or(0).max(5);
        writeln!(out, "\n  Routes: what they show, and how many can differ at most ({})", self.level())?;
        for route in &self.routes {
            let conclusion = route.verdict.verdict;
            let title = paint.verdict(conclusion, &format!("{:<15}", conclusion.title()));
            let line = format!(
                "    {:<width$}  {title} {:>7} compared, {:>7} differ, {:>7}  {}",
                plain(&route.route),
                counted(route.compared()),
                counted(route.mismatched),
                share(route.mismatch_share.high),
                if conclusion == Conclusion::Pass {
                    String::new()
                } else {
                    plain(&route.verdict.reasons.join(" "))
                }
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// The level of the bounds on shares, in words.
    fn level(&self) -> String {
        format!("{} confidence", share(self.mismatch_share.confidence))
    }

    fn write_causes(&self, out: &mut String, paint: &Paint) -> fmt::Result {
        if self.causes.is_empty() && self.causes_omitted == 0 {
            return Ok(());
        }
        let mismatches =
            counted(self.mismatched.saturating_add(self.undecided).saturating_add(self.withheld));
        writeln!(out, "\n  Mismatches: {mismatches} in {}", plural(self.causes.len() as u64, "cause"))?;
        for (number, cause) in (1..).zip(self.causes.iter().take(CAUSES_SHOWN_MAX)) {
            cause.write_text(out, number, self.compared(), paint)?;
        }
        let more = self.causes.len().saturating_sub(CAUSES_SHOWN_MAX) as u64;
        if more > 0 {
            writeln!(out, "\n  and {}: --json shows all", plural(more, "more cause"))?;
        }
        if self.causes_omitted > 0 {
            writeln!(out, "\n  {} more mismatches have further causes.", counted(self.causes_omitted))?;
        }
        Ok(())
    }

    fn write_paths(&self, out: &mut String) -> fmt::Result {
        if self.paths.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n  Noise: how often A and B differ at a path, and one version from itself, with bounds"
        )?;
        for path in self.paths.iter().take(PATHS_SHOWN_MAX) {
            write!(out, "    {} {}: {}", plain(&path.route), plain(&path.path), plain(&path.state))?;
            if let Some(evidence) = &path.evidence {
                write!(out, " ({}); A/B {}", plain(&evidence.classes), rate(Some(&evidence.candidate)))?;
                match (&evidence.noise, &evidence.excess) {
                    // Only second answers of B: they were asked for where it differs, and make no rate.
                    (None, Some(RateEvidence { count, of, .. })) => {
                        let (count, of) = (counted(*count), counted(*of));
                        write!(out, ", asked again B agreed with itself in {count} of {of}")?;
                    }
                    (noise, _) => write!(out, ", itself {}", rate(noise.as_ref()))?,
                }
                if let (Some(towards), Some(more)) = (&evidence.towards, evidence.comparisons_needed) {
                    write!(out, "; {} in about {} more comparisons", plain(towards), counted(more))?;
                }
            }
            writeln!(out)?;
        }
        let more = self.paths.len().saturating_sub(PATHS_SHOWN_MAX) as u64;
        if more > 0 {
            writeln!(out, "    and {} more", counted(more))?;
        }
        Ok(())
    }

    fn write_latency(&self, out: &mut String) -> fmt::Result {
        let timed = || self.routes.iter().filter_map(|route| Some((route, route.latency.as_ref()?)));
        let Some((_, first)) = timed().next() else { return Ok(()) };
        writeln!(
            out,
            "\n  Latency: ms to the last byte, with {} % intervals; slower when both clear {} times ({} at p95 and p99) \
             and {:+} ms",
            first.confidence * 100.0,
            self.policy.latency_ratio_max,
            self.policy.latency_tail_ratio_max,
            self.policy.latency_extra_ms_max
        )?;
        if !self.policy.latency_judged {
            writeln!(out, "    It is not judged: A had these requests at another speed.")?;
        }
        let width = timed().map(|(route, _)| plain(&route.route).chars().count()).max().unwrap_or(0).max(5);
        let (a, b) = ("A", "B");
        let head =
            format!("{:<width$} {:>7}      {a:>9} {b:>9}  {:<20} {:<26}", "route", "pairs", "B/A", "B - A");
        writeln!(out, "    {}", head.trim_end())?;
        for (route, latency) in timed() {
            let mut first = (plain(&route.route), counted(latency.pairs as u64), latency.verdict_words());
            for LatencyRow { part, control_ms, candidate_ms, ratio, extra } in latency.rows() {
                let (route, pairs, verdict) = std::mem::take(&mut first);
                let (ratio, extra) = (ratio.as_deref().unwrap_or("-"), extra.as_deref().unwrap_or("-"));
                let row = format!(
                    "{route:<width$} {pairs:>7}  {part} {control_ms:>9.2} {candidate_ms:>9.2}  {ratio:<20} {extra:<26} \
                     {verdict}"
                );
                writeln!(out, "    {}", row.trim_end())?;
            }
        }
        Ok(())
    }

    fn write_rules(&self, out: &mut String) -> fmt::Result {
        if self.rules.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n  Rules: what they hid")?;
        for rule in &self.rules {
            let text = plain(&rule.rule);
            match (rule.differences, rule.met) {
                (0, 0) => write!(out, "    {text}: nothing; is it still needed?")?,
                (0, met) => write!(out, "    {text}: nothing of {} at its place", counted(met))?,
                (some, met) => {
                    let of = if some == met { String::new() } else { format!(" of {}", counted(met)) };
                    write!(
                        out,
                        "    {text}: {}{of} in {} of {} comparisons",
                        counted(some),
                        counted(rule.comparisons),
                        counted(self.compared())
                    )?;
                }
            }
            match rule.failed {
                0 => writeln!(out)?,
                failed => writeln!(out, "; it failed {} times", counted(failed))?,
            }
        }
        let broad: Vec<_> =
            self.rules.iter().filter(|rule| rule.is_broad()).map(|rule| plain(&rule.rule)).collect();
        if !broad.is_empty() {
            writeln!(out, "    Every difference at their place was hidden by: {}", broad.join(", "))?;
        }
        Ok(())
    }
}

// === impl CauseReport ===

impl CauseReport {
    fn write_text(&self, out: &mut String, number: usize, compared: u64, paint: &Paint) -> fmt::Result {
        let undecided = match self.state {
            "undecided" => " (undecided: it may be noise)",
            "withheld" => " (withheld: nothing can tell whether it is noise)",
            _ => "",
        };
        let title = format!(
            "[{number}] {}: {}{undecided}",
            plain(&self.route),
            shortened(&plain(&self.signature), SIGNATURE_SHOWN_MAX)
        );
        writeln!(out, "\n  {}", paint.bold(&title))?;
        writeln!(
            out,
            "      {} of {} ({}), first {}, last {}, cause {}",
            counted(self.count),
            plural(compared, "comparison"),
            percent(self.count, compared),
            self.first_seen,
            self.last_seen,
            self.id
        )?;
        if !self.rules.is_empty() {
            writeln!(
                out,
                "      Nothing can measure noise there: such requests are not asked for a second time, and there is no twin. \
                 Name a twin, or a rule in [experiment.compare]:"
            )?;
            self.rules.iter().try_for_each(|rule| writeln!(out, "        {}", plain(rule)))?;
        }
        self.examples.first().map_or(Ok(()), |example| example.write_text(out, &self.changes))
    }
}

// === impl ExampleReport ===

impl ExampleReport {
    /// `changes` are those of the cause: what else differs in its example is noise, or undecided, and comes last.
    fn write_text(&self, out: &mut String, changes: &[ChangeReport]) -> fmt::Result {
        writeln!(
            out,
            "      Example: {} {}  (A answered {}, B {})",
            plain(&self.request.method),
            plain(&self.request.target),
            self.control_status,
            self.candidate_status
        )?;
        let (own, beside): (Vec<_>, Vec<_>) = self
            .differences
            .iter()
            .partition(|have| changes.is_empty() || changes.iter().any(|change| change.path == have.path));
        let marked =
            own.iter().map(|own| (own, "")).chain(beside.iter().map(|beside| (beside, ", beside it")));
        for (difference, mark) in marked.take(DIFFERENCES_SHOWN_MAX) {
            let value = |value: &Option<String>| value.as_deref().map_or("(absent)".to_owned(), plain);
            writeln!(out, "        {} ({}{mark})", plain(&difference.place), difference.kind)?;
            writeln!(out, "          A: {}", value(&difference.control))?;
            writeln!(out, "          B: {}", value(&difference.candidate))?;
        }
        let hidden = self.differences.len().saturating_sub(DIFFERENCES_SHOWN_MAX) as u64;
        let more = self.differences_omitted.saturating_add(hidden);
        if more > 0 {
            let room = DIFFERENCES_SHOWN_MAX.saturating_sub(own.len());
            let noise = if beside.len() > room { ", noise among them" } else { "" };
            writeln!(out, "        and {} more{noise}", counted(more))?;
        }
        writeln!(out, "      Repeat against B: {}", self.curl)?;
        self.curl_notes.iter().try_for_each(|note| writeln!(out, "        {}", plain(note)))
    }
}

// === impl Paint ===

/// Codes of ECMA-48 section 8.3.117.
impl Paint {
    pub(super) fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    fn verdict(&self, verdict: Conclusion, text: &str) -> String {
        match verdict {
            Conclusion::Pass => self.with("1;32", text),
            Conclusion::NotEnoughData => self.with("1;33", text),
            Conclusion::Fail => self.with("1;31", text),
        }
    }

    pub(super) fn with(&self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
