//! The role × RPC matrix: every method of a protocol, called by every role and by nobody, over real
//! TLS.
//!
//! It knows no message, because an empty one is enough to learn who is let in: what passes the gate is
//! refused for its fields, or answered. It does not read the table that the server was given either:
//! what was seen is held against what the test says, so that a table that grows is noticed.

use std::time::Duration;

use bytes::Buf;
use http::uri::PathAndQuery;
use prost::Message;
use prost_types::FileDescriptorSet;
use stillwater_rpc::{Ca, ClientCertificates, Target, connect, connect_pinned, unreachable};
use stillwater_types::{ClusterId, Reason, Role};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::{identity, tls};

/// Nothing that is asked here takes long; a call that hangs must not hang the test.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server whose gate is to be tried.
pub struct Subject<'a> {
    /// `host:port` where it answers.
    pub address: &'a str,
    /// The role that it proves.
    pub role: Role,
    /// The authority of its cluster; it signs a certificate for every role.
    pub authority: &'a Ca,
    /// Whether it talks to callers without a certificate.
    pub certificates: ClientCertificates,
    /// The protocol's `FileDescriptorSet`.
    pub descriptors: &'a [u8],
}

/// Calls every method as every role and as nobody, and holds who was let in against `expected`: a
/// line for each method, in any order: `Service/Method: ` and the callers in the order of
/// [`Role::ALL`], `nobody` last. Members of another cluster and methods that are not there must be
/// refused in any case.
///
/// # Panics
/// When somebody else is let in, or not everybody who should be.
pub async fn check(subject: &Subject<'_>, expected: &str) {
    let methods = subject.methods();
    let mut rows: Vec<_> = methods.iter().map(|method| (method, Vec::new())).collect();
    for caller in Role::ALL.map(Some).into_iter().chain([None]) {
        let gate = subject.gate(caller).await;
        for (method, callers) in &mut rows {
            if gate.opens(method).await {
                callers.push(caller.map_or_else(|| "nobody".to_owned(), |role| role.to_string()));
            }
        }
        let (service, _) = methods[0].rsplit_once('/').expect("a path");
        let unknown = format!("{service}/NoSuchCall");
        assert!(
            !gate.opens(&unknown).await,
            "{unknown} called by {caller:?}"
        );
    }
    subject.check_stranger(&methods).await;
    let lines = rows.into_iter().map(|(method, callers)| {
        let short = method.rsplit('.').next().expect("a name");
        format!("{short}: {}", callers.join(" "))
    });
    let (mut seen, mut expected): (Vec<_>, Vec<_>) = (lines.collect(), expected.lines().collect());
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

/// What one caller finds.
enum Gate<'a> {
    /// A connection, on which calls are let in or refused.
    Calls(&'a Subject<'a>, Channel),
    /// Nothing: the handshake was refused.
    Shut,
}

impl Gate<'_> {
    /// Whether it lets the call through, whatever comes of it behind.
    async fn opens(&self, path: &str) -> bool {
        let Self::Calls(subject, channel) = self else {
            return false;
        };
        let Err(status) = call(channel.clone(), path).await else {
            return true;
        };
        let reason = subject.reason(&status);
        assert!(!subject.is_broken(reason), "{path}: {status:?}");
        !matches!(reason, Reason::NoCertificate | Reason::RoleNotAllowed)
    }
}

impl Subject<'_> {
    /// The paths of the protocol, in its order.
    fn methods(&self) -> Vec<String> {
        let set = FileDescriptorSet::decode(self.descriptors).expect("a descriptor set");
        let mut methods = Vec::new();
        for file in &set.file {
            for service in &file.service {
                let name = format!("/{}.{}", file.package(), service.name());
                let calls = service.method.iter().map(|call| call.name());
                methods.extend(calls.map(|call| format!("{name}/{call}")));
            }
        }
        assert!(!methods.is_empty(), "the protocol has no methods");
        methods
    }

    async fn gate(&self, caller: Option<Role>) -> Gate<'_> {
        let demands = self.certificates == ClientCertificates::Required;
        let channel = match caller {
            Some(role) => self.connect(self.authority, role),
            None => {
                assert_eq!(tls::demands_certificate(self.address).await, demands);
                if demands {
                    return Gate::Shut;
                }
                let pin = self.authority.spki_pin();
                connect_pinned(self.address, pin).expect("a good address")
            }
        };
        Gate::Calls(self, channel)
    }

    fn connect(&self, authority: &Ca, role: Role) -> Channel {
        let target = Target {
            address: self.address.to_owned(),
            role: self.role,
            node: None,
        };
        connect(&identity(authority, role), target).expect("a good address")
    }

    /// A certificate of another cluster opens nothing, not even what needs no certificate.
    async fn check_stranger(&self, methods: &[String]) {
        let now = std::time::SystemTime::now();
        let other = Ca::create(ClusterId::mint(), now).expect("an authority");
        let channel = self.connect(&other, Role::Admin);
        for path in methods {
            let answered = call(channel.clone(), path).await;
            let status = answered.expect_err("a stranger was answered");
            let broken = self.is_broken(self.reason(&status));
            assert!(broken, "{path} by a stranger: {status:?}");
        }
    }

    fn reason(&self, status: &Status) -> Reason {
        stillwater_rpc::fault(status, unreachable(self.role)).reason
    }

    /// Whether there was no connection that a call could be made on.
    fn is_broken(&self, reason: Reason) -> bool {
        reason == unreachable(self.role) || reason == Reason::CertificateUntrusted
    }
}

/// Sends one empty message and takes the first answer. Every shape of call can be spoken so: on the
/// wire a single message is a stream of one.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready()
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    let request = Request::new(tokio_stream::once(()));
    let answered = grpc.streaming(request, path, Nothing);
    let answered = tokio::time::timeout(DEADLINE, answered).await;
    let mut stream = answered.expect("an answer within 30 s")?.into_inner();
    let first = tokio::time::timeout(DEADLINE, stream.message()).await;
    first.expect("a message within 30 s").map(drop)
}

/// Speaks the empty message and reads none.
struct Nothing;

impl Codec for Nothing {
    type Encode = ();
    type Decode = ();
    type Encoder = Nothing;
    type Decoder = Nothing;

    fn encoder(&mut self) -> Nothing {
        Nothing
    }

    fn decoder(&mut self) -> Nothing {
        Nothing
    }
}

impl Encoder for Nothing {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Nothing {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        bytes.advance(bytes.remaining());
        Ok(Some(()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
