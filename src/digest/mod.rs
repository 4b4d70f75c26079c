//! Room `digest`.
