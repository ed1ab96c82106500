//! Completion, receive and send queues.
