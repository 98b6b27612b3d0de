//! A server that repeats what it is told, and requests that carry a secret of every kind to it.
//!
//! Searches for none of them.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use understudy_tests::client::Client;
use understudy_tests::wire::{Fields, Reader, field};

/// One secret of each kind. Requests carry them, A and B repeat them, and each makes some of its own.
pub(super) const SECRETS: [&str; 19] = [
    "b3arer.S3cr3t-token_99",
    "QWxhZGRpbjpvcGVuLXMzczRtZQ==",
    "c00kieS3cretValue77",
    "ap1keyOfSomebody4711",
    "f0rmPassw0rdOfAlice",
    "js0nPassw0rdOfBob",
    "qu3ryTok3nOfCarol",
    "multipartS3cret2025",
    "gz1ppedS3cretOfDave",
    "4111111111111111",
    "5500 0055 5555 5559",
    "erin.secret@example.org",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJmcmFuay1zZWNyZXQifQ.c2lnbmF0dXJlLXNlY3JldA",
    "wr0ngTypeS3cretOfGina",
    "0ctetS3cretOfHeidi42",
    "url0wnerS3cretOfIvan",
    "s3condC00kieOfJudy77",
    "pla1nTextS3cretOfLeo",
    TRAILER,
];

/// What stands behind a body, which is not sent again.
pub(super) const TRAILER: &str = "tra1lerS3cretOfKarl9";

/// What only A's and B's answers have: a session, a token against forgery, a token in a URL.
pub(super) const OF_SERVERS: [&str; 3] =
    ["setC00kieOfTheServer5", "csrfOfTheServer31337", "redirectT0ken99887"];

/// What stands in answers that are none, or not all of one, and in an error message. One each, in the order of [`GARBAGE`].
pub(super) const OF_GARBAGE: [&str; 7] = [
    "statusL1neSecret0fMallory",
    "br0kenFieldSecretOfNina",
    "leng7hSecretOfOscarXY",
    "chunkS1zeSecretOfPeggy",
    "cutB0dySecretOfQuentin",
    "err0rMessageSecretOfRupert",
    "n0HttpAtAllSecretOfSybil",
];

/// How an answer can be wrong: `/garbage/KIND` asks B for one, and `/both/KIND` A as well.
pub(super) const GARBAGE: [&str; 7] = ["status", "field", "length", "chunk", "cut", "message", "banner"];

/// Stands in the error message, so that it is known to have been kept.
pub(super) const MESSAGE_MARKER: &str = "marker-of-an-error-message";

/// No secret: it must be found wherever secrets are searched for.
pub(super) const MARKER: &str = "marker-of-no-secret";

/// A server that repeats what it is told, in the ways that applications do.
pub(super) struct Vault {
    pub(super) address: SocketAddr,
    /// Every byte that it was sent, in readable form.
    received: Arc<Mutex<String>>,
}

/// What a server answers.
#[derive(Clone, Copy)]
pub(super) struct Habits {
    /// What `/price` says: no secret, and wrong in B.
    pub(super) price: u32,
    /// It answers `/garbage/…` with garbage, as both do `/both/…`.
    pub(super) garbles: bool,
}

// === impl Vault ===

impl Vault {
    /// `price` is what `/price` answers: no secret, and wrong in B.
    pub(super) fn start(price: u32) -> anyhow::Result<Self> {
        Self::with(Habits { price, garbles: false })
    }

