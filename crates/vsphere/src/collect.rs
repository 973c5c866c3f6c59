//! Reading properties: of one object, or of every object of some kinds.

use std::collections::BTreeMap;

use crate::body::Body;
use crate::client::{Call, Client, Repeat, Session, bad_answer};
use crate::error::{FaultKind, VimFault};
use crate::reference::Moref;
use crate::soap::localized_fault;
use crate::xml::{Element, Problem};
use crate::{Error, Result};

const RETRIEVE: &str = "RetrievePropertiesEx";
const CONTINUE: &str = "ContinueRetrievePropertiesEx";

/// Objects per page: a hundred VMs with all their hardware are some 3 MiB.
const PAGE_OBJECTS: u32 = 100;

/// What is read of one kind of object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub kind: &'static str,
    pub paths: &'static [&'static str],
}

/// An object and what was read of it.
#[derive(Debug)]
pub(crate) struct Properties {
    pub object: Moref,
    values: BTreeMap<String, Element>,
    missing: BTreeMap<String, VimFault>,
}

impl Properties {
    /// A value; none when it is not set.
    pub(crate) fn get(&self, path: &str) -> Option<&Element> {
        self.values.get(path)
    }

    /// A value; none when it is not set, a fault when it may be set and we may not see it.
    pub(crate) fn seen(&self, path: &str) -> Result<Option<&Element>> {
        match (self.values.get(path), self.missing.get(path)) {
            (None, Some(fault)) => Err(Error::Fault {
                method: RETRIEVE,
                fault: Box::new(fault.clone()),
            }),
            (value, _) => Ok(value),
        }
    }

    /// A value that must be there. A property that we may not see is a fault, one that is not set a
    /// bad answer.
    pub(crate) fn need(&self, path: &str) -> Result<&Element> {
        if let Some(value) = self.values.get(path) {
            return Ok(value);
        }
        Err(match self.missing.get(path) {
            Some(fault) => Error::Fault {
                method: RETRIEVE,
                fault: Box::new(fault.clone()),
            },
            None => self.bad(Problem(format!("no {path}"))),
        })
    }

    /// A text; none when it is not set.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        self.get(path)
            .map(|value| value.text.clone())
            .filter(|text| !text.is_empty())
    }

    /// An object; none when it is not set.
    pub(crate) fn moref(&self, path: &str) -> Result<Option<Moref>> {
        let value = self.get(path).map(Element::moref).transpose();
        value.map_err(|problem| self.bad(problem))
    }

    /// A list of objects; empty when it is not set.
    pub(crate) fn morefs(&self, path: &str) -> Result<Vec<Moref>> {
        let list = self
            .get(path)
            .into_iter()
            .flat_map(|list| list.all("ManagedObjectReference"));
        list.map(Element::moref)
            .collect::<Result<_, _>>()
            .map_err(|problem| self.bad(problem))
    }

    /// The error for a value that cannot be understood.
    pub(crate) fn bad(&self, Problem(problem): Problem) -> Error {
        bad_answer(
            RETRIEVE,
            Problem(format!("{}: {problem}", self.object.value)),
        )
    }

    pub(crate) fn parse(content: &Element) -> Result<Self, Problem> {
        let mut properties = Self {
            object: content.need_moref("obj")?,
            values: BTreeMap::new(),
            missing: BTreeMap::new(),
        };
        for property in content.all("propSet") {
            properties
                .values
                .insert(property.string("name")?, property.need("val")?.clone());
        }
        for property in content.all("missingSet") {
            let fault = localized_fault(property.need("fault")?);
            properties.missing.insert(property.string("path")?, fault);
        }
        Ok(properties)
    }
}

impl Client {
    /// Reads properties of one object.
    pub(crate) async fn read(&self, object: &Moref, paths: &[&str]) -> Result<Properties> {
        let page = self.call_one(self.read_call(object, paths)).await?;
        let content = page.all("objects").next();
        let content = content
            .ok_or_else(|| bad_answer(RETRIEVE, Problem(format!("{} is not there", object.value))));
        Properties::parse(content?).map_err(|problem| bad_answer(RETRIEVE, problem))
    }

    /// Uses one session, so that it does not fall idle.
    pub(crate) async fn touch(&self, session: &Session) -> Result<()> {
        // CurrentTime would do, but it needs no session: it could not tell that this one is over.
        let call = self.read_call(&self.content().root_folder, &["name"]);
        self.call_in(session, &call).await.map(drop)
    }

