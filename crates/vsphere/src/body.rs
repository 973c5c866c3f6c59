//! Requests: elements in the order in which they are written.
//!
//! The types of vim25 are sequences: a server may refuse a wrong order, so whoever builds one
//! writes base type first and each type in the order of the schema.

use std::fmt::{self, Display, Write as _};

use quick_xml::escape::escape;

use crate::reference::Moref;

/// The inside of a request's element.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Body(String);

impl fmt::Debug for Body {
    // Some requests carry passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.0.len())
    }
}

impl Body {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Text alone, for an element whose type is named.
    pub(crate) fn text(text: &str) -> Self {
        Self(escape(text).into_owned())
    }

    /// A simple value.
    pub(crate) fn value(mut self, tag: &str, value: impl Display) -> Self {
        let value = value.to_string();
        write!(self.0, "<{tag}>{}</{tag}>", escape(value.as_str())).expect("a string takes all");
        self
    }

    /// A simple value, if there is one.
    pub(crate) fn optional(self, tag: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.value(tag, value),
            None => self,
        }
    }

    /// A managed object.
    pub(crate) fn moref(mut self, tag: &str, moref: &Moref) -> Self {
        let (kind, value) = (escape(moref.kind.as_str()), escape(moref.value.as_str()));
        write!(self.0, "<{tag} type=\"{kind}\">{value}</{tag}>").expect("a string takes all");
        self
    }

    /// A structure of the type that the schema says.
    pub(crate) fn inside(mut self, tag: &str, body: Body) -> Self {
        write!(self.0, "<{tag}>{}</{tag}>", body.0).expect("a string takes all");
        self
    }

    /// A structure of a named type.
    pub(crate) fn typed(mut self, tag: &str, ty: &str, body: Body) -> Self {
        write!(self.0, "<{tag} xsi:type=\"{ty}\">{}</{tag}>", body.0).expect("a string takes all");
        self
    }

    /// More of the same.
    pub(crate) fn then(mut self, body: Body) -> Self {
        self.0.push_str(&body.0);
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole request.
    pub(crate) fn envelope(&self, method: &str, this: &Moref) -> String {
        let call = Body::new().moref("_this", this);
        format!(
            concat!(
                r#"<?xml version="1.0" encoding="UTF-8"?>"#,
                r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/""#,
                r#" xmlns:xsd="http://www.w3.org/2001/XMLSchema""#,
                r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>"#,
                r#"<{} xmlns="urn:vim25">{}{}</{}></soapenv:Body></soapenv:Envelope>"#
            ),
            method,
            call.as_str(),
            self.as_str(),
            method
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    #[test]
    fn a_request_reads_back_with_its_values() {
        let body = Body::new()
            .value("name", "a < b & \"c\"")
            .optional("gone", None::<i32>)
            .typed("spec", "Kind", Body::new().value("on", true))
            .inside(
                "plain",
                Body::new().moref("ds", &Moref::new("Datastore", "d<1")),
            );
        let xml = body.envelope("Do_Task", &Moref::new("VirtualMachine", "vm-1"));
        let root = Element::parse(&xml).expect("well formed");
        let call = root.need("Body.Do_Task").expect("call");
        assert_eq!(
            call.need_moref("_this"),
            Ok(Moref::new("VirtualMachine", "vm-1"))
        );
        assert_eq!(call.string("name"), Ok("a < b & \"c\"".into()));
        assert_eq!(call.find("gone"), None);
        assert_eq!(call.need("spec").expect("spec").ty(), Some("Kind"));
        assert_eq!(call.value("spec.on"), Ok(true));
        assert_eq!(
            call.need_moref("plain.ds"),
            Ok(Moref::new("Datastore", "d<1"))
        );
    }
}
