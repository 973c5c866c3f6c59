//! What Windows told of a shadow copy: which writers took part, and how they fared.
//!
//! VMware Tools leave a zip beside the snapshot: `backup.xml`, the backup components document, and one
//! metadata document for each writer that took part. The documents are Windows' own, of the schemas
//! `VssComponentMetadata` and `VssWriterMetadataInfo`; with no writer document only file systems were
//! quiesced. The bytes come from a guest, so everything is bounded.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde::{Deserialize, Serialize};
use zip::ZipArchive;

/// Most documents: Windows has some thirty writers.
const DOCUMENTS_MAX: usize = 256;
/// Most bytes of one document when unpacked; SQL Server with many databases has some MiB.
const DOCUMENT_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Most bytes of all of them.
const ALL_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// A writer that took part in a shadow copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VssWriter {
    /// Such as `SqlServerWriter`.
    pub name: String,
    /// Why one of its components is no backup, such as `VSS_WS_FAILED_AT_FREEZE`; none when all are.
    pub failure: Option<String>,
    /// How many components it has in the backup.
    pub component_count: u32,
}

/// An archive that cannot be read as a shadow copy's.
#[derive(Debug, thiserror::Error)]
pub enum VssError {
    /// It is no zip, or a damaged one.
    #[error("read the archive of the shadow copy")]
    Archive(#[from] zip::result::ZipError),
    /// A document in it cannot be unpacked.
    #[error("unpack {name} of the shadow copy's archive")]
    Unpack {
        /// The document.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than any shadow copy's.
    #[error("the archive of the shadow copy is too large: {0}")]
    TooLarge(&'static str),
    /// A document is not XML.
    #[error("read {name} of the shadow copy's archive: {problem}")]
    Document {
        /// The document.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The components document is missing.
    #[error("the archive of the shadow copy has no backup components document")]
    NoComponents,
}

/// The writers that took part; none when only file systems were quiesced.
///
/// # Errors
/// When the archive cannot be read: then nothing is proved.
pub fn vss_writers(archive: &[u8]) -> Result<Vec<VssWriter>, VssError> {
    let mut zip = ZipArchive::new(Cursor::new(archive))?;
    if zip.len() > DOCUMENTS_MAX {
        return Err(VssError::TooLarge("it has too many documents"));
    }
    let mut found = Found::default();
    let mut left = ALL_BYTES_MAX;
    for index in 0..zip.len() {
        let (name, text) = unpack(&mut zip, index, left)?;
        left = left.saturating_sub(text.len() as u64);
        found
            .read(&name, &text)
            .map_err(|problem| VssError::Document { name, problem })?;
    }
    found.writers()
}

fn unpack(
    zip: &mut ZipArchive<Cursor<&[u8]>>,
    index: usize,
    left: u64,
) -> Result<(String, String), VssError> {
    let file = zip.by_index(index)?;
    let name: String = file.name()?.chars().take(128).collect();
    let limit = DOCUMENT_BYTES_MAX.min(left);
    let mut bytes = Vec::new();
    // What a zip says of its sizes proves nothing: the reading itself is bounded.
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    let read = read.map_err(|source| VssError::Unpack {
        name: name.clone(),
        source,
    })?;
    match read as u64 > limit {
        true => Err(VssError::TooLarge("its documents are too long")),
        false => Ok((name, text(&bytes))),
    }
}

/// Windows writes UTF-16 with a mark, or UTF-8.
fn text(bytes: &[u8]) -> String {
    let wide = |rest: &[u8], of: fn([u8; 2]) -> u16| {
        let units = rest.as_chunks::<2>().0.iter().map(|pair| of(*pair));
        char::decode_utf16(units)
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        bytes => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// What the documents say, by the writer's instance.
#[derive(Default)]
struct Found {
    has_components: bool,
    names: BTreeMap<String, String>,
    components: BTreeMap<String, Components>,
    /// The writer whose components are being read.
    open: Option<String>,
}

#[derive(Default)]
struct Components {
    count: u32,
    failure: Option<String>,
}

impl Found {
    fn read(&mut self, _name: &str, text: &str) -> Result<(), String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut reader = Reader::from_str(text);
        self.open = None;
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(start) | Event::Empty(start) => self.element(&start)?,
                Event::DocType(_) => return Err("a document type is not accepted".to_owned()),
                Event::Eof => return Ok(()),
                _ => {}
            }
        }
    }

    fn element(&mut self, start: &BytesStart<'_>) -> Result<(), String> {
        let name = start.local_name();
        let name: &str = name.as_ref();
        match name {
            "BACKUP_COMPONENTS" => self.has_components = true,
            "WRITER_COMPONENTS" => {
                let instance = attribute(start, "instanceId")?.unwrap_or_default();
                self.components.entry(instance.clone()).or_default();
                self.open = Some(instance);
            }
            "COMPONENT" => {
                let succeeded = attribute(start, "backupSucceeded")?;
                if let Some(components) = self.components() {
                    components.count = components.count.saturating_add(1);
                    if succeeded.as_deref() == Some("no") {
                        components
                            .failure
                            .get_or_insert_with(|| "failed".to_owned());
                    }
                }
            }
            "FAILURE" => {
                let state = attribute(start, "state")?;
                if let (Some(components), Some(state)) = (self.components(), state) {
                    components.failure = Some(state);
                }
            }
            "IDENTIFICATION" => {
                let instance = attribute(start, "instanceId")?.unwrap_or_default();
                let name = attribute(start, "friendlyName")?.unwrap_or_default();
                self.names.insert(instance, name);
            }
            _ => {}
        }
        Ok(())
    }

    fn components(&mut self) -> Option<&mut Components> {
        self.components.get_mut(self.open.as_ref()?)
    }

    fn writers(mut self) -> Result<Vec<VssWriter>, VssError> {
        if !self.has_components {
            return Err(VssError::NoComponents);
        }
        let named = std::mem::take(&mut self.names).into_iter();
        Ok(named
            .map(|(instance, name)| {
                let components = self.components.remove(&instance).unwrap_or_default();
                VssWriter {
                    name,
                    failure: components.failure,
                    component_count: components.count,
                }
            })
            .collect())
    }
}

fn attribute(start: &BytesStart<'_>, wanted: &str) -> Result<Option<String>, String> {
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key: &str = attribute.key.as_ref();
        if key == wanted {
            let value = quick_xml::escape::unescape(&attribute.value);
            return value
                .map(|value| Some(value.chars().take(256).collect()))
                .map_err(|error| error.to_string());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(documents: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in documents {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    const COMPONENTS: &str = r#"<BACKUP_COMPONENTS xmlns="x-schema:#VssComponentMetadata" version="1.2"><WRITER_COMPONENTS instanceId="i1" writerId="w1"><COMPONENT componentName="master" backupSucceeded="yes"/><COMPONENT componentName="shop" backupSucceeded="yes"/></WRITER_COMPONENTS><WRITER_COMPONENTS instanceId="i2" writerId="w2"><COMPONENT componentName="store" backupSucceeded="no"><FAILURE hr="0x800423f4" state="VSS_WS_FAILED_AT_FREEZE"/></COMPONENT></WRITER_COMPONENTS></BACKUP_COMPONENTS>"#;

    fn writer(instance: &str, name: &str) -> String {
        format!(
            r#"<?xml version="1.0"?><WRITER_METADATA xmlns="x-schema:#VssWriterMetadataInfo"><IDENTIFICATION writerId="w" instanceId="{instance}" friendlyName="{name}"/></WRITER_METADATA>"#
        )
    }

    #[test]
    fn writers_are_told_with_how_they_fared() {
        let (sql, exchange) = (writer("i1", "SqlServerWriter"), writer("i2", "A &amp; B"));
        let wide: Vec<u8> = [0xff, 0xfe]
            .into_iter()
            .chain(exchange.encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        let bytes = archive(&[
            ("backup.xml", COMPONENTS.as_bytes()),
            ("writer0.xml", sql.as_bytes()),
            ("writer1.xml", &wide),
        ]);
        let expected = [
            ("SqlServerWriter", None, 2),
            ("A & B", Some("VSS_WS_FAILED_AT_FREEZE"), 1),
        ];
        let found = vss_writers(&bytes).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|w| (w.name.as_str(), w.failure.as_deref(), w.component_count))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn components_alone_are_no_writers() {
        let bytes = archive(&[("backup.xml", COMPONENTS.as_bytes())]);
        assert_eq!(vss_writers(&bytes).unwrap(), []);
    }

    #[test]
    fn what_is_no_shadow_copys_archive_proves_nothing() {
        assert!(vss_writers(b"no zip").is_err());
        assert!(matches!(
            vss_writers(&archive(&[("a.txt", b"<a/>")])),
            Err(VssError::NoComponents)
        ));
        assert!(matches!(
            vss_writers(&archive(&[("a.xml", b"<!DOCTYPE a><a/>")])),
            Err(VssError::Document { .. })
        ));
        let many: Vec<(String, &[u8])> = (0..300).map(|n| (n.to_string(), &b""[..])).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|(n, b)| (n.as_str(), *b)).collect();
        assert!(matches!(
            vss_writers(&archive(&many)),
            Err(VssError::TooLarge(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn bytes_of_any_kind_are_answered(cut in 0usize..2000, at in 0usize..2000, bit in 0u8..8) {
            let mut bytes = archive(&[("backup.xml", COMPONENTS.as_bytes()), ("w.xml", writer("i1", "x").as_bytes())]);
            let length = bytes.len();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
            bytes.truncate(cut.min(length));
            let _answered = vss_writers(&bytes).is_ok();
        }
    }
}