    pub(super) fn with(habits: Habits) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let received = Arc::new(Mutex::new(String::new()));
        let log = Arc::clone(&received);
        // Ends with the test program, as its connections do.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream, habits, &log));
            }
        });
        Ok(Self { address, received })
    }

    pub(super) fn received(&self) -> String {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers until the connection ends. What goes wrong on it is seen by whoever waits for the answer.
fn serve(stream: TcpStream, habits: Habits, log: &Mutex<String>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let mut reader = Reader::new(stream);
    loop {
        let head = reader.request_head().ok()??;
        let body = reader.body_bytes(head.framing().ok()?).ok()?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let line = format!("{} {} {:?} {text}\n", head.method, head.target, head.fields);
        log.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
        let kind = match head.target.trim_start_matches('/').split_once('/') {
            Some(("garbage", kind)) if habits.garbles => Some(kind),
            Some(("both", kind)) => Some(kind),
            Some(_) | None => None,
        };
        if let Some(garbage) = kind.and_then(|kind| garbage(kind, &head.fields)) {
            // The end of the connection is the end of the answer.
            return writer.write_all(&garbage).ok();
        }
        writer.write_all(&answer(&head.target, &head.fields, &text, habits.price)).ok()?;
    }
}

/// An answer that is none, or not all of one, and quotes what nobody should see.
fn garbage(kind: &str, fields: &Fields) -> Option<Vec<u8>> {
    let [status, broken, length, chunk, cut, message, banner] = OF_GARBAGE;
    let of = |name: &str| field(fields, name).unwrap_or_default();
    let json = "Content-Type: application/json\r\n";
    let text = match kind {
        "status" => format!("HTTP/1.1 2OO password={status}\r\nSet-Cookie: sid={status}\r\n\r\n"),
        "field" => {
            format!("HTTP/1.1 200 OK\r\nX Api Key {broken}\r\nAuthorization : Bearer {broken}\r\n\r\n")
        }
        "length" => format!("HTTP/1.1 200 OK\r\nContent-Length: 7, token={length}\r\n\r\nsecret!"),
        "chunk" => {
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\npassword={chunk}\r\nabc\r\n0\r\n\r\n"
            )
        }
        "cut" => {
            format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 4000\r\n\r\n{{\"a\":1,\"password\":\"{cut}")
        }
        "message" => {
            let body = format!(
                "{MESSAGE_MARKER}: Traceback (most recent call last): cannot log in as x@example.org with password='{message}' \
                 for \"Authorization: {}\", cookie sid={message}; retry with https://app:{message}@db.example.org/",
                of("authorization")
            );
            format!(
                "HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        "banner" => format!("220 ready; api_key={banner}\r\n"),
        _ => return None,
    };
    Some(text.into_bytes())
}

fn answer(target: &str, fields: &Fields, body: &str, price: u32) -> Vec<u8> {
    let of = |name: &str| field(fields, name).unwrap_or_default().to_owned();
    let session = of("cookie").split("sid=").nth(1).unwrap_or_default().to_owned();
    let [set, csrf, redirect] = OF_SERVERS;
    let (kind, body) = if target.starts_with("/page") {
        let page = format!(
            "<p>{MARKER} {}</p><input type=\"hidden\" name=\"csrf_token\" value=\"{csrf}\">\
             <a href=\"/go?a=1&amp;access_token={redirect}\">go</a>",
            of("x-mail")
        );
        ("text/html", page)
    } else {
        let json = serde_json::json!({
            "marker": MARKER,
            "price": if target.starts_with("/price") { price } else { 100 },
            "session": session,
            "authorization": of("authorization"),
            "api_key": of("x-api-key"),
            "mail": of("x-mail"),
            "note": format!("paid with {}, card on file", of("x-card")),
            "target": target,
            "said": body,
            "next": format!("/go?page=2&token={redirect}"),
        });
        ("application/json", json.to_string())
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nSet-Cookie: sid={set}; Path=/; HttpOnly\r\n\
         Location: /go?access_token={redirect}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Requests that carry every secret, the last one to `/price`.
fn requests() -> Vec<Vec<u8>> {
    let [
        bearer,
        basic,
        cookie,
        key,
        form,
        json,
        query,
        multipart,
        gzipped,
        card,
        grouped,
        mail,
        jwt,
        rest @ ..,
    ] = SECRETS;
    let [wrong_type, octets, owner, second, plain, trailer] = rest;
    let coded = |value: &str| value.replace('@', "%40").replace(' ', "+");
    let request = |method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]| {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: vault\r\nX-Marker: {MARKER}\r\n");
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        [head.as_bytes(), b"\r\n", body].concat()
    };
    let bearer = format!("Bearer {bearer}");
    let basic = format!("Basic {basic}");
    let with_jwt = format!("Bearer {jwt}");
    let cookies = format!("theme=dark; sid={cookie}");
    let json = serde_json::json!({
        "user": {"name": "bob", "password": json},
        "cards": [{"number": card}],
        "mail": mail,
        "id_token": jwt,
        "marker": MARKER,
    });
    let parts = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"secret\"\r\n\r\n{multipart}\r\n--XX\r\n\
         Content-Disposition: form-data; name=\"marker\"\r\n\r\n{MARKER}\r\n--XX--\r\n"
    );
    vec![
        request("GET", "/json", &[("Authorization", &bearer), ("Cookie", &cookies), ("X-Api-Key", key)], b""),
        request("GET", "/json", &[("Authorization", &basic), ("X-Mail", mail), ("X-Card", grouped)], b""),
        request("GET", "/page", &[("Authorization", &with_jwt), ("X-Mail", mail)], b""),
        request("GET", &format!("/json?token={query}&mail={}&page=2", coded(mail)), &[], b""),
        request("GET", &format!("/users/{}/orders", coded(mail)), &[("Cookie", &cookies)], b""),
        request(
            "POST",
            "/json",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            format!("user=alice&password={form}&card={}&marker={MARKER}", coded(grouped)).as_bytes(),
        ),
        request("POST", "/json", &[("Content-Type", "application/json")], json.to_string().as_bytes()),
        request("POST", "/json", &[("Content-Type", "multipart/form-data; boundary=XX")], parts.as_bytes()),
        request(
            "POST",
            "/page",
            &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
            &gzip(format!("{{\"client_secret\":\"{gzipped}\",\"marker\":\"{MARKER}\"}}").as_bytes()),
        ),
        // What no tool would send by design.
        request(
            "POST",
            "/json",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            format!("{{\"user\":\"gina\",\"password\":\"{wrong_type}\"}}").as_bytes(),
        ),
        request(
            "POST",
            "/json",
            &[("Content-Type", "application/octet-stream")],
            format!("{{\"torn\":\"off\n{{\"api_key\":\"{octets}\"}}\n").as_bytes(),
        ),
        request(
            "GET",
            "/json",
            &[
                ("rEFERER", &format!("https://ivan:{owner}@shop.example.org/a?b=1")),
                ("cOOKIE", "theme=dark"),
                ("COOKIE", &format!("other={second}")),
            ],
            b"",
        ),
        request(
            "POST",
            "/json",
            &[("Content-Type", "text/plain")],
            format!("2026-01-02 login: user=leo, password: '{plain}' ({MARKER})").as_bytes(),
        ),
        format!(
            "POST /json HTTP/1.1\r\nHost: vault\r\nTransfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n\
             2\r\nok\r\n0\r\nX-Api-Key: {trailer}\r\n\r\n"
        )
        .into_bytes(),
        request("GET", "/price", &[("Authorization", &bearer), ("Cookie", &cookies), ("X-Mail", mail)], b""),
    ]
}

/// One stored block (RFC 1951 section 3.2.4, RFC 1952), so that the secret can be searched for.
fn gzip(plain: &[u8]) -> Vec<u8> {
    let length = u16::try_from(plain.len()).unwrap_or(u16::MAX);
    let crc = crc32(plain);
    [
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1][..],
        &length.to_le_bytes(),
        &(!length).to_le_bytes(),
        plain,
        &crc.to_le_bytes(),
        &u32::from(length).to_le_bytes(),
    ]
    .concat()
}

/// CRC-32 bit by bit (RFC 1952 section 8).
fn crc32(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}

/// Asks for each kind of garbage, of B and of both, with credentials and each on a connection of its own: how many requests.
pub(super) fn send_for_garbage(to: &Vault) -> anyhow::Result<u64> {
    let [bearer, _, cookie, ..] = SECRETS;
    let mut sent = 0;
    for place in ["garbage", "both"] {
        for kind in GARBAGE {
            let mut client = Client::connect(to.address)?;
            let request = format!(
                "GET /{place}/{kind} HTTP/1.1\r\nHost: vault\r\nX-Marker: {MARKER}\r\nAuthorization: Bearer {bearer}\r\n\
                 Cookie: sid={cookie}\r\nConnection: close\r\n\r\n"
            );
            client.send(request.as_bytes())?;
            let answered = client.answer("GET");
            ensure!(answered.is_ok() || place == "both", "A did not answer /{place}/{kind}");
            sent += 1;
        }
    }
    Ok(sent)
}

/// Sends all requests so many times, each on the connection of its round.
pub(super) fn send(to: &Vault, rounds: usize) -> anyhow::Result<u64> {
    let requests = requests();
    for _ in 0..rounds {
        let mut client = Client::connect(to.address)?;
        for request in &requests {
            client.send(request)?;
            let answer = client.answer("GET")?;
            ensure!(answer.status == 200, "A answered {}", answer.status);
        }
    }
    Ok((rounds * requests.len()) as u64)
}
