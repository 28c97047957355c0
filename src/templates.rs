//! The texts that `init` writes: a configuration, and what the gateway is told, from `templates/` with names filled in.
//!
//! Not here: writing and setting anything (`command::init`), and templates that render tables.
//!
//! Invariant: every `{{ name }}` of a text is filled in; what is filled in is not looked at again.

use clap::ValueEnum;

use crate::config::DomainsFrom;
use crate::domain::Domain;

/// What `init` sets up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Postfix: relay_recipient_maps in main.cf
    Postfix,
    /// Proxmox Mail Gateway: a template around its main.cf.in
    Pmg,
    /// Exim: a condition in the ACL of RCPT
    Exim,
    /// OpenSMTPD: a table in smtpd.conf
    Opensmtpd,
    /// Sendmail: the access map
    Sendmail,
    /// Haraka: a plugin
    Haraka,
    /// rspamd: a map (after DATA only; see what it prints)
    Rspamd,
    /// qmail with the patch validrcptto.cdb
    Qmail,
}

impl Target {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Target::Postfix => "postfix",
            Target::Pmg => "pmg",
            Target::Exim => "exim",
            Target::Opensmtpd => "opensmtpd",
            Target::Sendmail => "sendmail",
            Target::Haraka => "haraka",
            Target::Rspamd => "rspamd",
            Target::Qmail => "qmail",
        }
    }

    /// As it is called.
    pub fn title(self) -> &'static str {
        match self {
            Target::Postfix => "Postfix",
            Target::Pmg => "Proxmox Mail Gateway",
            Target::Exim => "Exim",
            Target::Opensmtpd => "OpenSMTPD",
            Target::Sendmail => "Sendmail",
            Target::Haraka => "Haraka",
            Target::Rspamd => "rspamd",
            Target::Qmail => "qmail",
        }
    }

    /// The section of the table, and what the gateway is told.
    fn texts(self) -> (&'static str, &'static str) {
        macro_rules! texts {
            ($name:literal) => {
                (
                    include_str!(concat!("../templates/gateway/", $name, ".toml")),
                    include_str!(concat!("../templates/gateway/", $name, ".txt")),
                )
            };
        }
        match self {
            Target::Postfix => texts!("postfix"),
            Target::Pmg => texts!("pmg"),
            Target::Exim => texts!("exim"),
            Target::Opensmtpd => texts!("opensmtpd"),
            Target::Sendmail => texts!("sendmail"),
            Target::Haraka => texts!("haraka"),
            Target::Rspamd => texts!("rspamd"),
            Target::Qmail => texts!("qmail"),
        }
    }

    /// Where its table lies unless another place is named; without a suffix where the format adds one.
    fn default_path(self) -> &'static str {
        match self {
            Target::Postfix | Target::Pmg | Target::Exim => {
                "/var/lib/rcptsync/tables/relay_recipients"
            }
            Target::Qmail => "/var/lib/rcptsync/tables/validrcptto",
            Target::Sendmail => "/var/lib/rcptsync/tables/access",
            Target::Opensmtpd | Target::Haraka | Target::Rspamd => {
                "/var/lib/rcptsync/tables/recipients"
            }
        }
    }

    /// What it answers to an unknown recipient.
    fn refusal(self) -> &'static str {
        match self {
            Target::Postfix | Target::Pmg => {
                "550 5.1.1 ... Recipient address rejected: User unknown in relay recipient table"
            }
            Target::Exim | Target::Haraka => {
                "550 5.1.1 ... Recipient address rejected: User unknown"
            }
            Target::Sendmail => "550 5.1.1 ... User unknown",
            Target::Opensmtpd => "550 Invalid recipient: ...",
            Target::Rspamd | Target::Qmail => "550 ...",
        }
    }

    /// Whether the table is one that Postfix opens as `type:path`.
    pub fn is_postfix(self) -> bool {
        matches!(self, Target::Postfix | Target::Pmg)
    }
}

