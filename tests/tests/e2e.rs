//! End-to-end tests: the real binary, the real probe, real servers, on loopback and between hosts.
//!
//! Links nothing of the daemon: it is a program here, with files and an admin listener.
#![expect(clippy::print_stderr, reason = "a test program says on the terminal what it leaves out")]

#[path = "e2e/admin.rs"]
mod admin;
#[path = "e2e/candidate.rs"]
mod candidate;
#[path = "e2e/completeness.rs"]
mod completeness;
#[path = "e2e/credentials.rs"]
mod credentials;
#[path = "e2e/doctor.rs"]
mod doctor;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/fleet.rs"]
mod fleet;
#[path = "e2e/gateway.rs"]
mod gateway;
mod harness;
#[path = "e2e/inspect.rs"]
mod inspect;
#[path = "e2e/lab.rs"]
mod lab;
#[path = "e2e/noise.rs"]
mod noise;
#[path = "e2e/observe.rs"]
mod observe;
#[path = "e2e/offline.rs"]
mod offline;
#[path = "e2e/outages.rs"]
mod outages;
#[path = "e2e/protect.rs"]
mod protect;
#[path = "e2e/queue.rs"]
mod queue;
#[path = "e2e/recording.rs"]
mod recording;
#[path = "e2e/rules.rs"]
mod rules;
#[path = "e2e/secrets.rs"]
mod secrets;
#[path = "e2e/service.rs"]
mod service;
#[path = "e2e/throttle.rs"]
mod throttle;
#[path = "e2e/tunnel.rs"]
mod tunnel;
#[path = "e2e/verdict.rs"]
mod verdict;
#[path = "e2e/workers.rs"]
mod workers;

use std::process::ExitCode;

use harness::Case;
use understudy_tests::gateway::has_vlans_and_tunnels;
use understudy_tests::prereq::{NETWORK, missing};

fn main() -> ExitCode {
    let mut modules: Vec<(&str, &[Case])> = vec![
        ("lab", lab::CASES),
        ("inspect", inspect::CASES),
        ("gateway", gateway::CASES),
        ("completeness", completeness::CASES),
        ("verdict", verdict::CASES),
        ("noise", noise::CASES),
        ("candidate", candidate::CASES),
        ("rules", rules::CASES),
        ("secrets", secrets::CASES),
        ("faults", faults::CASES),
        ("doctor", doctor::CASES),
        ("service", service::CASES),
        ("throttle", throttle::CASES),
        ("protect", protect::CASES),
        ("tunnel", tunnel::CASES),
        ("offline", offline::CASES),
        ("recording", recording::CASES),
        ("queue", queue::CASES),
        ("fleet", fleet::CASES),
        ("observe", observe::CASES),
        ("admin", admin::CASES),
        ("credentials", credentials::CASES),
        ("outages", outages::CASES),
        ("workers", workers::CASES),
    ];
    if missing(NETWORK).is_none() && has_vlans_and_tunnels() {
        modules.push(("gateway", gateway::DEVICE_CASES));
    } else {
        eprintln!(
            "not here: gateways with VLANs and tunnels, which this kernel does not have; `cargo xtask vm` boots one"
        );
    }
    harness::run(&modules)
}
