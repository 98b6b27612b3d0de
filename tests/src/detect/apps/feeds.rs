//! Text in several forms: CSV, Atom, lines of JSON, plain text in two languages.
//!
//! Noise: the time at which a feed was written, a line with the time of day, ids of entries, a comment with the node.

use std::fmt::Write as _;

use serde_json::json;

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};
use super::{person, word, words};

pub(in super::super) const ROUTES: &[&str] =
    &["/export/{month}", "/feed/{topic}", "/lines/{n}", "/text/{id}"];

const EXPORT: &str = "/export/{month}";
const FEED: &str = "/feed/{topic}";
const TEXT: &str = "/text/{id}";

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "decimal_comma",
        what: "a comma for the decimal point in one month in twelve",
        share: 0.025,
        spots: &[Spot::at(EXPORT, "text"), Spot::at(EXPORT, "body"), Spot::at(EXPORT, "csv")],
    },
    Mutant {
        name: "wrong_content_type",
        what: "text/plain for CSV",
        share: 0.3,
        spots: &[Spot::at(EXPORT, "content-type")],
    },
    Mutant {
        name: "latin_1",
        what: "Latin-1 under the name of UTF-8 in German texts",
        share: 0.1,
        spots: &[Spot::at(TEXT, "text"), Spot::at(TEXT, "body")],
    },
    Mutant {
        name: "lost_row",
        what: "the last row missing in one export in forty",
        share: 0.0075,
        spots: &[Spot::at(EXPORT, "text"), Spot::at(EXPORT, "body"), Spot::at(EXPORT, "csv")],
    },
    Mutant {
        name: "lost_record",
        what: "one record missing in one answer in thirty",
        share: 0.0067,
        spots: &[
            Spot::at("/lines/{n}", "missing"),
            Spot::at("/lines/{n}", "seqsize"),
            Spot::at("/lines/{n}", "].n"),
            Spot::at("/lines/{n}", "].text"),
        ],
    },
    Mutant {
        name: "lost_attribute",
        what: "links of the feed without rel",
        share: 0.2,
        spots: &[Spot::at(FEED, "rel"), Spot::at(FEED, "link")],
    },
    Mutant {
        name: "wrong_zone",
        what: "dates one hour off for one topic in eight",
        share: 0.025,
        spots: &[Spot::at(FEED, "published")],
    },
    Mutant {
        name: "byte_order_mark",
        what: "a byte order mark in front of one text in twenty",
        share: 0.015,
        spots: &[Spot::at(TEXT, "text"), Spot::at(TEXT, "body")],
    },
    Mutant {
        name: "slow_rare",
        what: "one month in twelve takes 50 ms longer to the last byte",
        share: 0.025,
        spots: &[Spot::Slow { route: EXPORT }],
    },
];

#[derive(Debug)]
pub(in super::super) struct Feeds;

// === impl Feeds ===

impl Application for Feeds {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let parts = request.parts();
        let number = parts.get(1).and_then(|number| number.parse().ok()).unwrap_or_default();
        match parts.first().copied().unwrap_or_default() {
            "export" => export(number, cx),
            "feed" => feed(number, cx),
            "lines" => lines(number, cx),
            "text" => text(number, request, cx),
            _ => Answer::new(404, "text/plain", "not found\n"),
        }
    }
}

fn export(month: u64, cx: &mut Context<'_>) -> Answer {
    let point = if cx.planted("decimal_comma", month % 12 == 4) { ',' } else { '.' };
    let rows = 8 + month % 5;
    let shown = if cx.planted("lost_row", month % 40 == 22) { rows - 1 } else { rows };
    let mut csv = "day;customer;amount\n".to_owned();
    for row in 0..shown {
        let cents = mix(&[month, row]) % 100_000;
        let line = writeln!(
            csv,
            "2026-{:02}-{:02};{};{}{point}{:02}",
            1 + month % 12,
            1 + row,
            person(month + row),
            cents / 100,
            cents % 100
        );
        // Writing to a string does not fail.
        line.unwrap_or_default();
    }
    let media_type = if cx.planted("wrong_content_type", true) { "text/plain" } else { "text/csv" };
    let mut answer = Answer::new(200, &format!("{media_type}; charset=utf-8"), csv)
        .with("Content-Disposition", format!("attachment; filename=\"{month}.csv\""));
    if cx.planted("slow_rare", month % 12 == 8) {
        answer.midway = std::time::Duration::from_millis(50);
    }
    answer
}

fn feed(topic: u64, cx: &mut Context<'_>) -> Answer {
    let rel = if cx.planted("lost_attribute", true) { "" } else { " rel=\"alternate\"" };
    let zone = if cx.planted("wrong_zone", topic % 8 == 6) { "+01:00" } else { "Z" };
    let entries: String = (0..4)
        .map(|number| {
            format!(
                "<entry><id>urn:uuid:{}</id><title>{}</title><link{rel} href=\"/e/{}\"/>\
                 <published>2026-02-{:02}T09:00:00{zone}</published></entry>",
                cx.random.uuid(),
                words(topic * 5 + number, 4),
                topic * 5 + number,
                1 + number,
            )
        })
        .collect();
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\"><title>{}</title>\
         <updated>{}</updated><generator>{}</generator>{entries}</feed>\n",
        word(topic, 0),
        cx.timestamp(),
        cx.environment,
    );
    Answer::new(200, "application/atom+xml", xml)
}

fn lines(number: u64, cx: &mut Context<'_>) -> Answer {
    let lost = cx.planted("lost_record", number % 30 == 12);
    let text: String = (0..6)
        .filter(|record| !lost || *record != 3)
        .map(|record| {
            format!(
                "{}\n",
                json!({"n": number * 10 + record, "text": words(number + record, 3), "at": cx.timestamp()})
            )
        })
        .collect();
    Answer::new(200, "application/x-ndjson", text)
}

fn text(id: u64, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
    let german = request.field("accept-language").is_some_and(|wanted| wanted.starts_with("de"));
    let (language, first) =
        if german { ("de", "Schöne Grüße aus Köln") } else { ("en", "Kind regards from Köln") };
    let time = cx.timestamp();
    let text = format!("{first}\n{}\nIt is {time}.\n{}\n", words(id, 12), words(id + 3, 12));
    let mut body = text.into_bytes();
    if cx.planted("latin_1", german) {
        let decoded = String::from_utf8_lossy(&body).into_owned();
        body = decoded.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect();
    }
    if cx.planted("byte_order_mark", id % 20 == 9) {
        body.splice(0..0, *b"\xef\xbb\xbf");
    }
    Answer::new(200, "text/plain; charset=utf-8", body).with("Content-Language", language)
}

pub(in super::super) fn request(random: &mut Random) -> Planned {
    match random.below(10) {
        0..3 => Planned::get(format!("/export/{}", random.below(240))),
        3 | 4 => Planned::get(format!("/feed/{}", random.below(80))),
        5 | 6 => Planned::get(format!("/lines/{}", random.below(300))),
        _ => {
            let language = if random.chance(1.0 / 3.0) { "de" } else { "en" };
            Planned::get(format!("/text/{}", random.below(200))).with("Accept-Language", language)
        }
    }
}
