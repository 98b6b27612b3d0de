//! An HTML site: a front page, articles, tags, redirects, a page for what is not there.
//!
//! Noise: CSRF tokens, script nonces, a rotating banner, a counter of visitors, the time a page took, the node.

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};
use super::{mojibake, person, word, words};

pub(in super::super) const ROUTES: &[&str] =
    &["/", "/articles/{id}", "/tags/{tag}", "/old/{id}", "/missing/{id}"];

const ARTICLE: &str = "/articles/{id}";
const OLD: &str = "/old/{id}";

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "double_encoded",
        what: "&amp;amp; in the title of one article in twelve",
        share: 0.042,
        spots: &[Spot::at(ARTICLE, "h1")],
    },
    Mutant {
        name: "missing_charset",
        what: "text/html without its charset",
        share: 0.9,
        spots: &[
            Spot::at("/", "content-type"),
            Spot::at(ARTICLE, "content-type"),
            Spot::at("/tags/{tag}", "content-type"),
            Spot::at("/missing/{id}", "content-type"),
        ],
    },
    Mutant {
        name: "lost_header",
        what: "articles without X-Frame-Options",
        share: 0.5,
        spots: &[Spot::at(ARTICLE, "x-frame-options")],
    },
    Mutant {
        name: "found_for_moved",
        what: "302 in place of 301",
        share: 0.1,
        spots: &[Spot::at(OLD, "status")],
    },
    Mutant {
        name: "wrong_redirect",
        what: "one old address in twenty leads to the next article",
        share: 0.005,
        spots: &[Spot::at(OLD, "location")],
    },
    Mutant {
        name: "soft_404",
        what: "200 for pages that are not there",
        share: 0.1,
        spots: &[Spot::at("/missing/{id}", "status")],
    },
    Mutant {
        name: "lost_paragraph",
        what: "the last paragraph missing in one article in fifty",
        share: 0.01,
        spots: &[Spot::at(ARTICLE, "article")],
    },
    Mutant {
        name: "wrong_link",
        what: "a related link leads elsewhere in one article in twenty-five",
        share: 0.02,
        spots: &[Spot::at(ARTICLE, "href")],
    },
    Mutant {
        name: "encoding_slip",
        what: "the author's name as UTF-8 of UTF-8 in one article in twenty",
        share: 0.025,
        spots: &[Spot::at(ARTICLE, "address")],
    },
    Mutant {
        name: "slow_route",
        what: "tags take 30 ms longer",
        share: 0.1,
        spots: &[Spot::Slow { route: "/tags/{tag}" }],
    },
];

#[derive(Debug)]
pub(in super::super) struct Site;

// === impl Site ===

impl Application for Site {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let parts = request.parts();
        let id = parts.get(1).and_then(|id| id.parse().ok()).unwrap_or_default();
        match (parts.first().copied().unwrap_or_default(), parts.len()) {
            ("", _) => {
                let list: String = (1..6).map(|number| link(number * 40)).collect();
                page(200, "Front page", &format!("<h1>Today</h1><ul>{list}</ul>"), cx)
            }
            ("articles", 2) => article(id, cx),
            ("tags", 2) => {
                let tag = parts.get(1).copied().unwrap_or_default();
                let list: String =
                    (0..5).map(|number| link(mix(&[tag.len() as u64, number]) % 400)).collect();
                let answer = page(200, tag, &format!("<h1>{tag}</h1><ul>{list}</ul>"), cx);
                if cx.planted("slow_route", true) { answer.slower_by(30) } else { answer }
            }
            ("old", 2) => old(id, cx),
            (_, _) => {
                let status = if cx.planted("soft_404", true) { 200 } else { 404 };
                page(status, "Not found", "<h1>Not found</h1><p>There is no such page.</p>", cx)
            }
        }
    }
}

fn link(id: u64) -> String {
    format!("<li><a href=\"/articles/{id}\">{}</a></li>", words(id, 3))
}

fn article(id: u64, cx: &mut Context<'_>) -> Answer {
    let amp = if cx.planted("double_encoded", id % 12 == 5) { "&amp;amp;" } else { "&amp;" };
    let title = format!("{} {amp} {}", word(id, 1), word(id, 2));
    let mut author = person(id).to_owned();
    // Only names with letters beyond ASCII can slip.
    if id % 20 == 4 {
        author = "Amélie Roux".to_owned();
    }
    if cx.planted("encoding_slip", id % 20 == 4) {
        author = mojibake(&author);
    }
    let paragraphs = 3 + id % 3;
    let shown = if cx.planted("lost_paragraph", id % 50 == 9) { paragraphs - 1 } else { paragraphs };
    let text: String = (0..shown).map(|number| format!("<p>{}.</p>", words(id * 9 + number, 24))).collect();
    let off = u64::from(cx.planted("wrong_link", id % 25 == 6));
    let related: String = [id + 1 + off, id + 7].map(link).concat();
    let body = format!(
        "<article id=\"a{id}\"><h1>{title}</h1><address>{author}</address>{text}<ul>{related}</ul></article>"
    );
    let answer = page(200, &format!("Article {id}"), &body, cx);
    if cx.planted("lost_header", true) { answer.without("X-Frame-Options") } else { answer }
}

fn old(id: u64, cx: &mut Context<'_>) -> Answer {
    let status = if cx.planted("found_for_moved", true) { 302 } else { 301 };
    let to = if cx.planted("wrong_redirect", id % 20 == 7) { id + 1 } else { id };
    Answer::new(status, "text/plain; charset=utf-8", "moved\n").with("Location", format!("/articles/{to}"))
}

fn page(status: u16, title: &str, body: &str, cx: &mut Context<'_>) -> Answer {
    let banner = word(cx.random.below(6), 5);
    let (token, nonce) = (cx.random.hex(32), cx.random.hex(16));
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <script nonce=\"{nonce}\">start()</script></head>\n<body><header><form action=\"/search\">\
         <input type=\"hidden\" name=\"csrf\" value=\"{token}\"><input name=\"q\"></form></header>\n\
         <aside class=\"banner\">Try {banner} today</aside>\n{body}\n\
         <footer><span class=\"visits\">{}</span><span class=\"node\">{}</span></footer></body></html>\n\
         <!-- {} us -->\n",
        5_000 + cx.served,
        cx.environment,
        cx.random.below(4_000),
    );
    let charset = if cx.planted("missing_charset", true) { "" } else { "; charset=utf-8" };
    Answer::new(status, &format!("text/html{charset}"), html)
        .with("X-Frame-Options", "DENY")
        .with("Content-Security-Policy", format!("script-src 'nonce-{nonce}'"))
        .with("Set-Cookie", format!("visit={token}; Path=/; Max-Age=600"))
}

pub(in super::super) fn request(random: &mut Random) -> Planned {
    match random.below(10) {
        0 | 1 => Planned::get("/".to_owned()),
        2..7 => Planned::get(format!("/articles/{}", random.below(600))),
        7 => Planned::get(format!("/tags/{}", word(random.below(40), 0))),
        8 => Planned::get(format!("/old/{}", random.below(400))),
        _ => Planned::get(format!("/missing/{}", random.below(200))),
    }
}
