//! Against a server that answers as each test wants, byte by byte.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::SecretString;
use stillwater_types::{Extent, Reason};
use stillwater_vsphere::{DataAccess, Fingerprint, Trust};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{FolderReader, FolderWriter};
use crate::task::Running;
use crate::{DiskReader, DiskWriter, Error};

const COOKIE: &str = "vmware_soap_session=\"52 quoted\"";
const SECTORS: u64 = 16;
const LENGTH: u64 = SECTORS * 512;

/// A request as it arrived.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What the server does with a request.
enum Reply {
    /// Sends these bytes and closes.
    Bytes(Vec<u8>),
    /// Closes without a word.
    Close,
}

type Respond = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server on loopback with a certificate of its own.
struct Server {
    access: DataAccess,
    requests: Arc<Mutex<Vec<Request>>>,
    _running: Running<()>,
}

impl Server {
    /// `respond` gets each request and how many of the same method came before it.
    async fn start(respond: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
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
        let address = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let respond: Arc<Respond> = Arc::new(respond);
        let running = Running::spawn(accept(listener, acceptor, respond, Arc::clone(&requests)));
        let cookie = SecretString::from(COOKIE.to_owned());
        let access = DataAccess {
            address,
            cookie,
            trust,
            datacenter: "/DC 0".into(),
        };
        Self {
            access,
            requests,
            _running: running,
        }
    }

    async fn reader(&self) -> Result<FolderReader, Error> {
        FolderReader::open(&self.access, "[ds 1] web/web.vmdk", LENGTH).await
    }

    async fn writer(&self) -> Result<Box<FolderWriter>, Error> {
        FolderWriter::open(&self.access, "[ds 1] web/web.vmdk", LENGTH)
            .await
            .map(Box::new)
    }

    fn requests(&self, method: &str) -> Vec<Request> {
        let all = self.requests.lock().expect("not poisoned");
        all.iter()
            .filter(|request| request.method == method)
            .cloned()
            .collect()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    respond: Arc<Respond>,
    requests: Arc<Mutex<Vec<Request>>>,
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
    requests: Arc<Mutex<Vec<Request>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(tcp).await?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines
        .first()
        .map(String::as_str)
        .unwrap_or_default()
        .split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let pairs = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> = pairs
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .get("content-length")
        .and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    let request = Request {
        method,
        target,
        headers,
        body,
    };
    let before = {
        let mut all = requests.lock().expect("not poisoned");
        all.push(request.clone());
        all.iter()
            .filter(|other| other.method == request.method)
            .count()
            - 1
    };
    if let Reply::Bytes(bytes) = respond(&request, before) {
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Reply {
    let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Reply::Bytes(bytes)
}

fn sized(status: &str, headers: &str, body: &[u8]) -> Reply {
    reply(
        status,
        &format!("content-length: {}\r\n{headers}", body.len()),
        body,
    )
}

fn descriptor(sectors: u64) -> String {
    format!("parentCID=ffffffff\ncreateType=\"vmfs\"\nRW {sectors} VMFS \"web-flat.vmdk\"\n")
}

fn content() -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 7 % 256) as u8).collect()
}

/// What a right server does.
fn right(request: &Request) -> Reply {
    let path = request.target.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("GET", "/folder/web/web.vmdk") => sized("200 OK", "", descriptor(SECTORS).as_bytes()),
        ("HEAD", "/folder/web/web-flat.vmdk") => {
            reply("200 OK", &format!("content-length: {LENGTH}\r\n"), b"")
        }
        ("GET", "/folder/web/web-flat.vmdk") => {
            let (start, end) = wanted(request);
            let said = format!("content-range: bytes {start}-{}/{LENGTH}\r\n", end - 1);
            sized("206 Partial Content", &said, &content()[start..end])
        }
        ("PUT", "/folder/web/web-flat.vmdk") => sized("200 OK", "", b""),
        _ => sized("404 Not Found", "", b""),
    }
}

fn wanted(request: &Request) -> (usize, usize) {
    let range = request.headers.get("range").expect("a range");
    let (start, last) = range
        .trim_start_matches("bytes=")
        .split_once('-')
        .expect("both ends");
    (
        start.parse().expect("a number"),
        last.parse::<usize>().expect("a number") + 1,
    )
}

