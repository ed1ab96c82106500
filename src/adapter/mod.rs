//! Bring-up and orderly teardown of a function.
