//! The server's other interface, for what the first does not know: tags and storage policies.
//!
//! Two dialects: `/api` since 7.0 U2, and `/rest` before, which wraps each answer and writes maps as lists.

use std::io;
use std::time::Duration;

use reqwest::{Client as Http, Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::{StoragePolicies, Tag, Told};
use crate::client::Client;
use crate::fetch::take;
use crate::server::untrusted_certificate;
use crate::{Error, Result, VmRef};

/// The whole conversation is short, and not worth waiting for.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const ALL_TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// More tags than people give a VM.
const TAGS_MAX: usize = 256;
/// More tags than people make.
const ALL_TAGS_MAX: usize = 4096;
const SESSION: &str = "vmware-api-session-id";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Api,
    Rest,
}

impl Dialect {
    const fn session(self) -> &'static str {
        match self {
            Dialect::Api => "/api/session",
            Dialect::Rest => "/rest/com/vmware/cis/session",
        }
    }

    /// Where tags are.
    pub(super) const fn tagging(self) -> &'static str {
        match self {
            Dialect::Api => "/api/cis/tagging",
            Dialect::Rest => "/rest/com/vmware/cis/tagging",
        }
    }

    /// What stands before an id in a path.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Dialect::Api => "",
            Dialect::Rest => "id:",
        }
    }

    const fn attached(self) -> &'static str {
        match self {
            Dialect::Api => "action=list-attached-tags",
            Dialect::Rest => "~action=list-attached-tags",
        }
    }

    pub(super) const fn attached_objects(self) -> &'static str {
        match self {
            Dialect::Api => "action=list-attached-objects",
            Dialect::Rest => "~action=list-attached-objects",
        }
    }

    const fn attach(self) -> &'static str {
        match self {
            Dialect::Api => "action=attach",
            Dialect::Rest => "~action=attach",
        }
    }

    const fn all_policies(self) -> &'static str {
        match self {
            Dialect::Api => "/api/vcenter/storage/policies",
            Dialect::Rest => "/rest/vcenter/storage/policies",
        }
    }

    const fn vms(self) -> &'static str {
        match self {
            Dialect::Api => "/api/vcenter/vm",
            Dialect::Rest => "/rest/vcenter/vm",
        }
    }

    /// An answer without its wrapping.
    fn bare(self, answer: Value) -> Value {
        match (self, answer) {
            (Dialect::Rest, Value::Object(mut fields)) => {
                fields.remove("value").unwrap_or(Value::Object(fields))
            }
            (_, answer) => answer,
        }
    }
}

/// A session of the other interface.
pub(super) struct Rest<'a> {
    http: &'a Http,
    base: Url,
    pub(super) address: &'a str,
    pub(super) dialect: Dialect,
    session: SecretString,
}

