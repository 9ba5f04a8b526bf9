//! What goes wrong, for which requests, and how often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::random::Random;
use crate::request::{RequestInfo, RequestKind};

/// What goes wrong with a request. For the events of a watch see [`RequestKind::WatchStream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Never answered, nor carried out.
    HangBeforeHeaders,
    /// Carried out; headers come, and then nothing. A watch stream falls silent for ever.
    HangAfterHeaders,
    /// The connection breaks before anything is carried out. A watch stream breaks.
    Reset,
    /// Answered with that code, with `Retry-After` where that is usual. A watch stream gets an ERROR event and ends.
    Status(u16),
    /// Carried out at once, but answered that much later. A watch's event comes that much later.
    Late(Duration),
    /// Carried out that much later, even if the client has given up by then, and then answered.
    Delayed(Duration),
    /// Carried out, but the connection breaks before the answer.
    LostAnswer,
    /// Carried out, but answered with a 504.
    LostAnswer500,
    /// A watch's event comes twice, and before it some of those that came before, with their resource versions.
    DuplicateEvents,
    /// A watch's event never comes, though later ones do: a bug of the server's. Not in [`Fault::ALL`], since only a new list
    /// helps. Streamed lists lose theirs, too, unless the rule leaves them out.
    LostEvent,
    /// A list as of that many writes ago. Other requests are not affected.
    StaleList(u64),
    /// A watch ends at once, in good order. Other requests get an empty answer.
    EndAtOnce,
    /// Half of the answer, or of the watch's event; then the connection ends.
    Truncated,
}

impl Fault {
    /// One of each, for tables.
    pub const ALL: [Self; 16] = [
        Self::HangBeforeHeaders,
        Self::HangAfterHeaders,
        Self::Reset,
        Self::Status(403),
        Self::Status(410),
        Self::Status(429),
        Self::Status(500),
        Self::Status(503),
        Self::Late(Duration::from_secs(5)),
        Self::Delayed(Duration::from_secs(15)),
        Self::LostAnswer,
        Self::LostAnswer500,
        Self::DuplicateEvents,
        Self::StaleList(10),
        Self::EndAtOnce,
        Self::Truncated,
    ];

    /// Whether it can be seen with that kind of request: a stale list is no fault of a patch.
    pub fn concerns(self, kind: RequestKind) -> bool {
        match self {
            Self::StaleList(_) => kind == RequestKind::List,
            Self::DuplicateEvents => matches!(kind, RequestKind::WatchStart | RequestKind::WatchStream),
            Self::LostEvent => kind == RequestKind::WatchStream,
            _ => true,
        }
    }

    /// Whether a watch stream can have it before its first event.
    fn concerns_a_streams_start(self) -> bool {
        !matches!(
            self,
            Self::Late(_)
                | Self::Delayed(_)
                | Self::DuplicateEvents
                | Self::LostEvent
                | Self::StaleList(_)
                | Self::Truncated
        )
    }
}

type Predicate = Arc<dyn Fn(&RequestInfo) -> bool + Send + Sync>;

/// Which requests have which fault. By default every request, for ever.
#[derive(Clone)]
pub struct FaultRule {
    fault: Fault,
    kinds: Vec<RequestKind>,
    resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    client: Option<String>,
    predicate: Option<Predicate>,
    skip: u64,
    times: Option<u64>,
    from: Duration,
    until: Option<Duration>,
    probability: f64,
    hits: u64,
}

impl FaultRule {
    /// That fault, for every request.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            kinds: vec![],
            resource: None,
            namespace: None,
            name: None,
            client: None,
            predicate: None,
            skip: 0,
            times: None,
            from: Duration::ZERO,
            until: None,
            probability: 1.0,
            hits: 0,
        }
    }

    /// Only for requests of that kind. Can be given more than once.
    #[must_use]
    pub fn kind(mut self, kind: RequestKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Only for that resource (plural).
    #[must_use]
    pub fn resource(mut self, plural: &str) -> Self {
        self.resource = Some(plural.to_owned());
        self
    }

    /// Only in that namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only for the object of that name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only for that client's requests, as [`StubApi::connector_of`](crate::StubApi::connector_of) named it.
    #[must_use]
    pub fn client(mut self, client: &str) -> Self {
        self.client = Some(client.to_owned());
        self
    }

    /// Only where that holds.
    #[must_use]
    pub fn matching(mut self, predicate: impl Fn(&RequestInfo) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(Arc::new(predicate));
        self
    }

    /// The first ones go well.
    #[must_use]
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Not more often than that.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// From then on, counted from the start of the stub.
    #[must_use]
    pub fn from(mut self, at: Duration) -> Self {
        self.from = at;
        self
    }

    /// Until then, counted from the start of the stub.
    #[must_use]
    pub fn until(mut self, at: Duration) -> Self {
        self.until = Some(at);
        self
    }

    /// Each time with that probability only.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    fn applies(&mut self, event: &Occasion<'_>, random: &mut Random) -> bool {
        let Occasion { request, kind, at, is_streams_start } = *event;
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        let matches = (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.fault.concerns(kind)
            && (!is_streams_start || self.fault.concerns_a_streams_start())
            && is(&self.resource, Some(request.resource))
            && is(&self.namespace, request.namespace.as_deref())
            && is(&self.name, request.name.as_deref())
            && is(&self.client, Some(&request.client))
            && self.from <= at
            && self.until.is_none_or(|until| at < until)
            && self.times.is_none_or(|times| self.hits < times)
            && self.predicate.as_ref().is_none_or(|predicate| predicate(request));
        if !matches {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.probability < 1.0 && !random.chance(self.probability) {
            return false;
        }
        self.hits += 1;
        true
    }
}

impl fmt::Debug for FaultRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, kinds, resource, namespace, name, client, hits, .. } = self;
        write!(
            f,
            "{fault:?} for {kinds:?} of {resource:?} {namespace:?}/{name:?} by {client:?}: {hits} times"
        )
    }
}

/// Names a rule of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleId(usize);

/// When a rule is asked.
#[derive(Clone, Copy)]
pub(crate) struct Occasion<'a> {
    pub(crate) request: &'a RequestInfo,
    /// The request's own, or that of its stream.
    pub(crate) kind: RequestKind,
    pub(crate) at: Duration,
    pub(crate) is_streams_start: bool,
}

/// All that goes wrong: the first rule that applies counts.
#[derive(Debug, Default)]
pub(crate) struct FaultPlan {
    rules: Vec<Option<FaultRule>>,
}

impl FaultPlan {
    pub(crate) fn add(&mut self, rule: FaultRule) -> RuleId {
        self.rules.push(Some(rule));
        RuleId(self.rules.len() - 1)
    }

    pub(crate) fn remove(&mut self, id: RuleId) {
        if let Some(rule) = self.rules.get_mut(id.0) {
            *rule = None;
        }
    }

    pub(crate) fn clear(&mut self) {
        // Numbers are not given away twice.
        self.rules.iter_mut().for_each(|rule| *rule = None);
    }

    pub(crate) fn hits(&self, id: RuleId) -> u64 {
        self.rules.get(id.0).and_then(Option::as_ref).map_or(0, |rule| rule.hits)
    }

    pub(crate) fn decide(&mut self, occasion: &Occasion<'_>, random: &mut Random) -> Option<Fault> {
        let mut rules = self.rules.iter_mut().flatten();
        rules.find_map(|rule| rule.applies(occasion, random).then_some(rule.fault))
    }
}
