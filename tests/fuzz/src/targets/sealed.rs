//! What is opened with a key. Whoever holds a disk cannot make these bytes; whoever holds a key can.

use std::cell::RefCell;

use stillwater_chunking::{Codec, Compressor, Decompressor};
use stillwater_format::node::CHUNK_BYTES_MAX;
use stillwater_recovery::Section;
use stillwater_seal::{ChunkContext, DatasetKey, Opener, RecoveryKey, WrappedDatasetKey};
use stillwater_types::{ChunkId, DatasetId};
use stillwater_vsphere::NewVm;

use super::{Target, leave};
use crate::seeds;

const DATASET: DatasetId = DatasetId::from_bytes([7; 16]);

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> =
        RefCell::new(Decompressor::new().expect("a zstd context"));
}

fn dataset_key() -> DatasetKey {
    DatasetKey::from_slice(&[9; 32]).expect("32 bytes")
}

/// A frame of zstd that says whatever it likes of its length.
pub(super) const CHUNK_TEXT: Target = Target {
    name: "chunk_text",
    run: |bytes| {
        let Some((length, text)) = bytes.split_first_chunk::<4>() else {
            return;
        };
        let length = u32::from_le_bytes(*length) % (CHUNK_BYTES_MAX + 2);
        DECOMPRESSOR.with_borrow_mut(|decompressor| {
            for codec in [Codec::Raw, Codec::Zstd] {
                if let Ok(plain) = decompressor.decompress(codec, text, length) {
                    assert_eq!(plain.len(), length as usize);
                    assert_eq!(decompressor.verify(codec, text, &plain), Ok(()));
                }
            }
        });
    },
    seeds: || {
        let mut compressor = Compressor::new().expect("a zstd context");
        let plains = [
            b"a line of text\n".repeat(300),
            vec![0; 1 << 17],
            b"short".to_vec(),
        ];
        let seeds = plains.iter().filter_map(|plain| {
            let text = compressor.compress(plain).ok()?;
            Some([&(plain.len() as u32).to_le_bytes(), text.bytes.as_slice()].concat())
        });
        seeds.collect()
    },
    mend: leave,
};

pub(super) const SEALED_BLOB: Target = Target {
    name: "sealed_blob",
    run: |bytes| {
        let opened = dataset_key().open_manifest(DATASET, b"point", bytes);
        let is_seed = opened
            .as_ref()
            .is_ok_and(|plain| plain.as_slice() == b"the section");
        assert!(opened.is_err() || is_seed, "bytes that nobody sealed open");
        let (length, id) = (bytes.len() as u32, ChunkId::from_bytes([1; 32]));
        let context = ChunkContext {
            codec: 0,
            id,
            plain_len: length,
        };
        let opener = Opener::new(&dataset_key(), DATASET, [3; 32]).expect("a cipher");
        assert!(opener.open(&context, length, bytes.to_vec()).is_err());
    },
    seeds: || {
        let sealed = dataset_key().seal_manifest(DATASET, b"point", b"the section");
        vec![sealed.expect("a cipher"), b"SWB1".to_vec(), Vec::new()]
    },
    mend: leave,
};

/// The plaintext of a sealed section, with the configuration that a VM is made of.
pub(super) const SECTION: Target = Target {
    name: "section",
    run: |bytes| {
        if let Ok(section) = Section::decode(bytes)
            && let Ok(vm) = NewVm::from_config(&section.config_xml, "web")
        {
            assert_eq!(vm.name, "web");
        }
    },
    seeds: || {
        let disk = r#"{"key":2000,"new_chunk_count":1,"attempts":1,"proxy":"019b0000-009a-7000-8000-00000000009a","reading":{"how":"full","why":"first"}}"#;
        let whole = format!(
            r#"{{"version":1,"config_xml":"<config><name>a</name></config>","evidence":[{{"name":"quiesced","value":"false"}}],"disks":[{disk}],"missing":["b"],"excluded":[-1],"foreign_snapshots":[]}}"#
        );
        let deep = format!(
            r#"{{"version":1,"config_xml":"","x":{}{}}}"#,
            "[".repeat(3000),
            "]".repeat(3000)
        );
        assert!(Section::decode(whole.as_bytes()).is_ok());
        seeds::texts(&[&whole, r#"{"version":2,"config_xml":""}"#, &deep])
    },
    mend: leave,
};

pub(super) const WRAPPED_KEY: Target = Target {
    name: "wrapped_key",
    run: |bytes| {
        let Ok(wrapped) = WrappedDatasetKey::from_slice(bytes) else {
            return;
        };
        assert_eq!(wrapped.as_bytes(), bytes);
        if let Ok(key) = recovery_key().unwrap(DATASET, &wrapped) {
            assert_eq!(key, dataset_key(), "bytes that nobody wrapped open");
        }
    },
    seeds: || {
        let public = recovery_key().public().expect("a key");
        let wrapped = public.wrap(DATASET, &dataset_key()).expect("a cipher");
        vec![wrapped.as_bytes().to_vec()]
    },
    mend: leave,
};

pub(super) const RECOVERY_KEY: Target = Target {
    name: "recovery_key",
    run: |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Ok(key) = text.parse::<RecoveryKey>()
        {
            let written = key.to_text().expect("a text");
            assert_eq!(written.parse(), Ok(key));
        }
    },
    seeds: || {
        seeds::texts(&[
            TEXT,
            "swrk1 003g w58w 4cn3 2e1z 8s6n 8pv2 d5r7 ezm5 hj9s n8d8 nyvb vh6b tbcj vzbo",
            "SWRK1",
        ])
    },
    mend: leave,
};

const TEXT: &str = "SWRK1-003G-W58W-4CN3-2E1Z-8S6N-8PV2-D5R7-EZM5-HJ9S-N8D8-NYVB-VH6B-TBCJ-VZB0";

fn recovery_key() -> RecoveryKey {
    TEXT.parse().expect("the key of the format's document")
}