fn is_range(request: &Request) -> bool {
    request.headers.contains_key("range")
}

#[tokio::test]
async fn a_range_is_asked_for_in_the_session_and_comes_whole() {
    let server = Server::start(|request, _| right(request)).await;
    let reader = server.reader().await.expect("opens");
    assert_eq!(reader.length(), LENGTH);
    let bytes = reader.read(Extent::new(100, 1000)).await.expect("reads");
    assert_eq!(bytes[..], content()[100..1100]);
    let asked = server.requests("GET").pop().expect("a request");
    assert_eq!(
        asked.headers.get("range").map(String::as_str),
        Some("bytes=100-1099")
    );
    assert_eq!(
        asked.headers.get("cookie").map(String::as_str),
        Some(COOKIE)
    );
    assert_eq!(
        asked.target,
        "/folder/web/web-flat.vmdk?dcPath=%2FDC+0&dsName=ds+1"
    );
    assert!(
        reader
            .read(Extent::new(LENGTH, 0))
            .await
            .expect("nothing")
            .is_empty()
    );
}

#[tokio::test]
async fn a_range_beyond_the_disk_is_not_asked_for() {
    let server = Server::start(|request, _| right(request)).await;
    let reader = server.reader().await.expect("opens");
    for extent in [
        Extent::new(0, LENGTH + 1),
        Extent::new(LENGTH, 1),
        Extent::new(u64::MAX, 2),
    ] {
        assert!(matches!(
            reader.read(extent).await,
            Err(Error::BeyondDisk { .. })
        ));
    }
    assert!(!server.requests("GET").iter().any(is_range));
}

