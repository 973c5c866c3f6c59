//! `/metrics` and `/healthz` for whoever watches.
//!
//! Plain HTTP/1.1 by hand: two paths, one request per connection, loopback only. What leaves the
//! host goes through the watcher's own agent, which brings its own transport security.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use stillwater_types::{Fault, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::Faults;

/// A scraper's request has a few hundred bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How long one request may take, from connection to the answer's last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests at once.
const REQUESTS_MAX: usize = 8;
/// The wait after the system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The `[metrics]` section of every role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricsSettings {
    /// Where plain HTTP is answered, such as `127.0.0.1:9443`; nowhere when absent. Loopback only.
    pub listen: Option<SocketAddr>,
}

impl MetricsSettings {
    /// Adds what is wrong with the section to `faults`, for
    /// [`Settings::check`](crate::config::Settings::check).
    pub fn check(&self, faults: &mut Faults) {
        if self
            .listen
            .is_some_and(|address| !address.ip().is_loopback())
        {
            faults.add(
                "metrics.listen",
                "metrics are plain HTTP: listen on a loopback address such as 127.0.0.1",
            );
        }
    }
}

/// Whether a role is ready for work; clones share it. Not ready at first.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Says so.
    pub fn set_ready(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Answers `GET /metrics` and `GET /healthz` until `cancel`; returns at once when there is no
/// address.
///
/// # Errors
/// `BAD_FIELD` when the address is taken, not ours or not loopback.
pub async fn serve(
    settings: &MetricsSettings,
    registry: Arc<Registry>,
    health: Health,
    cancel: CancellationToken,
) -> Result<(), Fault> {
    let Some(address) = settings.listen else {
        return Ok(());
    };
    let bad =
        |why: String| Fault::new(Reason::BadField, format!("metrics.listen {address}: {why}"));
    if !address.ip().is_loopback() {
        return Err(bad("listen on a loopback address such as 127.0.0.1".into()));
    }
    let listener = TcpListener::bind(address)
        .await
        .map_err(|err| bad(err.to_string()))?;
    cancel
        .run_until_cancelled(accept(listener, registry, health))
        .await;
    Ok(())
}

async fn accept(listener: TcpListener, registry: Arc<Registry>, health: Health) {
    let requests = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Ok(permit) = requests.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(error = %err, "failed to accept a metrics connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (registry, health) = (registry.clone(), health.clone());
        tokio::spawn(async move {
            let answering = answer(stream, &registry, &health);
            match tokio::time::timeout(REQUEST_TIMEOUT, answering).await {
                Ok(Ok(())) => {}
                Ok(Err(err)) => tracing::debug!(error = %err, "metrics request failed"),
                Err(_) => tracing::debug!("metrics request took too long"),
            }
            drop(permit);
        });
    }
}

async fn answer(mut stream: TcpStream, registry: &Registry, health: &Health) -> io::Result<()> {
    let response = match read_head(&mut stream).await? {
        Some(head) => respond(&head, registry, health),
        None => plain("400 Bad Request", "not a request\n"),
    };
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Everything up to the empty line; `None` when it is too long or ends early.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::with_capacity(1024);
    loop {
        if head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            return Ok(String::from_utf8(head).ok());
        }
        let room = REQUEST_BYTES_MAX.saturating_sub(head.len());
        if room == 0 || stream.take(room as u64).read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
}

fn respond(head: &str, registry: &Registry, health: &Health) -> String {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET", "/metrics") => metrics(registry),
        ("GET", "/healthz") if health.is_ready() => plain("200 OK", "ok\n"),
        ("GET", "/healthz") => plain("503 Service Unavailable", "not ready\n"),
        ("GET", _) => plain("404 Not Found", "try /metrics or /healthz\n"),
        _ => plain("405 Method Not Allowed", "only GET\n"),
    }
}

fn metrics(registry: &Registry) -> String {
    let mut body = String::new();
    match encode(&mut body, registry) {
        Ok(()) => http(
            "200 OK",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            &body,
        ),
        Err(err) => {
            tracing::error!(error = %err, "failed to encode metrics");
            plain("500 Internal Server Error", "metrics cannot be encoded\n")
        }
    }
}

fn plain(status: &str, body: &str) -> String {
    http(status, "text/plain; charset=utf-8", body)
}

fn http(status: &str, content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    async fn start(health: &Health) -> (SocketAddr, CancellationToken) {
        let mut registry = Registry::default();
        let runs = Counter::<u64>::default();
        registry.register("stillwater_controller_runs", "Runs started", runs.clone());
        runs.inc_by(7);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let cancel = CancellationToken::new();
        let (stop, health) = (cancel.clone(), health.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(accept(listener, Arc::new(registry), health))
                .await;
        });
        (address, cancel)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_answered_and_nothing_else() {
        let health = Health::default();
        let (address, cancel) = start(&health).await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let metrics = ask(address, &get("/metrics")).await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        assert!(
            metrics.contains("stillwater_controller_runs_total 7"),
            "{metrics}"
        );
        assert!(
            ask(address, &get("/healthz"))
                .await
                .starts_with("HTTP/1.1 503 ")
        );
        health.set_ready(true);
        assert!(
            ask(address, &get("/healthz?x"))
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404 "));
        let post = "POST /metrics HTTP/1.1\r\n\r\n";
        assert!(ask(address, post).await.starts_with("HTTP/1.1 405 "));
        cancel.cancel();
    }

    #[tokio::test]
    async fn a_request_without_end_is_refused() {
        let (address, cancel) = start(&Health::default()).await;
        assert!(
            ask(address, "GET /metrics")
                .await
                .starts_with("HTTP/1.1 400 ")
        );
        let endless = "x".repeat(REQUEST_BYTES_MAX);
        assert!(ask(address, &endless).await.starts_with("HTTP/1.1 400 "));
        assert!(ask(address, "\r\n\r\n").await.starts_with("HTTP/1.1 405 "));
        cancel.cancel();
    }

    #[tokio::test]
    async fn metrics_never_leave_the_host() {
        let settings = MetricsSettings {
            listen: Some(SocketAddr::from(([0, 0, 0, 0], 0))),
        };
        let mut faults = Faults::default();
        settings.check(&mut faults);
        assert_eq!(faults.len(), 1);
        let cancel = CancellationToken::new();
        let served = serve(&settings, Arc::default(), Health::default(), cancel.clone()).await;
        assert_eq!(served.map_err(|fault| fault.reason), Err(Reason::BadField));
        let nowhere = MetricsSettings::default();
        assert_eq!(
            serve(&nowhere, Arc::default(), Health::default(), cancel).await,
            Ok(())
        );
    }
}
