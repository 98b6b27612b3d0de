//! A host that forwards: what passes its interfaces is captured there, each packet once.
//!
//! The forwarding host has no socket that any of this traffic ends in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aya::programs::loaded_programs;
use rustix::process::Signal;
use understudy_tests::app::Faults;
use understudy_tests::client::get;
use understudy_tests::clock::wait_until;
use understudy_tests::daemon::{DRAIN_WAIT_MAX, Daemon, Workspace, run_to_end};
use understudy_tests::gateway::{Gateway, Wiring, add_tun};
use understudy_tests::lab::{Family, within};
use understudy_tests::mix::{Pace, drive, every_shape, numbered};
use understudy_tests::pcap::PcapFile;
use understudy_tests::prereq::{NETWORK, Prerequisite, find_tool};
use understudy_tests::process::Place;
use understudy_tests::scrape::Scrape;
use understudy_tests::server::{App, unique_port};

use crate::Case;
use crate::faults::{all_links, held};
use crate::inspect::{Truth, check};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "one_interface_shows_both_directions_over_ipv4",
        needs: NETWORK,
        run: || shows(Wiring::Cables, Family::V4, "left"),
    },
    Case {
        name: "one_interface_shows_both_directions_over_ipv6",
        needs: NETWORK,
        run: || shows(Wiring::Cables, Family::V6, "right"),
    },
    Case {
        name: "a_packet_that_passes_two_interfaces_is_copied_once",
        needs: NETWORK,
        run: || shows(Wiring::Cables, Family::V4, "left,right"),
    },
    Case { name: "frames_with_no_tag_are_read", needs: NEEDS_PYTHON, run: || frames("left", "") },
    Case { name: "frames_with_one_tag_are_read", needs: NEEDS_PYTHON, run: || frames("left", "81000064") },
    Case {
        name: "frames_with_two_tags_are_read",
        needs: NEEDS_PYTHON,
        run: || frames("left", "88a80064810000c8"),
    },
    Case { name: "packets_without_a_link_header_are_read", needs: NEEDS_PYTHON, run: || frames(TUN, "") },
    Case { name: "a_run_on_a_gateway_replays_what_passes_it", needs: NETWORK, run: replays },
    Case { name: "a_kill_leaves_nothing_that_does_anything", needs: NETWORK, run: kill },
    Case { name: "an_unknown_interface_is_named_with_those_there_are", needs: NETWORK, run: unknown },
];

/// Those with interfaces that not every kernel has.
pub(crate) const DEVICE_CASES: &[Case] = &[
    Case {
        name: "a_tag_that_the_device_took_off_is_no_hindrance",
        needs: NETWORK,
        run: || shows(Wiring::Tagged, Family::V4, "left"),
    },
    Case {
        name: "a_vlan_and_the_interface_under_it_copy_once",
        needs: NETWORK,
        run: || shows(Wiring::Tagged, Family::V6, "left,left.100,right"),
    },
    Case {
        name: "a_tag_in_the_packet_is_skipped",
        needs: NETWORK,
        run: || shows(Wiring::TaggedTwice, Family::V4, "left"),
    },
    Case {
        name: "a_tag_in_the_packet_is_skipped_over_ipv6",
        needs: NETWORK,
        run: || shows(Wiring::TaggedTwice, Family::V6, "left,left.100,left.100.200"),
    },
    Case {
        name: "a_packet_that_leaves_where_it_came_in_is_copied_once",
        needs: NETWORK,
        run: || shows(Wiring::Trunk, Family::V4, "trunk"),
    },
    Case {
        name: "a_tunnel_shows_what_passes_it",
        needs: NETWORK,
        run: || shows(Wiring::Tunnel, Family::V4, "tunnel"),
    },
    Case {
        name: "a_tunnel_and_a_cable_copy_once",
        needs: NETWORK,
        run: || shows(Wiring::Tunnel, Family::V4, "tunnel,right"),
    },
];

const NEEDS_PYTHON: &[Prerequisite] =
    &[NETWORK[0], NETWORK[1], NETWORK[2], NETWORK[3], NETWORK[4], Prerequisite::Tool("python3")];

/// The interface without a link header.
const TUN: &str = "tun0";

/// Sends the packets of a capture file (pcap 2.4, little-endian, raw IP), as they are into a TUN device, else as Ethernet
/// frames with these tags.
const SEND: &str = r#"
import fcntl, os, socket, struct, sys
interface, tags, file = sys.argv[1], bytes.fromhex(sys.argv[2]), open(sys.argv[3], "rb").read()
if interface.startswith("tun"):
    out = open("/dev/net/tun", "r+b", buffering=0)
    fcntl.ioctl(out, 0x400454CA, struct.pack("16sH22x", interface.encode(), 0x1001))
    send = lambda packet: out.write(packet)
