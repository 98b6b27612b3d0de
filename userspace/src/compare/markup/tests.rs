//! Tests of trees as the comparator sees them.
//!
//! Look at whole answers; how a tree is built stays private.

use proptest::prelude::*;

use crate::compare::CompareConfig;
use crate::compare::tests::{check, check_with, config, lines, outcome};
use crate::model::Outcome;
use crate::model::samples::response;

const HTML: &[(&str, &str)] = &[("Content-Type", "text/html; charset=utf-8")];
const XML: &[(&str, &str)] = &[("Content-Type", "application/xml")];

#[track_caller]
fn check_html(a: &str, b: &str, expected: &[&str]) {
    check(response(200, HTML, a), response(200, HTML, b), expected);
}

#[track_caller]
fn check_xml(a: &str, b: &str, expected: &[&str]) {
    check(response(200, XML, a), response(200, XML, b), expected);
}

#[test]
fn spelling_of_a_page_is_no_difference() {
    let a = "<!DOCTYPE html><html><body class='a b' id=x><ul><li>one<li>two</ul><p>x &amp; y</body></html>";
    let b = "<!doctype html>\n<HTML>\n <!-- hello -->\n <body id=\"x\" CLASS=\"b  a\">\n  <ul>\n   <li> one </li>\n   \
             <li>two</li>\n  </ul>\n  <p>\n   x\n   &#38; y\n  </p>\n </body>\n</html>\n";
    check_html(a, b, &[]);
}

#[test]
fn space_between_words_counts() {
    check_html("<p><b>a</b> <i>b</i></p>", "<p><b>a</b><i>b</i></p>", &["html:/p[1]/text() missing   -"]);
    check_html("<pre>a  b</pre>", "<pre>a b</pre>", &["html:/pre[1]/text() value a  b a b"]);
    check_html("<p>a <b>b</b></p>", "<p>a<b>b</b></p>", &["html:/p[1]/text() value a  a"]);
}

#[test]
fn places_are_paths() {
    let expected =
        ["html:/html[1]/body[1]/div[2]/@class value x y", "html:/html[1]/body[1]/div[2]/text() value 2 3"];
    check_html(
        "<html><body><div>1</div><div class=x>2</div></body></html>",
        "<html><body><div>1</div><div class=y>3</div></body></html>",
        &expected,
    );
    let Outcome::Mismatch { differences, ignored: _, omitted: _ } = outcome(
        CompareConfig::default(),
        response(200, HTML, "<ul><li>1<li>2</ul>"),
        response(200, HTML, "<ul><li>1<li>3</ul>"),
    ) else {
        panic!("a text differs")
    };
    assert_eq!(differences[0].path, "html:/ul/li/text()");
}

#[test]
fn an_inserted_or_renamed_element_is_told_for_itself() {
    check_html(
        "<ul><li>1<li>2<li>3<li>4</ul>",
        "<ul><li>1<li>x<li>2<li>3<li>4</ul>",
        &["html:/ul[1]/li[2] added - <li>x</li>"],
    );
    let expected = ["html:/p[1]/b[1] missing <b>x</b> -", "html:/p[1]/i[1] added - <i>x</i>"];
    check_html("<p><b>x</b></p>", "<p><i>x</i></p>", &expected);
    check_html(
        "<ul><li>1<li>2</ul>",
        "<ul><li>2<li>1</ul>",
        &["html:/ul[1] order <li>1</li><li>2</li> <li>2</li><li>1</li>"],
    );
}

#[test]
fn own_urls_and_nonces_are_no_difference() {
    check_html(
        "<a href='http://shop.example:8080/a'>x</a><script nonce=abc>f()</script>",
        "<a href='http://10.0.0.2:8080/a'>x</a><script nonce=xyz>f()</script>",
        &[],
    );
    let expected = ["html:/a[1]/@href value http://shop.example/a http://shop.example/b"];
    check_html("<a href='http://shop.example/a'></a>", "<a href='http://shop.example/b'></a>", &expected);
}

