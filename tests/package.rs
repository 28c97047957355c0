//! The Debian package from its script to its purge: installed on a machine that systemd has booted, configured as the README
//! says, run by its unit and its timer beside that machine's own slapd and Postfix, upgraded, removed, and installed again.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::certificates::Authority;
use common::machine::Machine;
use common::{SERVER_DEADLINE, poll_until, process, require, set_mode, temp_dir};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Asks the machine's own Postfix, from its shell; prints the answer to RCPT TO.
const RCPT: &str = r#"#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/25
read -r answer <&3
for line in 'HELO client.example' 'MAIL FROM:<sender@client.example>' "RCPT TO:<$1>"; do
  printf '%s\r\n' "$line" >&3
  read -r answer <&3
done
printf 'QUIT\r\n' >&3
echo "${answer%$'\r'}"
"#;

const PASSWORD: &str = "a password, and not a short one";

/// Somebody with an address, as LDIF; `number` is two digits of Base64.
fn person(name: &str, number: &str) -> String {
    format!(
        "dn: CN={name},DC=corp,DC=example\nobjectClass: user\ncn: {name}\n\
         proxyAddresses: SMTP:{name}@example.com\nobjectGUID:: AAAAAAAAAAAAAAAAAAAA{number}==\n\n"
    )
}

/// What the directory begins with: its top, the account of the program, and two people.
fn company() -> String {
    format!(
        "dn: DC=corp,DC=example\nobjectClass: domain\ndc: corp\n\n\
         dn: cn=sync,DC=corp,DC=example\nobjectClass: person\ncn: sync\nsn: sync\nuserPassword: {PASSWORD}\n\n{}{}",
        person("anna", "AA"),
        person("bob", "AQ")
    )
}

/// The keys that the README's steps leave to the administrator, and more of what a run meets in the sandbox: domains
/// from postconf, a table that postmap builds, and a hook.
const CONFIGURATION: &str = r#"
state_dir = "/var/lib/rcptsync/state"
[domains]
from = "postfix"
[source.corp]
kind = "ldap"
servers = ["ldaps://dc1.corp.example"]
base = ["DC=corp,DC=example"]
ca_file = "/etc/rcptsync/corp-ca.pem"
[source.corp.bind]
method = "simple"
name = "cn=sync,DC=corp,DC=example"
credential = "corp.password"
[recipients]
always = ["postmaster"]
[table.relay_recipients]
path = "/var/lib/rcptsync/tables/relay_recipients"
formats = ["text", "cdb", "hash"]
[[hook]]
name = "tell"
run = ["/bin/sh", "-c", ": > /tmp/hook && ! mkdir /etc/hook 2>/dev/null"]
"#;

/// A gateway on which the package can be installed.
struct Gateway {
    machine: Machine,
}

impl Gateway {
    /// Boots it, with a directory and a Postfix that serve it.
    fn boot() -> Option<Gateway> {
        let machine = Machine::boot("package")?;
        let directory = temp_dir("package-tls");
        let authority = Authority::new(directory.path(), "Authority of the company");
        let certificate = authority.issue("dc1.corp.example", IpAddr::V4(Ipv4Addr::LOCALHOST));
        machine.succeed(
            "mkdir -p /srv/directory/database; echo 127.0.0.1 dc1.corp.example >>/etc/hosts",
        );
        machine.copy(&authority.file(), "/srv/directory/ca.pem");
        machine.copy(&certificate.certificate_file, "/srv/directory/server.pem");
        machine.copy(&certificate.key_file, "/srv/directory/server.key");
        machine.write(
            "/srv/directory/active-directory.schema",
            include_str!("cases/schema/openldap.schema"),
        );
        machine.write(
            "/srv/directory/slapd.conf",
            "modulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\ninclude /srv/directory/active-directory.schema\n\
             TLSCACertificateFile /srv/directory/ca.pem\n\
             TLSCertificateFile /srv/directory/server.pem\nTLSCertificateKeyFile /srv/directory/server.key\n\
             database mdb\nsuffix \"DC=corp,DC=example\"\ndirectory /srv/directory/database\n\
             rootdn cn=root,DC=corp,DC=example\nrootpw secret\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=\"cn=sync,DC=corp,DC=example\" read by * none\n",
        );
        machine.write("/srv/directory/company.ldif", company());
        machine.write("/usr/local/bin/rcpt", RCPT);
        set_mode(&machine.path("/usr/local/bin/rcpt"), 0o755);
        machine.succeed(
            "slapadd -q -f /srv/directory/slapd.conf -l /srv/directory/company.ldif
             systemd-run -q --unit=directory -p RuntimeDirectory=slapd slapd -d 0 -f /srv/directory/slapd.conf -h 'ldaps:/// ldapi:///'
             postconf -e inet_interfaces=loopback-only relay_domains=example.com
             systemctl start postfix
             until ldapwhoami -H ldapi:/// -x >/dev/null; do :; done",
        );
        Some(Gateway { machine })
    }

