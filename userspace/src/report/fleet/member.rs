//! What one process of a fleet tells the others: the fields that it publishes, and how they are read back.
//!
//! Sends nothing. A field that is missing or cannot be read is as if it had not been published.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::compare::latency::LatencyShare;
use crate::compare::noise::NoiseShare;
use crate::journal::RuleCount;
use crate::model::{Fate, LedgerSnapshot, MemberCopy, Timestamp};

/// A field with its value, as a store takes it.
pub type Field = (&'static str, Vec<u8>);

/// Who publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberName {
    /// The host's name.
    pub host: String,
    /// When the process began, by its own clock.
    pub started_at: Timestamp,
    /// Version of this program.
    pub version: String,
}

/// How a process stands still when it is told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseShare {
    /// It does so now.
    pub is_paused: bool,
    /// What all its pauses took so far.
    pub total: Duration,
}

/// What a worker knows about an experiment.
#[derive(Clone, Debug)]
pub struct WorkerShare {
    /// Its counts.
    pub ledger: LedgerSnapshot,
    /// What it knows about noise.
    pub noise: NoiseShare,
    /// What it knows about times, by route.
    pub latency: BTreeMap<String, LatencyShare>,
    /// What its rules met and hid.
    pub rules: Vec<RuleCount>,
    /// Why the experiment ended there before the worker did.
    pub stopped: Option<String>,
    /// Its pauses.
    pub pause: PauseShare,
    /// Whether nothing will follow.
    pub ended: bool,
}

/// What a capture knows about an experiment.
#[derive(Clone, Debug)]
pub struct CaptureShare {
    /// Its counts.
    pub ledger: LedgerSnapshot,
    /// Entries taken over from the spool of an earlier process.
    pub recovered: u64,
    /// Those of them that still lie there.
    pub recovered_left: u64,
    /// Entries of that spool that nobody gets, by what became of them.
    pub given_up: Vec<(Fate, u64)>,
    /// Packets that the probe dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Why nothing of the experiment is queued there any more.
    pub stopped: Option<String>,
    /// Its pauses.
    pub pause: PauseShare,
    /// Whether nothing will follow.
    pub ended: bool,
}

/// Counts as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LedgerForm {
    pub(super) seen: u64,
    pub(super) in_flight: u64,
    pub(super) fates: BTreeMap<String, u64>,
}

/// A rule as JSON.
#[derive(Serialize, Deserialize)]
struct RuleForm {
    rule: String,
    comparisons: u64,
    differences: u64,
    met: u64,
    failed: u64,
}

/// A process as it was read.
pub(super) struct Member {
    pub(super) id: String,
    pub(super) heard_of: Option<Timestamp>,
    pub(super) host: String,
    pub(super) version: String,
    pub(super) started_at: Option<Timestamp>,
    pub(super) ended: bool,
    pub(super) stopped: Option<String>,
    pub(super) ledger: LedgerForm,
    pub(super) recovered: u64,
    pub(super) recovered_left: u64,
    /// By fate.
    pub(super) given_up: BTreeMap<String, u64>,
    pub(super) is_paused: bool,
    pub(super) paused_seconds: u64,
    pub(super) drops: BTreeMap<String, u64>,
    pub(super) noise: Option<NoiseShare>,
    pub(super) latency: BTreeMap<String, LatencyShare>,
    pub(super) latency_omitted: u64,
    pub(super) rules: Vec<RuleCount>,
}

/// Bytes of the times of all routes as JSON; beyond, the routes with the fewest buckets are published, and the
/// others counted. 4 MiB.
const LATENCY_BYTES_MAX: usize = 4 << 20;

fn flag(is_set: bool) -> Vec<u8> {
    u8::from(is_set).to_string().into_bytes()
}

/// Those that there are.
fn by_label(fates: &[(Fate, u64)]) -> BTreeMap<String, u64> {
    let some = fates.iter().filter(|(_, count)| *count > 0);
    some.map(|(fate, count)| (fate.label().to_owned(), *count)).collect()
}

/// Nothing that is published has a number that JSON cannot hold.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

// === impl MemberName ===

impl MemberName {
    fn fields(&self, pause: PauseShare, ended: bool) -> Vec<Field> {
        let Self { host, started_at, version } = self;
        let PauseShare { is_paused, total } = pause;
        vec![
            ("host", host.clone().into_bytes()),
            ("started_ns", started_at.0.to_string().into_bytes()),
            ("version", version.clone().into_bytes()),
            ("ended", flag(ended)),
            ("paused", flag(is_paused)),
            ("paused_seconds", total.as_secs().to_string().into_bytes()),
        ]
    }
}

// === impl WorkerShare ===

impl WorkerShare {
    /// What to publish of it.
    pub fn fields(&self, name: &MemberName) -> Vec<Field> {
        let Self { ledger, noise, latency, rules, stopped, pause, ended } = self;
        let rule = |count: &RuleCount| {
            let RuleCount { rule, comparisons, differences, met, failed } = count.clone();
            RuleForm { rule, comparisons, differences, met, failed }
        };
        let (times, omitted) = bounded(latency, LATENCY_BYTES_MAX);
        let mut fields = name.fields(*pause, *ended);
        fields.extend([
            ("ledger", json(&LedgerForm::new(ledger))),
            ("paths", json(noise)),
            ("latency", times),
            ("latency_omitted", omitted.to_string().into_bytes()),
            ("rules", json(&rules.iter().map(rule).collect::<Vec<_>>())),
            ("stopped", stopped.clone().unwrap_or_default().into_bytes()),
        ]);
        fields
    }
}

