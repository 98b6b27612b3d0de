//! Lua scripts, which Redis runs whole or not at all.
//!
//! Sends the text of a script only to a server that does not know it yet; otherwise its SHA-1 does.

use redis::{Cmd, ToRedisArgs};

/// A script, with the text from a file beside this one.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    text: &'static str,
    sha1: String,
}

/// One call of a script.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) command: Cmd,
    pub(super) keys: Vec<String>,
}

// === impl Script ===

impl Script {
    /// A script with a name for messages.
    pub fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, sha1: redis::Script::new(text).get_hash().to_owned() }
    }

    /// What messages call it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A call with these keys, all of one shard, and no arguments yet.
    pub fn call(&self, keys: Vec<String>) -> Call {
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(&self.sha1).arg(keys.len());
        for key in &keys {
            command.arg(key);
        }
        Call { command, keys }
    }

    /// The command that makes a server know it.
    pub(super) fn load(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg("SCRIPT").arg("LOAD").arg(self.text);
        command
    }
}

// === impl Call ===

impl Call {
    /// Adds an argument.
    pub fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Its keys.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }
}
