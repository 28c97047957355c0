//! Parameters of main.cf: what somebody has set, and setting what nobody has.
//!
//! The only place that changes anything in Postfix, and only for `init --install`. Not here: what is to be set (that is
//! decided in `command::init`).

use std::collections::BTreeMap;
use std::path::Path;

use super::{main_cf, run};

/// The types of tables that this Postfix opens; `None` where no Postfix is configured or it does not answer.
pub fn map_types() -> Option<Vec<String>> {
    if !main_cf().exists() {
        return None;
    }
    let listed = ask(&["-m"]).ok()?;
    Some(listed.lines().map(|line| line.trim().to_owned()).collect())
}

/// Those of these parameters that main.cf sets, with their values in one line.
pub fn set_in_main_cf(names: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let mut arguments = vec!["-n"];
    arguments.extend(names);
    let listed = ask(&arguments)?;
    let lines = listed.lines().filter_map(|line| line.split_once('='));
    let pairs = lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    Ok(pairs.collect())
}

/// The value in force, references to other parameters resolved.
pub fn in_force(name: &str) -> Result<String, String> {
    ask(&["-xh", name]).map(|value| value.trim().to_owned())
}

/// Sets parameters in main.cf, all of them or none.
pub fn set(parameters: &[(&str, String)]) -> Result<(), String> {
    let lines: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let mut arguments = vec!["-e"];
    arguments.extend(lines.iter().map(String::as_str));
    ask(&arguments).map(drop)
}

/// Whether Postfix opens this table, asked for a key that need not be there.
pub fn opens(map: &str) -> Result<(), String> {
    let asked = run("postmap", &["-q", "rcptsync@invalid", map]);
    let output = asked.ok_or("postmap could not be started")?;
    // A key that is not there ends with the same code; warnings are about something else.
    let told = String::from_utf8_lossy(&output.stderr);
    let fatal = told
        .lines()
        .find(|line| line.contains("fatal:") || line.contains("error:"));
    fatal.map_or(Ok(()), |line| Err(line.trim().to_owned()))
}

/// Where the map types of packages of their own lie as libraries.
pub fn library(map_type: &str) -> Option<String> {
    let directory = in_force("shlib_directory").ok()?;
    let path = format!("{directory}/postfix-{map_type}.so");
    Path::new(&path).is_file().then_some(path)
}

fn ask(arguments: &[&str]) -> Result<String, String> {
    let output = run("postconf", arguments).ok_or("postconf could not be started")?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    String::from_utf8(output.stdout).map_err(|_| "postconf's answer is not UTF-8".to_owned())
}