    fn install(&self, package: &Path) -> String {
        self.machine.copy(package, "/root/rcptsync.deb");
        // As `apt install` in an unattended upgrade: a file that was edited is kept.
        self.machine.succeed(
            "DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold -i /root/rcptsync.deb 2>&1 </dev/null",
        )
    }

    /// Fails unless Postfix answers so.
    #[track_caller]
    fn check(&self, address: &str, answer: &str) {
        let said = self.machine.succeed(&format!("rcpt {address}"));
        assert!(said.starts_with(answer), "{address}: {said}");
    }

    /// Fails unless a script prints this; its lines are joined.
    #[track_caller]
    fn says(&self, script: &str, expected: &str) {
        let said = self.machine.succeed(script);
        assert_eq!(said.trim_end().replace('\n', "; "), expected, "{script}");
    }
}

/// Runs a command of this machine that must succeed; gives what it said.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}",
        output.status
    );
    said
}

/// Packs the program under test as a release would be packed.
fn pack(arguments: &[&str], directory: &Path) {
    succeed(
        Command::new(Path::new(ROOT).join("contrib/package/build"))
            .args(["--fast", "--binary", env!("CARGO_BIN_EXE_rcptsync")])
            .args(arguments)
            .arg(directory)
            .env("PATH", process::search_path()),
    );
}

fn build(directory: &Path) -> PathBuf {
    pack(&["--version", "0.1.0-1", "--output"], directory);
    directory.join("rcptsync_0.1.0-1_amd64.deb")
}

/// The RPM is laid out from the same trees, with the places of its own world.
fn the_rpm_holds_the_same(deb: &Path, directory: &Path) {
    pack(&["--rpm", "--version", "0.1.0-1", "--output"], directory);
    let rpm = directory.join("x86_64/rcptsync-0.1.0-1.x86_64.rpm");
    let query = |what: &str| succeed(Command::new("rpm").args(["-qp", what]).arg(&rpm));
    let places = [
        "/etc/rcptsync/",
        "/usr/bin/",
        "/usr/libexec/",
        "/usr/lib/sys",
        "/usr/lib/tmp",
        "/usr/share/",
    ];
    let documents = [
        "/usr/share/doc/",
        "/usr/share/licenses/",
        "/usr/share/lintian/",
    ];
    let installed = |listed: &str| {
        // Of `dpkg -c` the last word, which begins with a dot.
        let words = listed.lines().filter_map(|line| line.rsplit(' ').next());
        let lines = words.map(|path| path.trim_start_matches('.'));
        let counts = |path: &&str| {
            let is_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
            is_in(&places) && !is_in(&documents) && !path.ends_with('/')
        };
        let zsh = |path: &str| path.replace("vendor-completions", "site-functions");
        lines.filter(counts).map(zsh).collect::<BTreeSet<String>>()
    };
    let expected = installed(&succeed(Command::new("dpkg").arg("-c").arg(deb)));
    assert!(
        expected.contains("/usr/lib/systemd/system/rcptsync.timer"),
        "{expected:?}"
    );
    assert_eq!(installed(&query("-l")), expected);
    assert_eq!(query("-c"), "/etc/rcptsync/rcptsync.toml\n");
}

/// The next package, which comes with another default.
fn successor(package: &Path, directory: &Path) -> PathBuf {
    let tree = directory.join("tree");
    succeed(Command::new("dpkg-deb").arg("-R").arg(package).arg(&tree));
    let edit = |name: &str, edit: &dyn Fn(String) -> String| {
        let path = tree.join(name);
        let text = std::fs::read_to_string(&path).expect("a file of the package");
        std::fs::write(path, edit(text)).expect("written");
    };
    edit("DEBIAN/control", &|text| {
        text.replace("Version: 0.1.0-1", "Version: 0.2.0-1")
    });
    edit("etc/rcptsync/rcptsync.toml", &|text| {
        text + "# A new key.\n"
    });
    let next = directory.join("next.deb");
    succeed(
        Command::new("dpkg-deb")
            .args(["-Zgzip", "-z1", "-b"])
            .arg(&tree)
            .arg(&next),
    );
    next
}

#[test]
fn a_gateway_from_installation_to_purge() {
    if !(require("cargo-deb") && require("lintian") && require("rpmbuild")) {
        return;
    }
    let Some(gateway) = Gateway::boot() else {
        return;
    };
    let directory = temp_dir("package");
    let package = build(directory.path());
    let complaints = succeed(
        Command::new("lintian")
            .args(["--allow-root", "--fail-on=error,warning"])
            .arg(&package),
    );
    assert!(
        !complaints.contains("W: ") && !complaints.contains("E: "),
        "{complaints}"
    );

    the_rpm_holds_the_same(&package, directory.path());
    installed_and_off(&gateway, &package);
    configured_and_run(&gateway);
    by_the_timer(&gateway);
    told_to_reload(&gateway);
    upgraded(&gateway, &successor(&package, directory.path()));
    removed_and_back(&gateway, &package);
    purged(&gateway, &package);
}