/// The names that are filled in; what is missing is made up, and marked where it is to be replaced.
#[derive(Clone, Debug)]
pub struct Names {
    /// Whom to set up.
    pub target: Target,
    /// The directory.
    pub source: SourceNames,
    /// The domains that are relayed.
    pub domains: Vec<Domain>,
    /// Where domains come from beside those.
    pub domains_from: Option<DomainsFrom>,
    /// Local parts that every domain has; `None` for those that every domain should have.
    pub always: Option<Vec<String>>,
    /// Canaries.
    pub must_contain: Vec<String>,
    /// Where the table lies.
    pub table_path: Option<String>,
    /// The type of Postfix that reads the table.
    pub map_type: String,
    /// Whether Postfix may lack the package of that type: nobody can ask it here.
    pub is_package_needed: bool,
    /// How `reject_unlisted_recipient` gets into the restrictions of this Postfix; comments and commands.
    pub restrictions: String,
    /// Files without which a node of PMG must leave the table out.
    pub needed_files: Vec<String>,
}

/// The names of a directory.
#[derive(Clone, Debug, Default)]
pub struct SourceNames {
    /// URLs of its servers.
    pub servers: Vec<String>,
    /// The domain whose controllers DNS names, instead of `servers`.
    pub discover: Option<String>,
    /// Whom to trust, instead of the system's authorities.
    pub ca_file: Option<String>,
    /// Where to search, instead of everywhere.
    pub bases: Vec<String>,
    /// Who asks.
    pub bind: Option<BindNames>,
}

/// Who asks a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindNames {
    /// Nobody.
    Anonymous,
    /// An account with a password.
    Simple {
        /// Its name.
        name: String,
        /// Its password.
        password: SecretNames,
    },
    /// A Kerberos principal.
    Gssapi {
        /// Its name.
        principal: String,
        /// Its keys.
        keytab: SecretNames,
    },
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretNames {
    /// A file that the account of the run reads.
    File(String),
    /// A credential that the unit hands over.
    Credential(String),
}

impl SecretNames {
    /// The line with one of two keys.
    fn line(&self, file_key: &str, credential_key: &str) -> String {
        match self {
            SecretNames::File(path) => format!("{file_key} = {}", quoted(path)),
            SecretNames::Credential(name) => with_comment(
                &format!("{credential_key} = {}", quoted(name)),
                &format!("the unit hands it over: LoadCredential={name}:/etc/rcptsync/{name}"),
            ),
        }
    }
}

impl SourceNames {
    fn servers_lines(&self) -> String {
        if let Some(domain) = &self.discover {
            return with_comment(
                &format!("discover = {}", quoted(domain)),
                "its controllers, as DNS names them at each run",
            );
        }
        if self.servers.is_empty() {
            return with_comment(
                &format!("servers = [\"{MADE_UP_SERVER}\"]"),
                "FILL IN: domain controllers, in the order to ask them",
            );
        }
        let servers = array(self.servers.iter().map(String::as_str));
        if self
            .servers
            .iter()
            .any(|server| server.starts_with("ldaps:"))
        {
            return format!("servers = {servers}");
        }
        let starttls = with_comment("starttls = true", "a password never travels without TLS");
        format!("servers = {servers}\n{starttls}")
    }

    fn ca_file_line(&self) -> String {
        match &self.ca_file {
            Some(path) => format!("ca_file = {}", quoted(path)),
            None => with_comment(
                "# ca_file = \"/etc/rcptsync/corp-ca.pem\"",
                "PEM; where the controllers' certificates come from an authority of yours",
            ),
        }
    }

    fn base_line(&self) -> String {
        match self.bases.is_empty() {
            true => String::new(),
            false => format!("base = {}\n", array(self.bases.iter().map(String::as_str))),
        }
    }

    fn bind_lines(&self) -> String {
        match &self.bind {
            None => [
                "method = \"simple\"".to_owned(),
                with_comment(
                    &format!("name = \"{MADE_UP_ACCOUNT}\""),
                    "FILL IN: an ordinary account without any special right",
                ),
                SecretNames::Credential("corp.password".into()).line("", "credential"),
                with_comment(
                    "# password_file = \"/etc/rcptsync/corp.password\"",
                    "instead of credential, without systemd; mode 0600",
                ),
            ]
            .join("\n"),
            Some(BindNames::Anonymous) => "method = \"anonymous\"".to_owned(),
            Some(BindNames::Simple { name, password }) => format!(
                "method = \"simple\"\nname = {}\n{}",
                quoted(name),
                password.line("password_file", "credential")
            ),
            Some(BindNames::Gssapi { principal, keytab }) => format!(
                "method = \"gssapi\"\nprincipal = {}\n{}",
                quoted(principal),
                keytab.line("keytab", "keytab_credential")
            ),
        }
    }
}