/// The times of as many routes as there is room for, and how many there are besides.
fn bounded(latency: &BTreeMap<String, LatencyShare>, bytes_max: usize) -> (Vec<u8>, usize) {
    let whole = json(latency);
    if whole.len() <= bytes_max {
        return (whole, 0);
    }
    let mut by_size: Vec<_> =
        latency.iter().map(|(route, share)| (json(share).len(), route, share)).collect();
    by_size.sort_by_key(|(bytes, _, _)| *bytes);
    let mut bytes_left = bytes_max;
    let fitting = by_size.into_iter().map_while(|(bytes, route, share)| {
        bytes_left = bytes_left.checked_sub(bytes.saturating_add(route.len()).saturating_add(8))?;
        Some((route, share))
    });
    let fitting: BTreeMap<_, _> = fitting.collect();
    (json(&fitting), latency.len().saturating_sub(fitting.len()))
}

// === impl CaptureShare ===

impl CaptureShare {
    /// What to publish of it.
    pub fn fields(&self, name: &MemberName) -> Vec<Field> {
        let Self { ledger, recovered, recovered_left, given_up, drops, stopped, pause, ended } = self;
        let LedgerForm { seen, in_flight, fates } = LedgerForm::new(ledger);
        let number = |number: u64| number.to_string().into_bytes();
        let mut fields = name.fields(*pause, *ended);
        fields.extend([
            ("seen", number(seen)),
            ("in_flight", number(in_flight)),
            ("fates", json(&fates)),
            ("recovered", number(*recovered)),
            ("recovered_left", number(*recovered_left)),
            ("given_up", json(&by_label(given_up))),
            ("capture", json(drops)),
            ("stopped", stopped.clone().unwrap_or_default().into_bytes()),
        ]);
        fields
    }
}

// === impl LedgerForm ===

impl LedgerForm {
    /// Fates at zero are left out.
    fn new(ledger: &LedgerSnapshot) -> Self {
        let LedgerSnapshot { seen, in_flight, fates } = ledger;
        Self { seen: *seen, in_flight: *in_flight, fates: by_label(fates) }
    }

    pub(super) fn count(&self, fate: &str) -> u64 {
        self.fates.get(fate).copied().unwrap_or_default()
    }
}

// === impl Member ===

impl Member {
    pub(super) fn new(copy: MemberCopy) -> Self {
        let MemberCopy { id, heard_of, fields } = copy;
        let text = |name: &str| {
            fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let number = |name: &str| text(name).parse::<u64>().ok();
        let count = |name: &str| number(name).unwrap_or_default();
        // What a worker publishes in one field a capture publishes in three.
        let ledger = read(&fields, "ledger").unwrap_or_else(|| LedgerForm {
            seen: count("seen"),
            in_flight: count("in_flight"),
            fates: read(&fields, "fates").unwrap_or_default(),
        });
        let rule = |form: RuleForm| {
            let RuleForm { rule, comparisons, differences, met, failed } = form;
            RuleCount { rule, comparisons, differences, met, failed }
        };
        let rules: Vec<RuleForm> = read(&fields, "rules").unwrap_or_default();
        Self {
            id,
            heard_of,
            host: text("host"),
            version: text("version"),
            started_at: number("started_ns").map(Timestamp),
            ended: text("ended") == "1",
            stopped: Some(text("stopped")).filter(|why| !why.is_empty()),
            ledger,
            recovered: count("recovered"),
            recovered_left: count("recovered_left"),
            given_up: read(&fields, "given_up").unwrap_or_default(),
            is_paused: text("paused") == "1",
            paused_seconds: count("paused_seconds"),
            drops: read(&fields, "capture").unwrap_or_default(),
            noise: read(&fields, "paths"),
            latency: read(&fields, "latency").unwrap_or_default(),
            latency_omitted: count("latency_omitted"),
            rules: rules.into_iter().map(rule).collect(),
        }
    }
}

fn read<T: DeserializeOwned>(fields: &BTreeMap<String, Vec<u8>>, name: &str) -> Option<T> {
    serde_json::from_slice(fields.get(name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::latency::LatencyTally;
    use crate::report::VerdictPolicy;

    #[test]
    fn times_that_find_no_room_are_counted() {
        let share = LatencyTally::new(VerdictPolicy::default().latency()).share();
        let latency: BTreeMap<String, LatencyShare> =
            (0..9).map(|route| (format!("/{route}"), share.clone())).collect();
        let (whole, omitted) = bounded(&latency, usize::MAX);
        assert_eq!(omitted, 0);
        let (part, omitted) = bounded(&latency, whole.len() / 3);
        let kept: BTreeMap<String, LatencyShare> = serde_json::from_slice(&part).unwrap();
        assert!(part.len() <= whole.len() / 3 && !kept.is_empty(), "{}", part.len());
        assert_eq!(kept.len() + omitted, 9);
    }
}
