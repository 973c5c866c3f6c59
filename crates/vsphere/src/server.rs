//! One server: where it is, how it is trusted, and one exchange with it.

use std::io;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use reqwest::{Client as Http, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};

use crate::endpoint::{CONNECT_TIMEOUT, base_url};
use crate::trust::{client_config, refusal};
use crate::xml::{Element, Problem};
use crate::{Error, Result, Trust};

/// The answer to one call may take this long; tasks are waited for by polling.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// The largest answer that is read. A page of 100 VMs with all hardware is some 3 MiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const SESSION_COOKIE: &str = "vmware_soap_session=";

/// The newest API that we know, and the oldest that has all we need.
const NEWEST: [u32; 2] = [8, 0];
const OLDEST: [u32; 2] = [6, 5];

/// An exchange that brought no usable answer.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The certificate is not trusted, or the connection was never made: nothing was sent.
    NotSent(Error),
    /// It may have been sent.
    Lost(io::Error),
    /// The answer is not what it should be.
    Bad(Problem),
}

/// A text and the session cookie that came with it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub text: String,
    pub cookie: Option<SecretString>,
}

#[derive(Debug)]
pub(crate) struct Server {
    http: Http,
    address: String,
    sdk: Url,
}

impl Server {
    pub(crate) fn new(address: &str, trust: &Trust) -> Result<Self> {
        let mut sdk = base_url(address)?;
        sdk.set_path("/sdk");
        Ok(Self {
            http: http_client(address, trust)?,
            address: address.to_owned(),
            sdk,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The client and a URL of this server, for what is no SOAP.
    pub(crate) fn web(&self, path: &str) -> (&Http, Url) {
        let mut url = self.sdk.clone();
        url.set_path(path);
        (&self.http, url)
    }

    /// The newest version of the API that the server and we speak, such as `8.0.1.0`.
    pub(crate) async fn negotiate(&self) -> Result<String> {
        let mut url = self.sdk.clone();
        url.set_path("/sdk/vimServiceVersions.xml");
        let request = self.http.get(url).timeout(CALL_TIMEOUT);
        let broken = |broken| self.error("vimServiceVersions", broken);
        let exchange = self.exchange(request).await.map_err(broken)?;
        let offered = offered(&exchange.text).map_err(|problem| broken(Broken::Bad(problem)))?;
        newest_known(&offered).ok_or_else(|| Error::UnsupportedVersion {
            address: self.address.clone(),
            offered,
        })
    }

    /// Posts an envelope and answers with an envelope.
    pub(crate) async fn post(
        &self,
        action: &str,
        cookie: Option<&SecretString>,
        envelope: String,
    ) -> Result<Exchange, Broken> {
        let mut request = self
            .http
            .post(self.sdk.clone())
            .timeout(CALL_TIMEOUT)
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("SOAPAction", action)
            .body(envelope);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie.expose_secret());
        }
        self.exchange(request).await
    }

    /// The error for a call that may be repeated.
    pub(crate) fn error(&self, method: &'static str, broken: Broken) -> Error {
        match broken {
            Broken::NotSent(error) => error,
            Broken::Lost(source) => Error::Unreachable {
                address: self.address.clone(),
                source,
            },
            Broken::Bad(Problem(problem)) => Error::BadAnswer { method, problem },
        }
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Exchange, Broken> {
        let response = request.send().await.map_err(|error| self.broken(error))?;
        let status = response.status();
        // A SOAP fault comes with 500; a gateway whose vpxd is away answers with these.
        let away = [
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        if away.contains(&status) {
            return Err(Broken::Lost(io::Error::other(format!("status {status}"))));
        }
        if !status.is_success() && status != StatusCode::INTERNAL_SERVER_ERROR {
            return Err(Broken::Bad(Problem(format!("status {status}"))));
        }
        let cookie = session_cookie(&response);
        Ok(Exchange {
            text: self.text(response).await?,
            cookie,
        })
    }

    async fn text(&self, mut response: Response) -> Result<String, Broken> {
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(error))? {
            if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Broken::Bad(Problem::new(
                    "the answer is larger than 64 MiB",
                )));
            }
            bytes.extend_from_slice(&piece);
        }
        String::from_utf8(bytes).map_err(|_| Broken::Bad(Problem::new("not utf-8")))
    }

