//! Decides which exchanges an experiment wants.
//!
//! Sends nothing and changes nothing. Each exchange that is not wanted leaves with the [`Fate`] that says why.

#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::panic
)]

mod header;
mod host;
pub mod redact;
mod route;
mod run_if;
mod sample;
mod session;
#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail by panicking")]
mod tests;

use std::sync::Arc;

use crate::model::{Exchange, Fate, Mark, REPLAY_HEADER, is_token};

use header::Condition;
use host::Hosts;
use route::Routes;
use run_if::RunIf;
use sample::Sampler;

pub use sample::{Ramp, Sample, SampleBy};
pub use session::{SessionBy, SessionByError};

/// The route label of an exchange when no routes are configured.
pub const ROUTE_OTHER: &str = "other";

/// Which exchanges an experiment wants, as the configuration says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SelectConfig {
    /// Methods that are wanted, compared with their case (RFC 9110 section 9.1). Default: `GET`, `HEAD`,
    /// `OPTIONS`; all methods when `isolated`.
    pub methods: Option<Vec<String>>,
    /// Paths that are wanted: `/items/{id}`, `/static/{*rest}`, or `~` and a regular expression that has to match
    /// the whole path. The first that matches names the route. Default: every path.
    pub routes: Vec<String>,
    /// Hosts that are wanted: `shop.example.org`, or `*.example.org` for all names below it. Default: every host.
    pub hosts: Vec<String>,
    /// Conditions that all have to hold: `name` (present), `!name` (absent), `name: value` (one field of that
    /// name has this value), `name: ~regex` (one field's whole value matches). Default: none.
    pub headers: Vec<String>,
    /// Conditions on the request that all have to hold: `header NAME`, `query NAME` or `cookie NAME`, each alone
    /// (present), with `!` in front (absent), or with `: value` or `: ~regex` behind; `method: NAME`. Default: none.
    pub run_if: Vec<String>,
    /// The part of the exchanges that is wanted. Default: all.
    pub sample: Sample,
    /// True when the candidate may be sent methods that have effects. Default: false.
    pub isolated: bool,
}

/// Why a [`SelectConfig`] cannot be used. Names the pattern and its problem.
#[derive(Debug, thiserror::Error)]
pub enum SelectConfigError {
    /// A method that no request can have.
    #[error("method `{method}` is not a token (RFC 9110 section 5.6.2)")]
    Method {
        /// As configured.
        method: String,
    },
    /// A route that is neither a path nor a regular expression.
    #[error("route `{pattern}` must begin with `/`, or with `~` when it is a regular expression")]
    RouteStart {
        /// As configured.
        pattern: String,
    },
    /// A path pattern that does not parse.
    #[error("route `{pattern}` does not parse")]
    RoutePath {
        /// As configured.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: matchit::InsertError,
    },
    /// A regular expression that does not parse, or is too large.
    #[error("the regular expression in `{pattern}` does not parse")]
    Regex {
        /// As configured.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
    /// A host that no request can name.
    #[error("host `{host}` must be a name, an address, or `*.` and a name; without scheme, port and path")]
    Host {
        /// As configured.
        host: String,
    },
    /// A header condition without a usable name.
    #[error("header condition `{condition}` must read `name`, `!name`, `name: value` or `name: ~regex`")]
    Header {
        /// As configured.
        condition: String,
    },
    /// A condition that says nothing we know.
    #[error(
        "condition `{condition}` must read `header NAME`, `query NAME` or `cookie NAME`, alone, with `!` in front, or with `: value` or `: ~regex` behind; or `method: NAME`"
    )]
    RunIf {
        /// As configured.
        condition: String,
    },
    /// A sample that is not between nothing and everything.
    #[error("sample `{sample}` must be a fraction from 0 to 1 or a percentage from 0% to 100%")]
    Sample {
        /// As configured.
        sample: String,
    },
    /// A sampling key that is not known.
    #[error("sample key `{key}` must be `flow` or `header:NAME`")]
    SampleKey {
        /// As configured.
        key: String,
    },
}

/// What becomes of one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The experiment wants it.
    Take {
        /// The route that it falls under: the pattern as configured, or [`ROUTE_OTHER`].
        route: Arc<str>,
    },
    /// The experiment does not want it, or it cannot be replayed.
    Drop(Fate),
}

/// The checked form of a [`SelectConfig`].
#[derive(Debug)]
pub struct Selector {
    methods: Methods,
    routes: Routes,
    hosts: Hosts,
    conditions: Vec<Condition>,
    run_if: Vec<RunIf>,
    sampler: Sampler,
    isolated: bool,
}

