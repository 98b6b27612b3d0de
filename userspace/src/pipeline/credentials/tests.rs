//! When a source is asked, and what its answers mean.
//!
//! Time is the runtime's own; files and programs are real.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::model::{Observation, samples};

fn config(source: CredentialSource) -> CredentialConfig {
    CredentialConfig {
        source,
        header: "authorization".to_owned(),
        prefix: "Bearer ".to_owned(),
        always: true,
        wait_max: Duration::from_secs(10),
        refresh_min: Duration::from_secs(10),
        refresh: None,
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Credentials from a file, which each step may write anew.
struct Stage {
    folder: tempfile::TempDir,
    credentials: Credentials,
    stats: Arc<ReplayStats>,
}

impl Stage {
    async fn start(adjust: impl FnOnce(&mut CredentialConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "first\n");
        let mut config = config(CredentialSource::File(path));
        adjust(&mut config);
        let stats = Arc::default();
        let credentials = hold(&[config], &"x".into(), &stats).await.unwrap();
        Self { folder, credentials, stats }
    }

    fn write(&self, text: &str) {
        write(&self.folder.path().join("token"), text);
    }

    /// So many requests side by side, which the candidate refuses; what that means for each.
    async fn refuse(&self, count: usize) -> Vec<Standing> {
        let request = samples::request("GET", "/", &[]);
        let refusal = Observation::Answered {
            response: Box::new(samples::response(401, &[], "")),
            ttfb: Duration::ZERO,
            served: Duration::ZERO,
        };
        let mut own = Vec::new();
        for _ in 0..count {
            own.push(self.credentials.for_request(&request, None).await);
        }
        let asked = own.iter().map(|own| self.credentials.standing(own, &refusal));
        futures_util::future::join_all(asked).await
    }

    /// Questions that brought another, the same, and none.
    fn results(&self) -> [u64; 3] {
        CredentialResult::ALL.map(|result| self.stats.credentials[result as usize].load(Ordering::Relaxed))
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn many_refusals_are_one_question() {
    let stage = Stage::start(|_| ()).await;
    stage.write("second\n");
    pass(11).await;
    assert_eq!(stage.refuse(20).await, [Standing::Replaced; 20]);
    assert_eq!(stage.results(), [1, 0, 0]);
    // Who was refused is not asked about again: what holds now may be good.
    pass(1).await;
    stage.write("third\n");
    assert_eq!(stage.refuse(1).await, [Standing::Holds], "it was asked for a moment ago");
    pass(10).await;
    assert_eq!(stage.refuse(1).await, [Standing::Replaced]);
    assert_eq!(stage.results(), [2, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_source_without_another_makes_the_refusal_an_answer() {
    let stage = Stage::start(|_| ()).await;
    assert_eq!(stage.refuse(1).await, [Standing::Holds], "it is as new as can be");
    assert_eq!(stage.results(), [0, 0, 0]);
    pass(11).await;
    assert_eq!(stage.refuse(5).await, [Standing::Holds; 5]);
    assert_eq!(stage.results(), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_leaves_it_open() {
    let stage = Stage::start(|_| ()).await;
    pass(11).await;
    stage.write("");
    assert_eq!(stage.refuse(3).await, [Standing::Unknown; 3]);
    stage.write("second");
    assert_eq!(stage.refuse(1).await, [Standing::Unknown], "it is not asked again so soon");
    pass(11).await;
    assert_eq!(stage.refuse(1).await, [Standing::Replaced]);
    assert_eq!(stage.results(), [1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_is_due_is_asked_for_before_it_is_refused() {
    let stage = Stage::start(|config| config.refresh = Some(Duration::from_secs(60))).await;
    stage.write("second");
    pass(59).await;
    assert_eq!(stage.results(), [0, 0, 0]);
    pass(62).await;
    assert_eq!(stage.results(), [1, 1, 0]);
}

/// Asks a program of `sh` once; the error as text.
async fn ask_shell(script: &str, wait_max: Duration) -> Result<Credential, String> {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let config = CredentialConfig { wait_max, ..config(CredentialSource::Command(command)) };
    ask(&config).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_program_prints_one_line_and_ends_well() {
    let long = Duration::from_secs(20);
    let expected = Credential::new("Bearer ", b"hunter2").unwrap();
    for good in ["echo hunter2", "printf '  hunter2\\n\\n'", "echo hunter2; echo hidden >&2"] {
        assert!(ask_shell(good, long).await.unwrap().is(&expected), "{good}");
    }
    for (wrong, part) in [
        ("echo hunter2; exit 3", "exit status: 3"),
        ("true", "is no credential"),
        ("echo hunter2; echo hunter2", "is no credential"),
        ("head -c 9000 /dev/zero | tr '\\0' x", "is no credential"),
        ("yes hunter2", "is no credential"),
    ] {
        let message = ask_shell(wrong, long).await.unwrap_err();
        assert!(message.contains(part) && !message.contains("hunter2"), "{wrong}: {message}");
    }
    let message = ask_shell("sleep 60", Duration::from_millis(50)).await.unwrap_err();
    assert!(message.contains("wait_max"), "{message}");
}

#[tokio::test]
async fn what_cannot_be_had_at_the_start_is_named() {
    let missing = config(CredentialSource::Command(vec!["/nowhere/token".to_owned()]));
    let error = hold(&[missing], &"x".into(), &Arc::default()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("/nowhere/token"), "{error}");
    let exposed = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(exposed.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = config(CredentialSource::File(exposed.path().to_owned()));
    let error = hold(&[exposed], &"x".into(), &Arc::default()).await.map(drop).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}
