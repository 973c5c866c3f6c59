//! A year of rounds over a store of points, and stores that refuse.

use std::path::Path;

use async_trait::async_trait;
use futures::stream::BoxStream;
use stillwater_catalog::Clock;
use stillwater_format::Time;
use stillwater_format::manifest::{Consistency, Manifest, manifest_hash};
use stillwater_policy::Policy;
use stillwater_policy::retention::Simulation;
use stillwater_repository_api as repository_api;
use stillwater_seal::{DatasetKey, KeyEncryptionKey, Purpose};
use stillwater_types::{DatasetId, TaskId};

use super::super::fixture::*;
use super::*;
use crate::dataset::{DatasetEvent, Wrapped};
use crate::node::{Directory, NodeEvent};
use crate::point::Section;
use crate::run::Repositories;
use crate::schedule::{Member, Promise};
use crate::secret::Secrets;

const DATASET: DatasetId = DatasetId::from_bytes([5; 16]);

/// A clock that goes as it is told.
#[derive(Clone)]
struct Hands(Arc<Mutex<Timestamp>>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("not poisoned")
    }
}

impl Hands {
    fn set(&self, now: Timestamp) {
        *self.0.lock().expect("not poisoned") = now;
    }
}

/// A repository that has nothing but points.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    points: BTreeMap<PointId, repository_api::GetPointResponse>,
    made: u64,
    /// Why nothing is deleted.
    refusal: Option<Reason>,
    /// How often a deletion was asked for.
    asked: u32,
    /// Where the policy is removed as soon as a deletion was asked for.
    removes: Option<Memory>,
    /// Why no points are listed.
    lists_nothing: Option<Reason>,
    /// The time that it trusts; none is not told.
    trusted_time: Option<Timestamp>,
}

impl Store {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("not poisoned")
    }

    fn make(&self, key: &DatasetKey, policy: &str, at: Timestamp) {
        let mut kept = self.kept();
        kept.made += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&kept.made.to_be_bytes());
        let point = PointId::from_bytes(id);
        let section = Section {
            policy: Some(policy.to_owned()),
            ..Section::default()
        };
        let millis = u64::try_from(at.as_millisecond()).expect("after 1970");
        let manifest = Manifest {
            point,
            dataset: DATASET,
            run: RunId::from_bytes(id),
            vm: vm(1),
            vm_name: "web".into(),
            vcenter_instance: "lab".into(),
            taken_at: Time::from_millis(millis),
            consistency: Consistency::Crash,
            whole: true,
            disks: Vec::new(),
            sealed: section.seal(key, DATASET, point).expect("is sealed"),
        };
        let manifest = manifest.encode().expect("is written");
        let stored = repository_api::Point {
            point_id: point,
            dataset_id: DATASET,
            run_id: RunId::from_bytes(id),
            sequence: kept.made,
            committed_at: at,
            retain_until: at,
            manifest_hash: manifest_hash(&manifest),
        };
        let answer = repository_api::GetPointResponse {
            point: stored,
            manifest: manifest.into(),
        };
        kept.points.insert(point, answer);
    }

    /// The moments of the points that are there.
    fn moments(&self) -> Vec<Timestamp> {
        let kept = self.kept();
        let points = kept.points.values();
        points.map(|stored| stored.point.committed_at).collect()
    }
}

fn removed() -> PolicyEvent {
    PolicyEvent::Removed {
        name: "gold".into(),
    }
}

fn not_asked<T>() -> Result<T, Fault> {
    Err(Fault::new(Reason::Bug, "nobody asks for that here"))
}

#[async_trait]
impl Upkeep for Store {
    async fn delete_point(&self, _: NodeId, point: PointId) -> Result<(), Fault> {
        let removes = self.kept().removes.take();
        if let Some(memory) = removes {
            let appended = memory.append(Actor::Console, removed()).await;
            appended.expect("is kept");
        }
        let mut kept = self.kept();
        kept.asked += 1;
        if let Some(reason) = kept.refusal {
            return Err(fault(reason));
        }
        kept.points.remove(&point);
        Ok(())
    }

    async fn get_repository(&self, _: NodeId) -> Result<repository_api::Repository, Fault> {
        not_asked()
    }

    async fn get_retention(&self, _: NodeId) -> Result<repository_api::Retention, Fault> {
        let trusted_time = self.kept().trusted_time;
        let trusted_time = trusted_time.ok_or_else(|| fault(Reason::RepositoryUnreachable))?;
        Ok(repository_api::Retention {
            floor_seconds: 0,
            configured_floor_seconds: 0,
            demanded_floor_seconds: 0,
            trusted_time,
            wall_time: trusted_time,
            frozen: String::new(),
            admins: Vec::new(),
            waiting: Vec::new(),
        })
    }

