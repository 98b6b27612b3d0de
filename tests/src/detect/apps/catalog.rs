//! A JSON API: items, reviews, search, orders.
//!
//! Noise: request ids, timestamps, times taken, a view counter, facets in any order, a stock figure that lags in three
//! answers out of ten, a rare `degraded` flag, the name of the node.

use serde_json::{Value, json};

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};
use super::{person, word, words};

pub(in super::super) const ROUTES: &[&str] =
    &["/items/{id}", "/items/{id}/reviews", "/search", "/orders", "/health"];

const ITEM: &str = "/items/{id}";
const REVIEWS: &str = "/items/{id}/reviews";

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "price_rare",
        what: "a cent too much on one item in a hundred",
        share: 0.005,
        spots: &[Spot::at(ITEM, "price")],
    },
    Mutant {
        name: "price_rarer",
        what: "a cent too much on one item in five hundred",
        share: 0.001,
        spots: &[Spot::at(ITEM, "price")],
    },
    Mutant {
        name: "rare_currency",
        what: "another currency on one item in five hundred",
        share: 0.001,
        spots: &[Spot::at(ITEM, "currency")],
    },
    Mutant {
        name: "dropped_field",
        what: "no description on one item in ten",
        share: 0.05,
        spots: &[Spot::at(ITEM, "description")],
    },
    Mutant {
        name: "null_for_missing",
        what: "a null discount where there was no such key",
        share: 0.375,
        spots: &[Spot::at(ITEM, "discount")],
    },
    Mutant {
        name: "leaked_field",
        what: "the purchase price shown on every item",
        share: 0.5,
        spots: &[Spot::at(ITEM, "cost")],
    },
    Mutant {
        name: "swapped_fields",
        what: "author and title swapped in one list of reviews in twenty-five",
        share: 0.006,
        spots: &[Spot::at(REVIEWS, "author"), Spot::at(REVIEWS, "title"), Spot::at(REVIEWS, "reviews")],
    },
    Mutant {
        name: "noisy_stock",
        what: "a stock figure that flickers anyway is far off in a fifth of the answers",
        share: 0.1,
        spots: &[Spot::at(ITEM, "stock")],
    },
    Mutant {
        name: "created_as_ok",
        what: "200 in place of 201 for new orders",
        share: 0.1,
        spots: &[Spot::at("/orders", "status")],
    },
    Mutant {
        name: "total_as_text",
        what: "the number of results as a string",
        share: 0.15,
        spots: &[Spot::at("/search", "total")],
    },
    Mutant {
        name: "lost_result",
        what: "the last result missing for one search in twenty",
        share: 0.0075,
        spots: &[Spot::at("/search", "results")],
    },
];

#[derive(Debug)]
pub(in super::super) struct Catalog;

// === impl Catalog ===

impl Application for Catalog {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let parts = request.parts();
        let id = parts.get(1).and_then(|id| id.parse().ok()).unwrap_or_default();
        let answer = match (request.method(), parts.first().copied().unwrap_or_default(), parts.len()) {
            ("GET", "items", 2) => item(id, cx),
            ("GET", "items", 3) => reviews(id, cx),
            ("GET", "search", _) => search(request.query("q").unwrap_or_default(), cx),
            ("POST", "orders", _) => order(request, cx),
            ("GET", "health", _) => Answer::json(
                200,
                &json!({"status": "up", "uptime_ms": cx.millis() % 86_400_000, "pending": cx.random.below(5)}),
            ),
            (_, _, _) => Answer::json(404, &json!({"error": "not found"})),
        };
        answer.with("X-Request-Id", cx.random.uuid()).with("Cache-Control", "no-store")
    }
}

