//! The table of metrics: each name, kind, label and meaning stands here and nowhere else.
//!
//! Holds no value. What is exported and what `docs/metrics.md` says both come from it; a metric that is not in it cannot
//! be exported.
//!
//! A new metric is one line of the table, and one call of `export` where its value is known.

use prometheus_client::metrics::MetricType;

use super::{AdminRefusal, CredentialResult, ExternalFailure, Kind, ReloadResult, UploadStats};
use crate::http::{Foreign, Upgraded};
use crate::model::{BranchFailure, Fate, IncomparableReason, Outcome, Unused};
use crate::queue::redis::RedisErrorKind;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Its name without the prefix `understudy_`, and without the `_total` of a counter.
    pub name: &'static str,
    /// Its kind.
    pub kind: MetricType,
    /// Its labels, in the order in which values are given.
    pub labels: &'static [Label],
    /// What it counts or measures, as a phrase.
    pub help: &'static str,
}

/// A label.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What its values may be.
    pub values: Values,
}

/// The values of a label.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// These and no others.
    Closed(fn() -> Vec<&'static str>),
    /// What the configuration, the build or the kernel says, in words.
    Given(&'static str),
}

/// Metrics of one part of the program.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading in the documentation.
    pub title: &'static str,
    /// Where it is exported, as a sentence.
    pub exported: &'static str,
    /// Its metrics.
    pub metrics: &'static [&'static Descriptor],
}

/// Reasons for which fewer connections are copied.
pub(super) const THROTTLE_REASONS: [&str; 5] = ["cpu", "loss", "ring", "pressure", "memory"];
/// How a gap became certain.
pub(super) const GAP_CAUSES: [&str; 4] = ["acknowledged", "bound", "timeout", "over"];
/// Both branches.
pub(super) const BRANCHES: [&str; 2] = ["a", "b"];

const RULE: Label =
    Label { name: "rule", values: Values::Given("what found the value: docs/security.md lists them") };
const PART: Label = Label {
    name: "part",
    values: Values::Given("where in the message it stood: `target`, `field` or `body`"),
};
const EXPERIMENT: Label = Label {
    name: "experiment",
    values: Values::Given(
        "the experiment's name; `recording` for what is recorded, `inspect` for what is shown",
    ),
};
const ROUTE: Label =
    Label { name: "route", values: Values::Given("a configured route, or `other`; never a path") };
const KIND: Label = Label { name: "kind", values: Values::Closed(|| Kind::ALL.map(Kind::label).to_vec()) };

const fn closed(name: &'static str, values: fn() -> Vec<&'static str>) -> Label {
    Label { name, values: Values::Closed(values) }
}

