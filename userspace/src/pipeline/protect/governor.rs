//! Keeps capture from costing the host more than it may: fewer connections when it does, more again when it does not.
//!
//! Decides only: reads no clock and touches no probe.

use std::time::Duration;

use super::pressure::Pressure;

/// What capture may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GovernorLimits {
    /// CPU time of capture, in the kernel and in its thread, as a part from 0.0 to 1.0 of the CPU time that this process
    /// could have. Above it, fewer connections are copied. Default 0.025.
    pub cpu_max: f64,
    /// Part of the wanted packets that a full ring may lose. Above it, fewer connections are copied, so that those
    /// that are stay complete. Default 0.01.
    pub loss_max: f64,
    /// Part of the ring that may be full when its reader comes to it. Above it the reader is too slow, or gets too little
    /// of the CPU, and fewer connections are copied before any packet is lost. Default 0.5; the probe calls the reader
    /// at a quarter.
    pub ring_max: f64,
    /// Part of the time in which tasks of the host, or of the captured service, may wait for a CPU (PSI, `some avg10`).
    /// Above it, capture may cost [`PRESSED_PART`] of `cpu_max`. Default 0.8.
    pub cpu_pressure_max: f64,
    /// The same for tasks that wait for memory. Default 0.2.
    pub memory_pressure_max: f64,
    /// How long capture must have cost twice `cpu_max`, or lost too much, before fewer connections are copied: a burst is
    /// captured whole. What costs less has to last longer, what costs more less long, though no less than half of this: it
    /// is the CPU time above `cpu_max` that counts. Default 1 s.
    pub excess_min: Duration,
    /// How long capture must have cost little before more connections are copied. Doubles, up to
    /// [`CALM_DOUBLINGS_MAX`] times, when that turns out to be too many. Default 10 s.
    pub calm_min: Duration,
}

/// Part of [`GovernorLimits::cpu_max`] that capture may cost while the host is short of CPU time or memory. What costs
/// less than that stays: to leave it out would help nobody.
pub const PRESSED_PART: f64 = 0.25;

/// See [`GovernorLimits::calm_min`].
pub const CALM_DOUBLINGS_MAX: u32 = 5;

/// Decides how often the number of copied connections is halved.
#[derive(Debug)]
pub struct Governor {
    limits: GovernorLimits,
    cpus: f64,
    halvings: u32,
    last: Reading,
    /// The greatest part of the ring that readings since the last look found full.
    ring_full: f64,
    /// By reason, the reading since which each look found too much of it.
    excess_since: [Option<Reading>; Excess::ALL.len()],
    calm_since: Option<Duration>,
    calm_doublings: u32,
    /// When more connections were copied for the last time.
    raised_at: Option<Duration>,
}

/// What capture has cost since it began, and how the host is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Now, on any clock that only goes forward.
    pub at: Duration,
    /// CPU time of the capture thread, and of copying in the kernel.
    pub cpu: Duration,
    /// Wanted packets.
    pub wanted: u64,
    /// Of these, packets that a full ring lost.
    pub lost: u64,
    /// The greatest part of the ring that its reader found full since the reading before, from 0.0 to 1.0. What readings
    /// between two looks found counts at the second of them.
    pub ring_full: f64,
    /// Who waits on this host.
    pub pressure: Pressure,
}

/// Why fewer connections are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// More CPU time than [`GovernorLimits::cpu_max`].
    Cpu,
    /// More loss than [`GovernorLimits::loss_max`].
    Loss,
    /// More of the ring was full than [`GovernorLimits::ring_max`].
    Ring,
    /// More CPU time than [`PRESSED_PART`] of [`GovernorLimits::cpu_max`], while the host was short of something.
    Pressure,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Copy fewer connections.
    Fewer {
        /// How often the number is halved from now on.
        halvings: u32,
        /// Why.
        excess: Excess,
    },
    /// Copy more connections again.
    More {
        /// How often the number is halved from now on.
        halvings: u32,
    },
}

