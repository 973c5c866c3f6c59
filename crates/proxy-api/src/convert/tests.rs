use std::fmt::Debug;

use proptest::prelude::*;
use prost::Message;
use stillwater_types::{DatasetId, NodeId, RunId};

use stillwater_types::{Extent, ExtentSet, Reason};

use super::*;

/// Fills messages from a seed: every field, every variant and every absence comes up.
struct Gen(u64);

impl Gen {
    fn u64(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }

    fn hash<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u64() as u8)
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.u64() as usize % all.len()]
    }

    fn bytes(&mut self) -> Bytes {
        let length = 1 + self.u64() as usize % 200;
        (0..length).map(|_| self.u64() as u8).collect()
    }

    fn text(&mut self) -> String {
        self.pick(&["web", "Größe", "a b", "x"]).to_owned()
    }

    fn maybe<T>(&mut self, fill: impl Fn(&mut Self) -> T) -> Option<T> {
        self.u64().is_multiple_of(2).then(|| fill(self))
    }

    fn fault(&mut self) -> Fault {
        Fault::new(self.pick(Reason::ALL), self.text()).with("disk", self.u32())
    }

    fn root(&mut self) -> DiskRoot {
        DiskRoot {
            length_bytes: self.u64(),
            cutter: self.text(),
            top: TreeId::from_bytes(self.hash()),
            level: self.u32(),
        }
    }

    fn store(&mut self) -> Store {
        Store {
            repository_node_id: NodeId::from_bytes(self.hash()),
            address: self.text(),
            dataset_id: DatasetId::from_bytes(self.hash()),
            dataset_key: DatasetKey::new(self.hash()),
            grant: self.bytes(),
            run_id: RunId::from_bytes(self.hash()),
            fence: self.u64(),
        }
    }

    fn folder(&mut self) -> FolderDisk {
        let trust = match self.u64() % 2 {
            0 => FolderTrust::CaPem(self.bytes()),
            _ => FolderTrust::CertificateSha256(self.hash()),
        };
        FolderDisk {
            address: self.text(),
            cookie: self.text().into(),
            trust,
            datacenter: self.text(),
            path: self.text(),
        }
    }

    fn nfc(&mut self) -> NfcDisk {
        let check = match self.u64() % 2 {
            0 => NfcCheck::CertificateDer(self.bytes()),
            _ => NfcCheck::CertificateSha1(self.hash()),
        };
        NfcDisk {
            host: self.text(),
            port: self.u32() as u16,
            session_ids: vec![self.text().into(), self.text().into()],
            check,
            service: self.text(),
            path: self.text(),
            in_flight_bytes: self.u64(),
        }
    }

    fn disk(&mut self) -> Disk {
        match self.u64() % 5 {
            0 => Disk::Folder(self.folder()),
            1 => Disk::Nfc(self.nfc()),
            2 => Disk::HotAdd(HotAddDisk {
                pci_slot: self.u32(),
                unit: self.u32(),
                disk_uuid: self.maybe(Gen::text),
                path: self.text(),
            }),
            3 => Disk::File(FileDisk {
                datastore: self.text(),
                path: self.text(),
            }),
            _ => Disk::Nbd(NbdDisk {
                vm: self.text(),
                snapshot: self.text(),
                path: self.text(),
                server: self.folder(),
            }),
        }
    }

    fn areas(&mut self, length_bytes: u64) -> ExtentSet {
        let extents: Vec<Extent> = (0..self.u64() % 5)
            .map(|_| Extent::new(self.u64() % length_bytes, 1 + self.u64() % 1000))
            .collect();
        ExtentSet::collect(extents, length_bytes)
    }

    fn reading(&mut self, length_bytes: u64) -> Reading {
        match self.u64() % 3 {
            0 => Reading::Full {
                areas: self.maybe(|g| g.areas(length_bytes)),
            },
            1 => Reading::Increment {
                base: self.root(),
                changed: self.areas(length_bytes),
                sample_bytes: self.u64(),
                sample_seed: self.u64(),
            },
            _ => Reading::Compare {
                base: self.root(),
                changed: self.maybe(|g| g.areas(length_bytes)),
            },
        }
    }

    fn findings(&mut self) -> TransferFindings {
        TransferFindings {
            compared_bytes: self.u64(),
            lie_bytes: self.u64(),
            lies: self.areas(1_000_000).iter().collect(),
            compared_all: self.pick(&[true, false]),
            fallbacks: vec![self.fault()],
            source_index: self.u32(),
            replaced_chunk_count: self.u64(),
            replaced_hole_bytes: self.u64(),
            damaged_bytes: self.u64(),
            damaged_chunk_count: self.u64(),
            damage: vec![DamagedArea {
                area: stillwater_types::Extent::new(self.u64() % 1_000_000, 4096),
                fault: self.fault(),
            }],
        }
    }

    fn work(&mut self) -> Work {
        let length_bytes = 1 + self.u64() % 1_000_000;
        match self.u64() % 4 {
            3 => {
                let root = self.root();
                let known = self.maybe(|g| Known {
                    base: g.root(),
                    changed: g.areas(root.length_bytes.max(1)),
                });
                Work::Rewrite(Rewrite {
                    root,
                    target: self.disk(),
                    known,
                })
            }
            0 => Work::Verify(Verify { root: self.root() }),
            1 => Work::Backup(Backup {
                sources: vec![self.disk(), self.disk()],
                length_bytes,
                reading: self.reading(length_bytes),
            }),
            _ => Work::Restore(Restore {
                root: self.root(),
                target: self.disk(),
            }),
        }
    }

    fn transfer(&mut self) -> Transfer {
        Transfer {
            transfer_id: TransferId::from_bytes(self.hash()),
            state: self.pick(&[
                TransferState::Running,
                TransferState::Succeeded,
                TransferState::Failed,
                TransferState::Cancelled,
            ]),
            progress: TransferProgress {
                done_bytes: self.u64(),
                length_bytes: self.u64(),
                read_bytes: self.u64(),
                new_bytes: self.u64(),
                sent_bytes: self.u64(),
                chunk_count: self.u64(),
                new_chunk_count: self.u64(),
                hole_bytes: self.u64(),
            },
            root: self.maybe(Gen::root),
            fault: self.maybe(Gen::fault),
            findings: self.maybe(Gen::findings),
        }
    }
}

