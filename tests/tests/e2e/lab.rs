//! The lab itself: what its client believes to have sent is what its servers received.
//!
//! Does not touch the daemon, so that a failure here is the lab's.

use std::time::Duration;

use anyhow::ensure;
use understudy_tests::app::Faults;
use understudy_tests::client::{Client, get, request};
use understudy_tests::lab::{Family, Lab};
use understudy_tests::load::{Load, constant};
use understudy_tests::mix::{Pace, drive, every_route, every_shape};
use understudy_tests::prereq::{NETWORK, Prerequisite};
use understudy_tests::process::Place;
use understudy_tests::server::{App, Nginx, StaticFiles, free_address, unique_port};

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    Case { name: "hosts_reach_each_other_over_ipv4", needs: NETWORK, run: || reach(Family::V4) },
    Case { name: "hosts_reach_each_other_over_ipv6", needs: NETWORK, run: || reach(Family::V6) },
    Case {
        name: "nginx_and_application_answer_every_route",
        needs: &[Prerequisite::Tool("nginx"), Prerequisite::Tool("setpriv")],
        run: nginx,
    },
    Case { name: "a_constant_load_keeps_its_rate", needs: &[Prerequisite::Tool("setpriv")], run: load },
    Case { name: "tunnels_echo", needs: &[Prerequisite::Tool("setpriv")], run: tunnels },
];

fn reach(family: Family) -> anyhow::Result<()> {
    let lab = Lab::new()?;
    let address = lab.a.at(family, unique_port());
    let app = App::start(&lab.a.place(), address, Faults::None)?;
    let planned = every_shape(120);
    let pace = Pace { per_second: None, connections: 4 };
    let sent = lab.client.within(|| drive(address, &planned, pace))?;
    let received = app.received()?;
    ensure!(sent.len() == 120 && received.len() == 120, "{} sent, {} received", sent.len(), received.len());
    for sent in &sent {
        let line = received.iter().find(|line| line.target == sent.planned.target);
        ensure!(
            line.is_some_and(|line| line.method == sent.planned.method
                && line.body_sha256 == sent.body.sha256
                && line.client == sent.client.to_string()
                && line.headers == sent.fields),
            "sent {sent:?}, received {line:?}"
        );
        ensure!(sent.answer.status == 200, "{sent:?}");
    }
    Ok(())
}

fn nginx() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let files = StaticFiles::write()?;
    let nginx = Nginx::start(&Place::Here, free_address()?, &files, app.address)?;
    let sent = drive(nginx.address, &every_route(160), Pace { per_second: None, connections: 4 })?;
    ensure!(sent.len() == 160, "{} answers", sent.len());
    for sent in &sent {
        ensure!([200, 201, 204, 302, 304].contains(&sent.answer.status), "{sent:?}");
    }
    for status in [200, 201, 204, 302, 304] {
        ensure!(sent.iter().any(|sent| sent.answer.status == status), "no answer was {status}");
    }
    Ok(())
}

fn load() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    let time = Duration::from_millis(500);
    let result = constant(app.address, Load { target: "/items/1", per_second: 400, connections: 4, time })?;
    // What is late at the end is left out.
    let answered = result.answered;
    ensure!((50..=200).contains(&answered), "{answered} answers at 400 a second in {time:?}");
    // One more on each connection, by which it learns the length of an answer.
    let received = app.received()?.len() as u64;
    ensure!(received == answered + 4, "{received} received, {answered} answered");
    ensure!(result.median > Duration::ZERO && result.median <= result.slow, "{result:?}");
    Ok(())
}

fn tunnels() -> anyhow::Result<()> {
    let app = App::start(&Place::Here, free_address()?, Faults::None)?;
    for (method, target, status) in [("GET", "/upgrade", 101), ("CONNECT", "far.example:443", 200)] {
        let mut client = Client::connect(app.address)?;
        let fields = [("Upgrade", "echo"), ("Connection", "Upgrade")];
        client.send(&request(method, target, app.address, &fields))?;
        ensure!(client.answer(method)?.status == status, "{method}");
        client.send(b"twelve bytes")?;
        ensure!(client.raw(12)?.bytes == 12, "{method}");
    }
    ensure!(get(app.address, "/interim/1")?.interim == [103], "no 103 came first");
    ensure!(get(app.address, "/until-close/70000")?.body.bytes == 70_000, "until close");
    Ok(())
}
