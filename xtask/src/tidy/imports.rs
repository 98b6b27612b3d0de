//! The import table: which module of the library may use which, and which crates it may name.
//!
//! Code for tests may import what it likes.

use super::Finding;
use super::source::{Named, Source};

/// One line of the table.
struct Rule {
    module: &'static str,
    /// Modules of the library that it may use besides itself.
    modules: &'static [&'static str],
    /// Crates that it may name besides `std`, `core` and `alloc`.
    crates: &'static [&'static str],
}

/// The table, as in ARCHITECTURE.md. The pure modules know no async runtime, clock, socket or metric; those at the
/// edges know their driver and not each other; only `pipeline` knows them all.
const TABLE: &[Rule] = &[
    Rule { module: "model", modules: &[], crates: &["bytes"] },
    Rule { module: "secret", modules: &[], crates: &["thiserror", "zeroize"] },
    // The pure modules.
    Rule { module: "packet", modules: &["model"], crates: &["bytes", "understudy_abi"] },
    Rule { module: "stream", modules: &["model"], crates: &["bytes", "foldhash"] },
    Rule { module: "http", modules: &["model"], crates: &["bytes", "httparse", "memchr", "sha2"] },
    Rule {
        module: "wire",
        modules: &["model"],
        crates: &["bytes", "rmp_serde", "serde", "serde_bytes", "sha2", "thiserror"],
    },
    Rule {
        module: "select",
        // What is coded must be decoded before a secret can be found in it, and `compare` is the place for that.
        modules: &["compare", "model"],
        crates: &[
            "base64",
            "bytes",
            "flate2",
            "foldhash",
            "hmac",
            "matchit",
            "memchr",
            "regex",
            "serde_json",
            "sha2",
            "thiserror",
        ],
    },
    Rule {
        module: "compare",
        modules: &["model"],
        crates: &[
            "brotli_decompressor",
            "bytes",
            "flate2",
            "foldhash",
            "form_urlencoded",
            "html5gum",
            "httpdate",
            "jiff",
            "memchr",
            "quick_xml",
            "regex",
            "rust_decimal",
            "ruzstd",
            "serde",
            "serde_json",
            "sha2",
            "thiserror",
        ],
    },
    // The edges.
    Rule {
        module: "capture",
        modules: &["model"],
        crates: &[
            "aya",
            "aya_log",
            "log",
            "nix",
            "pcap_parser",
            "procfs",
            "rustix",
            "thiserror",
            "understudy_abi",
        ],
    },
    Rule {
        module: "queue",
        modules: &["model", "wire"],
        crates: &[
            "bytes",
            "futures_util",
            "redis",
            "rustls",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
            "zstd",
        ],
    },
    Rule { module: "spool", modules: &[], crates: &["bytes", "crc32fast", "rustix", "thiserror"] },
    Rule {
        module: "branch",
        modules: &["model"],
        crates: &[
            "bytes",
            "http",
            "http_body_util",
            "hyper",
            "hyper_util",
            "memchr",
            "nix",
            "sha2",
            "thiserror",
            "tokio",
            "tower_service",
        ],
    },
    Rule {
        module: "journal",
        modules: &["model"],
        crates: &["base64", "rusqlite", "serde", "serde_json", "thiserror"],
    },
    Rule {
        module: "recording",
        modules: &["compare", "http", "model", "wire"],
        crates: &[
            "base64",
            "crc32fast",
            "http",
            "humantime",
            "memchr",
            "rmp_serde",
            "rustix",
            "serde",
            "serde_json",
            "thiserror",
        ],
    },
    // What people read.
    Rule {
        module: "metrics",
        modules: &["capture", "http", "model", "packet", "queue", "recording", "stream"],
        crates: &["prometheus_client", "rustix", "tokio"],
    },
    Rule {
        module: "serve",
        modules: &["metrics", "model", "secret"],
        crates: &[
            "arc_swap",
            "axum",
            "futures_util",
            "http_body_util",
            "humantime",
            "hyper",
            "hyper_util",
            "rustls",
            "serde_json",
            "sha2",
            "subtle",
            "thiserror",
            "tokio",
            "tokio_rustls",
            "tower_service",
            "tracing",
        ],
    },
    Rule {
        module: "report",
        modules: &["compare", "journal", "model"],
        crates: &["humantime", "serde", "serde_json", "similar", "thiserror", "unicode_width"],
    },
    Rule {
        module: "config",
        modules: &[
            "branch", "capture", "compare", "journal", "model", "pipeline", "queue", "report", "secret",
            "select", "serve", "spool",
        ],
        crates: &["humantime", "serde", "thiserror", "toml"],
    },
    // Where it all comes together.
    Rule {
        module: "pipeline",
        modules: &[
            "branch",
            "capture",
            "compare",
            "http",
            "journal",
            "metrics",
            "model",
            "packet",
            "queue",
            "recording",
            "report",
            "secret",
            "select",
            "serve",
            "spool",
            "stream",
            "wire",
        ],
        crates: &[
            "arc_swap",
            "base64",
            "bytes",
            "foldhash",
            "futures_util",
            "jiff",
            "rustix",
            "sd_notify",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    },
    Rule {
        module: "doctor",
        modules: &["branch", "capture", "config", "pipeline", "queue", "secret"],
        crates: &["procfs", "rustix", "serde", "tokio"],
    },
    Rule {
        module: "cli",
        modules: &[
            "capture",
            "config",
            "doctor",
            "journal",
            "model",
            "packet",
            "pipeline",
            "recording",
            "report",
        ],
        crates: &[
            "anyhow",
            "base64",
            "clap",
            "humantime",
            "indicatif",
            "serde",
            "serde_json",
            "terminal_size",
            "tokio",
            "tracing",
            "tracing_subscriber",
        ],
    },
];

const LIBRARY: &str = "userspace/src";
/// Crates that come with the compiler, and words that name no crate.
const ALWAYS: [&str; 7] = ["std", "core", "alloc", "self", "super", "crate", "Self"];

/// What a file of the library uses and must not.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Ok(inside) = source.path.strip_prefix(LIBRARY) else { return Vec::new() };
    let mut parts: Vec<String> = inside
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let Some(module) = parts.first().filter(|first| !["lib", "main"].contains(&first.as_str())) else {
        return Vec::new();
    };
    let Some(rule) = TABLE.iter().find(|rule| rule.module == module) else {
        let message =
            format!("the module `{module}` has no line in the import table; add one to {}", file!());
        return vec![Finding::new(&source.path, 1, message)];
    };
    source
        .named
        .iter()
        .filter(|named| !named.in_tests)
        .filter_map(|named| {
            let problem = problem(rule, named, parts.len(), &source.locals)?;
            Some(Finding::new(&source.path, named.line, problem))
        })
        .collect()
}

