//! Flags of log lines, SAP's among them.

use clap::{ArgAction, Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use crate::go_flags::parse_bool;

/// What is logged, and in which form.
#[derive(Clone, Debug, Args)]
pub struct LoggingArgs {
    /// Form of log lines [default: json]
    #[arg(long, value_name = "FORMAT", env = "POD_RELOADER_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Log level: debug, info, error, panic, or a number, where 1 is debug and more is finer
    #[arg(long, value_name = "LEVEL", env = "POD_RELOADER_ZAP_LOG_LEVEL", value_parser = parse_level)]
    pub zap_log_level: Option<LevelFilter>,

    /// Form of log lines; --log-format takes precedence
    #[arg(long, value_name = "ENCODER", env = "POD_RELOADER_ZAP_ENCODER")]
    pub zap_encoder: Option<ZapEncoder>,

    /// Development defaults: --zap-encoder=console --zap-log-level=debug
    #[arg(long, value_name = "BOOL", default_value = "false", default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set, env = "POD_RELOADER_ZAP_DEVEL",
          value_parser = parse_bool)]
    pub zap_devel: bool,

    /// Accepted for compatibility, without effect: there are no stack traces in logs
    #[arg(long, value_name = "LEVEL", env = "POD_RELOADER_ZAP_STACKTRACE_LEVEL")]
    pub zap_stacktrace_level: Option<ZapStacktraceLevel>,

    /// Accepted for compatibility, without effect: times in logs are RFC 3339
    #[arg(long, value_name = "ENCODING", env = "POD_RELOADER_ZAP_TIME_ENCODING")]
    pub zap_time_encoding: Option<ZapTimeEncoding>,
}

impl LoggingArgs {
    /// The finest level that is logged.
    pub fn level(&self) -> LevelFilter {
        self.zap_log_level.unwrap_or(if self.zap_devel { LevelFilter::DEBUG } else { LevelFilter::INFO })
    }

    /// The form that the flags add up to.
    pub fn format(&self) -> LogFormat {
        match (self.log_format, self.zap_encoder) {
            (Some(format), _) => format,
            (None, Some(ZapEncoder::Console)) => LogFormat::Text,
            (None, None) if self.zap_devel => LogFormat::Text,
            (None, Some(ZapEncoder::Json) | None) => LogFormat::Json,
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// `--zap-encoder`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ZapEncoder {
    /// One JSON object per line.
    Json,
    /// For people.
    Console,
}

/// `--zap-stacktrace-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "zap's words, without effect")]
pub enum ZapStacktraceLevel {
    Info,
    Error,
    Panic,
}

/// `--zap-time-encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "zap's words, without effect")]
pub enum ZapTimeEncoding {
    Epoch,
    Millis,
    Nano,
    Iso8601,
    Rfc3339,
    Rfc3339nano,
}

fn parse_level(text: &str) -> Result<LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "error" | "panic" => Ok(LevelFilter::ERROR),
        other => match other.parse::<u8>() {
            Ok(1) => Ok(LevelFilter::DEBUG),
            Ok(2..) => Ok(LevelFilter::TRACE),
            _ => Err("expected debug, info, error, panic, or a number above 0".into()),
        },
    }
}
