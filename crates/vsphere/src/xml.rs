//! Answers as a small tree of elements, by local names.
//!
//! Servers disagree about prefixes (`xsi:type`, `XMLSchema-instance:type`), so none is ever matched.
//! A document type is refused, and depth and count are bounded: the bytes are a server's.

use std::fmt::Write as _;
use std::str::FromStr;

use quick_xml::Reader;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::{BytesStart, Event};

use crate::reference::Moref;

/// Snapshot trees nest deepest: 32 levels, one element each.
const DEPTH_MAX: usize = 128;
/// An answer is at most 64 MiB; an element takes some 150 bytes of memory beside its text.
const ELEMENTS_MAX: usize = 2_000_000;

/// Why an answer cannot be used: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Problem(pub String);

impl Problem {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// One element: its name and type without prefixes, its text or its children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub name: String,
    /// `xsi:type` as written; with a prefix only for types that are not vSphere's.
    ty: Option<String>,
    /// The unprefixed `type` of a managed object reference.
    kind: Option<String>,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a document and answers its root element.
    pub(crate) fn parse(xml: &str) -> Result<Self, Problem> {
        let mut reader = Reader::from_str(xml);
        let mut tree = Tree::default();
        loop {
            let event = reader
                .read_event()
                .map_err(|e| Problem(format!("not xml: {e}")))?;
            match event {
                Event::Start(start) => tree.open(Self::named(&start)?)?,
                Event::Empty(start) => {
                    tree.open(Self::named(&start)?)?;
                    tree.close()?;
                }
                Event::End(_) => tree.close()?,
                Event::Text(text) => tree.text(&text),
                Event::CData(text) => tree.text(&text),
                Event::GeneralRef(name) => tree.text(&resolve(&format!("&{};", &*name))?),
                Event::DocType(_) => return Err(Problem::new("a document type is not accepted")),
                Event::Eof => return tree.finish(),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            }
        }
    }

    fn named(start: &BytesStart) -> Result<Self, Problem> {
        let mut element = Self {
            name: local(start.name().as_ref()).to_owned(),
            ..Self::default()
        };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| Problem(format!("not xml: {e}")))?;
            let key: &str = attribute.key.as_ref();
            match key.rsplit_once(':') {
                _ if key.starts_with("xmlns") => {}
                Some((_, "type")) => element.ty = Some(resolve(&attribute.value)?),
                None if key == "type" => element.kind = Some(resolve(&attribute.value)?),
                _ => {}
            }
        }
        Ok(element)
    }

    /// The type that the server gave, without prefix.
    pub(crate) fn ty(&self) -> Option<&str> {
        self.ty.as_deref().map(local)
    }

    /// The element at a path such as `hardware.device`, the first of each name.
    pub(crate) fn find(&self, path: &str) -> Option<&Element> {
        path.split('.').try_fold(self, |element, name| {
            element.children.iter().find(|child| child.name == name)
        })
    }

    /// Every child of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The element at a path; an error when it is missing.
    pub(crate) fn need(&self, path: &str) -> Result<&Element, Problem> {
        self.find(path)
            .ok_or_else(|| Problem(format!("no {path} in {}", self.name)))
    }

    /// The text at a path; an error when it is missing.
    pub(crate) fn string(&self, path: &str) -> Result<String, Problem> {
        self.need(path).map(|element| element.text.clone())
    }

    /// The text at a path; none when it is missing or empty.
    pub(crate) fn optional(&self, path: &str) -> Option<String> {
        self.find(path)
            .map(|element| element.text.clone())
            .filter(|text| !text.is_empty())
    }

    /// The number or truth value at a path; an error when it is missing.
    pub(crate) fn value<T: FromStr>(&self, path: &str) -> Result<T, Problem> {
        self.need(path)?.parsed()
    }

    /// The number or truth value at a path; none when it is missing.
    pub(crate) fn optional_value<T: FromStr>(&self, path: &str) -> Result<Option<T>, Problem> {
        self.find(path).map(Element::parsed).transpose()
    }

    /// The element's own number or truth value.
    pub(crate) fn parsed<T: FromStr>(&self) -> Result<T, Problem> {
        let text = self.text.trim();
        // XML Schema allows 1 and 0 for truth, Rust does not; no server of VMware writes them.
        text.parse().map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            Problem(format!("{} is {shown:?}", self.name))
        })
    }

    /// The element as a managed object reference.
    pub(crate) fn moref(&self) -> Result<Moref, Problem> {
        match &self.kind {
            Some(kind) if !self.text.is_empty() => Ok(Moref::new(kind, &self.text)),
            _ => Err(Problem(format!("{} is not a managed object", self.name))),
        }
    }

    /// The managed object at a path; an error when it is missing.
    pub(crate) fn need_moref(&self, path: &str) -> Result<Moref, Problem> {
        self.need(path)?.moref()
    }

    /// The element as a document under another name, with type names, so that it can be kept and
    /// read again by [`Element::parse`].
    pub(crate) fn document(&self, name: &str) -> String {
        let mut xml = String::from(r#"<?xml version="1.0" encoding="UTF-8"?>"#);
        let spaces = concat!(
            r#" xmlns="urn:vim25" xmlns:xsd="http://www.w3.org/2001/XMLSchema""#,
            r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance""#
        );
        self.write(&mut xml, name, spaces);
        xml
    }

    fn write(&self, xml: &mut String, name: &str, spaces: &str) {
        // Writing into a string cannot fail.
        write!(xml, "<{name}{spaces}").expect("a string takes all");
        for (key, value) in [("type", &self.kind), ("xsi:type", &self.ty)] {
            if let Some(value) = value {
                write!(xml, " {key}=\"{}\"", escape(value.as_str())).expect("a string takes all");
            }
        }
        xml.push('>');
        xml.push_str(&escape(self.text.as_str()));
        self.children
            .iter()
            .for_each(|child| child.write(xml, &child.name, ""));
        write!(xml, "</{name}>").expect("a string takes all");
    }
}