#[test]
fn xml_is_compared_as_a_tree() {
    let a = "<?xml version='1.0'?><r xmlns='u'><i a='1' b='2'>x &lt; y</i><e/></r>";
    let b = "<r xmlns=\"u\">\n  <!-- c -->\n  <i b='2' a='1'><![CDATA[x < y]]></i>\n  <e></e>\n</r>\n";
    check_xml(a, b, &[]);
    check_xml(
        "<r><i a='1'>x</i></r>",
        "<r><i a='2'>y</i></r>",
        &["xml:/r[1]/i[1]/@a value 1 2", "xml:/r[1]/i[1]/text() value x y"],
    );
    check_xml("<r> x</r>", "<r>x</r>", &["xml:/r[1]/text() value  x x"]);
}

#[test]
fn what_is_not_well_formed_is_no_xml() {
    for bad in ["<r><i></r>", "<r/><r/>", "text", "<r a='1", "", "<r>"] {
        let expected =
            if bad.is_empty() { "body missing <r/> -".to_owned() } else { format!("body type <r/> {bad}") };
        check_xml("<r/>", bad, &[&expected]);
    }
    check_xml("<r>\n<a>", "<r>\n<b>", &["text:2 value <a> <b>"]);
}

#[test]
fn entities_are_not_expanded() {
    let bomb =
        |end: &str| format!("<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><r>&b;{end}</r>");
    check_xml(&bomb("1"), &bomb("2"), &["xml:/r[1]/text() value &b;1 &b;2"]);
}

#[test]
fn rules_name_places_in_trees() {
    let (a, b) = ("<div><p id=1>x</p><p id=2>y</p></div>", "<div><p id=3>X</p><p id=4>Y</p></div>");
    let run =
        |rules: &[&str]| lines(&outcome(config(rules, &[]), response(200, HTML, a), response(200, HTML, b)));
    assert_eq!(
        run(&["html:/div/p/@id", "html:/**/text()"]),
        ["hidden html:/div/p/@id 2", "hidden html:/**/text() 2"]
    );
    assert_eq!(run(&["html:/div/**"]), ["hidden html:/div/** 4"]);
    assert_eq!(run(&["html:/div/p[2]/**", "html:/*/*/@*", "html:/**/p/text()"]).len(), 3);
    let error = |rule: &str| crate::compare::Comparator::new(config(&[rule], &[])).unwrap_err().to_string();
    assert_eq!(error("html:a"), "`ignore` rule `html:a`: a path into a tree begins with `/`");
    assert_eq!(error("xml:/a[0]"), "`ignore` rule `xml:/a[0]`: `[0]` is no position, counted from 1");
    assert_eq!(error("html:/a*"), "`ignore` rule `html:/a*`: `a*`: a wildcard stands for a whole name");
}

#[test]
fn deep_pages_are_flat_and_deep_xml_is_incomparable() {
    let deep = |end: &str| format!("{}{end}", "<div>".repeat(20_000));
    let compared =
        outcome(CompareConfig::default(), response(200, HTML, deep("1")), response(200, HTML, deep("2")));
    let Outcome::Mismatch { differences, ignored: _, omitted: 0 } = compared else { panic!("{compared:?}") };
    assert_eq!(differences.len(), 1);
    let xml = |end: &str| format!("{}{end}{}", "<d>".repeat(50_000), "</d>".repeat(50_000));
    check_xml(&xml("1"), &xml("2"), &["incomparable too_deep"]);
    let mut small = CompareConfig::default();
    small.limits.values_max = 100;
    let many = |end: &str| format!("{}{end}", "<br>".repeat(101));
    check_with(
        small,
        response(200, HTML, many("1")),
        response(200, HTML, many("2")),
        &["incomparable too_deep"],
    );
}

#[test]
fn the_deepest_allowed_documents_fit_on_a_stack() {
    let mut deepest = CompareConfig::default();
    deepest.limits.depth_max = 512;
    let json = &[("Content-Type", "application/json")];
    let nested =
        |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(500), close.repeat(500));
    for (headers, open, close) in [(HTML, "<b>", "</b>"), (XML, "<b>", "</b>"), (json, "[", "]")] {
        let (a, b) = (nested(open, "1", close), nested(open, "2", close));
        let compared = outcome(deepest.clone(), response(200, headers, a), response(200, headers, b));
        assert_eq!(lines(&compared).len(), 1);
    }
}