else:
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    out.bind((interface, 0))
    send = lambda packet: out.send(bytes.fromhex("020000000001020000000002") + tags + b"\x08\x00" + packet)
at = 24
while at < len(file):
    length = struct.unpack_from("<I", file, at + 8)[0]
    send(file[at + 16 : at + 16 + length])
    at += 16 + length
"#;

/// Requests of each test.
const REQUESTS: usize = 80;

/// Where the admin listener of a daemon on the forwarding host is to be.
fn admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], unique_port()))
}

/// Drives requests through the forwarding host; each is shown once, field by field as it was sent.
fn shows(wiring: Wiring, family: Family, interfaces: &str) -> anyhow::Result<()> {
    let gateway = Gateway::new(wiring)?;
    let app = App::start(&gateway.server(), gateway.at(family, unique_port()), Faults::None)?;
    let daemon = inspect(&gateway, app.address.port(), interfaces)?;
    let sent = through(&gateway, app.address)?;
    let scrape = daemon.settle(sent.len() as u64)?;
    let (captured, before) = passages(&scrape)?;
    // Each packet passes every one of the interfaces, and the only one twice where it leaves as it came.
    let places = if wiring == Wiring::Trunk { 2 } else { interfaces.split(',').count() as u64 };
    ensure!(
        before == captured * (places - 1),
        "{captured} packets were copied at {places} places, and {before} passed another one before"
    );
    check(daemon, app.address, sent.into_iter().map(Truth::from).collect())
}

/// `understudy inspect` on the forwarding host.
fn inspect(gateway: &Gateway, port: u16, interfaces: &str) -> anyhow::Result<Daemon> {
    Daemon::inspect(&gateway.host(), port, admin(), &["--json", "--interface", interfaces])
}

/// Requests of every shape, from the client.
fn through(gateway: &Gateway, server: SocketAddr) -> anyhow::Result<Vec<understudy_tests::mix::Sent>> {
    let pace = Pace { per_second: None, connections: 4 };
    within(&gateway.client(), || drive(server, &every_shape(REQUESTS), pace))
}

/// Packets that were copied, and those that were not because they had been.
fn passages(scrape: &Scrape) -> anyhow::Result<(u64, u64)> {
    let captured = scrape.sum("understudy_capture_packets_captured_total", &[])?;
    let before = scrape.sum("understudy_capture_drops_total", &[("reason", "passed_before")])?;
    ensure!(captured > 0, "nothing was captured");
    Ok((captured, before))
}

/// Both directions of a connection that nobody has come in at one interface, as frames made for the test.
fn frames(interface: &str, tags: &str) -> anyhow::Result<()> {
    let gateway = Gateway::new(Wiring::Cables)?;
    add_tun(&gateway.host(), TUN)?;
    let (client, server) = ("192.0.2.1:40000".parse()?, "192.0.2.2:8080".parse()?);
    let exchange = |number: usize| {
        let body = "x".repeat(number * 700);
        let request = format!("GET /frames/{number} HTTP/1.1\r\nHost: a\r\n\r\n");
        let length = body.len();
        (
            request.into_bytes(),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes(),
        )
    };
    let exchanges: Vec<_> = (0..8).map(exchange).collect();
    let mut packets = PcapFile::default();
    packets.connection(client, server, Duration::from_secs(1), Duration::from_millis(1), &exchanges);
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), packets.bytes())?;

    let daemon = inspect(&gateway, 8080, interface)?;
    // Frames for an Ethernet interface come through its cable, those of a TUN device are written there.
    let (place, way) = if interface == TUN { (gateway.host(), TUN) } else { (gateway.client(), "eth0") };
    let send = place.command("python3").args(["-c", SEND, way, tags]).arg(file.path()).output()?;
    ensure!(send.status.success(), "{}", String::from_utf8_lossy(&send.stderr));
    daemon.settle(exchanges.len() as u64)?;
    let finished = daemon.interrupt()?;
    let lines: Vec<serde_json::Value> =
        finished.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == exchanges.len(), "{} exchanges were shown", lines.len());
    for (number, line) in lines.iter().enumerate() {
        ensure!(line["request"]["target"] == format!("/frames/{number}"), "{line}");
        ensure!(
            line["response"]["body_bytes"] == number * 700 && line["response"]["complete"] == true,
            "{line}"
        );
        ensure!(line["flow"]["client"] == "192.0.2.1:40000", "{line}");
    }
    Ok(())
}

