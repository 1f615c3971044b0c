//! What a client that tries again tells whoever waits for it: once, when it has been in trouble for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ClientError;

/// Told of an error that is tried again, or an answer that is waited for, when it lasts.
pub type OnTrouble = Arc<dyn Fn(&ClientError) + Send + Sync>;

/// Trouble that is over sooner is nobody's business: leaders move.
const TELL_AFTER: Duration = Duration::from_secs(3);
/// After so long without trouble the next is another one. Attempts may be as far apart as a request's time-out.
const QUIET: Duration = Duration::from_mins(1);

/// Attempts that failed and are made again.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// When the trouble began, and its last attempt failed.
    span: Option<(Instant, Instant)>,
    told: bool,
}

impl Trouble {
    /// An attempt has failed and is made again: whether to tell of it.
    pub(super) fn is_to_be_told(&mut self, now: Instant) -> bool {
        let since = match self.span {
            Some((since, last)) if now.saturating_duration_since(last) < QUIET => since,
            _ => {
                self.told = false;
                now
            }
        };
        self.span = Some((since, now));
        now.saturating_duration_since(since) >= TELL_AFTER && !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once_and_new_trouble_again() {
        let (mut trouble, start) = (Trouble::default(), Instant::now());
        let mut told = Vec::new();
        // Ten seconds of trouble, two minutes of peace, ten seconds of trouble, and a moment of it later.
        for seconds in (0..10).chain(130..140).chain([400, 401]) {
            for ms in [0, 500] {
                if trouble.is_to_be_told(start + Duration::from_millis(1000 * seconds + ms)) {
                    told.push(seconds);
                }
            }
        }
        assert_eq!(told, [3, 133]);
    }
}
