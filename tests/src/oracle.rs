//! The law of the ledger, read from `/metrics`: nothing that came in may be missing.
//!
//! Trusts no number of the daemon alone; it adds them up.

use anyhow::ensure;

use crate::scrape::Scrape;

/// Checks both sums of a scrape: packets, and the exchanges of each experiment.
///
/// # Errors
/// When a sum is off, a series is missing, or an exchange was lost.
pub fn check(scrape: &Scrape) -> anyhow::Result<()> {
    let sum = |name: &str, labels: &[(&str, &str)]| scrape.sum(name, labels);
    let wanted = sum("understudy_capture_packets_wanted_total", &[])?;
    let captured = sum("understudy_capture_packets_captured_total", &[])?;
    let dropped = sum("understudy_capture_drops_total", &[])?;
    ensure!(
        wanted == captured + dropped,
        "packets: {wanted} wanted is not {captured} captured and {dropped} dropped"
    );
    let used = sum("understudy_capture_packets_used_total", &[])?;
    let unused = sum("understudy_capture_unused_total", &[])?;
    ensure!(captured == used + unused, "packets: {captured} captured is not {used} used and {unused} unused");

    let experiments = scrape.label_values("understudy_exchanges_seen_total", "experiment");
    ensure!(!experiments.is_empty(), "no experiment has a ledger in /metrics");
    for experiment in &experiments {
        let own = [("experiment", experiment.as_str())];
        let seen = sum("understudy_exchanges_seen_total", &own)?;
        let in_flight = sum("understudy_exchanges_in_flight", &own)?;
        let settled = sum("understudy_exchanges_total", &own)?;
        ensure!(
            seen == in_flight + settled,
            "exchanges of `{experiment}`: {seen} seen is not {in_flight} in flight and {settled} settled"
        );
        let lost = sum("understudy_exchanges_total", &[own[0], ("fate", "lost")])?;
        ensure!(lost == 0, "exchanges of `{experiment}`: {lost} lost");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_with(change: (&str, &str), expected: Option<&str>) {
        let text = "understudy_capture_packets_wanted_total 10\n\
            understudy_capture_packets_captured_total 8\n\
            understudy_capture_drops_total{reason=\"ring_full\"} 2\n\
            understudy_capture_drops_total{reason=\"oversize\"} 0\n\
            understudy_capture_packets_used_total 7\n\
            understudy_capture_unused_total{reason=\"not_tcp\"} 1\n\
            understudy_exchanges_seen_total{experiment=\"e\"} 5\n\
            understudy_exchanges_in_flight{experiment=\"e\"} 1\n\
            understudy_exchanges_total{experiment=\"e\",fate=\"matched\"} 4\n\
            understudy_exchanges_total{experiment=\"e\",fate=\"lost\"} 0\n";
        let text = text.replace(change.0, change.1);
        let got = check(&Scrape::parse(&text).unwrap()).map_err(|error| error.to_string());
        match expected {
            None => assert_eq!(got, Ok(())),
            Some(part) => assert!(got.as_ref().is_err_and(|error| error.contains(part)), "{got:?}"),
        }
    }

    #[test]
    fn sums_that_hold_pass() {
        check_with(("", ""), None);
    }

    #[test]
    fn every_sum_that_is_off_is_found() {
        check_with(("wanted_total 10", "wanted_total 11"), Some("11 wanted"));
        check_with(("used_total 7", "used_total 6"), Some("6 used"));
        check_with(("in_flight{experiment=\"e\"} 1", "in_flight{experiment=\"e\"} 0"), Some("5 seen"));
        check_with(("matched\"} 4", "matched\"} 3"), Some("3 settled"));
        check_with(("fate=\"lost\"} 0", "fate=\"lost\"} 1"), Some("5 settled"));
        check_with(("matched\"} 4\n", "matched\"} 3\n"), Some("settled"));
        check_with(("understudy_exchanges_seen_total{experiment=\"e\"} 5\n", ""), Some("no experiment"));
        check_with(("understudy_capture_packets_wanted_total 10\n", ""), Some("no sample"));
    }

    #[test]
    fn a_lost_exchange_is_found_even_when_the_sum_holds() {
        let text = "fate=\"matched\"} 4\nunderstudy_exchanges_total{experiment=\"e\",fate=\"lost\"} 0";
        let lost = "fate=\"matched\"} 3\nunderstudy_exchanges_total{experiment=\"e\",fate=\"lost\"} 1";
        check_with((text, lost), Some("1 lost"));
    }
}
