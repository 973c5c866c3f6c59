//! The fingerprint of a certificate, as people compare it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

/// SHA-256 of a certificate's DER, written `AB:CD:…`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// A text that is not a SHA-256 fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sha-256 fingerprint is 64 hexadecimal digits, with or without colons between bytes")]
pub struct InvalidFingerprint;

impl Fingerprint {
    /// Wraps the 32 bytes of a SHA-256.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The fingerprint of a certificate.
    pub fn of(der: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes
            .iter_mut()
            .zip(digest.as_ref())
            .for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;

    /// Reads hexadecimal in either case, with or without colons.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let well_placed = |(at, c): (usize, char)| c != ':' || at % 3 == 2;
        if text.contains(':') && !(text.len() == 95 && text.chars().enumerate().all(well_placed)) {
            return Err(InvalidFingerprint);
        }
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .map_err(|_| InvalidFingerprint)?;
        bytes.try_into().map(Self).map_err(|_| InvalidFingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHA-256 of the empty text, a published constant.
    const EMPTY: &str = "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:\
                         27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";

    #[test]
    fn a_fingerprint_reads_what_it_prints_and_what_others_print() {
        let printed = Fingerprint::of(b"");
        assert_eq!(printed.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(printed));
        assert_eq!(EMPTY.to_lowercase().parse(), Ok(printed));
        assert_eq!(EMPTY.replace(':', "").parse(), Ok(printed));
    }

    #[test]
    fn what_is_not_a_fingerprint_is_refused() {
        let long = format!("{EMPTY}:00");
        let moved = EMPTY.replacen("E3:B0", "E:3B0", 1);
        let sha1 = EMPTY.get(..59).expect("twenty bytes");
        for text in ["", "zz", long.as_str(), moved.as_str(), sha1] {
            assert_eq!(
                text.parse::<Fingerprint>(),
                Err(InvalidFingerprint),
                "{text}"
            );
        }
    }
}
