//! Lists of access, as Linux stores them and as people and archives write them.

const VERSION: u32 = 2;

/// `user::rw-,user:1000:r--,…`; none if the bytes are no such list.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let (version, entries) = value.split_first_chunk()?;
    if u32::from_le_bytes(*version) != VERSION || !entries.len().is_multiple_of(8) {
        return None;
    }
    let entries: Option<Vec<_>> = entries.chunks_exact(8).map(entry).collect();
    entries.map(|entries| entries.join(","))
}

fn entry(raw: &[u8]) -> Option<String> {
    let (tag, rest) = raw.split_first_chunk()?;
    let (rights, number) = rest.split_first_chunk()?;
    let number = u32::from_le_bytes(number.try_into().ok()?);
    let whose = match u16::from_le_bytes(*tag) {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{number}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{number}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let rights = u16::from_le_bytes(*rights);
    let letter = |bit, letter| if rights & bit == 0 { '-' } else { letter };
    let (read, write, run) = (letter(4, 'r'), letter(2, 'w'), letter(1, 'x'));
    Some(format!("{whose}:{read}{write}{run}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_access_is_written_as_setfacl_reads_it() {
        let mut raw = VERSION.to_le_bytes().to_vec();
        for (tag, rights, number) in [(1_u16, 7_u16, u32::MAX), (2, 4, 1000), (0x10, 5, u32::MAX)] {
            raw.extend_from_slice(&tag.to_le_bytes());
            raw.extend_from_slice(&rights.to_le_bytes());
            raw.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(
            text(&raw).as_deref(),
            Some("user::rwx,user:1000:r--,mask::r-x")
        );
        assert_eq!(text(&raw[..raw.len() - 1]), None);
        assert_eq!(text(b"\x01\0\0\0"), None);
    }
}
