//! Which part of all connections is copied.
//!
//! Decides by whole connections, never by packets, so that what is kept stays complete.

use understudy_abi as abi;

use crate::model::FlowKey;

/// The part of all flows that is copied. Of two samples the smaller holds no flow that the larger does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSample {
    /// See [`abi::Settings::flow_sample_max`].
    hash_max: u32,
}

// === impl FlowSample ===

impl FlowSample {
    /// Every flow.
    pub const ALL: Self = Self { hash_max: u32::MAX };

    /// No flow, but for one in four billion.
    pub const NONE: Self = Self { hash_max: 0 };

    /// A part from 0.0 to 1.0 of all flows; `None` for other numbers.
    pub fn from_fraction(fraction: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the product lies within the range of u32"
        )]
        (0.0..=1.0).contains(&fraction).then(|| Self { hash_max: (fraction * f64::from(u32::MAX)) as u32 })
    }

    /// The part that is left after so many halvings.
    pub fn halved(self, times: u32) -> Self {
        Self { hash_max: self.hash_max.checked_shr(times).unwrap_or(0) }
    }

    /// True when `other` holds flows that this one does not.
    pub fn is_less_than(self, other: Self) -> bool {
        self.hash_max < other.hash_max
    }

    /// The part, from 0.0 to 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.hash_max) / f64::from(u32::MAX)
    }

    /// Whether the probe copies this flow.
    pub fn keeps(self, flow: &FlowKey) -> bool {
        let FlowKey { client, server, scope: _ } = flow;
        abi::flow_hash(&server.addr, &client.addr, server.port, client.port) <= self.hash_max
    }

    /// What the probe reads.
    pub(super) fn from_hash_max(hash_max: u32) -> Self {
        Self { hash_max }
    }

    /// As the probe reads it.
    pub(super) fn hash_max(self) -> u32 {
        self.hash_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Endpoint;

    fn flow(port: u16) -> FlowKey {
        let end = |port| Endpoint::from(std::net::SocketAddr::from(([10, 0, 0, 1], port)));
        FlowKey { client: end(port), server: end(80), scope: 0 }
    }

    #[test]
    fn halves_keep_about_half_and_nothing_new() {
        let quarter = FlowSample::ALL.halved(2);
        assert!((0.249..0.251).contains(&quarter.fraction()), "{}", quarter.fraction());
        let kept = |sample: FlowSample| (1_u16..=10_000).filter(|port| sample.keeps(&flow(*port))).count();
        assert_eq!(kept(FlowSample::ALL), 10_000);
        assert!((2_200..=2_800).contains(&kept(quarter)), "{}", kept(quarter));
        assert!(
            (1..=10_000)
                .all(|port| !quarter.keeps(&flow(port)) || FlowSample::ALL.halved(1).keeps(&flow(port)))
        );
        assert_eq!(kept(FlowSample::ALL.halved(40)), 0);
    }
}
