//! The API server's audit log: which account did what, and that none did more.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;

use crate::{
    client::{Retries, connect},
    random::random_hex,
    user::User,
    wait::eventually,
};

/// The path of the requests that mark a position. There is nothing behind it; the request is recorded all the same.
const MARK_PATH: &str = "/pod-reloader-e2e-mark/";

/// The audit log of one control plane.
#[derive(Debug, Clone)]
pub struct Audit {
    log: PathBuf,
    /// Of the user that makes the requests for positions.
    kubeconfig: PathBuf,
}

/// A position in the audit log; by default its beginning.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// One request: when it was answered or, for a watch, also when the answer began (see [`Entry::stage`]).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Event")]
pub struct Entry {
    /// `ResponseComplete`; `ResponseStarted` for a watch that has begun; `Panic`.
    pub stage: String,
    /// The name of the user.
    pub user: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the HTTP method.
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The resource in the plural, empty for a request that is about none.
    pub resource: String,
    /// As in `deployments/scale`, else empty.
    pub subresource: String,
    /// Empty for a request beyond one namespace.
    pub namespace: String,
    /// Empty where the request names none: a list, or a creation that the server names.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When the request came.
    pub received: MicroTime,
    /// When this stage was reached.
    pub reached: MicroTime,
    /// What the server noted: patches by webhooks (`mutation.webhook.admission.k8s.io/...`), decisions of RBAC, ...
    pub annotations: BTreeMap<String, String>,
}

impl Entry {
    /// Whether `user` made the request.
    pub fn is_by(&self, user: User) -> bool {
        self.user == user.name()
    }

    /// Whether it is about `resource` (in the plural), subresources included.
    pub fn is_about(&self, resource: &str) -> bool {
        self.resource == resource
    }

    /// Whether it asks the server to change something: not a dry run, and not a question that happens to be asked by
    /// a creation (`SubjectAccessReview` and its like).
    pub fn is_write(&self) -> bool {
        let changes =
            matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
        let asks = matches!(self.group.as_str(), "authentication.k8s.io" | "authorization.k8s.io");
        changes && !asks && !self.is_dry_run()
    }

    /// Whether it was to change nothing (`?dryRun=All`).
    pub fn is_dry_run(&self) -> bool {
        self.uri.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| pair == "dryRun=All"))
    }

    /// Whether it was answered with a 2xx status.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl Audit {
    pub(crate) fn new(log: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { log, kubeconfig }
    }

    /// The file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A position after every request that was answered before this call.
    ///
    /// It makes a request of its own, which the log takes in order, and waits until it is written.
    pub async fn mark(&self) -> anyhow::Result<Mark> {
        let path = format!("{MARK_PATH}{}", random_hex()?);
        let start = std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        let request = Request::get(&path).body(Vec::new()).context("cannot build a request")?;
        let client = connect(&self.kubeconfig, Retries::None).await?;
        match client.request_text(request).await {
            Ok(_) | Err(kube::Error::Api(_)) => {}
            Err(error) => {
                return Err(error).context("the API server must run for a position in its audit log");
            }
        }
        eventually("a request in the audit log", Duration::from_secs(10), || async {
            let mut end = start;
            for line in self.lines(start)? {
                end += line.len() as u64;
                if line.contains(&path) {
                    return Ok(Mark(end));
                }
            }
            anyhow::bail!("{} has not got it", self.log.display())
        })
        .await
    }

    /// Every request after `mark` that was answered before this call, in the order of the log.
    pub async fn since(&self, mark: Mark) -> anyhow::Result<Vec<Entry>> {
        let end = self.mark().await?;
        self.between(mark, end)
    }

    /// What `user` asked to be changed after `mark`: `since` with [`Entry::is_write`].
    pub async fn writes_by(&self, user: User, mark: Mark) -> anyhow::Result<Vec<Entry>> {
        let mut entries = self.since(mark).await?;
        entries.retain(|entry| entry.is_by(user) && entry.is_write());
        Ok(entries)
    }

    /// Every request between two positions.
    pub fn between(&self, start: Mark, end: Mark) -> anyhow::Result<Vec<Entry>> {
        ensure!(start <= end, "the end of a span of the audit log lies before its start");
        let mut position = start.0;
        let mut entries = Vec::new();
        for line in self.lines(start.0)? {
            position += line.len() as u64;
            if position > end.0 {
                break;
            }
            if line.contains(MARK_PATH) {
                continue;
            }
            entries.push(serde_json::from_str(&line).with_context(|| format!("not an audit event: {line}"))?);
        }
        Ok(entries)
    }

    /// The complete lines after `start`, with their line ends.
    fn lines(&self, start: u64) -> anyhow::Result<Vec<String>> {
        let context = || format!("cannot read the audit log {}", self.log.display());
        let mut file = File::open(&self.log).with_context(context)?;
        file.seek(SeekFrom::Start(start)).with_context(context)?;
        let mut reader = BufReader::new(file);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).with_context(context)?;
            if !line.ends_with('\n') {
                return Ok(lines);
            }
            lines.push(line);
        }
    }
}

/// `audit.k8s.io/v1` `Event`, as far as it is read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: UserInfo,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: MicroTime,
    stage_timestamp: MicroTime,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    api_group: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        Self {
            stage: event.stage,
            user: event.user.username,
            user_agent: event.user_agent,
            verb: event.verb,
            uri: event.request_uri,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            code: event.response_status.code,
            received: event.request_received_timestamp,
            reached: event.stage_timestamp,
            annotations: event.annotations,
        }
    }
}
