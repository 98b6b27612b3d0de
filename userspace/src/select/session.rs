//! Which exchanges belong to one session, so that they stay in order: a hash that chooses their shard.
//!
//! Verifies no token and keeps no name: what a session is called goes into the hash and nowhere else.
//!
//! The hash is the same on every host and in every version: a key is hashed with FNV-1a of 64 bits (RFC 9923), whose bits
//! are then mixed with MurmurHash3's finalizer of 64 bits. The shard is the rest of the hash divided by the number of
//! shards. Whoever can choose the key can choose the shard; that costs order and balance, nothing else.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};

use crate::model::{Exchange, Request, is_token};

use super::run_if::cookies;
use super::sample::stable_hash;

/// What makes a session. Where a request does not have it, or it is empty, the client's address does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SessionBy {
    /// The client's address without its port: 16 bytes, IPv4 mapped into IPv6. Behind a proxy that is the proxy.
    #[default]
    Client,
    /// The connection: the flow of the exchange id, 8 bytes, little-endian.
    Connection,
    /// The first cookie of this name: its value, without quotes being taken off.
    Cookie(String),
    /// The first field of this name: its value.
    Header(String),
    /// Who the request says to come from in `Authorization`: the user of Basic (RFC 7617), the `sub` of a JWT as Bearer
    /// (RFC 7519), read without looking at its signature; else the credentials themselves.
    Subject,
}

/// A session key that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session `{key}` must be `client`, `connection`, `cookie:NAME`, `header:NAME` or `subject`")]
pub struct SessionByError {
    /// As configured.
    pub key: String,
}

/// Credentials of more bytes are hashed as they are, not looked into.
const CREDENTIALS_BYTES_MAX: usize = 16 << 10;

// === impl SessionBy ===

/// Parses `client`, `connection`, `cookie:NAME`, `header:NAME` or `subject`.
impl FromStr for SessionBy {
    type Err = SessionByError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = |name: &str| is_token(name.trim().as_bytes()).then(|| name.trim().to_owned());
        let session = match text.trim().split_once(':') {
            None => match text.trim() {
                "client" => Some(SessionBy::Client),
                "connection" => Some(SessionBy::Connection),
                "subject" => Some(SessionBy::Subject),
                _ => None,
            },
            Some(("cookie", cookie)) => name(cookie).map(SessionBy::Cookie),
            Some(("header", header)) => name(header).map(SessionBy::Header),
            Some((_, _)) => None,
        };
        session.ok_or_else(|| SessionByError { key: text.to_owned() })
    }
}

impl SessionBy {
    /// The shard of an exchange, from 0 to one less than there are.
    pub fn shard(&self, exchange: &Exchange, shards: NonZeroU32) -> u32 {
        let rest = self.hash(exchange).checked_rem(u64::from(shards.get())).unwrap_or(0);
        u32::try_from(rest).unwrap_or(0)
    }

    /// The hash of the session that an exchange belongs to.
    pub fn hash(&self, exchange: &Exchange) -> u64 {
        let request = &exchange.request;
        let key = match self {
            SessionBy::Client => None,
            SessionBy::Connection => return stable_hash(&exchange.id.flow.to_le_bytes()),
            SessionBy::Cookie(name) => cookies(request, name.as_bytes()).next().map(Cow::Borrowed),
            SessionBy::Header(name) => request.headers.get(name).map(Cow::Borrowed),
            SessionBy::Subject => subject(request),
        };
        match key.filter(|key| !key.is_empty()) {
            Some(key) => stable_hash(&key),
            None => stable_hash(&exchange.flow.key.client.addr),
        }
    }
}

fn subject(request: &Request) -> Option<Cow<'_, [u8]>> {
    let whole = request.headers.get("authorization")?.trim_ascii();
    let mut words = whole.splitn(2, |byte| *byte == b' ');
    let scheme = words.next()?;
    let credentials = words.next().unwrap_or_default().trim_ascii();
    let named = if credentials.len() > CREDENTIALS_BYTES_MAX {
        None
    } else if scheme.eq_ignore_ascii_case(b"basic") {
        basic_user(credentials)
    } else if scheme.eq_ignore_ascii_case(b"bearer") {
        jwt_subject(credentials)
    } else {
        None
    };
    Some(named.filter(|name| !name.is_empty()).map_or(Cow::Borrowed(whole), Cow::Owned))
}

fn basic_user(credentials: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = STANDARD_PAD_INDIFFERENT.decode(credentials).ok()?;
    let user = decoded.iter().position(|byte| *byte == b':')?;
    decoded.truncate(user);
    Some(decoded)
}

