//! A server whose answers a test writes.

#![allow(dead_code)] // Not every test needs all of it.

use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::SecretString;
use stillwater_vsphere::{Client, Endpoint, Error, Fingerprint, Trust};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub const COOKIE: &str = "set-cookie: vmware_soap_session=\"1\"; Path=/\r\n";

/// What a server answers to one request: headers and body.
pub type Answer = (String, String);
type Respond = dyn Fn(&str) -> Option<Answer> + Send + Sync;

pub struct Server {
    pub endpoint: Endpoint,
    pub requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `respond` gets a request's path and body; what it does not answer a right server answers.
    pub async fn start(respond: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let der = key.cert.der().clone();
        let trust = Trust::Fingerprint(Fingerprint::of(&der));
        let private =
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![der], private)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = Endpoint {
            address: listener.local_addr().expect("an address").to_string(),
            username: "user".into(),
            password: SecretString::from("secret".to_owned()),
            trust,
        };
        let requests = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        // Ends with the test's runtime.
        tokio::spawn(accept(
            listener,
            acceptor,
            Arc::new(respond),
            Arc::clone(&requests),
        ));
        Self { endpoint, requests }
    }

    pub async fn connect(&self) -> Result<Client, Error> {
        Client::connect(self.endpoint.clone()).await
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    respond: Arc<Respond>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, respond) = (acceptor.clone(), Arc::clone(&respond));
        let requests = Arc::clone(&requests);
        tokio::spawn(async move {
            // What a client breaks off is its own affair.
            drop(serve(tcp, acceptor, respond, requests).await);
        });
    }
}

async fn serve(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    respond: Arc<Respond>,
    requests: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(tcp).await?);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
            length = text.trim().parse().unwrap_or(0);
        }
        request.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    request.push_str(&String::from_utf8_lossy(&body));
    let (headers, body) = respond(&request).unwrap_or_else(|| right(&request));
    requests.lock().expect("not poisoned").push(request);
    let head = if headers.starts_with("HTTP") {
        ""
    } else {
        "HTTP/1.1 200 OK\r\n"
    };
    let length = body.len();
    let head = format!("{head}{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

pub fn right(request: &str) -> Answer {
    let versions = "<namespaces><namespace><name>urn:vim25</name><version>8.0.1.0</version></namespace></namespaces>";
    let content = r#"<rootFolder type="Folder">group-d1</rootFolder>
        <propertyCollector type="PropertyCollector">propertyCollector</propertyCollector>
        <viewManager type="ViewManager">ViewManager</viewManager>
        <about><fullName>odd</fullName><version>8</version><build>1</build>
        <apiType>VirtualCenter</apiType><apiVersion>8.0.1.0</apiVersion></about>
        <sessionManager type="SessionManager">SessionManager</sessionManager>
        <searchIndex type="SearchIndex">SearchIndex</searchIndex>
        <guestOperationsManager type="GuestOperationsManager">guest</guestOperationsManager>
        <authorizationManager type="AuthorizationManager">authorization</authorizationManager>"#;
    if request.contains("vimServiceVersions.xml") {
        return (String::new(), versions.into());
    }
    if request.contains("<RetrieveServiceContent") {
        return returned(content);
    }
    (COOKIE.into(), returned("<key>1</key>").1)
}

pub fn returned(value: &str) -> Answer {
    let body = format!(
        r#"<s:Envelope xmlns:s="e" xmlns:xsi="i"><s:Body><R><returnval>{value}</returnval></R></s:Body></s:Envelope>"#
    );
    (String::new(), body)
}

/// The answer of a call that failed.
pub fn fault(kind: &str, inside: &str) -> Answer {
    let body = format!(
        r#"<s:Envelope xmlns:s="e" xmlns:xsi="i"><s:Body><s:Fault><faultstring>odd</faultstring><detail><F xsi:type="{kind}">{inside}</F></detail></s:Fault></s:Body></s:Envelope>"#
    );
    ("HTTP/1.1 500 Fault\r\n".into(), body)
}

/// The text of the first element of a name in a request.
pub fn argument(request: &str, name: &str) -> Option<String> {
    let (_, after) = request.split_once(&format!("<{name}>"))?;
    let (text, _) = after.split_once(&format!("</{name}>"))?;
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    let plain = plain.replace("&apos;", "'").replace("&quot;", "\"");
    Some(plain.replace("&amp;", "&"))
}

/// Properties of one object, as a collector answers them.
pub fn properties(kind: &str, value: &str, set: &[(&str, &str)]) -> Answer {
    let set: String = set
        .iter()
        .map(|(name, value)| format!("<propSet><name>{name}</name>{value}</propSet>"))
        .collect();
    returned(&format!(
        r#"<objects><obj type="{kind}">{value}</obj>{set}</objects>"#
    ))
}
