//! All settings of the Postfix on this machine, as its programs see them: main.cf and what Postfix fills in, with every `$`
//! put in place; the services of master.cf; the types of tables.
//!
//! Not here: what is made of them (`check`).

use std::collections::{BTreeMap, BTreeSet};

use super::master::{self, Service};
use super::relay_domains::tokens;
use super::{main_cf, run};

/// Everything that `postconf` says.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
    /// The services of master.cf, in its order.
    pub services: Vec<Service>,
    /// The types of tables that can be opened here.
    pub map_types: BTreeSet<String>,
}

/// postconf does not say it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`postconf {arguments}` fails: {why}")]
pub struct PostconfError {
    arguments: String,
    why: String,
}

impl Settings {
    /// Asks; `None` without a Postfix that is configured here.
    pub fn ask() -> Option<Result<Settings, PostconfError>> {
        main_cf().exists().then(|| {
            let values = parse(&postconf(&["-x"])?);
            let services = master::parse(&postconf(&["-M"])?, &postconf(&["-Px"])?);
            let map_types = postconf(&["-m"])?.lines().map(str::to_owned).collect();
            Ok(Settings {
                values,
                services,
                map_types,
            })
        })
    }

    /// A setting of main.cf; empty where this version does not know it.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// A setting as it is in force for a service.
    pub fn of<'settings>(
        &'settings self,
        service: &'settings Service,
        name: &str,
    ) -> &'settings str {
        match service.overrides.get(name) {
            Some(value) => value,
            None => self.get(name),
        }
    }

    /// The words of a setting that is a list.
    pub fn words(&self, name: &str) -> Vec<&str> {
        tokens(self.get(name)).collect()
    }

    /// The services that take mail from strangers.
    pub fn open_services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(|service| service.is_open())
    }
}

fn postconf(arguments: &[&str]) -> Result<String, PostconfError> {
    let failed = |why: &str| PostconfError {
        arguments: arguments.join(" "),
        why: why.trim().to_owned(),
    };
    let output = run("postconf", arguments).ok_or_else(|| failed("it could not be started"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(&String::from_utf8_lossy(&output.stderr)))
    }
}

/// The settings in an answer of `postconf`, one a line.
pub fn parse(output: &str) -> BTreeMap<String, String> {
    let setting = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    output.lines().filter_map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_may_say_otherwise() {
        let settings = Settings {
            values: parse("soft_bounce = no\nown = a = b\nempty =\n"),
            services: master::parse(
                "smtp       inet  n       -       n       -       -       smtpd -o soft_bounce=yes\n",
                "smtp/inet/soft_bounce = yes\n",
            ),
            map_types: BTreeSet::new(),
        };
        assert_eq!(settings.get("own"), "a = b");
        assert_eq!((settings.get("empty"), settings.get("unknown")), ("", ""));
        let service = settings.services.first().expect("a service");
        assert_eq!(settings.of(service, "soft_bounce"), "yes");
        assert_eq!(settings.of(service, "own"), "a = b");
    }
}
