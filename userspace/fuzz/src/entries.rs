//! What must hold of reading any value of a queue entry.
//!
//! Knows no queue.

use std::cell::RefCell;
use std::sync::Arc;

use understudy::queue::entry::{Encoding, EntryDecoder, EntryEncoder, EntryLimits};
use understudy::wire::WireLimits;

/// Any bytes in either encoding: what is read as an exchange is written again, and reads as the same.
pub fn entries(bytes: &[u8]) {
    thread_local! {
        static CODERS: RefCell<(EntryEncoder, EntryDecoder)> = RefCell::new({
            let wire = WireLimits { exchange_bytes_max: 16 << 10 };
            let limits = EntryLimits { wire, compress_bytes_min: 400, ..EntryLimits::default() };
            let encoder = EntryEncoder::new(limits).expect("there is memory");
            (encoder, EntryDecoder::new(limits).expect("there is memory"))
        });
    }
    CODERS.with_borrow_mut(|(encoder, decoder)| {
        let route: Arc<str> = "/".into();
        for encoding in Encoding::ALL {
            let Ok(exchange) = decoder.decode(encoding, bytes) else { continue };
            // What others write in fewer bytes than we do may be too large for us.
            let Ok(entry) = encoder.encode(&exchange, &route) else { continue };
            let again = decoder.decode(entry.encoding, &entry.value).expect("it was written here");
            assert_eq!(encoder.encode(&again, &route).expect("it was written before"), entry);
        }
    });
}
