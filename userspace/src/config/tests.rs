//! Configurations, good and bad, and the errors that they give.
//!
//! Reads no file but the template.

use super::*;
use std::path::PathBuf;

#[track_caller]
fn check(text: &str, expected: &str) {
    let error = parse(text, Some(Path::new("understudy.toml")), Flags::default()).map(|_| ()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains(expected), "{message}\nshould say: {expected}");
}

const START: &str = "[capture]\nports = [8080]\n[[experiment]]\nname = \"x\"\n";

#[test]
fn the_template_is_a_configuration() {
    let config = parse(TEMPLATE, None, Flags::default()).unwrap();
    assert_eq!(config.capture.kernel.ports, [8080]);
    assert_eq!(config.experiments.len(), 1);
}

/// Uncommenting every key must change nothing, or the template lies about a default.
#[test]
fn the_template_shows_the_defaults() {
    let shown: String = TEMPLATE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key)
                if key
                    .split_once(" = ")
                    .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')) =>
            {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    // Examples of keys that have no default of their own.
    let shown = shown
        .replace("headers = { x-environment = \"candidate\" }\n", "")
        .replace("requests_per_second_max = 100\n", "")
        .replace("routes = [\"/search\", \"/items/{id}\"]\n", "")
        .replace("methods = [\"GET\", \"HEAD\", \"OPTIONS\"]\n", "");
    let plain = parse(TEMPLATE, None, Flags::default()).unwrap();
    let spelled = parse(&shown, None, Flags::default()).unwrap();
    assert_eq!(format!("{plain:?}"), format!("{spelled:?}"));
    assert!(shown.matches(" = ").count() > 60, "the template lists the keys");
}

#[test]
fn errors_name_the_line_and_the_key() {
    check("[capture]\nportz = [1]\n", "line 2");
    check("[capture]\nportz = [1]\n", "unknown field `portz`");
    check("[capture]\nports = [0]\n", "line 2, key `capture.ports`");
    check(
        "[capture]\ngap_wait_max = \"soon\"\n",
        "line 2, key `capture.gap_wait_max`: `soon` is not a duration",
    );
    check("[capture]\nring_bytes = 5000\n", "key `capture.ring_bytes`: must be a power of two");
    check("[capture]\nnice = 20\n", "line 2, key `capture.nice`");
    check("[admin]\nlisten = \"here\"\n", "line 2, key `admin.listen`");
    check(START, "line 4, key `experiment.candidate`: experiment `x` names no candidate");
    let with = |line: &str| format!("{START}candidate = {{ url = \"http://127.0.0.1:9\" }}\n{line}\n");
    check(
        &with("routes = [\n\"/ok\",\n\"/items/{id\"]"),
        "line 8, key `experiment.routes`: route `/items/{id` does not parse",
    );
    check(&with("routes = [\"~(\"]"), "key `experiment.routes`");
    check(&with("headers = [\"a: ~(\"]"), "key `experiment.headers`");
    check(&with("methods = [\"G T\"]"), "line 6, key `experiment.methods`");
    check(&with("sample = \"200%\""), "line 6, key `experiment.sample`");
    check(
        &with("[experiment.compare]\nignore = [\"json:items\"]"),
        "line 7, key `experiment.compare.ignore`",
    );
    check(&with("[experiment.verdict]\nmin = 3"), "unknown field `min`");
    check("[capture]\ncgroup = \"\"\n", "line 2, key `capture.cgroup`: must not be empty");
    for (key, value) in [
        ("mismatch_share_max", "2.0"),
        ("mismatch_share_max", "nan"),
        ("incomparable_share_max", "-0.1"),
        ("latency_ratio_max", "0.0"),
        ("latency_extra_ms_max", "inf"),
        ("latency_confidence", "1.0"),
    ] {
        check(
            &with(&format!("[experiment.verdict]\n{key} = {value}")),
            &format!("line 6, key `experiment.verdict.{key}`: must"),
        );
    }
    check(
        &with("[experiment.replay]\nrequests_per_second_max = 0"),
        "line 7, key `experiment.replay.requests_per_second_max`",
    );
    check(
        &with("[[experiment]]\nname = \"x\"\ncandidate = { url = \"http://b\" }"),
        "two experiments are named `x`",
    );
    check(&format!("{START}candidate = {{ url = \"ftp://b\" }}"), "line 5, key `experiment.candidate`");
}

#[test]
fn a_message_says_things_once() {
    let path = Some(Path::new("understudy.toml"));
    let error = parse("[capture]\nportz = [1]\n", path, Flags::default()).map(|_| ()).unwrap_err();
    let chain = format!("{:#}", anyhow::Error::new(error));
    assert_eq!(chain.matches("portz").count(), 2, "the line and its problem: {chain}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let path = PathBuf::from("no/such/file.toml");
    let error = load(Some(&path), Flags::default()).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no/such/file.toml"));
}
