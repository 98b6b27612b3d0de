//! What was read, as the text of an `expected.txt`.
//!
//! The form is described in `tests/cases/README.md`.

use anyhow::{Result, ensure};
use understudy::http::{Foreign, HttpTally, Upgraded};
use understudy::model::{Body, Exchange, Mark, Request, Response};
use understudy::select::{Decision, SelectConfig, Selector};
use understudy::stream::StreamTally;

use super::play::Played;

/// Bytes of a body that are shown.
const BODY_BYTES_SHOWN: usize = 40;

/// Exchanges and counts.
pub(crate) fn all(played: &Played) -> Result<String> {
    let Played { exchanges: _, stream, http, unused, forgotten } = played;
    let mut text = exchanges(played)? + &stream_tally(stream) + &http_tally(http);
    let unused = unused.iter().map(|(reason, count)| (reason.label(), *count));
    text += &line("unused", unused.chain([("forgotten", *forgotten as u64)]));
    Ok(text)
}

/// One line for each exchange: the request, what answered it, marks, and what becomes of it by default.
pub(crate) fn exchanges(played: &Played) -> Result<String> {
    let selector = Selector::new(SelectConfig::default())?;
    let mut text = String::new();
    for exchange in &played.exchanges {
        let decision = selector.decide(exchange);
        let fate = match &decision {
            Decision::Take { route: _ } => "taken",
            Decision::Drop(fate) => fate.label(),
        };
        let replayed = matches!(decision, Decision::Take { .. });
        ensure!(!(replayed && exchange.marks.has(Mark::Ambiguous)), "an ambiguous request is never replayed");
        text += &format!("{} = {fate}\n", exchange_line(exchange));
    }
    Ok(text)
}

fn exchange_line(exchange: &Exchange) -> String {
    let Exchange { id: _, flow: _, request, response, interim, times: _, marks } = exchange;
    let Request { method, target, version: _, headers: _, trailers, body } = request;
    let mut line = format!("{} {} {} >", method.escape_ascii(), target.escape_ascii(), shown(body));
    if !trailers.is_empty() {
        line += &format!(" trailers={}", trailers.len());
    }
    interim.iter().for_each(|status| line += &format!(" {status}"));
    if let Some(Response { status, version: _, headers: _, trailers, body }) = response {
        line += &format!(" {status} {}", shown(body));
        if !trailers.is_empty() {
            line += &format!(" trailers={}", trailers.len());
        }
    }
    let marks: Vec<&str> = marks.iter().map(Mark::label).collect();
    if !marks.is_empty() {
        line += &format!(" [{}]", marks.join(", "));
    }
    line
}

/// Length, `+` when complete or `-` when not, and the first bytes.
fn shown(body: &Body) -> String {
    let complete = if body.complete { '+' } else { '-' };
    let first = body.kept.get(..BODY_BYTES_SHOWN).unwrap_or(&body.kept);
    let first = if first.is_empty() { String::new() } else { format!(" \"{}\"", first.escape_ascii()) };
    format!("{}{complete}{first}", body.bytes)
}

pub(crate) fn stream_tally(tally: &StreamTally) -> String {
    let StreamTally {
        flows,
        flows_mid_stream,
        flows_evicted,
        flows_idle,
        flows_left_out,
        flows_undecided,
        flows_divided,
        syns_contested,
        bytes,
        repeated_bytes,
        conflicts,
        bad_checksums,
        out_of_window,
        gaps,
        gap_bytes,
        gaps_at_bound,
        gaps_at_timeout,
        gaps_at_end,
    } = *tally;
    let counts = [
        ("flows", flows),
        ("flows_mid_stream", flows_mid_stream),
        ("flows_evicted", flows_evicted),
        ("flows_idle", flows_idle),
        ("flows_left_out", flows_left_out),
        ("flows_undecided", flows_undecided),
        ("flows_divided", flows_divided),
        ("syns_contested", syns_contested),
        ("bytes", bytes),
        ("repeated_bytes", repeated_bytes),
        ("conflicts", conflicts),
        ("bad_checksums", bad_checksums),
        ("out_of_window", out_of_window),
        ("gaps", gaps),
        ("gap_bytes", gap_bytes),
        ("gaps_at_bound", gaps_at_bound),
        ("gaps_at_timeout", gaps_at_timeout),
        ("gaps_at_end", gaps_at_end),
    ];
    line("stream", counts)
}

fn http_tally(tally: &HttpTally) -> String {
    let HttpTally {
        requests,
        responses,
        interim,
        exchanges,
        orphans,
        malformed_heads,
        oversize_heads,
        exchanges_at_bound,
        boundaries_lost,
        bodies_cut,
        flows_not_http: _,
        flows_not_http_by_kind,
        flows_upgraded: _,
        flows_upgraded_by_kind,
    } = *tally;
    let counts = [
        ("requests", requests),
        ("responses", responses),
        ("interim", interim),
        ("exchanges", exchanges),
        ("orphans", orphans),
        ("malformed_heads", malformed_heads),
        ("oversize_heads", oversize_heads),
        ("exchanges_at_bound", exchanges_at_bound),
        ("boundaries_lost", boundaries_lost),
        ("bodies_cut", bodies_cut),
    ];
    let foreign = Foreign::ALL.map(Foreign::label).into_iter().zip(flows_not_http_by_kind);
    let upgraded = Upgraded::ALL.map(Upgraded::label).into_iter().zip(flows_upgraded_by_kind);
    line("http", counts) + &line("not http", foreign) + &line("upgraded", upgraded)
}

/// Names and counts that are not zero; nothing when all are.
fn line<'a>(name: &str, counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let counts: Vec<String> = (counts.into_iter())
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if counts.is_empty() { String::new() } else { format!("{name}: {}\n", counts.join(", ")) }
}
