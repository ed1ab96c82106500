//! Why a function could not be brought up, used or torn down.

use super::pages::PageError;
use crate::command::{CommandError, Function, StartError};
use crate::dma::DmaError;
use crate::platform::PlatformError;
use std::sync::Arc;
use std::time::Duration;

/// Why something about the function failed.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The command queue could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Firmware's demand for pages could not be met.
    #[error("{function}: {error}")]
    Pages {
        /// Which function.
        function: Arc<Function>,
        /// Why.
        error: PageError,
    },
    /// The driver found no memory for something of its own.
    #[error("{function}: no memory for {what}: {error}")]
    Memory {
        /// Which function.
        function: Arc<Function>,
        /// For what.
        what: &'static str,
        /// Why.
        error: DmaError,
    },
    /// Firmware lacks something that the driver needs.
    #[error("{function}: {what}; {advice}")]
    Unsupported {
        /// Which function.
        function: Arc<Function>,
        /// What is missing.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// Firmware's answer makes no sense.
    #[error("{function}: {what}: firmware is broken, or its answer was overwritten")]
    BadAnswer {
        /// Which function.
        function: Arc<Function>,
        /// What it said.
        what: String,
    },
    /// A value that the caller chose does not suit the function.
    #[error("{function}: {option} {value}: {allowed}")]
    Config {
        /// Which function.
        function: Arc<Function>,
        /// Which field of the configuration.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The port did not come up.
    #[error("{function}: no link after {waited:?}; check cable, transceiver and the other end")]
    NoLink {
        /// Which function.
        function: Arc<Function>,
        /// How long was waited.
        waited: Duration,
    },
    /// The function is no longer healthy.
    #[error("{function}: {health}")]
    Unhealthy {
        /// Which function.
        function: Arc<Function>,
        /// What is wrong.
        health: super::Ailment,
    },
    /// The platform could not reset the function.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}
