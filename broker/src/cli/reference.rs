//! `docs/reference/cli.md`, generated from the command line itself.

use std::fmt::Write;

use clap::{Arg, Command};

/// The reference of every command and flag, as Markdown.
pub fn markdown() -> String {
    let mut command = super::command();
    command.build();
    let mut page = String::from(
        "# The command line\n\n\
         Generated from the program; `make docs` writes it anew.\n\n\
         Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Errors are one line on standard error.\n",
    );
    describe(&command, "chronik", &mut page);
    page
}

fn describe(command: &Command, path: &str, page: &mut String) {
    if command.get_name() == "help" {
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command.get_long_about().map(ToString::to_string).filter(|long| *long != about);
    let _ = write!(page, "\n## `{path}`\n\n{}.\n", about.trim_end_matches('.'));
    if let Some(long) = long {
        let _ = write!(page, "\n{long}\n");
    }
    let usage = command.clone().render_usage().to_string();
    let _ = write!(page, "\n```\n{}\n```\n", usage.trim_start_matches("Usage: "));
    let shown = |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    let arguments: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | meaning | default |\n| --- | --- | --- |\n");
    }
    for argument in arguments {
        let _ = writeln!(page, "| `{}` | {} | {} |", name(argument), meaning(argument), default(argument));
    }
    for inner in command.get_subcommands() {
        describe(inner, &format!("{path} {}", inner.get_name()), page);
    }
}

fn name(argument: &Arg) -> String {
    let value = argument.get_value_names().map(|names| names.join(" "));
    let takes_value = argument.get_action().takes_values();
    match (argument.get_long(), value.filter(|_| takes_value)) {
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_else(|| argument.get_id().to_string()),
    }
    .replace('|', "\\|")
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> = argument
        .get_possible_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|choice| format!("`{}`", choice.get_name()))
        .collect();
    let help = help.replace('|', "\\|");
    let mut help = if choices.is_empty() { help } else { format!("{help}: {}", choices.join(", ")) };
    if let Some(variable) = argument.get_env() {
        let _ = write!(help, " (`{}`)", variable.to_string_lossy());
    }
    help
}

fn default(argument: &Arg) -> String {
    let values: Vec<String> = argument
        .get_default_values()
        .iter()
        .filter(|_| argument.get_action().takes_values())
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_reference_of_the_command_line_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/cli.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).expect("docs/reference is writable");
        }
        let written = std::fs::read_to_string(path).expect("docs/reference/cli.md exists");
        assert!(written == markdown(), "docs/reference/cli.md is stale: make docs");
    }
}
