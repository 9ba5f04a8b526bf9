//! Live reads that many reconciles share: one change that a thousand workloads refer to is read once (5.6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use pod_reloader_core::digest::DigestKey;
use pod_reloader_core::lookup::{Lookup, Query};
use pod_reloader_k8s::connect::REQUEST_TIMEOUT;
use pod_reloader_k8s::reader::{CONCURRENT_READS, ConfigReader, Reads, Unreadable};
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// A read is shared for this long at most.
const MAX_AGE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, Eq, Hash)]
struct ReadKey {
    query: Query,
    key_id: Arc<str>,
}

type Answer = Result<Lookup, Unreadable>;

#[derive(Clone)]
struct Read {
    began: Instant,
    answer: Arc<OnceCell<Answer>>,
}

/// See the module.
pub(crate) struct LiveReads {
    reader: Arc<ConfigReader>,
    reads: Mutex<HashMap<ReadKey, Read>>,
}

impl LiveReads {
    pub(crate) fn new(reader: Arc<ConfigReader>) -> Self {
        Self { reader, reads: Mutex::new(HashMap::new()) }
    }

    /// Looks the objects up. Every answer is from a read that began at `not_before` or later, so it has seen what the
    /// writer that caused this read saw.
    pub(crate) async fn read_all(&self, key: &DigestKey, queries: Vec<Query>, not_before: Instant) -> Reads {
        let reads = queries.into_iter().map(|query| async move {
            let answer = self.read(key, &query, not_before).await;
            (query.object, answer)
        });
        let mut reads = futures::stream::iter(reads).buffer_unordered(CONCURRENT_READS);
        let mut found = Reads::default();
        while let Some((object, answer)) = reads.next().await {
            found.add(object, answer);
        }
        found
    }

    /// Looks one object up, likewise.
    pub(crate) async fn read(&self, key: &DigestKey, query: &Query, not_before: Instant) -> Answer {
        let read = self.shared(ReadKey { query: query.clone(), key_id: key.shared_id() }, not_before);
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        read.answer.get_or_init(|| self.reader.try_read(key, query, deadline)).await.clone()
    }

    fn shared(&self, key: ReadKey, not_before: Instant) -> Read {
        let now = Instant::now();
        let mut reads = self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(read) = reads.get(&key)
            && read.began >= not_before
            && now.duration_since(read.began) < MAX_AGE
            && !matches!(read.answer.get(), Some(Err(_) | Ok(Lookup::Unknown)))
        {
            return read.clone();
        }
        reads.retain(|_, read| now.duration_since(read.began) < MAX_AGE);
        let read = Read { began: now, answer: Arc::default() };
        reads.insert(key, read.clone());
        read
    }
}
