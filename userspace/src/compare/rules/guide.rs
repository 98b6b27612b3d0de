//! Makes elements of arrays look alike that differ only where rules hide it, before arrays are aligned.
//!
//! Changes hashes, which only guide the alignment; values that are paired are still compared in full.

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

use super::super::findings::{Place, Step};
use super::super::json_text::{Node, Value};
use super::Rules;
use super::rule::{Effect, Rule};
use super::value::Text;

struct Guide<'r> {
    rules: Vec<&'r Rule>,
    value_bytes_max: usize,
    hashing: FixedState,
}

const SEED: u64 = 0x6775_6964_6500_0001;

/// Gives the values of a document hashes of what they are after the rules. Costs nothing without a rule that has a say
/// in how elements pair.
pub(in crate::compare) fn guide(node: &mut Node<'_>, rules: &Rules, value_bytes_max: usize) {
    if rules.guides.is_empty() {
        return;
    }
    let rules = rules.guides.iter().filter_map(|index| rules.rules.get(*index)).collect();
    let guide = Guide { rules, value_bytes_max, hashing: FixedState::with_seed(SEED) };
    guide.visit(node, &[]);
}

// === impl Guide ===

impl Guide<'_> {
    /// The hash of what the value is after the rules; none when a rule hides whatever it is.
    fn visit(&self, node: &mut Node<'_>, steps: &[Step<'_>]) -> Option<u64> {
        let place = Place::Json(steps);
        let hides = |rule: &&Rule| match &rule.effect {
            Effect::Ignore(at, _) => at.matches(&place),
            Effect::Clean(_, _)
            | Effect::Tolerance(_, _)
            | Effect::Unordered(_)
            | Effect::MatchBy(_, _)
            | Effect::Errors(_) => false,
        };
        let is_hidden = self.rules.iter().any(hides);
        let hash = match &mut node.value {
            Value::Array(elements) => {
                let mut hashes: Vec<u64> = elements
                    .iter_mut()
                    .enumerate()
                    .filter_map(|(index, element)| {
                        self.visit(element, &[steps, &[Step::Index(index)]].concat())
                    })
                    .collect();
                if self.rules.iter().any(|rule| rule.unorders(&place)) {
                    hashes.sort_unstable();
                }
                self.hash(b'[', hashes.iter().flat_map(|hash| hash.to_le_bytes()))
            }
            Value::Object(members) => {
                // A sum does not depend on the order of what is summed.
                let mut sum = 0_u64;
                for (key, member) in members.iter_mut() {
                    if let Some(hash) = self.visit(member, &[steps, &[Step::Key(key)]].concat()) {
                        let bytes = key.bytes().chain(hash.to_le_bytes());
                        sum = sum.wrapping_add(self.hash(b':', bytes));
                    }
                }
                self.hash(b'{', sum.to_le_bytes())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => self.scalar(node, &place),
        };
        node.hash = hash;
        (!is_hidden).then_some(hash)
    }

    fn scalar(&self, node: &Node<'_>, place: &Place<'_>) -> u64 {
        let mut text = None;
        for rule in &self.rules {
            let Effect::Clean(at, cleaning) = &rule.effect else { continue };
            if cleaning.rewrites() && at.matches(place) {
                let value = match text.take() {
                    Some(value) => value,
                    None => match Text::of(place, node, self.value_bytes_max) {
                        Ok(value) => value,
                        // The comparison of this value will say that the rule fails.
                        Err(_) => return node.hash,
                    },
                };
                text = Some(cleaning.apply(value));
            }
        }
        match text {
            Some(Text { text, quoted }) => self.hash(if quoted { b's' } else { b'n' }, text.bytes()),
            None => node.hash,
        }
    }

    fn hash(&self, tag: u8, bytes: impl IntoIterator<Item = u8>) -> u64 {
        let mut hasher = self.hashing.build_hasher();
        hasher.write_u8(tag);
        bytes.into_iter().for_each(|byte| hasher.write_u8(byte));
        hasher.finish()
    }
}
