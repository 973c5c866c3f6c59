//! A disk's descriptor: which file has its bytes.

/// A descriptor is some 500 bytes; one that embeds its disk is larger.
pub(crate) const DESCRIPTOR_BYTES_MAX: usize = 64 * 1024;

const SECTOR: u64 = 512;
const NO_PARENT: &str = "ffffffff";
/// Kinds of disks that can be one flat file.
const FLAT: [&str; 2] = ["vmfs", "monolithicFlat"];

/// The one flat extent of a disk.
#[derive(Debug, PartialEq, Eq)]
pub struct FlatExtent {
    /// Name of the file, in the directory of the descriptor.
    pub name: String,
    /// Size of the disk.
    pub bytes: u64,
}

/// Reads a descriptor; refuses all that is not exactly one flat extent without a parent.
pub fn flat_extent(text: &str) -> Result<FlatExtent, String> {
    let create_type = setting(text, "createType").ok_or("its descriptor has no createType")?;
    if !FLAT.contains(&create_type) {
        return Err(format!("its createType is {create_type:?}"));
    }
    let parent = setting(text, "parentCID").unwrap_or(NO_PARENT);
    if !parent.eq_ignore_ascii_case(NO_PARENT) || setting(text, "parentFileNameHint").is_some() {
        return Err("it has a parent".into());
    }
    let mut extents = text.lines().map(str::trim).filter(|line| is_extent(line));
    match (extents.next(), extents.next()) {
        (Some(line), None) => extent(line),
        (None, _) => Err("its descriptor has no extent".into()),
        (Some(_), Some(_)) => Err("it has several extents".into()),
    }
}

fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim().eq_ignore_ascii_case(key)).then(|| value.trim().trim_matches('"'))
    })
}

fn is_extent(line: &str) -> bool {
    ["RW ", "RDONLY ", "NOACCESS "]
        .iter()
        .any(|access| line.starts_with(access))
}

/// Such as `RW 8192 VMFS "web-flat.vmdk"`, with an offset behind the name for `FLAT`.
fn extent(line: &str) -> Result<FlatExtent, String> {
    let bad = || format!("its extent is {line:?}");
    let (before, rest) = line.split_once('"').ok_or_else(bad)?;
    let (name, offset) = rest.split_once('"').ok_or_else(bad)?;
    let mut words = before.split_whitespace();
    let (Some("RW"), Some(sectors), Some("VMFS" | "FLAT"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    if !matches!(offset.trim(), "" | "0") || name.is_empty() || name.contains(['/', '\\']) {
        return Err(bad());
    }
    let sectors: u64 = sectors.parse().map_err(|_| bad())?;
    let bytes = sectors.checked_mul(SECTOR).ok_or_else(bad)?;
    Ok(FlatExtent {
        name: name.to_owned(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
        createType=\"vmfs\"\n\n# Extent description\nRW 8192 VMFS \"web-flat.vmdk\"\n\n\
        ddb.adapterType = \"lsilogic\"\n";

    #[test]
    fn the_one_flat_extent_is_found() {
        let expected = FlatExtent {
            name: "web-flat.vmdk".into(),
            bytes: 8192 * 512,
        };
        assert_eq!(flat_extent(GOOD), Ok(expected));
        let hosted = GOOD
            .replace("\"vmfs\"", "\"monolithicFlat\"")
            .replace("VMFS", "FLAT");
        let hosted = hosted
            .replace("flat.vmdk\"", "flat.vmdk\" 0")
            .replace('\n', "\r\n");
        assert!(flat_extent(&hosted).is_ok());
    }

    #[track_caller]
    fn check(from: &str, to: &str, words: &str) {
        let changed = GOOD.replace(from, to);
        assert_ne!(changed, GOOD);
        let problem = flat_extent(&changed).expect_err("refused");
        assert!(problem.contains(words), "{problem}");
    }

    #[test]
    fn all_that_is_not_one_flat_file_is_refused() {
        check("\"vmfs\"", "\"vmfsSparse\"", "createType");
        check("\"vmfs\"", "\"seSparse\"", "createType");
        check("createType", "x", "no createType");
        check("parentCID=ffffffff", "parentCID=1234abcd", "parent");
        check("version=1", "parentFileNameHint=\"base.vmdk\"", "parent");
        check("RW 8192", "# 8192", "no extent");
        check("RW 8192", "RW 1 VMFS \"a\"\nRW 8192", "several");
        check("RW 8192", "RDONLY 8192", "RDONLY");
        check("VMFS \"", "VMFSRDM \"", "VMFSRDM");
        check("8192", "many", "many");
        check("8192", "36893488147419103232", "extent");
        check("8192", "36028797018963968", "extent");
        check("web-flat", "../other/web-flat", "extent");
        check("flat.vmdk\"", "flat.vmdk\" 128", "extent");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(RW |createType=|\"|[ -~\n]){0,60}") {
            if let Ok(extent) = flat_extent(&text) {
                prop_assert!(text.contains(&extent.name));
            }
        }
    }
}
