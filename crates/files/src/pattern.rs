//! Patterns of names, as shells have them.

/// `*` is anything, `?` one character, `[a-z]` one of these, `[!a-z]` none of them, `\` takes the next as it is.
pub(crate) struct Pattern {
    parts: Vec<Part>,
    any_case: bool,
}

enum Part {
    One(char),
    Any,
    Rest,
    Set {
        ranges: Vec<(char, char)>,
        not: bool,
    },
}

impl Pattern {
    pub fn new(text: &str, any_case: bool) -> Self {
        let mut parts = Vec::new();
        let mut rest = folded(text, any_case);
        while let Some((&first, behind)) = rest.split_first() {
            let (part, behind) = match first {
                '*' => (Part::Rest, behind),
                '?' => (Part::Any, behind),
                '[' => match set(behind) {
                    Some((part, behind)) => (part, behind),
                    None => (Part::One('['), behind),
                },
                '\\' => match behind.split_first() {
                    Some((&next, behind)) => (Part::One(next), behind),
                    None => (Part::One('\\'), behind),
                },
                other => (Part::One(other), behind),
            };
            parts.push(part);
            rest = behind.to_vec();
        }
        Self { parts, any_case }
    }

    /// Goes back to the last `*` alone, so that no name takes longer than its length times the pattern's.
    pub fn matches(&self, name: &[u8]) -> bool {
        let name = folded(&String::from_utf8_lossy(name), self.any_case);
        let (mut part, mut at) = (0, 0);
        let mut again: Option<(usize, usize)> = None;
        loop {
            match (self.parts.get(part), name.get(at)) {
                (None, None) => return true,
                (Some(Part::Rest), _) => {
                    again = Some((part, at));
                    part += 1;
                    continue;
                }
                (Some(wanted), Some(&letter)) if wanted.takes(letter) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match again {
                Some((star, from)) if from < name.len() => {
                    again = Some((star, from + 1));
                    part = star + 1;
                    at = from + 1;
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::One(own) => *own == letter,
            Self::Any => true,
            Self::Rest => false,
            Self::Set { ranges, not } => {
                let inside = |(from, to): &(char, char)| (*from..=*to).contains(&letter);
                ranges.iter().any(inside) != *not
            }
        }
    }
}

fn folded(text: &str, any_case: bool) -> Vec<char> {
    match any_case {
        true => text.chars().flat_map(char::to_lowercase).collect(),
        false => text.chars().collect(),
    }
}

/// What stands between brackets, and what follows; none if they are not closed.
fn set(text: &[char]) -> Option<(Part, &[char])> {
    let (not, mut rest) = match text.split_first()? {
        ('!' | '^', behind) => (true, behind),
        _ => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        let (&from, behind) = rest.split_first()?;
        if from == ']' && !ranges.is_empty() {
            return Some((Part::Set { ranges, not }, behind));
        }
        (ranges, rest) = match behind {
            ['-', to, behind @ ..] if *to != ']' => {
                ranges.push((from, *to));
                (ranges, behind)
            }
            _ => {
                ranges.push((from, from));
                (ranges, behind)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let pattern_read = Pattern::new(pattern, false);
        for name in yes {
            assert!(pattern_read.matches(name.as_bytes()), "{pattern} {name}");
        }
        for name in no {
            assert!(!pattern_read.matches(name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_takes_what_a_shell_would() {
        check("hosts", &["hosts"], &["hosts2", "host", "Hosts", ""]);
        check(
            "*.log",
            &[".log", "a.log", "a.log.log"],
            &["a.log.1", "log"],
        );
        check("a*b*c", &["abc", "axbxbxc"], &["abcd", "acb"]);
        check("?", &["a", "ö"], &["", "ab"]);
        check("[a-c]x[!0-9]", &["axy", "cx-"], &["dxy", "ax5"]);
        check("[]a]", &["]", "a"], &["b"]);
        check(r"\*[", &["*["], &["a["]);
        check("*", &["", "anything"], &[]);
    }

    #[test]
    fn case_can_be_let_go_and_names_need_be_no_text() {
        assert!(Pattern::new("READ*", true).matches(b"Readme"));
        assert!(Pattern::new("a?b", false).matches(b"a\xffb"));
    }

    #[test]
    fn a_pattern_of_many_stars_ends() {
        let pattern = Pattern::new(&"*a".repeat(60), false);
        assert!(!pattern.matches("a".repeat(59).as_bytes()));
        assert!(pattern.matches("a".repeat(250).as_bytes()));
    }
}