fn item(id: u64, cx: &mut Context<'_>) -> Answer {
    let mut cents = 100 + mix(&[id, 1]) % 20_000;
    if cx.planted("price_rare", id % 100 == 17) || cx.planted("price_rarer", id % 500 == 17) {
        cents += 1;
    }
    let currency = if cx.planted("rare_currency", id % 500 == 123) { "USD" } else { "EUR" };
    let mut stock = mix(&[id, 2]) % 400;
    if cx.random.chance(0.3) {
        stock += 1;
    }
    let far_off = cx.random.chance(0.2);
    if cx.planted("noisy_stock", far_off) {
        stock += 7;
    }
    let mut value = json!({
        "id": id,
        "name": words(id, 2),
        "price": {"amount": cents as f64 / 100.0, "currency": currency},
        "stock": stock,
        "tags": [word(id, 10), word(id, 11), word(id, 12)],
        "maker": person(id),
        "description": words(id + 1, 14),
        "updated_at": format!("2026-03-{:02}T08:00:00Z", 1 + id % 28),
        "served_at": cx.timestamp(),
        "request_id": cx.random.uuid(),
        "took_ms": (cx.random.unit() * 4e3).round() / 1e3,
        "views": 1_000 + cx.served,
        "node": format!("{}-{}", cx.environment, id % 2),
    });
    if id.is_multiple_of(4) {
        value["discount"] = json!(5 + id % 20);
    } else if cx.planted("null_for_missing", true) {
        value["discount"] = Value::Null;
    }
    if cx.random.chance(0.002) {
        value["degraded"] = json!(true);
    }
    if cx.planted("leaked_field", true) {
        value["cost_price"] = json!(cents as f64 / 200.0);
    }
    if cx.planted("dropped_field", id % 10 == 3)
        && let Some(members) = value.as_object_mut()
    {
        members.remove("description");
    }
    Answer::json(200, &value).with("ETag", format!("\"{}\"", cx.random.hex(16)))
}

fn reviews(id: u64, cx: &mut Context<'_>) -> Answer {
    let swapped = cx.planted("swapped_fields", id % 25 == 4);
    let review = |number: u64| {
        let (mut author, mut title) = (person(id + number).to_owned(), words(id * 31 + number, 3));
        if swapped {
            std::mem::swap(&mut author, &mut title);
        }
        json!({"author": author, "title": title, "stars": 5 - number % 5, "text": words(id * 7 + number, 9)})
    };
    let list: Vec<Value> = (0..3 + id % 4).map(review).collect();
    Answer::json(200, &json!({"item": id, "reviews": list, "trace": cx.random.hex(32)}))
}

fn search(query: &str, cx: &mut Context<'_>) -> Answer {
    let seed = mix(&[query.bytes().fold(0, |state, byte| state * 257 % 1_000_003 + u64::from(byte))]);
    let mut results: Vec<u64> = (0..8).map(|position| mix(&[seed, position]) % 1_000).collect();
    if cx.planted("lost_result", query.ends_with("-7")) {
        results.pop();
    }
    let mut facets: Vec<Value> = (0..5)
        .map(|position| json!({"name": word(position, 3), "count": mix(&[seed, position, 9]) % 90}))
        .collect();
    cx.random.shuffle(&mut facets);
    let total = 8 + seed % 500;
    let total = if cx.planted("total_as_text", true) { json!(total.to_string()) } else { json!(total) };
    Answer::json(
        200,
        &json!({"query": query, "total": total, "results": results, "facets": facets, "elapsed_us": cx.random.below(9_000)}),
    )
}

fn order(request: Request<'_>, cx: &mut Context<'_>) -> Answer {
    let wanted: Value = serde_json::from_slice(request.body).unwrap_or_default();
    let status = if cx.planted("created_as_ok", true) { 200 } else { 201 };
    let number = cx.random.uuid();
    let value = json!({
        "order": number, "item": wanted["item"], "quantity": wanted["quantity"], "state": "accepted",
        "created_at": cx.timestamp(),
    });
    Answer::json(status, &value).with("Location", format!("/orders/{number}"))
}

pub(in super::super) fn request(random: &mut Random) -> Planned {
    let id = random.below(1_000);
    match random.below(20) {
        0..10 => Planned::get(format!("/items/{id}")),
        10..13 => Planned::get(format!("/items/{id}/reviews")),
        13..16 => {
            let text = word(random.below(6), 0);
            Planned::get(format!("/search?q={text}-{}", random.below(20)))
        }
        16..18 => {
            let body = json!({"item": id, "quantity": 1 + random.below(5)}).to_string();
            Planned::post("/orders", "application/json", body)
        }
        _ => Planned::get("/health".to_owned()),
    }
}
