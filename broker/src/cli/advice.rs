//! Commands that messages advise ("see: chronik topic list"), completed so that they reach the cluster that was asked.

use super::cluster::DEFAULT_ADMIN;
use crate::client::DEFAULT_BOOTSTRAP;

/// What stands before an advised command, in messages of this program and of the nodes.
const SEE: &str = "see: chronik ";

/// Where commands have to be told to go, because they would go elsewhere by themselves.
#[derive(Debug, Default)]
pub(super) struct Advice {
    /// As `--bootstrap`.
    bootstrap: Option<String>,
    /// As `--admin`.
    admin: Option<String>,
}

impl Advice {
    /// For a command that was sent to these addresses. What the environment says need not be said again.
    pub(super) fn new(bootstrap: &str, admin: Option<&str>) -> Self {
        let told = |given: &str, default: &str, variable: &str| {
            let known = given == default || std::env::var(variable).is_ok_and(|set| set == given);
            (!known).then(|| given.to_owned())
        };
        Self {
            bootstrap: told(bootstrap, DEFAULT_BOOTSTRAP, "CHRONIK_BOOTSTRAP"),
            admin: admin.and_then(|admin| told(admin, DEFAULT_ADMIN, "CHRONIK_ADMIN")),
        }
    }

    /// The message with what its advised command lacks.
    pub(super) fn completed(&self, message: &str) -> String {
        let Some(at) = message.find(SEE).map(|at| at + SEE.len()) else { return message.to_owned() };
        let length = message[at..].find([')', ';']).unwrap_or(message.len() - at);
        let (command, rest) = message[at..].split_at(length);
        let flag = if command.starts_with("cluster") {
            self.admin.as_ref().map(|admin| format!(" --admin {admin}"))
        } else {
            self.bootstrap.as_ref().map(|bootstrap| format!(" --bootstrap {bootstrap}"))
        };
        format!("{}{command}{}{rest}", &message[..at], flag.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advised_commands_go_where_the_one_that_failed_went() {
        let elsewhere = Advice { bootstrap: Some("h:1".to_owned()), admin: Some("h:2".to_owned()) };
        for (message, completed) in [
            ("no topic (see: chronik topic list)", "no topic (see: chronik topic list --bootstrap h:1)"),
            ("no node; see: chronik cluster nodes", "no node; see: chronik cluster nodes --admin h:2"),
            ("no drain; see: chronik cluster status", "no drain; see: chronik cluster status --admin h:2"),
            ("why (see: chronik group list); more", "why (see: chronik group list --bootstrap h:1); more"),
            ("nothing to see", "nothing to see"),
        ] {
            assert_eq!(elsewhere.completed(message), completed);
            assert_eq!(Advice::default().completed(message), message, "by default they go there by themselves");
        }
    }

    #[test]
    fn what_is_the_default_is_not_told() {
        let advice = Advice::new(DEFAULT_BOOTSTRAP, Some(DEFAULT_ADMIN));
        assert!(advice.bootstrap.is_none() && advice.admin.is_none());
        assert_eq!(Advice::new("h:1", None).bootstrap.as_deref(), Some("h:1"));
    }
}
