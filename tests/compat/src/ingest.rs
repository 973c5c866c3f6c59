//! Stores disks as a proxy does.

use anyhow::Result;
use bytes::Bytes;
use stillwater_chunking::{
    Compressor, Cutter, CutterParams, DiskCutter, FinishedNode, Item, TreeBuilder,
};
use stillwater_format::manifest::{Disk, Effort};
use stillwater_format::node::{DiskRoot, Leaf};
use stillwater_format::pack::{Codec, RecordHeader};
use stillwater_seal::{ChunkContext, DatasetKey, Sealer};
use stillwater_store::{Appended, PackWriter, SessionKey, Store};
use stillwater_types::{DatasetId, PackId};

use crate::content::Content;

/// Stores what is new of a disk in one pack, and tells its tree and the pack.
pub(crate) fn disk(
    store: &Store,
    session: SessionKey,
    (dataset, key): (DatasetId, &DatasetKey),
    device: i32,
    content: &Content,
) -> Result<(Disk, PackId)> {
    let sealer = Sealer::new(key, dataset)?;
    let pack = store.begin_pack(session, sealer.salt())?;
    let mut stream = Stream {
        pack,
        sealer,
        compressor: Compressor::new()?,
        effort: Effort::default(),
    };
    let cutter = Cutter::new(CutterParams::DISK, key.cut_seed()?)?;
    let length = content.bytes().len() as u64;
    let mut disk = DiskCutter::new(cutter, key.id_key()?.expose(), length);
    disk.push_data(0, Bytes::copy_from_slice(content.bytes()))?;
    disk.finish()?;
    let (mut tree, mut nodes) = (TreeBuilder::new(), Vec::new());
    while let Some(item) = disk.next_item() {
        let leaf = stream.take(item)?;
        tree.push(leaf, &mut |node: FinishedNode| nodes.push(node))?;
    }
    let top = tree.finish(&mut |node| nodes.push(node))?;
    for node in &nodes {
        stream
            .pack
            .append(&RecordHeader::node(&node.bytes)?, &node.bytes)?;
    }
    let pack = stream.pack.finish()?.pack;
    let disk = Disk {
        key: device,
        label: format!("Hard disk {}", device - 1999),
        backing: Some(format!("6000C29{device:x}-0000-4000-8000-000000000000")),
        change_id: Some(format!(
            "52 00 00 00 00 00 00 00-00 00 00 00 00 00 00 00/{device}"
        )),
        root: DiskRoot {
            length,
            cutter: CutterParams::DISK.to_string(),
            top: top.id,
            level: top.level,
        },
        effort: Effort {
            read_bytes: length,
            ..stream.effort
        },
    };
    Ok((disk, pack))
}

struct Stream {
    pack: PackWriter,
    sealer: Sealer,
    compressor: Compressor,
    effort: Effort,
}

impl Stream {
    fn take(&mut self, item: Item) -> Result<Leaf> {
        let (plain, id) = match item {
            Item::Hole { length } => {
                self.effort.zero_bytes += length;
                return Ok(Leaf::Hole { length });
            }
            Item::Chunk { bytes, id } => (bytes, id),
        };
        let length = u32::try_from(plain.len())?;
        let compressed = self.compressor.compress(&plain)?;
        let codec: Codec = compressed.codec;
        let context = ChunkContext {
            codec: codec.number(),
            id,
            plain_len: length,
        };
        let sealed = self.sealer.stamp()?.seal(&context, compressed.bytes)?;
        let header = RecordHeader::chunk(id, codec, 0, sealed.counter, length, &sealed.stored)?;
        self.effort.chunk_count += 1;
        if self.pack.append(&header, &sealed.stored)? == Appended::Stored {
            self.effort.new_bytes += u64::from(length);
            self.effort.stored_bytes += sealed.stored.len() as u64;
        }
        Ok(Leaf::Chunk { length, id })
    }
}
