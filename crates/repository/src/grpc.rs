//! The repository's calls: convert, call, convert. Who may make them is checked before they come here.

use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use stillwater_format::Time;
use stillwater_format::commit::Dataset as StoredDataset;
use stillwater_repository_api::*;
use stillwater_rpc::Peer;
use stillwater_rpc::grant::Verb;
use stillwater_store::{Point as StoredPoint, Session as OpenSession, SessionKey, Store};
use stillwater_types::{Fault, PointId, Reason};
use tokio_util::sync::CancellationToken;

use crate::authority::{Gate, Permit};
use crate::ingest::{blocking, ingest};
use crate::{reading, record};

/// Answers the repository's calls.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) store: Store,
    pub(crate) gate: Gate,
    /// Cancelled when the repository takes no new work.
    pub(crate) drain: CancellationToken,
}

impl Calls {
    fn refuse_when_draining(&self) -> Result<(), Fault> {
        if !self.drain.is_cancelled() {
            return Ok(());
        }
        Err(Fault::new(
            Reason::Draining,
            "the repository is shutting down: try again later",
        ))
    }

    async fn admit(&self, peer: &Peer, authority: Authority, verb: Verb) -> Result<Permit, Fault> {
        let (calls, peer) = (self.clone(), *peer);
        blocking(move || calls.gate.admit(&calls.store, &peer, &authority, verb)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> Result<T, stillwater_store::Error> + Send + 'static,
    ) -> Result<T, Fault> {
        let store = self.store.clone();
        blocking(move || Ok(act(&store)?)).await
    }
}

#[async_trait]
impl RepositoryService for Calls {
    async fn get_repository(&self, _: &Peer) -> Result<Repository, Fault> {
        let usage = self.ask(Store::usage).await?;
        Ok(Repository {
            node_id: self.store.identity().node,
            writable_bytes: usage.writable_bytes,
            capacity_bytes: usage.capacity_bytes,
            stored_bytes: usage.stored_bytes,
            chunk_count: usage.chunk_count,
            point_count: usage.point_count,
            format_version: stillwater_store::STORE_FORMAT_VERSION.into(),
        })
    }
}

#[async_trait]
impl DatasetService for Calls {
    async fn create_dataset(&self, _: &Peer, dataset: Dataset) -> Result<Dataset, Fault> {
        let Dataset {
            dataset_id,
            label,
            wrapped_key,
        } = dataset;
        let stored = StoredDataset {
            id: dataset_id,
            label,
            wrapped_key: wrapped_key.to_vec(),
        };
        self.ask(move |store| store.create_dataset(stored))
            .await
            .map(told)
    }

    async fn list_datasets(&self, _: &Peer) -> Result<Vec<Dataset>, Fault> {
        let datasets = self.ask(|store| Ok(store.datasets())).await?;
        Ok(datasets.into_iter().map(told).collect())
    }
}

fn told(dataset: StoredDataset) -> Dataset {
    let StoredDataset {
        id,
        label,
        wrapped_key,
    } = dataset;
    Dataset {
        dataset_id: id,
        label,
        wrapped_key: wrapped_key.into(),
    }
}

#[async_trait]
impl SessionService for Calls {
    async fn open_session(&self, _: &Peer, request: OpenSessionRequest) -> Result<Session, Fault> {
        self.refuse_when_draining()?;
        let OpenSessionRequest {
            run_id,
            dataset_id,
            expected_bytes,
        } = request;
        let opened = self.ask(move |store| store.open_session(run_id, dataset_id, expected_bytes));
        lease(opened.await?)
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
        lease(self.ask(move |store| store.renew_session(key)).await?)
    }

