//! What the end-to-end tests and the demo share: servers, clients, hosts in network namespaces, the daemon.
//!
//! Uses the daemon only through its command line, its files and its admin listener, as a stranger would.

pub mod app;
pub mod case;
pub mod certificates;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod detect;
pub mod disk;
pub mod fleet;
pub mod gateway;
pub mod lab;
pub mod load;
pub mod manager;
pub mod mix;
pub mod oracle;
pub mod pcap;
pub mod prereq;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod scrape;
pub mod server;
pub mod verdict;
pub mod wire;
