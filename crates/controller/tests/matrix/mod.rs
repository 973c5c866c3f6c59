//! The role × RPC matrix: every method of a protocol, called by every role and by nobody, over real
//! TLS, held against the compiled-in table.
//!
//! Each role's tests use it with their own server; it knows no message, because an empty one is
//! enough to learn who is let in: what passes the gate is refused for its fields, or answered.

use bytes::Buf;
use http::uri::PathAndQuery;
use prost::Message;
use prost_types::FileDescriptorSet;
use stillwater_rpc::{
    Access, Ca, ClientCertificates, NODE_VALIDITY, PendingKey, Target, connect, connect_pinned,
};
use stillwater_types::{ClusterId, NodeId, Reason, Role};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

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
    /// Who may call what.
    pub access: &'a [Access],
    /// The protocol's `FileDescriptorSet`.
    pub descriptors: &'a [u8],
}

/// Calls every method as every role and as nobody, and as a member of another cluster.
///
/// Answers how many calls were made, so that a caller can see that there were any.
///
/// # Panics
/// When a caller is let in whom the table does not name, or kept out whom it names; when the table
/// and the protocol do not name the same methods.
pub async fn check(subject: &Subject<'_>) -> usize {
    let set = FileDescriptorSet::decode(subject.descriptors).expect("a descriptor set");
    assert_eq!(
        stillwater_rpc::gaps(subject.access, &set),
        Vec::<String>::new()
    );
    let mut calls = 0;
    for caller in Role::ALL.map(Some).into_iter().chain([None]) {
        let channel = subject.channel(caller);
        for entry in subject.access {
            let expected = match caller {
                Some(role) => entry.roles.contains(&role),
                None => entry.anonymous,
            };
            let let_in = subject.is_let_in(&channel, caller, entry.path).await;
            assert_eq!(let_in, expected, "{} called by {caller:?}", entry.path);
            calls += 1;
        }
        let unknown = "/stillwater.controller.v1.NodeService/NoSuchCall";
        assert!(
            !subject.is_let_in(&channel, caller, unknown).await,
            "{caller:?}"
        );
    }
    for entry in subject.access {
        subject.check_stranger(entry.path).await;
    }
    calls
}

impl Subject<'_> {
    fn channel(&self, caller: Option<Role>) -> Channel {
        let Some(role) = caller else {
            let pin = self.authority.spki_pin();
            return connect_pinned(self.address, pin).expect("a good address");
        };
        let target = Target {
            address: self.address.to_owned(),
            role: self.role,
            node: None,
        };
        connect(&identity(self.authority, role), target).expect("a good address")
    }

    /// Whether the gate let the call through, whatever came of it behind the gate.
    async fn is_let_in(&self, channel: &Channel, caller: Option<Role>, path: &str) -> bool {
        let Err(status) = call(channel.clone(), path).await else {
            return true;
        };
        let reason = reason(&status);
        // A server that demands certificates ends the connection instead of answering.
        let ended = caller.is_none() && self.certificates == ClientCertificates::Required;
        match reason {
            Reason::NoCertificate | Reason::RoleNotAllowed => false,
            reason if is_broken(reason) && ended => false,
            reason if is_broken(reason) => panic!("{path} by {caller:?}: {status:?}"),
            _ => true,
        }
    }

    /// A certificate of another cluster opens nothing, not even what needs no certificate.
    async fn check_stranger(&self, path: &str) {
        let other = Ca::create(ClusterId::mint(), now()).expect("an authority");
        let target = Target {
            address: self.address.to_owned(),
            role: self.role,
            node: None,
        };
        let channel = connect(&identity(&other, Role::Admin), target).expect("a good address");
        let status = call(channel, path)
            .await
            .expect_err("a stranger was answered");
        assert!(
            is_broken(reason(&status)),
            "{path} by a stranger: {status:?}"
        );
    }
}

fn reason(status: &Status) -> Reason {
    stillwater_rpc::fault(status, Reason::ControllerUnreachable).reason
}

/// Whether there was no connection that a call could be made on.
fn is_broken(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ControllerUnreachable | Reason::CertificateUntrusted
    )
}

fn identity(authority: &Ca, role: Role) -> stillwater_rpc::Identity {
    let (key, request) = PendingKey::generate().expect("a key");
    let node = NodeId::mint();
    let chain = authority
        .issue(&request, role, node, NODE_VALIDITY, now())
        .expect("a chain");
    key.certify(&chain).expect("an identity")
}

fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
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
    let answered = tokio::time::timeout(std::time::Duration::from_secs(30), answered).await;
    let mut stream = answered.expect("an answer within 30 s")?.into_inner();
    let first = tokio::time::timeout(std::time::Duration::from_secs(30), stream.message()).await;
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
