//! Alert rules and the dashboard in `contrib/prometheus`, and the table of metrics in the README: through promtool, and beside
//! what the program writes.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::prometheus::Promtool;
use common::{temp_dir, write_file};
use rcptsync::metrics::FAMILIES;
use serde_json::{Value, json};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root(path)).expect("a file of this repository")
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    text.split(|character| !is_of_name(character))
        .filter(|word| word.starts_with("rcptsync_"))
        .collect()
}

fn written() -> BTreeSet<&'static str> {
    FAMILIES.iter().map(|family| family.name).collect()
}

/// Every expression in a JSON value, wherever it stands: of panels and of annotations; and what variables are asked for.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match (key.as_str(), member) {
                    ("expr", Value::String(text)) => found.push(text.clone()),
                    ("definition", Value::String(text)) => {
                        let asked = text.strip_prefix("label_values(");
                        let asked = asked.and_then(|rest| rest.rsplit_once(','));
                        found.push(asked.expect("label_values(…, …)").0.to_owned());
                    }
                    _ => expressions(member, found),
                }
            }
        }
        Value::Array(members) => members.iter().for_each(|member| expressions(member, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn dashboard() -> (Value, Vec<String>) {
    let text = read("contrib/prometheus/dashboard.json");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    (dashboard, found)
}

#[test]
fn every_alert_fires_for_its_fault_and_none_while_all_is_well() {
    let Some(promtool) = Promtool::find() else {
        return;
    };
    let directory = root("contrib/prometheus");
    promtool.succeed(&directory, &["check", "rules", "rcptsync.rules.yml"], "");
    promtool.succeed(&directory, &["test", "rules", "rcptsync.test.yml"], "");
    let (rules, tests) = (
        read("contrib/prometheus/rcptsync.rules.yml"),
        read("contrib/prometheus/rcptsync.test.yml"),
    );
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert!(alerts.len() >= 15);
    for alert in alerts {
        let name = alert.lines().next().expect("a name");
        assert!(
            tests.contains(&format!("\"{name}\"")),
            "{name} is fired by no test"
        );
        for part in ["summary: ", "description: ", "runbook: ", "severity: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn prometheus_parses_every_query_of_the_dashboard() {
    let Some(promtool) = Promtool::find() else {
        return;
    };
    let (dashboard, found) = dashboard();
    assert!(found.len() >= 25, "{found:?}");
    let rule = |(number, text): (usize, &String)| {
        // As Grafana fills them in.
        let text = (text.replace("$instance", ".+"))
            .replace("$table", ".+")
            .replace("$__rate_interval", "5m");
        assert!(!text.contains('$'), "{text}");
        json!({ "record": format!("query:{number}"), "expr": text })
    };
    let rules: Vec<Value> = found.iter().enumerate().map(rule).collect();
    // YAML is JSON, too.
    let file = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let directory = temp_dir("dashboard");
    write_file(&directory.path().join("queries.yml"), file.to_string());
    let said = promtool.succeed(directory.path(), &["check", "rules", "queries.yml"], "");
    assert!(
        said.contains(&format!("{} rules found", found.len())),
        "{said}"
    );
    let variables = dashboard["templating"]["list"]
        .as_array()
        .expect("variables");
    let variables: Vec<&str> = variables
        .iter()
        .filter_map(|of| of["name"].as_str())
        .collect();
    assert_eq!(variables, ["datasource", "instance", "table"]);
}

#[test]
fn nothing_is_asked_for_that_the_program_does_not_write() {
    let (_, found) = dashboard();
    let found = found.join("\n");
    for (what, text) in [
        ("the rules", &read("contrib/prometheus/rcptsync.rules.yml")),
        ("their tests", &read("contrib/prometheus/rcptsync.test.yml")),
        ("the dashboard", &found),
    ] {
        let named = named(text);
        let unknown: Vec<_> = named.difference(&written()).copied().collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
        assert!(named.len() >= 10, "{what}: {named:?}");
    }
}

#[test]
fn the_readme_says_what_every_metric_is() {
    let readme = read("README.md");
    let section = readme.split("\n## Metrics\n").nth(1);
    let section = section.and_then(|rest| rest.split("\n## ").next());
    let section = section.expect("a section");
    for name in written() {
        let short = name.strip_prefix("rcptsync_").expect("our names");
        assert!(
            section.contains(&format!("`{short}`")),
            "{name} is not in the README"
        );
    }
}
