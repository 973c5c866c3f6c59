//! One datastore behind HTTPS: requests, and what their answers mean.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, HeaderMap, RANGE};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use stillwater_types::Extent;
use stillwater_vsphere::{DataAccess, untrusted_certificate};

use super::descriptor::{DESCRIPTOR_BYTES_MAX, flat_extent};
use crate::path::DatastorePath;
use crate::{Error, Result};

/// How often a read is tried when the connection fails.
const TRIES: u32 = 4;
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// A server that says nothing for so long is away.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Statuses of a gateway or of a server that is busy: another try may succeed.
const PASSING: [StatusCode; 4] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
    StatusCode::TOO_MANY_REQUESTS,
];

/// One file behind HTTPS, in one session.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    http: Client,
    url: Url,
    cookie: SecretString,
    address: String,
    /// For messages.
    pub path: String,
    /// The first wait between two tries; each is twice the one before.
    pub retry_delay: Duration,
}

/// A try that failed.
enum Failure {
    /// Another may succeed.
    Passing(Error),
    Final(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Failure::Passing(error) | Failure::Final(error) => error,
        }
    }
}

impl RemoteFile {
    fn new(access: &DataAccess, http: &Client, path: &DatastorePath) -> Result<Self> {
        let bad = || Error::BadPath {
            path: path.to_string(),
        };
        let mut url =
            Url::parse(&format!("https://{}/folder", access.address)).map_err(|_| bad())?;
        url.path_segments_mut()
            .map_err(|()| bad())?
            .extend(path.file.split('/'));
        url.query_pairs_mut()
            .append_pair("dcPath", &access.datacenter)
            .append_pair("dsName", &path.datastore);
        Ok(Self {
            http: http.clone(),
            url,
            cookie: access.cookie.clone(),
            address: access.address.clone(),
            path: path.to_string(),
            retry_delay: RETRY_DELAY,
        })
    }

    /// Finds the flat file of the disk whose descriptor is `path`, and checks that it has `length`
    /// bytes.
    pub(super) async fn flat(access: &DataAccess, path: &str, length: u64) -> Result<Self> {
        let path = DatastorePath::parse(path)?;
        let http = access.http_client().map_err(Error::Endpoint)?;
        let descriptor = Self::new(access, &http, &path)?;
        let not_flat = |problem| Error::NotFlat {
            path: path.to_string(),
            problem,
        };
        let extent = flat_extent(&descriptor.small_text().await?).map_err(not_flat)?;
        let file = Self::new(access, &http, &path.beside(&extent.name))?;
        file.expect_length(length, extent.bytes)?;
        file.expect_length(length, file.length().await?)?;
        Ok(file)
    }

    /// The error when the file has not the length that it should have.
    pub(super) fn expect_length(&self, expected: u64, found: u64) -> Result<()> {
        match expected == found {
            true => Ok(()),
            false => Err(Error::WrongLength {
                path: self.path.clone(),
                expected,
                found,
            }),
        }
    }

    /// Asks for the file's length.
    pub(super) async fn length(&self) -> Result<u64> {
        self.retried(|| async {
            let response = self.send(self.http.head(self.url.clone())).await?;
            let length = number(response.headers());
            length.ok_or_else(|| Failure::Final(self.status_error(response.status())))
        })
        .await
    }

    /// Reads a range: all of it, or an error.
    pub(super) async fn range(&self, extent: Extent, length: u64) -> Result<Bytes> {
        self.retried(|| self.try_range(extent, length)).await
    }

    /// Replaces the whole file by `length` bytes of `body`. Never tried again: the body is gone.
    pub(super) async fn replace(&self, length: u64, body: Body) -> Result<()> {
        let request = self
            .http
            .put(self.url.clone())
            .header(CONTENT_LENGTH, length)
            .body(body);
        let request = request.header(COOKIE, self.cookie.expose_secret());
        let response = request
            .send()
            .await
            .map_err(|error| self.transport(error))?;
        match response.status() {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            status => Err(self.status_error(status)),
        }
    }

