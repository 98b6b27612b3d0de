//! Times of the week at which nothing is captured and nothing replayed, such as that of a nightly data load.
//!
//! Reads no clock: it is told the time.

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use crate::model::Timestamp;

/// A time of the week.
#[derive(Clone, Debug, PartialEq)]
pub struct PauseWindow {
    /// The days on which it begins, from Monday.
    days: [bool; 7],
    /// Minutes after midnight.
    from: u16,
    /// Minutes after midnight; not after `from`: on the next day.
    to: u16,
    zone: TimeZone,
}

/// Why this is no time of the week.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// No such day.
    #[error("`{day}` is no day: days are mon, tue, wed, thu, fri, sat and sun")]
    Day {
        /// What was given.
        day: String,
    },
    /// The list of days is empty.
    #[error("names no day; leave `days` out for all of them")]
    NoDay,
    /// No time of the day.
    #[error("`{time}` is no time of the day such as `02:30`; the last one is `24:00`")]
    Time {
        /// What was given.
        time: String,
    },
    /// It ends when it begins.
    #[error("ends when it begins; a whole day is from = \"00:00\", to = \"24:00\"")]
    Empty,
    /// No such zone on this host.
    #[error("`{zone}` is no time zone of this host: name `UTC`, `local`, or one such as `Europe/Rome`")]
    Zone {
        /// What was given.
        zone: String,
    },
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;

// === impl PauseWindow ===

impl PauseWindow {
    /// From the words of the configuration. No `days`: all of them.
    ///
    /// # Errors
    /// Says which word is none.
    pub fn new(days: Option<&[String]>, from: &str, to: &str, zone: &str) -> Result<Self, WindowError> {
        let (from, to) = (minutes(from)?, minutes(to)?);
        if from == to || from == DAY_MINUTES {
            return Err(WindowError::Empty);
        }
        Ok(Self { days: week(days)?, from, to, zone: time_zone(zone)? })
    }

    /// When it ends, if it holds now.
    pub fn ends_at(&self, now: Timestamp) -> Option<Timestamp> {
        let today = jiff::Timestamp::from_nanosecond(now.0.into()).ok()?.to_zoned(self.zone.clone()).date();
        // One that began yesterday may reach into today.
        let begun = [today.yesterday().ok(), Some(today)].into_iter().flatten();
        let holding = begun.filter_map(|day| {
            let (starts_at, ends_at) = self.on(day)?;
            (starts_at <= now && now < ends_at).then_some(ends_at)
        });
        holding.max()
    }

    /// When it begins and ends, if it begins on this day. A time that the change to summer time leaves out comes when the
    /// clocks have been changed; one that is there twice is the first.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        let Self { days, from, to, zone: _ } = self;
        if !days.get(index(day.weekday())).copied().unwrap_or_default() {
            return None;
        }
        let end_day = if to > from { day } else { day.tomorrow().ok()? };
        Some((self.at(day, *from)?, self.at(end_day, *to)?))
    }

    fn at(&self, day: Date, minutes: u16) -> Option<Timestamp> {
        let (day, minutes) = if minutes == DAY_MINUTES { (day.tomorrow().ok()?, 0) } else { (day, minutes) };
        let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
        let zoned = day.at(hour, minute, 0, 0).to_zoned(self.zone.clone()).ok()?;
        u64::try_from(zoned.timestamp().as_nanosecond()).ok().map(Timestamp)
    }
}

/// The first moment at which none of these holds that hold now, as far as the one that ends last says; none when none does.
pub fn paused_until(windows: &[PauseWindow], now: Timestamp) -> Option<Timestamp> {
    windows.iter().filter_map(|window| window.ends_at(now)).max()
}

fn index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or_default()
}

fn week(days: Option<&[String]>) -> Result<[bool; 7], WindowError> {
    let Some(days) = days else { return Ok([true; 7]) };
    if days.is_empty() {
        return Err(WindowError::NoDay);
    }
    let mut week = [false; 7];
    for day in days {
        let known = DAYS.iter().position(|known| known.eq_ignore_ascii_case(day));
        let place = known.and_then(|index| week.get_mut(index));
        *place.ok_or_else(|| WindowError::Day { day: day.clone() })? = true;
    }
    Ok(week)
}

fn minutes(text: &str) -> Result<u16, WindowError> {
    let number = |text: &str, most: u16| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &u16| plain && *number <= most)
    };
    let read = || {
        let (hours, minutes) = text.split_once(':')?;
        let minutes = number(hours, 24)? * 60 + number(minutes, 59)?;
        (minutes <= DAY_MINUTES).then_some(minutes)
    };
    read().ok_or_else(|| WindowError::Time { time: text.to_owned() })
}