    async fn submit_statement(
        &self,
        _: NodeId,
        _: repository_api::SubmitStatementRequest,
    ) -> Result<repository_api::SubmitStatementResponse, Fault> {
        not_asked()
    }

    async fn lock_point(
        &self,
        _: NodeId,
        _: repository_api::LockPointRequest,
    ) -> Result<repository_api::Point, Fault> {
        not_asked()
    }

    async fn start_task(
        &self,
        _: NodeId,
        _: repository_api::StartTaskRequest,
    ) -> Result<repository_api::Task, Fault> {
        not_asked()
    }

    async fn watch_task(
        &self,
        _: NodeId,
        _: TaskId,
    ) -> Result<BoxStream<'static, Result<repository_api::Task, Fault>>, Fault> {
        not_asked()
    }

    async fn cancel_task(&self, _: NodeId, _: TaskId) -> Result<repository_api::Task, Fault> {
        not_asked()
    }
}

#[async_trait]
impl Repositories for Store {
    async fn list_points(
        &self,
        _: NodeId,
        _: Option<String>,
    ) -> Result<repository_api::ListPointsResponse, Fault> {
        let kept = self.kept();
        if let Some(reason) = kept.lists_nothing {
            return Err(fault(reason));
        }
        Ok(repository_api::ListPointsResponse {
            points: kept
                .points
                .values()
                .map(|stored| stored.point.clone())
                .collect(),
            next_page_token: None,
        })
    }

    async fn get_point(
        &self,
        _: NodeId,
        point: PointId,
    ) -> Result<repository_api::GetPointResponse, Fault> {
        let kept = self.kept();
        let stored = kept.points.get(&point).cloned();
        stored.ok_or_else(|| fault(Reason::PointNotFound))
    }

    async fn create_dataset(&self, _: NodeId, _: repository_api::Dataset) -> Result<(), Fault> {
        not_asked()
    }

    async fn open_session(
        &self,
        _: NodeId,
        _: repository_api::OpenSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        not_asked()
    }

    async fn renew_session(
        &self,
        _: NodeId,
        _: repository_api::RenewSessionRequest,
    ) -> Result<repository_api::Session, Fault> {
        not_asked()
    }

    async fn close_session(
        &self,
        _: NodeId,
        _: repository_api::CloseSessionRequest,
    ) -> Result<(), Fault> {
        not_asked()
    }

    async fn propose_point(
        &self,
        _: NodeId,
        _: repository_api::ProposePointRequest,
    ) -> Result<(), Fault> {
        not_asked()
    }

    async fn commit_point(
        &self,
        _: NodeId,
        _: repository_api::CommitPointRequest,
    ) -> Result<repository_api::Point, Fault> {
        not_asked()
    }
}

/// A controller's part that ends points, over a store.
struct Scene {
    hands: Hands,
    store: Store,
    key: DatasetKey,
    policy: Arc<Policy>,
    promises: watch::Sender<Arc<Promises>>,
    expirer: Expirer,
}

impl Scene {
    async fn begin(dir: &Path, policy: &str, now: Timestamp) -> Self {
        let hands = Hands(Arc::new(Mutex::new(now)));
        let (dir, clock) = (dir.to_owned(), Arc::new(hands.clone()));
        let memory = tokio::task::spawn_blocking(move || Memory::open(&dir, clock));
        let memory = memory.await.expect("no panic").expect("a memory");
        let kek = KeyEncryptionKey::from_slice(&[9; 32]).expect("a key");
        let secrets = Secrets::new(kek);
        let key = DatasetKey::generate().expect("a key");
        let sealed = secrets.seal(Purpose::DatasetKey, DATASET.as_bytes(), key.expose());
        let made = DatasetEvent::Made {
            dataset: DATASET,
            repository: MAIN,
            key: sealed.expect("is sealed"),
            wrapped: Wrapped(vec![1]),
        };
        let joined = NodeEvent::Joined {
            node: MAIN,
            role: Role::Repository,
            name: "main".into(),
            address: "127.0.0.1:1".into(),
            certificate_expires_at: Timestamp::MAX,
        };
        let policy = Box::new(Policy::parse(policy).expect("is a policy"));
        let name = policy.name.clone();
        let by = Actor::Console;
        memory.append(by, joined).await.expect("is kept");
        memory.append(by, made).await.expect("is kept");
        let applied = PolicyEvent::Applied { policy };
        let state = memory.append(by, applied).await.expect("is kept");
        let policy = Arc::clone(&state.policies.find(&name).expect("is there").policy);
        let store = Store::default();
        let nodes = Directory::new(memory.clone());
        let points = Points::new(memory.clone(), nodes, Arc::new(store.clone()), secrets);
        let (promises, told) = watch::channel(Arc::default());
        let scene = Self {
            hands,
            store: store.clone(),
            key,
            policy,
            promises,
            expirer: Expirer {
                memory,
                points,
                upkeep: Arc::new(store),
                promises: told,
                metrics: Metrics::default(),
                ledger: Ledger::default(),
            },
        };
        scene.promise();
        scene.store.kept().trusted_time = Some(now);
        scene
    }

