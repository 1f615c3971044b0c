//! A cluster's certificate authority, and how one succeeds another without a broken connection: first every node learns to
//! trust the next one, then certificates are issued by it, then the former is trusted no longer.

use jiff::Timestamp;

use super::issue::{self, CertificateError, Pair};
use super::{CA, Data};

/// On the authority's Secret, set by a person: replace the authority now.
pub const ROTATE: &str = "chronik.io/rotate-authority";

const KEY: &str = "ca.key";
const NEXT: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const FORMER: &str = "former.crt";
/// When the present phase began, seconds since 1970.
const SINCE: &str = "since";

/// An authority's time: five years. A certificate's is one, and both are renewed when a third is left.
const LIFETIME_SECONDS: i64 = 5 * 365 * 24 * 3600;
/// After this everybody has what a Secret holds: kubelets look within two minutes, and brokers within seconds after that.
pub(super) const SPREAD_SECONDS: i64 = 180;

/// Where a succession is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One authority.
    Settled,
    /// Nodes learn to trust the next one.
    Announced,
    /// The next one issues; the former is trusted still.
    Succeeded,
}

/// The authorities of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    data: Data,
}

impl Authorities {
    /// Takes what the Secret holds, or makes an authority; and goes on with a succession whose time has come. `rotate`: a
    /// person asks for one.
    pub fn of(found: Option<&Data>, cluster_id: &str, now: Timestamp, rotate: bool) -> Result<Self, CertificateError> {
        let usable = |data: &&Data| {
            let certificate = data.get(CA).and_then(|pem| issue::read(pem));
            data.contains_key(KEY) && certificate.is_some_and(|it| it.not_after > now.as_second())
        };
        let mut all = match found.filter(usable) {
            Some(data) => Self { data: data.clone() },
            None => Self::new(cluster_id, now)?,
        };
        all.go_on(cluster_id, now, rotate)?;
        Ok(all)
    }

    fn new(cluster_id: &str, now: Timestamp) -> Result<Self, CertificateError> {
        let made = make(cluster_id, now)?;
        Ok(Self { data: [(CA.to_owned(), made.certificate), (KEY.to_owned(), made.key)].into() })
    }

    /// Where the succession is.
    pub fn phase(&self) -> Phase {
        if self.data.contains_key(NEXT) {
            Phase::Announced
        } else if self.data.contains_key(FORMER) {
            Phase::Succeeded
        } else {
            Phase::Settled
        }
    }

    fn go_on(&mut self, cluster_id: &str, now: Timestamp, rotate: bool) -> Result<(), CertificateError> {
        let spread = self.since().is_none_or(|since| now.as_second() - since >= SPREAD_SECONDS);
        match self.phase() {
            Phase::Settled => {
                let due = issue::read(&self.data[CA]).is_none_or(|certificate| certificate.is_due(now));
                if due || rotate {
                    let next = make(cluster_id, now)?;
                    self.data.insert(NEXT.to_owned(), next.certificate);
                    self.data.insert(NEXT_KEY.to_owned(), next.key);
                    self.begin(now);
                }
            }
            Phase::Announced if spread => {
                let take = |data: &mut Data, key: &str| data.remove(key).unwrap_or_default();
                let (next, next_key) = (take(&mut self.data, NEXT), take(&mut self.data, NEXT_KEY));
                let former = self.data.insert(CA.to_owned(), next).unwrap_or_default();
                self.data.insert(KEY.to_owned(), next_key);
                self.data.insert(FORMER.to_owned(), former);
                self.begin(now);
            }
            Phase::Succeeded if spread => {
                self.data.remove(FORMER);
                self.data.remove(SINCE);
            }
            Phase::Announced | Phase::Succeeded => {}
        }
        Ok(())
    }

    fn since(&self) -> Option<i64> {
        String::from_utf8_lossy(self.data.get(SINCE)?).parse().ok()
    }

    fn begin(&mut self, now: Timestamp) {
        self.data.insert(SINCE.to_owned(), now.as_second().to_string().into_bytes());
    }

    /// Notes something beside the authorities, to be found again.
    pub fn note(&mut self, key: &str, value: Vec<u8>) {
        self.data.insert(key.to_owned(), value);
    }

    /// What the Secret should hold.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The one that issues.
    pub(super) fn issuer(&self) -> Pair {
        Pair { certificate: self.data[CA].clone(), key: self.data[KEY].clone() }
    }

    /// The certificates of all that are trusted now.
    pub fn trusted(&self) -> Vec<u8> {
        let each = [CA, NEXT, FORMER].into_iter().filter_map(|name| self.data.get(name));
        each.flat_map(|pem| pem.iter().copied()).collect()
    }
}

fn make(cluster_id: &str, now: Timestamp) -> Result<Pair, CertificateError> {
    // The time tells authorities of one cluster apart.
    let subject = format!("chronik {cluster_id} {}", now.as_millisecond());
    issue::authority(&subject, now, LIFETIME_SECONDS)
}
