//! Follows a directory with `tls.crt` and `tls.key`, as a mounted Secret has them (4.7).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::certificate::Certificates;

/// Read by content and not by file events: the kubelet swaps a symbolic link, which raises none on the files.
const POLL: Duration = Duration::from_secs(1);

/// Serves the pair in that directory, and each new one that is valid, until shutdown. An invalid one is reported once,
/// and the pair before stays.
pub async fn follow(directory: PathBuf, certificates: Arc<Certificates>, shutdown: CancellationToken) {
    let mut follower = Follower { directory, certificates, seen: None };
    loop {
        follower.poll().await;
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

struct Follower {
    directory: PathBuf,
    certificates: Arc<Certificates>,
    /// What was read last: each state of the directory is reported once.
    seen: Option<Seen>,
}

#[derive(PartialEq, Eq)]
enum Seen {
    Pair([u8; 32]),
    Unreadable(String),
}

impl Follower {
    async fn poll(&mut self) {
        let seen = match read(&self.directory).await {
            Ok((certificate, key)) => {
                let mut sum = Sha256::new();
                sum.update((certificate.len() as u64).to_be_bytes());
                sum.update(&certificate);
                sum.update(&key);
                let seen = Seen::Pair(sum.finalize().into());
                if self.seen.as_ref() == Some(&seen) {
                    return;
                }
                if let Err(error) = self.certificates.install(&certificate, &key) {
                    tracing::error!(directory = %self.directory.display(), %error, "{}", self.consequence());
                }
                seen
            }
            Err(error) => {
                let seen = Seen::Unreadable(error);
                if self.seen.as_ref() != Some(&seen)
                    && let Seen::Unreadable(error) = &seen
                {
                    tracing::error!(error, "{}", self.consequence());
                }
                seen
            }
        };
        self.seen = Some(seen);
    }

    fn consequence(&self) -> &'static str {
        if self.certificates.is_loaded() {
            "invalid certificate files; keeping the previous certificate"
        } else {
            "invalid certificate files; waiting for a certificate"
        }
    }
}

/// The pair, and not one file of the pair before a swap with one of that after it.
async fn read(directory: &Path) -> Result<(Vec<u8>, Vec<u8>), String> {
    let file = async |name: &str| {
        let path = directory.join(name);
        tokio::fs::read(&path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let mut certificate = file("tls.crt").await?;
    loop {
        let key = file("tls.key").await?;
        let again = file("tls.crt").await?;
        if again == certificate {
            return Ok((certificate, key));
        }
        certificate = again;
    }
}
