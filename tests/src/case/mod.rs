//! A case: a TCP connection written down segment by segment, and what has to be read out of it.
//!
//! Plays nothing. The form of the files is described in `tests/cases/README.md`.

mod numbers;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use numbers::Sent;
pub use steps::{Checksum, Side, Step};

use numbers::Numbers;

/// One folder of `tests/cases`.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// What the case asks for besides being played.
    pub options: Options,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// The `option` lines of a case.
#[derive(Clone, Debug)]
pub struct Options {
    /// Expect the whole of both directions after each step, and no exchanges.
    pub show_stream: bool,
    /// Play the case once more for each place at which its segments can be cut.
    pub cut_every: bool,
    /// Nothing says which port is the server's, also when the expected lines are made.
    pub any_port: bool,
    /// Variants that give something else, and why is in the case's README.
    pub without: Vec<Variant>,
    /// Initial sequence numbers of client and server, for each connection on the same ports.
    pub initial: Vec<(u32, u32)>,
}

/// Ways of playing a case that have to give the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Each segment comes twice.
    Twice,
    /// Nothing says which port is the server's.
    AnyPort,
}

/// One thing that a reader meets.
#[derive(Clone, Debug)]
pub enum Event {
    /// A captured IP packet.
    Packet {
        /// When it was captured, in nanoseconds since 1970.
        at_ns: u64,
        /// From its IP header on.
        bytes: Vec<u8>,
    },
    /// Time passes without a packet.
    Silence {
        /// The time afterwards.
        at_ns: u64,
    },
}

/// When the first packet of every case is captured.
const START_NS: u64 = 1_700_000_000_000_000_000;

/// Time between two segments.
const STEP_NS: u64 = 1_000_000;

// === impl Case ===

impl Case {
    /// Reads the case in a folder.
    ///
    /// # Errors
    /// When a file cannot be read, or a line not be understood.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("steps.txt");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (options, steps) =
            steps::parse(&text).with_context(|| format!("{} does not parse", path.display()))?;
        Ok(Self { name, folder: folder.to_owned(), options, steps })
    }

    /// All cases below a folder, by name.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn load_all(root: &Path) -> Result<Vec<Self>> {
        let entries = fs::read_dir(root).with_context(|| format!("failed to list {}", root.display()))?;
        let mut folders = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("failed to list {}", root.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        folders.sort();
        folders.iter().map(|folder| Self::load(folder)).collect()
    }

    /// The case as packets. `cut` gives the pieces in which a payload of so many bytes is sent, by where they end.
    ///
    /// # Errors
    /// When a number is not one that TCP could have.
    pub fn events(&self, cut: impl Fn(usize) -> Vec<usize>) -> Result<Vec<Event>> {
        let mut numbers = Numbers::new(&self.options.initial);
        let mut at_ns = START_NS;
        let mut events = Vec::new();
        for step in &self.steps {
            match step {
                Step::Wait(time) => {
                    at_ns += u64::try_from(time.as_nanos()).context("too long a wait")?;
                    events.push(Event::Silence { at_ns });
                }
                Step::Segment(segment) => {
                    let sent = numbers.send(segment)?;
                    at_ns += STEP_NS;
                    if !segment.lost {
                        let ends = cut(sent.payload.len());
                        for piece in sent.pieces(&ends) {
                            events.push(Event::Packet { at_ns, bytes: piece.packet()? });
                        }
                    }
                }
            }
        }
        Ok(events)
    }

    /// Length of the longest payload in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        let payloads = self.steps.iter().map(|step| match step {
            Step::Segment(segment) => segment.payload.len(),
            Step::Wait(_) => 0,
        });
        payloads.max().unwrap_or(0)
    }
}
