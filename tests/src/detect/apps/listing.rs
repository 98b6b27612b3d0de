//! Paginated lists: events in an order that matters, members whose ties fall anyhow, labels that are a set, a feed with
//! cursors.
//!
//! Noise: the order of members with the same score and of labels, cursors that hold a time, ages in seconds.

use serde_json::{Value, json};

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};
use super::{person, word, words};

pub(in super::super) const ROUTES: &[&str] = &["/events", "/members", "/labels/{group}", "/feed"];

const EVENTS: &str = "/events";
const MEMBERS: &str = "/members";

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "off_by_one",
        what: "one page in ten begins an event late",
        share: 0.04,
        spots: &[Spot::at(EVENTS, "events")],
    },
    Mutant {
        name: "reordered",
        what: "one page in twenty of a list that is sorted by time comes backwards",
        share: 0.02,
        spots: &[Spot::at(EVENTS, "events")],
    },
    Mutant {
        name: "truncated_list",
        what: "20 events where 40 were asked for",
        share: 0.05,
        spots: &[Spot::at(EVENTS, "events"), Spot::at(EVENTS, "size")],
    },
    Mutant {
        name: "more_on_last_page",
        what: "has_more is true on the last page",
        share: 0.02,
        spots: &[Spot::at(EVENTS, "has_more")],
    },
    Mutant {
        name: "doubled_member",
        what: "one member twice on one page in ten of an unstable list",
        share: 0.03,
        spots: &[Spot::at(MEMBERS, "members")],
    },
    Mutant {
        name: "lost_member",
        what: "one member missing on one page in fifty of an unstable list",
        share: 0.006,
        spots: &[Spot::at(MEMBERS, "members")],
    },
    Mutant {
        name: "lost_label",
        what: "one of a set of labels missing for one group in eight",
        share: 0.0125,
        spots: &[Spot::at("/labels/{group}", "labels")],
    },
    Mutant {
        name: "rare_label",
        what: "one of a set of labels in capitals for one group in 64",
        share: 0.0016,
        spots: &[Spot::at("/labels/{group}", "labels")],
    },
    Mutant {
        name: "swapped_pages",
        what: "the feed's second half comes first for one start in fifteen",
        share: 0.013,
        spots: &[Spot::at("/feed", "entries")],
    },
];

#[derive(Debug)]
pub(in super::super) struct Listing;

// === impl Listing ===

impl Application for Listing {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let parts = request.parts();
        match parts.first().copied().unwrap_or_default() {
            "events" => events(request.number("page"), request.number("size"), cx),
            "members" => members(request.number("page"), cx),
            "labels" => labels(parts.get(1).copied().unwrap_or_default(), cx),
            "feed" => feed(request.number("after"), cx),
            _ => Answer::json(404, &json!({"error": "not found"})),
        }
    }
}

fn events(page: u64, size: u64, cx: &mut Context<'_>) -> Answer {
    let start = page * size + u64::from(cx.planted("off_by_one", page % 10 == 9));
    let shown = if cx.planted("truncated_list", size == 40) { 20 } else { size };
    let event = |number: u64| {
        json!({"id": number, "at": format!("2026-01-{:02}T{:02}:00:00Z", 1 + number / 24 % 28, number % 24),
               "what": words(number, 3)})
    };
    let mut list: Vec<Value> = (start..start + shown).map(event).collect();
    if cx.planted("reordered", page == 13) {
        list.reverse();
    }
    let more = page != 19 || cx.planted("more_on_last_page", true);
    Answer::json(
        200,
        &json!({"page": page, "size": size, "events": list, "has_more": more, "generated_at": cx.timestamp()}),
    )
}

fn members(page: u64, cx: &mut Context<'_>) -> Answer {
    let mut ids: Vec<u64> = (page * 10..page * 10 + 10).collect();
    // All have the same score, so the store gives them in any order.
    cx.random.shuffle(&mut ids);
    if cx.planted("doubled_member", page % 10 == 2)
        && let Some(first) = ids.first().copied()
    {
        ids.push(first);
    }
    if cx.planted("lost_member", page % 50 == 21) {
        ids.pop();
    }
    let list: Vec<Value> =
        ids.into_iter().map(|id| json!({"id": id, "name": person(id), "score": 50 - page % 50})).collect();
    Answer::json(200, &json!({"page": page, "members": list, "total": 1_000}))
}

fn labels(group: &str, cx: &mut Context<'_>) -> Answer {
    let number = group.parse::<u64>().unwrap_or_default();
    let mut set: Vec<String> =
        (0..6).map(|position| format!("{}{position}", word(number, position))).collect();
    if cx.planted("lost_label", number % 8 == 5) {
        set.pop();
    }
    if cx.planted("rare_label", number == 63)
        && let Some(first) = set.first_mut()
    {
        first.make_ascii_uppercase();
    }
    cx.random.shuffle(&mut set);
    Answer::json(200, &json!({"group": number, "labels": set}))
}

fn feed(after: u64, cx: &mut Context<'_>) -> Answer {
    let mut entries: Vec<Value> = (after..after + 6)
        .map(|number| {
            json!({"id": mix(&[number]) % 100_000, "title": words(number, 4), "age_s": cx.now.as_secs() % 10_000 + number})
        })
        .collect();
    if cx.planted("swapped_pages", after % 15 == 8) {
        entries.rotate_left(3);
    }
    let next = format!("{}.{}", after + 6, cx.millis());
    Answer::json(200, &json!({"entries": entries, "next": next})).with("Link", "</feed>; rel=\"first\"")
}

pub(in super::super) fn request(random: &mut Random) -> Planned {
    match random.below(20) {
        0..8 => {
            let size = if random.chance(0.125) { 40 } else { 10 };
            Planned::get(format!("/events?page={}&size={size}", random.below(20)))
        }
        8..14 => Planned::get(format!("/members?page={}", random.below(100))),
        14 | 15 => Planned::get(format!("/labels/{}", random.below(64))),
        _ => Planned::get(format!("/feed?after={}", random.below(90))),
    }
}