/// The second of three parts, which is JSON.
fn jwt_subject(token: &[u8]) -> Option<Vec<u8>> {
    let mut parts = token.split(|byte| *byte == b'.');
    let (_header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_PAD_INDIFFERENT.decode(claims).ok()?).ok()?;
    match claims.get("sub")? {
        serde_json::Value::String(subject) => Some(subject.clone().into_bytes()),
        // Not allowed, and yet issued.
        serde_json::Value::Number(subject) => Some(subject.to_string().into_bytes()),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => None,
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Endpoint, ExchangeId, Timestamp, samples};

    /// header {"alg":"none"}, claims {"sub":"alice","exp":1}
    const JWT: &str = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MX0.c2ln";
    /// The same with other claims beside: a token that was renewed.
    const RENEWED: &str = "bearer eyJhbGciOiJub25lIn0.eyJleHAiOjIsInN1YiI6ImFsaWNlIn0.";

    fn exchange(client: &str, fields: &[(&str, &str)]) -> Exchange {
        let id = ExchangeId { flow: 0x0123_4567_89ab_cdef, offset: 7 };
        let request = samples::request("GET", "/", fields);
        let mut exchange = samples::exchange(id, Timestamp(0), request, samples::response(200, &[], ""));
        exchange.flow.key.client = Endpoint::from(client.parse::<SocketAddr>().unwrap());
        exchange
    }

    /// The hash is that of these bytes.
    #[track_caller]
    fn check(by: &str, fields: &[(&str, &str)], key: &[u8]) {
        let by: SessionBy = by.parse().unwrap();
        assert_eq!(by.hash(&exchange("10.0.0.1:40000", fields)), stable_hash(key), "{by:?} {fields:?}");
    }

    const CLIENT: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];

    #[test]
    fn a_session_is_what_was_configured() {
        check("client", &[], &CLIENT);
        check("connection", &[], &0x0123_4567_89ab_cdefu64.to_le_bytes());
        check("cookie:sid", &[("Cookie", "a=1; sid=xyz; sid=2")], b"xyz");
        check("header: X-User ", &[("x-user", "7")], b"7");
        check("subject", &[("Authorization", "Basic YWxpY2U6cDphc3M=")], b"alice");
        check("subject", &[("authorization", "basic YWxpY2U6cDphc3M")], b"alice");
        check("subject", &[("Authorization", JWT)], b"alice");
        check("subject", &[("Authorization", RENEWED)], b"alice");
        // {"sub":17}
        check("subject", &[("Authorization", "Bearer e30.eyJzdWIiOjE3fQ.x")], b"17");
    }

    #[test]
    fn what_a_request_does_not_have_is_the_client() {
        check("cookie:sid", &[], &CLIENT);
        check("cookie:sid", &[("Cookie", "sid=; other=1")], &CLIENT);
        check("header:X-User", &[("X-User", "")], &CLIENT);
        check("subject", &[], &CLIENT);
        check("subject", &[("Authorization", "")], &CLIENT);
    }

    #[test]
    fn credentials_that_name_nobody_are_the_session() {
        for whole in [
            "Token abc",
            "Bearer opaque",
            "Bearer a.b",
            "Bearer a.b.c.d",
            "Bearer e30.e30.x",
            "Bearer e30.eyJzdWIiOnt9fQ.x",
            "Basic ???",
            "Basic bm9jb2xvbg==",
            "Basic Om5vdXNlcg==",
            "Basic",
        ] {
            check("subject", &[("Authorization", whole)], whole.as_bytes());
        }
        let long = format!("Bearer e30.{}.x", "A".repeat(CREDENTIALS_BYTES_MAX));
        check("subject", &[("Authorization", &long)], long.as_bytes());
    }

    #[test]
    fn the_clients_port_makes_no_session() {
        let shards = NonZeroU32::new(1 << 16).unwrap();
        let [one, other, another] = ["[2001:db8::1]:1", "[2001:db8::1]:2", "[2001:db8::2]:1"]
            .map(|client| SessionBy::Client.shard(&exchange(client, &[]), shards));
        assert_eq!(one, other);
        assert_ne!(one, another);
    }

    #[test]
    fn a_key_that_is_not_known_is_refused() {
        for key in ["", "user", "cookie:", "header:a b", "cookie", "query:x"] {
            let error = key.parse::<SessionBy>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
    }

    /// Hosts of different versions share shards: these numbers, computed by another program, may never change.
    #[test]
    fn shards_are_the_same_for_ever() {
        let sixteen = NonZeroU32::new(16).unwrap();
        let exchange = exchange("10.0.0.1:40000", &[("Cookie", "sid=xyz"), ("Authorization", JWT)]);
        let got = ["client", "connection", "cookie:sid", "subject"].map(|by| {
            let by: SessionBy = by.parse().unwrap();
            (by.hash(&exchange), by.shard(&exchange, sixteen))
        });
        assert_eq!(
            got,
            [
                (0x942f_1918_7936_f36c, 12),
                (0xf1b1_f737_8097_a748, 8),
                (0x8911_035b_39e3_9931, 1),
                (0x3507_d047_a67c_08f4, 4)
            ]
        );
    }

    proptest! {
        #[test]
        fn any_credentials_have_a_shard(text in "(Basic |Bearer |)[ -~]{0,60}(\\.[ -~]{0,30}){0,3}", shards in 1u32..70) {
            let shards = NonZeroU32::new(shards).unwrap();
            let exchange = exchange("10.0.0.1:1", &[("Authorization", &text)]);
            prop_assert!(SessionBy::Subject.shard(&exchange, shards) < shards.get());
        }
    }

    #[test]
    fn sessions_spread_over_shards() {
        let shards = NonZeroU32::new(12).unwrap();
        let mut counts = [0u32; 12];
        for user in 0..12_000 {
            let exchange = exchange("10.0.0.1:1", &[("X-User", &user.to_string())]);
            counts[SessionBy::Header("x-user".into()).shard(&exchange, shards) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}
