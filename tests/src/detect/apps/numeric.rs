//! A numeric service: conversions, statistics, an estimate by chance, big integers.
//!
//! Noise: the last digits of sums that are added in another order, the whole of an estimate, times taken.

use serde_json::json;

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};

pub(in super::super) const ROUTES: &[&str] =
    &["/convert", "/stats/{series}", "/estimate/{model}", "/big/{n}"];

const CONVERT: &str = "/convert";
const STATS: &str = "/stats/{series}";

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "wrong_rounding",
        what: "half a cent is cut off in place of rounded up",
        share: 0.008,
        spots: &[Spot::at(CONVERT, "result")],
    },
    Mutant {
        name: "swapped_currencies",
        what: "one pair of currencies in twelve is converted backwards",
        share: 0.033,
        spots: &[Spot::at(CONVERT, "result"), Spot::at(CONVERT, "from"), Spot::at(CONVERT, "to")],
    },
    Mutant {
        name: "rare_sign",
        what: "a minus before the result for one amount in four hundred",
        share: 0.001,
        spots: &[Spot::at(CONVERT, "result")],
    },
    Mutant {
        name: "lost_precision",
        what: "integers beyond 2^53 pass through a double",
        share: 0.05,
        spots: &[Spot::at("/big/{n}", "value")],
    },
    Mutant {
        name: "null_variance",
        what: "null in place of 0 for a series of one value",
        share: 0.006,
        spots: &[Spot::at(STATS, "variance")],
    },
    Mutant {
        name: "lost_outlier",
        what: "the largest value is left out of the mean of one series in twenty",
        share: 0.015,
        spots: &[Spot::at(STATS, "mean")],
    },
    Mutant {
        name: "biased_estimate",
        what: "an estimate that differs in every answer is 5 % higher on average",
        share: 0.2,
        spots: &[Spot::at("/estimate/{model}", "estimate")],
    },
    Mutant {
        name: "count_overflow",
        what: "a count wraps at 65,536 in one series in sixty",
        share: 0.005,
        spots: &[Spot::at(STATS, "count")],
    },
    Mutant {
        name: "slow_first_byte",
        what: "estimates begin 25 ms later",
        share: 0.2,
        spots: &[Spot::Slow { route: "/estimate/{model}" }],
    },
];

const CURRENCIES: [(&str, u64); 4] = [("EUR", 1_000), ("USD", 1_083), ("GBP", 857), ("JPY", 163_215)];

#[derive(Debug)]
pub(in super::super) struct Numeric;

// === impl Numeric ===

impl Application for Numeric {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let parts = request.parts();
        let number = parts.get(1).and_then(|number| number.parse().ok()).unwrap_or_default();
        match parts.first().copied().unwrap_or_default() {
            "convert" => convert(request, cx),
            "stats" => stats(number, cx),
            "estimate" => estimate(number, cx),
            "big" => big(number, cx),
            _ => Answer::json(404, &json!({"error": "not found"})),
        }
    }
}

fn rate(name: &str) -> u64 {
    CURRENCIES.iter().find(|(have, _)| *have == name).map_or(1_000, |(_, rate)| *rate)
}

/// Amounts are in thousandths, and results are rounded half up to hundredths.
fn convert(request: Request<'_>, cx: &mut Context<'_>) -> Answer {
    let (from, to) = (request.query("from").unwrap_or_default(), request.query("to").unwrap_or_default());
    let amount = request.number("amount");
    let backwards = cx.planted("swapped_currencies", (from, to) == ("USD", "GBP"));
    let (over, under) = if backwards { (rate(from), rate(to)) } else { (rate(to), rate(from)) };
    let thousandths = amount * over / under;
    let half = amount % 50 == 25;
    let shown = if half { thousandths / 10 * 10 + 5 } else { thousandths };
    let up = if cx.planted("wrong_rounding", half) { 0 } else { 5 };
    let result = ((shown + up) / 10) as f64 / 100.0;
    let result = if cx.planted("rare_sign", amount % 400 == 199) { -result } else { result };
    Answer::json(
        200,
        &json!({"from": from, "to": to, "amount": amount as f64 / 1_000.0, "result": result, "took_us": cx.random.below(900)}),
    )
}

fn stats(series: u64, cx: &mut Context<'_>) -> Answer {
    let single = series % 50 == 7;
    let many = series % 60 == 31;
    let length = if single { 1 } else { 20 };
    let mut values: Vec<f64> =
        (0..length).map(|position| (mix(&[series, position]) % 100_000) as f64 / 997.0).collect();
    if cx.planted("lost_outlier", series % 20 == 3 && !single) {
        values.sort_by(f64::total_cmp);
        values.pop();
    }
    cx.random.shuffle(&mut values);
    let sum: f64 = values.iter().sum();
    let mean = sum / values.len() as f64;
    let variance: f64 = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    let variance = if cx.planted("null_variance", single) { json!(null) } else { json!(variance) };
    let count = if many { 70_000 + series } else { 20 + series };
    let count = if cx.planted("count_overflow", many) { count % 65_536 } else { count };
    Answer::json(
        200,
        &json!({"series": series, "count": count, "mean": mean, "variance": variance, "computed_at": cx.timestamp()}),
    )
}

fn estimate(model: u64, cx: &mut Context<'_>) -> Answer {
    let truth = 100.0 + (mix(&[model]) % 500) as f64;
    let bias = if cx.planted("biased_estimate", true) { 1.05 } else { 1.0 };
    let spread = (0..4).map(|_| cx.random.unit() - 0.5).sum::<f64>() * 0.05;
    let value = json!({"model": model, "estimate": truth * bias * (1.0 + spread), "samples": 4_000});
    let answer = Answer::json(200, &value);
    if cx.planted("slow_first_byte", true) { answer.slower_by(25) } else { answer }
}

fn big(number: u64, cx: &mut Context<'_>) -> Answer {
    let value = (1u64 << 53) + number;
    // Odd integers beyond 2^53 have no double.
    let value = if cx.planted("lost_precision", number % 2 == 1) { value as f64 as u64 } else { value };
    Answer::json(200, &json!({"n": number, "value": value, "trace": cx.random.uuid()}))
}

pub(in super::super) fn request(random: &mut Random) -> Planned {
    match random.below(10) {
        0..4 => {
            let from = random.below(4) as usize;
            let to = (from + 1 + random.below(3) as usize) % 4;
            let amount = 1_000 + random.below(5_000);
            Planned::get(format!(
                "/convert?from={}&to={}&amount={amount}",
                CURRENCIES[from].0, CURRENCIES[to].0
            ))
        }
        4..7 => Planned::get(format!("/stats/{}", random.below(600))),
        7 | 8 => Planned::get(format!("/estimate/{}", random.below(50))),
        _ => Planned::get(format!("/big/{}", random.below(4_000))),
    }
}
