//! How far two values may lie apart and still count as one.
//!
//! Judges numbers against numbers and times against times; a value that is neither never lies near another.

use std::time::Duration;

use rust_decimal::Decimal;

use super::value::{Number, OutOfRange, Text, apart};

/// Counts two values at a place as one when they lie near each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToleranceRule {
    /// The place, as in `ignore`.
    pub at: String,
    /// For numbers: how far apart, such as `0.01`; or a part of the larger one, such as `0.5%`.
    pub within: Option<String>,
    /// For times: how far apart.
    pub within_time: Option<Duration>,
}

/// The checked form of a [`ToleranceRule`], without its place.
#[derive(Clone, Debug)]
pub(super) enum Tolerance {
    Absolute(Decimal),
    /// A part of the larger of both, from 0 to 1.
    Relative(Decimal),
    Time(Duration),
}

// === impl ToleranceRule ===

impl ToleranceRule {
    pub(super) fn words(&self) -> String {
        let Self { at, within, within_time } = self;
        let number = within.as_ref().map(|within| format!("within {within}"));
        let time = within_time.map(|time| format!("within_time {time:?}"));
        format!("tolerance {at} ({})", number.into_iter().chain(time).collect::<Vec<_>>().join(", "))
    }
}

// === impl Tolerance ===

impl Tolerance {
    pub(super) fn new(rule: &ToleranceRule) -> Result<Self, String> {
        let ToleranceRule { at: _, within, within_time } = rule;
        match (within, within_time) {
            (Some(within), None) => Self::of_numbers(within),
            (None, Some(time)) => Ok(Tolerance::Time(*time)),
            (Some(_), Some(_)) => {
                Err("give `within` for numbers or `within_time` for times, not both".to_owned())
            }
            (None, None) => {
                Err("says nothing: add `within = 0.01`, `within = \"1%\"` or `within_time = \"5s\"`"
                    .to_owned())
            }
        }
    }

    fn of_numbers(within: &str) -> Result<Self, String> {
        let (text, is_percent) = match within.trim().strip_suffix('%') {
            Some(percent) => (percent.trim_end(), true),
            None => (within.trim(), false),
        };
        let number = Text { text: text.into(), quoted: false }.number();
        let Ok(Some(Number::Exact(number))) = number else {
            return Err(format!(
                "`within` must be a number such as 0.01, or a percentage such as 1%, not `{within}`"
            ));
        };
        if number.is_sign_negative() {
            return Err("`within` must not be negative".to_owned());
        }
        match (is_percent, number.checked_div(Decimal::ONE_HUNDRED)) {
            (false, _) => Ok(Tolerance::Absolute(number)),
            (true, Some(part)) if part < Decimal::ONE => Ok(Tolerance::Relative(part)),
            (true, _) => Err("`within` must be below 100%".to_owned()),
        }
    }

    /// True when both values are numbers, or times, and lie near each other.
    pub(super) fn covers(&self, a: &Text<'_>, b: &Text<'_>) -> Result<bool, OutOfRange> {
        if a.quoted != b.quoted {
            return Ok(false);
        }
        let numbers = || -> Result<_, OutOfRange> { Ok(a.number()?.zip(b.number()?)) };
        Ok(match self {
            Tolerance::Time(within) => a.time().zip(b.time()).is_some_and(|(a, b)| apart(a, b) <= *within),
            Tolerance::Absolute(within) => {
                numbers()?.is_some_and(|pair| are_near(pair, *within, Decimal::ZERO))
            }
            Tolerance::Relative(part) => numbers()?.is_some_and(|pair| are_near(pair, Decimal::ZERO, *part)),
        })
    }
}

/// True when the distance of both is at most `within` and `part` of the larger.
fn are_near((a, b): (Number, Number), within: Decimal, part: Decimal) -> bool {
    if let (Number::Exact(a), Number::Exact(b)) = (a, b)
        && let (Some(distance), Some(of_larger)) = (a.checked_sub(b), part.checked_mul(a.abs().max(b.abs())))
        && let Some(allowed) = within.checked_add(of_larger)
    {
        return distance.abs() <= allowed;
    }
    // Numbers beyond 28 digits.
    let (a, b) = (a.to_f64(), b.to_f64());
    let [within, part] = [within, part].map(|exact| Number::Exact(exact).to_f64());
    (a - b).abs() <= within + part * a.abs().max(b.abs())
}
