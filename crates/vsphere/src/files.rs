//! Small files of a VM's directory, fetched over HTTPS: NVRAM, manifests of a freeze, logs.
//!
//! Disks are not read here: that is the data plane's.

use std::io;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, COOKIE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use secrecy::ExposeSecret;

use crate::client::{Client, Session};
use crate::fetch::{SmallFile, TRANSFER_TIMEOUT, broken, refused, take};
use crate::{Error, Result, SnapshotInfo, Vm};

/// How often a file is asked for when the server is busy.
const TRIES: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// An NVRAM has 8 KiB by BIOS and some 270 KiB by EFI.
const NVRAM_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Writers' documents in a zip; SQL Server with many databases has some MiB.
const MANIFEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What is read of a log to find its end where the server knows no ranges.
const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Statuses of a gateway or of a server that is busy.
const PASSING: [StatusCode; 4] = [
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
    StatusCode::TOO_MANY_REQUESTS,
];

impl Client {
    /// The VM's NVRAM; none when it has no such file, as before its first start.
    pub async fn nvram(&self, vm: &Vm) -> Result<Option<Vec<u8>>> {
        let Some(path) = vm.facts.nvram_file() else {
            return Ok(None);
        };
        match self
            .datastore_file(&vm.datacenter, &path, NVRAM_BYTES_MAX)
            .await
        {
            Err(Error::FileMissing { .. }) => Ok(None),
            file => file.map(Some),
        }
    }

    /// What the guest's agent told of a freeze: a zip by Windows, XML by Linux. None when the snapshot has
    /// none. It goes with the snapshot.
    pub async fn backup_manifest(
        &self,
        vm: &Vm,
        snapshot: &SnapshotInfo,
    ) -> Result<Option<Vec<u8>>> {
        let name = snapshot.backup_manifest.as_deref();
        let Some(path) = name.and_then(|name| vm.facts.manifest_file(name)) else {
            return Ok(None);
        };
        self.datastore_file(&vm.datacenter, &path, MANIFEST_BYTES_MAX)
            .await
            .map(Some)
    }

    /// The last bytes of the VM's newest log; none when it has none.
    pub async fn log_tail(&self, vm: &Vm, bytes: usize) -> Result<Option<SmallFile>> {
        let Some(path) = vm.facts.log_file() else {
            return Ok(None);
        };
        match self.datastore_file_tail(&vm.datacenter, &path, bytes).await {
            Err(Error::FileMissing { .. }) => Ok(None),
            file => file.map(Some),
        }
    }

    /// A whole file such as `[ds] web/web.nvram`, if it has at most `limit` bytes. `datacenter` is an
    /// inventory path such as `/DC0`.
    pub async fn datastore_file(
        &self,
        datacenter: &str,
        path: &str,
        limit: usize,
    ) -> Result<Vec<u8>> {
        let response = self.file(Method::GET, datacenter, path, None).await?;
        let file = self.taken(response, path, limit).await?;
        match file.is_truncated {
            true => Err(Error::FileTooLarge {
                path: path.to_owned(),
                limit_bytes: limit,
            }),
            false => Ok(file.bytes),
        }
    }

    /// The last `bytes` of a file; it is truncated when there is more before them.
    pub async fn datastore_file_tail(
        &self,
        datacenter: &str,
        path: &str,
        bytes: usize,
    ) -> Result<SmallFile> {
        let head = self.file(Method::HEAD, datacenter, path, None).await?;
        let length = length(&head).unwrap_or_default();
        let start = length.saturating_sub(u64::try_from(bytes).unwrap_or(u64::MAX));
        let range = (start > 0).then(|| format!("bytes={start}-"));
        let response = self
            .file(Method::GET, datacenter, path, range.as_deref())
            .await?;
        let is_ranged = response.status() == StatusCode::PARTIAL_CONTENT;
        if is_ranged && !begins_at(&response, start) {
            return Err(Error::FileTransfer {
                path: path.to_owned(),
                source: io::Error::other("another range was answered than asked for"),
            });
        }
        let file = self.taken(response, path, LOG_BYTES_MAX).await?;
        if file.is_truncated {
            // Its end was not seen.
            return Err(Error::FileTooLarge {
                path: path.to_owned(),
                limit_bytes: LOG_BYTES_MAX,
            });
        }
        // A log that grows meanwhile is longer than its range was.
        let mut tail = tail(file, bytes);
        tail.is_truncated |= is_ranged;
        Ok(tail)
    }

