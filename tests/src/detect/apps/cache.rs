//! A service behind a cache: quotes that move every two seconds, profiles, a configuration.
//!
//! Noise: a value that was cached at another moment, `X-Cache`, `Age`, the time of caching; one answer in fifty takes
//! 12 ms.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};
use super::{person, words};

pub(in super::super) const ROUTES: &[&str] = &["/quotes/{symbol}", "/profiles/{id}", "/config"];

const QUOTE: &str = "/quotes/{symbol}";
const PROFILE: &str = "/profiles/{id}";

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "stale_cache",
        what: "three symbols in ten are never refreshed",
        share: 0.15,
        spots: &[Spot::at(QUOTE, "price")],
    },
    Mutant {
        name: "public_profile",
        what: "Cache-Control public in place of private",
        share: 0.3,
        spots: &[Spot::at(PROFILE, "cache-control")],
    },
    Mutant {
        name: "lost_vary",
        what: "no Vary on the configuration",
        share: 0.1,
        spots: &[Spot::at("/config", "vary")],
    },
    Mutant {
        name: "key_collision",
        what: "one profile in forty is somebody else's",
        share: 0.0075,
        spots: &[Spot::at(PROFILE, "name"), Spot::at(PROFILE, "about"), Spot::at(PROFILE, "email")],
    },
    Mutant {
        name: "negative_cache",
        what: "404 for one profile in sixty that exists",
        share: 0.005,
        spots: &[Spot::at(PROFILE, "status")],
    },
    Mutant {
        name: "slow_tail",
        what: "one quote in twenty-five takes 60 ms longer",
        share: 0.024,
        spots: &[Spot::Slow { route: QUOTE }],
    },
    Mutant {
        name: "short_age",
        what: "the configuration may be kept for 6 seconds in place of 60",
        share: 0.1,
        spots: &[Spot::at("/config", "cache-control")],
    },
    Mutant {
        name: "comes_and_goes",
        what: "a wrong limit in the second half of each 2,500 requests, right in the first",
        share: 0.05,
        spots: &[Spot::at("/config", "limit")],
    },
];

/// Milliseconds for which a quote stays the same.
const QUOTE_MS: u64 = 2_000;

/// When each symbol was last put into the cache.
#[derive(Debug, Default)]
pub(in super::super) struct Cache(Mutex<HashMap<String, u64>>);

// === impl Cache ===

impl Application for Cache {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let parts = request.parts();
        let second = parts.get(1).copied().unwrap_or_default();
        let mut answer = match parts.first().copied().unwrap_or_default() {
            "quotes" => self.quote(second, cx),
            "profiles" => profile(second.parse().unwrap_or_default(), cx),
            "config" => config(cx),
            _ => Answer::json(404, &json!({"error": "not found"})),
        };
        if cx.random.chance(0.02) {
            answer = answer.slower_by(12);
        }
        answer
    }
}

impl Cache {
    fn quote(&self, symbol: &str, cx: &mut Context<'_>) -> Answer {
        let seed = symbol.bytes().fold(0, |sum, byte| sum * 31 % 100_003 + u64::from(byte));
        let period = cx.millis() / QUOTE_MS;
        let (cached, hit) = {
            let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let cached = cache.entry(symbol.to_owned()).or_default();
            let fresh = *cached == period;
            let keeps = !fresh && *cached > 0 && cx.planted("stale_cache", symbol.ends_with(['1', '4', '7']));
            if !fresh && !keeps {
                *cached = period;
            }
            (*cached, fresh || keeps)
        };
        let price = 10_000 + mix(&[seed, cached]) % 50;
        let value = json!({
            "symbol": symbol, "price": price as f64 / 100.0, "currency": "CHF",
            "cached_at": cached * QUOTE_MS, "served_at": cx.timestamp(),
        });
        let tail = cx.random.chance(0.04);
        let answer = Answer::json(200, &value)
            .with("X-Cache", if hit { "HIT" } else { "MISS" })
            .with("Age", (cx.millis() % QUOTE_MS / 1_000).to_string());
        if cx.planted("slow_tail", tail) { answer.slower_by(60) } else { answer }
    }
}

fn profile(id: u64, cx: &mut Context<'_>) -> Answer {
    if cx.planted("negative_cache", id % 60 == 11) {
        return Answer::json(404, &json!({"error": "not found"}));
    }
    let whose = if cx.planted("key_collision", id % 40 == 7) { id + 3 } else { id };
    let value = json!({
        "id": id, "name": person(whose), "about": words(whose, 8), "email": format!("user{whose}@example.org"),
        "etag": cx.random.hex(16),
    });
    let who = if cx.planted("public_profile", true) { "public" } else { "private" };
    Answer::json(200, &value).with("Cache-Control", format!("{who}, max-age=60"))
}

fn config(cx: &mut Context<'_>) -> Answer {
    let age = if cx.planted("short_age", true) { 6 } else { 60 };
    let limit = if cx.planted("comes_and_goes", cx.served % 2_500 >= 1_250) { 39 } else { 40 };
    let value = json!({"features": {"search": true, "beta": false}, "limit": limit, "node": cx.environment});
    let answer = Answer::json(200, &value)
        .with("Cache-Control", format!("max-age={age}"))
        .with("Vary", "Accept-Encoding, Accept-Language")
        .with("ETag", format!("\"{}\"", cx.random.hex(8)));
    if cx.planted("lost_vary", true) { answer.without("Vary") } else { answer }
}

pub(in super::super) fn request(random: &mut Random) -> Planned {
    match random.below(10) {
        0..6 => Planned::get(format!("/quotes/SYM{}", random.below(40))),
        6..9 => Planned::get(format!("/profiles/{}", random.below(600))),
        _ => Planned::get("/config".to_owned()),
    }
}