#[derive(Debug)]
enum Methods {
    /// Nothing is configured: what is safe and meant for reading. Other methods count as unsafe, not as
    /// filtered, because nobody said that they are not wanted.
    Reading,
    All,
    Listed(Vec<Box<[u8]>>),
}

// === impl SelectConfig ===

impl SelectConfig {
    /// All labels that [`Decision::Take`] can name.
    pub fn route_labels(&self) -> Vec<Arc<str>> {
        if self.routes.is_empty() {
            return vec![ROUTE_OTHER.into()];
        }
        self.routes.iter().map(|route| route.as_str().into()).collect()
    }
}

// === impl Selector ===

impl Selector {
    /// Checks every pattern once, so that [`Selector::decide`] cannot fail.
    ///
    /// # Errors
    ///
    /// The first pattern that cannot be used.
    pub fn new(config: SelectConfig) -> Result<Self, SelectConfigError> {
        let SelectConfig { methods, routes, hosts, headers, run_if, sample, isolated } = config;
        let methods = match methods {
            Some(listed) => Methods::listed(listed)?,
            None if isolated => Methods::All,
            None => Methods::Reading,
        };
        Ok(Self {
            methods,
            routes: Routes::new(&routes)?,
            hosts: Hosts::new(&hosts)?,
            conditions: headers.iter().map(|text| Condition::parse(text)).collect::<Result<_, _>>()?,
            run_if: run_if.iter().map(|text| RunIf::parse(text)).collect::<Result<_, _>>()?,
            sampler: Sampler::new(sample),
            isolated,
        })
    }

    /// Goes on where `before` was: a ramp that did not change does not begin again.
    pub fn take_over(&mut self, before: &Selector) {
        self.sampler.take_over(&before.sampler);
    }

    /// Decides about one exchange. Allocates nothing; a few hundred nanoseconds without regular expressions.
    ///
    /// The replay header is looked at first, so that our own requests are never counted as anything else. Then
    /// come the filters, and only what passes them is asked whether it can be replayed: those counts then speak
    /// of exchanges that the experiment would have wanted.
    pub fn decide(&self, exchange: &Exchange) -> Decision {
        match self.route_or_fate(exchange) {
            Ok(route) => Decision::Take { route: Arc::clone(route) },
            Err(fate) => Decision::Drop(fate),
        }
    }

    fn route_or_fate(&self, exchange: &Exchange) -> Result<&Arc<str>, Fate> {
        let request = &exchange.request;
        if request.headers.get(REPLAY_HEADER).is_some() {
            return Err(Fate::Replay);
        }
        if !self.methods.wants(&request.method, request.is_safe()) {
            return Err(Fate::FilteredMethod);
        }
        let route = self.routes.find(request.path()).ok_or(Fate::FilteredRoute)?;
        if !self.hosts.wants(request) {
            return Err(Fate::FilteredHost);
        }
        if !self.conditions.iter().all(|condition| condition.holds(&request.headers)) {
            return Err(Fate::FilteredHeader);
        }
        if !self.run_if.iter().all(|condition| condition.holds(request)) {
            return Err(Fate::FilteredRunIf);
        }
        if !self.sampler.wants(exchange) {
            return Err(Fate::SampledOut);
        }
        if !replayable(exchange) {
            return Err(Fate::NotReplayable);
        }
        if !self.isolated && !request.is_safe() {
            return Err(Fate::UnsafeMethod);
        }
        if exchange.response.is_none() || exchange.marks.has(Mark::NoResponse) {
            return Err(Fate::NoResponse);
        }
        Ok(route)
    }
}

/// True when the request was seen whole and means the same to every reader.
fn replayable(exchange: &Exchange) -> bool {
    let Exchange { id: _, flow: _, request, response: _, interim: _, times: _, marks } = exchange;
    let whole = request.body.complete && !request.body.is_cut();
    let plain = ![Mark::Ambiguous, Mark::Conflict, Mark::Upgraded].into_iter().any(|mark| marks.has(mark));
    whole && plain && &request.method[..] != b"CONNECT"
}

// === impl Methods ===

impl Methods {
    fn listed(methods: Vec<String>) -> Result<Self, SelectConfigError> {
        if let Some(method) = methods.iter().find(|method| !is_token(method.as_bytes())) {
            return Err(SelectConfigError::Method { method: method.clone() });
        }
        Ok(Methods::Listed(
            methods.into_iter().map(|method| method.into_bytes().into_boxed_slice()).collect(),
        ))
    }

    fn wants(&self, method: &[u8], safe: bool) -> bool {
        match self {
            // TRACE is safe, yet asks for nothing that a service's own code would answer.
            Methods::Reading => !safe || method != b"TRACE",
            Methods::All => true,
            Methods::Listed(methods) => methods.iter().any(|listed| **listed == *method),
        }
    }
}
