//! The reference of the configuration, made from the template that `understudy config template` prints.
//!
//! Adds nothing to what the template says; a test reads that back and compares it with the program's defaults.

use std::fmt::Write as _;

use super::TEMPLATE;

/// What a line of the template is.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    /// The header of a table; `off` when it is commented out.
    Table {
        header: &'a str,
        off: bool,
    },
    /// A key with the value that it has when it is left out, or an example of one that has to be there.
    Key {
        name: &'a str,
        value: &'a str,
        default: bool,
    },
    /// An example, or a key that has no default.
    Code(&'a str),
    /// Words.
    Words(&'a str),
    Blank,
}

/// Keys that belong together, and what is said of them.
#[derive(Debug, Default)]
struct Group<'a> {
    words: Vec<&'a str>,
    code: Vec<&'a str>,
    keys: Vec<(&'a str, &'a str, bool)>,
}

const HEAD: &str = "# Configuration reference

Made by `cargo xtask docs` from the template that `understudy config template` prints; do not edit this page.

One TOML file, named by `--config FILE`. Unknown keys are refused; `understudy config check FILE` names what is wrong with line and
key, and `understudy doctor --config FILE` says whether what it names is there. SIGHUP reads the file again: what may change at run
time is what [[experiment]] selects and how it compares; all other keys that differ are named, take a restart, and nothing changes
until then.

A value behind a key is its default unless it says *example*. Sizes are bytes, times have a unit (`\"500ms\"`, `\"10s\"`, `\"1h\"`).
";

/// What stands behind a value that is no default, in the template.
const EXAMPLE: &str = " # example";

/// The page, as Markdown.
pub fn document() -> String {
    page_of(TEMPLATE)
}

fn page_of(template: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut group = Group::default();
    for line in template.lines().map(read).skip_while(|line| !matches!(line, Line::Table { .. })) {
        match line {
            Line::Table { header, off } => {
                group.write(&mut page);
                let off = if off { ", off unless it is there" } else { "" };
                // Writing into a string cannot fail.
                write!(page, "\n## `{header}`{off}\n").unwrap_or_default();
            }
            Line::Key { name, value, default } => group.keys.push((name, value, default)),
            Line::Code(text) => {
                group.write_if_full(&mut page);
                group.code.push(text);
            }
            Line::Words(text) => {
                // Words behind an example are about something else. A key there is what the example is of.
                if !group.code.is_empty() {
                    group.write(&mut page);
                }
                group.write_if_full(&mut page);
                group.words.push(text);
            }
            Line::Blank => group.write(&mut page),
        }
    }
    group.write(&mut page);
    page
}

fn read(line: &str) -> Line<'_> {
    let (text, off) = match line.strip_prefix('#') {
        Some(comment) => (comment.strip_prefix(' ').unwrap_or(comment), true),
        None => (line, false),
    };
    if text.is_empty() {
        return Line::Blank;
    }
    if text.starts_with('[') && text.ends_with(']') {
        return Line::Table { header: text, off };
    }
    if text.starts_with(' ') {
        return Line::Code(text.trim_start());
    }
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match text.split_once(" = ") {
        Some((name, value)) if is_name(name) => match value.strip_suffix(EXAMPLE) {
            Some(value) => Line::Key { name, value, default: false },
            None => Line::Key { name, value, default: off },
        },
        Some(_) | None => Line::Words(text),
    }
}

// === impl Group ===

impl Group<'_> {
    /// Words behind a key begin the next group.
    fn write_if_full(&mut self, page: &mut String) {
        if !self.keys.is_empty() {
            self.write(page);
        }
    }

    fn write(&mut self, page: &mut String) {
        let Self { words, code, keys } = std::mem::take(self);
        for (name, value, default) in &keys {
            let example = if *default { "" } else { " *example*" };
            write!(page, "\n- **`{name}`** `{value}`{example}").unwrap_or_default();
        }
        if !keys.is_empty() {
            page.push('\n');
        }
        let indent = if keys.is_empty() { "" } else { "  " };
        if !words.is_empty() {
            page.push('\n');
        }
        for line in words {
            writeln!(page, "{indent}{line}").unwrap_or_default();
        }
        if !code.is_empty() {
            writeln!(page, "\n{indent}```toml").unwrap_or_default();
            code.iter().for_each(|line| writeln!(page, "{indent}{line}").unwrap_or_default());
            writeln!(page, "{indent}```").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_lines_of_a_template_apart() {
        for (line, expected) in [
            ("[capture]", Line::Table { header: "[capture]", off: false }),
            ("# [queue]", Line::Table { header: "[queue]", off: true }),
            ("ports = [8080]", Line::Key { name: "ports", value: "[8080]", default: false }),
            ("# nice = 15", Line::Key { name: "nice", value: "15", default: true }),
            ("# max = 15 # example", Line::Key { name: "max", value: "15", default: false }),
            ("#   ramp = { from = \"1%\" }", Line::Code("ramp = { from = \"1%\" }")),
            ("# Where x = y is meant.", Line::Words("Where x = y is meant.")),
            ("#", Line::Blank),
            ("", Line::Blank),
        ] {
            assert_eq!(read(line), expected);
        }
    }

    #[test]
    fn the_documentation_is_what_the_template_says() {
        let page = include_str!("../../../docs/configuration.md");
        assert!(page == document(), "docs/configuration.md is out of date: `cargo xtask docs` writes it");
    }

    #[test]
    fn what_is_said_of_an_example_stands_with_it_and_nothing_else_does() {
        let check = |lines: &str, expected: &str| {
            let page = page_of(&format!("[a]\n{lines}\n"));
            assert_eq!(page.strip_prefix(HEAD), Some(format!("\n## `[a]`\n{expected}").as_str()), "{lines}");
        };
        let code = "```toml\nkey = 1\n```\n";
        check(
            "# Of the key:\n#   key = 1\n# Of the list.\n# list = []",
            &format!("\nOf the key:\n\n{code}\n- **`list`** `[]`\n\n  Of the list.\n"),
        );
        // A key right behind an example is what that is of.
        let indented = code.replace("```", "  ```").replace("key", "  key");
        check(
            "# As here:\n#   key = 1\n# list = []",
            &format!("\n- **`list`** `[]`\n\n  As here:\n\n{indented}"),
        );
    }

    #[test]
    fn every_key_of_the_template_is_on_the_page() {
        let page = document();
        for line in TEMPLATE.lines() {
            if let Line::Key { name, value, default: _ } = read(line) {
                assert!(page.contains(&format!("**`{name}`** `{value}`")), "{name}");
            }
        }
    }
}