/// Sends a value as bytes and takes it back.
#[track_caller]
fn check<P, T>(value: T)
where
    P: Message + Default + From<T>,
    T: TryFrom<P, Error = FieldError> + Clone + PartialEq + Debug,
{
    let sent = P::from(value.clone()).encode_to_vec();
    let read = T::try_from(P::decode(sent.as_slice()).expect("decodes"));
    assert_eq!(read, Ok(value));
}

/// As [`check`] for values that hold secrets, which cannot be compared: they are sent twice.
#[track_caller]
fn check_secret<P, T>(value: T)
where
    P: Message + Default + From<T> + PartialEq,
    T: TryFrom<P, Error = FieldError> + Clone + Debug,
{
    let first = P::from(value.clone());
    let read = P::decode(first.encode_to_vec().as_slice()).expect("decodes");
    let second = P::from(T::try_from(read).expect("a good message"));
    assert!(first == second, "{value:?} changed on its way");
}

proptest! {
    #[test]
    fn what_is_sent_is_what_arrives(seed: u64) {
        let g = &mut Gen(seed);
        let transfer_id = TransferId::from_bytes(g.hash());
        let export_id = ExportId::from_bytes(g.hash());
        check::<pb::StartTransferResponse, _>(g.transfer());
        check::<pb::GetTransferResponse, _>(g.transfer());
        check::<pb::WatchTransferResponse, _>(g.transfer());
        check::<pb::CancelTransferResponse, _>(g.transfer());
        check::<pb::GetTransferRequest, _>(transfer_id);
        check::<pb::WatchTransferRequest, _>(transfer_id);
        check::<pb::CancelTransferRequest, _>(transfer_id);
        check::<pb::CloseExportRequest, _>(export_id);
        check::<pb::OpenExportResponse, _>(OpenExportResponse {
            completed: g.pick(&[true, false]),
            reading: g.pick(&[true, false]),
        });
        check::<pb::CloseExportResponse, _>(CloseExportResponse { completed: g.pick(&[true, false]) });
        check::<pb::ReadExportResponse, _>(ExportPart::Header(ExportHeader { length_bytes: g.u64() }));
        check::<pb::ReadExportResponse, _>(ExportPart::Data(ExportData {
            offset_bytes: g.u64(),
            data: g.bytes(),
        }));
        check::<pb::ReadExportResponse, _>(ExportPart::Finish(ExportFinish { data_bytes: g.u64() }));
        check::<pb::ProbeDiskResponse, _>(ProbeDiskResponse {
            read_bytes: g.u64(),
            elapsed_micros: g.u64(),
            open_micros: g.u64(),
            latency_median_micros: g.u64(),
            latency_p99_micros: g.u64(),
        });
        let length_bytes = 1 + g.u64() % 1_000_000;
        check_secret::<pb::ProbeDiskRequest, _>(ProbeDiskRequest {
            disk: g.disk(),
            length_bytes,
            areas: g.areas(length_bytes),
            limit_millis: g.u32() % (PROBE_MILLIS_MAX + 1),
        });
        check_secret::<pb::StartTransferRequest, _>(StartTransferRequest {
            transfer_id,
            store: g.store(),
            work: g.work(),
        });
        check_secret::<pb::OpenExportRequest, _>(OpenExportRequest {
            export_id,
            store: g.store(),
            root: g.root(),
            ticket: Ticket::new(g.hash()),
        });
        check_secret::<pb::ReadExportRequest, _>(ReadExportRequest {
            export_id,
            ticket: Ticket::new(g.hash()),
        });
        check_secret::<pb::ReadExportRangeRequest, _>(ReadExportRangeRequest {
            export_id,
            ticket: Ticket::new(g.hash()),
            offset_bytes: g.u64(),
            length_bytes: g.u32() % (EXPORT_RANGE_BYTES_MAX + 1),
            areas_only: g.pick(&[true, false]),
        });
        check_secret::<pb::FinishExportRequest, _>(FinishExportRequest {
            export_id,
            ticket: Ticket::new(g.hash()),
        });
        check::<pb::ReadExportRangeResponse, _>(ExportRangePart::Data(ExportData {
            offset_bytes: g.u64(),
            data: g.bytes(),
        }));
        check::<pb::ReadExportRangeResponse, _>(ExportRangePart::Area(ExportArea {
            offset_bytes: g.u64(),
            length_bytes: g.u64(),
        }));
        check::<pb::ReadExportRangeResponse, _>(ExportRangePart::Finish(ExportFinish {
            data_bytes: g.u64(),
        }));
    }
}