    async fn close_session(&self, _: &Peer, request: CloseSessionRequest) -> Result<(), Fault> {
        let key = SessionKey {
            run: request.run_id,
            fence: request.fence,
        };
        self.ask(move |store| store.close_session(key)).await
    }
}

fn lease(session: OpenSession) -> Result<Session, Fault> {
    let OpenSession {
        key,
        dataset,
        lasts,
    } = session;
    let expires_at = Timestamp::try_from(SystemTime::now() + lasts)
        .map_err(|_| Fault::new(Reason::Bug, "the clock is beyond every calendar"))?;
    Ok(Session {
        run_id: key.run,
        dataset_id: dataset,
        fence: key.fence,
        expires_at,
    })
}

#[async_trait]
impl RecordService for Calls {
    async fn find_records(
        &self,
        peer: &Peer,
        request: FindRecordsRequest,
    ) -> Result<FindRecordsResponse, Fault> {
        let permit = self.admit(peer, request.authority, Verb::Find).await?;
        let ids = record::ids(request.record_type, &request.ids);
        let found = self
            .ask(move |store| store.find(permit.session, &ids))
            .await?;
        Ok(FindRecordsResponse { found })
    }

    async fn put_pack(
        &self,
        peer: &Peer,
        header: PackHeader,
        parts: BoxStream<'static, Result<PackPart, Fault>>,
    ) -> Result<PutPackResponse, Fault> {
        self.refuse_when_draining()?;
        let permit = self.admit(peer, header.authority, Verb::Put).await?;
        if header.dataset_id != permit.dataset {
            return Err(Fault::new(
                Reason::GrantInvalid,
                "the pack is for another dataset",
            ));
        }
        let salt = header.salt;
        let writer = self
            .ask(move |store| store.begin_pack(permit.session, &salt))
            .await?;
        ingest(writer, parts).await
    }

    async fn read_records(
        &self,
        peer: &Peer,
        request: ReadRecordsRequest,
    ) -> Result<BoxStream<'static, Result<ReadRecordsResponse, Fault>>, Fault> {
        let permit = self.admit(peer, request.authority, Verb::Read).await?;
        let ids = record::ids(request.record_type, &request.ids);
        Ok(reading::read(self.store.clone(), permit.dataset, ids))
    }
}

#[async_trait]
impl PointService for Calls {
    async fn propose_point(
        &self,
        _: &Peer,
        request: ProposePointRequest,
    ) -> Result<ProposePointResponse, Fault> {
        let key = SessionKey {
            run: request.run_id,
            fence: request.fence,
        };
        let proposed = self
            .ask(move |store| store.propose_point(key, &request.manifest))
            .await?;
        let (manifest_hash, walked_count) = (proposed.manifest_hash, proposed.walked_count);
        Ok(ProposePointResponse {
            manifest_hash,
            walked_count,
        })
    }

    async fn commit_point(&self, _: &Peer, request: CommitPointRequest) -> Result<Point, Fault> {
        let key = SessionKey {
            run: request.run_id,
            fence: request.fence,
        };
        let point = self
            .ask(move |store| store.commit_point(key, request.point_id))
            .await?;
        tracing::info!(point.id = %request.point_id, run.id = %request.run_id, "committed a point");
        shown(point)
    }

    async fn list_points(
        &self,
        _: &Peer,
        request: ListPointsRequest,
    ) -> Result<ListPointsResponse, Fault> {
        let after = match request.page_token.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(sequence)) => sequence,
            Some(Err(_)) => {
                return Err(Fault::new(
                    Reason::BadField,
                    "page_token is none of this repository",
                ));
            }
        };
        let limit = request.page_size as usize;
        let points = self.ask(move |store| store.points(after, limit)).await?;
        let full = points.len() >= limit;
        let last = points.last().map(|point| point.sequence.to_string());
        let points = points.into_iter().map(shown).collect::<Result<_, _>>()?;
        Ok(ListPointsResponse {
            points,
            next_page_token: last.filter(|_| full),
        })
    }

    async fn get_point(&self, _: &Peer, point_id: PointId) -> Result<GetPointResponse, Fault> {
        let found = self.ask(move |store| Ok((store.point(point_id)?, store.manifest(point_id)?)));
        let (point, manifest) = found.await?;
        Ok(GetPointResponse {
            point: shown(point)?,
            manifest: manifest.into(),
        })
    }
}

fn shown(point: StoredPoint) -> Result<Point, Fault> {
    let StoredPoint { sequence, commit } = point;
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
    i64::try_from(time.millis())
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .ok_or_else(|| Fault::new(Reason::CommitLogCorrupt, "a time beyond every calendar"))
}
