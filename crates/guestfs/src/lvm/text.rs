//! The text that describes a volume group: sections, texts, numbers and lists.

use std::collections::BTreeMap;

use crate::{Error, Limits, Result};

use super::damaged;

/// Sections inside sections: a segment is in a volume in the list of volumes in the group.
const DEPTH_MAX: usize = 8;

#[derive(Debug)]
enum Value {
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Section(Section),
}

/// Names and what they stand for.
#[derive(Debug, Default)]
pub(super) struct Section(BTreeMap<String, Value>);

impl Section {
    pub fn number(&self, name: &str) -> Result<u64> {
        match self.0.get(name) {
            Some(Value::Number(number)) => Ok(*number),
            _ => Err(damaged("a number is missing")),
        }
    }

    pub fn text(&self, name: &str) -> Result<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(damaged("a text is missing")),
        }
    }

    pub fn section(&self, name: &str) -> Result<&Self> {
        match self.0.get(name) {
            Some(Value::Section(section)) => Ok(section),
            _ => Err(damaged("a section is missing")),
        }
    }

    pub fn sections(&self) -> impl Iterator<Item = (&String, &Self)> {
        self.0.iter().filter_map(|(name, value)| match value {
            Value::Section(section) => Some((name, section)),
            _ => None,
        })
    }

    /// Whether `word` is in a list.
    pub fn has(&self, name: &str, word: &str) -> bool {
        let is_word = |value: &Value| matches!(value, Value::Text(text) if text == word);
        matches!(self.0.get(name), Some(Value::List(list)) if list.iter().any(is_word))
    }

    /// A list of names with a number behind each.
    pub fn pairs(&self, name: &str) -> Result<Vec<(String, u64)>> {
        let Some(Value::List(list)) = self.0.get(name) else {
            return Err(damaged("a list is missing"));
        };
        let pair = |pair: &[Value]| match pair {
            [Value::Text(name), Value::Number(number)] => Some((name.to_owned(), *number)),
            _ => None,
        };
        let pairs: Option<Vec<_>> = list.chunks(2).map(pair).collect();
        pairs.ok_or_else(|| damaged("a list is not one of pairs"))
    }
}

/// The group's name, and its section.
pub(super) fn parse(text: &[u8], limits: &Limits) -> Result<(String, Section)> {
    let mut parser = Parser {
        rest: text,
        left: limits.metadata_bytes / 64,
    };
    let mut all = parser.section(0)?;
    let name = all.sections().next().map(|(name, _)| name.clone());
    let name = name.ok_or_else(|| damaged("it describes no group"))?;
    match all.0.remove(&name) {
        Some(Value::Section(section)) => Ok((name, section)),
        _ => Err(damaged("it describes no group")),
    }
}

struct Parser<'a> {
    rest: &'a [u8],
    /// Values that may still come.
    left: u64,
}

impl Parser<'_> {
    /// Names and values up to the brace that closes them, or the end.
    fn section(&mut self, depth: usize) -> Result<Section> {
        if depth > DEPTH_MAX {
            return Err(damaged("its sections are too deep"));
        }
        let mut section = Section::default();
        loop {
            self.skip();
            match self.rest.first() {
                None | Some(0) if depth == 0 => return Ok(section),
                Some(b'}') if depth > 0 => {
                    self.take();
                    return Ok(section);
                }
                _ => {}
            }
            let name = self.word()?;
            self.skip();
            let value = match self.take() {
                Some(b'=') => self.value(depth)?,
                Some(b'{') => Value::Section(self.section(depth + 1)?),
                _ => return Err(damaged("a name stands for nothing")),
            };
            section.0.insert(name, value);
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        self.left = self.left.checked_sub(1).ok_or(Error::Limit {
            what: "values of a volume group's description",
            limit: 0,
        })?;
        self.skip();
        match self.rest.first() {
            Some(b'"') => self.text().map(Value::Text),
            Some(b'[') if depth <= DEPTH_MAX => self.list(depth + 1).map(Value::List),
            _ => self.number(),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>> {
        self.take();
        let mut list = Vec::new();
        loop {
            self.skip();
            match self.rest.first() {
                Some(b']') => {
                    self.take();
                    return Ok(list);
                }
                Some(b',') => drop(self.take()),
                _ => list.push(self.value(depth)?),
            }
        }
    }

    fn text(&mut self) -> Result<String> {
        self.take();
        let mut text = Vec::new();
        loop {
            match self.take() {
                Some(b'"') => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Some(b'\\') => text.extend(self.take()),
                Some(byte) => text.push(byte),
                None => return Err(damaged("a text has no end")),
            }
        }
    }

    /// Whole ones; one that is not whole is of nothing that is needed.
    fn number(&mut self) -> Result<Value> {
        let word = self.word()?;
        Ok(word.parse().map_or(Value::Text(word), Value::Number))
    }

    fn word(&mut self) -> Result<String> {
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"={}[],#\"\0".contains(byte);
        let length = self.rest.iter().position(ends).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        if word.is_empty() {
            return Err(damaged("a word is empty"));
        }
        self.rest = rest;
        Ok(String::from_utf8_lossy(word).into_owned())
    }

    fn take(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Over blanks and comments.
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            if self.rest.first() != Some(&b'#') {
                return;
            }
            let end = self.rest.iter().position(|&byte| byte == b'\n');
            self.rest = end.and_then(|end| self.rest.get(end..)).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lvm_writes_is_understood_and_what_it_does_not_is_refused() {
        let text = br#"guest { id = "a-\"b" # why
            seqno = 7
            parts { one { stripes = ["pv0", 0, "pv1", 12] status = ["READ", "VISIBLE"] } empty = [] }
        }
        contents = "Text Format Volume Group"
        "#;
        let (name, group) = parse(text, &Limits::default()).unwrap();
        assert_eq!(
            (name.as_str(), group.text("id").unwrap()),
            ("guest", "a-\"b")
        );
        assert_eq!(group.number("seqno").unwrap(), 7);
        let one = group.section("parts").unwrap().section("one").unwrap();
        assert_eq!(
            one.pairs("stripes").unwrap(),
            [("pv0".to_owned(), 0), ("pv1".to_owned(), 12)]
        );
        assert!(one.has("status", "VISIBLE") && !one.has("status", "LOCKED"));
        for bad in [
            &b"a {"[..],
            b"a = [1",
            b"a = \"",
            b"}",
            b"a = = 1",
            b"\"",
            b"a",
        ] {
            assert!(parse(bad, &Limits::default()).is_err());
        }
        let deep = b"a{".repeat(1 << 16);
        assert!(parse(&deep, &Limits::default()).is_err());
        let lists = [b"a=".to_vec(), b"[".repeat(1 << 16)].concat();
        assert!(parse(&lists, &Limits::default()).is_err());
    }
}
