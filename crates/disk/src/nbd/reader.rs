//! Reading a disk behind NBD.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use stillwater_types::{Extent, ExtentSet};

use super::{Endpoint, NbdClient, NbdCommand, NbdError, Settings};
use crate::{DiskReader, Error, Result};

/// What is asked for at once, whatever the server would take.
const REQUEST_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Requests under way for one read that is larger.
const REQUESTS: usize = 4;
/// What is asked about at once.
const RANGES_BYTES: u64 = 1 << 30;
/// `NBD_STATE_ZERO`. The other flag, of a hole, says nothing about what is read there.
const ZERO: u32 = 2;

/// What the server says that a disk holds. It is a hint: nothing proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// What is not said to read as zeros.
    pub data: ExtentSet,
    /// How many bytes are said to read as zeros.
    pub zero_bytes: u64,
}

/// Reads a disk behind NBD, with as many requests at once as the caller makes.
#[derive(Debug)]
pub struct NbdReader {
    client: NbdClient,
    /// Serves the disk as long as this is held.
    command: Option<NbdCommand>,
}

impl NbdReader {
    /// Connects to a disk of `length` bytes.
    pub async fn open(endpoint: &Endpoint, length: u64, settings: Settings) -> Result<Self> {
        let client = connect(endpoint, length, settings).await?;
        Ok(Self {
            client,
            command: None,
        })
    }

    /// Connects to the disk that a command serves. The command ends with the reader.
    pub async fn start(mut command: NbdCommand, length: u64, settings: Settings) -> Result<Self> {
        let settings = Settings {
            starting: settings.connect,
            ..settings
        };
        match connect(&command.endpoint(), length, settings).await {
            Ok(client) => Ok(Self {
                client,
                command: Some(command),
            }),
            Err(error) => Err(command.explain(error)),
        }
    }

    /// The client, which knows what the server agreed to.
    pub fn client(&self) -> &NbdClient {
        &self.client
    }

    /// Asks what the disk holds. None when the server cannot tell.
    pub async fn allocation(&self) -> Result<Option<Allocation>> {
        if self.client.export().allocation.is_none() {
            return Ok(None);
        }
        let length = self.length();
        let mut data = Vec::new();
        let mut at = 0;
        while at < length {
            let asked = Extent::new(at, RANGES_BYTES.min(length - at));
            for (bytes, flags) in self.client.ranges(asked).await? {
                let found = Extent::new(at, u64::from(bytes).min(length - at));
                if flags & ZERO == 0 {
                    push(&mut data, found);
                }
                // The last range may go on behind what was asked about.
                at = found.end();
            }
        }
        let data = ExtentSet::collect(data, length);
        Ok(Some(Allocation {
            zero_bytes: length - data.bytes(),
            data,
        }))
    }

    /// Ends the connections and the command.
    pub async fn close(self) {
        self.client.close().await;
        if let Some(command) = self.command {
            command.stop().await;
        }
    }

    async fn requests(&self, extent: Extent) -> Result<Bytes> {
        let most = self.client.export().request_bytes_max;
        let block = self.client.export().block_bytes;
        let most = u64::from(most.min(REQUEST_BYTES_MAX).max(block) / block * block);
        if extent.length <= most {
            return Ok(self.client.read(extent).await?);
        }
        let parts = (0..extent.length.div_ceil(most)).map(|index| {
            let start = extent.start + index * most;
            Extent::new(start, most.min(extent.end() - start))
        });
        let parts = stream::iter(parts).map(|part| self.client.read(part));
        let mut bytes = BytesMut::new();
        let mut parts = parts.buffered(REQUESTS);
        while let Some(part) = parts.try_next().await? {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }
}

/// Adjacent ranges become one: a server may cut as finely as it likes.
fn push(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last) if last.end() == next.start => last.length += next.length,
        _ => extents.push(next),
    }
}

pub(super) async fn connect(
    endpoint: &Endpoint,
    length: u64,
    settings: Settings,
) -> Result<NbdClient> {
    let client = NbdClient::connect(endpoint, settings).await?;
    let found = client.export().length;
    match found == length {
        true => Ok(client),
        false => Err(Error::WrongLength {
            path: client.server().to_owned(),
            expected: length,
            found,
        }),
    }
}

#[async_trait]
impl DiskReader for NbdReader {
    fn length(&self) -> u64 {
        self.client.export().length
    }

    async fn read(&self, extent: Extent) -> Result<Bytes> {
        let length = self.length();
        let within = |end: u64| end <= length;
        if !extent.start.checked_add(extent.length).is_some_and(within) {
            return Err(Error::BeyondDisk { extent, length });
        }
        if extent.length == 0 {
            return Ok(Bytes::new());
        }
        let block = u64::from(self.client.export().block_bytes);
        let start = extent.start / block * block;
        let end = extent.end().next_multiple_of(block).min(length);
        let outcome = self.requests(Extent::new(start, end - start)).await;
        let bytes = match (outcome, &self.command) {
            (Err(error), Some(command)) => return Err(command.add_words(error)),
            (outcome, _) => outcome?,
        };
        let skip = usize::try_from(extent.start - start).ok();
        let wanted = usize::try_from(extent.length).ok();
        match (skip, wanted) {
            (Some(skip), Some(wanted)) if bytes.len() >= skip + wanted => {
                Ok(bytes.slice(skip..skip + wanted))
            }
            _ => Err(NbdError::protocol("it answered too little").into()),
        }
    }
}
