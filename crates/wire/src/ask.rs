//! The calling end: a deadline on every call, statuses as faults, answers checked on receipt.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use stillwater_types::{Fault, Reason};
use tonic::{Response, Status, Streaming};

use crate::FieldError;

/// How long a call may take unless its client says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How a client asks.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// How long a call may take; for a stream, until its first message can come.
    pub deadline: Duration,
    /// The reason when the server cannot be reached.
    pub unreachable: Reason,
}

impl Ask {
    /// Asks a server whose silence is `unreachable`, with the usual deadline.
    pub const fn new(unreachable: Reason) -> Self {
        Self {
            deadline: DEADLINE,
            unreachable,
        }
    }

    /// The same with another deadline, for work that is known to take longer.
    #[must_use]
    pub const fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The answer of a call.
    ///
    /// # Errors
    /// The server's fault; `DEADLINE` when the outcome is unknown; `NOT_SUPPORTED` when the answer
    /// cannot be read.
    pub async fn one<P, T>(
        self,
        call: impl Future<Output = Result<Response<P>, Status>>,
    ) -> Result<T, Fault>
    where
        T: TryFrom<P, Error = FieldError>,
    {
        let answer = self.answer(call).await?;
        T::try_from(answer.into_inner()).map_err(unreadable)
    }

    /// The answers of a call that streams.
    ///
    /// # Errors
    /// As [`Ask::one`], for the call and for each answer.
    pub async fn many<P, T>(
        self,
        call: impl Future<Output = Result<Response<Streaming<P>>, Status>>,
    ) -> Result<BoxStream<'static, Result<T, Fault>>, Fault>
    where
        T: TryFrom<P, Error = FieldError> + 'static,
        P: 'static,
    {
        let answers = self.answer(call).await?.into_inner();
        let read = move |answer: Result<P, Status>| {
            let answer = answer.map_err(|status| self.fault(&status))?;
            T::try_from(answer).map_err(unreadable)
        };
        Ok(answers.map(read).boxed())
    }

    async fn answer<P>(
        self,
        call: impl Future<Output = Result<Response<P>, Status>>,
    ) -> Result<Response<P>, Fault> {
        // Not by tonic's own timeout: that one answers CANCELLED, which means something else here.
        match tokio::time::timeout(self.deadline, call).await {
            Ok(answer) => answer.map_err(|status| self.fault(&status)),
            Err(_) => Err(Fault::new(
                Reason::Deadline,
                format!("no answer within {} seconds", self.deadline.as_secs()),
            )),
        }
    }

    /// What a status says.
    pub fn fault(self, status: &Status) -> Fault {
        stillwater_rpc::fault(status, self.unreachable)
    }
}

/// An answer that breaks the protocol is no mistake of the caller: it is a newer or a broken peer.
fn unreadable(error: FieldError) -> Fault {
    Fault::new(
        Reason::NotSupported,
        format!("the answer cannot be read, upgrade the older side: {error}"),
    )
}
