//! What training does when something beside it fails.