    fn broken(&self, error: reqwest::Error) -> Broken {
        if let Some(untrusted) = untrusted_certificate(&self.address, &error) {
            return Broken::NotSent(untrusted);
        }
        let connecting = error.is_connect();
        let source = io::Error::other(error.without_url());
        if connecting {
            return Broken::NotSent(Error::Unreachable {
                address: self.address.clone(),
                source,
            });
        }
        Broken::Lost(source)
    }
}

/// An HTTP client that trusts as `trust` says. It follows no redirect and uses no proxy of the
/// environment: the session's cookie is for this server alone.
pub(crate) fn http_client(address: &str, trust: &Trust) -> Result<Http> {
    let bad = |problem| Error::BadEndpoint {
        address: address.to_owned(),
        problem,
    };
    let tls = client_config(trust).map_err(bad)?;
    Http::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| bad(error.to_string()))
}

/// Tells whether a request failed because the certificate of `address` is not trusted.
pub fn untrusted_certificate(
    address: &str,
    error: &(dyn std::error::Error + 'static),
) -> Option<Error> {
    refusal(error).map(|untrusted| Error::CertificateUntrusted {
        address: address.to_owned(),
        presented: untrusted.presented,
        problem: untrusted.problem,
    })
}

fn session_cookie(response: &Response) -> Option<SecretString> {
    response
        .headers()
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find(|value| value.starts_with(SESSION_COOKIE))
        // Old servers quote the value and want the quotes back.
        .and_then(|value| value.split(';').next())
        .map(|pair| SecretString::from(pair.to_owned()))
}

fn offered(xml: &str) -> Result<Vec<String>, Problem> {
    let root = Element::parse(xml)?;
    let vim = root
        .all("namespace")
        .find(|space| space.optional("name").as_deref() == Some("urn:vim25"))
        .ok_or_else(|| Problem::new("no namespace urn:vim25"))?;
    let prior = vim
        .find("priorVersions")
        .into_iter()
        .flat_map(|prior| prior.all("version"));
    let current = std::iter::once(vim.string("version")?);
    Ok(current
        .chain(prior.map(|version| version.text.clone()))
        .collect())
}

fn newest_known(offered: &[String]) -> Option<String> {
    let known = |text: &&String| {
        parts(text).is_some_and(|version| {
            version
                .get(..2)
                .is_some_and(|major| (OLDEST.as_slice()..=NEWEST.as_slice()).contains(&major))
        })
    };
    offered
        .iter()
        .filter(known)
        .max_by_key(|text| parts(text))
        .cloned()
}

fn parts(version: &str) -> Option<Vec<u32>> {
    let mut parts: Vec<u32> = version
        .split('.')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    parts.resize(parts.len().max(2), 0);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(offered: &[&str], expected: Option<&str>) {
        let offered: Vec<String> = offered.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(newest_known(&offered).as_deref(), expected);
    }

    #[test]
    fn the_newest_version_that_both_know_is_taken() {
        check(&["6.5"], Some("6.5"));
        check(&["8.0.1.0", "7.0", "6.7.3"], Some("8.0.1.0"));
        check(&["9.0.0.0", "8.0.3.0", "8.0.2.0", "6.5"], Some("8.0.3.0"));
        check(&["6.7.3", "6.7.10"], Some("6.7.10"));
        check(&["6.0", "5.5"], None);
        check(&["9.0.0.0"], None);
        check(&["new"], None);
    }

    #[test]
    fn offered_versions_are_those_of_vim25() {
        let xml = r#"<?xml version="1.0"?><namespaces version="1.0">
            <namespace><name>urn:internalvim25</name><version>9.9</version></namespace>
            <namespace><name>urn:vim25</name><version>7.0.3.0</version>
            <priorVersions><version>7.0</version><version>6.7</version></priorVersions></namespace>
            </namespaces>"#;
        assert_eq!(
            offered(xml),
            Ok(vec!["7.0.3.0".into(), "7.0".into(), "6.7".into()])
        );
        assert!(offered("<namespaces/>").is_err());
    }
}
