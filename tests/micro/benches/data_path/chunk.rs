//! What happens to each chunk on its way to a repository, and back.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use stillwater_chunking::{
    Codec, Compressor, Cutter, CutterParams, Decompressor, identify, is_zero,
};
use stillwater_seal::{ChunkContext, DatasetKey, Opener, SALT_LEN, Sealer};
use stillwater_types::{ChunkId, DatasetId};

use crate::content::{Content, cutter};
use crate::cpu::CpuTime;

const KEY: [u8; 32] = [9; 32];
const DATASET: DatasetId = DatasetId::from_bytes([0xda; 16]);

pub fn bench(criterion: &mut Criterion<CpuTime>, content: &Content) {
    let mut group = criterion.benchmark_group("chunk");
    let plain_len = content.bytes.len() as u64;
    group.throughput(Throughput::Bytes(plain_len));
    let zeros = vec![0_u8; content.bytes.len()];
    group.bench_function("find zeros", |bench| {
        bench.iter(|| is_zero(black_box(&zeros)))
    });
    let fastcdc = Cutter::new(CutterParams::STREAM, 42).expect("sound parameters");
    for (name, cutter) in [("cut at block ends", cutter()), ("cut by fastcdc", fastcdc)] {
        group.bench_function(name, |bench| {
            bench.iter(|| cutter.chunks(black_box(&content.bytes)).count());
        });
    }
    group.bench_function("identify", |bench| {
        bench.iter(|| {
            let chunks = content.chunks.iter();
            chunks.map(|chunk| identify(&KEY, black_box(chunk))).last()
        });
    });
    group.bench_function("compress", |bench| {
        let mut compressor = Compressor::new().expect("memory for zstd");
        bench.iter(|| {
            for chunk in &content.chunks {
                black_box(compressor.compress(chunk).expect("room"));
            }
        });
    });
    let encoded = encoded(content);
    group.bench_function("seal", |bench| {
        let key = DatasetKey::generate().expect("a key");
        let fresh = || {
            let sealer = Sealer::new(&key, DATASET).expect("a salt");
            (sealer, encoded.clone())
        };
        let seal = |(mut sealer, encoded): (Sealer, Vec<Encoded>)| {
            for chunk in encoded {
                let stamp = sealer.stamp().expect("a counter");
                black_box(stamp.seal(&chunk.context(), chunk.text).expect("a seal"));
            }
        };
        bench.iter_batched(fresh, seal, BatchSize::LargeInput);
    });
    let sealed = Sealed::of(&encoded);
    group.bench_function("open, decompress, identify", |bench| {
        let mut decompressor = Decompressor::new().expect("memory for zstd");
        bench.iter_batched(
            || sealed.chunks.clone(),
            |chunks| sealed.open(chunks, &encoded, &mut decompressor),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// A chunk as it is before it is sealed.
#[derive(Clone)]
pub struct Encoded {
    pub id: ChunkId,
    pub codec: Codec,
    pub plain_len: u32,
    pub text: Vec<u8>,
}

impl Encoded {
    pub fn context(&self) -> ChunkContext {
        ChunkContext {
            codec: self.codec.number(),
            id: self.id,
            plain_len: self.plain_len,
        }
    }
}

pub fn encoded(content: &Content) -> Vec<Encoded> {
    let mut compressor = Compressor::new().expect("memory for zstd");
    let encode = |plain: &Bytes| {
        let compressed = compressor.compress(plain).expect("room");
        Encoded {
            id: identify(&KEY, plain),
            codec: compressed.codec,
            plain_len: u32::try_from(plain.len()).expect("a chunk is short"),
            text: compressed.bytes,
        }
    };
    content.chunks.iter().map(encode).collect()
}

/// What a pack holds of them.
struct Sealed {
    opener: Opener,
    chunks: Vec<(u32, Vec<u8>)>,
}

impl Sealed {
    fn of(encoded: &[Encoded]) -> Self {
        let key = DatasetKey::generate().expect("a key");
        let mut sealer = Sealer::new(&key, DATASET).expect("a salt");
        let salt: [u8; SALT_LEN] = *sealer.salt();
        let opener = Opener::new(&key, DATASET, salt).expect("an opener");
        let seal = |chunk: &Encoded| {
            let stamp = sealer.stamp().expect("a counter");
            let sealed = stamp.seal(&chunk.context(), chunk.text.clone());
            let sealed = sealed.expect("a seal");
            (sealed.counter, sealed.stored)
        };
        let chunks = encoded.iter().map(seal).collect();
        Self { opener, chunks }
    }

    fn open(
        &self,
        chunks: Vec<(u32, Vec<u8>)>,
        encoded: &[Encoded],
        decompressor: &mut Decompressor,
    ) {
        for ((counter, stored), chunk) in chunks.into_iter().zip(encoded) {
            let text = self.opener.open(&chunk.context(), counter, stored);
            let text = text.expect("what was sealed");
            let plain = decompressor.decode(chunk.codec, &text, chunk.plain_len);
            let id = identify(&KEY, plain.expect("what was compressed"));
            assert_eq!(id, chunk.id, "another chunk came back");
        }
    }
}