    fn read_call(&self, object: &Moref, paths: &[&str]) -> Call<'_> {
        let objects = Body::new().moref("obj", object).value("skip", false);
        let body = filter(&[prop_set(&object.kind, paths)], objects);
        let this = &self.content().property_collector;
        Call {
            method: RETRIEVE,
            this,
            body,
            repeat: Repeat::Safe,
        }
    }

    /// Reads properties of every object of the wanted kinds.
    ///
    /// A view dies with its session and a page is handed out once: when the session expires or a
    /// page is lost, the list starts over.
    pub(crate) async fn list(&self, wanted: &[Wanted]) -> Result<Vec<Properties>> {
        let session = self.session().await?;
        let session = match self.list_in(&session, wanted).await {
            Err(error) if error.is(&FaultKind::NotAuthenticated) => self.renew(&session).await?,
            Err(Error::OutcomeUnknown { .. }) => session,
            outcome => return outcome,
        };
        self.list_in(&session, wanted).await
    }

    async fn list_in(&self, session: &Session, wanted: &[Wanted]) -> Result<Vec<Properties>> {
        let view = self.create_view(session, wanted).await?;
        let objects = self.list_view(session, wanted, &view).await;
        let call = Call {
            method: "DestroyView",
            this: &view,
            body: Body::new(),
            repeat: Repeat::Never,
        };
        if let Err(error) = self.call_in(session, &call).await {
            // It goes with the session at the latest.
            tracing::debug!(%error, "a view remains");
        }
        objects
    }

    async fn create_view(&self, session: &Session, wanted: &[Wanted]) -> Result<Moref> {
        const METHOD: &str = "CreateContainerView";
        let mut body = Body::new().moref("container", &self.content().root_folder);
        for wanted in wanted {
            body = body.value("type", wanted.kind);
        }
        let body = body.value("recursive", true);
        let this = &self.content().view_manager;
        // A second view would be harmless, so the call may be repeated.
        let call = Call {
            method: METHOD,
            this,
            body,
            repeat: Repeat::Safe,
        };
        let values = self.call_in(session, &call).await?;
        let view = values
            .first()
            .ok_or_else(|| Problem::new("nothing returned"));
        view.and_then(Element::moref)
            .map_err(|problem| bad_answer(METHOD, problem))
    }

    async fn list_view(
        &self,
        session: &Session,
        wanted: &[Wanted],
        view: &Moref,
    ) -> Result<Vec<Properties>> {
        let sets: Vec<Body> = wanted.iter().map(|w| prop_set(w.kind, w.paths)).collect();
        let traversal = Body::new()
            .value("name", "view")
            .value("type", "ContainerView")
            .value("path", "view")
            .value("skip", false);
        let objects = Body::new().moref("obj", view).value("skip", true);
        let objects = objects.typed("selectSet", "TraversalSpec", traversal);
        let this = &self.content().property_collector;
        let body = filter(&sets, objects);
        let mut call = Call {
            method: RETRIEVE,
            this,
            body,
            repeat: Repeat::Safe,
        };
        let mut all = Vec::new();
        loop {
            // Nothing returned: there is no such object.
            let Some(page) = self.call_in(session, &call).await?.into_iter().next() else {
                return Ok(all);
            };
            for content in page.all("objects") {
                let properties = Properties::parse(content);
                all.push(properties.map_err(|problem| bad_answer(call.method, problem))?);
            }
            let Some(token) = page.optional("token") else {
                return Ok(all);
            };
            // A page is handed out once: a repeated call could miss one.
            let body = Body::new().value("token", token);
            call = Call {
                method: CONTINUE,
                this,
                body,
                repeat: Repeat::Never,
            };
        }
    }
}

fn prop_set(kind: &str, paths: &[&str]) -> Body {
    let start = Body::new().value("type", kind).value("all", false);
    paths
        .iter()
        .fold(start, |body, path| body.value("pathSet", path))
}

fn filter(prop_sets: &[Body], object_set: Body) -> Body {
    let sets = prop_sets
        .iter()
        .fold(Body::new(), |b, set| b.inside("propSet", set.clone()));
    Body::new()
        .inside("specSet", sets.inside("objectSet", object_set))
        .inside("options", Body::new().value("maxObjects", PAGE_OBJECTS))
}
