//! One file per API; here only which APIs there are, at which versions, and the dispatch to them.
