//! The services of master.cf, from what `postconf -M` and `postconf -Px` print.

use std::collections::BTreeMap;

/// One service that runs smtpd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its first field: `smtp`, `127.0.0.1:10025`.
    pub name: String,
    /// Its second field: `inet`, `pass`.
    pub kind: String,
    /// What it says otherwise than main.cf.
    pub overrides: BTreeMap<String, String>,
}

/// Where clients log in first; whoever does is no stranger.
const SUBMISSION: [&str; 5] = ["submission", "submissions", "smtps", "587", "465"];
const LOOPBACK: [&str; 4] = ["127.", "[127.", "[::1]", "localhost"];

impl Service {
    /// Whether strangers reach it: not only this machine, and not only those who log in. (`pass` is what postscreen hands
    /// its clients to.)
    pub fn is_open(&self) -> bool {
        let (host, port) = match self.name.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("", self.name.as_str()),
        };
        matches!(self.kind.as_str(), "inet" | "pass")
            && !SUBMISSION.contains(&port)
            && !LOOPBACK.iter().any(|start| host.starts_with(start))
    }

    /// As `postconf -P` names it.
    pub fn path(&self) -> String {
        format!("{}/{}", self.name, self.kind)
    }
}

/// The services that run smtpd, from the answers to both questions.
pub fn parse(services: &str, overrides: &str) -> Vec<Service> {
    let mut found: Vec<Service> = services.lines().filter_map(service).collect();
    for line in overrides.lines() {
        let Some((place, value)) = line.split_once('=') else {
            continue;
        };
        // A name may hold slashes, a parameter none.
        let Some((service, parameter)) = place.trim().rsplit_once('/') else {
            continue;
        };
        for known in found.iter_mut().filter(|known| known.path() == service) {
            let value = value.trim().to_owned();
            known.overrides.insert(parameter.to_owned(), value);
        }
    }
    found
}

fn service(line: &str) -> Option<Service> {
    let mut fields = line.split_whitespace();
    let name = fields.next()?.to_owned();
    let kind = fields.next()?.to_owned();
    (fields.nth(5)? == "smtpd").then_some(Service {
        name,
        kind,
        overrides: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_strangers_reach() {
        let services = "\
smtp       inet  n       -       n       -       1       postscreen
smtpd      pass  -       -       y       -       -       smtpd
127.0.0.1:10025 inet n   -       y       -       -       smtpd
[::1]:smtp inet n        -       y       -       -       smtpd
submission inet n        -       y       -       -       smtpd -o syslog_name=postfix/submission
192.0.2.1:465 inet n     -       y       -       -       smtpd
[2001:db8::1]:25 inet n  -       y       -       -       smtpd -o soft_bounce=yes
cleanup    unix  n       -       n       -       0       cleanup
";
        let overrides = "submission/inet/syslog_name = postfix/submission\n[2001:db8::1]:25/inet/soft_bounce = yes\n\
                         127.0.0.1:10025/inet/relay_recipient_maps =\n";
        let found = parse(services, overrides);
        assert_eq!(found.len(), 6);
        let open: Vec<String> = found
            .iter()
            .filter(|service| service.is_open())
            .map(Service::path)
            .collect();
        assert_eq!(open, ["smtpd/pass", "[2001:db8::1]:25/inet"]);
        let said = |number: usize| found.get(number).map(|service| &service.overrides);
        assert_eq!(
            said(5).and_then(|said| said.get("soft_bounce")),
            Some(&"yes".to_owned())
        );
        assert_eq!(
            said(1).and_then(|said| said.get("relay_recipient_maps")),
            Some(&String::new())
        );
    }
}
