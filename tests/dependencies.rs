//! What the program is made of, by cargo-deny: licences, where a crate comes from, and which may run code during a build.
//!
//! `tests/deny.toml` has what is decided. Not here: which crates are direct dependencies (`tidy.rs`), and whether a weakness of
//! one is known, because the list of those is a repository on the network.

mod common;

use std::path::Path;

use common::process::{command, succeed};
use common::{require, temp_dir, write_file};
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What cargo knows of the program and of everything it is made of.
fn metadata() -> Value {
    let output = succeed(
        command(env!("CARGO"))
            .args(["metadata", "--all-features", "--format-version=1"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(ROOT),
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What cargo-deny says of these metadata: whether it is content, and its words.
fn examine(metadata: &Value) -> (bool, String) {
    let directory = temp_dir("dependencies");
    let file = directory.path().join("metadata.json");
    write_file(&file, metadata.to_string());
    let output = command("cargo-deny")
        .arg("--metadata-path")
        .arg(&file)
        .arg("--config")
        .arg(Path::new(ROOT).join("tests/deny.toml"))
        .args(["--color=never", "check", "--hide-inclusion-graph"])
        .args(["licenses", "bans", "sources"])
        .current_dir(ROOT)
        .output()
        .expect("cargo-deny runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), words)
}

/// Changes what is known of one crate, and expects to be refused with these words.
#[track_caller]
fn check_refused(metadata: &Value, name: &str, change: impl Fn(&mut Value), expected: &str) {
    let mut metadata = metadata.clone();
    let packages = metadata["packages"].as_array_mut().expect("packages");
    let package = packages
        .iter_mut()
        .find(|package| package["name"] == name)
        .expect("a crate of ours");
    change(package);
    let (is_content, words) = examine(&metadata);
    assert!(!is_content && words.contains(expected), "{name}:\n{words}");
}

#[test]
fn licences_sources_and_build_scripts_are_decided() {
    if !require("cargo-deny") {
        return;
    }
    let metadata = metadata();
    let (is_content, words) = examine(&metadata);
    assert!(is_content, "{words}");
    // The examination can fail.
    let license = |package: &mut Value| package["license"] = json!("GPL-3.0-only");
    check_refused(&metadata, "toml", license, "error[rejected]");
    let own = |package: &mut Value| package["license"] = json!("LicenseRef-proprietary");
    check_refused(&metadata, "rcptsync", own, "error[rejected]");
    let script = |package: &mut Value| {
        let script = json!({ "kind": ["custom-build"], "crate_types": ["bin"], "name": "build-script-build",
            "src_path": "/nowhere/build.rs", "edition": "2021", "doc": false, "doctest": false, "test": false });
        package["targets"]
            .as_array_mut()
            .expect("targets")
            .push(script);
    };
    check_refused(
        &metadata,
        "strsim",
        script,
        "error[build-script-not-allowed]",
    );
}

/// A crate from elsewhere, in every place where the metadata name it.
#[test]
fn a_crate_from_elsewhere_is_refused() {
    if !require("cargo-deny") {
        return;
    }
    let text = metadata().to_string();
    let packages = "registry+https://github.com/rust-lang/crates.io-index#strsim@";
    assert!(text.contains(packages));
    for elsewhere in [
        "registry+https://registry.example/index",
        "git+https://github.com/somebody/strsim?branch=main",
    ] {
        let mut moved: Value =
            serde_json::from_str(&text.replace(packages, &format!("{elsewhere}#strsim@")))
                .expect("JSON");
        for package in moved["packages"].as_array_mut().expect("packages") {
            if package["name"] == "strsim" {
                package["source"] = json!(elsewhere);
            }
        }
        let (is_content, words) = examine(&moved);
        assert!(
            !is_content && words.contains("error[source-not-allowed]"),
            "{elsewhere}:\n{words}"
        );
    }
}

/// The compiler refuses `unsafe` in all of the workspace.
#[test]
fn no_crate_of_the_workspace_may_be_unsafe() {
    let metadata = metadata();
    let members = metadata["workspace_members"].as_array().expect("members");
    assert!(members.len() >= 3);
    let packages = metadata["packages"].as_array().expect("packages");
    for package in packages
        .iter()
        .filter(|package| members.contains(&package["id"]))
    {
        let path = package["manifest_path"].as_str().expect("a path");
        let manifest = std::fs::read_to_string(path).expect("a manifest");
        assert!(manifest.contains("\n[lints]\nworkspace = true\n"), "{path}");
    }
    let manifest = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
}
