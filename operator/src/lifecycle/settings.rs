//! Settings that change while brokers run: all at once, without a restart.

use super::decision::{Say, Step};
use super::situation::{Settings, Situation};

pub(super) fn change(situation: &Situation) -> Say {
    let Some(Settings { values, reset }) = &situation.settings else { return Say::Nothing };
    if situation.brokers.is_none() || (values.is_empty() && reset.is_empty()) {
        return Say::Nothing;
    }
    let names: Vec<&str> = values.keys().chain(reset).map(String::as_str).collect();
    let step = Step::SetConfigs { values: values.clone(), reset: reset.clone() };
    Say::step("Configure", format!("changes {}", names.join(", ")), step)
}