impl Client {
    pub(super) async fn tags_and_policies(
        &self,
        vm: &VmRef,
    ) -> (Told<Vec<Tag>>, Told<StoragePolicies>) {
        let unknown = |why: String| (Told::Unknown(why.clone()), Told::Unknown(why));
        if !self.about().is_vcenter {
            return unknown("a host alone has no tags and no storage policies".into());
        }
        match tokio::time::timeout(ALL_TIMEOUT, self.ask_rest(vm)).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => unknown(error.fault().message),
            Err(_) => unknown(format!(
                "no answer within {} seconds",
                ALL_TIMEOUT.as_secs()
            )),
        }
    }

    /// Those of some tags and storage policies that are there.
    pub(crate) async fn known_there(
        &self,
        tags: &[Tag],
        policies: &[String],
    ) -> (Told<Vec<Tag>>, Told<Vec<String>>) {
        if tags.is_empty() && policies.is_empty() {
            return (Told::Known(Vec::new()), Told::Known(Vec::new()));
        }
        let asked = self.in_rest(async |rest: &Rest<'_>| {
            let ids = rest.tag_ids(tags).await;
            let ids = ids.map(|ids| ids.into_iter().map(|(tag, _)| tag).collect());
            (told(ids), told(rest.known_policies(policies).await))
        });
        match asked.await {
            Ok(known) => known,
            Err(why) => (Told::Unknown(why.clone()), Told::Unknown(why)),
        }
    }

    /// Gives a VM tags that are there; those that it did not get, each with why.
    pub async fn attach_tags(&self, vm: &VmRef, tags: &[Tag]) -> Vec<(Tag, String)> {
        let all = |why: &str| {
            tags.iter()
                .map(|tag| (tag.clone(), why.to_owned()))
                .collect()
        };
        if tags.is_empty() {
            return Vec::new();
        }
        let attached = self.in_rest(async |rest: &Rest<'_>| {
            let ids = match rest.tag_ids(tags).await {
                Ok(ids) => ids,
                Err(error) => return all(&error.fault().message),
            };
            let mut failed = Vec::new();
            for tag in tags {
                let why = match ids.iter().find(|(known, _)| known == tag) {
                    None => Some("no such tag is there".to_owned()),
                    Some((_, id)) => {
                        let attached = rest.attach(id, vm).await;
                        attached.err().map(|error| error.fault().message)
                    }
                };
                failed.extend(why.map(|why| (tag.clone(), why)));
            }
            failed
        });
        attached.await.unwrap_or_else(|why| all(&why))
    }

    /// Does something in a session of the other interface; why there is none.
    pub(super) async fn in_rest<T>(
        &self,
        work: impl AsyncFnOnce(&Rest<'_>) -> T,
    ) -> Result<T, String> {
        if !self.about().is_vcenter {
            return Err("a host alone has no tags and no storage policies".into());
        }
        let worked = async {
            let rest = self.open_rest().await?;
            let done = work(&rest).await;
            if let Err(error) = rest.close().await {
                // It ends by itself when it falls idle.
                tracing::debug!(%error, "a session of the other interface remains");
            }
            Ok::<T, Error>(done)
        };
        match tokio::time::timeout(ALL_TIMEOUT, worked).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(error.fault().message),
            Err(_) => Err(format!(
                "no answer within {} seconds",
                ALL_TIMEOUT.as_secs()
            )),
        }
    }

    async fn ask_rest(&self, vm: &VmRef) -> Result<(Told<Vec<Tag>>, Told<StoragePolicies>)> {
        let rest = self.open_rest().await?;
        let tags = rest.tags(vm).await;
        let policies = rest.policies(vm).await;
        if let Err(error) = rest.close().await {
            // It ends by itself when it falls idle.
            tracing::debug!(%error, "a session of the other interface remains");
        }
        Ok((told(tags), told(policies)))
    }

    /// Logs in by the newer dialect, or by the older one where there is no newer.
    async fn open_rest(&self) -> Result<Rest<'_>> {
        let endpoint = self.endpoint();
        if endpoint.username.is_empty() {
            return Err(Error::SessionOver);
        }
        let mut last = StatusCode::NOT_FOUND;
        for dialect in [Dialect::Api, Dialect::Rest] {
            let (http, url) = self.server().web(dialect.session());
            let request = http
                .post(url.clone())
                .timeout(CALL_TIMEOUT)
                .basic_auth(&endpoint.username, Some(endpoint.password.expose_secret()));
            let (status, answer) = exchange(self.address(), request).await?;
            if let (true, Some(session)) = (status.is_success(), dialect.bare(answer).as_str()) {
                return Ok(Rest {
                    http,
                    base: url,
                    address: self.address(),
                    dialect,
                    session: SecretString::from(session.to_owned()),
                });
            }
            last = status;
            if status != StatusCode::NOT_FOUND {
                break;
            }
        }
        Err(bad(self.address(), format!("no session: status {last}")))
    }
}

impl Rest<'_> {
    async fn tags(&self, vm: &VmRef) -> Result<Vec<Tag>> {
        let tagging = self.dialect.tagging();
        let object = json!({"object_id": {"type": "VirtualMachine", "id": vm.as_str()}});
        let path = format!("{tagging}/tag-association");
        let query = Some(self.dialect.attached());
        let ids = self.call(Method::POST, &path, query, Some(object)).await?;
        let ids = match ids {
            Value::Array(ids) => ids,
            // So servers write a list of none.
            Value::Null => Vec::new(),
            _ => return Err(bad(self.address, "the tags are no list")),
        };
        if ids.len() > TAGS_MAX {
            return Err(bad(self.address, format!("more than {TAGS_MAX} tags")));
        }
        let mut tags = Vec::new();
        for id in &ids {
            let id = id
                .as_str()
                .ok_or_else(|| bad(self.address, "a tag without id"))?;
            tags.push(self.tag(id).await?);
        }
        tags.sort();
        Ok(tags)
    }

    async fn tag(&self, id: &str) -> Result<Tag> {
        let tagging = self.dialect.tagging();
        let mark = self.dialect.mark();
        let path = |kind: &str, id: &str| format!("{tagging}/{kind}/{mark}{}", segment(id));
        let tag = self.get(&path("tag", id)).await?;
        let category = text(&tag, "category_id").unwrap_or_default();
        let category = self.get(&path("category", &category)).await?;
        let name = |value: &Value| {
            text(value, "name").ok_or_else(|| bad(self.address, "a tag without name"))
        };
        Ok(Tag {
            category: name(&category)?,
            name: name(&tag)?,
        })
    }

    /// Ids of those of some tags that are there. Names are found by looking at all of them: there is no
    /// other way that every release knows.
    async fn tag_ids(&self, wanted: &[Tag]) -> Result<Vec<(Tag, String)>> {
        let path = format!("{}/tag", self.dialect.tagging());
        let ids = match wanted.is_empty() {
            true => Value::Null,
            false => self.get(&path).await?,
        };
        let ids = ids.as_array().cloned().unwrap_or_default();
        let mut found: Vec<(Tag, String)> = Vec::new();
        for id in ids.iter().filter_map(Value::as_str).take(ALL_TAGS_MAX) {
            if found.len() >= wanted.len() {
                break;
            }
            let tag = self.tag(id).await?;
            if wanted.contains(&tag) {
                found.push((tag, id.to_owned()));
            }
        }
        Ok(found)
    }

    async fn attach(&self, id: &str, vm: &VmRef) -> Result<()> {
        let (tagging, mark) = (self.dialect.tagging(), self.dialect.mark());
        let path = format!("{tagging}/tag-association/{mark}{}", segment(id));
        let object = json!({"object_id": {"type": "VirtualMachine", "id": vm.as_str()}});
        let query = Some(self.dialect.attach());
        let attached = self.call(Method::POST, &path, query, Some(object)).await;
        attached.map(drop)
    }

    async fn known_policies(&self, wanted: &[String]) -> Result<Vec<String>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.get(self.dialect.all_policies()).await?;
        let all = all.as_array().cloned().unwrap_or_default();
        let ids = all.iter().filter_map(|policy| text(policy, "policy"));
        Ok(ids.filter(|id| wanted.contains(id)).collect())
    }

    async fn policies(&self, vm: &VmRef) -> Result<StoragePolicies> {
        let path = format!(
            "{}/{}/storage/policy",
            self.dialect.vms(),
            segment(vm.as_str())
        );
        Ok(policies(&self.get(&path).await?))
    }

    async fn close(&self) -> Result<()> {
        let path = self.dialect.session();
        self.call(Method::DELETE, path, None, None).await.map(drop)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        query: Option<&str>,
        body: Option<Value>,
    ) -> Result<Value> {
        let answer = self.ask(method, path, query, body).await?;
        answer.ok_or_else(|| bad(self.address, format!("{path}: there is no such thing")))
    }

    /// The answer, or none when there is no such thing.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        query: Option<&str>,
        body: Option<Value>,
    ) -> Result<Option<Value>> {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(query);
        let mut request = self
            .http
            .request(method, url)
            .timeout(CALL_TIMEOUT)
            .header(SESSION, self.session.expose_secret());
        if let Some(body) = body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let (status, answer) = exchange(self.address, request).await?;
        match status {
            _ if status.is_success() => Ok(Some(self.dialect.bare(answer))),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(bad(self.address, format!("{path}: status {status}"))),
        }
    }
}