fn installed_and_off(gateway: &Gateway, package: &Path) {
    let said = gateway.install(package);
    assert!(
        said.contains("rcptsync is off until it is configured"),
        "{said}"
    );
    let shell = "getent passwd rcptsync | cut -d: -f6,7; passwd -S rcptsync | cut -d' ' -f2";
    gateway.says(shell, "/var/lib/rcptsync:/usr/sbin/nologin; L");
    gateway.says(
        "cd /; stat -c '%n %U:%G %a' etc/rcptsync etc/rcptsync/* var/lib/rcptsync var/lib/rcptsync/state var/lib/rcptsync/tables",
        "etc/rcptsync root:root 755; etc/rcptsync/rcptsync.toml root:root 644; var/lib/rcptsync root:root 755; \
         var/lib/rcptsync/state rcptsync:rcptsync 700; var/lib/rcptsync/tables rcptsync:rcptsync 755",
    );
    let units = "systemctl is-enabled rcptsync.timer || true; systemctl is-active rcptsync.timer rcptsync.service || true";
    gateway.says(units, "disabled; inactive; inactive");
    gateway.says("dpkg --verify rcptsync", "");

    gateway.says(
        "man -P cat 1 rcptsync | grep -c '^NAME'; man -P cat 5 rcptsync.toml | grep -c '^NAME'",
        "1; 1",
    );
    let completion =
        ". /usr/share/bash-completion/completions/rcptsync; complete -p rcptsync >/dev/null";
    gateway.machine.succeed(&format!("bash -c '{completion}'"));
    let check = gateway.machine.run("rcptsync check");
    let told = String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(78), "{told}");
    for missing in ["domains: missing", "source: missing", "table: missing"] {
        assert!(told.contains(missing), "{told}");
    }
    gateway.machine.succeed(
        "cd /usr/lib/systemd/system && systemd-analyze verify rcptsync.service rcptsync.timer",
    );
}

fn configured_and_run(gateway: &Gateway) {
    let machine = &gateway.machine;
    machine.write("/etc/rcptsync/rcptsync.toml", CONFIGURATION);
    machine.succeed("cp /srv/directory/ca.pem /etc/rcptsync/corp-ca.pem; rcptsync check");

    // Forgotten: the run says so, and not systemd with a number.
    assert!(
        !machine
            .run("systemctl start rcptsync.service")
            .status
            .success()
    );
    let journal = machine.succeed("journalctl -o cat -u rcptsync.service");
    assert!(journal.contains("holds no password"), "{journal}");

    machine.write("/etc/rcptsync/corp.password", PASSWORD);
    machine.succeed("chmod 0600 /etc/rcptsync/corp.password");
    // By hand, as the unit would.
    let by_hand = "systemd-run --quiet --pipe --wait --collect --uid=rcptsync \
                   --property=LoadCredential=corp.password:/etc/rcptsync/corp.password rcptsync";
    let diff = machine.run(&format!("{by_hand} diff"));
    let shown = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(
        diff.status.code(),
        Some(2),
        "{shown}{}",
        String::from_utf8_lossy(&diff.stderr)
    );
    assert!(shown.contains("anna@example.com"), "{shown}");

    machine.succeed(
        "systemctl start rcptsync.service || { journalctl -o cat -u rcptsync.service; false; }",
    );
    gateway.says(
        "cd /var/lib/rcptsync/tables; stat -c '%n %U:%G %a' *",
        "relay_recipients rcptsync:rcptsync 644; relay_recipients.cdb rcptsync:rcptsync 644; \
         relay_recipients.db rcptsync:rcptsync 644",
    );
    for map in ["cdb", "hash"] {
        gateway.says(
            &format!("postmap -q anna@example.com {map}:/var/lib/rcptsync/tables/relay_recipients"),
            "OK",
        );
    }
    // The hook's own files are not those of the machine.
    assert!(!machine.path("/tmp/hook").exists());
    machine.succeed(
        "postconf -e relay_recipient_maps=cdb:/var/lib/rcptsync/tables/relay_recipients && postfix reload",
    );
    gateway.check("anna@example.com", "250 ");
    gateway.check("postmaster@example.com", "250 ");
    gateway.check("nobody@example.com", "550 5.1.1 ");

    let security = machine.succeed("systemd-analyze security --no-pager rcptsync.service");
    let exposure = security
        .lines()
        .rev()
        .find_map(|line| line.split("rcptsync.service: ").nth(1));
    let exposure: f32 = exposure
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .expect("a figure");
    assert!(exposure < 1.5, "{security}");
}

