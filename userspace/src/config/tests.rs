//! Configurations, good and bad, and the errors that they give.
//!
//! Reads no file but the template and those of `deploy/`.

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

#[test]
fn the_files_for_a_fleet_belong_together() {
    let [capture, replay] = [
        include_str!("../../../deploy/config/capture.toml"),
        include_str!("../../../deploy/config/replay.toml"),
    ]
    .map(|text| parse(text, None, Flags::default()).unwrap());
    let queue = |config: &Config| {
        let queue = config.queue.clone().expect("it names a queue");
        (format!("{:?}", queue.access), queue.shards, queue.prefix)
    };
    assert_eq!(queue(&capture), queue(&replay));
    let names = |config: &Config| config.experiments.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&capture), names(&replay));
}

/// The template without the table of the queue, which is off as a whole, and that table.
fn template_parts() -> (String, &'static str) {
    let (before, rest) = TEMPLATE.split_once("# [queue]\n").unwrap();
    let (queue, after) = rest.split_once("[spool]\n").unwrap();
    (format!("{before}[spool]\n{after}"), queue)
}

/// Every key that is commented out with its default, as if it were not.
fn uncommented(template: &str) -> String {
    let is_key = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(key) if key.split_once(" = ").is_some_and(|(name, _)| is_key(name)) => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    template.lines().map(line).collect()
}

