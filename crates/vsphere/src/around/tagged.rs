//! Which VMs have which tags, for those who ask about all VMs at once.
//!
//! Asking each VM for its tags would be a call per VM. There are fewer tags than VMs, and fewer still that anybody
//! asks for: their names are read once, and then the VMs of each of them.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::Tag;
use super::rest::{Rest, bad, segment, text};
use crate::client::Client;
use crate::{Result, VmRef};

/// More tags than people make, and more than are read once in a while.
const TAGS_MAX: usize = 4_096;
/// More than anybody writes into policies; each is a call.
const ASKED_MAX: usize = 256;

/// The tags of a server, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagNames(BTreeMap<String, Tag>);

/// The VMs that have tags that were asked for; which of these each has.
pub type TaggedVms = BTreeMap<VmRef, BTreeSet<Tag>>;

impl Client {
    /// Every tag that the server has. Each is a call, so that the answer is worth keeping for a while.
    ///
    /// # Errors
    /// When the server does not answer, or has more tags than are read.
    pub async fn tag_names(&self) -> Result<TagNames> {
        if !self.about().is_vcenter {
            return Ok(TagNames::default());
        }
        let names = self.in_rest(async |rest: &Rest<'_>| rest.tag_names().await);
        names.await.map_err(|why| bad(self.address(), why))?
    }

    /// The VMs that have any of those of `names` that are `wanted`.
    ///
    /// # Errors
    /// When the server does not answer, or more tags are wanted than are asked for.
    pub async fn tagged_vms(
        &self,
        names: &TagNames,
        wanted: impl Fn(&Tag) -> bool,
    ) -> Result<TaggedVms> {
        let wanted = names.0.iter().filter(|(_, tag)| wanted(tag));
        let wanted: Vec<(&String, &Tag)> = wanted.collect();
        if wanted.is_empty() {
            return Ok(TaggedVms::new());
        }
        if wanted.len() > ASKED_MAX {
            let count = wanted.len();
            let message = format!("{count} tags are asked for, more than {ASKED_MAX}");
            return Err(bad(self.address(), message));
        }
        let tagged = self.in_rest(async |rest: &Rest<'_>| {
            let mut tagged = TaggedVms::new();
            for (id, tag) in &wanted {
                for vm in rest.vms_with(id).await? {
                    tagged.entry(vm).or_default().insert(Tag::clone(tag));
                }
            }
            Ok(tagged)
        });
        tagged.await.map_err(|why| bad(self.address(), why))?
    }
}

impl Rest<'_> {
    async fn tag_names(&self) -> Result<TagNames> {
        let tagging = self.dialect.tagging();
        let ids = self.get(&format!("{tagging}/tag")).await?;
        let ids = match &ids {
            Value::Array(ids) => ids.as_slice(),
            // So servers write a list of none.
            Value::Null => &[],
            _ => return Err(bad(self.address, "the tags are no list")),
        };
        if ids.len() > TAGS_MAX {
            return Err(bad(self.address, format!("more than {TAGS_MAX} tags")));
        }
        let (mut names, mut categories) = (TagNames::default(), BTreeMap::new());
        for id in ids.iter().filter_map(Value::as_str) {
            // One that was deleted meanwhile has no name.
            if let Some(tag) = self.tag_of(id, &mut categories).await? {
                names.0.insert(id.to_owned(), tag);
            }
        }
        Ok(names)
    }

    async fn tag_of(
        &self,
        id: &str,
        categories: &mut BTreeMap<String, String>,
    ) -> Result<Option<Tag>> {
        let (tagging, mark) = (self.dialect.tagging(), self.dialect.mark());
        let path = |kind: &str, id: &str| format!("{tagging}/{kind}/{mark}{}", segment(id));
        let Some(tag) = self.ask(Method::GET, &path("tag", id), None, None).await? else {
            return Ok(None);
        };
        let id = text(&tag, "category_id").unwrap_or_default();
        let category = match categories.get(&id) {
            Some(known) => known.clone(),
            None => {
                let path = path("category", &id);
                let Some(category) = self.ask(Method::GET, &path, None, None).await? else {
                    return Ok(None);
                };
                let name = self.name(&category)?;
                categories.insert(id, name.clone());
                name
            }
        };
        Ok(Some(Tag {
            category,
            name: self.name(&tag)?,
        }))
    }

    async fn has_tag(&self, id: &str) -> Result<bool> {
        let (tagging, mark) = (self.dialect.tagging(), self.dialect.mark());
        let path = format!("{tagging}/tag/{mark}{}", segment(id));
        let tag = self.ask(Method::GET, &path, None, None).await?;
        Ok(tag.is_some())
    }

    fn name(&self, value: &Value) -> Result<String> {
        text(value, "name").ok_or_else(|| bad(self.address, "a tag without name"))
    }

    async fn vms_with(&self, id: &str) -> Result<Vec<VmRef>> {
        let (tagging, mark) = (self.dialect.tagging(), self.dialect.mark());
        let path = format!("{tagging}/tag-association/{mark}{}", segment(id));
        let query = Some(self.dialect.attached_objects());
        // Servers that want a body are content with an empty one.
        let body = Some(json!({}));
        let objects = match self.ask(Method::POST, &path, query, body).await? {
            Some(Value::Array(objects)) => objects,
            Some(Value::Null) => Vec::new(),
            // Deleted meanwhile; a server that only does not understand says the same.
            None if !self.has_tag(id).await? => Vec::new(),
            _ => return Err(bad(self.address, "the objects of a tag are no list")),
        };
        let vms = objects
            .iter()
            .filter(|object| text(object, "type").as_deref() == Some("VirtualMachine"));
        Ok(vms
            .filter_map(|object| text(object, "id"))
            .map(VmRef::new)
            .collect())
    }
}