    async fn small_text(&self) -> Result<String> {
        let not_text = || Error::NotFlat {
            path: self.path.clone(),
            problem: "it has no descriptor".into(),
        };
        let bytes = self
            .retried(|| async {
                let response = self.send(self.http.get(self.url.clone())).await?;
                self.body(response, DESCRIPTOR_BYTES_MAX, 0)
                    .await?
                    .ok_or_else(|| Failure::Final(not_text()))
            })
            .await?;
        String::from_utf8(bytes.into()).map_err(|_| not_text())
    }

    async fn try_range(&self, extent: Extent, length: u64) -> Result<Bytes, Failure> {
        let wrong = |problem: String| {
            Failure::Final(Error::BadRange {
                path: self.path.clone(),
                extent,
                problem,
            })
        };
        let wanted = format!("{}-{}", extent.start, extent.end().saturating_sub(1));
        let request = self
            .http
            .get(self.url.clone())
            .header(RANGE, format!("bytes={wanted}"));
        let response = self.send(request).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(wrong(format!(
                "status {} instead of 206",
                response.status().as_u16()
            )));
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(wrong("it is encoded".into()));
        }
        let said = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        if said != Some(format!("bytes {wanted}/{length}").as_str()) {
            return Err(wrong(format!("content-range {said:?}")));
        }
        let size = usize::try_from(extent.length).map_err(|_| wrong("too large".into()))?;
        match self.body(response, size, size).await? {
            Some(bytes) if bytes.len() == size => Ok(bytes),
            Some(bytes) => Err(wrong(format!("{} bytes", bytes.len()))),
            None => Err(wrong(format!("more than {size} bytes"))),
        }
    }

    /// A body of at most `limit` bytes; none when it is longer.
    async fn body(
        &self,
        mut response: Response,
        limit: usize,
        expected: usize,
    ) -> Result<Option<Bytes>, Failure> {
        let mut bytes = BytesMut::with_capacity(expected);
        while let Some(piece) = self.in_time(response.chunk()).await? {
            if bytes.len() + piece.len() > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Some(bytes.freeze()))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request.header(COOKIE, self.cookie.expose_secret());
        let response = self.in_time(request.send()).await?;
        match response.status() {
            status if PASSING.contains(&status) => Err(Failure::Passing(self.status_error(status))),
            status if status.is_success() => Ok(response),
            status => Err(Failure::Final(self.status_error(status))),
        }
    }

    async fn in_time<T>(
        &self,
        exchange: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(STALL_TIMEOUT, exchange).await {
            Ok(outcome) => outcome.map_err(|error| match self.transport(error) {
                error @ Error::Transport { .. } => Failure::Passing(error),
                error => Failure::Final(error),
            }),
            Err(_) => Err(Failure::Passing(Error::Transport {
                path: self.path.clone(),
                source: io::Error::from(io::ErrorKind::TimedOut),
            })),
        }
    }

    async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut delay = self.retry_delay;
        for _ in 1..TRIES {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) => {
                    tracing::debug!(path = %self.path, %error, "trying again");
                }
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        attempt().await.map_err(Failure::into_error)
    }

    fn transport(&self, error: reqwest::Error) -> Error {
        match untrusted_certificate(&self.address, &error) {
            Some(untrusted) => Error::Endpoint(untrusted),
            None => Error::Transport {
                path: self.path.clone(),
                source: io::Error::other(error.without_url()),
            },
        }
    }

    fn status_error(&self, status: StatusCode) -> Error {
        let path = self.path.clone();
        match status {
            StatusCode::NOT_FOUND => Error::NotFound { path },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Refused {
                path,
                status: status.as_u16(),
            },
            StatusCode::INSUFFICIENT_STORAGE => Error::DatastoreFull { path },
            status => Error::Status {
                path,
                status: status.as_u16(),
            },
        }
    }
}

/// The length that a header says: a body's own size is not known after HEAD.
fn number(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