/// Uncommenting every key must change nothing, or the template lies about a default.
#[test]
fn the_template_shows_the_defaults() {
    // Examples are of keys that have no default of their own, and that of the methods depends on another key.
    let is_default = |line: &&str| !line.ends_with("# example") && !line.starts_with("methods = ");
    let shown: String =
        uncommented(&template_parts().0).lines().filter(is_default).map(|line| format!("{line}\n")).collect();
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
        ("latency_tail_ratio_max", "nan"),
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

/// The rules of one experiment as results name them.
fn rules(compare: &str) -> Vec<String> {
    let text =
        format!("{START}candidate = {{ url = \"http://127.0.0.1:9\" }}\n[experiment.compare]\n{compare}\n");
    let config = parse(&text, None, Flags::default()).unwrap();
    let comparator = crate::compare::Comparator::new(config.experiments[0].compare.clone()).unwrap();
    comparator.rules().map(ToString::to_string).collect()
}

#[test]
fn rules_are_strings_or_tables() {
    let text = r#"
        ignore = ["header:x", { at = "json:$.**", class = "uuid", kind = "value" }, { at = "status", control_is = "200" }]
        clean = [{ at = "json:$.h", replace = "-[0-9]+$", with = "-N", lower = true }, { at = "json:$.p", round = 2 }]
        unordered = ["json:$.u"]
        match_by = [{ at = "json:$.i", key = "id" }, { at = "json:$.j", key = ["a", "b"] }]
        tolerance = [
            { at = "json:$.x", within = 0.01 },
            { at = "json:$.y", within = "1%" },
            { at = "json:$.z", within = 3 },
            { at = "json:$.t", within_time = "5s" },
        ]
        compare_errors = "class"
    "#;
    let expected = [
        "header:x",
        "json:$.** (class uuid, kind value)",
        "status (control_is \"200\")",
        "clean json:$.h (replace \"-[0-9]+$\" with \"-N\", lower)",
        "clean json:$.p (round 2)",
        "unordered json:$.u",
        "match_by json:$.i (id)",
        "match_by json:$.j (a, b)",
        "tolerance json:$.x (within 0.01)",
        "tolerance json:$.y (within 1%)",
        "tolerance json:$.z (within 3)",
        "tolerance json:$.t (within_time 5s)",
        "compare_errors class",
    ];
    assert_eq!(rules(text), expected);
}

#[test]
fn a_bad_rule_is_named_with_its_line() {
    let with = |line: &str| {
        let start = format!("{START}candidate = {{ url = \"http://127.0.0.1:9\" }}\n[experiment.compare]\n");
        format!("{start}{line}\n")
    };
    let key = |list: &str| format!("line 8, key `experiment.compare.{list}`");
    check(&with("ignore = [\"header:x\",\n{ at = \"json:$.a\", class = \"colour\" }]"), &key("ignore"));
    check(&with("ignore = [\n{ at = \"json:$.a\", colour = \"red\" }]"), "with at, class, kind, both_match");
    check(&with("clean = [\n{ at = \"json:$.a\", replace = \"(\" }]"), &key("clean"));
    check(&with("clean = [\n{ at = \"json:$.a\", rond = 2 }]"), "unknown field `rond`");
    check(&with("match_by = [\n{ at = \"status\", key = \"id\" }]"), &key("match_by"));
    check(&with("tolerance = [\n{ at = \"json:$.a\" }]"), &key("tolerance"));
    check(&with("\ncompare_errors = \"some\""), &key("compare_errors"));
    check(
        &with("[experiment.compare.comparator]\ncommand = []"),
        "key `experiment.compare.comparator.command`",
    );
    check(
        &with("[experiment.compare.comparator]\ncommand = [\"x\"]\nmode = \"both\""),
        "line 9, key `experiment.compare.comparator.mode`",
    );
}

#[test]
fn several_candidates_are_experiments_of_their_own_that_share_a_queue() {
    let text = r#"
        [capture]
        ports = [8080]
        [[experiment]]
        name = "x"
        context = { commit = "4f2a91c" }
        ramp = { from = "1%", to = "25%", over = "10m" }
        run_if = ["query debug"]
        [experiment.queue]
        bytes_max = 1000
        [[experiment.candidates]]
        name = "next"
        url = "http://127.0.0.1:9"
        [[experiment.candidates]]
        name = "other"
        url = "http://127.0.0.1:10"
        isolated = true
    "#;
    let config = parse(text, None, Flags::default()).unwrap();
    let [next, other] = &config.experiments[..] else { panic!("{:?}", config.experiments) };
    assert_eq!([&next.name, &other.name], ["x/next", "x/other"]);
    assert_eq!([next.queue.bytes_max, other.queue.bytes_max], [500, 500]);
    assert_eq!([next.select.isolated, other.select.isolated], [false, true]);
    assert_eq!(next.compare.candidate_authorities, ["127.0.0.1:9"]);
    assert_eq!(other.compare.candidate_authorities, ["127.0.0.1:10"]);
    assert_eq!(next.context["commit"], "4f2a91c");
    assert_eq!(next.select.sample.fraction, 0.25);
}

#[test]
fn candidates_context_ramp_and_conditions_that_make_no_sense_are_named() {
    let one = "candidate = { url = \"http://127.0.0.1:9\" }";
    let with = |line: &str| format!("{START}{one}\n{line}\n");
    let named = |name: &str| format!("[[experiment.candidates]]\n{name}url = \"http://b\"\n");
    check(&with(&named("name = \"a\"\n")), "give `candidate` or `candidates`, not both");
    check(&format!("{START}{}", named("")), "line 5, key `experiment.candidates.name`");
    let twice = format!("{START}{0}{0}", named("name = \"a\"\n"));
    check(&twice, "two candidates are named `a`");
    check(&format!("{START}{}", named("name = \"a/b\"\n")), "line 6, key `experiment.candidates.name`");
    let many: String = (0..9).map(|n| named(&format!("name = \"c{n}\"\n"))).collect();
    check(&format!("{START}{many}"), "at most 8 candidates");
    check(
        &format!("{START}candidate = {{ name = \"a\", url = \"http://b\" }}"),
        "a name is for one of several",
    );
    check(&with("run_if = [\"query a\",\n\"cookie\"]"), "line 7, key `experiment.run_if`");
    check(&with("ramp = { from = \"50%\", to = \"10%\", over = \"1m\" }"), "key `experiment.ramp.from`");
    check(&with("sample = \"5%\"\nramp = { from = \"1%\", to = \"10%\", over = \"1m\" }"), "not both");
    let long = "x".repeat(300);
    check(&with(&format!("context = {{ a = \"{long}\" }}")), "line 6, key `experiment.context`");
}

/// What the documentation shows must be a configuration.
#[test]
fn examples_of_the_documentation_are_good() {
    let pages = [include_str!("../../../docs/rules.md"), include_str!("../../../docs/comparator.md")];
    let mut examples = 0;
    for block in pages.iter().flat_map(|page| page.split("```toml\n").skip(1)) {
        let example = block.split("```").next().unwrap();
        let has_candidates = example.contains("candidates]]");
        let start = if example.starts_with("[[experiment]]") { "" } else { "[[experiment]]\n" };
        let candidate = "[experiment.candidate]\nurl = \"http://127.0.0.1:9\"\n";
        let end = if has_candidates { "" } else { candidate };
        let text = format!("{start}{example}{end}");
        if let Err(error) = parse(&text, None, Flags::default()) {
            panic!("{error}\nin: {text}");
        }
        examples += 1;
    }
    assert!(examples >= 9, "{examples}");
}

/// A queue with these lines behind its first.
#[track_caller]
fn check_queue(lines: &str, expected: &str) {
    check(&format!("[queue]\n{lines}\n"), expected);
}

#[test]
fn a_queue_is_refused_with_line_and_key() {
    check_queue("redis = \"redis://:hunter2@host\"", "line 2, key `queue.redis`");
    check_queue("redis = \"redis://:hunter2@host\"", "`credentials`");
    check_queue("redis = \"http://host\"", "`redis://`");
    check_queue("redis = []", "names no address");
    check_queue("redis = [\"redis://a\", \"redis://b\"]", "set `mode`");
    check_queue("redis = [\"redis://a\", \"rediss://b\"]\nmode = \"cluster\"", "must begin alike");
    check_queue("redis = \"redis://a/3\"\nmode = \"cluster\"", "no database but 0");
    check_queue("redis = \"redis://a\"\nmode = \"ring\"", "line 3, key `queue.mode`");
    check_queue("redis = \"redis://a\"\nmode = \"sentinel\"", "`sentinel_master`");
    check_queue("redis = \"redis://a\"\nsentinel_master = \"x\"", "mode = \"sentinel\"");
    check_queue("redis = \"redis://a\"\nca = \"/x\"", "`rediss://`");
    check_queue("redis = \"rediss://a\"\nclient_cert = \"/x\"", "`client_key`");
    check_queue("redis = \"redis://a\"\nshards = 0", "line 3, key `queue.shards`: must be from 1 to");
    check_queue("redis = \"redis://a\"\nsession = \"user\"", "cookie:NAME");
    check_queue("redis = \"redis://a\"\nbatch_max = 0", "must be at least 1");
    check_queue("redis = \"redis://a\"\nset_aside_max = 0", "queue.set_aside_max`: must be at least 1");
    check_queue("redis = \"redis://a\"\nset_aside_kept = \"10ms\"", "must be at least 1s");
    check_queue("redis = \"redis://a\"\nbatch_wait = \"5\"", "is not a duration");
    check_queue("redis = \"redis://a\"\nlease = \"0s\"", "line 3, key `queue.lease`: must be at least 100ms");
    check_queue(
        "redis = \"redis://a\"\npoll_max = \"1ms\"",
        "line 3, key `queue.poll_max`: must be at least 2ms",
    );
    check_queue("redis = \"redis://a\"\nprefix = \"a b\"", "white space");
    check_queue("redis = \"redis://a\"\ncompress_level = 30", "from -7");
    check_queue("redis = \"redis://a\"\npassword = \"x\"", "unknown field `password`");
    check_queue("shards = 4", "missing field `redis`");
}

#[test]
fn the_template_shows_the_defaults_of_a_queue() {
    let spelled = format!("[queue]\n{}", uncommented(template_parts().1));
    assert!(spelled.lines().filter(|line| !line.starts_with('#')).count() > 15, "{spelled}");
    let queue = |text: &str| parse(text, None, Flags::default()).unwrap().queue.unwrap();
    assert_eq!(queue(&spelled), queue("[queue]\nredis = \"redis://redis.internal:6379/0\"\n"));
}

#[test]
fn redaction_is_refused_with_line_and_key() {
    let with = |lines: &str| format!("[redact]\n{lines}\n");
    check(&with("mode = \"some\""), "line 2, key `redact.mode`: must be off, standard, strict, dry-run");
    check(&with("json = [\"a\",\n\"$a\"]"), "line 3, key `redact.json`");
    let between_hosts = with("mode = \"dry-run\"\n[queue]\nredis = \"redis://127.0.0.1\"");
    check(&between_hosts, "line 2, key `redact.mode`: `dry-run` hides nothing");
    check(&with("headers = [\"a b\"]"), "line 2, key `redact.headers`");
    check(&with("patterns = [\"(\"]"), "key `redact.patterns`");
    check(&with("allow = [\"cookie\"]"), "key `redact.allow`");
    check(&with("keys = \"x\""), "unknown field `keys`");
    let candidate = "candidate = { url = \"http://127.0.0.1:9\", secrets = \"some\" }";
    check(&format!("{START}{candidate}"), "line 5, key `experiment.candidate.secrets`");
}
