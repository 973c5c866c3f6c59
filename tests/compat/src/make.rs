//! The life of a small repository.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use stillwater_format::Time;
use stillwater_format::commit::{Action, AdminKey, Dataset, Signed, Statement};
use stillwater_format::manifest::{Consistency, Manifest};
use stillwater_format::pack::{HEADER_LEN, RECORD_HEADER_LEN, SALT_LEN};
use stillwater_rpc::signing::{self, SigningKey};
use stillwater_seal::{DatasetKey, RecoveryKey};
use stillwater_store::vfs::RealFs;
use stillwater_store::{
    Clock, Environment, Identity, MemoryCatalogue, MemoryIndex, Options, Store, Verifier,
};
use stillwater_types::{ClusterId, DatasetId, NodeId, PackId, PointId, RunId, VcenterId, VmId};

use crate::content::{self, Content};
use crate::expected::{Expected, ExpectedDisk, ExpectedPoint, RECOVERY_KEY};
use crate::ingest;
use crate::time::{Hands, Seeded};

const DAY: Duration = Duration::from_secs(24 * 3600);
const OPTIONS: Options = Options {
    allow_volatile: true,
    reserve_bytes: 0,
    retention: Duration::from_secs(14 * 24 * 3600),
    ..Options::DEFAULT
};
const DATASET: DatasetId = DatasetId::from_bytes(id(0xda));
/// What is made anew from the rest, or belongs to a process.
const NOT_KEPT: [&str; 4] = ["lock", "tmp", "verified.a", "verified.b"];

/// Makes the repository in `dir`, which must be there and empty. Gives what must be found in it.
///
/// # Errors
/// When the store refuses, or the directory cannot be written.
pub fn make(dir: &Path) -> Result<Expected> {
    let mut world = World::begin(dir)?;
    let mail = |key| [(2000, content::system()), (key, content::data())];
    world.back_up(1, "mail", Consistency::Crash, &mail(2001))?;
    world.clock.advance(DAY);
    let later = [(2000, content::system_later()), (2001, content::data())];
    let second = world.back_up(1, "mail", Consistency::FileSystem, &later)?;
    let clone = [(2000, content::system()), (2016, content::blank())];
    world.back_up(2, "mail-clone", Consistency::Offline, &clone)?;
    let retired = [(2000, content::retired())];
    let retired = world.back_up(3, "retired", Consistency::Application, &retired)?;
    world.back_up(4, "heir", Consistency::Crash, &[(2000, content::heir())])?;
    world.govern(second)?;
    world.delete(retired)?;
    world.damage()?;
    world.back_up(
        4,
        "web \u{2014} \u{fc}ber",
        Consistency::Crash,
        &[(2000, content::data())],
    )?;
    world.end()
}

/// UUIDs of version 7 that are easy to tell apart.
const fn id(number: u8) -> [u8; 16] {
    [
        1, 0x9b, 0, 0, 0, number, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, number,
    ]
}

struct Ed25519;

impl Verifier for Ed25519 {
    fn verify(&self, key: &AdminKey, message: &[u8], signature: &[u8; 64]) -> bool {
        signing::verify(key, message, signature)
    }
}

struct World<'a> {
    dir: &'a Path,
    clock: Arc<Hands>,
    store: Store,
    key: DatasetKey,
    runs: u8,
    /// The pack of the first VM's second disk.
    data_pack: Option<PackId>,
    expected: Expected,
}

impl<'a> World<'a> {
    fn begin(dir: &'a Path) -> Result<Self> {
        let clock = Arc::new(Hands::default());
        // The boot is not the moment of the first write.
        clock.advance(DAY);
        let rng = Arc::new(Seeded::default());
        let env = || -> Result<Environment> {
            Ok(Environment {
                vfs: Arc::new(RealFs::open(dir)?),
                clock: clock.clone(),
                rng: rng.clone(),
                catalogue: Box::new(MemoryCatalogue::default()),
                index: Arc::new(MemoryIndex::default()),
                verifier: Arc::new(Ed25519),
            })
        };
        let (cluster, node) = (
            ClusterId::from_bytes(id(0xc1)),
            NodeId::from_bytes(id(0xde)),
        );
        Store::init(&env()?, &OPTIONS, Identity { cluster, node })?;
        let store = Store::open(env()?, OPTIONS)?;
        let key = DatasetKey::from_slice(blake3::hash(b"golden dataset key").as_bytes())?;
        let recovery: RecoveryKey = RECOVERY_KEY.parse()?;
        let wrapped = recovery.public()?.wrap(DATASET, &key)?;
        store.create_dataset(Dataset {
            id: DATASET,
            label: "default".into(),
            wrapped_key: wrapped.as_bytes().to_vec(),
        })?;
        let expected = Expected {
            recovery_key: RECOVERY_KEY.into(),
            points: Vec::new(),
        };
        Ok(Self {
            dir,
            clock,
            store,
            key,
            runs: 0,
            data_pack: None,
            expected,
        })
    }

