//! The bench of detection: small applications with natural noise, versions of them with one planted regression
//! each, the traffic that they get, and Diffy's rule to compare with.
//!
//! Knows nothing of how the daemon decides. Every instance writes down what it answered, so that another rule can
//! judge exactly the answers that the daemon judged.

mod apps;
pub mod diffy;
mod lift;
mod log;
mod random;
mod serve;
mod traffic;

use std::cell::Cell;
use std::time::Duration;

use serde_json::Value;

pub use log::{Observed, read_observed};
pub use random::Random;
pub use serve::{InstanceConfig, serve};
pub use traffic::{Driven, LANES, Planned, drive, plan};

use crate::wire::{Fields, RequestHead, field};

/// The applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// A JSON API: ids, timestamps, a counter, a stock figure that flickers.
    Catalog,
    /// An HTML site: CSRF tokens, nonces, rotating banners.
    Site,
    /// Paginated lists, some in an order that changes from call to call.
    Listing,
    /// A service behind a cache: values that move with time.
    Cache,
    /// A numeric service: sums in another order, a Monte Carlo estimate.
    Numeric,
    /// Sessions with a state: log in, fill a cart, log out.
    Sessions,
    /// Text, CSV, XML and lines of JSON in several languages.
    Feeds,
}

/// A planted regression.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name, unique among all.
    pub name: &'static str,
    /// What is wrong, in a few words.
    pub what: &'static str,
    /// The share of all responses of its application that it changes, 0 to 1.
    pub share: f64,
    /// Where it shows; one of these is enough.
    pub spots: &'static [Spot],
}

/// Where a regression shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// In the answers of a route, at a path that has this part in it.
    At {
        /// The route's pattern.
        route: &'static str,
        /// A part of the path.
        part: &'static str,
    },
    /// In the times of a route.
    Slow {
        /// The route's pattern.
        route: &'static str,
    },
}

/// What an application answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields besides `Content-Length`, `Date` and `Connection`.
    pub fields: Fields,
    /// The body.
    pub body: Vec<u8>,
    /// Until the first byte.
    pub before: Duration,
    /// Between the first half of the body and the second.
    pub midway: Duration,
}

/// A request as an application sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a RequestHead,
    body: &'a [u8],
}

/// What an application may look at besides the request.
#[derive(Debug)]
pub struct Context<'a> {
    mutant: Option<&'a str>,
    changed: Cell<bool>,
    /// Noise: other numbers in every instance and for every request.
    pub random: Random,
    /// Time since 1970.
    pub now: Duration,
    /// What the instance's environment is called; B and A′ share one.
    pub environment: &'a str,
    /// Requests that the instance has had before.
    pub served: u64,
}