    fn promise(&self) {
        let member = Member {
            vm: vm(1),
            name: "web".into(),
            host: None,
            disks: Vec::new(),
            excluded: Vec::new(),
        };
        let promise = Promise {
            policy: Arc::clone(&self.policy),
            since: self.hands.now(),
            members: vec![member],
        };
        let promises = promises(vec![promise]);
        self.promises.send_replace(Arc::new(promises));
    }

    fn make(&self, at: Timestamp) {
        self.store.make(&self.key, &self.policy.name, at);
    }

    async fn round(&self) {
        let stop = CancellationToken::new();
        self.expirer.round(&stop).await.expect("is judged");
    }

    fn asked(&self) -> u32 {
        self.store.kept().asked
    }
}

fn file(schedule: &str, retention: &str) -> String {
    format!(
        "name = 'gold'\n[[scope.include]]\nname = '*'\n[schedule]\n{schedule}\n[retention]\n{retention}\n[store]\nrepository = 'main'\n"
    )
}

/// Runs a policy for a year, a day at a time, and holds what is there each evening against the simulation.
async fn check_year(schedule: &str, retention: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let from: Timestamp = "2026-02-01T10:30:00Z".parse().expect("is a moment");
    let scene = Scene::begin(dir.path(), &file(schedule, retention), from).await;
    let policy = Arc::clone(&scene.policy);
    let mut moments = policy.schedule.moments(from).peekable();
    let mut gone = 0;
    for day in Simulation::new(&policy, from, 366) {
        let before = scene.store.moments().len();
        let mut made = 0;
        while let Some(at) = moments.next_if(|at| *at < day.over_at) {
            scene.hands.set(at);
            scene.make(at);
            made += 1;
        }
        scene.hands.set(day.over_at);
        scene.round().await;
        let simulated: Vec<Timestamp> = day.kept.iter().map(|(at, _)| *at).collect();
        assert_eq!(scene.store.moments(), simulated, "{}", day.date);
        gone += before + made - simulated.len();
    }
    assert!(gone > 300, "{gone} points went");
}

#[tokio::test]
async fn a_year_of_days_leaves_what_was_simulated() {
    let keeps = "keep-last = 3\ndaily = 14\nweekly = 8\nmonthly = 12\nyearly = 3";
    check_year("rpo = '1d'", keeps).await;
}

#[tokio::test]
async fn a_year_of_hours_leaves_what_was_simulated() {
    check_year("rpo = '6h'", "hourly = 10\ndaily = 5\nmonthly = 2").await;
}

#[tokio::test]
async fn a_year_of_a_wall_clock_with_blackouts_leaves_what_was_simulated() {
    let schedule = "cron = '30 2,14 * * *'\ntime-zone = 'Europe/Berlin'\nblackout = [{ days = ['mon', 'fri'], from = '14:00', to = '16:00' }]";
    check_year(schedule, "keep-last = 2\nweekly = 5\nyearly = 2").await;
}

#[tokio::test]
async fn what_a_repository_refuses_is_told_and_asked_again_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = Scene::begin(dir.path(), &file("rpo = '1d'", "keep-last = 2"), day(9)).await;
    (1..=5).for_each(|number| scene.make(day(number)));
    scene.store.kept().refusal = Some(Reason::PointLocked);
    scene.round().await;
    scene.round().await;
    assert_eq!(scene.asked(), 3, "each of them once");
    let outlook = scene.expirer.look().await.expect("is judged");
    let reasons = outlook
        .refusals
        .values()
        .map(|refusal| refusal.fault.reason);
    assert_eq!(reasons.collect::<Vec<_>>(), [Reason::PointLocked; 3]);
    scene.store.kept().refusal = None;
    scene.hands.set(day(9) + SignedDuration::from_mins(10));
    scene.round().await;
    assert_eq!(scene.store.moments(), [day(4), day(5)]);
    let outlook = scene.expirer.look().await.expect("is judged");
    assert!(outlook.refusals.is_empty());
}

