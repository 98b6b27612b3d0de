//! `[experiment.noise]` word by word, and its check.
//!
//! Knows no statistics: the model itself says which levels it takes.

use serde::Deserialize;
use toml::Spanned;

use super::error::Fault;
use super::raw::{fraction, set, set_duration};
use crate::compare::noise::{AgainConfig, NoiseModel, RepeatConfig};
use crate::pipeline::AgainLimits;
use crate::pipeline::science::NoiseSettings;

/// `[experiment.noise]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNoise {
    pub(super) false_discovery_rate: Option<Spanned<f64>>,
    pub(super) noise_error_max: Option<Spanned<f64>>,
    pub(super) excess_max: Option<Spanned<f64>>,
    pub(super) confidence: Option<Spanned<f64>>,
    pub(super) half_life: Option<Spanned<u32>>,
    pub(super) spacing: Option<Spanned<u32>>,
    pub(super) paths_max: Option<usize>,
    pub(super) again: Option<Spanned<String>>,
    pub(super) again_wait_min: Option<Spanned<String>>,
    pub(super) again_wait_max: Option<Spanned<String>>,
    pub(super) again_waiting_max: Option<usize>,
    pub(super) again_waiting_bytes_max: Option<usize>,
    pub(super) repeats: Option<bool>,
    pub(super) repeat_window: Option<Spanned<String>>,
    pub(super) repeat_apart_min: Option<Spanned<String>>,
    pub(super) repeat_bytes_max: Option<usize>,
    pub(super) repeat_answers_max: Option<usize>,
    pub(super) repeat_headers: Option<Vec<String>>,
    pub(super) repeat_unsafe_ends: Option<bool>,
}

fn key(key: &str) -> String {
    format!("experiment.noise.{key}")
}

// === impl RawNoise ===

impl RawNoise {
    /// How noise is measured, and the bounds of the requests that wait to be sent a second time.
    pub(super) fn finish(self) -> Result<(NoiseSettings, AgainLimits), Fault> {
        let mut settings = NoiseSettings::default();
        let model = &mut settings.model;
        let levels = [
            ("false_discovery_rate", &mut model.false_discovery_rate, &self.false_discovery_rate),
            ("noise_error_max", &mut model.noise_error_max, &self.noise_error_max),
            ("excess_max", &mut model.excess_max, &self.excess_max),
            ("confidence", &mut model.confidence, &self.confidence),
        ];
        let mut spans = Vec::new();
        for (name, place, given) in levels {
            if let Some(given) = given {
                *place = *given.get_ref();
                spans.push((name, given.span()));
            }
        }
        for (name, place, given) in [
            ("half_life", &mut model.half_life, &self.half_life),
            ("spacing", &mut model.spacing, &self.spacing),
        ] {
            if let Some(given) = given {
                *place = *given.get_ref();
                spans.push((name, given.span()));
            }
        }
        set(&mut model.paths_max, self.paths_max);
        NoiseModel::new(model.clone()).map_err(|error| {
            let span = spans.into_iter().find(|(name, _)| *name == error.key).map_or(0..0, |(_, span)| span);
            Fault { key: key(error.key), span, problem: error.to_string() }
        })?;

        let mut again = AgainConfig::default();
        set_duration(&mut again.wait_min, &key("again_wait_min"), self.again_wait_min.as_ref())?;
        set_duration(&mut again.wait_max, &key("again_wait_max"), self.again_wait_max.as_ref())?;
        if let Some(share) = &self.again {
            let is_off = share.get_ref().trim() == "off";
            again.share = if is_off { 0.0 } else { fraction(&key("again"), share)? };
        }
        // A share of nothing, however it is written, is no evidence: then nobody is asked again.
        settings.again = (again.share > 0.0).then_some(again);

        let mut repeats = RepeatConfig::default();
        set_duration(&mut repeats.window, &key("repeat_window"), self.repeat_window.as_ref())?;
        set_duration(&mut repeats.apart_min, &key("repeat_apart_min"), self.repeat_apart_min.as_ref())?;
        set(&mut repeats.bytes_max, self.repeat_bytes_max);
        set(&mut repeats.answers_max, self.repeat_answers_max);
        set(&mut repeats.headers, self.repeat_headers);
        set(&mut repeats.unsafe_ends, self.repeat_unsafe_ends);
        settings.repeats = self.repeats.unwrap_or(true).then_some(repeats);
        let mut waiting = AgainLimits::default();
        set(&mut waiting.waiting_max, self.again_waiting_max);
        set(&mut waiting.waiting_bytes_max, self.again_waiting_bytes_max);
        Ok((settings, waiting))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share that is asked again with `again` written like this.
    #[track_caller]
    fn check(text: &str, expected: Option<f64>) {
        let raw: RawNoise = toml::from_str(&format!("again = \"{text}\"")).unwrap();
        let (settings, _) = raw.finish().unwrap();
        assert_eq!(settings.again.map(|again| again.share), expected, "`{text}`");
    }

    #[test]
    fn nothing_is_asked_again_however_that_is_written() {
        for text in ["off", " off ", "0", "0%", "0.0", "0.0%", "0 %", "-0"] {
            check(text, None);
        }
        check("2%", Some(0.02));
        check("1", Some(1.0));
        assert!(toml::from_str::<RawNoise>("again = \"none\"").unwrap().finish().is_err());
    }
}
