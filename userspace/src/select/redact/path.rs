//! Places in JSON as rules write them: `$.user.ssn`, `$.items[*].iban`, `$.**.note`.
//!
//! Matches while a document is read, member by member: the cost of a step does not depend on the depth.

/// One place in JSON, or many that look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(Box<[u8]>),
    AnyMember,
    AnyItem,
    /// Members and items to any depth, also none.
    Deep,
}

/// How much of a path lies behind: a bit for each number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress(u64);

/// Where a document is gone down to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Down<'a> {
    Member(&'a [u8]),
    Item,
}

/// Steps of a path: one bit less than a word has.
const STEPS_MAX: usize = 63;

// === impl JsonPath ===

impl JsonPath {
    /// Reads a path; none when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('$')?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix("[*]") {
                steps.push(Step::AnyItem);
                rest = behind;
                continue;
            }
            rest = rest.strip_prefix('.')?;
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (name, behind) = rest.split_at_checked(end)?;
            steps.push(match name {
                "" => return None,
                "*" => Step::AnyMember,
                "**" => Step::Deep,
                name => Step::Member(name.as_bytes().into()),
            });
            rest = behind;
        }
        (steps.len() <= STEPS_MAX).then_some(Self(steps))
    }

    /// Nothing of a document lies behind.
    pub(super) fn begin(&self) -> Progress {
        self.skip(Progress(1))
    }

    /// One member or item further down.
    pub(super) fn step(&self, progress: Progress, down: Down<'_>) -> Progress {
        let mut next = 0_u64;
        for (at, step) in self.0.iter().enumerate() {
            let bit = 1_u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or_default();
            if progress.0 & bit == 0 {
                continue;
            }
            let moves = match (step, down) {
                (Step::Deep, _) => {
                    next |= bit;
                    continue;
                }
                (Step::Member(name), Down::Member(have)) => **name == *have,
                (Step::AnyMember, Down::Member(_)) | (Step::AnyItem, Down::Item) => true,
                (Step::Member(_) | Step::AnyMember, Down::Item) | (Step::AnyItem, Down::Member(_)) => false,
            };
            if moves {
                next |= bit << 1;
            }
        }
        self.skip(Progress(next))
    }

    /// True when all steps lie behind.
    pub(super) fn is_there(&self, progress: Progress) -> bool {
        progress
            .0
            .checked_shr(u32::try_from(self.0.len()).unwrap_or(u32::MAX))
            .is_some_and(|bits| bits & 1 == 1)
    }

    /// A step to any depth may be none.
    fn skip(&self, Progress(mut bits): Progress) -> Progress {
        for (at, step) in self.0.iter().enumerate() {
            let bit = 1_u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or_default();
            if *step == Step::Deep && bits & bit != 0 {
                bits |= bit << 1;
            }
        }
        Progress(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, down: &[Down<'_>], expected: bool) {
        let path = JsonPath::parse(path).unwrap();
        let end = down.iter().fold(path.begin(), |progress, down| path.step(progress, *down));
        assert_eq!(path.is_there(end), expected, "{path:?} {down:?}");
    }

    #[test]
    fn a_path_is_followed_step_by_step() {
        let (a, b, item) = (Down::Member(b"a"), Down::Member(b"b"), Down::Item);
        check("$", &[], true);
        check("$.a.b", &[a, b], true);
        check("$.a.b", &[a], false);
        check("$.a.b", &[b, a], false);
        check("$.a[*].b", &[a, item, b], true);
        check("$.a[*].b", &[a, b, b], false);
        check("$.*", &[b], true);
        check("$.*", &[item], false);
        check("$.**.b", &[b], true);
        check("$.**.b", &[a, item, b], true);
        check("$.**.b", &[a, item, a], false);
        check("$.a.**", &[a, item, b], true);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["a", "$a", "$.", "$.a..b", "$[0]", "$.a[", ""] {
            assert_eq!(JsonPath::parse(text), None, "{text}");
        }
        assert_eq!(JsonPath::parse(&format!("${}", ".a".repeat(64))), None);
    }
}