#[test]
fn hostile_pages_take_no_longer_than_they_are_large() {
    let tags = [
        "<p>",
        "</p>",
        "<a b=c>",
        "</table>",
        "<table><tr><td>",
        "<!--",
        "<svg>",
        "&amp",
        "<a ",
        "</b ",
        "<b i",
    ];
    for tag in tags {
        let of = |end: &str| format!("{}{end}", tag.repeat(100_000 / tag.len()));
        drop(lines(&outcome(
            CompareConfig::default(),
            response(200, HTML, of("1")),
            response(200, HTML, of("2")),
        )));
    }
    let attributes: String = (0..50_000).map(|at| format!(" a{at}='1'")).collect();
    let of = |end: &str| format!("<a{attributes}>{end}</a>");
    check_xml(&of("1"), &of("2"), &["xml:/a[1]/text() value 1 2"]);
    drop(lines(&outcome(
        CompareConfig::default(),
        response(200, HTML, of("1")),
        response(200, HTML, of("2")),
    )));
}

/// A tree from which documents are written in several ways.
#[derive(Clone, Debug)]
enum Plan {
    Text(String),
    Element(usize, Vec<(usize, String)>, Vec<Plan>),
}

fn plan() -> impl Strategy<Value = Plan> {
    let leaf = "[a-z<&]{1,6}".prop_map(Plan::Text);
    leaf.prop_recursive(4, 30, 5, |inner| {
        let attributes = proptest::collection::vec((0usize..4, "[a-z\"<&]{0,4}"), 0..3);
        (0usize..3, attributes, proptest::collection::vec(inner, 0..5))
            .prop_map(|(name, attributes, children)| Plan::Element(name, attributes, children))
    })
}

/// Writes a tree; `noisy` shuffles attributes and adds comments, and space where it means nothing.
fn write(plan: &Plan, noisy: bool, out: &mut String) {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    match plan {
        Plan::Text(text) => out.push_str(&escaped(text)),
        Plan::Element(name, attributes, children) => {
            let name = ["div", "section", "article"][*name];
            let mut attributes: Vec<_> = attributes.clone();
            attributes.sort();
            attributes.dedup_by_key(|(name, _)| *name);
            if noisy {
                attributes.reverse();
            }
            out.push_str(&format!("<{name}"));
            for (at, value) in &attributes {
                out.push_str(&format!(" x{at}=\"{}\"", escaped(value)));
            }
            out.push('>');
            let only_elements = children.iter().all(|child| matches!(child, Plan::Element(..)));
            for child in children {
                if noisy {
                    out.push_str(if only_elements { "\n  <!-- c -->" } else { "<!-- c -->" });
                }
                write(child, noisy, out);
            }
            out.push_str(&format!("</{name}>"));
        }
    }
}

fn written(plan: &Plan, noisy: bool) -> String {
    let mut out = String::new();
    let root = Plan::Element(0, Vec::new(), vec![Plan::Element(1, Vec::new(), Vec::new()), plan.clone()]);
    write(&root, noisy, &mut out);
    out
}

proptest! {
    #[test]
    fn spelling_never_differs(tree in plan()) {
        let tree = Plan::Element(1, Vec::new(), vec![tree]);
        for headers in [HTML, XML] {
            let (a, b) = (response(200, headers, written(&tree, false)), response(200, headers, written(&tree, true)));
            prop_assert_eq!(outcome(CompareConfig::default(), a, b), Outcome::Match);
        }
    }

    #[test]
    fn two_trees_that_are_written_differently_differ(x in plan(), y in plan()) {
        let (a, b) = (written(&x, false), written(&y, false));
        for headers in [HTML, XML] {
            let compared = outcome(
                CompareConfig::default(),
                response(200, headers, a.clone()),
                response(200, headers, b.clone()),
            );
            prop_assert_eq!(compared == Outcome::Match, a == b, "{:?} {:?}", a, b);
        }
    }
}