/// Time over which cost is measured.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// One connection in 65,536.
const HALVINGS_MAX: u32 = 16;
/// Twice the connections must cost less than this part of what they may, or one step up would be undone by the next
/// look.
const HEADROOM: f64 = 0.8;

impl Default for GovernorLimits {
    fn default() -> Self {
        Self {
            cpu_max: 0.025,
            loss_max: 0.01,
            ring_max: 0.5,
            cpu_pressure_max: 0.8,
            memory_pressure_max: 0.2,
            excess_min: Duration::from_secs(1),
            calm_min: Duration::from_secs(10),
        }
    }
}

// === impl Excess ===

impl Excess {
    /// All of them, in the order in which one is acted on where several are too much.
    const ALL: [Self; 4] = [Self::Cpu, Self::Loss, Self::Ring, Self::Pressure];
}

// === impl Governor ===

impl Governor {
    /// Nothing is halved at first. `cpus` is the number of CPUs that this process may run on.
    pub fn new(limits: GovernorLimits, cpus: usize, start: Reading) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no host has 2^52 CPUs")]
        let cpus = cpus.max(1) as f64;
        Self {
            limits,
            cpus,
            halvings: 0,
            last: start,
            ring_full: 0.0,
            excess_since: [None; Excess::ALL.len()],
            calm_since: None,
            calm_doublings: 0,
            raised_at: None,
        }
    }

    /// Looks at the cost since the last look; `None` also when that was a moment ago.
    pub fn look(&mut self, mut now: Reading) -> Option<Step> {
        self.ring_full = self.ring_full.max(now.ring_full);
        now.at.checked_sub(self.last.at).filter(|elapsed| *elapsed >= LOOK_EVERY)?;
        now.ring_full = std::mem::take(&mut self.ring_full);
        let last = std::mem::replace(&mut self.last, now);
        let cpu_share = self.cpu_share(last, now);
        let allowed = self.allowed(now.pressure);
        let is_there = |excess| match excess {
            Excess::Cpu => cpu_share > self.limits.cpu_max,
            Excess::Loss => loss_share(last, now) > self.limits.loss_max,
            Excess::Ring => now.ring_full > self.limits.ring_max,
            Excess::Pressure => allowed < self.limits.cpu_max && cpu_share > allowed,
        };
        // Each reason lasts by itself: one that comes and goes does not hide another that stays.
        for (since, excess) in self.excess_since.iter_mut().zip(Excess::ALL) {
            *since = is_there(excess).then(|| since.unwrap_or(last));
        }
        if self.excess_since.iter().any(Option::is_some) {
            self.calm_since = None;
            let lasting = Excess::ALL.into_iter().zip(self.excess_since);
            let (excess, since) = lasting
                .filter_map(|(excess, since)| Some((excess, since?)))
                .find(|(excess, since)| self.is_too_much(*excess, *since, now))?;
            let times = match excess {
                Excess::Cpu | Excess::Pressure => halvings_to(self.cpu_share(since, now), allowed),
                Excess::Loss | Excess::Ring => 1,
            };
            return self.fewer(times, excess);
        }
        let lost = now.lost > last.lost;
        if lost || self.halvings == 0 || cpu_share * 2.0 > allowed * HEADROOM {
            self.calm_since = None;
            return None;
        }
        let calm_since = *self.calm_since.get_or_insert(last.at);
        if now.at.saturating_sub(calm_since) < self.calm() {
            return None;
        }
        if self.raised_at.is_some_and(|raised| now.at.saturating_sub(raised) >= self.calm() * 2) {
            self.calm_doublings = 0;
        }
        self.calm_since = None;
        self.raised_at = Some(now.at);
        self.halvings = self.halvings.saturating_sub(1);
        Some(Step::More { halvings: self.halvings })
    }

    /// Nothing is to be copied for another reason: what it costs meanwhile says nothing.
    pub fn rest(&mut self, now: Reading) {
        self.last = now;
        self.ring_full = 0.0;
        self.excess_since = [None; Excess::ALL.len()];
        self.calm_since = None;
    }

    /// How often the number of connections is halved now.
    pub fn halvings(&self) -> u32 {
        self.halvings
    }

    /// The part of all CPU time that capture may cost.
    fn allowed(&self, pressure: Pressure) -> f64 {
        let GovernorLimits { cpu_max, cpu_pressure_max, memory_pressure_max, .. } = self.limits;
        let Pressure { cpu, memory } = pressure;
        let is_pressed = cpu.is_some_and(|cpu| cpu > cpu_pressure_max)
            || memory.is_some_and(|memory| memory > memory_pressure_max);
        if is_pressed { cpu_max * PRESSED_PART } else { cpu_max }
    }

    /// True when an excess is more than a burst.
    fn is_too_much(&self, excess: Excess, since: Reading, now: Reading) -> bool {
        let excess_min = self.limits.excess_min;
        let elapsed = now.at.saturating_sub(since.at);
        match excess {
            Excess::Cpu | Excess::Pressure => {
                let allowed = self.allowed(now.pressure);
                let above = self.cpu_share(since, now) - allowed;
                elapsed >= excess_min / 2
                    && above * elapsed.as_secs_f64() >= allowed * excess_min.as_secs_f64()
            }
            Excess::Loss | Excess::Ring => elapsed >= excess_min,
        }
    }

    fn fewer(&mut self, times: u32, excess: Excess) -> Option<Step> {
        let raised_lately =
            self.raised_at.is_some_and(|raised| self.last.at.saturating_sub(raised) < self.calm());
        if raised_lately {
            self.calm_doublings = (self.calm_doublings + 1).min(CALM_DOUBLINGS_MAX);
        }
        self.raised_at = None;
        self.calm_since = None;
        // What was found with more connections says nothing of fewer.
        self.excess_since = [None; Excess::ALL.len()];
        let before = self.halvings;
        self.halvings = before.saturating_add(times).min(HALVINGS_MAX);
        (self.halvings > before).then_some(Step::Fewer { halvings: self.halvings, excess })
    }

    fn cpu_share(&self, from: Reading, to: Reading) -> f64 {
        let elapsed = to.at.saturating_sub(from.at).as_secs_f64();
        to.cpu.saturating_sub(from.cpu).as_secs_f64() / (elapsed * self.cpus)
    }

    fn calm(&self) -> Duration {
        self.limits.calm_min * 2_u32.pow(self.calm_doublings)
    }
}

