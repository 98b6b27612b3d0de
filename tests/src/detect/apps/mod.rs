//! The applications, one file each: its answers, its noise, its planted regressions, and what its clients ask.
//!
//! Content depends on the request alone, noise on the instance's random numbers, the time and the environment.

pub(super) mod cache;
pub(super) mod catalog;
pub(super) mod feeds;
pub(super) mod listing;
pub(super) mod numeric;
pub(super) mod sessions;
pub(super) mod site;

use super::random::mix;

const WORDS: &[&str] = &[
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "jade", "kelp",
    "lagoon", "meadow", "north", "orchard", "pine", "quartz", "river", "summit", "tundra", "umber", "valley",
    "willow", "zephyr",
];

/// Names with letters beyond ASCII among them.
const PEOPLE: &[&str] = &[
    "Amélie Roux",
    "Björn Åkesson",
    "Chloë Díaz",
    "Dmitri Orlov",
    "Elif Şahin",
    "Farah Nasser",
    "Günter Groß",
    "Hana Suzuki",
    "Ingrid Bø",
    "João Peixão",
];

/// The `position`th word of the text that `seed` stands for.
fn word(seed: u64, position: u64) -> &'static str {
    WORDS[(mix(&[seed, position]) % WORDS.len() as u64) as usize]
}

fn words(seed: u64, count: u64) -> String {
    (0..count).map(|position| word(seed, position)).collect::<Vec<_>>().join(" ")
}

fn person(seed: u64) -> &'static str {
    PEOPLE[(mix(&[seed, 77]) % PEOPLE.len() as u64) as usize]
}

/// UTF-8 read as Latin-1 and written as UTF-8 once more.
fn mojibake(text: &str) -> String {
    text.bytes().map(char::from).collect()
}
