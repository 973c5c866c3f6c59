//! A zip archive, for systems that know nothing better: what it cannot hold is listed.

use std::io::{self, Seek, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use stillwater_files::{Facts, Item};
use zip::write::{FileOptions, FullFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{Report, ZEROS, shown};

/// The extra field of seconds since 1970, as Info-ZIP has it.
const TIMES: u16 = 0x5455;

/// Writes members as they come, so that it can go to a pipe.
pub(crate) struct Zip<W: Write> {
    writer: ZipWriter<StreamWriter<W>>,
    prefix: Vec<u8>,
    open: Option<(Vec<u8>, u64)>,
}

impl<W: Write> Zip<W>
where
    StreamWriter<W>: Write + Seek,
{
    pub fn new(to: W, prefix: &[u8]) -> Self {
        Self {
            writer: ZipWriter::new_stream(to),
            prefix: prefix.to_vec(),
            open: None,
        }
    }

    fn name(&self, path: &[u8]) -> Vec<u8> {
        let parts = [self.prefix.as_slice(), path];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join(&b'/')
    }

    pub fn item(&mut self, item: &Item, facts: &Facts, report: &mut Report) -> io::Result<()> {
        let name = self.name(&item.path);
        if name.is_empty() {
            return Ok(());
        }
        report.of_all("a zip archive holds no owners, and times to the second");
        for (attribute, _) in &item.attributes {
            let what = format!("its extended attribute {} is left out", shown(attribute));
            report.lost(&item.path, what);
        }
        if std::str::from_utf8(&name).is_err() {
            report.lost(
                &item.path,
                "its name is no text and is another in the archive",
            );
        }
        let options = options(facts).map_err(io::Error::other)?;
        let name = shown(&name);
        let made = match facts.kind.as_str() {
            "file" => self.writer.start_file(name, options),
            "directory" => self.writer.add_directory(name, options),
            "link" => {
                let target = shown(facts.target.as_deref().unwrap_or_default());
                self.writer.add_symlink(name, target, options)
            }
            kind => {
                report.lost(&item.path, format!("a zip archive has no {kind}"));
                return Ok(());
            }
        };
        made.map_err(io::Error::other)?;
        if facts.kind == "file" {
            self.open = Some((item.path.clone(), 0));
            if facts.links > 1 {
                report.lost(&item.path, "its other names are files of their own");
            }
        }
        report.taken(facts);
        Ok(())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (_, length) = self.open.as_mut().ok_or(io::ErrorKind::InvalidData)?;
        *length += bytes.len() as u64;
        self.writer.write_all(bytes)
    }

    pub fn zeros(&mut self, count: u64) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let step = left.min(ZEROS.len() as u64);
            self.bytes(ZEROS.get(..step as usize).unwrap_or_default())?;
            left -= step;
        }
        Ok(())
    }

    /// What was written of a file cannot be taken back: the list says where it ends.
    pub fn end(&mut self, broken: Option<&str>, report: &mut Report) {
        if let (Some((path, length)), Some(why)) = (self.open.take(), broken) {
            report.lost(&path, format!("it ends after {length} bytes here: {why}"));
        }
    }

    /// Ends the archive.
    pub fn close(self) -> io::Result<W> {
        let writer = self.writer.finish().map_err(io::Error::other)?;
        Ok(writer.into_inner())
    }
}

fn options(facts: &Facts) -> zip::result::ZipResult<FullFileOptions<'static, 'static>> {
    let other = if facts.kind == "directory" {
        0o700
    } else {
        0o600
    };
    let seconds = facts.modified.map_or(0, |moment| moment.seconds);
    let mut options: FullFileOptions<'static, 'static> = FileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(facts.mode.unwrap_or(other) & 0o777)
        .large_file(facts.bytes >= u64::from(u32::MAX) / 2)
        .last_modified_time(clock(seconds));
    // Signed and of 32 bits, so times beyond 2038 have only what stands in the header.
    if let Ok(seconds) = i32::try_from(seconds) {
        let field = [&[1][..], &seconds.to_le_bytes()].concat();
        options.add_extra_field(TIMES, field, false)?;
    }
    Ok(options)
}

/// A header's time, in UTC; the earliest or latest that there is for those beyond.
fn clock(seconds: i64) -> DateTime {
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    let time = time.to_zoned(TimeZone::UTC).datetime();
    let part = |number: i8| number.cast_unsigned();
    let year = u16::try_from(time.year()).unwrap_or_default();
    let (month, day) = (part(time.month()), part(time.day()));
    let (hour, minute, second) = (part(time.hour()), part(time.minute()), part(time.second()));
    DateTime::from_date_and_time(year, month, day, hour, minute, second).unwrap_or_default()
}
