//! Sends requests to a candidate.
//!
//! Never retries and never follows a redirect.
