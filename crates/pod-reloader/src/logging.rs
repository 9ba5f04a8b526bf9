//! Log lines, which stay short and few, whatever clients do.

mod limit;
mod short;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::args::{LogFormat, LoggingArgs};
pub(crate) use limit::LineLimit;
use short::Short;

/// Sets up logging to standard error, as zap does. What comes back counts the lines that are left out.
pub(crate) fn init(args: &LoggingArgs) -> LineLimit {
    let level = args.level();
    let filter = Targets::new()
        .with_target("pod_reloader", level)
        .with_target("kube_runtime", level.min(LevelFilter::ERROR))
        // It logs whole responses that it cannot decode, and these may be Secrets.
        .with_target("kube_client::client", LevelFilter::OFF)
        .with_default(level.min(LevelFilter::WARN));
    let lines = fmt::layer().with_writer(Short(std::io::stderr));
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match args.format() {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let limit = LineLimit::default();
    tracing_subscriber::registry().with(lines.with_filter(filter.and(limit.clone()))).init();
    limit
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    /// Lines that were written.
    #[derive(Clone, Default)]
    pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }

        pub(crate) fn count(&self, part: &str) -> usize {
            self.text().lines().filter(|line| line.contains(part)).count()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }
}
