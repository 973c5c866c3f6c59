//! Certificates that never run out while the controller answers.

use std::path::Path;
use std::time::{Duration, SystemTime};

use stillwater_rpc::{Identity, PendingKey};
use stillwater_types::{Fault, Reason};
use tokio_util::sync::CancellationToken;

/// How long to wait after a renewal that failed. A third of a certificate's time is left, so
/// there is no hurry.
const RETRY: Duration = Duration::from_secs(60);
/// How long to sleep at most: the wall clock may jump, and a sleep does not notice.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Renews `identity` in memory and in `dir` whenever two thirds of its time are over, until
/// `cancel`. `renew` sends a PKCS #10 request (DER) and returns the chain (PEM).
pub async fn keep_identity_fresh<F: Future<Output = Result<String, Fault>>>(
    identity: &Identity,
    dir: &Path,
    cancel: &CancellationToken,
    mut renew: impl FnMut(Vec<u8>) -> F,
) {
    loop {
        let due_in = identity
            .renew_at()
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let pause = if due_in > Duration::ZERO {
            due_in.min(LONGEST_SLEEP)
        } else {
            let renewing = renew_once(identity, dir, &mut renew);
            let Some(renewed) = cancel.run_until_cancelled(renewing).await else {
                return;
            };
            match renewed {
                Ok(()) if !identity.needs_renewal(SystemTime::now()) => continue,
                // A clock that is off by weeks, or an authority near its end.
                Ok(()) => {
                    tracing::warn!(
                        "the new certificate is already due for renewal: check the clock"
                    );
                    RETRY
                }
                Err(fault) => {
                    let left = identity.not_after().duration_since(SystemTime::now());
                    let left = left.unwrap_or_default().as_secs();
                    tracing::warn!(error = %fault, valid_for_seconds = left, "failed to renew the certificate, will try again");
                    RETRY
                }
            }
        };
        if cancel
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// One renewal: a new key, since a key that was stolen should not be good for another month.
async fn renew_once<F: Future<Output = Result<String, Fault>>>(
    identity: &Identity,
    dir: &Path,
    renew: &mut impl FnMut(Vec<u8>) -> F,
) -> Result<(), Fault> {
    let (key, request) = PendingKey::generate()?;
    let chain = renew(request).await?;
    identity.replace(key, &chain)?;
    // Saved after it is in use: when the disk refuses, this process still has a good
    // certificate, and the old one in the file stays valid for the next.
    let (saved, home) = (identity.clone(), dir.to_owned());
    tokio::task::spawn_blocking(move || saved.save(&home))
        .await
        .map_err(|err| Fault::new(Reason::Bug, format!("save the certificate: {err}")))??;
    tracing::info!(node = %identity.node(), "certificate renewed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use stillwater_rpc::{Ca, NODE_VALIDITY};
    use stillwater_types::{ClusterId, NodeId, Role};

    use super::*;

    fn issue(ca: &Ca, request: &[u8], node: NodeId, now: SystemTime) -> Result<String, Fault> {
        ca.issue(request, Role::Proxy, node, NODE_VALIDITY, now)
    }

    fn due(ca: &Ca) -> Identity {
        let (key, request) = PendingKey::generate().expect("a key");
        let long_ago = SystemTime::now() - NODE_VALIDITY * 3 / 4;
        let chain = issue(ca, &request, NodeId::mint(), long_ago).expect("a chain");
        key.certify(&chain).expect("an identity")
    }

    #[tokio::test]
    async fn a_due_certificate_is_renewed_in_memory_and_on_disk() {
        let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
        let identity = due(&ca);
        let dir = tempfile::tempdir().expect("a directory");
        let before = identity.not_after();
        let mut renew = |request: Vec<u8>| {
            std::future::ready(issue(&ca, &request, identity.node(), SystemTime::now()))
        };
        renew_once(&identity, dir.path(), &mut renew)
            .await
            .expect("renewed");
        assert!(identity.not_after() > before);
        assert!(!identity.needs_renewal(SystemTime::now()));
        let saved = Identity::load(dir.path()).expect("saved");
        assert_eq!(
            (saved.name(), saved.not_after()),
            (identity.name(), identity.not_after())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_fails_is_tried_again_until_it_succeeds() {
        let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
        let identity = due(&ca);
        let dir = tempfile::tempdir().expect("a directory");
        let cancel = CancellationToken::new();
        let mut calls = 0;
        keep_identity_fresh(&identity, dir.path(), &cancel, |request: Vec<u8>| {
            calls += 1;
            std::future::ready(if calls < 3 {
                Err(Fault::new(Reason::ControllerUnreachable, "not there"))
            } else {
                cancel.cancel();
                issue(&ca, &request, identity.node(), SystemTime::now())
            })
        })
        .await;
        assert_eq!(calls, 3);
    }

    #[tokio::test]
    async fn a_fresh_certificate_is_left_alone_and_the_task_can_be_spawned() {
        let ca = Ca::create(ClusterId::mint(), SystemTime::now()).expect("an authority");
        let (key, request) = PendingKey::generate().expect("a key");
        let chain = issue(&ca, &request, NodeId::mint(), SystemTime::now()).expect("a chain");
        let identity = key.certify(&chain).expect("an identity");
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let (identity, cancel) = (identity.clone(), cancel.clone());
            let calls = AtomicU32::new(0);
            async move {
                let dir = std::path::PathBuf::from("/nonexistent");
                keep_identity_fresh(&identity, &dir, &cancel, async |_| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    Err(Fault::new(Reason::ControllerUnreachable, "not there"))
                })
                .await;
                calls.into_inner()
            }
        });
        tokio::task::yield_now().await;
        cancel.cancel();
        assert_eq!(task.await.expect("no panic"), 0);
    }
}
