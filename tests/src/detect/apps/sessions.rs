//! Sessions with a state: log in, look at oneself, fill a cart, open the administration, log out.
//!
//! A session's cookie is made by whoever answers the login and holds for all instances, like a signed token, so that A's
//! cookie is good at B. Noise: tokens, request ids, times of change, the name of the node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::super::random::mix;
use super::super::{Answer, Application, Context, Mutant, Planned, Random, Request, Spot};
use super::{person, words};

pub(in super::super) const ROUTES: &[&str] = &["/login", "/me", "/admin", "/cart", "/logout"];

pub(in super::super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "lost_httponly",
        what: "the session's cookie without HttpOnly",
        share: 0.1,
        spots: &[Spot::at("/login", "set-cookie")],
    },
    Mutant {
        name: "loose_samesite",
        what: "SameSite=None in place of Lax",
        share: 0.1,
        spots: &[Spot::at("/login", "set-cookie")],
    },
    Mutant {
        name: "role_status",
        what: "403 for editors, who may see the administration",
        share: 0.02,
        spots: &[Spot::at("/admin", "status")],
    },
    Mutant {
        name: "leaked_hash",
        what: "the password's hash shown to administrators",
        share: 0.05,
        spots: &[Spot::at("/me", "password_hash")],
    },
    Mutant {
        name: "wrong_total",
        what: "the total of a cart leaves out the last of three or more things",
        share: 0.05,
        spots: &[Spot::at("/cart", "total")],
    },
    Mutant {
        name: "lost_write",
        what: "one product in forty is never put into the cart",
        share: 0.006,
        spots: &[Spot::at("/cart", "lines"), Spot::at("/cart", "total")],
    },
    Mutant {
        name: "error_for_stranger",
        what: "500 in place of 401 without a cookie",
        share: 0.1,
        spots: &[Spot::at("/me", "status")],
    },
    Mutant {
        name: "lost_challenge",
        what: "401 without WWW-Authenticate",
        share: 0.1,
        spots: &[Spot::at("/me", "www-authenticate")],
    },
    Mutant {
        name: "wrong_locale",
        what: "English where German is asked for",
        share: 0.083,
        spots: &[Spot::at("/me", "greeting"), Spot::at("/me", "content-language")],
    },
    Mutant {
        name: "flaky_error",
        what: "503 in one answer of twenty-five, at random",
        share: 0.01,
        spots: &[Spot::at("/me", "status")],
    },
];

/// Products and quantities by session.
#[derive(Debug, Default)]
pub(in super::super) struct Sessions(Mutex<HashMap<String, Vec<(u64, u64)>>>);

/// Who a cookie says somebody is.
struct Who {
    user: u64,
    role: &'static str,
}

// === impl Sessions ===

impl Application for Sessions {
    fn answer(&self, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let token = request.cookie("sid");
        let answer = match (request.method(), request.path(), token, token.and_then(Who::of)) {
            ("POST", "/login", _, _) => login(request, cx),
            (_, _, None, _) | (_, _, _, None) => stranger(cx),
            ("GET", "/me", _, Some(who)) => me(request, &who, cx),
            ("GET", "/admin", _, Some(who)) => admin(&who, cx),
            ("POST", "/cart", Some(token), _) => self.add(token, request, cx),
            ("GET", "/cart", Some(token), _) => self.cart(token, cx),
            ("POST", "/logout", Some(token), _) => self.logout(token),
            (_, _, _, _) => Answer::json(404, &json!({"error": "not found"})),
        };
        answer.with("X-Request-Id", cx.random.uuid())
    }
}

impl Sessions {
    fn add(&self, token: &str, request: Request<'_>, cx: &mut Context<'_>) -> Answer {
        let wanted: Value = serde_json::from_slice(request.body).unwrap_or_default();
        let (product, quantity) =
            (wanted["product"].as_u64().unwrap_or_default(), wanted["quantity"].as_u64().unwrap_or_default());
        let mut carts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        carts.entry(token.to_owned()).or_default().push((product, quantity));
        Answer::json(
            202,
            &json!({"product": product, "change": cx.random.uuid(), "changed_at": cx.timestamp()}),
        )
    }

    fn cart(&self, token: &str, cx: &mut Context<'_>) -> Answer {
        let carts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = carts.get(token).cloned().unwrap_or_default();
        drop(carts);
        // The answer that shows the lost write is the cart's, so the loss is planted here.
        let lost = |line: &(u64, u64)| line.0 % 40 == 11;
        if cx.planted("lost_write", lines.iter().any(lost)) {
            lines.retain(|line| !lost(line));
        }
        let cents = |(product, quantity): &(u64, u64)| (100 + mix(&[*product]) % 900) * quantity;
        let counted = if cx.planted("wrong_total", lines.len() >= 3) { lines.len() - 1 } else { lines.len() };
        let total: u64 = lines.iter().take(counted).map(cents).sum();
        let lines: Vec<Value> = lines
            .iter()
            .map(|line| json!({"product": line.0, "quantity": line.1, "cents": cents(line)}))
            .collect();
        Answer::json(
            200,
            &json!({"lines": lines, "total": total, "csrf": cx.random.hex(32), "node": cx.environment}),
        )
    }

