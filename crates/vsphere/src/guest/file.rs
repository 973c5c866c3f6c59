//! Files of a guest: made, put, fetched, deleted.
//!
//! The server answers with a URL of the host that runs the VM, good for some minutes and once.

use reqwest::{Client as Http, Url};

use super::{Guest, one};
use crate::body::Body;
use crate::client::{Repeat, bad_answer};
use crate::endpoint::base_url;
use crate::error::FaultKind;
use crate::fetch::{SmallFile, TRANSFER_TIMEOUT, broken, refused, take};
use crate::server::http_client;
use crate::xml::Problem;
use crate::{Error, GuestFamily, Result};

const CREATE: &str = "CreateTemporaryFileInGuest";
const FETCH: &str = "InitiateFileTransferFromGuest";
const PUT: &str = "InitiateFileTransferToGuest";

/// Read and write for the owner alone.
const OWNER_ONLY: i64 = 0o600;

impl Guest {
    /// Makes an empty file in the guest's own directory for such files, for this user alone.
    pub async fn create_temporary_file(&self, prefix: &str, suffix: &str) -> Result<String> {
        let body = self.body().value("prefix", prefix).value("suffix", suffix);
        let returned = self.call(CREATE, &self.files, body, Repeat::Never).await?;
        let path = one(CREATE, returned)?.text;
        match path.is_empty() {
            true => Err(bad_answer(CREATE, Problem::new("no path"))),
            false => Ok(path),
        }
    }

    /// Writes a whole file, for this user alone, in the place of what is there.
    pub async fn put_file(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let body = self.body().then(put_spec(self.family, path, bytes.len()));
        let returned = self.call(PUT, &self.files, body, Repeat::Safe).await?;
        let (http, url) = self.host(&one(PUT, returned)?.text, PUT).await?;
        let address = address(&url);
        let request = http.put(url).timeout(TRANSFER_TIMEOUT);
        let response = request.body(bytes.to_vec()).send().await;
        let response = response.map_err(|error| broken(&address, path, error))?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(refused(path, response.status())),
        }
    }

    /// The first `limit` bytes of a file.
    pub async fn fetch_file(&self, path: &str, limit: usize) -> Result<SmallFile> {
        let body = self.body().value("guestFilePath", path);
        let returned = self.call(FETCH, &self.files, body, Repeat::Safe).await;
        let returned = returned.map_err(|error| missing(error, path))?;
        let url = one(FETCH, returned)?.string("url");
        let url = url.map_err(|problem| bad_answer(FETCH, problem))?;
        let (http, url) = self.host(&url, FETCH).await?;
        let address = address(&url);
        let response = http.get(url).timeout(TRANSFER_TIMEOUT).send().await;
        let response = response.map_err(|error| broken(&address, path, error))?;
        if !response.status().is_success() {
            return Err(refused(path, response.status()));
        }
        take(response, limit)
            .await
            .map_err(|error| broken(&address, path, error))
    }

    /// Deletes a file. One that is not there is no error.
    pub async fn delete_file(&self, path: &str) -> Result<()> {
        const METHOD: &str = "DeleteFileInGuest";
        let body = self.body().value("filePath", path);
        match self.call(METHOD, &self.files, body, Repeat::Safe).await {
            Err(error) if error.is(&FaultKind::FileNotFound) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Where a file's bytes go, and how that host is trusted: the server itself as always, another as
    /// far as the server vouches for its certificate.
    async fn host(&self, url: &str, method: &'static str) -> Result<(Http, Url)> {
        let server = base_url(self.client.address())?;
        let url = located(url, &server).map_err(|problem| bad_answer(method, problem))?;
        if url.host() == server.host() {
            return Ok((self.http.clone(), url));
        }
        let read = self.client.read_vm(&self.vm, &["runtime.host"]).await?;
        let host = read.moref("runtime.host")?;
        let host = host.ok_or_else(|| read.bad(Problem::new("no runtime.host")))?;
        let trust = self.client.host_trust(&host).await?;
        Ok((http_client(&address(&url), &trust)?, url))
    }
}

/// A transfer's URL; `*` stands for the server that was asked.
fn located(text: &str, server: &Url) -> Result<Url, Problem> {
    // The URL carries a token: no part of it is told.
    let mut url = Url::parse(text).map_err(|_| Problem::new("a url that cannot be read"))?;
    if url.scheme() != "https" {
        return Err(Problem(format!("a url of scheme {}", url.scheme())));
    }
    if url.host_str() == Some("*") {
        let moved = url.set_host(server.host_str()).is_ok() && url.set_port(server.port()).is_ok();
        if !moved {
            return Err(Problem::new("a url that cannot be used"));
        }
    }
    Ok(url)
}

fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// `guestFilePath`, `fileAttributes`, `fileSize`, `overwrite`.
fn put_spec(family: GuestFamily, path: &str, length: usize) -> Body {
    let body = Body::new().value("guestFilePath", path);
    let body = match family {
        GuestFamily::Windows => {
            body.typed("fileAttributes", "GuestWindowsFileAttributes", Body::new())
        }
        _ => {
            let attributes = Body::new().value("permissions", OWNER_ONLY);
            body.typed("fileAttributes", "GuestPosixFileAttributes", attributes)
        }
    };
    body.value("fileSize", length).value("overwrite", true)
}

fn missing(error: Error, path: &str) -> Error {
    match error.is(&FaultKind::FileNotFound) {
        true => Error::FileMissing {
            path: path.to_owned(),
        },
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_in_schema_order_and_for_its_owner_alone() {
        assert_eq!(
            put_spec(GuestFamily::Linux, "/tmp/a", 5).as_str(),
            r#"<guestFilePath>/tmp/a</guestFilePath><fileAttributes xsi:type="GuestPosixFileAttributes"><permissions>384</permissions></fileAttributes><fileSize>5</fileSize><overwrite>true</overwrite>"#
        );
        let windows = put_spec(GuestFamily::Windows, "C:\\a", 0);
        assert!(windows.as_str().contains("GuestWindowsFileAttributes"));
    }

    #[track_caller]
    fn check(url: &str, expected: Option<&str>) {
        let server = Url::parse("https://vc.example:8443/").expect("a url");
        let found = located(url, &server).ok();
        assert_eq!(found.as_ref().map(Url::as_str), expected);
    }

    #[test]
    fn a_star_is_the_server_and_only_https_is_spoken() {
        check(
            "https://*:443/guestFile?id=1&token=2",
            Some("https://vc.example:8443/guestFile?id=1&token=2"),
        );
        check("https://esx1/g?t=1", Some("https://esx1/g?t=1"));
        check("http://*/g", None);
        check("/g", None);
    }
}