#[tokio::test]
async fn a_repository_that_deletes_nothing_at_all_is_asked_for_one_point_only() {
    for reason in [Reason::RepositoryUnreachable, Reason::TimeFrozen] {
        let dir = tempfile::tempdir().expect("a directory");
        let scene = Scene::begin(dir.path(), &file("rpo = '1d'", "keep-last = 2"), day(9)).await;
        (1..=5).for_each(|number| scene.make(day(number)));
        scene.store.kept().refusal = Some(reason);
        scene.round().await;
        assert_eq!(scene.asked(), 1);
        scene.store.kept().refusal = None;
        scene.round().await;
        assert_eq!(scene.store.moments(), [day(4), day(5)], "and again at once");
    }
}

#[tokio::test]
async fn a_repository_that_does_not_tell_its_points_or_its_time_is_asked_for_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = Scene::begin(dir.path(), &file("rpo = '1d'", "keep-last = 2"), day(9)).await;
    (1..=5).for_each(|number| scene.make(day(number)));
    // They are known, and then the newest may be gone.
    scene.expirer.points.refresh().await;
    scene.store.kept().lists_nothing = Some(Reason::RepositoryUnreachable);
    scene.round().await;
    scene.store.kept().lists_nothing = None;
    scene.store.kept().trusted_time = None;
    scene.round().await;
    assert_eq!(scene.asked(), 0);
    scene.store.kept().trusted_time = Some(day(9));
    scene.round().await;
    assert_eq!(scene.asked(), 3);
}

#[tokio::test]
async fn whoever_removes_a_policy_stops_its_expiry_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = Scene::begin(dir.path(), &file("rpo = '1d'", "keep-last = 2"), day(9)).await;
    (1..=5).for_each(|number| scene.make(day(number)));
    scene.store.kept().removes = Some(scene.expirer.memory.clone());
    scene.round().await;
    assert_eq!(scene.asked(), 1, "what was on its way, and no more");
}

#[tokio::test]
async fn nothing_goes_before_it_is_known_whom_policies_are_for_or_after_one_was_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let scene = Scene::begin(dir.path(), &file("rpo = '1d'", "keep-last = 2"), day(9)).await;
    (1..=5).for_each(|number| scene.make(day(number)));
    scene.promises.send_replace(Arc::default());
    scene.round().await;
    assert_eq!(scene.asked(), 0, "no vcenter was looked at");
    scene.promise();
    let memory = &scene.expirer.memory;
    memory
        .append(Actor::Console, removed())
        .await
        .expect("is kept");
    scene.round().await;
    assert_eq!(scene.asked(), 0, "what was looked at is of before");
    scene.promises.send_replace(Arc::default());
    scene.round().await;
    assert_eq!(scene.asked(), 0, "its points are nobody's");
}

fn at(minutes: i64) -> Timestamp {
    let begin: Timestamp = "2026-03-02T00:00:00Z".parse().expect("is a moment");
    begin
        .checked_add(SignedDuration::from_mins(minutes))
        .expect("is a moment")
}

fn fault(reason: Reason) -> Fault {
    Fault::new(reason, "no")
}

#[test]
fn what_was_refused_is_asked_for_again_ever_later_and_told_once() {
    let (ledger, point) = (Ledger::default(), PointId::from_bytes([1; 16]));
    assert!(ledger.is_due(point, at(0)));
    assert!(ledger.refused(point, fault(Reason::PointLocked), at(0)));
    assert!(!ledger.is_due(point, at(9)));
    assert!(ledger.is_due(point, at(10)));
    assert!(!ledger.refused(point, fault(Reason::PointLocked), at(10)));
    assert!(!ledger.is_due(point, at(29)));
    assert!(ledger.is_due(point, at(30)));
    assert!(
        ledger.refused(point, fault(Reason::TimeFrozen), at(30)),
        "another reason is news"
    );
    for _ in 0..20 {
        ledger.refused(point, fault(Reason::TimeFrozen), at(40));
    }
    assert!(
        ledger.is_due(point, at(40 + 24 * 60)),
        "once a day at least"
    );
    assert_eq!(ledger.lock().refusals[&point].since, at(0));
}

#[test]
fn a_clock_that_was_set_back_asks_at_once() {
    let (ledger, point) = (Ledger::default(), PointId::from_bytes([1; 16]));
    ledger.refused(point, fault(Reason::PointLocked), at(1_000));
    assert!(ledger.is_due(point, at(10)));
}

#[test]
fn points_that_are_gone_are_forgotten() {
    let (ledger, point) = (Ledger::default(), PointId::from_bytes([1; 16]));
    ledger.refused(point, fault(Reason::PointLocked), at(0));
    ledger.lock().makers.insert(point, None);
    ledger.forget_all_but(&[point].into());
    assert_eq!(ledger.lock().refusals.len(), 1);
    ledger.forget_all_but(&BTreeSet::new());
    assert!(ledger.lock().refusals.is_empty() && ledger.lock().makers.is_empty());
}