/// Declares metrics by section, each with a constant by which it is exported, and lists them all.
macro_rules! metrics {
    ($($title:literal $exported:literal {
        $($constant:ident = $kind:ident $name:literal [$($label:expr),*] $help:expr;)*
    })*) => {
        $($(
            pub(super) static $constant: Descriptor = Descriptor {
                name: $name,
                kind: MetricType::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*)*
        /// All metrics, in the order of the documentation.
        pub static SECTIONS: &[Section] = &[$(
            Section { title: $title, exported: $exported, metrics: &[$(&$constant),*] },
        )*];
    };
}

metrics! {
    "Process" "Always there." {
        BUILD_INFO = Gauge "build_info" [
            Label { name: "version", values: Values::Given("the version of this program") },
            Label { name: "kernel", values: Values::Given("the kernel's release") }
        ] "1, with what runs here";
        PROCESS_CPU = Counter "process_cpu_seconds" [] "CPU time of this process, all threads";
        PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [] "Resident memory of this process";
        PAUSED = Gauge "paused" [] "1 while this process is paused: nothing is copied, nothing is sent";
        PAUSED_SECONDS = Counter "paused_seconds" [] "Time that this process was paused";
        PAUSES = Counter "pauses" [] "Times that a pause began";
        CAPTURE_STALLS = Counter "capture_stalls" []
            "Times that the capture thread stood still, so that the probe was detached; the process ends then";
        REDACTED = Counter "redacted" [RULE, PART]
            "Values replaced by tokens before they were kept or sent, by rule and part of the message; where secrets are looked for";
        REDACT_DRY_RUN = Counter "redact_dry_run" [RULE, PART]
            "Values that `standard` would have replaced, by rule and part of the message; only with `mode = \"dry-run\"`";
        CONFIG_RELOADS = Counter "config_reloads" [closed("result", || ReloadResult::ALL.map(ReloadResult::label).to_vec())]
            "Times that the configuration was read again while running; what failed was refused, what needs a restart waits for it, and neither changed anything";
        ADMIN_REFUSED = Counter "admin_refused" [
            closed("reason", || AdminRefusal::ALL.map(AdminRefusal::label).to_vec())
        ] "Connections and requests that the admin listener refused";
    }
    "Capture" "Where packets are captured or read from a file." {
        CAPTURE_SEEN = Counter "capture_packets_seen" [] "Packets that the probe ran for";
        CAPTURE_WANTED = Counter "capture_packets_wanted" [] "TCP packets of wanted ports";
        CAPTURE_CAPTURED = Counter "capture_packets_captured" [] "Packets copied whole to user space";
        CAPTURE_BYTES = Counter "capture_bytes" [] "Payload bytes copied to user space";
        CAPTURE_DROPS = Counter "capture_drops" [closed("reason", crate::capture::drop_reasons)]
            "Wanted packets not copied; `sampled_out`, `flow_unwanted` and `passed_before` are meant, the other reasons are losses";
        CAPTURE_USED = Counter "capture_packets_used" [] "Packets of flows that are read";
        CAPTURE_UNUSED = Counter "capture_unused" [closed("reason", || Unused::ALL.map(Unused::label).to_vec())]
            "Copied packets that told nothing";
        CAPTURE_FLOW_RATIO = Gauge "capture_flow_ratio" []
            "Part of all TCP connections that is copied now: `flow_sample`, halved while capture costs too much";
        CAPTURE_FLOW_RATIO_MAX = Gauge "capture_flow_ratio_max" []
            "Part of all TCP connections that is copied while capture costs little: `flow_sample`";
        CAPTURE_THROTTLED = Counter "capture_throttled" [closed("reason", || THROTTLE_REASONS.to_vec())]
            "Times that fewer TCP connections were copied from then on, by what there was too much of";
    }
    "Connections" "As the metrics of capture." {
        FLOWS_ACTIVE = Gauge "flows_active" [] "TCP connections known now";
        FLOWS = Counter "flows" [] "TCP connections opened or joined";
        FLOWS_MID_STREAM = Counter "flows_mid_stream" [] "Of these, joined after their handshake";
        FLOWS_EVICTED = Counter "flows_evicted" [] "TCP connections dropped because the table was full";
        FLOWS_IDLE = Counter "flows_idle" [] "TCP connections forgotten because they were silent";
        FLOWS_LEFT_OUT = Counter "flows_left_out" []
            "TCP connections given up in their middle because fewer are copied";
        FLOWS_UNDECIDED = Counter "flows_undecided" []
            "TCP connections forgotten because nothing told which end is the server; only where no port is given";
        FLOWS_DIVIDED = Counter "flows_divided" []
            "TCP connections with the addresses and ports of another one that is open, known from it by the VLAN, \
             VXLAN, Geneve or NVGRE network; only in capture files";
        FLOWS_SYNS_CONTESTED = Counter "flows_syns_contested" []
            "SYNs with another number on open connections; the connection goes on until the other side confirms one";
        REASSEMBLY_BYTES = Counter "reassembly_bytes" [] "Bytes put in order";
        REASSEMBLY_REPEATED = Counter "reassembly_repeated_bytes" [] "Bytes that came again";
        REASSEMBLY_CONFLICTS = Counter "reassembly_conflicts" []
            "Overlaps with other contents; the first copy won";
        REASSEMBLY_BAD_CHECKSUMS = Counter "reassembly_bad_checksums" []
            "Segments of files with a wrong checksum on directions where others are right: damaged, or changed in \
             the file";
        REASSEMBLY_OUT_OF_WINDOW = Counter "reassembly_out_of_window" []
            "Segments far from what was expected";
        REASSEMBLY_GAPS = Counter "reassembly_gaps" [closed("cause", || GAP_CAUSES.to_vec())]
            "Gaps, by how they became certain; `over`: the connection ended first";
        REASSEMBLY_GAP_BYTES = Counter "reassembly_gap_bytes" [] "Bytes that existed and were not seen";
        REASSEMBLY_BUFFER = Gauge "reassembly_buffer_bytes" [] "Bytes that wait for earlier ones now";
    }
    "HTTP" "As the metrics of capture." {
        HTTP_BUFFER = Gauge "http_buffer_bytes" []
            "Bytes of heads and bodies that unfinished exchanges keep now";
        HTTP_REQUESTS = Counter "http_requests" [] "Request heads read";
        HTTP_RESPONSES = Counter "http_responses" [] "Final response heads read";
        HTTP_INTERIM = Counter "http_interim_responses" [] "1xx responses read";
        HTTP_EXCHANGES = Counter "http_exchanges" [] "Exchanges read, whole or not";
        HTTP_ORPHANS = Counter "http_orphan_responses" [] "Responses to no request that was seen";
        HTTP_MALFORMED = Counter "http_malformed_heads" [] "Heads that cannot be read";
        HTTP_OVERSIZE = Counter "http_oversize_heads" [] "Heads beyond the limit";
        HTTP_BOUNDARIES_LOST = Counter "http_boundaries_lost" []
            "Times that the next message was searched for";
        HTTP_BODIES_CUT = Counter "http_bodies_cut" [] "Bodies of which only length and hash were kept";
        HTTP_NOT_HTTP = Counter "http_flows_not_http" [
            closed("kind", || Foreign::ALL.map(Foreign::label).to_vec())
        ] "Connections that are not HTTP/1.x, by what they speak; `joined`: not seen from the start, and for long without a head";
        HTTP_UPGRADED = Counter "http_flows_upgraded" [
            closed("kind", || Upgraded::ALL.map(Upgraded::label).to_vec())
        ] "Connections that left HTTP/1.x, by where they went; `tunnel`: CONNECT";
        HTTP_AT_BOUND = Counter "http_exchanges_at_bound" []
            "Exchanges handed on incomplete because a bound was reached";
    }
    "Exchanges" "For each experiment." {
        EXCHANGES_SEEN = Counter "exchanges_seen" [EXPERIMENT] "Exchanges that came in";
        EXCHANGES_IN_FLIGHT = Gauge "exchanges_in_flight" [EXPERIMENT] "Exchanges without a fate now";
        EXCHANGES = Counter "exchanges" [
            EXPERIMENT, closed("fate", || Fate::ALL.map(Fate::label).to_vec())
        ] "Exchanges by how they left the pipeline; the fates stand below";
    }
    "Replay" "For each experiment, where exchanges are replayed." {
        REPLAY_REQUESTS = Counter "replay_requests" [EXPERIMENT] "Requests sent to the candidate";
        REPLAY_FAILURES = Counter "replay_failures" [
            EXPERIMENT, closed("reason", || BranchFailure::ALL.map(BranchFailure::label).to_vec())
        ] "Requests that the candidate did not answer";
        REPLAY_INEXPRESSIBLE = Counter "replay_inexpressible" [EXPERIMENT]
            "Requests that cannot be sent as they were";
        REPLAY_DELAY = Histogram "replay_delay_seconds" [EXPERIMENT]
            "From A's first byte of a request to its replay, `lag` included, by the clocks of both hosts; of a file \
             or a recording, how late a request was";
        REPLAY_LATE = Counter "replay_late_seconds" [EXPERIMENT]
            "Time that requests were sent later than intended";
        REPLAY_AGAIN = Counter "replay_again" [EXPERIMENT]
            "Requests sent to the candidate a second time, to see how it differs from itself; not among \
             `understudy_replay_requests_total`";
        REPLAY_AGAIN_DROPPED = Counter "replay_again_dropped" [EXPERIMENT]
            "Requests that were to be sent a second time and were not: no room, no rate, no time left, or the \
             breaker is open";
        REPLAY_TWIN_FAILURES = Counter "replay_twin_failures" [EXPERIMENT]
            "Requests that the twin did not answer";
        REPLAY_CREDENTIALS = Counter "replay_credentials" [
            EXPERIMENT, closed("result", || CredentialResult::ALL.map(CredentialResult::label).to_vec())
        ] "Questions for another credential of the candidate or the twin; `same`: its 401 is its answer";
        REPLAY_IN_FLIGHT = Gauge "replay_in_flight" [EXPERIMENT] "Requests under way now";
        REPLAY_WAITING = Gauge "replay_waiting" [EXPERIMENT]
            "Exchanges that wait for their time or for room";
        BREAKER_OPEN = Gauge "breaker_open" [EXPERIMENT]
            "1 while the candidate is not asked because it failed too often";
    }
    "Comparison" "For each experiment, where exchanges are compared." {
        COMPARISONS = Counter "comparisons" [
            EXPERIMENT, ROUTE, closed("outcome", || Outcome::LABELS.to_vec())
        ] "Comparisons; `ignored` where rules or noise explain all differences";
        INCOMPARABLE = Counter "incomparable" [
            EXPERIMENT, closed("reason", || IncomparableReason::ALL.map(IncomparableReason::label).to_vec())
        ] "Exchanges that were replayed and could not be compared";
        MISMATCH = Counter "mismatch" [
            EXPERIMENT, ROUTE, closed("kind", || Kind::OF_DIFFERENCES.map(Kind::label).to_vec())
        ] "Comparisons with a difference of this kind that nothing explains yet; one may count under several kinds";
        RESPONSE_DURATION = Histogram "response_duration_seconds" [
            EXPERIMENT, ROUTE, closed("branch", || BRANCHES.to_vec())
        ] "Last request byte to last response byte, of A (`a`) and B (`b`)";
        REGRESSION_DETECTED = Gauge "regression_detected" [EXPERIMENT, ROUTE, KIND]
            "1 while the evidence says that B does not do as A does; what evidence, stands below";
        REGRESSION_EVALUE = Gauge "regression_evalue" [EXPERIMENT, ROUTE, KIND]
            "The strongest evidence for it as an e-value, at most 1e12: by what a bet against B doing as A does would \
             have multiplied its stake";
        JOURNAL_LOST = Counter "journal_lost_comparisons" [] "Comparisons that the journal could not keep";
        COMPARATOR_ANSWERS = Counter "comparator_answers" [EXPERIMENT] "Answers of the external comparator";
        COMPARATOR_FAILURES = Counter "comparator_failures" [
            EXPERIMENT, closed("reason", || ExternalFailure::ALL.map(ExternalFailure::label).to_vec())
        ] "Exchanges about which the external comparator said nothing";
        COMPARATOR_RESTARTS = Counter "comparator_restarts" [EXPERIMENT]
            "Times that the external comparator was started again";
    }
    "Queue" "Where there is a queue between hosts." {
        QUEUE_UP = Gauge "queue_up" [] "1 while Redis does its part";
        QUEUE_ERRORS = Counter "queue_errors" [
            closed("kind", || RedisErrorKind::ALL.map(RedisErrorKind::label).to_vec())
        ] "Requests to Redis that failed, by what went wrong";
        QUEUE_ENTRIES = Counter "queue_entries" [EXPERIMENT] "Entries that Redis has taken from this process";
        QUEUE_BYTES = Counter "queue_bytes" [EXPERIMENT] "Bytes of the entries that Redis has taken";
        QUEUE_DUPLICATES = Counter "queue_duplicates" [EXPERIMENT]
            "Entries sent again, because an answer was missing, that Redis had already";
        QUEUE_TRIMMED = Counter "queue_trimmed" [EXPERIMENT]
            "Entries trimmed in Redis (`stream_entries_max`, `stream_bytes_max`) before anybody had done them, as \
             this process saw it";
        QUEUE_FORGOTTEN = Counter "queue_forgotten" [EXPERIMENT]
            "Entries that Redis had confirmed to this process and lost: a restart without persistence, a failover";
        QUEUE_RECOVERED = Counter "queue_recovered" [EXPERIMENT]
            "Entries that an earlier process had left in the spool";
        QUEUE_GIVEN_UP = Counter "queue_given_up" [
            EXPERIMENT, closed("fate", || UploadStats::GIVEN_UP.map(Fate::label).to_vec())
        ] "Entries that an earlier process had left in the spool and that nobody gets: refused by Redis, lost to a defect, or \
           not given back by the disk";
        QUEUE_PANICS = Counter "queue_panics" [EXPERIMENT]
            "Times that sending entries to Redis panicked, which is a defect; they are sent again, and one that panics \
             each time is `lost`";
        QUEUE_IN_FLIGHT = Gauge "queue_in_flight_bytes" [EXPERIMENT] "Bytes on their way to Redis now";
        QUEUE_READ_ENTRIES = Counter "queue_read_entries" [EXPERIMENT]
            "Entries that Redis has handed to this worker, those taken over included";
        QUEUE_READ_BYTES = Counter "queue_read_bytes" [EXPERIMENT] "Bytes of the entries that Redis has handed over";
        QUEUE_TAKEN_OVER = Counter "queue_taken_over" [EXPERIMENT]
            "Entries taken over from workers that had not finished them";
        QUEUE_HANDED_BACK = Counter "queue_handed_back" [EXPERIMENT] "Entries given back to other workers";
        QUEUE_NEWER = Counter "queue_newer" [EXPERIMENT]
            "Entries left for workers that read a newer version of the wire form";
        QUEUE_SETTLED = Counter "queue_settled" [EXPERIMENT] "Settlements that Redis has counted";
        QUEUE_SETTLED_BEFORE = Counter "queue_settled_before" [EXPERIMENT]
            "Settlements that Redis has not counted, since somebody had settled the entry";
        QUEUE_REFUSED = Counter "queue_refused" [EXPERIMENT]
            "Settlements that Redis refused five times with others and once alone; the entry was set aside in their place";
        QUEUE_HELD = Gauge "queue_held" [EXPERIMENT]
            "Settlements that Redis refuses in a shard whatever is tried, as with a key of another type in the way; they \
             are told again every 30 s";
        QUEUE_UNSETTLED = Gauge "queue_unsettled" [EXPERIMENT]
            "Entries that are done here and not yet confirmed by Redis";
        QUEUE_UNDER_WAY = Gauge "queue_under_way" [EXPERIMENT] "Entries that this worker has now";
        QUEUE_SHARDS = Gauge "queue_shards" [EXPERIMENT] "Shards that this worker owns now";
        QUEUE_WORKERS = Gauge "queue_workers" [EXPERIMENT] "Workers there now, as this one sees it";
        SPOOL_ENTRIES = Gauge "spool_entries" [] "Entries that wait on disk for Redis";
        SPOOL_BYTES = Gauge "spool_bytes" [] "Bytes of the spool on disk";
        SPOOL_BYTES_MAX = Gauge "spool_bytes_max" [] "Bytes that the spool may take: `spool.bytes_max`";
        SPOOL_DAMAGED = Counter "spool_damaged" [] "Entries in the spool that could not be read again";
        SPOOL_FAILURES = Counter "spool_failures" []
            "Times that the spool took or gave nothing: it is full, or the disk failed";
    }
}

// === impl Descriptor ===

impl Descriptor {
    /// The name of its samples as Prometheus knows them; of a histogram, without `_bucket`, `_sum` and `_count`.
    pub fn full_name(&self) -> String {
        let ending = if matches!(self.kind, MetricType::Counter) { "_total" } else { "" };
        format!("{}_{}{ending}", super::PREFIX, self.name)
    }
}
