//! The results as a table for people and as JSON for programs.
//!
//! Adds no number that `score` did not make.

use serde::Serialize;

use super::batch::Twin;
use super::score::{Judgement, Result as Scored, Summary, Sums};

/// Alarms named in full; the rest is counted.
const ALARMS_SHOWN: usize = 30;

#[derive(Serialize)]
struct Everything<'a> {
    twin: &'static str,
    summary: &'a Summary,
    results: &'a [Scored],
}

/// One JSON object.
///
/// # Errors
/// Never for these numbers.
pub(super) fn json(results: &[Scored], summary: &Summary, twin: Twin) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(&Everything { twin: twin.words(), summary, results })?)
}

/// A line per planted regression, the unmutated runs together, the sums, the alarms.
pub(super) fn text(results: &[Scored], summary: &Summary, twin: Twin) -> String {
    let mut out = format!(
        "{:<10}{:<20}{:>8}{:>10}  {:>20}{:>20}   what\n",
        "app", "regression", "share", "changed", "understudy after", "Diffy's rule after"
    );
    for result in results.iter().filter(|result| result.mutant.is_some()) {
        let Scored { app, mutant, what, share, changed, answers, understudy, diffy } = result;
        let required = if result.is_required() { ' ' } else { '*' };
        out += &format!(
            "{app:<10}{:<20}{:>7.2}%{required}{changed:>5}/{answers}  {:>18}{:>20}   {what}\n",
            mutant.unwrap_or_default(),
            share * 100.0,
            after(understudy),
            after(diffy),
        );
    }
    let Summary { mutants, required, clean_runs, understudy, diffy } = summary;
    out += &format!("* below one response in 200: shown, not required.   {}\n\n", twin.words());
    out += &format!("{:<62}{:>12}{:>15}\n", "", "understudy", "Diffy's rule");
    let mut row = |what: &str, part: fn(&Sums) -> String, of: Option<usize>| {
        let cell = |sums: &Sums| match of {
            Some(of) => format!("{} of {of}", part(sums)),
            None => part(sums),
        };
        out += &format!("{what:<62}{:>12}{:>15}\n", cell(understudy), cell(diffy));
    };
    row(
        "found, of those that change at least one response in 200",
        |sums| sums.required_found.to_string(),
        Some(*required),
    );
    row("found, of all", |sums| sums.found.to_string(), Some(*mutants));
    row(
        "exchanges until found, median",
        |sums| sums.median_found_after.map_or("-".to_owned(), |n| n.to_string()),
        None,
    );
    row(
        "unmutated runs with a false alarm at some look",
        |sums| sums.clean_runs_with_alarm.to_string(),
        Some(*clean_runs),
    );
    row(
        "unmutated runs with a false alarm at the end",
        |sums| sums.clean_runs_with_alarm_at_end.to_string(),
        Some(*clean_runs),
    );
    row("false alarms beside planted regressions", |sums| sums.alarms_beside.to_string(), None);
    out += &alarms(results);
    out
}

fn after(judgement: &Judgement) -> String {
    let alarms = match judgement.alarms.len() {
        0 => String::new(),
        some => format!(" (+{some})"),
    };
    match judgement.found_after {
        Some(after) => format!("{after}{alarms}"),
        None => format!("missed{alarms}"),
    }
}

/// What understudy reported that is none.
fn alarms(results: &[Scored]) -> String {
    let all: Vec<String> = results
        .iter()
        .flat_map(|result| {
            let name = result.mutant.unwrap_or("unmutated");
            result.understudy.alarms.iter().map(move |alarm| format!("  {} {name}: {alarm}\n", result.app))
        })
        .collect();
    if all.is_empty() {
        return String::new();
    }
    let shown: String = all.iter().take(ALARMS_SHOWN).map(String::as_str).collect();
    let more = all.len().saturating_sub(ALARMS_SHOWN);
    let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
    format!("\nfalse alarms of understudy:\n{shown}{more}")
}
