//! A Rust file as `tidy` sees it: the paths that it names, with their lines, and what no file may hold.
//!
//! Resolves no names: the first segment of a path says enough about who uses whom.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::Finding;

/// A parsed file.
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// Names that this file declares or imports; a path that starts with one of them names no crate.
    pub(super) locals: Vec<String>,
    pub(super) named: Vec<Named>,
    forbidden: Vec<Finding>,
}

/// A path that the file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Whether it stands in code for tests.
    pub(super) in_tests: bool,
    /// Inline modules around it.
    pub(super) inline_depth: usize,
}

struct Reader<'a> {
    path: &'a Path,
    locals: Vec<String>,
    named: Vec<Named>,
    forbidden: Vec<Finding>,
    tests_depth: usize,
    inline_depth: usize,
}

// === impl Source ===

impl Source {
    pub(super) fn parse(path: &Path, text: &str) -> anyhow::Result<Self> {
        let file = syn::parse_file(text).with_context(|| format!("failed to parse {}", path.display()))?;
        let whole_file_is_tests = path.file_stem().is_some_and(|stem| stem == "tests")
            || path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "benches");
        let mut reader = Reader {
            path,
            locals: Vec::new(),
            named: Vec::new(),
            forbidden: Vec::new(),
            tests_depth: usize::from(whole_file_is_tests),
            inline_depth: 0,
        };
        reader.visit_file(&file);
        let Reader { path, locals, named, forbidden, tests_depth: _, inline_depth: _ } = reader;
        Ok(Self { path: path.to_path_buf(), locals, named, forbidden })
    }

    /// Attributes and macros that no file may hold.
    pub(super) fn forbidden(&self) -> Vec<Finding> {
        self.forbidden.clone()
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn name(&mut self, segments: Vec<String>, line: usize) {
        let (in_tests, inline_depth) = (self.tests_depth > 0, self.inline_depth);
        self.named.push(Named { segments, line, in_tests, inline_depth });
    }

    fn forbid(&mut self, line: usize, message: &str) {
        self.forbidden.push(Finding::new(self.path, line, message));
    }

    /// Flattens `a::{b, c::d}` into `a::b` and `a::c::d`.
    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => {
                // `use a;` keeps the crate's own name; `use a::b;` and `use a::b::{self};` make `b` a local one.
                let local =
                    if name.ident == "self" { before.last().cloned() } else { Some(name.ident.to_string()) };
                self.locals.extend(local.filter(|_| !before.is_empty()));
                self.name(with(&name.ident), name.span().start().line);
            }
            syn::UseTree::Rename(rename) => {
                self.locals.push(rename.rename.to_string());
                self.name(with(&rename.ident), rename.span().start().line);
            }
            syn::UseTree::Glob(glob) => self.name(before.to_vec(), glob.span().start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, before)),
        }
    }

    /// Macros and attributes hold tokens, not paths; `a::b` in them is an identifier, two colons, another one.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut segments: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_path(&mut segments, line);
                        line = ident.span().start().line;
                    }
                    segments.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !segments.is_empty() => colons += 1,
                TokenTree::Group(group) => {
                    self.end_path(&mut segments, line);
                    colons = 0;
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end_path(&mut segments, line);
                    colons = 0;
                }
            }
        }
        self.end_path(&mut segments, line);
    }

    fn end_path(&mut self, segments: &mut Vec<String>, line: usize) {
        if segments.len() > 1 {
            self.name(segments.clone(), line);
        }
        segments.clear();
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.locals.push(item.ident.to_string());
        let tests = usize::from(is_for_tests(&item.attrs));
        let inline = usize::from(item.content.is_some());
        self.tests_depth += tests;
        self.inline_depth += inline;
        visit::visit_item_mod(self, item);
        self.tests_depth -= tests;
        self.inline_depth -= inline;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let tests = usize::from(is_for_tests(&item.attrs));
        self.tests_depth += tests;
        visit::visit_item_fn(self, item);
        self.tests_depth -= tests;
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let tests = usize::from(is_for_tests(&item.attrs));
        self.tests_depth += tests;
        visit::visit_item_impl(self, item);
        self.tests_depth -= tests;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let tests = usize::from(is_for_tests(&item.attrs));
        self.tests_depth += tests;
        self.use_tree(&item.tree, &[]);
        self.tests_depth -= tests;
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.name(segments, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        let line = attribute.span().start().line;
        if attribute.path().is_ident("allow") {
            self.forbid(line, "`allow` hides without saying why; write `#[expect(…, reason = \"…\")]`");
        }
        if attribute.path().is_ident("ignore") {
            self.forbid(line, "an ignored test proves nothing; make it run, or count it as skipped");
        }
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let line = call.span().start().line;
        let last = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if ["todo", "unimplemented", "dbg"].contains(&last.as_str()) {
            self.forbid(line, &format!("`{last}!` is for work that is not done; do it, or return an error"));
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

/// True for `#[cfg(test)]` and `#[test]`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || (attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let source = Source::parse(Path::new("userspace/src/x.rs"), text).unwrap();
        let named: Vec<String> = source
            .named
            .iter()
            .filter(|named| !named.in_tests)
            .map(|named| format!("{}:{}", named.segments.join("::"), named.line))
            .collect();
        assert_eq!(named, expected, "{text}");
    }

    #[test]
    fn every_way_to_name_a_path_is_seen() {
        check("use a::{b, c::{d as e, f::*}};", &["a::b:1", "a::c::d:1", "a::c::f:1"]);
        check("fn f(x: a::B) -> Vec<c::D> {\n e::f() }", &["a::B:1", "c::D:1", "e::f:2"]);
        check("#[derive(Debug, a::Error)]\nstruct X;", &["a::Error:1"]);
        check("fn f() { b::log!(x = %c::d(1), \"a::b\"); }", &["c::d:1", "b::log:1"]);
        check("impl a::T for X {}", &["a::T:1"]);
    }

    #[test]
    fn code_for_tests_is_told_apart() {
        check("#[cfg(test)] mod tests { use a::b; }", &[]);
        check("#[cfg(test)] use a::b;", &[]);
        check("#[test] fn f() { a::b() }", &[]);
        check("#[cfg(unix)] use a::b;", &["a::b:1"]);
    }

    #[track_caller]
    fn check_forbidden(text: &str, expected: Option<(usize, &str)>) {
        let source = Source::parse(Path::new("x.rs"), text).unwrap();
        let got: Vec<_> =
            source.forbidden().into_iter().map(|finding| (finding.line, finding.message)).collect();
        match expected {
            None => assert_eq!(got, [], "{text}"),
            Some((line, part)) => {
                assert!(got.len() == 1 && got[0].0 == line && got[0].1.contains(part), "{text}: {got:?}");
            }
        }
    }

    #[test]
    fn what_no_file_may_hold_is_found() {
        check_forbidden("#[allow(dead_code)]\nfn f() {}", Some((1, "`allow`")));
        check_forbidden("#![allow(dead_code)]", Some((1, "`allow`")));
        check_forbidden("#[test]\n#[ignore]\nfn f() {}", Some((2, "ignored")));
        check_forbidden("fn f() {\n todo!() }", Some((2, "todo!")));
        check_forbidden("#[expect(dead_code, reason = \"r\")]\nfn f() { debug!() }", None);
    }
}
