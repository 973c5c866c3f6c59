//! The answering end: take a call apart, put its answer together.

use std::convert::Infallible;

use futures::stream::{BoxStream, StreamExt};
use http::{Request as HttpRequest, Response as HttpResponse};
use stillwater_rpc::Peer;
use stillwater_types::Fault;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};

use crate::FieldError;

/// A service of one API, ready for `tonic::service::Routes::add_service`.
pub trait Grpc:
    Service<
        HttpRequest<Body>,
        Response = HttpResponse<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Grpc for S where
    S: Service<
            HttpRequest<Body>,
            Response = HttpResponse<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Who calls, and what for.
///
/// # Errors
/// The status of `NO_CERTIFICATE` for an anonymous caller, of `BAD_FIELD` for a malformed message.
pub fn open<P, T>(request: Request<P>) -> Result<(Peer, T), Status>
where
    T: TryFrom<P, Error = FieldError>,
{
    let peer = stillwater_rpc::peer(&request).map_err(refuse)?;
    Ok((peer, take(request.into_inner())?))
}

/// What a message says.
///
/// # Errors
/// The status of `BAD_FIELD` for a malformed message.
pub fn take<P, T>(message: P) -> Result<T, Status>
where
    T: TryFrom<P, Error = FieldError>,
{
    T::try_from(message).map_err(refuse)
}

/// The status of a refusal.
pub fn refuse(fault: impl Into<Fault>) -> Status {
    stillwater_rpc::status(&fault.into())
}

/// The answer to a call.
///
/// # Errors
/// The fault's status.
pub fn reply<T, P: From<T>>(outcome: Result<T, Fault>) -> Result<Response<P>, Status> {
    outcome
        .map(|answer| Response::new(answer.into()))
        .map_err(refuse)
}

/// A stream of messages as tonic sends it.
pub type Outgoing<P> = BoxStream<'static, Result<P, Status>>;

/// The answer to a call that streams.
///
/// # Errors
/// The fault's status.
pub fn reply_stream<T, P>(
    outcome: Result<BoxStream<'static, Result<T, Fault>>, Fault>,
) -> Result<Response<Outgoing<P>>, Status>
where
    T: 'static,
    P: From<T> + 'static,
{
    let answers = outcome.map_err(refuse)?;
    Ok(Response::new(
        answers
            .map(|answer| answer.map(P::from).map_err(refuse))
            .boxed(),
    ))
}