fn by_the_timer(gateway: &Gateway) {
    let machine = &gateway.machine;
    // Faster than it comes.
    machine.write(
        "/etc/systemd/system/rcptsync.timer.d/fast.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=100ms\n",
    );
    machine.succeed("systemctl daemon-reload; systemctl enable --now rcptsync.timer");
    joins(gateway, "carla", "Ig");
}

/// Somebody new comes into the directory, and the timer brings him to Postfix.
#[track_caller]
fn joins(gateway: &Gateway, name: &str, number: &str) {
    gateway.check(&format!("{name}@example.com"), "550 5.1.1 ");
    let entry = person(name, number);
    gateway.machine.succeed(&format!(
        "ldapadd -H ldapi:/// -x -D cn=root,DC=corp,DC=example -w secret <<'LDIF'\n{entry}LDIF"
    ));
    poll_until(SERVER_DEADLINE, "the timer brings it", || {
        gateway
            .machine
            .succeed(&format!("rcpt {name}@example.com"))
            .starts_with("250 ")
            .then_some(())
    });
}

/// The example among the documents, for a table that smtpd reads once.
fn told_to_reload(gateway: &Gateway) {
    let units = "cp /usr/share/doc/rcptsync/examples/systemd/rcptsync-reload.* /etc/systemd/system/; \
                 systemctl daemon-reload; systemctl enable --now rcptsync-reload.path";
    gateway.machine.succeed(units);
    // An smtpd that lives for ever.
    let table = "/var/lib/rcptsync/tables/relay_recipients";
    let settings =
        "relay_recipient_maps=texthash:TABLE max_use=1000000 max_idle=1d".replace("TABLE", table);
    gateway
        .machine
        .succeed(&format!("postconf -e {settings} && postfix reload"));
    joins(gateway, "finn", "Ug");
    let before = format!("relay_recipient_maps=cdb:{table}");
    gateway.machine.succeed(&format!(
        "systemctl disable --now rcptsync-reload.path; postconf -e {before} && postfix reload"
    ));
}

fn upgraded(gateway: &Gateway, next: &Path) {
    gateway.install(next);
    gateway.says("dpkg-query -W -f '${Version}\\n' rcptsync", "0.2.0-1");
    let configuration =
        std::fs::read_to_string(gateway.machine.path("/etc/rcptsync/rcptsync.toml"));
    assert_eq!(configuration.expect("it is there"), CONFIGURATION);
    gateway.says(
        "systemctl is-enabled rcptsync.timer; systemctl is-active rcptsync.timer",
        "enabled; active",
    );
    joins(gateway, "dora", "Mg");
    // What was known before is still known.
    let history = gateway.machine.succeed("rcptsync history");
    assert!(
        history
            .lines()
            .filter(|line| line.contains("relay_recipients"))
            .count()
            >= 3,
        "{history}"
    );
}

fn removed_and_back(gateway: &Gateway, package: &Path) {
    let said = gateway.machine.succeed("dpkg -r rcptsync 2>&1");
    assert!(
        said.contains("the tables in /var/lib/rcptsync/tables stay"),
        "{said}"
    );
    gateway.says("systemctl is-active rcptsync.timer || systemctl is-enabled rcptsync.timer || ls /usr/bin/rcptsync || true", "inactive; masked");
    gateway.says(
        "ls /etc/rcptsync; ls /var/lib/rcptsync/state | grep -q . && echo state",
        "corp-ca.pem; corp.password; rcptsync.toml; rcptsync.toml.dpkg-dist; state",
    );
    gateway.check("dora@example.com", "250 ");
    gateway.check("nobody@example.com", "550 5.1.1 ");
    // The older one, in that.
    gateway.install(package);
    gateway.says("systemctl is-enabled rcptsync.timer", "enabled");
    gateway
        .machine
        .succeed("rcptsync verify && systemctl start rcptsync.timer");
    joins(gateway, "emil", "Qg");
}

fn purged(gateway: &Gateway, package: &Path) {
    let said = gateway.machine.succeed("dpkg -P rcptsync 2>&1");
    assert!(
        said.contains("the tables in /var/lib/rcptsync/tables stay"),
        "{said}"
    );
    gateway.says(
        "ls -d /etc/rcptsync /var/lib/rcptsync/* /etc/systemd/system/*/rcptsync* 2>/dev/null || true; systemctl --failed --no-legend",
        "/var/lib/rcptsync/tables",
    );
    gateway.check("emil@example.com", "250 ");
    gateway.check("nobody@example.com", "550 5.1.1 ");
    gateway.install(package);
    gateway.says("systemctl is-enabled rcptsync.timer || true", "disabled");
}
