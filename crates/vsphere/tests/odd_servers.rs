//! Servers that answer as none should: each is met with a typed error and a bound.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::SecretString;
use stillwater_types::Reason;
use stillwater_vsphere::{
    Client, Endpoint, Error, Fingerprint, Since, SnapshotRef, TaskRef, Trust, VmRef,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const COOKIE: &str = "set-cookie: vmware_soap_session=\"1\"; Path=/\r\n";

/// What a server answers to one request: headers and body.
type Answer = (String, String);
type Respond = dyn Fn(&str) -> Option<Answer> + Send + Sync;

struct Server {
    endpoint: Endpoint,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `respond` gets a request's path and body; what it does not answer a right server answers.
    async fn start(respond: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static) -> Self {
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

    async fn connect(&self) -> Result<Client, Error> {
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

fn right(request: &str) -> Answer {
    let versions = "<namespaces><namespace><name>urn:vim25</name><version>8.0.1.0</version></namespace></namespaces>";
    let content = r#"<rootFolder type="Folder">group-d1</rootFolder>
        <propertyCollector type="PropertyCollector">propertyCollector</propertyCollector>
        <viewManager type="ViewManager">ViewManager</viewManager>
        <about><fullName>odd</fullName><version>8</version><build>1</build>
        <apiType>VirtualCenter</apiType><apiVersion>8.0.1.0</apiVersion></about>
        <sessionManager type="SessionManager">SessionManager</sessionManager>
        <searchIndex type="SearchIndex">SearchIndex</searchIndex>"#;
    if request.contains("vimServiceVersions.xml") {
        return (String::new(), versions.into());
    }
    if request.contains("<RetrieveServiceContent") {
        return returned(content);
    }
    (COOKIE.into(), returned("<key>1</key>").1)
}

fn returned(value: &str) -> Answer {
    let body = format!(
        r#"<s:Envelope xmlns:s="e" xmlns:xsi="i"><s:Body><R><returnval>{value}</returnval></R></s:Body></s:Envelope>"#
    );
    (String::new(), body)
}

/// A call, its answer, and what the error says.
type Bad = (&'static str, fn() -> Answer, &'static str);

/// How connecting fails when one call is answered so.
async fn connected(call: &'static str, answer: fn() -> Answer) -> Error {
    let server = Server::start(move |request| request.contains(call).then(answer)).await;
    server.connect().await.map(drop).expect_err("refused")
}

#[tokio::test]
async fn a_right_answer_connects() {
    let server = Server::start(|_| None).await;
    assert_eq!(
        server.connect().await.expect("connects").about().full_name,
        "odd"
    );
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let bad: [Bad; 6] = [
        (
            "vimServiceVersions",
            || (String::new(), "<html/>".into()),
            "urn:vim25",
        ),
        (
            "<RetrieveServiceContent",
            || returned("<about/>"),
            "rootFolder",
        ),
        ("<Login", || returned("<key>1</key>"), "no session cookie"),
        (
            "<Login",
            || (String::new(), "<!DOCTYPE a><a/>".into()),
            "document type",
        ),
        (
            "<Login",
            || {
                (
                    "HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:1/\r\n".into(),
                    String::new(),
                )
            },
            "302",
        ),
        (
            "<Login",
            || (String::new(), "x".repeat(65 * 1024 * 1024)),
            "larger than 64 MiB",
        ),
    ];
    for (call, answer, words) in bad {
        let error = connected(call, answer).await;
        assert!(
            matches!(error, Error::BadAnswer { .. }),
            "{words}: {error:?}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_task_that_does_not_end_is_given_up_and_named() {
    let running = |request: &str| {
        request.contains("<RetrievePropertiesEx").then(|| {
            returned(
                r#"<objects><obj type="Task">task-1</obj><propSet><name>info.state</name><val>running</val></propSet></objects>"#,
            )
        })
    };
    let server = Server::start(running).await;
    let client = server.connect().await.expect("connects");
    let task = TaskRef::new("task-1");
    let error = client
        .wait_task(&task, Duration::from_millis(200))
        .await
        .expect_err("too long");
    assert!(
        matches!(&error, Error::TaskTimeout { task: told, .. } if *told == task),
        "{error:?}"
    );
    assert_eq!(error.fault().reason, Reason::VcenterTaskTimeout);
    let all = server.requests.lock().expect("not poisoned");
    assert!(
        all.iter()
            .filter(|request| request.contains("task-1"))
            .count()
            > 1
    );
}

#[tokio::test]
async fn a_task_without_a_state_is_an_error_and_not_a_success() {
    let empty = |request: &str| {
        request
            .contains("<RetrievePropertiesEx")
            .then(|| returned(r#"<objects><obj type="Task">task-1</obj></objects>"#))
    };
    let client = Server::start(empty)
        .await
        .connect()
        .await
        .expect("connects");
    let outcome = client
        .wait_task(&TaskRef::new("task-1"), Duration::from_secs(60))
        .await;
    assert!(
        matches!(outcome, Err(Error::BadAnswer { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_change_map_that_makes_no_progress_is_given_up() {
    let stuck = |request: &str| {
        request
            .contains("<QueryChangedDiskAreas")
            .then(|| returned("<startOffset>0</startOffset><length>0</length>"))
    };
    let server = Server::start(stuck).await;
    let client = server.connect().await.expect("connects");
    let (vm, snapshot) = (VmRef::new("vm-1"), SnapshotRef::new("snapshot-1"));
    let map = client
        .changed_areas(&vm, &snapshot, 2000, Since::Beginning, 1 << 40)
        .await;
    assert!(
        matches!(map, Err(Error::BadChangeMap { key: 2000, .. })),
        "{map:?}"
    );
    let all = server.requests.lock().expect("not poisoned");
    assert_eq!(
        all.iter()
            .filter(|request| request.contains("<QueryChanged"))
            .count(),
        1
    );
}
