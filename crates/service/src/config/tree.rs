//! Values that know where they were set.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, Faults};

/// Where a value was set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct At {
    /// A file, an environment variable or a flag.
    pub(super) source: String,
    /// The line of a file, from 1; 0 for anything else.
    pub(super) line: usize,
}

/// One value.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) at: At,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    /// From the environment or a flag: its type is what the settings ask for.
    Loose(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// In the place of a value with a fault, so that the faults behind it are found as well. The
    /// number chooses among texts, one of which the settings may like.
    StandIn(usize),
}

impl Default for Value {
    fn default() -> Self {
        Self::Table(BTreeMap::new())
    }
}

impl Node {
    /// Reads a file's text. After a syntax fault its values mean nothing.
    pub(super) fn parse(file: &Path, text: &str, faults: &mut Faults) -> Self {
        let source = file.display().to_string();
        let line = |offset: usize| {
            let before = text.get(..offset.min(text.len())).unwrap_or(text);
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| line(span.start));
            let at = At {
                source: source.clone(),
                line: at,
            };
            faults.push(ConfigFault::new(&at, "", error.message()));
        }
        let at = |offset| At {
            source: source.clone(),
            line: line(offset),
        };
        let mut root = Self {
            value: Value::default(),
            at: At {
                source: source.clone(),
                line: 0,
            },
        };
        root.value = convert_table(table.get_ref(), &at);
        root
    }

    /// The value at `path`, or the last one on the way to it that is there.
    pub(super) fn nearest(&self, path: &[String]) -> &Node {
        let mut node = self;
        for key in path {
            match node.child(key) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    fn child(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Table(table) => table.get(key),
            Value::List(list) => list.get(key.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// Sets the value at `path`, making tables on the way. `false` when something on the way is
    /// a value and no table.
    pub(super) fn set(&mut self, path: &[String], value: Node) -> bool {
        let Some((key, rest)) = path.split_first() else {
            *self = value;
            return true;
        };
        if let Value::StandIn(_) = self.value {
            self.value = Value::default();
        }
        match &mut self.value {
            Value::Table(table) => table
                .entry(key.clone())
                .or_insert_with(|| Node {
                    value: Value::default(),
                    at: value.at.clone(),
                })
                .set(rest, value),
            Value::List(list) => {
                let item = key
                    .parse::<usize>()
                    .ok()
                    .and_then(|index| list.get_mut(index));
                item.is_some_and(|item| item.set(rest, value))
            }
            _ => false,
        }
    }

    /// Takes the value at `path` away.
    pub(super) fn remove(&mut self, path: &[String]) {
        let Value::Table(table) = &mut self.value else {
            return;
        };
        match path {
            [] => {}
            [key] => {
                table.remove(key);
            }
            [key, rest @ ..] => {
                if let Some(child) = table.get_mut(key) {
                    child.remove(rest);
                }
            }
        }
    }
}

fn convert_table(table: &DeTable<'_>, at: &impl Fn(usize) -> At) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let node = Node {
            value: convert(value.get_ref(), at),
            at: at(key.span().start),
        };
        (key.get_ref().to_string(), node)
    });
    Value::Table(entries.collect())
}

fn convert(value: &DeValue<'_>, at: &impl Fn(usize) -> At) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        // The parser has checked the digits; only a number beyond 64 bits is left as text, which
        // no integer setting takes.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Text(number.to_string()), Value::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or_else(|_| Value::Text(number.to_string()), Value::Float),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(array) => Value::List(
            array
                .iter()
                .map(|item| Node {
                    value: convert(item.get_ref(), at),
                    at: at(item.span().start),
                })
                .collect(),
        ),
        DeValue::Table(table) => convert_table(table, at),
    }
}
