//! The settings that `deploy/examples` shows.

use std::path::Path;

use stillwater_types::Role;

/// The example of `role` as it is shipped, and with every setting that it comments out.
///
/// # Panics
/// When the file is not there.
pub fn forms(role: Role) -> [String; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy/examples")
        .join(format!("{role}.toml"));
    let shipped = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let shown = uncomment(&shipped);
    [shipped, shown]
}

fn uncomment(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| {
        key.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_uncommented_and_words_are_not() {
        let text = "# A word = a word, more.\n# drain = \"20s\"\n\n[limits]\n# parallel-runs = 8";
        let shown = "# A word = a word, more.\ndrain = \"20s\"\n\n[limits]\nparallel-runs = 8";
        assert_eq!(uncomment(text), shown);
    }
}
