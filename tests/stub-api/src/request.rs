//! What a request asks for.

use std::collections::BTreeMap;

use crate::resource::ResourceType;

/// What a request is for, as the fault suite tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// A list, or a page of one.
    List,
    /// A watch, until its headers.
    WatchStart,
    /// A watch's events, one by one. It is asked when the stream begins and before each event.
    WatchStream,
    /// A GET of a config object's metadata.
    GetMetadata,
    /// A GET of a config object with its content.
    GetContent,
    /// A GET of a workload.
    GetWorkload,
    /// A patch of whatever but a Lease.
    Patch,
    /// The creation of an Event.
    CreateEvent,
    /// A GET or a write of a Lease.
    Lease,
    /// A GET of a Namespace.
    Namespace,
    /// Anything else.
    Other,
}

impl RequestKind {
    /// All kinds, for tables.
    pub const ALL: [Self; 11] = [
        Self::List,
        Self::WatchStart,
        Self::WatchStream,
        Self::GetMetadata,
        Self::GetContent,
        Self::GetWorkload,
        Self::Patch,
        Self::CreateEvent,
        Self::Lease,
        Self::Namespace,
        Self::Other,
    ];
}

/// What is known of a request from its head.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// What it is for.
    pub kind: RequestKind,
    /// Who sent it: the name that [`StubApi::connector_of`](crate::StubApi::connector_of) was given.
    pub client: String,
    /// The HTTP method.
    pub method: http::Method,
    /// The path, without the query.
    pub path: String,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// The resource's plural; empty if the path names none.
    pub resource: &'static str,
    /// The namespace, if the path names one.
    pub namespace: Option<String>,
    /// The object's name: from the path, else from a field selector.
    pub name: Option<String>,
    /// Whether only metadata is asked for.
    pub is_metadata: bool,
    pub(crate) content_type: String,
    pub(crate) resource_type: Option<&'static ResourceType>,
    pub(crate) is_collection: bool,
}

impl RequestInfo {
    pub(crate) fn parse(parts: &http::request::Parts, client: &str) -> Self {
        let header = |name| {
            let value: Option<&http::HeaderValue> = parts.headers.get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let path = parts.uri.path().to_owned();
        let query = parse_query(parts.uri.query().unwrap_or_default());
        let (resource_type, namespace, path_name) = parse_path(&path);
        let is_collection = path_name.is_none();
        let name = path_name.or_else(|| {
            let fields = query.get("fieldSelector")?;
            fields.split(',').find_map(|field| field.strip_prefix("metadata.name=")).map(str::to_owned)
        });
        let mut info = Self {
            kind: RequestKind::Other,
            client: client.to_owned(),
            method: parts.method.clone(),
            path,
            query,
            resource: resource_type.map_or("", |resource| resource.plural),
            namespace,
            name,
            is_metadata: header(http::header::ACCEPT).contains("as=PartialObjectMetadata"),
            content_type: header(http::header::CONTENT_TYPE),
            resource_type,
            is_collection,
        };
        info.kind = info.classify();
        info
    }

    fn classify(&self) -> RequestKind {
        let Some(resource) = self.resource_type else { return RequestKind::Other };
        match self.method.as_str() {
            "GET" if self.is_watch() => RequestKind::WatchStart,
            "GET" if self.is_collection => RequestKind::List,
            _ if resource.plural == "leases" => RequestKind::Lease,
            "GET" if resource.plural == "namespaces" => RequestKind::Namespace,
            "GET" if resource.is_workload() => RequestKind::GetWorkload,
            "GET" if resource.is_config() && self.is_metadata => RequestKind::GetMetadata,
            "GET" if resource.is_config() => RequestKind::GetContent,
            "PATCH" => RequestKind::Patch,
            "POST" if resource.plural == "events" => RequestKind::CreateEvent,
            _ => RequestKind::Other,
        }
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &'static str {
        self.resource_type.map_or("", |resource| resource.group)
    }

    /// The verb, as in a role.
    pub fn verb(&self) -> &'static str {
        match self.method.as_str() {
            "GET" if self.is_watch() => "watch",
            "GET" if self.is_collection => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            _ => "delete",
        }
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.is_set("watch")
    }

    /// Whether nothing is to be stored.
    pub fn is_dry_run(&self) -> bool {
        self.query.contains_key("dryRun")
    }
}

type Path = (Option<&'static ResourceType>, Option<String>, Option<String>);

fn parse_path(path: &str) -> Path {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect();
    let segments: Vec<_> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return (None, None, None),
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, plural, rest @ ..] => (Some(*namespace), (*plural, rest)),
        [plural, rest @ ..] => (None, (*plural, rest)),
        [] => return (None, None, None),
    };
    let (plural, rest) = rest;
    let resource = ResourceType::by_plural(group, version, plural);
    match rest {
        [] => (resource, namespace.map(str::to_owned), None),
        [name] => (resource, namespace.map(str::to_owned), Some((*name).to_owned())),
        // Subresources are not needed.
        _ => (None, None, None),
    }
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// Undoes percent-encoding, and `+` for a blank.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = vec![];
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let digits = String::from_utf8_lossy(&digits).into_owned();
                decoded.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            other => decoded.push(other),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
