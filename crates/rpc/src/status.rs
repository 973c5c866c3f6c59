//! Faults on the wire: `google.rpc.ErrorInfo` in a status, and back.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use stillwater_types::{Fault, Kind, Reason};
use tonic::{Code, Status};

const DOMAIN: &str = "stillwater";
const TYPE_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// What a person can read at one glance; more than that is somebody filling our memory or log.
const TEXT_CHARS_MAX: usize = 1024;
const DETAILS_MAX: usize = 32;

/// `google.rpc.Status`, written down here because it is all we need of googleapis.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// The wire code of a kind; no wildcard, so that a new kind must be placed.
pub const fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidRequest => Code::InvalidArgument,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::Conflict => Code::Aborted,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Timeout => Code::DeadlineExceeded,
        Kind::Cancelled => Code::Cancelled,
        Kind::Corrupt => Code::DataLoss,
        Kind::Unsupported => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

/// What a server answers for a fault.
pub fn status(fault: &Fault) -> Status {
    let code = code(fault.kind());
    let message = bounded(&fault.message);
    let details = fault.details.iter().take(DETAILS_MAX);
    let info = ErrorInfo {
        reason: fault.reason.as_str().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: details
            .map(|(key, value)| (bounded(key), bounded(value)))
            .collect(),
    };
    let detail = prost_types::Any {
        type_url: TYPE_URL.to_owned(),
        value: info.encode_to_vec(),
    };
    let rpc = RpcStatus {
        code: code as i32,
        message: message.clone(),
        details: vec![detail],
    };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

/// What a client makes of an answer.
///
/// `fallback` is the reason for a server that could not be reached, see
/// [`unreachable`](crate::unreachable). A reason from a newer release keeps its kind and loses
/// its name; the name stays in the details as `reason`.
pub fn fault(status: &Status, fallback: Reason) -> Fault {
    let Some(info) = error_info(status) else {
        return Fault::new(by_code(status.code(), fallback), bounded(&told(status)));
    };
    let details: BTreeMap<String, String> = info
        .metadata
        .iter()
        .take(DETAILS_MAX)
        .map(|(key, value)| (bounded(key), bounded(value)))
        .collect();
    let fault = |reason| Fault {
        reason,
        message: bounded(status.message()),
        details,
    };
    match Reason::parse(&info.reason) {
        Some(reason) => fault(reason),
        None => fault(by_code(status.code(), fallback)).with("reason", bounded(&info.reason)),
    }
}

fn error_info(status: &Status) -> Option<ErrorInfo> {
    let rpc = RpcStatus::decode(status.details()).ok()?;
    let detail = rpc
        .details
        .iter()
        .find(|detail| detail.type_url == TYPE_URL)?;
    let info = ErrorInfo::decode(detail.value.as_slice()).ok()?;
    (info.domain == DOMAIN).then_some(info)
}

/// A message of tonic's own, with the causes that say what really happened.
fn told(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The plainest reason of a code, for answers without our details.
fn by_code(code: Code, fallback: Reason) -> Reason {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Reason::BadField,
        Code::Unauthenticated => Reason::NoCertificate,
        Code::PermissionDenied => Reason::RoleNotAllowed,
        Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists => Reason::NotSupported,
        Code::Aborted => Reason::ProposalRefused,
        Code::ResourceExhausted => Reason::RateLimited,
        Code::Unavailable | Code::Unknown => fallback,
        Code::DeadlineExceeded => Reason::Deadline,
        Code::Cancelled => Reason::RunCancelled,
        Code::DataLoss => Reason::ManifestUnreadable,
        Code::Unimplemented => Reason::NotSupported,
        Code::Internal | Code::Ok => Reason::Bug,
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}
