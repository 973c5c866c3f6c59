//! What the repository does unasked: a cycle of garbage collection a day, and reading all packs again.
//!
//! One thread, of low priority, does both in turns. It is started again should it panic, and ends at its
//! next step when the repository begins to stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use stillwater_store::{Error, Health, Phase, Store, Watch};
use tokio_util::sync::CancellationToken;

use crate::config::UpkeepSettings;

/// How much less the work is worth than answering calls; 19 is the least.
const NICE: i32 = 10;
/// Between two looks for something to do.
const IDLE: Duration = Duration::from_secs(20);
/// How long the thread waits after something went wrong.
const AFTER_FAULT: Duration = Duration::from_secs(60);
/// How old what is known of the store's health may be.
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// No cycle begins before the process is this old: it has other things to do first.
const FIRST_COLLECTION_AFTER: Duration = Duration::from_secs(300);
/// Between a cycle that failed and the next try.
const COLLECT_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// How much faster packs are read than it takes to get through all of them within the period, since a pack
/// is due only when three quarters of it are over.
const HASTE: u64 = 5;
/// Packs are never read slower than this.
const RATE_MIN: u64 = 1 << 20;
const FRESH_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// What is known of the upkeep; clones share it.
#[derive(Clone, Default)]
pub struct Upkept(Arc<Known>);

#[derive(Default)]
struct Known {
    health: RwLock<Option<Health>>,
    panics: AtomicU64,
}

impl Upkept {
    /// The store's health as it was measured last.
    pub fn health(&self) -> Option<Health> {
        let health = self.0.health.read();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often the upkeep had to be started again.
    pub fn panic_count(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Measures the store's health.
    pub fn measure(&self, store: &Store) -> Health {
        let measured = store.health();
        let health = self.0.health.write();
        *health.unwrap_or_else(PoisonError::into_inner) = Some(measured.clone());
        measured
    }
}

/// Looks after the store until `drain`.
pub async fn keep(
    store: Store,
    settings: UpkeepSettings,
    upkept: Upkept,
    drain: &CancellationToken,
) {
    keep_by(Arc::new(Stop::default()), store, settings, upkept, drain).await;
}

/// Does the same by another clock.
async fn keep_by(
    pulse: Arc<dyn Pulse>,
    store: Store,
    settings: UpkeepSettings,
    upkept: Upkept,
    drain: &CancellationToken,
) {
    let upkeep = Upkeep {
        store,
        settings,
        upkept: upkept.clone(),
        pulse: Arc::clone(&pulse),
    };
    let work = move || supervise(&*upkeep.pulse, &upkept, AFTER_FAULT, || upkeep.run());
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let body = move || {
        work();
        drop(ended);
    };
    if let Err(error) = thread::Builder::new().name("upkeep".to_owned()).spawn(body) {
        tracing::error!(%error, "cannot start the thread that looks after the store");
        return;
    }
    drain.cancelled().await;
    pulse.stop();
    if end.await.is_ok() {
        tracing::debug!("the upkeep ended");
    }
}

/// What time it is for the upkeep, and whether to go on.
trait Pulse: Watch + Send + Sync {
    /// Since some moment.
    fn now(&self) -> Duration;
    /// Waits; false when it is time to stop.
    fn wait(&self, time: Duration) -> bool;
    /// Says that it is time to stop, also to whoever waits.
    fn stop(&self);
}

/// The machine's own time.
struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
    began: Instant,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            is_set: Mutex::default(),
            changed: Condvar::new(),
            began: Instant::now(),
        }
    }
}

impl Pulse for Stop {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn wait(&self, time: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_set, time, |set| !*set);
        let (is_set, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !*is_set
    }

    fn stop(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// What a walk of the store asks: only whether to stop.
impl Watch for Stop {
    fn note(&self, _: Phase, _: u64, _: u64) {}

    fn is_stopped(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does the work again whenever it panicked, until it ends or it is time to stop.
fn supervise(pulse: &dyn Pulse, upkept: &Upkept, pause: Duration, mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {
        upkept.0.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("the upkeep panicked, which is a bug; it is started again in a minute");
        if !pulse.wait(pause) {
            return;
        }
    }
}

struct Upkeep {
    store: Store,
    settings: UpkeepSettings,
    upkept: Upkept,
    pulse: Arc<dyn Pulse>,
}

impl Upkeep {
    fn run(&self) {
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::warn!(%error, "cannot lower the priority of the upkeep");
        }
        let mut measured_at = self.pulse.now();
        let mut collect_at = measured_at + FIRST_COLLECTION_AFTER;
        let mut health = self.upkept.measure(&self.store);
        let mut pause = Duration::ZERO;
        while self.pulse.wait(pause) {
            let now = self.pulse.now();
            if now.saturating_sub(measured_at) >= MEASURE_EVERY {
                (measured_at, health) = (now, self.upkept.measure(&self.store));
            }
            if now >= collect_at && self.is_collection_due() {
                let pause = self.collect();
                collect_at = self.pulse.now() + pause;
            }
            pause = self.scrub(&health);
        }
    }

    fn watch(&self) -> &dyn Watch {
        &*self.pulse
    }

    fn is_collection_due(&self) -> bool {
        let now = self.store.retention().trusted;
        let last = self.store.last_cycle();
        last.is_none_or(|cycle| now >= cycle.at.after(self.settings.collect_every.0))
    }

    /// Goes through a cycle; tells when to look again.
    fn collect(&self) -> Duration {
        match self.store.collect(self.watch()) {
            Ok(collected) => {
                tracing::info!(
                    condemned_bytes = collected.condemned.bytes,
                    removed_bytes = collected.removed.bytes,
                    held = collected.held.is_some(),
                    "collected garbage"
                );
                AFTER_FAULT
            }
            // Somebody asked for one, which does as well.
            Err(Error::CollectionRunning | Error::CollectionStopped) => AFTER_FAULT,
            Err(error) => {
                tracing::error!(%error, "cannot collect garbage; trying again in an hour");
                COLLECT_AGAIN_AFTER
            }
        }
    }

    /// Reads what is due for about a second; tells how long to wait for the pace.
    fn scrub(&self, health: &Health) -> Duration {
        let rate = rate(health, &self.settings);
        let began = self.pulse.now();
        match self.store.scrub(rate, self.watch()) {
            Ok(done) => {
                if done.damaged_pack_count + done.healed_copy_count > 0 {
                    tracing::error!(?done, "the scrub found damage");
                    self.upkept.measure(&self.store);
                }
                let spent = self.pulse.now().saturating_sub(began);
                pace(done.read_bytes, rate).saturating_sub(spent)
            }
            Err(error) => {
                tracing::error!(%error, "cannot scrub; trying again in a minute");
                AFTER_FAULT
            }
        }
    }
}

/// How long reading so many bytes may take.
fn pace(read_bytes: u64, rate: u64) -> Duration {
    if read_bytes == 0 {
        return IDLE;
    }
    let millis = u128::from(read_bytes) * 1000 / u128::from(rate.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Bytes a second, so that everything is read within the period, and what is fresh within a day.
fn rate(health: &Health, settings: &UpkeepSettings) -> u64 {
    let within = |bytes: u64, time: Duration| bytes.saturating_mul(HASTE) / time.as_secs().max(1);
    let all = within(health.stored_bytes, settings.scrub_period.0);
    let fresh = within(health.unverified_bytes, FRESH_WITHIN);
    let most = settings.scrub_rate.0.max(RATE_MIN);
    all.max(fresh).clamp(RATE_MIN, most)
}

#[cfg(test)]
mod tests;