/// One request; its answer is nothing when it is no JSON.
async fn exchange(address: &str, request: reqwest::RequestBuilder) -> Result<(StatusCode, Value)> {
    let broken = |error: reqwest::Error| match untrusted_certificate(address, &error) {
        Some(untrusted) => untrusted,
        None => bad(address, error.without_url()),
    };
    let response = request.send().await.map_err(broken)?;
    let status = response.status();
    let body = take(response, ANSWER_BYTES_MAX).await.map_err(broken)?;
    if body.is_truncated {
        return Err(bad(address, "the answer is larger than 4 MiB"));
    }
    Ok((
        status,
        serde_json::from_slice(&body.bytes).unwrap_or_default(),
    ))
}

pub(super) fn bad(
    address: &str,
    problem: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Unreachable {
        address: address.to_owned(),
        source: io::Error::other(problem),
    }
}

fn told<T>(outcome: Result<T>) -> Told<T> {
    match outcome {
        Ok(known) => Told::Known(known),
        Err(error) => Told::Unknown(error.fault().message),
    }
}

pub(super) fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().map(str::to_owned)
}

/// Ids hold colons, and should hold no slash.
pub(super) fn segment(id: &str) -> String {
    id.replace('%', "%25")
        .replace('/', "%2F")
        .replace(['?', '#'], "_")
}

/// Policies by disk: a map, or a list of keys and values; each a text, or an object with one.
fn policies(answer: &Value) -> StoragePolicies {
    let id = |value: &Value| match value {
        Value::String(id) => Some(id.clone()),
        value => text(value, "storage_policy").or_else(|| text(value, "policy")),
    };
    let pairs: Vec<(String, &Value)> = match answer.get("disks") {
        Some(Value::Object(map)) => map.iter().map(|(key, id)| (key.clone(), id)).collect(),
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(|pair| Some((text(pair, "key")?, pair.get("value")?)))
            .collect(),
        _ => Vec::new(),
    };
    let disks = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.parse().ok()?, id(value)?)));
    let mut disks: Vec<(i32, String)> = disks.collect();
    disks.sort();
    StoragePolicies {
        home: answer.get("vm_home").and_then(id),
        disks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_in_both_dialects() {
        let api = json!({"vm_home": "p1", "disks": {"2000": "p2"}});
        let rest = json!({"value": {"vm_home": "p1", "disks": [{"key": "2000", "value": {"storage_policy": "p2"}}]}});
        let expected = StoragePolicies {
            home: Some("p1".into()),
            disks: vec![(2000, "p2".into())],
        };
        assert_eq!(policies(&Dialect::Api.bare(api)), expected);
        assert_eq!(policies(&Dialect::Rest.bare(rest)), expected);
        assert_eq!(policies(&Value::Null), StoragePolicies::default());
    }

    #[test]
    fn an_id_stays_one_part_of_a_path() {
        assert_eq!(segment("urn:vmomi:X:1:GLOBAL"), "urn:vmomi:X:1:GLOBAL");
        assert_eq!(segment("../a?b"), "..%2Fa_b");
    }
}
