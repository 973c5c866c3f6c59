//! Names with `*` and `?`, regardless of case.

/// Whether `name` is what `pattern` says: `*` is any number of characters, `?` is one.
///
/// Case plays no part: vCenter lets names differ in how people typed them, and a VM that a policy
/// misses for a capital letter is found out only when it is gone. Takes time proportional to the
/// product of both lengths at worst, whatever the pattern.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    let name: Vec<char> = name.chars().flat_map(char::to_lowercase).collect();
    let (mut at, mut seen) = (0, 0);
    // Where to go on after a mismatch: behind the last star, one more character taken by it.
    let mut star: Option<(usize, usize)> = None;
    while seen < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at + 1, seen));
                at += 1;
            }
            Some('?') => (at, seen) = (at + 1, seen + 1),
            Some(c) if *c == name[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((behind, taken)) => {
                    star = Some((behind, taken + 1));
                    (at, seen) = (behind, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// Whether two names are the same, regardless of case.
pub(crate) fn same(left: &str, right: &str) -> bool {
    let lower = |text: &str| {
        text.chars()
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    lower(left) == lower(right)
}

/// Whether `path` is `above` or lies below it.
pub(crate) fn within(path: &str, above: &str) -> bool {
    let parts = |text: &str| -> Vec<String> {
        text.split('/')
            .filter(|part| !part.is_empty())
            .map(|part| part.chars().flat_map(char::to_lowercase).collect())
            .collect()
    };
    parts(path).starts_with(&parts(above))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: bool) {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }

    #[test]
    fn stars_take_any_number_of_characters_and_question_marks_one() {
        check("sql-*", "SQL-01", true);
        check("sql-?", "sql-01", false);
        check("*-db-*", "a-db-db-1", true);
        check("*", "", true);
        check("a*b*c", "abbbd", false);
        check("", "x", false);
        check("straße", "STRASSE", false);
        check("müller*", "MÜLLER-PC", true);
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_its_product() {
        check(&"*a".repeat(500), &"a".repeat(2_000), true);
        check(&format!("{}b", "*a".repeat(500)), &"a".repeat(2_000), false);
    }

    #[test]
    fn a_folder_ends_where_its_name_ends() {
        assert!(within("/DC/vm/Prod/Web", "/dc/vm/prod"));
        assert!(within("/DC/vm/Prod", "/DC/vm/Prod/"));
        assert!(!within("/DC/vm/Production", "/DC/vm/Prod"));
    }
}
