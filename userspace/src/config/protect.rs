//! `[protect]` and `[[pause]]` word by word, and their check.
//!
//! Looks at no file but the host's list of time zones.

use serde::Deserialize;
use toml::Spanned;

use super::error::Fault;
use super::raw::{fraction, set_duration};
use crate::pipeline::protect::ProtectConfig;
use crate::pipeline::protect::governor::GovernorLimits;
use crate::pipeline::protect::timetable::{PauseWindow, WindowError};

/// `[protect]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProtect {
    memory_max: Option<Spanned<u64>>,
    stall_max: Option<Spanned<String>>,
    ring_max: Option<Spanned<String>>,
    cpu_pressure_max: Option<Spanned<String>>,
    memory_pressure_max: Option<Spanned<String>>,
}

/// `[[pause]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPause {
    days: Option<Vec<String>>,
    from: Spanned<String>,
    to: Spanned<String>,
    time_zone: Option<String>,
}

/// Below this nothing works.
const MEMORY_MIN: u64 = 64 << 20;

// === impl RawProtect ===

impl RawProtect {
    /// Checks it; what the governor is told goes to its limits.
    pub(super) fn finish(
        self,
        pauses: Vec<RawPause>,
        governor: &mut GovernorLimits,
    ) -> Result<ProtectConfig, Fault> {
        let Self { memory_max, stall_max, ring_max, cpu_pressure_max, memory_pressure_max } = self;
        let mut config = ProtectConfig::default();
        if let Some(memory) = memory_max {
            if *memory.get_ref() < MEMORY_MIN {
                let problem = format!("must be at least {MEMORY_MIN} bytes");
                return Err(Fault { key: "protect.memory_max".to_owned(), span: memory.span(), problem });
            }
            config.memory_max = Some(memory.into_inner());
        }
        set_duration(&mut config.stall_max, "protect.stall_max", stall_max.as_ref())?;
        if let Some(given) = &stall_max
            && config.stall_max.as_secs() < 1
        {
            let problem =
                "must be at least 1 s, or a busy host would look like one that stands still".to_owned();
            return Err(Fault { key: "protect.stall_max".to_owned(), span: given.span(), problem });
        }
        let parts = [
            (&mut governor.ring_max, "protect.ring_max", ring_max),
            (&mut governor.cpu_pressure_max, "protect.cpu_pressure_max", cpu_pressure_max),
            (&mut governor.memory_pressure_max, "protect.memory_pressure_max", memory_pressure_max),
        ];
        for (place, key, given) in parts {
            if let Some(part) = &given {
                *place = fraction(key, part)?;
            }
        }
        config.pauses = pauses.into_iter().map(RawPause::finish).collect::<Result<_, _>>()?;
        Ok(config)
    }
}

// === impl RawPause ===

impl RawPause {
    fn finish(self) -> Result<PauseWindow, Fault> {
        let Self { days, from, to, time_zone } = self;
        let zone = time_zone.as_deref().unwrap_or("UTC");
        PauseWindow::new(days.as_deref(), from.get_ref(), to.get_ref(), zone).map_err(|error| {
            let (key, span) = match &error {
                WindowError::Day { day: _ } | WindowError::NoDay => ("days", from.span()),
                WindowError::Time { time } if time == from.get_ref() => ("from", from.span()),
                WindowError::Time { time: _ } | WindowError::Empty => ("to", to.span()),
                WindowError::Zone { zone: _ } => ("time_zone", from.span()),
            };
            Fault { key: format!("pause.{key}"), span, problem: error.to_string() }
        })
    }
}
