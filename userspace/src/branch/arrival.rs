//! Reads from a connection, and learns from the kernel how long ago the bytes came.
//!
//! Does not take for the candidate's time what this process waits for the processor: it steps back behind the service,
//! and on a busy host it reads an answer long after it came. A's times are the kernel's, too.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime};

use nix::sys::socket::sockopt::Timestamping;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, TimestampingFlag, Timestamps, recvmsg, setsockopt};

/// Asks the kernel to note when packets come (`SO_TIMESTAMPING`, Documentation/networking/timestamping.rst).
///
/// # Errors
///
/// The kernel refuses.
pub(super) fn note_arrivals(socket: &impl AsFd) -> io::Result<()> {
    let flags = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    Ok(setsockopt(socket, Timestamping, &flags)?)
}

/// Reads without waiting: the number of bytes, and how long ago the last packet of them came. Zero where the kernel did
/// not note it.
///
/// # Errors
///
/// As of `recvmsg(2)`; `WouldBlock` when nothing came.
pub(super) fn read(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<(usize, Duration)> {
    let mut space = nix::cmsg_space!(Timestamps);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let came = message.cmsgs()?.find_map(|control| {
        let ControlMessageOwned::ScmTimestampsns(Timestamps { system, .. }) = control else { return None };
        (system.tv_sec() > 0).then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from(system)))?
    });
    Ok((message.bytes, came.map_or(Duration::ZERO, since)))
}

/// How long ago that was by the clock of the stamps, which may be set in between: never less than nothing.
#[expect(clippy::disallowed_methods, reason = "stamps of the kernel are of this clock")]
fn since(came: SystemTime) -> Duration {
    SystemTime::now().duration_since(came).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::branch::connect::now;

    #[test]
    fn bytes_that_waited_are_as_old_as_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        note_arrivals(&server).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read(&server, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let waited = Duration::from_millis(2);
        // The kernel begins to note arrivals some moments after it was asked to for the first time.
        let noted = (0..500).find_map(|_| {
            let before = now();
            client.write_all(b"late").unwrap();
            while before.elapsed() < waited {}
            let (bytes, ago) = read(&server, &mut buffer).unwrap();
            assert_eq!(&buffer[..bytes], b"late");
            assert!(ago <= before.elapsed());
            (ago > waited / 2).then_some(ago)
        });
        assert!(noted.is_some());
    }
}