    /// Writes a whole small file, in the place of what was there. Its directory must be there.
    pub async fn put_datastore_file(
        &self,
        datacenter: &str,
        path: &str,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let url = self.file_url(datacenter, path)?;
        let mut session = self.session().await?;
        let mut is_renewed = false;
        let mut tries = 1;
        loop {
            let (http, _) = self.server().web("/folder");
            let request = http
                .put(url.clone())
                .timeout(TRANSFER_TIMEOUT)
                .header(COOKIE, session.cookie.expose_secret())
                .body(bytes.clone());
            let sent = request.send().await;
            let response = sent.map_err(|error| broken(self.address(), path, error))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !is_renewed {
                session = self.renew(&session).await?;
                is_renewed = true;
            } else if PASSING.contains(&status) && tries < TRIES {
                tokio::time::sleep(RETRY_DELAY * tries).await;
                tries += 1;
            } else if status.is_success() {
                return Ok(());
            } else {
                return Err(refused(path, status));
            }
        }
    }

    async fn taken(&self, response: Response, path: &str, limit: usize) -> Result<SmallFile> {
        let address = self.address();
        take(response, limit)
            .await
            .map_err(|error| broken(address, path, error))
    }

    /// Asks for a file, again when the server is busy, and in a new session when ours is over.
    async fn file(
        &self,
        method: Method,
        datacenter: &str,
        path: &str,
        range: Option<&str>,
    ) -> Result<Response> {
        let url = self.file_url(datacenter, path)?;
        let mut session = self.session().await?;
        let mut is_renewed = false;
        let mut tries = 1;
        loop {
            let response = self.asked(&method, &url, range, &session, path).await?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && !is_renewed {
                session = self.renew(&session).await?;
                is_renewed = true;
            } else if PASSING.contains(&status) && tries < TRIES {
                tokio::time::sleep(RETRY_DELAY * tries).await;
                tries += 1;
            } else if status.is_success() {
                return Ok(response);
            } else {
                return Err(refused(path, status));
            }
        }
    }

    async fn asked(
        &self,
        method: &Method,
        url: &Url,
        range: Option<&str>,
        session: &Session,
        path: &str,
    ) -> Result<Response> {
        let (http, _) = self.server().web("/folder");
        let mut request = http
            .request(method.clone(), url.clone())
            .timeout(TRANSFER_TIMEOUT)
            .header(COOKIE, session.cookie.expose_secret());
        if let Some(range) = range {
            request = request.header(RANGE, range);
        }
        let sent = request.send().await;
        sent.map_err(|error| broken(self.address(), path, error))
    }

    fn file_url(&self, datacenter: &str, path: &str) -> Result<Url> {
        let missing = || Error::FileMissing {
            path: path.to_owned(),
        };
        let (datastore, file) = datastore_path(path).ok_or_else(missing)?;
        let (_, mut url) = self.server().web("/folder");
        url.path_segments_mut()
            .map_err(|()| missing())?
            .extend(file.split('/'));
        url.query_pairs_mut()
            .append_pair("dcPath", datacenter)
            .append_pair("dsName", datastore);
        Ok(url)
    }
}

/// Datastore and file of `[ds] dir/file`. A file above its datastore is none.
fn datastore_path(path: &str) -> Option<(&str, &str)> {
    let (datastore, file) = path.strip_prefix('[')?.split_once(']')?;
    let file = file.trim_start_matches([' ', '/']);
    let plain = !file.is_empty() && file.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then_some((datastore, file))
}

fn length(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

/// Whether the answer is the part of the file that begins there.
fn begins_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE);
    let range = range.and_then(|value| value.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {start}-")))
}

fn tail(mut file: SmallFile, bytes: usize) -> SmallFile {
    let before = file.bytes.len().saturating_sub(bytes);
    file.bytes.drain(..before);
    file.is_truncated |= before > 0;
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<(&str, &str)>) {
        assert_eq!(datastore_path(path), expected);
    }

    #[test]
    fn a_path_names_a_datastore_and_a_file_within() {
        check("[ds] web/web.nvram", Some(("ds", "web/web.nvram")));
        check("[my ds 1] a b/c", Some(("my ds 1", "a b/c")));
        check("[ds]/web/x", Some(("ds", "web/x")));
        check("[ds] ../../etc/passwd", None);
        check("[ds] web/./x", None);
        check("[ds] ", None);
        check("web/web.nvram", None);
    }

    #[test]
    fn a_tail_is_the_end_and_says_when_there_is_more() {
        let file = SmallFile {
            bytes: b"abcdef".to_vec(),
            is_truncated: false,
        };
        let end = tail(file.clone(), 2);
        assert_eq!((end.text().as_str(), end.is_truncated), ("ef", true));
        let all = tail(file, 6);
        assert_eq!((all.text().as_str(), all.is_truncated), ("abcdef", false));
    }
}