fn start(g: &mut Gen, areas: &[(u64, u64)]) -> pb::StartTransferRequest {
    let backup = Backup {
        sources: vec![Disk::Folder(g.folder())],
        length_bytes: 1000,
        reading: Reading::Full { areas: None },
    };
    let request = StartTransferRequest {
        transfer_id: TransferId::from_bytes(g.hash()),
        store: g.store(),
        work: Work::Backup(backup),
    };
    let mut message = pb::StartTransferRequest::from(request);
    if let Some(pb::start_transfer_request::Work::Backup(backup)) = &mut message.work {
        let area = |(start_bytes, length_bytes): &(u64, u64)| pb::Area {
            start_bytes: *start_bytes,
            length_bytes: *length_bytes,
        };
        let areas = Some(pb::AreaMap {
            areas: areas.iter().map(area).collect(),
        });
        backup.reading = Some(pb::backup::Reading::Full(pb::FullReading { areas }));
    }
    message
}

/// Spoils one field of a good message and demands the reason and that the fault names the field.
#[track_caller]
fn refuses(reason: Reason, field: &str, spoil: impl Fn(&mut pb::StartTransferRequest)) {
    let mut message = start(&mut Gen(1), &[(0, 1)]);
    spoil(&mut message);
    let fault = Fault::from(StartTransferRequest::try_from(message).expect_err(field));
    assert_eq!(fault.reason, reason, "{fault}");
    assert_eq!(
        fault.details.get("field").map(String::as_str),
        Some(field),
        "{fault}"
    );
}

fn backup(message: &mut pb::StartTransferRequest) -> &mut pb::Backup {
    match message.work.as_mut().expect("set") {
        pb::start_transfer_request::Work::Backup(backup) => backup,
        _ => panic!("a backup"),
    }
}

fn folder(message: &mut pb::StartTransferRequest) -> &mut pb::FolderDisk {
    let source = backup(message).sources.first_mut().expect("set");
    match source.transport.as_mut().expect("set") {
        pb::disk::Transport::Folder(folder) => folder,
        _ => panic!("a folder"),
    }
}