impl Names {
    /// Names of nothing yet.
    pub fn of(target: Target, map_type: String) -> Names {
        Names {
            target,
            source: SourceNames::default(),
            domains: Vec::new(),
            domains_from: None,
            always: None,
            must_contain: Vec::new(),
            table_path: None,
            map_type,
            is_package_needed: false,
            restrictions: String::new(),
            needed_files: Vec::new(),
        }
    }

    /// `type:path`, as main.cf says it.
    pub fn map(&self) -> String {
        format!("{}:{}", self.map_type, self.path())
    }

    /// The path that the configuration says.
    pub fn path(&self) -> &str {
        self.table_path
            .as_deref()
            .unwrap_or(self.target.default_path())
    }

    /// Fills in what a node of PMG needs to open the table.
    #[must_use]
    pub fn with_needed_files(mut self, library: Option<String>) -> Names {
        self.needed_files = std::iter::once(self.file()).chain(library).collect();
        self
    }

    /// Every domain in both its forms, as `relay_domains` needs them.
    pub fn domain_forms(&self) -> Vec<&str> {
        let mut forms = Vec::new();
        for domain in &self.domains {
            forms.push(domain.ascii());
            if domain.unicode() != domain.ascii() {
                forms.push(domain.unicode());
            }
        }
        if forms.is_empty() {
            forms.push(MADE_UP_DOMAIN);
        }
        forms
    }

    fn some_domain(&self) -> &str {
        self.domains.first().map_or(MADE_UP_DOMAIN, Domain::ascii)
    }

    /// The file that the gateway opens.
    fn file(&self) -> String {
        let suffix = match self.target {
            Target::Exim | Target::Qmail => ".cdb",
            Target::Postfix | Target::Pmg => suffix_of(&self.map_type),
            Target::Opensmtpd | Target::Sendmail | Target::Haraka | Target::Rspamd => "",
        };
        format!("{}{suffix}", self.path())
    }

    /// The lines of `[domains]`.
    fn domains_lines(&self) -> String {
        let from = match self.domains_from {
            Some(DomainsFrom::Exchange) => Some(
                "# The accepted domains of Exchange; `list` names others in addition.\nfrom = \"exchange\"",
            ),
            Some(DomainsFrom::Postfix) => Some(
                "# The relay domains of this Postfix; `list` names others in addition.\nfrom = \"postfix\"",
            ),
            // PMG asks for its relay domains in its own interface; they are not to be entered twice.
            None if self.target == Target::Pmg && self.domains.is_empty() => Some(
                "# The relay domains that PMG knows (/etc/pmg/domains); `list` names others in addition.\n\
                 from = \"postfix\"",
            ),
            None => None,
        };
        let list = match self.domains.is_empty() {
            false => Some(format!(
                "list = {}",
                array(self.domains.iter().map(Domain::unicode))
            )),
            true if from.is_some() => None,
            true => Some(with_comment(
                &format!("list = [\"{MADE_UP_DOMAIN}\"]"),
                "FILL IN",
            )),
        };
        let explained = "# Rows exist for these domains only; an international one in either form.";
        let lines = [Some(from.unwrap_or(explained).to_owned()), list];
        lines.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    fn always_value(&self) -> String {
        match &self.always {
            Some(always) => array(always.iter().map(String::as_str)),
            None => array(EVERY_DOMAIN_HAS.into_iter()),
        }
    }

    fn must_contain_line(&self) -> String {
        if self.must_contain.is_empty() {
            let canary = quoted(&format!("helpdesk@{}", self.some_domain()));
            return format!("# must_contain = [{canary}]");
        }
        let canaries = array(self.must_contain.iter().map(String::as_str));
        format!("must_contain = {canaries}")
    }

    fn package_line(&self) -> &'static str {
        if self.is_package_needed {
            "\n# On Debian and RHEL the type cdb comes in a package of its own: postfix-cdb. Install it before step 2.\n"
        } else if self.map_type != "cdb" {
            "\n# This Postfix has no cdb (package postfix-cdb), which is written without postmap. Where it can be installed, do\n\
             # so and run this again.\n"
        } else {
            ""
        }
    }