/// Reads 0+1024 from a server whose answers to ranges are `lie`; it must be refused at once.
#[track_caller]
fn check(
    lie: impl Fn() -> Reply + Send + Sync + 'static,
    words: &'static str,
) -> impl Future<Output = ()> {
    let at = std::panic::Location::caller();
    async move {
        let respond = move |request: &Request, _: usize| match is_range(request) {
            true => lie(),
            false => right(request),
        };
        let server = Server::start(respond).await;
        let reader = server.reader().await.expect("opens");
        let error = reader
            .read(Extent::new(0, 1024))
            .await
            .expect_err("refused");
        assert!(matches!(error, Error::BadRange { .. }), "{at}: {error:?}");
        assert!(error.to_string().contains(words), "{at}: {error}");
        assert_eq!(error.fault().reason, Reason::DiskReadFailed);
        assert_eq!(
            server
                .requests("GET")
                .iter()
                .filter(|r| is_range(r))
                .count(),
            1,
            "{at}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_very_range_is_refused() {
    let part = "206 Partial Content";
    let range = |text: &str| format!("content-range: {text}\r\n");
    let good = range(&format!("bytes 0-1023/{LENGTH}"));
    check(|| sized("200 OK", "", &content()), "200").await;
    check(move || sized(part, "", &[0; 1024]), "None").await;
    for wrong in [
        format!("bytes 0-1022/{LENGTH}"),
        format!("bytes 512-1535/{LENGTH}"),
        format!("bytes 0-1023/{}", LENGTH + 1),
        "bytes 0-1023/*".to_owned(),
        "bytes 0-1023".to_owned(),
        format!("items 0-1023/{LENGTH}"),
    ] {
        let header = range(&wrong);
        check(move || sized(part, &header, &[0; 1024]), "content-range").await;
    }
    let header = good.clone();
    check(move || sized(part, &header, &[0; 1023]), "1023").await;
    let header = good.clone();
    check(move || sized(part, &header, &[0; 1025]), "more than 1024").await;
    // Without a length, closing the connection is a regular end.
    let header = good.clone();
    check(move || reply(part, &header, &[0; 1000]), "1000").await;
    let header = format!("{good}content-encoding: gzip\r\n");
    check(move || sized(part, &header, &[0; 1024]), "encoded").await;
}

/// How a read from a server ends whose first `count` answers to ranges are `wrong`, and how often
/// it was asked.
async fn after(
    count: usize,
    wrong: impl Fn() -> Reply + Send + Sync + 'static,
) -> (Result<Bytes, Error>, usize) {
    // The first GET fetches the descriptor.
    let respond = move |request: &Request, before: usize| match is_range(request) {
        true if before <= count => wrong(),
        _ => right(request),
    };
    let server = Server::start(respond).await;
    let mut reader = server.reader().await.expect("opens");
    reader.file.retry_delay = Duration::ZERO;
    let outcome = reader.read(Extent::new(0, 1024)).await;
    (
        outcome,
        server
            .requests("GET")
            .iter()
            .filter(|request| is_range(request))
            .count(),
    )
}

fn truncated() -> Reply {
    let said = format!("content-length: 1024\r\ncontent-range: bytes 0-1023/{LENGTH}\r\n");
    reply("206 Partial Content", &said, &[0; 500])
}

#[tokio::test]
async fn a_connection_that_fails_is_tried_again_a_few_times() {
    let (outcome, asked) = after(3, || Reply::Close).await;
    assert_eq!(outcome.expect("the fourth try")[..], content()[..1024]);
    assert_eq!(asked, 4);
    let (outcome, asked) = after(usize::MAX, || Reply::Close).await;
    assert!(
        matches!(outcome, Err(Error::Transport { .. })),
        "{outcome:?}"
    );
    assert_eq!(asked, 4);
    let (outcome, _) = after(2, truncated).await;
    assert_eq!(outcome.expect("the third try")[..], content()[..1024]);
    let (outcome, asked) = after(usize::MAX, truncated).await;
    assert!(
        matches!(outcome, Err(Error::Transport { .. })),
        "{outcome:?}"
    );
    assert_eq!(asked, 4);
    let (outcome, asked) = after(1, || sized("503 Busy", "", b"")).await;
    assert!(outcome.is_ok() && asked == 2, "{outcome:?}");
}

#[tokio::test]
async fn a_status_that_will_not_pass_is_told_at_once() {
    for (status, reason) in [
        ("401 Unauthorized", Reason::DiskReadFailed),
        ("403 Forbidden", Reason::VcenterPrivilegeMissing),
        ("404 Not Found", Reason::DiskReadFailed),
        ("416 Range Not Satisfiable", Reason::DiskReadFailed),
        ("500 Locked", Reason::DiskReadFailed),
    ] {
        let (outcome, asked) = after(usize::MAX, move || sized(status, "", b"")).await;
        assert_eq!(outcome.expect_err(status).fault().reason, reason);
        assert_eq!(asked, 1, "{status}");
    }
}

/// Opens a disk on a server that answers one request differently.
async fn opened(method: &'static str, answer: fn() -> Reply) -> Error {
    let respond = move |request: &Request, _: usize| match request.method == method {
        true => answer(),
        false => right(request),
    };
    let server = Server::start(respond).await;
    server.reader().await.map(drop).expect_err("refused")
}

#[tokio::test]
async fn a_disk_of_another_size_or_kind_is_not_opened() {
    let error = opened("GET", || {
        sized("200 OK", "", descriptor(SECTORS + 1).as_bytes())
    })
    .await;
    assert!(
        matches!(
            error,
            Error::WrongLength {
                expected: LENGTH,
                ..
            }
        ),
        "{error:?}"
    );
    let error = opened("HEAD", || reply("200 OK", "content-length: 512\r\n", b"")).await;
    assert!(
        matches!(error, Error::WrongLength { found: 512, .. }),
        "{error:?}"
    );
    let error = opened("GET", || sized("200 OK", "", b"createType=\"seSparse\"")).await;
    assert!(matches!(error, Error::NotFlat { .. }), "{error:?}");
    assert_eq!(error.fault().reason, Reason::NotSupported);
    let error = opened("GET", || sized("200 OK", "", &[b'x'; 70_000])).await;
    assert!(matches!(error, Error::NotFlat { .. }), "{error:?}");
    let error = opened("GET", || sized("404 Not Found", "", b"")).await;
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_with_another_certificate_gets_no_cookie() {
    let mut server = Server::start(|request, _| right(request)).await;
    server.access.trust = Trust::Fingerprint(Fingerprint::of(b"another"));
    let error = server.reader().await.map(drop).expect_err("refused");
    assert_eq!(error.fault().reason, Reason::CertificateUntrusted);
    assert!(server.requests("GET").is_empty());
}

#[tokio::test]
async fn a_disk_is_written_whole_with_zeros_for_holes() {
    let server = Server::start(|request, _| right(request)).await;
    let mut writer = server.writer().await.expect("opens");
    writer
        .write(512, Bytes::from(vec![1; 100]))
        .await
        .expect("writes");
    writer
        .write(612, Bytes::from(vec![2; 400]))
        .await
        .expect("writes");
    writer
        .write(4096, Bytes::from(vec![3; 1]))
        .await
        .expect("writes");
    writer.finish().await.expect("finishes");
    let put = server.requests("PUT").pop().expect("an upload");
    let mut expected = vec![0; LENGTH as usize];
    expected[512..612].fill(1);
    expected[612..1012].fill(2);
    expected[4096] = 3;
    assert_eq!(put.body, expected);
    assert_eq!(put.headers.get("content-length"), Some(&LENGTH.to_string()));
    assert_eq!(put.headers.get("cookie").map(String::as_str), Some(COOKIE));
    assert_eq!(server.requests("HEAD").len(), 2);
}

#[tokio::test]
async fn a_disk_without_data_is_written_as_zeros() {
    let server = Server::start(|request, _| right(request)).await;
    server
        .writer()
        .await
        .expect("opens")
        .finish()
        .await
        .expect("finishes");
    let put = server.requests("PUT").pop().expect("an upload");
    assert_eq!(put.body, vec![0; LENGTH as usize]);
}

#[tokio::test]
async fn writes_out_of_order_or_beyond_the_end_are_refused() {
    let server = Server::start(|request, _| right(request)).await;
    let mut writer = server.writer().await.expect("opens");
    writer
        .write(100, Bytes::from(vec![1; 100]))
        .await
        .expect("writes");
    let error = writer
        .write(199, Bytes::from_static(b"x"))
        .await
        .expect_err("refused");
    assert!(
        matches!(
            error,
            Error::NotAscending {
                offset: 199,
                position: 200
            }
        ),
        "{error:?}"
    );
    let error = writer
        .write(LENGTH, Bytes::from_static(b"x"))
        .await
        .expect_err("refused");
    assert!(matches!(error, Error::BeyondDisk { .. }), "{error:?}");
    let error = writer
        .write(u64::MAX, Bytes::from_static(b"x"))
        .await
        .expect_err("refused");
    assert!(matches!(error, Error::BeyondDisk { .. }), "{error:?}");
}

#[tokio::test]
async fn an_abandoned_upload_never_looks_whole() {
    let server = Server::start(|request, _| right(request)).await;
    let mut writer = server.writer().await.expect("opens");
    writer
        .write(0, Bytes::from(vec![1; 600]))
        .await
        .expect("writes");
    writer.abort().await.expect("gives up");
    // The server waits for the whole body, so that it would have been recorded.
    assert!(server.requests("PUT").is_empty());
}

/// How an upload ends that the server answers so.
async fn finished(put: fn() -> Reply, length: u64) -> Error {
    let respond = move |request: &Request, before: usize| match request.method.as_str() {
        "PUT" => put(),
        // The second one is asked when all was sent.
        "HEAD" if before > 0 => reply("200 OK", &format!("content-length: {length}\r\n"), b""),
        _ => right(request),
    };
    let server = Server::start(respond).await;
    let writer = server.writer().await.expect("opens");
    writer.finish().await.expect_err("refused")
}

#[tokio::test]
async fn an_upload_is_done_only_when_the_server_has_it_all() {
    let ok = || sized("201 Created", "", b"");
    let error = finished(ok, LENGTH - 512).await;
    assert!(matches!(error, Error::WrongLength { .. }), "{error:?}");
    let error = finished(|| sized("507 Insufficient Storage", "", b""), LENGTH).await;
    assert_eq!(error.fault().reason, Reason::DatastoreFull);
    let error = finished(|| sized("500 Locked", "", b""), LENGTH).await;
    assert_eq!(error.fault().reason, Reason::DiskWriteFailed);
    let error = finished(|| Reply::Close, LENGTH).await;
    assert_eq!(error.fault().reason, Reason::DiskWriteFailed);
    let error = finished(|| sized("202 Accepted", "", b""), LENGTH).await;
    assert_eq!(error.fault().reason, Reason::DiskWriteFailed);
}