#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    count: usize,
}

impl Tree {
    fn open(&mut self, element: Element) -> Result<(), Problem> {
        self.count += 1;
        if self.open.len() >= DEPTH_MAX || self.count > ELEMENTS_MAX {
            return Err(Problem::new("too many elements or too deep"));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(Problem::new("not xml: two roots"));
        }
        self.open.push(element);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let mut element = self
            .open
            .pop()
            .ok_or_else(|| Problem::new("not xml: unbalanced"))?;
        if !element.children.is_empty() {
            // No type of vSphere mixes text and children: this is indentation.
            element.text.clear();
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some(element) = self.open.last_mut() {
            element.text.push_str(text);
        }
    }

    fn finish(self) -> Result<Element, Problem> {
        match self.root {
            Some(root) if self.open.is_empty() => Ok(root),
            _ => Err(Problem::new("not xml: it ends early")),
        }
    }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn resolve(text: &str) -> Result<String, Problem> {
    unescape(text)
        .map(|text| text.into_owned())
        .map_err(|e| Problem(format!("not xml: {e}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_types_are_read_whatever_their_prefix() {
        for (prefix, xsi) in [("", "xsi"), ("soapenv:", "XMLSchema-instance")] {
            let xml = format!(
                r#"<{prefix}a xmlns:x="u"><{prefix}b {xsi}:type="vim25:VirtualDisk">7</{prefix}b></{prefix}a>"#
            );
            let root = Element::parse(&xml).expect("reads");
            assert_eq!(root.name, "a");
            assert_eq!(root.need("b").expect("b").ty(), Some("VirtualDisk"));
            assert_eq!(root.value::<i32>("b"), Ok(7));
        }
    }

    #[test]
    fn entities_and_cdata_become_text() {
        let root = Element::parse("<a>1 &lt; 2 &amp;&#38;<![CDATA[ <b> ]]></a>").expect("reads");
        assert_eq!(root.text, "1 < 2 && <b> ");
    }

    #[test]
    fn what_is_missing_is_an_error_and_not_empty() {
        let root = Element::parse("<a><b/><c>x</c></a>").expect("reads");
        assert_eq!(root.string("b"), Ok(String::new()));
        assert_eq!(root.optional("b"), None);
        assert_eq!(root.string("d"), Err(Problem::new("no d in a")));
        assert_eq!(root.value::<u64>("c"), Err(Problem::new("c is \"x\"")));
        assert_eq!(root.value::<bool>("b"), Err(Problem::new("b is \"\"")));
        assert!(root.need_moref("c").is_err());
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = "<a>".repeat(DEPTH_MAX + 1) + &"</a>".repeat(DEPTH_MAX + 1);
        for xml in [
            r#"<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>"#,
            "<a>&unknown;</a>",
            "<a>",
            "<a></b>",
            "<a/><a/>",
            "",
            "plain",
            deep.as_str(),
        ] {
            assert!(Element::parse(xml).is_err(), "{xml}");
        }
    }

    #[test]
    fn a_kept_document_reads_as_it_was() {
        let xml = r#"<val xmlns:p="x" p:type="Config"><name>a &amp; b</name>
            <ds type="Datastore">datastore-1</ds><o p:type="xsd:string"> s </o></val>"#;
        let first = Element::parse(xml).expect("reads");
        let mut second = Element::parse(&first.document("config")).expect("reads again");
        assert_eq!(second.name, "config");
        second.name = "val".into();
        assert_eq!(second, first);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}") {
            let outcome = Element::parse(&text);
            prop_assert!(outcome.is_err() || text.contains('<'));
        }
    }
}
