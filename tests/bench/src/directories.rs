//! The sources that are read: an OpenLDAP server whose database is kept between runs, an LDIF export, and a controller
//! with DirSync that lives in this process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ldap_server::{Directory, Server};

use crate::common::process::command;
use crate::common::slapd::{ACCOUNT, Kept, Slapd};
use crate::recipients::{self, BASE, Recipient, units};

/// The default filter, which all sides use.
pub const FILTER: &str = "(proxyAddresses=smtp:*)";

/// What rcptsync asks for, and so all sides.
pub const ATTRIBUTES: [&str; 4] = [
    "proxyAddresses",
    "objectGUID",
    "msExchRecipientTypeDetails",
    "msExchRequireAuthToSendTo",
];

/// The version of what `recipients` makes; to be raised with every change of it.
const RECIPIENTS_VERSION: u32 = 1;

/// A million recipients need 2 GiB.
const DATABASE_BYTES_MAX: u64 = 64 << 30;

const ADMINISTRATOR: &str = "cn=admin,DC=corp,DC=example";
const ADMINISTRATOR_PASSWORD: &str = "Adm!npassw0rd";

/// A server with so many recipients.
pub struct OpenLdap {
    slapd: Slapd,
}

impl OpenLdap {
    /// Starts it; fills it when that was not done before.
    pub fn start(work: &Path, count: u64) -> OpenLdap {
        let kept = Kept {
            directory: &work.join(format!("slapd-{count}")),
            version: &format!("recipients {RECIPIENTS_VERSION}"),
            bytes_max: DATABASE_BYTES_MAX,
            // Without TLS only anonymous clients are measured, for whom the limits of an account hold as well. No more
            // indexes: every entry but the units matches the filter, so walking all of them is the best plan.
            more: &format!(
                "limits anonymous size.soft=1000 size.hard=1000 size.pr=1000 size.prtotal=unlimited\n\
                 rootdn \"{ADMINISTRATOR}\"\nrootpw {ADMINISTRATOR_PASSWORD}\n"
            ),
        };
        let slapd = Slapd::start_kept(&kept, |ldif| {
            let mut text = String::new();
            for unit in units() {
                recipients::push_line(&mut text, "dn", &unit);
                text.push_str("objectClass: organizationalUnit\n\n");
            }
            for recipient in recipients::first(count) {
                recipient.push_entry(&mut text);
                ldif.write_all(text.as_bytes())?;
                text.clear();
            }
            Ok(())
        });
        OpenLdap { slapd }
    }

    /// The source in clear. A password never travels so; thus without an account.
    pub fn source_in_clear(&self) -> String {
        format!(
            "kind = \"ldap\"\nservers = [\"{}\"]\nbase = [\"{BASE}\"]\n\
             [source.corp.bind]\nmethod = \"anonymous\"\n",
            self.slapd.ldap_url()
        )
    }

    /// The source over LDAPS, with an account.
    pub fn source_over_tls(&self) -> String {
        format!(
            "kind = \"ldap\"\nservers = [\"{}\"]\nbase = [\"{BASE}\"]\nca_file = \"{}\"\n\
             [source.corp.bind]\nmethod = \"simple\"\nname = \"{ACCOUNT}\"\npassword_file = \"{}\"\n",
            self.slapd.ldaps_url(),
            self.slapd.ca_file().display(),
            self.slapd.password_file().display()
        )
    }

    /// Where peers read in clear.
    pub fn url(&self) -> String {
        self.slapd.ldap_url()
    }

    /// `ldapsearch` of the same entries, in clear or over LDAPS.
    pub fn ldapsearch(&self, is_over_tls: bool) -> Command {
        let mut ldapsearch = if is_over_tls {
            self.slapd.ldap_tool("ldapsearch")
        } else {
            let mut ldapsearch = command("ldapsearch");
            ldapsearch.args(["-x", "-H", &self.url()]);
            ldapsearch
        };
        ldapsearch
            .args(["-b", BASE, "-LLL", "-E", "pr=1000/noprompt", FILTER])
            .args(ATTRIBUTES);
        ldapsearch
    }

