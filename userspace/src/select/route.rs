//! Which configured route a path falls under.
//!
//! Never decodes or normalises the path: `/a%2Fb` is not `/a/b`, as it is not to the service.

use std::sync::Arc;

use matchit::Router;
use regex::bytes::{Regex, RegexBuilder};

use super::{ROUTE_OTHER, SelectConfigError};

/// Memory that one compiled expression may take. The regex crate matches in linear time, so that size is all
/// there is to bound.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The configured routes in their order.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
    other: Arc<str>,
}

#[derive(Debug)]
struct Route {
    label: Arc<str>,
    pattern: Pattern,
}

#[derive(Debug)]
enum Pattern {
    /// A pattern without parameters; compared without a router.
    Exact,
    /// One router for each pattern: matchit refuses two of one shape in one router, and with several it
    /// would prefer the more special one where the configuration's order decides.
    Path(Box<Router<()>>),
    Regex(Regex),
}

// === impl Routes ===

impl Routes {
    pub(super) fn new(patterns: &[String]) -> Result<Self, SelectConfigError> {
        let routes = patterns.iter().map(|pattern| Route::parse(pattern)).collect::<Result<_, _>>()?;
        Ok(Self { routes, other: ROUTE_OTHER.into() })
    }

    /// The label of the first route that matches; [`ROUTE_OTHER`] when none is configured.
    pub(super) fn find(&self, path: &[u8]) -> Option<&Arc<str>> {
        if self.routes.is_empty() {
            return Some(&self.other);
        }
        self.routes.iter().find(|route| route.matches(path)).map(|route| &route.label)
    }
}

// === impl Route ===

impl Route {
    fn parse(pattern: &str) -> Result<Self, SelectConfigError> {
        let label = Arc::from(pattern);
        if let Some(expression) = pattern.strip_prefix('~') {
            return Ok(Self { label, pattern: Pattern::Regex(whole_match(expression, pattern)?) });
        }
        if !pattern.starts_with('/') {
            return Err(SelectConfigError::RouteStart { pattern: pattern.to_owned() });
        }
        if !pattern.contains(['{', '}']) {
            return Ok(Self { label, pattern: Pattern::Exact });
        }
        let mut router = Router::new();
        router
            .insert(pattern, ())
            .map_err(|source| SelectConfigError::RoutePath { pattern: pattern.to_owned(), source })?;
        Ok(Self { label, pattern: Pattern::Path(Box::new(router)) })
    }

    fn matches(&self, path: &[u8]) -> bool {
        match &self.pattern {
            Pattern::Exact => self.label.as_bytes() == path,
            // A path that is not UTF-8 is no path that a pattern could spell.
            Pattern::Path(router) => std::str::from_utf8(path).is_ok_and(|path| router.at(path).is_ok()),
            Pattern::Regex(regex) => regex.is_match(path),
        }
    }
}

/// Compiles an expression that has to match from the first byte to the last one, so that `~/items/\d+` does not
/// take `/old/items/7` as well. Where anything may follow, the expression says `.*`.
pub(super) fn whole_match(expression: &str, pattern: &str) -> Result<Regex, SelectConfigError> {
    let compile = |text: &str| {
        RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build().map_err(
            |source| SelectConfigError::Regex { pattern: pattern.to_owned(), source: Box::new(source) },
        )
    };
    // Compiled by itself first: `a)(b` is no expression, although it is one between our parentheses.
    compile(expression)?;
    compile(&format!(r"\A(?:{expression})\z"))
}
