//! Faults on the wire: `google.rpc.ErrorInfo` in a status, and back.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use stillwater_types::{Fault, Kind, Reason};
use tonic::{Code, Status};

const DOMAIN: &str = "stillwater";
const TYPE_URL: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Bounds of what crosses the wire, in bytes: all of it together, with percent and base64 encoding,
/// must fit the 16 KiB that HTTP/2 peers take as headers.
const MESSAGE_BYTES_MAX: usize = 1024;
const KEY_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 256;
const DETAILS_MAX: usize = 16;

const TIMEOUT_MESSAGE: &str = "Timeout expired";
const ALERT_TEXT: &str = "received fatal alert: ";

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
    let message = bounded(&fault.message, MESSAGE_BYTES_MAX);
    let info = ErrorInfo {
        reason: fault.reason.as_str().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: bounded_details(fault.details.iter()),
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
        return Fault::new(
            plain_reason(status, fallback),
            bounded(&told(status), MESSAGE_BYTES_MAX),
        );
    };
    let details: BTreeMap<_, _> = bounded_details(info.metadata.iter());
    let fault = |reason| Fault {
        reason,
        message: bounded(status.message(), MESSAGE_BYTES_MAX),
        details,
    };
    match Reason::parse(&info.reason) {
        Some(reason) => fault(reason),
        None => fault(by_code(status.code(), fallback))
            .with("reason", bounded(&info.reason, VALUE_BYTES_MAX)),
    }
}

/// The reason of an answer without our details: a peer that is no role of ours, or no answer at
/// all but an error of this side's transport, which alone has a source.
fn plain_reason(status: &Status, fallback: Reason) -> Reason {
    let Some(source) = std::error::Error::source(status) else {
        // tonic answers so when the call's own deadline passed.
        let timed_out = status.code() == Code::Cancelled && status.message() == TIMEOUT_MESSAGE;
        return if timed_out {
            Reason::Deadline
        } else {
            by_code(status.code(), fallback)
        };
    };
    let mut causes = std::iter::successors(Some(source), |cause| cause.source());
    let found = causes.find_map(|cause| {
        if cause.is::<tonic::TimeoutExpired>() {
            return Some(Reason::Deadline);
        }
        by_io(cause.downcast_ref()?)
    });
    found.unwrap_or(match status.code() {
        Code::ResourceExhausted | Code::DeadlineExceeded | Code::OutOfRange => {
            by_code(status.code(), fallback)
        }
        _ => fallback,
    })
}

/// What TLS says about trust; `None` when it says nothing.
fn by_io(err: &std::io::Error) -> Option<Reason> {
    let inner = err.get_ref()?;
    match inner.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(_)) => Some(Reason::CertificateUntrusted),
        Some(rustls::Error::AlertReceived(_)) => Some(Reason::NoCertificate),
        Some(_) => None,
        // The server judges our certificate after our half of the handshake, so its alert comes
        // through the HTTP/2 layer, which keeps only the text.
        None => inner
            .to_string()
            .starts_with(ALERT_TEXT)
            .then_some(Reason::NoCertificate),
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

fn bounded_details<'a, M: FromIterator<(String, String)>>(
    details: impl Iterator<Item = (&'a String, &'a String)>,
) -> M {
    details
        .take(DETAILS_MAX)
        .map(|(key, value)| (bounded(key, KEY_BYTES_MAX), bounded(value, VALUE_BYTES_MAX)))
        .collect()
}

fn bounded(text: &str, bytes_max: usize) -> String {
    let end = text.floor_char_boundary(bytes_max.min(text.len()));
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FALLBACK: Reason = Reason::RepositoryUnreachable;

    #[test]
    fn every_reason_crosses_the_wire_with_its_details() {
        for reason in Reason::ALL {
            let sent = Fault::new(*reason, "open the disk")
                .with("disk", 2000)
                .with("vm", "vm-16");
            let status = status(&sent);
            assert_eq!(status.code(), code(reason.kind()));
            assert_eq!(fault(&status, FALLBACK), sent, "{reason}");
        }
    }

    #[test]
    fn a_reason_from_a_newer_release_degrades_to_its_codes_plainest() {
        for reason in Reason::ALL {
            let code = code(reason.kind());
            let info = ErrorInfo {
                reason: "NEWER_THAN_US".into(),
                domain: DOMAIN.into(),
                metadata: HashMap::new(),
            };
            let detail = prost_types::Any {
                type_url: TYPE_URL.into(),
                value: info.encode_to_vec(),
            };
            let rpc = RpcStatus {
                code: code as i32,
                message: String::new(),
                details: vec![detail],
            };
            let status = Status::with_details(code, "no", rpc.encode_to_vec().into());
            let found = fault(&status, FALLBACK);
            assert_eq!(found.reason, by_code(code, FALLBACK));
            assert_eq!(
                found.details.get("reason").map(String::as_str),
                Some("NEWER_THAN_US")
            );
        }
    }

    #[test]
    fn a_degraded_reason_keeps_what_the_caller_may_do() {
        for reason in Reason::ALL {
            // No reason of these kinds is plain enough to stand for all of them.
            if matches!(
                reason.kind(),
                Kind::NotFound | Kind::AlreadyExists | Kind::Precondition
            ) {
                continue;
            }
            let degraded = by_code(code(reason.kind()), FALLBACK);
            assert_eq!(degraded.kind(), reason.kind(), "{reason}");
        }
    }

    #[test]
    fn foreign_details_and_endless_texts_do_no_harm() {
        let status =
            Status::with_details(Code::NotFound, "x".repeat(1 << 20), vec![0xff; 99].into());
        assert_eq!(fault(&status, FALLBACK).message.len(), MESSAGE_BYTES_MAX);
        let mut endless = Fault::new(Reason::BadField, "\u{20ac}".repeat(1 << 20));
        for index in 0..1000 {
            endless = endless.with(&index.to_string(), "z".repeat(1 << 14));
        }
        let sent = super::status(&endless);
        let headers = sent.message().len() * 3 + sent.details().len() * 4 / 3;
        assert!(headers < 15 << 10, "{headers}");
        assert_eq!(fault(&sent, FALLBACK).details.len(), DETAILS_MAX);
    }

    #[test]
    fn what_tls_says_about_trust_is_told_apart_from_silence() {
        use std::io::{Error, ErrorKind};
        let bad = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        for (error, reason) in [
            (Error::other(alert.to_string()), Some(Reason::NoCertificate)),
            (Error::other(alert), Some(Reason::NoCertificate)),
            (Error::other(bad), Some(Reason::CertificateUntrusted)),
            (Error::other(rustls::Error::DecryptError), None),
            (Error::other("connection reset"), None),
            (ErrorKind::ConnectionRefused.into(), None),
        ] {
            assert_eq!(by_io(&error), reason, "{error}");
            let found = fault(&Status::from_error(error.into()), FALLBACK);
            assert_eq!(found.reason, reason.unwrap_or(FALLBACK));
        }
    }

    #[test]
    fn an_answer_that_timed_out_is_a_deadline() {
        let status = Status::cancelled(TIMEOUT_MESSAGE);
        assert_eq!(fault(&status, FALLBACK).reason, Reason::Deadline);
    }
}