    /// Gives a recipient its own addresses, and perhaps one more.
    pub fn change(&self, recipient: &Recipient, one_more: Option<&str>) {
        let mut change = String::new();
        recipients::push_line(&mut change, "dn", &recipient.dn());
        change.push_str("changetype: modify\nreplace: proxyAddresses\n");
        let more = one_more.map(|address| format!("smtp:{address}"));
        for value in recipient.proxy_addresses().into_iter().chain(more) {
            recipients::push_line(&mut change, "proxyAddresses", &value);
        }
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), change).expect("a file of our own");
        crate::common::process::succeed(
            command("ldapmodify")
                .args(["-x", "-H", &self.url(), "-D", ADMINISTRATOR])
                .args(["-w", ADMINISTRATOR_PASSWORD, "-f"])
                .arg(file.path()),
        );
    }
}

/// An export of so many recipients, at least ten seconds old: an export that was just written counts as unfinished.
pub fn export(work: &Path, count: u64) -> PathBuf {
    let file = work.join(format!("export-{count}-{RECIPIENTS_VERSION}.ldif"));
    if !file.exists() {
        let unfinished = file.with_extension("unfinished");
        let mut writer =
            std::io::BufWriter::new(std::fs::File::create(&unfinished).expect("a file of our own"));
        let mut text = String::new();
        for recipient in recipients::first(count) {
            recipient.push_export(&mut text);
            writer.write_all(text.as_bytes()).expect("space");
            text.clear();
        }
        writer.flush().expect("space");
        std::fs::rename(&unfinished, &file).expect("a file of our own");
    }
    let written = std::fs::metadata(&file).and_then(|metadata| metadata.modified());
    let age = written.expect("a time").elapsed().unwrap_or_default();
    let settled = rcptsync::source::file::SETTLED + Duration::from_secs(1);
    std::thread::sleep(settled.saturating_sub(age));
    file
}

/// The source of an export. How old it is is not what is measured.
pub fn export_source(file: &Path) -> String {
    format!(
        "kind = \"ldif\"\npath = \"{}\"\nmax_age = \"1000d\"\n",
        file.display()
    )
}

/// A controller with so many recipients in this process, for what OpenLDAP has not and Samba cannot hold.
pub struct Controller {
    server: Server,
}

impl Controller {
    /// Starts it.
    pub fn start(count: u64) -> Controller {
        let mut directory = Directory::new(BASE)
            .usn(100_000)
            .invocation_id([7; 16])
            .sees_deletions();
        for recipient in recipients::first(count) {
            let addresses = recipient.proxy_addresses().into_iter();
            let text = |text: String| vec![text.into_bytes()];
            let mut attributes = vec![
                ("objectGUID".to_owned(), vec![recipient.guid().to_vec()]),
                (
                    "proxyAddresses".to_owned(),
                    addresses.map(String::into_bytes).collect(),
                ),
                (
                    "msExchRecipientTypeDetails".to_owned(),
                    text(recipient.recipient_type().to_string()),
                ),
            ];
            if recipient.is_internal_only() {
                attributes.push(("msExchRequireAuthToSendTo".to_owned(), text("TRUE".into())));
            }
            directory = directory.raw_entry(recipient.dn().as_bytes(), attributes);
        }
        Controller {
            server: Server::start(directory),
        }
    }

    /// The source, followed with DirSync. Pages are large because the server looks at all entries for each.
    pub fn source(&self) -> String {
        format!(
            "kind = \"ldap\"\nservers = [\"{}\"]\nincremental = \"dirsync\"\npage_size = 100000\n\
             [source.corp.bind]\nmethod = \"anonymous\"\n",
            self.server.url()
        )
    }

    /// Gives a recipient its own addresses and one more.
    pub fn change(&self, recipient: &Recipient, one_more: &str) {
        let mut values = recipient.proxy_addresses();
        values.push(format!("smtp:{one_more}"));
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let dn = recipient.dn();
        self.server
            .change(|directory| directory.changed(&dn, "proxyAddresses", &values));
    }
}