/// Halvings after which `share` is at most `share_max`; at least 1.
fn halvings_to(share: f64, share_max: f64) -> u32 {
    (1..HALVINGS_MAX).find(|times| share / f64::from(1 << times) <= share_max).unwrap_or(HALVINGS_MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of counts needs no more than 52 bits")]
fn loss_share(from: Reading, to: Reading) -> f64 {
    to.lost.saturating_sub(from.lost) as f64 / to.wanted.saturating_sub(from.wanted).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> GovernorLimits {
        GovernorLimits { cpu_max: 0.02, ..GovernorLimits::default() }
    }

    /// As [`check_host`], on a host that is short of nothing, with a ring that is nearly empty.
    #[track_caller]
    fn check(looks: u64, cost: impl Fn(u64, u32) -> (f64, u64), expected: &[(u64, u32)]) {
        check_host(looks, |look, halvings| (cost(look, halvings), 0.1, Pressure::default()), expected);
    }

    /// What one look finds: CPU share and lost packets, the part of the ring that was full, and the pressure.
    type Found = ((f64, u64), f64, Pressure);

    /// Looks four times a second at a cost that depends on the look and on how often the connections are halved: gives
    /// the looks at which the halvings changed, and to what.
    #[track_caller]
    fn check_host(looks: u64, found: impl Fn(u64, u32) -> Found, expected: &[(u64, u32)]) {
        let mut governor = Governor::new(limits(), 2, Reading::default());
        let (mut reading, mut halvings, mut steps) = (Reading::default(), 0, Vec::new());
        for look in 1..=looks {
            let ((cpu_share, lost), ring_full, pressure) = found(look, halvings);
            reading.ring_full = ring_full;
            reading.pressure = pressure;
            reading.at += LOOK_EVERY;
            reading.cpu += LOOK_EVERY.mul_f64(cpu_share * 2.0);
            reading.wanted += 1_000;
            reading.lost += lost;
            if let Some(Step::Fewer { halvings: now, excess: _ } | Step::More { halvings: now }) =
                governor.look(reading)
            {
                halvings = now;
                steps.push((look, now));
            }
        }
        assert_eq!(steps, expected);
    }

    /// A full load of this CPU share, of which each halving leaves half.
    fn load(share: f64, halvings: u32) -> f64 {
        share / f64::from(1 << halvings)
    }

    #[test]
    fn what_costs_little_is_left_alone() {
        check(200, |_, _| (0.019, 0), &[]);
        check(200, |_, _| (0.019, 10), &[]);
    }

    #[test]
    fn halves_as_often_as_it_takes() {
        check(200, |_, halvings| (load(0.031, halvings), 0), &[(8, 1)]);
        check(200, |_, halvings| (load(0.055, halvings), 0), &[(3, 2)]);
        check(200, |_, halvings| (load(0.3, halvings), 0), &[(2, 4)]);
        check(10, |_, _| (1.0, 0), &[(2, 6), (4, 12), (6, 16)]);
    }

    #[test]
    fn a_burst_is_captured_whole() {
        check(200, |look, _| (if look % 2 == 0 { 1.0 } else { 0.01 }, 0), &[]);
        check(200, |look, _| (0.01, if look % 2 == 0 { 900 } else { 0 }), &[]);
    }

    #[test]
    fn a_ring_that_overflows_halves_step_by_step() {
        check(60, |_, halvings| (0.01, if halvings < 3 { 11 } else { 0 }), &[(4, 1), (8, 2), (12, 3)]);
    }

    #[test]
    fn a_ring_that_fills_halves_before_it_loses_anything() {
        let filling = |_, halvings| ((0.01, 0), if halvings < 2 { 0.6 } else { 0.3 }, Pressure::default());
        check_host(40, filling, &[(4, 1), (8, 2)]);
        let now_and_then = |look, _| ((0.01, 0), if look % 3 == 0 { 1.0 } else { 0.2 }, Pressure::default());
        check_host(40, now_and_then, &[]);
    }

    #[test]
    fn each_reason_is_judged_by_itself() {
        // Loss that stays, with CPU time a little above what it may be: that alone would take 16 seconds to act.
        let both = |_, halvings| (0.02125, if halvings < 2 { 500 } else { 0 });
        check(20, both, &[(4, 1), (8, 2)]);
        check(100, |_, _| (0.02125, 0), &[(64, 1)]);
        // The same where the CPU time is now above, now below.
        let now_and_then = |look| if look % 2 == 0 { 0.021 } else { 0.019 };
        check(20, |look, halvings| (now_and_then(look), if halvings < 1 { 500 } else { 0 }), &[(4, 1)]);
        // A ring that is full, and loses something at times; loss alone is a burst.
        let ring = |look, halvings| {
            let lost = if look % 2 == 0 { 100 } else { 0 };
            ((0.001, lost), if halvings < 1 { 0.6 } else { 0.1 }, Pressure::default())
        };
        check_host(20, ring, &[(4, 1)]);
        // More CPU time than ever is allowed at times, and all the time more than a host in need leaves.
        let short = Pressure { cpu: Some(0.9), memory: None };
        let pressed =
            |look, halvings| ((load(if look % 2 == 0 { 0.021 } else { 0.008 }, halvings), 0), 0.1, short);
        check_host(20, pressed, &[(3, 2)]);
    }

    #[test]
    fn a_host_that_is_short_of_something_leaves_capture_a_quarter() {
        let short =
            |cpu, memory| move |_, halvings| ((load(0.018, halvings), 0), 0.1, Pressure { cpu, memory });
        // 1.8 % is within 2 %, and not within a quarter of that.
        check_host(40, short(Some(0.79), Some(0.19)), &[]);
        check_host(40, short(Some(0.81), None), &[(2, 2)]);
        check_host(40, short(None, Some(0.21)), &[(2, 2)]);
        check_host(40, short(None, None), &[]);
        // What costs next to nothing is left alone, however short the host is.
        check_host(400, |_, _| ((0.004, 0), 0.1, Pressure { cpu: Some(1.0), memory: None }), &[]);
    }

    #[test]
    fn comes_back_when_the_host_has_recovered() {
        let pressure = |look| Pressure { cpu: Some(if look <= 20 { 0.9 } else { 0.1 }), memory: None };
        let found = |look, halvings| ((load(0.012, halvings), 0), 0.1, pressure(look));
        check_host(150, found, &[(3, 2), (60, 1), (100, 0)]);
    }

    #[test]
    fn rest_forgets_what_was_begun() {
        let mut governor = Governor::new(limits(), 2, Reading::default());
        let mut reading = Reading::default();
        for _ in 1..=40 {
            reading.at += LOOK_EVERY;
            reading.cpu += LOOK_EVERY;
            governor.rest(reading);
        }
        assert_eq!(governor.halvings(), 0);
        reading.at += LOOK_EVERY;
        assert_eq!(governor.look(reading), None);
    }

    #[test]
    fn comes_back_when_the_load_has_gone() {
        let burst = |look, halvings| (load(if look <= 5 { 0.08 } else { 0.01 }, halvings), 0);
        check(100, burst, &[(2, 2), (45, 1), (85, 0)]);
    }

    #[test]
    fn waits_longer_after_each_step_that_was_too_bold() {
        // One connection makes the whole load: all of it or nothing.
        let one = |_, halvings| (if halvings == 0 { 0.039 } else { 0.0 }, 0);
        check(
            650,
            one,
            &[(5, 1), (45, 0), (50, 1), (130, 0), (135, 1), (295, 0), (300, 1), (620, 0), (625, 1)],
        );
    }

    #[test]
    fn a_ring_that_was_full_between_two_looks_counts() {
        let mut governor = Governor::new(limits(), 2, Reading::default());
        let mut steps = Vec::new();
        // Ten readings a second; every third is a look, and the ring is found full by the one behind it.
        for tenth in 1..=20_u64 {
            let ring_full = if tenth % 3 == 1 { 1.0 } else { 0.0 };
            let at = Duration::from_millis(tenth * 100);
            if governor.look(Reading { at, ring_full, ..Reading::default() }).is_some() {
                steps.push(tenth);
            }
        }
        assert_eq!(steps, [12]);
    }

    #[test]
    fn a_look_too_soon_and_a_clock_that_stands_change_nothing() {
        let limits = GovernorLimits { excess_min: Duration::ZERO, ..limits() };
        let mut governor = Governor::new(limits, 1, Reading::default());
        let cpu = Duration::from_millis(250);
        assert_eq!(
            governor.look(Reading { at: Duration::from_millis(249), cpu, ..Reading::default() }),
            None
        );
        assert_eq!(governor.look(Reading { cpu, ..Reading::default() }), None);
        let now = Reading { at: Duration::from_millis(250), cpu, ..Reading::default() };
        assert_eq!(governor.look(now), Some(Step::Fewer { halvings: 6, excess: Excess::Cpu }));
    }
}