fn problem(rule: &Rule, named: &Named, file_depth: usize, locals: &[String]) -> Option<String> {
    let Rule { module, modules, crates } = rule;
    let supers = named.segments.iter().take_while(|segment| *segment == "super").count();
    let first = named.segments.first()?.as_str();
    let from_root = if first == "crate" {
        named.segments.get(1)
    } else if supers > 0 && supers == file_depth + named.inline_depth {
        named.segments.get(supers)
    } else {
        None
    };
    if let Some(used) = from_root {
        let allowed = used == module || modules.contains(&used.as_str());
        return (!allowed).then(|| {
            format!("`{module}` may not use `crate::{used}` (it may use {modules:?}); pass in what it needs")
        });
    }
    // Types and macros of this crate start paths too; only a lower-case word that is not known here is a crate.
    let is_crate = first.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !is_crate || ALWAYS.contains(&first) || locals.iter().any(|local| local == first) || is_builtin(first)
    {
        return None;
    }
    (!crates.contains(&first)).then(|| {
        format!("`{module}` may not name `{first}` (it may name {crates:?}); do this in a module that may")
    })
}

/// Primitive types, whose functions are called as `u32::from`, and attributes of tools.
fn is_builtin(name: &str) -> bool {
    const NAMES: [&str; 19] = [
        "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "f32", "f64",
        "bool", "char", "str", "clippy", "rustfmt",
    ];
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn check_file(path: &str, text: &str, expected: Option<&str>) {
        let source = Source::parse(Path::new(path), text).unwrap();
        let got: Vec<_> = check(&source).into_iter().map(|finding| finding.message).collect();
        match expected {
            None => assert_eq!(got, Vec::<String>::new(), "{path}: {text}"),
            Some(part) => assert!(got.len() == 1 && got[0].contains(part), "{path}: {text}: {got:?}"),
        }
    }

    #[test]
    fn modules_are_held_to_the_table() {
        check_file("userspace/src/stream/mod.rs", "use crate::model::Seq;", None);
        check_file("userspace/src/stream/mod.rs", "use crate::stream::x;", None);
        check_file("userspace/src/stream/mod.rs", "use crate::http::x;", Some("`crate::http`"));
        check_file("userspace/src/packet.rs", "fn f() { crate::pipeline::now() }", Some("`crate::pipeline`"));
        check_file("userspace/src/pipeline/mod.rs", "use crate::cli::x;", Some("`crate::cli`"));
        check_file("userspace/src/new/mod.rs", "", Some("no line"));
        check_file("xtask/src/x.rs", "use crate::anything::x;", None);
    }

    #[test]
    fn climbing_to_the_root_is_seen() {
        check_file("userspace/src/stream/seq.rs", "use super::super::http::x;", Some("`crate::http`"));
        check_file("userspace/src/stream/seq.rs", "use super::http::x;", None);
        check_file("userspace/src/stream/mod.rs", "use super::http::x;", Some("`crate::http`"));
        check_file("userspace/src/stream/mod.rs", "mod m { use super::http::x; }", None);
    }

    #[test]
    fn crates_are_held_to_the_table() {
        check_file("userspace/src/model/mod.rs", "use serde::Serialize;", Some("`serde`"));
        check_file("userspace/src/compare/mod.rs", "fn f() { tokio::spawn(x); }", Some("`tokio`"));
        check_file("userspace/src/http/head.rs", "use httparse::Request;", None);
        check_file("userspace/src/packet.rs", "use understudy_abi::RecordHeader;", None);
        check_file("userspace/src/http/head.rs", "mod hyper; fn f() { hyper::x() }", None);
        check_file(
            "userspace/src/http/head.rs",
            "use std::{fmt, io::{self as x}}; fn f() { fmt::g(); x::h() }",
            None,
        );
        check_file("userspace/src/http/head.rs", "use serde as bytes;", Some("`serde`"));
        check_file("userspace/src/http/head.rs", "fn f() { u32::from(1u8); Self::g(); Body::h() }", None);
        check_file("userspace/src/stream/mod.rs", "#[derive(serde::Serialize)] struct X;", Some("`serde`"));
        check_file("userspace/src/http/head.rs", "#[cfg(test)] mod tests { use tokio::x; }", None);
    }
}
