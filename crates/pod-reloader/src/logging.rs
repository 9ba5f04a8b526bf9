//! Log lines.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::args::{Args, LogFormat, ZapEncoder};

/// Sets up logging to standard error, as zap does.
pub(crate) fn init(args: &Args) {
    let level =
        args.zap_log_level.unwrap_or(if args.zap_devel { LevelFilter::DEBUG } else { LevelFilter::INFO });
    let filter = Targets::new()
        .with_target("pod_reloader", level)
        .with_target("kube_runtime", level.min(LevelFilter::ERROR))
        // It logs whole responses that it cannot decode, and these may be Secrets.
        .with_target("kube_client::client", LevelFilter::OFF)
        .with_default(level.min(LevelFilter::WARN));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format(args) {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        LogFormat::Text => lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

fn format(args: &Args) -> LogFormat {
    match (args.log_format, args.zap_encoder) {
        (Some(format), _) => format,
        (None, Some(ZapEncoder::Console)) => LogFormat::Text,
        (None, None) if args.zap_devel => LogFormat::Text,
        (None, Some(ZapEncoder::Json) | None) => LogFormat::Json,
    }
}