    fn back_up(
        &mut self,
        vm: u8,
        name: &str,
        consistency: Consistency,
        disks: &[(i32, Content)],
    ) -> Result<PointId> {
        self.runs += 1;
        let run = RunId::from_bytes(id(0x80 + self.runs));
        let point = PointId::from_bytes(id(self.runs));
        let session = self.store.open_session(run, DATASET, 0)?;
        let stored = disks.iter().map(|(device, content)| {
            let key = (DATASET, &self.key);
            ingest::disk(&self.store, session.key, key, *device, content)
        });
        let (stored, packs): (Vec<_>, Vec<_>) =
            stored.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        self.data_pack = self.data_pack.or(packs.get(1).copied());
        let config_xml = format!("<config><name>{name}</name></config>");
        let section = json!({
            "version": 1,
            "config_xml": config_xml,
            "evidence": [{ "name": "quiesced", "value": "false" }],
            "disks": disks.iter().map(|(device, _)| json!({
                "key": device,
                "new_chunk_count": 0,
                "attempts": 1,
                "proxy": NodeId::from_bytes(id(0x9a)),
            })).collect::<Vec<_>>(),
            "missing": [],
            "excluded": [],
        });
        let section = serde_json::to_vec(&section)?;
        let manifest = Manifest {
            point,
            dataset: DATASET,
            run,
            vm: VmId {
                vcenter: VcenterId::from_bytes(id(0x5c)),
                moref: format!("vm-{vm}"),
            },
            vm_name: name.into(),
            vcenter_instance: "11111111-2222-4333-8444-555555555555".into(),
            taken_at: self.clock.wall(),
            consistency,
            whole: true,
            disks: stored,
            sealed: self
                .key
                .seal_manifest(DATASET, point.as_bytes(), &section)?,
        };
        self.clock.advance(Duration::from_secs(60));
        self.store.propose_point(session.key, &manifest.encode()?)?;
        let committed = self.store.commit_point(session.key, point)?;
        self.store.close_session(session.key)?;
        self.expected.points.push(ExpectedPoint {
            point_id: point,
            vm_name: name.into(),
            deleted: false,
            retain_until: committed.commit.retain_until.millis(),
            config_xml,
            disks: disks
                .iter()
                .map(|(key, content)| expected_disk(*key, content))
                .collect(),
        });
        Ok(point)
    }

    /// Locks a point for longer, and lets administrators demand and object.
    fn govern(&mut self, point: PointId) -> Result<()> {
        let until = Time::from_millis(1_850_000_000_000);
        self.store.lock_point(point, until)?;
        if let Some(known) = self.known(point) {
            known.retain_until = until.millis();
        }
        let keys = [
            SigningKey::generate()?,
            SigningKey::generate()?,
            SigningKey::generate()?,
        ];
        let [first, second, third] = &keys;
        self.store.enrol_admin(first.public_key(), "first")?;
        self.store.enrol_admin(second.public_key(), "second")?;
        let days = |days: u32| Action::SetFloor {
            millis: (DAY * days).as_millis() as u64,
        };
        self.sign(1, days(20), &[first])?;
        let (key, label) = (third.public_key(), "third".to_owned());
        self.sign(2, Action::AddAdmin { key, label }, &[first, second])?;
        self.sign(3, days(1), &[first, second])?;
        self.sign(4, Action::Veto { statement: id(3) }, &[second])?;
        self.clock.advance(4 * DAY);
        self.store.tick()?;
        self.sign(
            5,
            Action::RemoveAdmin {
                key: third.public_key(),
            },
            &[first, second],
        )?;
        self.sign(6, Action::AllowSweep { bytes: 1 << 40 }, &[first, second])?;
        self.clock.advance(4 * DAY);
        Ok(self.store.tick()?)
    }

    fn sign(&self, number: u8, action: Action, keys: &[&SigningKey]) -> Result<()> {
        let node = self.store.identity().node;
        let statement = Statement {
            id: id(number),
            node,
            action,
        }
        .encode()?;
        for key in keys {
            self.store.submit(&Signed {
                statement: statement.clone(),
                key: key.public_key(),
                signature: key.sign(&statement),
            })?;
        }
        Ok(())
    }

    /// Deletes a point and collects until its pack lies in quarantine.
    fn delete(&mut self, point: PointId) -> Result<()> {
        self.clock.advance(14 * DAY);
        self.store.delete_point(point)?;
        if let Some(known) = self.known(point) {
            known.deleted = true;
        }
        for _ in 0..2 {
            self.store.collect(&())?;
            self.clock.advance(2 * DAY);
        }
        self.store.collect(&())?;
        Ok(())
    }

    /// Lets a scrub find a chunk of the second disk damaged; the next backup that holds it heals it.
    fn damage(&self) -> Result<()> {
        let pack = self.data_pack.context("a pack to damage")?.to_string();
        let fan = pack.get(34..).unwrap_or_default();
        let path = self.dir.join(format!("packs/{fan}/{pack}.pack"));
        let file = File::options().read(true).write(true).open(&path)?;
        let mut byte = [0];
        let at = (HEADER_LEN + 2 * RECORD_HEADER_LEN + SALT_LEN) as u64;
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[!byte[0]], at)?;
        drop(file);
        self.store.request_scrub();
        let scrubbed = self.store.scrub(u64::MAX, &())?;
        ensure!(
            scrubbed.lost_record_count == 1,
            "the scrub found something else: {scrubbed:?}"
        );
        Ok(())
    }

    fn known(&mut self, point: PointId) -> Option<&mut ExpectedPoint> {
        self.expected
            .points
            .iter_mut()
            .find(|known| known.point_id == point)
    }

    fn end(self) -> Result<Expected> {
        self.store.tick()?;
        drop(self.store);
        for name in NOT_KEPT {
            let path = self.dir.join(name);
            let removed = match path.is_dir() {
                true => fs::remove_dir(&path),
                false if path.exists() => fs::remove_file(&path),
                false => Ok(()),
            };
            removed.with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(self.expected)
    }
}

fn expected_disk(key: i32, content: &Content) -> ExpectedDisk {
    ExpectedDisk {
        key,
        length: content.bytes().len() as u64,
        blake3: blake3::hash(content.bytes()).to_hex().to_string(),
    }
}