fn time_zone(name: &str) -> Result<TimeZone, WindowError> {
    match name {
        "UTC" => Some(TimeZone::UTC),
        "local" => TimeZone::try_system().ok(),
        name => TimeZone::get(name).ok(),
    }
    .ok_or_else(|| WindowError::Zone { zone: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[&str], from: &str, to: &str, zone: &str) -> Result<PauseWindow, WindowError> {
        let days: Vec<String> = days.iter().map(|day| (*day).to_owned()).collect();
        PauseWindow::new(Some(&days), from, to, zone)
    }

    fn at(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().expect("a time");
        Timestamp(u64::try_from(time.as_nanosecond()).expect("after 1970"))
    }

    /// Looks at a window at a moment.
    #[track_caller]
    fn check(window: &PauseWindow, now: &str, until: Option<&str>) {
        assert_eq!(window.ends_at(at(now)), until.map(at), "at {now}");
    }

    #[test]
    fn holds_from_its_first_moment_to_its_last() {
        // 2026-03-02 is a Monday.
        let load = window(&["mon", "Thu"], "02:00", "04:30", "UTC").expect("a window");
        check(&load, "2026-03-02T01:59:59.999Z", None);
        check(&load, "2026-03-02T02:00:00Z", Some("2026-03-02T04:30:00Z"));
        check(&load, "2026-03-02T04:29:59.999Z", Some("2026-03-02T04:30:00Z"));
        check(&load, "2026-03-02T04:30:00Z", None);
        check(&load, "2026-03-03T03:00:00Z", None);
        check(&load, "2026-03-05T03:00:00Z", Some("2026-03-05T04:30:00Z"));
    }

    #[test]
    fn one_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window(&["sun"], "23:00", "01:00", "UTC").expect("a window");
        check(&night, "2026-03-01T23:30:00Z", Some("2026-03-02T01:00:00Z"));
        check(&night, "2026-03-02T00:30:00Z", Some("2026-03-02T01:00:00Z"));
        check(&night, "2026-03-02T23:30:00Z", None);
        let day = window(&["sat"], "00:00", "24:00", "UTC").expect("a window");
        check(&day, "2026-02-28T23:59:00Z", Some("2026-03-01T00:00:00Z"));
        check(&day, "2026-03-01T00:00:00Z", None);
    }

    #[test]
    fn follows_the_clocks_of_its_zone() {
        let Ok(load) = PauseWindow::new(None, "02:15", "03:15", "Europe/Rome") else {
            // No host without a list of zones can be asked for one; then the error has to say so.
            let error = PauseWindow::new(None, "02:15", "03:15", "Europe/Rome").expect_err("no zones");
            assert!(error.to_string().contains("no time zone of this host"), "{error}");
            return;
        };
        check(&load, "2026-01-10T01:30:00Z", Some("2026-01-10T02:15:00Z"));
        check(&load, "2026-07-10T00:30:00Z", Some("2026-07-10T01:15:00Z"));
        // 02:15 is not there on 2026-03-29, and is 03:15 in summer time: nothing is left of the window.
        check(&load, "2026-03-29T01:10:00Z", None);
        // 02:15 is there twice on 2026-10-25; the window begins with the first and lasts two hours.
        check(&load, "2026-10-25T00:15:00Z", Some("2026-10-25T02:15:00Z"));
        check(&load, "2026-10-25T02:14:00Z", Some("2026-10-25T02:15:00Z"));
    }

    #[test]
    fn what_is_no_time_of_the_week_is_named() {
        let wrong = [
            (window(&[], "02:00", "04:00", "UTC"), "no day"),
            (window(&["moon"], "02:00", "04:00", "UTC"), "`moon`"),
            (window(&["mon"], "2:00", "04:00", "UTC"), "`2:00`"),
            (window(&["mon"], "02:00", "24:01", "UTC"), "`24:01`"),
            (window(&["mon"], "02:00", "+4:00", "UTC"), "`+4:00`"),
            (window(&["mon"], "02:60", "04:00", "UTC"), "`02:60`"),
            (window(&["mon"], "02:00", "02:00", "UTC"), "ends when it begins"),
            (window(&["mon"], "24:00", "02:00", "UTC"), "ends when it begins"),
            (window(&["mon"], "02:00", "04:00", "Mars/Olympus"), "Mars/Olympus"),
        ];
        for (window, part) in wrong {
            let error = window.expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn of_several_the_last_end_counts() {
        let windows = [("02:00", "04:00"), ("03:00", "05:00"), ("10:00", "11:00")]
            .map(|(from, to)| window(&["mon"], from, to, "UTC").expect("a window"));
        let until = |now| paused_until(&windows, at(now));
        assert_eq!(until("2026-03-02T02:30:00Z"), Some(at("2026-03-02T04:00:00Z")));
        assert_eq!(until("2026-03-02T03:30:00Z"), Some(at("2026-03-02T05:00:00Z")));
        assert_eq!(until("2026-03-02T06:00:00Z"), None);
    }

    proptest! {
        /// In UTC, where days have 1,440 minutes, a window holds exactly in the minutes that an obvious count gives.
        #[test]
        fn holds_in_the_minutes_that_counting_gives(
            days in proptest::array::uniform7(any::<bool>()),
            from in 0_u16..1_440,
            to in 0_u16..=1_440,
            minute in 0_u64..(21 * 1_440),
        ) {
            prop_assume!(from != to && days.contains(&true));
            let window = PauseWindow { days, from, to, zone: TimeZone::UTC };
            // 2026-03-02 00:00 UTC, a Monday.
            let monday = 1_772_409_600_u64;
            let now = Timestamp((monday + minute * 60) * 1_000_000_000);
            let length = if to > from { to - from } else { to + 1_440 - from };
            let begins = |day: u64| days[day as usize % 7];
            let (day, of_day) = (minute / 1_440 + 7, (minute % 1_440) as u16);
            let today = begins(day) && of_day >= from && of_day - from < length;
            let yesterday = begins(day - 1) && of_day + 1_440 - from < length;
            prop_assert_eq!(window.ends_at(now).is_some(), today || yesterday);
        }
    }
}
