//! What `[admin]` may say.
//!
//! Reads no file but an empty folder's.

use super::*;
use crate::config::{Flags, parse};

/// The listener, or the error with its place.
fn admin(lines: &str, flag: Option<&str>) -> Result<Option<AdminConfig>, String> {
    let flags = Flags { admin: flag.map(str::to_owned), ..Flags::default() };
    let parsed = parse(&format!("[admin]\n{lines}\n"), Some(Path::new("u.toml")), flags);
    parsed.map(|config| config.admin).map_err(|error| error.to_string())
}

#[track_caller]
fn check(lines: &str, expected: Result<&str, &str>) {
    match (admin(lines, None), expected) {
        (Ok(config), Ok(listen)) => {
            let shown = config.map_or("off".to_owned(), |config| config.listen.to_string());
            assert_eq!(shown, listen, "{lines}");
        }
        (Err(message), Err(part)) => assert!(message.contains(part), "{message}\nshould say: {part}"),
        (got, expected) => panic!("{lines}: {got:?}, expected {expected:?}"),
    }
}

#[test]
fn elsewhere_than_on_loopback_it_must_be_known_who_asks() {
    check("", Ok(ADMIN_DEFAULT));
    check("listen = \"off\"", Ok("off"));
    check("listen = \"127.8.9.1:1\"", Ok("127.8.9.1:1"));
    check("listen = \"[::1]:1\"", Ok("[::1]:1"));
    check("listen = \"[::ffff:127.0.0.1]:1\"", Ok("[::ffff:127.0.0.1]:1"));
    for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
        let listen = format!("listen = \"{open}\"");
        check(&listen, Err("line 2, key `admin.listen`"));
        check(&format!("{listen}\ntoken = \"/t\""), Ok(open));
        // TLS alone says who we are, not who asks.
        check(&format!("{listen}\ncert = \"c\"\nkey = \"k\""), Err("client_ca"));
        check(&format!("{listen}\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"a\""), Ok(open));
    }
    let flagged = admin("", Some("0.0.0.0:1")).unwrap_err();
    assert!(flagged.contains("`admin.listen`") && flagged.contains("`token`"), "{flagged}");
    assert!(admin("token = \"/t\"", Some("0.0.0.0:1")).is_ok());
}

#[test]
fn a_token_of_systemd_counts_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let raw = || RawAdmin { listen: Some(Spanned::new(0..1, "0.0.0.0:1".to_owned())), ..RawAdmin::default() };
    assert!(raw().finish(Some(folder.path())).is_err());
    let token = folder.path().join("admin-token");
    std::fs::write(&token, "").unwrap();
    let (config, _) = raw().finish(Some(folder.path())).unwrap();
    assert_eq!(config.unwrap().token, Some(token));
    let named = RawAdmin { token: Some("/named".into()), ..raw() };
    let (config, _) = named.finish(Some(folder.path())).unwrap();
    assert_eq!(config.unwrap().token, Some("/named".into()));
}

#[test]
fn keys_that_belong_together_are_asked_for() {
    check("cert = \"c\"", Err("line 2, key `admin.cert`: needs its `key`"));
    check("key = \"k\"", Err("line 2, key `admin.key`: needs its `cert`"));
    check("client_ca = \"a\"", Err("line 2, key `admin.client_ca`"));
    check("connections_max = 0", Err("line 2, key `admin.connections_max`"));
    check("head_bytes_max = 100", Err("line 2, key `admin.head_bytes_max`: must be at least 8192"));
    check("head_wait_max = \"soon\"", Err("line 2, key `admin.head_wait_max`"));
    check("requests_per_second_max = 0", Err("line 2, key `admin.requests_per_second_max`"));
    check("secret = \"hunter2\"", Err("unknown field"));
}

#[test]
fn exchanges_are_handed_in_on_loopback_only() {
    check("observe = true", Ok(ADMIN_DEFAULT));
    check("observe = true\nlisten = \"off\"", Err("line 2, key `admin.observe`"));
    check("observe = true\nlisten = \"0.0.0.0:1\"\ntoken = \"t\"", Err("line 2, key `admin.observe`"));
}

#[test]
fn a_command_without_a_listener_is_handed_nothing() {
    let parsed = |text: &str, no_observe| {
        let flags = Flags { admin: Some("off".to_owned()), no_observe, ..Flags::default() };
        parse(text, None, flags).map(|config| config.observe).map_err(|error| error.to_string())
    };
    let text = "[admin]\nobserve = true\n";
    assert_eq!(parsed(text, true), Ok(false));
    // Whoever switches the listener off himself is told.
    assert!(parsed(text, false).unwrap_err().contains("`admin.observe`: needs the admin listener"));
}
