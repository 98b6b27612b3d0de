//! A TCP proxy whose slowness a test sets, and that swallows the requests that it is told to.
//!
//! Understands nothing of what it passes on: a request is found by bytes that one read must hold whole.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::clock::pause;
use crate::lab::within;
use crate::process::Place;

/// Most bytes of one read, and so of one pause.
const PIECE_BYTES: usize = 64 << 10;

/// A running proxy. Takes no new connections once it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Where it listens, and connects from.
    place: Place,
    target: SocketAddr,
    /// Milliseconds before each piece is passed on.
    delay: AtomicU64,
    trap: Mutex<Option<Vec<u8>>>,
    caught: AtomicU64,
    closed: AtomicBool,
}

// === impl Proxy ===

impl Proxy {
    /// Listens at `address` of this place, and passes everything on to `target`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(place: &Place, address: SocketAddr, target: SocketAddr) -> anyhow::Result<Self> {
        within(place, || Self::start_here(place, address, target))
    }

    fn start_here(place: &Place, address: SocketAddr, target: SocketAddr) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("failed to listen on {address}"))?;
        let address = listener.local_addr().context("failed to listen")?;
        let state = Arc::new(State {
            place: place.clone(),
            target,
            delay: AtomicU64::new(0),
            trap: Mutex::new(None),
            caught: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.closed.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&shared);
                // A connection that breaks is the affair of its two ends.
                std::thread::spawn(move || stream.ok().and_then(|stream| state.converse(&stream).ok()));
            }
        });
        Ok(Self { address, state })
    }

    /// Proxies a port of loopback from another one that nobody listens on.
    ///
    /// # Errors
    /// When there is none.
    pub fn of_port(port: u16) -> anyhow::Result<Self> {
        let [own, target] = [0, port].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self::start(&Place::Here, own, target)
    }

    /// From now on every piece waits so long, in both directions.
    pub fn delay(&self, time: Duration) {
        self.state.delay.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Swallows what clients send in one piece with these bytes, and all that comes after it on the connection, until
    /// the client has gone. `None` lets everything through again.
    pub fn trap(&self, bytes: Option<&[u8]>) {
        *self.state.trap.lock().unwrap_or_else(PoisonError::into_inner) = bytes.map(<[u8]>::to_vec);
    }

    /// How often something was swallowed.
    pub fn caught(&self) -> u64 {
        self.state.caught.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        // Wakes the listener; when nothing can connect it has ended already.
        drop(within(&self.state.place, || Ok(TcpStream::connect(self.address)?)));
    }
}

// === impl State ===

impl State {
    fn converse(&self, client: &TcpStream) -> anyhow::Result<()> {
        let server = TcpStream::connect(self.target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        std::thread::scope(|scope| {
            scope.spawn(|| self.pass(&server, client, false));
            self.pass(client, &server, true);
        });
        Ok(())
    }

    /// Passes on one direction, until its end; then tells the other side.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream, is_request: bool) {
        let mut piece = vec![0; PIECE_BYTES];
        let mut swallowing = false;
        while let Ok(length) = from.read(&mut piece) {
            let bytes = piece.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if is_request && !swallowing && self.is_trapped(bytes) {
                swallowing = true;
                self.caught.fetch_add(1, Ordering::Relaxed);
            }
            if swallowing {
                continue;
            }
            pause(Duration::from_millis(self.delay.load(Ordering::Relaxed)));
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        // Either end may have gone before, which is what is to be said.
        drop(from.shutdown(Shutdown::Read));
        drop(to.shutdown(Shutdown::Write));
    }

    fn is_trapped(&self, bytes: &[u8]) -> bool {
        let trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        trap.as_ref().is_some_and(|trap| bytes.windows(trap.len().max(1)).any(|window| window == trap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{now, wait_until};

    /// Answers every piece with itself.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        address
    }

    fn say(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).unwrap();
        back
    }

    #[test]
    fn bytes_pass_and_wait_as_long_as_they_are_told() {
        let proxy = Proxy::of_port(echo().port()).unwrap();
        let mut stream = TcpStream::connect(proxy.address).unwrap();
        assert_eq!(say(&mut stream, b"hello"), b"hello");
        proxy.delay(Duration::from_millis(50));
        let start = now();
        assert_eq!(say(&mut stream, b"again"), b"again");
        assert!(start.elapsed() >= Duration::from_millis(100));
    }

    #[test]
    fn what_is_trapped_is_swallowed_and_nothing_else() {
        let proxy = Proxy::of_port(echo().port()).unwrap();
        proxy.trap(Some(b"bad"));
        let mut caught = TcpStream::connect(proxy.address).unwrap();
        caught.write_all(b"a bad one").unwrap();
        wait_until("a catch", Duration::from_secs(5), || Ok((proxy.caught() == 1).then_some(()))).unwrap();
        let mut free = TcpStream::connect(proxy.address).unwrap();
        assert_eq!(say(&mut free, b"a good one"), b"a good one");
        caught.shutdown(Shutdown::Write).unwrap();
        assert_eq!(caught.read(&mut [0; 8]).unwrap(), 0, "nothing came back");
        proxy.trap(None);
        assert_eq!(say(&mut free, b"a bad one"), b"a bad one");
    }
}
