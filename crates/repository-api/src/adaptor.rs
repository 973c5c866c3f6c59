//! Services of roles as tonic serves them: convert, call, convert.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt};
use stillwater_types::{Fault, Reason};
use stillwater_wire::serve::{refuse, reply, take};
use stillwater_wire::serves;
use tonic::{Request, Response, Status, Streaming};

use crate::model::*;
use crate::pb;
use crate::server::*;

struct Adaptor<S: ?Sized>(Arc<S>);

serves! { repository_service: pb::repository_service_server::{RepositoryService, RepositoryServiceServer}
    bare get_repository(GetRepositoryRequest) -> GetRepositoryResponse;
}

serves! { dataset_service: pb::dataset_service_server::{DatasetService, DatasetServiceServer}
    one create_dataset(CreateDatasetRequest) -> CreateDatasetResponse;
    bare list_datasets(ListDatasetsRequest) -> ListDatasetsResponse;
}

serves! { session_service: pb::session_service_server::{SessionService, SessionServiceServer}
    one open_session(OpenSessionRequest) -> OpenSessionResponse;
    one renew_session(RenewSessionRequest) -> RenewSessionResponse;
    one close_session(CloseSessionRequest) -> CloseSessionResponse;
}

serves! { record_service: pb::record_service_server::{RecordService, RecordServiceServer}
    one find_records(FindRecordsRequest) -> FindRecordsResponse;
    own {
        async fn put_pack(
            &self,
            request: Request<Streaming<pb::PutPackRequest>>,
        ) -> Result<Response<pb::PutPackResponse>, Status> {
            let peer = stillwater_rpc::peer(&request).map_err(refuse)?;
            let mut messages = request.into_inner();
            let header = take(messages.message().await?.unwrap_or_default())?;
            reply(self.0.put_pack(&peer, header, parts(messages)).await)
        }
    }
    many read_records(ReadRecordsRequest) -> ReadRecordsResponse as ReadRecordsStream;
}

serves! { point_service: pb::point_service_server::{PointService, PointServiceServer}
    one propose_point(ProposePointRequest) -> ProposePointResponse;
    one commit_point(CommitPointRequest) -> CommitPointResponse;
    one list_points(ListPointsRequest) -> ListPointsResponse;
    one get_point(GetPointRequest) -> GetPointResponse;
    one lock_point(LockPointRequest) -> LockPointResponse;
    one delete_point(DeletePointRequest) -> DeletePointResponse;
}

serves! { retention_service: pb::retention_service_server::{RetentionService, RetentionServiceServer}
    bare get_retention(GetRetentionRequest) -> GetRetentionResponse;
    one submit_statement(SubmitStatementRequest) -> SubmitStatementResponse;
}

serves! { upkeep_service: pb::upkeep_service_server::{UpkeepService, UpkeepServiceServer}
    one start_task(StartTaskRequest) -> StartTaskResponse;
    one get_task(GetTaskRequest) -> GetTaskResponse;
    many watch_task(WatchTaskRequest) -> WatchTaskResponse as WatchTaskStream;
    one cancel_task(CancelTaskRequest) -> CancelTaskResponse;
}

/// The messages after the header; ends after the finish or after the first fault.
fn parts(messages: Streaming<pb::PutPackRequest>) -> BoxStream<'static, Result<PackPart, Fault>> {
    stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        match next_part(&mut messages).await {
            Ok(part @ PackPart::Batch(_)) => Some((Ok(part), Some(messages))),
            Ok(part @ PackPart::Finish(_)) => Some((Ok(part), None)),
            Err(fault) => Some((Err(fault), None)),
        }
    })
    .boxed()
}

async fn next_part(messages: &mut Streaming<pb::PutPackRequest>) -> Result<PackPart, Fault> {
    let Some(message) = receive(messages).await? else {
        return Err(Fault::new(
            Reason::BadField,
            "the pack ended without a finish",
        ));
    };
    let part = PackPart::try_from(message)?;
    // A pack that goes on after its finish is not the pack that its sender counted.
    if matches!(part, PackPart::Finish(_)) && receive(messages).await?.is_some() {
        return Err(Fault::new(
            Reason::BadField,
            "the pack went on after its finish",
        ));
    }
    Ok(part)
}

async fn receive(
    messages: &mut Streaming<pb::PutPackRequest>,
) -> Result<Option<pb::PutPackRequest>, Fault> {
    let broken = |status| stillwater_rpc::fault(&status, Reason::ProxyUnreachable);
    messages.message().await.map_err(broken)
}
