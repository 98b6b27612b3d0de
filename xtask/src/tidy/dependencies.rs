//! Every dependency of a manifest is named by the package's code, and every one of the workspace by a manifest.
//!
//! Knows nothing of versions; `cargo deny` does that.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Finding;
use super::source::Source;

/// Dependencies that are there for what they do to another one, not to be named.
const UNNAMED: [(&str, &str); 0] = [];

/// What is declared and not used.
pub(super) fn check(manifests: &[(PathBuf, String)], sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut inherited = BTreeSet::new();
    let mut workspace = Vec::new();
    let folders: Vec<&Path> = manifests.iter().filter_map(|(path, _)| path.parent()).collect();
    for (path, text) in manifests {
        let manifest: toml::Table =
            text.parse().with_context(|| format!("failed to read {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        // A source belongs to the nearest manifest above it.
        let own = sources.iter().filter(|source| {
            let nearest = folders
                .iter()
                .filter(|folder| source.path.starts_with(folder))
                .max_by_key(|folder| folder.components().count());
            nearest.is_some_and(|nearest| *nearest == folder)
        });
        let roots: BTreeSet<&str> = own
            .flat_map(|source| &source.named)
            .filter_map(|named| named.segments.first())
            .map(String::as_str)
            .collect();
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in names(manifest.get(table)) {
                inherited.insert(name.clone());
                let unnamed = UNNAMED.iter().any(|(unnamed, _)| *unnamed == name);
                if !roots.contains(name.replace('-', "_").as_str()) && !unnamed {
                    let message = format!("`{name}` is not used by this package; remove it");
                    findings.push(Finding::new(path, line_of(text, &name), message));
                }
            }
        }
        if let Some(table) = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies")) {
            workspace.extend(names(Some(table)).into_iter().map(|name| (path, text, name)));
        }
    }
    for (path, text, name) in workspace {
        if !inherited.contains(&name) {
            let message = format!("`{name}` is used by no package of the workspace; remove it");
            findings.push(Finding::new(path, line_of(text, &name), message));
        }
    }
    Ok(findings)
}

fn names(table: Option<&toml::Value>) -> Vec<String> {
    table.and_then(toml::Value::as_table).map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

fn line_of(text: &str, name: &str) -> usize {
    let declares = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().position(declares).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"p\"\n[dependencies]\nsome-crate.workspace = true\n";

    #[track_caller]
    fn check_code(path: &str, code: &str, expected: Option<(usize, &str)>) {
        let sources = [Source::parse(Path::new(path), code).unwrap()];
        let manifests = [(PathBuf::from("p/Cargo.toml"), MANIFEST.to_owned())];
        let got = check(&manifests, &sources).unwrap();
        match expected {
            None => assert_eq!(got, [], "{path}: {code}"),
            Some((line, part)) => {
                assert!(got.len() == 1 && got[0].line == line && got[0].message.contains(part), "{got:?}");
            }
        }
    }

    #[test]
    fn a_dependency_that_nobody_names_is_found() {
        check_code("p/src/lib.rs", "use some_crate::X;", None);
        check_code("p/tests/t.rs", "fn f() { some_crate::x!() }", None);
        check_code("p/src/lib.rs", "// some_crate::X", Some((4, "some-crate")));
        check_code("q/src/lib.rs", "use some_crate::X;", Some((4, "some-crate")));
    }

    #[test]
    fn a_dependency_of_the_workspace_that_no_package_takes_is_found() {
        let manifests = [
            (
                PathBuf::from("Cargo.toml"),
                "[workspace.dependencies]\nother = \"1\"\nsome-crate = \"1\"\n".to_owned(),
            ),
            (PathBuf::from("p/Cargo.toml"), MANIFEST.to_owned()),
        ];
        let sources = [Source::parse(Path::new("p/src/lib.rs"), "use some_crate::X;").unwrap()];
        let got = check(&manifests, &sources).unwrap();
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(got[0].line == 2 && got[0].message.contains("`other`"), "{got:?}");
    }
}
