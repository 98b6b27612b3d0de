//! How a fleet is set up: where its parts are, and what its configuration says.
//!
//! Starts nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::books::Books;
use crate::app::Faults;
use crate::daemon::Settings;
use crate::lab::{Family, Lab};
use crate::mix::DEMO_ROUTES;
use crate::process::Place;
use crate::proxy::Proxy;
use crate::redis::{Cluster, Sentinels, Server};
use crate::server::free_address;

/// Shards of a fleet, unless its setup says otherwise.
pub const SHARDS: u32 = 4;

/// How to set a fleet up.
#[derive(Debug)]
pub struct Setup {
    /// Workers at the start.
    pub workers: usize,
    /// Hosts on which capture and A, workers and B, and the load are apart. Without them all are here.
    pub lab: Option<Lab>,
    /// A and B are nginx with the application behind it, and the experiment names the routes of the demo. Without, they
    /// are the application alone.
    pub nginx: bool,
    /// What is wrong with B.
    pub faults: Faults,
    /// The lines of `[queue]` that say where Redis is.
    pub redis: String,
    /// How its books are read.
    pub books: Books,
    /// What makes a session.
    pub session: &'static str,
    /// More lines of `[queue]`.
    pub queue: String,
    /// Lines of `[experiment.replay]`.
    pub replay: String,
    /// More lines of `[spool]`.
    pub spool: String,
    /// Where the spool lies, when it is not in the workspace.
    pub spool_path: Option<PathBuf>,
    /// Variables of the environment of captures and workers.
    pub environment: Vec<(String, String)>,
}

// === impl Setup ===

impl Setup {
    /// Everything on loopback, with this Redis; sessions are connections. Workers notice soon when another one is gone.
    pub fn new(redis: &Server) -> Self {
        Self::at(format!("redis = {:?}", redis.url()), vec![redis.port()])
    }

    /// As [`Setup::new`], with a cluster.
    pub fn cluster(cluster: &Cluster) -> Self {
        let mut setup = Self::at(
            format!("redis = {:?}\nmode = \"cluster\"", cluster.urls()),
            cluster.nodes.iter().map(Server::port).collect(),
        );
        setup.books.is_cluster = true;
        setup
    }

    /// As [`Setup::new`], with the server that Sentinels name.
    pub fn sentinels(sentinels: &Sentinels) -> Self {
        Self::at(
            format!(
                "redis = {:?}\nmode = \"sentinel\"\nsentinel_master = {:?}",
                sentinels.urls(),
                Sentinels::MASTER
            ),
            sentinels.servers.iter().map(Server::port).collect(),
        )
    }

    /// As [`Setup::new`], with a Redis on another host of the lab.
    pub fn apart(lab: Lab, redis: &Server) -> Self {
        let books = Books { place: lab.b.place(), ..Self::new(redis).books };
        let redis = format!("redis = \"redis://{}\"", lab.b.at(Family::V4, redis.port()));
        Self { lab: Some(lab), books, ..Self::at(redis, Vec::new()) }
    }

    /// As [`Setup::new`], with a way to Redis that a test can make slow.
    pub fn through(proxy: &Proxy, redis: &Server) -> Self {
        Self::at(format!("redis = \"redis://{}\"", proxy.address), vec![redis.port()])
    }

    fn at(redis: String, ports: Vec<u16>) -> Self {
        Self {
            workers: 1,
            lab: None,
            nginx: false,
            faults: Faults::None,
            redis,
            books: Books { place: Place::Here, ports, is_cluster: false, shards: SHARDS },
            session: "connection",
            queue: "lease = \"1s\"\nclaim_after = \"2s\"".to_owned(),
            replay: "slot_wait_max = \"60s\"".to_owned(),
            spool: String::new(),
            spool_path: None,
            environment: Vec::new(),
        }
    }

    /// The configuration of all daemons.
    pub(super) fn settings(&self, port: u16, candidate: SocketAddr) -> anyhow::Result<Settings> {
        let Self { nginx, redis, books, session, queue, replay, spool, spool_path, .. } = self;
        let shards = books.shards;
        let spool_path = spool_path.as_deref().unwrap_or(Path::new("journal.db.spool")).display();
        Ok(Settings {
            port,
            admin: free_address()?,
            candidate,
            isolated: true,
            routes: if *nginx { DEMO_ROUTES.to_vec() } else { Vec::new() },
            more: format!(
                "noise.again = \"off\"\n[experiment.replay]\n{replay}\n[queue]\n{redis}\nshards = {shards}\n\
                 session = {session:?}\n{queue}\n[spool]\npath = \"{spool_path}\"\n{spool}"
            ),
        })
    }
}