fn replays() -> anyhow::Result<()> {
    let gateway = Gateway::new(Wiring::Cables)?;
    let server = gateway.server();
    let a = App::start(&server, gateway.at(Family::V4, unique_port()), Faults::None)?;
    let b = App::start(&server, gateway.at(Family::V4, unique_port()), Faults::None)?;
    let admin = admin();
    let workspace = Workspace::new(&format!(
        "[capture]\nports = [{}]\nhook = \"tc\"\ninterfaces = [\"left\", \"right\"]\nnice = 0\ncpu_max = \"100%\"\n\
         [admin]\nlisten = \"{admin}\"\n[journal]\npath = \"journal.db\"\n[[experiment]]\nname = \"lab\"\n\
         methods = [\"GET\", \"POST\"]\ncandidate = {{ url = \"http://{}\", isolated = true }}\nnoise.again = \"off\"\n\
         replay.slot_wait_max = \"60s\"\n",
        a.address.port(),
        b.address
    ))?;
    let daemon = Daemon::run(&gateway.host(), &workspace, admin, &[])?;
    let planned = numbered(0, REQUESTS);
    let pace = Pace { per_second: Some(100), connections: 4 };
    let sent = within(&gateway.client(), || drive(a.address, &planned, pace))?;
    let scrape = daemon.settle(sent.len() as u64)?;
    let seen = scrape.sum("understudy_exchanges_seen_total", &[])?;
    ensure!(seen == sent.len() as u64, "{} exchanges happened, {seen} were seen", sent.len());
    let received = b.received()?;
    ensure!(received.len() == sent.len(), "B received {} of {} requests", received.len(), sent.len());
    let finished = daemon.interrupt()?;
    ensure!([0, 3].contains(&finished.code), "exit code {}: {}", finished.code, finished.stderr);
    Ok(())
}

/// Where the kernel has links for interfaces, none is left; where it has none, a gate is, which is shut, and the next start
/// removes it.
fn kill() -> anyhow::Result<()> {
    let gateway = Gateway::new(Wiring::Cables)?;
    let app = App::start(&gateway.server(), gateway.at(Family::V4, unique_port()), Faults::None)?;
    let daemon = inspect(&gateway, app.address.port(), "left,right")?;
    // Other daemons may run at the same time, so the ones of this daemon are told by their ids.
    let (links, programs) = held(daemon.id())?;
    ensure!(programs.len() >= 2, "it holds programs {programs:?}");
    daemon.signal(Signal::KILL)?;
    let code = daemon.join(DRAIN_WAIT_MAX)?.code;
    ensure!(code == 137, "exit code {code}");
    // The kernel frees them a moment later, after a grace period.
    wait_until("end of the programs", DRAIN_WAIT_MAX, || {
        let left = programs_but_gates()?.intersection(&programs).count();
        Ok((left == 0 && all_links()?.is_disjoint(&links)).then_some(()))
    })?;
    ensure!(within(&gateway.client(), || get(app.address, "/items/1"))?.status == 200, "A does not answer");

    let daemon = inspect(&gateway, app.address.port(), "left,right")?;
    let sent = through(&gateway, app.address)?;
    daemon.settle(sent.len() as u64)?;
    check(daemon, app.address, sent.into_iter().map(Truth::from).collect())?;
    for (interface, way) in
        [("left", "ingress"), ("left", "egress"), ("right", "ingress"), ("right", "egress")]
    {
        let filters = filters(&gateway.host(), interface, way)?;
        ensure!(!filters.contains("understudy"), "{interface} {way} still has {filters}");
    }
    Ok(())
}

/// Ids of all programs that do anything. The kernel keeps the first fifteen bytes of a name.
fn programs_but_gates() -> anyhow::Result<BTreeSet<u32>> {
    let is_gate = |name: Option<&str>| name.is_some_and(|name| name.starts_with("understudy_gate"));
    Ok(loaded_programs()
        .filter_map(Result::ok)
        .filter(|program| !is_gate(program.name_as_str()))
        .map(|program| program.id())
        .collect())
}

/// What `tc` lists at one side of an interface.
fn filters(place: &Place, interface: &str, way: &str) -> anyhow::Result<String> {
    let tool = find_tool("tc").context("`tc` is not on the PATH")?;
    within(place, || {
        let output = Command::new(tool).args(["filter", "show", "dev", interface, way]).output();
        Ok(String::from_utf8_lossy(&output.context("failed to run `tc`")?.stdout).into_owned())
    })
}

fn unknown() -> anyhow::Result<()> {
    let gateway = Gateway::new(Wiring::Cables)?;
    let finished = run_to_end(&gateway.host(), &["inspect", "--port", "80", "--interface", "rihgt"])?;
    let said = &finished.stderr;
    ensure!(finished.code == 2, "exit code {}: {said}", finished.code);
    ensure!(said.contains("no interface `rihgt`") && said.contains("left, right"), "{said}");
    Ok(())
}
