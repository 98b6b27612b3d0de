//! The page `docs/metrics.md`, written from the table of metrics.
//!
//! Reads no value. `cargo xtask docs` writes the page, and a test compares it.

use prometheus_client::metrics::MetricType;

use super::table::{Descriptor, Label, SECTIONS, Section, Values};
use crate::model::Fate;

const HEAD: &str = "\
# Metrics

`cargo xtask docs` writes this page from the program; a test compares it with what the program exports.

`/metrics` on the admin listener (127.0.0.1:9469 unless configured) speaks OpenMetrics 1.0 to clients that ask for it, as
Prometheus does, and the text format of Prometheus (0.0.4) to all others. Every series exists at zero from the start. `route`
is a configured route, never a path; no label comes from the traffic. Times are in seconds, sizes in bytes.

The sums that always hold, once the ring is empty:

- `capture_packets_wanted = capture_packets_captured + Σ capture_drops`
- `capture_packets_captured = capture_packets_used + Σ capture_unused`
- `exchanges_seen = exchanges_in_flight + Σ exchanges` for each experiment; the fate `lost` is always zero

In OpenMetrics, `understudy_mismatch_total` and the buckets of `understudy_response_duration_seconds` carry the id of a latest
mismatch as exemplar `exchange`. It is the id of the journal, and of the field `Understudy-Replay` that B was sent.

Alerts on these metrics are in `deploy/prometheus/alerts.yml`, with a [runbook](runbooks.md) each; what Prometheus needs to be told
is in `deploy/prometheus/scrape.yml`, and a dashboard for Grafana is in `deploy/grafana/dashboard.json`.
";

const REGRESSIONS: &str = "
## Regressions

`understudy_regression_detected` says what the evidence says now, and may be taken back; the verdict of a run is another matter
(`understudy report`). How evidence is weighed stands in [statistics.md](statistics.md).

| what | `detected` is 1 while | `evalue` is |
|---|---|---|
| `status`, `header`, `body`, noise measured | a path of the kind is reported, at a false discovery rate of 5 % unless configured, and has not ceased | that of the path with the most evidence, less the price of looking at many paths |
| the same, nothing measures noise (a request with effects and no twin) | at a path, more answers differ than the policy allows (1 % unless configured), at a level of 0.0001 | that of the path with the most evidence, divided by the number of such paths |
| `latency` | B is slower than the margins of the policy, at a level of 0.0001 | rounded down to a power of ten |

A reported path has ceased when it was silent for 50 comparisons or more, and so long that its own rate would hardly have been
silent. Shares and times are those of the last two generations of a route: a generation ends when it has 500 comparisons and is
five minutes old. So a candidate that was healed is no longer slower after 500 to 1,000 comparisons, and no sooner than in five
to ten minutes where there are many.

A worker of a fleet says what its own comparisons show; `understudy report --redis` multiplies the evidence of all.
";

/// The page.
pub fn document() -> String {
    let sections: String = SECTIONS.iter().map(section).collect();
    let fates: String =
        Fate::ALL.into_iter().map(|fate| format!("| `{}` | {} |\n", fate.label(), meaning(fate))).collect();
    format!(
        "{HEAD}{sections}{REGRESSIONS}\n## Fates\n\nEach exchange has exactly one.\n\n| fate | the exchange |\n|---|---|\n\
         {fates}\n`/healthz` answers 200 while the process lives, `/readyz` while it does its work.\n"
    )
}

fn section(section: &Section) -> String {
    let Section { title, exported, metrics } = section;
    let rows: String = metrics.iter().map(|metric| row(metric)).collect();
    format!("\n## {title}\n\n{exported}\n\n| name | kind | labels | meaning |\n|---|---|---|---|\n{rows}")
}

fn row(metric: &Descriptor) -> String {
    let Descriptor { name: _, kind, labels, help } = metric;
    let labels: Vec<String> = labels.iter().map(label).collect();
    format!("| `{}` | {} | {} | {help} |\n", metric.full_name(), kind_word(*kind), labels.join("; "))
}

fn label(label: &Label) -> String {
    let Label { name, values } = label;
    match values {
        // What these are stands elsewhere on the page, once.
        Values::Closed(_) | Values::Given(_) if matches!(*name, "experiment" | "route" | "fate") => {
            format!("`{name}`")
        }
        Values::Closed(values) => format!("`{name}`: {}", values().join(", ")),
        Values::Given(words) => format!("`{name}`: {words}"),
    }
}

fn kind_word(kind: MetricType) -> &'static str {
    match kind {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Info => "info",
        MetricType::Unknown => "unknown",
    }
}

fn meaning(fate: Fate) -> &'static str {
    match fate {
        Fate::Shown => "was shown, or counted, by `inspect`",
        Fate::Recorded => "was written to a recording (`experiment=\"recording\"`)",
        Fate::NotRecorded => {
            "was not: the recording was at its bound or failed, or the exchange is too large for it"
        }
        Fate::FilteredMethod => "has a method that the experiment does not want",
        Fate::FilteredRoute => "is on no route that the experiment wants",
        Fate::FilteredHost => "is for a host that the experiment does not want",
        Fate::FilteredHeader => "has, or lacks, a header field that the experiment asks for",
        Fate::FilteredRunIf => "does not meet `run_if`",
        Fate::SampledOut => "is outside the sample",
        Fate::Replay => "carried the replay header: somebody, perhaps we, had replayed it",
        Fate::NoResponse => "has no response",
        Fate::NotReplayable => "was not seen whole, was cut, is ambiguous, or cannot be expressed",
        Fate::UnsafeMethod => "may have effects, and the candidate is not isolated",
        Fate::Shed => "found the queue full",
        Fate::Queued => {
            "was handed to Redis by `capture`; what came of it is counted there (`understudy report --redis`)"
        }
        Fate::SpoolFull => {
            "could not be handed to Redis, and found the spool full or not to be written; of what was under way at the end, Redis may have some"
        }
        Fate::Refused => "was refused by Redis for longer than `queue.refused_wait_max`",
        Fate::TooLarge => "is larger than an entry of the queue may be",
        Fate::Spooled => "lies in the spool on disk, for the next start of `capture`",
        Fate::Stopped => "came after the experiment was stopped because its own requests came back",
        Fate::RateLimited => "was one too many for the rate limit",
        Fate::Overdue => "waited too long for room in flight",
        Fate::BreakerOpen => "came while the candidate was left alone",
        Fate::Paused => "was not sent: its turn came during a pause",
        Fate::Drained => "had not had its turn, or no answer yet, when the run ended",
        Fate::Returned => "was given back to the queue when the worker ended",
        Fate::Unreadable => "is an entry of the queue that cannot be read",
        Fate::SetAside => "was delivered too often without ever being done, and stands aside in Redis",
        Fate::Duplicate => "was delivered again while its first settlement waited to be confirmed",
        Fate::Matched => "was compared, and nothing differs",
        Fate::Mismatched => "was compared, and differs",
        Fate::Ignored => "was compared, and rules or noise explain all that differs",
        Fate::Incomparable => "was replayed and could not be compared",
        Fate::Lost => "was dropped without a fate: a defect, always zero",
    }
}
