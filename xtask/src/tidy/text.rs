//! Checks that need no parser: module docs, file sizes, paths of somebody's machine.
//!
//! Looks at lines only.

use std::path::Path;

use super::Finding;

/// Most lines of a file before its tests.
const LINES_MAX: usize = 500;
/// Paths that exist on one machine only, and the files that may name them all the same.
const MACHINE_PATHS: [&str; 4] = ["/work/", "/root/", "/home/", "/tmp/"];
const MAY_NAME_MACHINE_PATHS: [&str; 1] = ["xtask/src/tidy/text.rs"];

/// What is wrong with the lines of a file.
pub(super) fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = machine_paths(path, text);
    if path.extension().is_some_and(|ending| ending == "rs") {
        findings.extend(docs(path, text));
        findings.extend(size(path, text));
    }
    findings
}

fn docs(path: &Path, text: &str) -> Option<Finding> {
    let lines: Vec<&str> = text.lines().take(3).collect();
    let says = |line: usize| lines.get(line).is_some_and(|line| line.starts_with("//! ") && line.len() > 8);
    let blank = lines.get(1).is_some_and(|line| *line == "//!");
    // The first line may run on; then the statement after it follows the next blank line.
    let continues = lines.get(1).is_some_and(|line| line.starts_with("//! "));
    if says(0) && ((blank && says(2)) || (continues && after_blank(text))) {
        return None;
    }
    Some(Finding::new(
        path,
        1,
        "line 1 says what the file is (`//! …`), line 2 is `//!`, line 3 says what it refuses to do",
    ))
}

fn after_blank(text: &str) -> bool {
    let mut rest = text.lines().skip_while(|line| line.starts_with("//! "));
    rest.next() == Some("//!") && rest.next().is_some_and(|line| line.starts_with("//! "))
}

fn size(path: &Path, text: &str) -> Option<Finding> {
    let in_tests = path.parent().is_some_and(|folder| folder.ends_with("tests"));
    if in_tests || path.file_stem().is_some_and(|stem| stem == "tests") {
        return None;
    }
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    (lines > LINES_MAX).then(|| {
        let message =
            format!("{lines} lines before the tests, at most {LINES_MAX}; split it by what it is about");
        Finding::new(path, LINES_MAX + 1, message)
    })
}

fn machine_paths(path: &Path, text: &str) -> Vec<Finding> {
    if MAY_NAME_MACHINE_PATHS.iter().any(|file| path == Path::new(file)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for needle in MACHINE_PATHS {
            if line.contains(needle) {
                let message =
                    format!("`{needle}…` is a path of one machine; derive it, or take it as an argument");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = "//! What it is.\n//!\n//! What it refuses.\n";

    #[track_caller]
    fn check_text(path: &str, text: &str, expected: Option<(usize, &str)>) {
        let got: Vec<_> =
            check(Path::new(path), text).into_iter().map(|finding| (finding.line, finding.message)).collect();
        match expected {
            None => assert_eq!(got, [], "{path}: {text}"),
            Some((line, part)) => {
                assert!(got.len() == 1 && got[0].0 == line && got[0].1.contains(part), "{path}: {got:?}");
            }
        }
    }

    #[test]
    fn module_docs_say_what_and_what_not() {
        check_text("a.rs", DOCS, None);
        check_text("a.rs", "//! What it is, at some\n//! length.\n//!\n//! What it refuses.\n", None);
        check_text("a.rs", "//! What it is.\n", Some((1, "line 3")));
        check_text("a.rs", "//! What it is.\n//!\nfn main() {}\n", Some((1, "line 3")));
        check_text("a.rs", "fn main() {}\n", Some((1, "line 1")));
        check_text("a.toml", "", None);
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let long = format!("{DOCS}{}", "x();\n".repeat(LINES_MAX - 3));
        check_text("a.rs", &long, None);
        check_text("a.rs", &format!("{long}#[cfg(test)]\n{long}"), None);
        check_text("a.rs", &format!("{long}x();\n"), Some((501, "501 lines")));
        check_text("a/tests.rs", &format!("{long}x();\n"), None);
        check_text("a/tests/whole.rs", &format!("{long}x();\n"), None);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        check_text("a.md", "see /home/me/x\n", Some((1, "/home/")));
        check_text("a.rs", &format!("{DOCS}// /work/x\n"), Some((4, "/work/")));
        check_text("a.md", "a framework/plugin, /workers, at the root/\n", None);
    }
}
