//! Calls to a repository.

use std::time::Duration;

use stillwater_types::{Fault, PointId, Reason, TaskId};
use stillwater_wire::ask::Ask;
use stillwater_wire::{calls, stub};
use tonic::transport::Channel;

use crate::model::*;
use crate::pack::PackSender;
use crate::pb;

/// A proposal is answered when all that it reaches was walked: on a large disk that takes a while.
const PROPOSE_DEADLINE: Duration = Duration::from_secs(600);

/// Calls one repository; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    ask: Ask,
}

impl Client {
    /// Calls over `channel`, with 30 seconds for each call that is not known to take longer.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            ask: Ask::new(Reason::RepositoryUnreachable),
        }
    }

    /// The same with another deadline for usual calls.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            ask: self.ask.within(deadline),
            ..self
        }
    }

    calls! { pb::repository_service_client::RepositoryServiceClient:
        /// Tells capacity and counts.
        one get_repository() -> Repository;
    }

    calls! { pb::dataset_service_client::DatasetServiceClient:
        /// Creates a dataset. Idempotent by `dataset_id`.
        one create_dataset(dataset: Dataset) -> Dataset;
        /// Lists the datasets.
        one list_datasets() -> Vec<Dataset>;
    }

    calls! { pb::session_service_client::SessionServiceClient:
        /// Opens a session for a run; the same run gets a new, higher fence.
        one open_session(request: OpenSessionRequest) -> Session;
        /// Moves the end of the lease.
        one renew_session(request: RenewSessionRequest) -> Session;
        /// Ends the session and drops its proposal.
        one close_session(request: CloseSessionRequest) -> ();
    }

    calls! { pb::record_service_client::RecordServiceClient:
        /// Reads at most [`READ_IDS_MAX`] records by id, in the order asked.
        many read_records(request: ReadRecordsRequest) -> ReadRecordsResponse;
    }

    calls! { pb::point_service_client::PointServiceClient:
        /// Stores a manifest and checks that all it reaches is durable.
        one[PROPOSE_DEADLINE] propose_point(request: ProposePointRequest) -> ProposePointResponse;
        /// Appends the commit record: from then on the point exists.
        one commit_point(request: CommitPointRequest) -> Point;
        /// Lists points, oldest first.
        one list_points(request: ListPointsRequest) -> ListPointsResponse;
        /// Tells one point with its manifest.
        one get_point(point_id: PointId) -> GetPointResponse;
        /// Locks a point for longer; answers the lock that counts.
        one lock_point(request: LockPointRequest) -> Point;
        /// Asks for a point to be deleted.
        one delete_point(point_id: PointId) -> ();
    }

    calls! { pb::retention_service_client::RetentionServiceClient:
        /// Tells what is protected.
        one get_retention() -> Retention;
        /// Hands in a statement with one signature.
        one submit_statement(request: SubmitStatementRequest) -> SubmitStatementResponse;
    }

    calls! { pb::upkeep_service_client::UpkeepServiceClient:
        /// Starts a task. Idempotent by `task_id`.
        one start_task(request: StartTaskRequest) -> Task;
        /// Tells a task's state.
        one get_task(task_id: TaskId) -> Task;
        /// Tells a task's state as it changes; ends after the final one.
        many watch_task(task_id: TaskId) -> Task;
        /// Asks a task to stop.
        one cancel_task(task_id: TaskId) -> Task;
    }

    /// Asks which of at most [`FIND_IDS_MAX`] ids are stored; one answer for each, in that order.
    pub async fn find_records(
        &self,
        request: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault> {
        let asked = request.ids.len();
        let mut stub = stub!(self, pb::record_service_client::RecordServiceClient);
        let call = stub.find_records(pb::FindRecordsRequest::from(request));
        let answer: FindRecordsResponse = self.ask.one(call).await?;
        if answer.found.len() != asked {
            let told = answer.found.len();
            return Err(Fault::new(
                Reason::NotSupported,
                format!("the repository answered {told} of {asked} ids, upgrade the older side"),
            ));
        }
        Ok(answer)
    }

    /// Begins a pack. Must be called inside a tokio runtime.
    pub fn put_pack(&self, header: PackHeader) -> PackSender {
        let mut stub = stub!(self, pb::record_service_client::RecordServiceClient);
        PackSender::begin(header, self.ask, move |parts| async move {
            stub.put_pack(parts).await
        })
    }
}