    /// Every name that a text may ask for.
    fn values(&self) -> Vec<(&'static str, String)> {
        let forms = self.domain_forms();
        let needed: Vec<String> = self
            .needed_files
            .iter()
            .map(|file| format!("'{file}'"))
            .collect();
        let quoted_domains: Vec<String> = forms.iter().map(|form| format!("'{form}'")).collect();
        vec![
            ("target", self.target.name().to_owned()),
            ("gateway", self.target.title().to_owned()),
            ("domains", self.domains_lines()),
            ("domain", self.some_domain().to_owned()),
            ("quoted_domain", quoted(self.some_domain())),
            ("must_contain", self.must_contain_line()),
            ("servers", self.source.servers_lines()),
            ("ca_file", self.source.ca_file_line()),
            ("base", self.source.base_line()),
            ("bind", self.source.bind_lines()),
            ("always", self.always_value()),
            ("quoted_path", quoted(self.path())),
            ("file", self.file()),
            ("map", self.map()),
            ("map_type", self.map_type.clone()),
            ("package", self.package_line().to_owned()),
            ("restrictions", self.restrictions.clone()),
            ("relay_domains", forms.join(", ")),
            ("colon_domains", forms.join(" : ")),
            ("line_domains", forms.join("\n")),
            ("quoted_domains", quoted_domains.join(", ")),
            ("needed", needed.join(", ")),
            ("refusal", self.target.refusal().to_owned()),
        ]
    }
}

const MADE_UP_DOMAIN: &str = "example.com";
const MADE_UP_SERVER: &str = "ldaps://dc1.corp.example";
const MADE_UP_ACCOUNT: &str = "rcptsync@corp.example";

/// RFC 5321 section 4.5.1 and RFC 2142: mail to these must not be refused.
pub const EVERY_DOMAIN_HAS: [&str; 2] = ["postmaster", "abuse"];

/// What Postfix appends to the path of a table of this type.
pub fn suffix_of(map_type: &str) -> &'static str {
    match map_type {
        "cdb" => ".cdb",
        "lmdb" => ".lmdb",
        _ => ".db",
    }
}

/// The configuration.
pub fn configuration(names: &Names) -> String {
    let mut values = names.values();
    let (table, _) = names.target.texts();
    values.push(("table", fill(table.trim_end(), &values)));
    let is_made_up = values.iter().any(|(_, value)| value.contains("# FILL IN"));
    let fill_in = match is_made_up {
        true => "# A line that says FILL IN holds a made-up name: put your own.\n",
        false => "",
    };
    values.push(("fill_in", fill_in.to_owned()));
    fill(include_str!("../templates/rcptsync.toml"), &values)
}

/// A line, and what it is, in one column.
fn with_comment(line: &str, comment: &str) -> String {
    format!("{line:<48} # {comment}")
}

/// What the gateway is told, for people: comments, lines, commands.
pub fn gateway(names: &Names) -> String {
    let mut values = names.values();
    let dialogue = include_str!("../templates/gateway/dialogue.txt");
    values.push(("dialogue", fill(dialogue.trim_end(), &values)));
    let (_, text) = names.target.texts();
    fill(text, &values)
}

/// The template that PMG is given instead of its packaged one, which it wraps.
pub fn pmg_override(names: &Names) -> String {
    let text = include_str!("../templates/gateway/pmg.main.cf.in");
    fill(text, &names.values())
}

/// Puts values in the place of `{{ name }}`. A name that is not known stays, and the tests look for that.
pub fn fill(text: &str, values: &[(&'static str, String)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("{{ ") {
        filled.push_str(before);
        let known = behind.split_once(" }}").and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, after))
        });
        match known {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push_str("{{ ");
                rest = behind;
            }
        }
    }
    filled.push_str(rest);
    filled
}

/// A text of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn array<'text>(texts: impl Iterator<Item = &'text str>) -> String {
    let texts: Vec<String> = texts.map(quoted).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(target: Target) -> Names {
        Names::of(target, "cdb".to_owned())
    }

    #[test]
    fn every_name_of_every_text_is_filled_in() {
        for target in Target::value_variants() {
            let names = names(*target);
            for text in [configuration(&names), gateway(&names), pmg_override(&names)] {
                assert!(!text.contains("{{ "), "{target:?}: {text}");
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_looked_at_again() {
        let values = [("a", "{{ b }}".to_owned()), ("b", "x".to_owned())];
        assert_eq!(
            fill("{{ a }} {{ b }} {{ c }}", &values),
            "{{ b }} x {{ c }}"
        );
    }
}