#[test]
fn a_wrong_field_is_refused_by_name() {
    let bad = Reason::BadField;
    refuses(bad, "transfer_id", |m| m.transfer_id.clear());
    refuses(bad, "work", |m| m.work = None);
    refuses(bad, "store", |m| m.store = None);
    let store = |m: &mut pb::StartTransferRequest| m.store.clone().expect("set");
    refuses(bad, "store.dataset_key", |m| {
        m.store = Some(pb::Store {
            dataset_key: vec![0; 31].into(),
            ..store(m)
        });
    });
    refuses(bad, "store.grant", |m| {
        m.store = Some(pb::Store {
            grant: Bytes::new(),
            ..store(m)
        });
    });
    refuses(bad, "store.address", |m| {
        m.store = Some(pb::Store {
            address: String::new(),
            ..store(m)
        });
    });
    refuses(bad, "backup.sources", |m| backup(m).sources.clear());
    refuses(bad, "backup.sources", |m| {
        let source = backup(m).sources.first().cloned().expect("set");
        backup(m).sources = vec![source; SOURCES_MAX + 1];
    });
    refuses(bad, "backup.reading", |m| backup(m).reading = None);
    refuses(bad, "backup.sources.transport", |m| {
        backup(m).sources.first_mut().expect("set").transport = None;
    });
    refuses(bad, "backup.sources.folder.trust", |m| {
        folder(m).trust = None
    });
    refuses(bad, "backup.sources.folder.certificate_sha256", |m| {
        folder(m).trust = Some(pb::folder_disk::Trust::CertificateSha256(Bytes::new()));
    });
    refuses(bad, "backup.sources.folder.ca_pem", |m| {
        let pem = vec![0; CA_PEM_BYTES_MAX + 1].into();
        folder(m).trust = Some(pb::folder_disk::Trust::CaPem(pem));
    });
    refuses(bad, "backup.sources.folder.cookie", |m| {
        folder(m).cookie.clear()
    });
    refuses(bad, "backup.sources.folder.path", |m| {
        folder(m).path.clear()
    });
}

#[test]
fn an_area_beyond_the_disk_is_refused() {
    for area in [(999, 2), (1000, 1), (u64::MAX, 1), (0, u64::MAX)] {
        refuses(Reason::RangeBeyondDisk, "backup.areas", |m| {
            *m = start(&mut Gen(1), &[area])
        });
    }
}

#[test]
fn areas_may_overlap_and_come_in_any_order() {
    let message = start(&mut Gen(1), &[(500, 500), (0, 10), (5, 20), (25, 0)]);
    let request = StartTransferRequest::try_from(message).expect("good areas");
    let Work::Backup(backup) = request.work else {
        panic!("a backup")
    };
    let Reading::Full { areas } = backup.reading else {
        panic!("a full reading")
    };
    let areas: Vec<Extent> = areas.expect("a map").iter().collect();
    assert_eq!(areas, [Extent::new(0, 25), Extent::new(500, 500)]);
}

#[test]
fn a_map_without_areas_is_not_the_same_as_no_map() {
    let areas = |message| match StartTransferRequest::try_from(message).expect("good").work {
        Work::Backup(Backup {
            reading: Reading::Full { areas },
            ..
        }) => areas,
        _ => panic!("a full backup"),
    };
    assert_eq!(areas(start(&mut Gen(1), &[])), Some(ExtentSet::empty()));
    let mut message = start(&mut Gen(1), &[]);
    let reading = pb::backup::Reading::Full(pb::FullReading { areas: None });
    backup(&mut message).reading = Some(reading);
    assert_eq!(areas(message), None);
}

#[test]
fn more_data_than_a_message_may_carry_is_refused() {
    let data = Bytes::from(vec![1; EXPORT_DATA_BYTES_MAX + 1]);
    let part = ExportPart::Data(ExportData {
        offset_bytes: 0,
        data,
    });
    assert!(ExportPart::try_from(pb::ReadExportResponse::from(part)).is_err());
    let request = ReadExportRangeRequest {
        export_id: ExportId::mint(),
        ticket: Ticket::new([1; 32]),
        offset_bytes: 0,
        length_bytes: EXPORT_RANGE_BYTES_MAX + 1,
        areas_only: false,
    };
    assert!(ReadExportRangeRequest::try_from(pb::ReadExportRangeRequest::from(request)).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let key = DatasetKey::new([0xab; 32]);
    let ticket = Ticket::new([0xab; 32]);
    let shown = format!("{key:?} {ticket:?} {:?}", Gen(3).folder());
    assert!(
        !shown.contains("171") && !shown.to_lowercase().contains("ab, "),
        "{shown}"
    );
    assert!(shown.matches("REDACTED").count() == 3, "{shown}");
    assert_eq!(ticket, ticket.clone());
    assert_ne!(ticket, Ticket::new([0; 32]));
}