    fn logout(&self, token: &str) -> Answer {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
        Answer { status: 204, body: Vec::new(), ..Answer::json(204, &Value::Null) }
            .without("Content-Type")
            .with("Set-Cookie", "sid=; Path=/; Max-Age=0")
    }
}

// === impl Who ===

impl Who {
    /// A token is `user.role.secret`.
    fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let user = parts.next()?.parse().ok()?;
        let role = ["user", "editor", "admin"].into_iter().find(|role| parts.clone().next() == Some(role))?;
        Some(Self { user, role })
    }
}

fn login(request: Request<'_>, cx: &mut Context<'_>) -> Answer {
    let wanted: Value = serde_json::from_slice(request.body).unwrap_or_default();
    let user = wanted["user"].as_u64().unwrap_or_default();
    let role = match user % 5 {
        0 => "admin",
        1 => "editor",
        _ => "user",
    };
    let secret = cx.random.hex(32);
    let http_only = if cx.planted("lost_httponly", true) { "" } else { "; HttpOnly" };
    let same_site = if cx.planted("loose_samesite", true) { "None" } else { "Lax" };
    Answer::json(
        200,
        &json!({"user": user, "role": role, "expires_at": cx.timestamp(), "session": cx.random.uuid()}),
    )
    .with("Set-Cookie", format!("sid={user}.{role}.{secret}; Path=/{http_only}; SameSite={same_site}"))
}

fn stranger(cx: &mut Context<'_>) -> Answer {
    if cx.planted("error_for_stranger", true) {
        return Answer::json(500, &json!({"error": "internal", "trace": cx.random.hex(16)}));
    }
    let answer = Answer::json(401, &json!({"error": "log in first", "trace": cx.random.hex(16)}))
        .with("WWW-Authenticate", "Bearer realm=\"shop\"");
    if cx.planted("lost_challenge", true) { answer.without("WWW-Authenticate") } else { answer }
}

fn me(request: Request<'_>, who: &Who, cx: &mut Context<'_>) -> Answer {
    let fails = cx.random.chance(0.04);
    if cx.planted("flaky_error", fails) {
        return Answer::json(503, &json!({"error": "try again"}));
    }
    let german = request.field("accept-language").is_some_and(|wanted| wanted.starts_with("de"));
    let german = german && !cx.planted("wrong_locale", german);
    let (language, greeting) = if german { ("de", "Guten Tag") } else { ("en", "Good day") };
    let mut value = json!({
        "user": who.user, "name": person(who.user), "role": who.role, "greeting": greeting, "about": words(who.user, 6),
        "seen_at": cx.timestamp(), "csrf": cx.random.hex(32), "node": cx.environment,
    });
    if cx.planted("leaked_hash", who.role == "admin") {
        value["password_hash"] = json!(format!("$2b${:016x}", mix(&[who.user])));
    }
    Answer::json(200, &value).with("Content-Language", language).with("Vary", "Accept-Language, Cookie")
}

fn admin(who: &Who, cx: &mut Context<'_>) -> Answer {
    let refused = who.role == "user" || cx.planted("role_status", who.role == "editor");
    match refused {
        true => Answer::json(403, &json!({"error": "not for you"})),
        false => Answer::json(
            200,
            &json!({"users": 4_210, "jobs": ["mail", "index"], "checked_at": cx.timestamp()}),
        ),
    }
}

/// Ten requests of one visitor.
pub(in super::super) fn visit(random: &mut Random) -> Vec<Planned> {
    let user = random.below(300);
    let language = if random.chance(1.0 / 3.0) { "de" } else { "en" };
    let add = |random: &mut Random| {
        let body = json!({"product": random.below(200), "quantity": 1 + random.below(3)}).to_string();
        Planned::post("/cart", "application/json", body)
    };
    let login =
        Planned::post("/login", "application/json", json!({"user": user, "password": "x"}).to_string());
    let look = || Planned::get("/me".to_owned()).with("Accept-Language", language);
    vec![
        look(),
        login,
        look(),
        add(random),
        if random.chance(0.5) { add(random) } else { look() },
        add(random),
        Planned::get("/cart".to_owned()),
        Planned::get("/admin".to_owned()),
        look(),
        Planned::post("/logout", "application/json", "{}".to_owned()),
    ]
}
