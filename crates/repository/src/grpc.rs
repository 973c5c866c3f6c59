//! The repository's calls: convert, call, convert. Which role may make them is checked before they
//! come here; what a proxy may do is checked by the [`Gate`].

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use stillwater_format::Time;
use stillwater_format::commit;
use stillwater_format::pack::RecordId;
use stillwater_repository_api::*;
use stillwater_rpc::Peer;
use stillwater_rpc::grant::Verb;
use stillwater_store::{self as store, SessionKey, Store, Usage};
use stillwater_types::{Fault, NodeId, PointId, Reason};
use tokio_util::sync::CancellationToken;

use crate::delivery::{Delivery, kind};
use crate::engine::Engine;
use crate::gate::Gate;
use crate::intake::{Intake, draining};
use crate::task::Tasks;

mod retention;
mod upkeep;

/// Everything that is behind the port.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) node: NodeId,
    pub(crate) engine: Engine,
    pub(crate) gate: Gate,
    pub(crate) intake: Intake,
    pub(crate) delivery: Delivery,
    pub(crate) tasks: Tasks,
    /// Cancelled when the repository begins to stop.
    pub(crate) drain: CancellationToken,
}

impl Services {
    /// Refuses new work while the repository stops; what was begun may end.
    fn admit_work(&self) -> Result<(), Fault> {
        if self.drain.is_cancelled() {
            Err(draining())
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl RepositoryService for Services {
    async fn get_repository(&self, _: &Peer) -> Result<Repository, Fault> {
        let usage = self.engine.measure().await?;
        let health = self.engine.call(upkeep::health).await??;
        Ok(repository(self.node, &usage, health))
    }
}

#[async_trait]
impl DatasetService for Services {
    async fn create_dataset(&self, _: &Peer, dataset: Dataset) -> Result<Dataset, Fault> {
        let Dataset {
            dataset_id,
            label,
            wrapped_key,
        } = dataset;
        let new = commit::Dataset {
            id: dataset_id,
            label,
            wrapped_key: wrapped_key.into(),
        };
        let created = self
            .engine
            .call(move |store| store.create_dataset(new))
            .await?;
        Ok(dataset_message(created))
    }

    async fn list_datasets(&self, _: &Peer) -> Result<Vec<Dataset>, Fault> {
        let datasets = self.engine.call(|store| Ok(store.datasets())).await?;
        Ok(datasets.into_iter().map(dataset_message).collect())
    }
}

#[async_trait]
impl SessionService for Services {
    async fn open_session(&self, _: &Peer, request: OpenSessionRequest) -> Result<Session, Fault> {
        self.admit_work()?;
        let OpenSessionRequest {
            run_id,
            dataset_id,
            expected_bytes,
        } = request;
        let open = move |store: &Store| store.open_session(run_id, dataset_id, expected_bytes);
        session(&self.engine.call(open).await?)
    }

    async fn renew_session(
        &self,
        _: &Peer,
        request: RenewSessionRequest,
    ) -> Result<Session, Fault> {
        let key = SessionKey {
            run: request.run_id,
            fence: request.fence,
        };
        session(
            &self
                .engine
                .call(move |store| store.renew_session(key))
                .await?,
        )
    }

    async fn close_session(&self, _: &Peer, request: CloseSessionRequest) -> Result<(), Fault> {
        let key = SessionKey {
            run: request.run_id,
            fence: request.fence,
        };
        self.engine
            .call(move |store| store.close_session(key))
            .await
    }
}

#[async_trait]
impl RecordService for Services {
    async fn find_records(
        &self,
        peer: &Peer,
        request: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault> {
        let FindRecordsRequest {
            authority,
            record_type,
            ids,
        } = request;
        let store = self.engine.store();
        let (key, _) = self
            .gate
            .admit_to_session(store, peer, &authority, Verb::Find)?;
        let kind = kind(record_type);
        let records: Vec<_> = ids.into_iter().map(|id| RecordId { kind, id }).collect();
        let found = self
            .engine
            .call(move |store| store.find(key, &records))
            .await?;
        Ok(FindRecordsResponse { found })
    }

    async fn put_pack(
        &self,
        peer: &Peer,
        header: PackHeader,
        parts: BoxStream<'static, Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault> {
        self.admit_work()?;
        self.intake.take(peer, header, parts).await
    }

    async fn read_records(
        &self,
        peer: &Peer,
        request: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Result<ReadRecordsResponse, Fault>>, Fault> {
        self.delivery.give(peer, request).await
    }
}

#[async_trait]
impl PointService for Services {
    async fn propose_point(
        &self,
        _: &Peer,
        request: ProposePointRequest,
    ) -> Result<ProposePointResponse, Fault> {
        let ProposePointRequest {
            run_id,
            fence,
            manifest,
        } = request;
        let key = SessionKey { run: run_id, fence };
        let proposed = self
            .engine
            .call(move |store| store.propose_point(key, &manifest))
            .await?;
        let store::Proposed {
            manifest_hash,
            walked_count,
            ..
        } = proposed;
        Ok(ProposePointResponse {
            manifest_hash,
            walked_count,
        })
    }

    async fn commit_point(&self, _: &Peer, request: CommitPointRequest) -> Result<Point, Fault> {
        let CommitPointRequest {
            run_id,
            fence,
            point_id,
        } = request;
        let key = SessionKey { run: run_id, fence };
        let committed = self
            .engine
            .call(move |store| store.commit_point(key, point_id))
            .await?;
        tracing::info!(point.id = %point_id, run.id = %run_id, sequence = committed.sequence, "committed a restore point");
        point(&committed)
    }

    async fn list_points(
        &self,
        _: &Peer,
        request: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault> {
        let after = page_start(request.page_token.as_deref())?;
        let limit = request.page_size as usize;
        let found = self
            .engine
            .call(move |store| store.points(after, limit))
            .await?;
        let last = found.last().map(|point| point.sequence.to_string());
        let next_page_token = last.filter(|_| found.len() == limit);
        let points = found.iter().map(point).collect::<Result<_, _>>()?;
        Ok(ListPointsResponse {
            points,
            next_page_token,
        })
    }

    async fn get_point(&self, _: &Peer, point_id: PointId) -> Result<GetPointResponse, Fault> {
        let found = self
            .engine
            .call(move |store| Ok((store.point(point_id)?, store.manifest(point_id)?)))
            .await?;
        Ok(GetPointResponse {
            point: point(&found.0)?,
            manifest: Bytes::from(found.1),
        })
    }

    async fn lock_point(&self, _: &Peer, request: LockPointRequest) -> Result<Point, Fault> {
        let LockPointRequest { point_id, until } = request;
        // A time before 1970 is before every lock, and changes none.
        let until = Time::from_millis(u64::try_from(until.as_millisecond()).unwrap_or_default());
        let locked = self
            .engine
            .call(move |store| store.lock_point(point_id, until))
            .await?;
        tracing::info!(point.id = %point_id, until = locked.commit.retain_until.millis(), "locked a restore point");
        point(&locked)
    }

    async fn delete_point(&self, _: &Peer, point_id: PointId) -> Result<(), Fault> {
        self.engine
            .call(move |store| store.delete_point(point_id))
            .await?;
        tracing::info!(point.id = %point_id, "deleted a restore point");
        Ok(())
    }
}

fn repository(node_id: NodeId, usage: &Usage, health: Health) -> Repository {
    Repository {
        node_id,
        writable_bytes: usage.writable_bytes,
        capacity_bytes: usage.capacity_bytes,
        stored_bytes: usage.stored_bytes,
        chunk_count: usage.chunk_count,
        point_count: usage.point_count,
        format_version: u32::from(store::STORE_FORMAT_VERSION),
        health,
    }
}

fn dataset_message(dataset: commit::Dataset) -> Dataset {
    let commit::Dataset {
        id,
        label,
        wrapped_key,
    } = dataset;
    Dataset {
        dataset_id: id,
        label,
        wrapped_key: Bytes::from(wrapped_key),
    }
}

fn session(session: &store::Session) -> Result<Session, Fault> {
    let store::Session {
        key,
        dataset,
        lasts,
    } = *session;
    let expires_at = Timestamp::now()
        .checked_add(lasts)
        .map_err(|error| Fault::new(Reason::Bug, format!("reckon a session's end: {error}")))?;
    Ok(Session {
        run_id: key.run,
        dataset_id: dataset,
        fence: key.fence,
        expires_at,
    })
}

fn point(point: &store::Point) -> Result<Point, Fault> {
    let store::Point { sequence, commit } = *point;
    Ok(Point {
        point_id: commit.point,
        dataset_id: commit.dataset,
        run_id: commit.run,
        sequence,
        committed_at: timestamp(commit.committed_at)?,
        retain_until: timestamp(commit.retain_until)?,
        manifest_hash: commit.manifest_hash,
    })
}

fn timestamp(time: Time) -> Result<Timestamp, Fault> {
    let millis = i64::try_from(time.millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis)
        .map_err(|error| Fault::new(Reason::ManifestUnreadable, format!("read a time: {error}")))
}

/// The sequence after which a page begins.
fn page_start(token: Option<&str>) -> Result<u64, Fault> {
    token.map_or(Ok(0), |token| {
        let bad = || Fault::new(Reason::BadField, "page_token is not one of this repository");
        token.parse().map_err(|_| bad())
    })
}