/// One application; its state is its own.
pub trait Application: Send + Sync {
    /// Answers one request.
    fn answer(&self, request: Request<'_>, context: &mut Context<'_>) -> Answer;
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::Catalog, Kind::Site, Kind::Listing, Kind::Cache, Kind::Numeric, Kind::Sessions, Kind::Feeds];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Catalog => "catalog",
            Kind::Site => "site",
            Kind::Listing => "listing",
            Kind::Cache => "cache",
            Kind::Numeric => "numeric",
            Kind::Sessions => "sessions",
            Kind::Feeds => "feeds",
        }
    }

    /// A fresh instance.
    pub fn application(self) -> Box<dyn Application> {
        match self {
            Kind::Catalog => Box::new(apps::catalog::Catalog),
            Kind::Site => Box::new(apps::site::Site),
            Kind::Listing => Box::new(apps::listing::Listing),
            Kind::Cache => Box::<apps::cache::Cache>::default(),
            Kind::Numeric => Box::new(apps::numeric::Numeric),
            Kind::Sessions => Box::<apps::sessions::Sessions>::default(),
            Kind::Feeds => Box::new(apps::feeds::Feeds),
        }
    }

    /// The patterns of its routes.
    pub fn routes(self) -> &'static [&'static str] {
        match self {
            Kind::Catalog => apps::catalog::ROUTES,
            Kind::Site => apps::site::ROUTES,
            Kind::Listing => apps::listing::ROUTES,
            Kind::Cache => apps::cache::ROUTES,
            Kind::Numeric => apps::numeric::ROUTES,
            Kind::Sessions => apps::sessions::ROUTES,
            Kind::Feeds => apps::feeds::ROUTES,
        }
    }

    /// Its planted regressions.
    pub fn mutants(self) -> &'static [Mutant] {
        match self {
            Kind::Catalog => apps::catalog::MUTANTS,
            Kind::Site => apps::site::MUTANTS,
            Kind::Listing => apps::listing::MUTANTS,
            Kind::Cache => apps::cache::MUTANTS,
            Kind::Numeric => apps::numeric::MUTANTS,
            Kind::Sessions => apps::sessions::MUTANTS,
            Kind::Feeds => apps::feeds::MUTANTS,
        }
    }

    /// What one of its clients sends next: one request, or the requests of a whole visit in their order.
    fn visit(self, random: &mut Random) -> Vec<Planned> {
        match self {
            Kind::Catalog => vec![apps::catalog::request(random)],
            Kind::Site => vec![apps::site::request(random)],
            Kind::Listing => vec![apps::listing::request(random)],
            Kind::Cache => vec![apps::cache::request(random)],
            Kind::Numeric => vec![apps::numeric::request(random)],
            Kind::Sessions => apps::sessions::visit(random),
            Kind::Feeds => vec![apps::feeds::request(random)],
        }
    }

    /// The route that a path falls under; none when it is none of the application's.
    pub fn route(self, path: &str) -> Option<&'static str> {
        let wanted: Vec<&str> = path.split('/').collect();
        let matches = |pattern: &&&str| {
            let parts: Vec<&str> = pattern.split('/').collect();
            parts.len() == wanted.len()
                && parts.iter().zip(&wanted).all(|(part, have)| part.starts_with('{') || part == have)
        };
        self.routes().iter().find(matches).copied()
    }
}

// === impl Spot ===

impl Spot {
    /// A place in answers; see [`Spot::At`].
    const fn at(route: &'static str, part: &'static str) -> Self {
        Spot::At { route, part }
    }
}

// === impl Answer ===

impl Answer {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let fields = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status, fields, body: body.into(), before: Duration::ZERO, midway: Duration::ZERO }
    }

    fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self
    }

    fn slower_by(mut self, ms: u64) -> Self {
        self.before += Duration::from_millis(ms);
        self
    }
}

// === impl Request ===

impl<'a> Request<'a> {
    fn new(head: &'a RequestHead, body: &'a [u8]) -> Self {
        Self { head, body }
    }

    fn method(&self) -> &'a str {
        &self.head.method
    }

    fn path(&self) -> &'a str {
        self.head.target.split('?').next().unwrap_or_default()
    }

    /// The path's parts after the first slash.
    fn parts(&self) -> Vec<&'a str> {
        self.path().trim_start_matches('/').split('/').collect()
    }

    fn query(&self, name: &str) -> Option<&'a str> {
        let (_, query) = self.head.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(have, _)| *have == name)
            .map(|(_, v)| v)
    }

    fn number(&self, name: &str) -> u64 {
        self.query(name).and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        field(&self.head.fields, name)
    }

    fn cookie(&self, name: &str) -> Option<&'a str> {
        self.field("cookie")?
            .split("; ")
            .filter_map(|pair| pair.split_once('='))
            .find(|(have, _)| *have == name)
            .map(|(_, v)| v)
    }
}

// === impl Context ===

impl Context<'_> {
    /// True when this regression is planted here and `here` says that this answer shows it; then the answer counts
    /// as changed.
    fn planted(&self, name: &str, here: bool) -> bool {
        let planted = here && self.mutant == Some(name);
        if planted {
            self.changed.set(true);
        }
        planted
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX)
    }

    /// RFC 3339 in UTC, with milliseconds.
    fn timestamp(&self) -> String {
        rfc3339(self.millis())
    }
}

/// Milliseconds since 1970 as RFC 3339 (the days by Hinnant's `civil_from_days`).
fn rfc3339(millis: u64) -> String {
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second, milli) =
        (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests;
