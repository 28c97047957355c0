//! PMG's main.cf, from the template that `init pmg` installs: rendered by the real Template Toolkit as PMG calls it, read by
//! the real postconf, answered by a real smtpd behind a policy service that greylists.
//!
//! The packaged template is `tests/cases/pmg/main.cf.in`, of PMG's shape, or the file that `RCPTSYNC_TEST_PMG_TEMPLATE` names:
//! PMG's own. Not here: PMG itself.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::postfix::{self, Gateway, Instance};
use common::process::{command, succeed};
use common::rcptsync::Rcptsync;
use common::slapd::free_port;
use common::{require, skip, temp_dir, write_file};
use rcptsync::command::init;
use rcptsync::exit::Exit;
use rcptsync::templates::{Names, Target};
use tempfile::TempDir;

/// As PMG renders: two directories, the override first, neither absolute nor relative names; and values of its settings.
const RENDER: &str = r#"
    use Template;
    my ($root, $template) = @ARGV;
    my $toolkit = Template->new({ INCLUDE_PATH => ["$root/etc/pmg/templates", "$root/var/lib/pmg/templates"] });
    my $settings = {
        pmg => { mail => {
            banner => 'ESMTP', 'queue-lifetime' => 5, dwarning => 4, smtputf8 => 1, maxsize => 10485760, helotests => 0,
            conn_count_limit => 0, conn_rate_limit => 0, message_rate_limit => 0, 'filter-timeout' => 600,
        } },
        dns => { domain => 'example.net', hostname => 'gateway' },
        postfix => { mynetworks => '192.0.2.1/32', usepolicy => 1 },
    };
    my $output = '';
    $toolkit->process($template, $settings, \$output) || die $toolkit->error() . "\n";
    print $output;
"#;

const PLACED: &str =
    "        permit_mynetworks\n        reject_unauth_destination reject_unlisted_recipient\n";

/// The files of a PMG, below a directory.
struct Tree {
    directory: TempDir,
}

impl Tree {
    fn new() -> Tree {
        let tree = Tree {
            directory: temp_dir("pmg"),
        };
        tree.package(&packaged());
        write_file(&tree.path("table.cdb"), "");
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Installs another version of the packaged template.
    fn package(&self, text: &str) {
        write_file(&self.path("var/lib/pmg/templates/main.cf.in"), text);
    }

    fn names(&self) -> Names {
        let path = self.path("table").display().to_string();
        Names {
            table_path: Some(path),
            ..Names::of(Target::Pmg, "cdb".to_owned())
        }
        .with_needed_files(None)
    }

    fn map(&self) -> String {
        self.names().map()
    }

    /// `init pmg --install`: what it says.
    fn install(&self) -> Result<String, Box<rcptsync::error::Failure>> {
        let mut out = Vec::new();
        init::pmg::install(self.directory.path(), &self.names(), &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    /// main.cf as PMG would write it, or the error with which it writes none.
    fn render(&self) -> Result<String, String> {
        let output = command("perl")
            .args(["-e", RENDER])
            .arg(self.directory.path())
            .arg("main.cf.in")
            .output()
            .expect("perl runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            assert_eq!(text(&output.stdout), "");
            Err(text(&output.stderr))
        }
    }
}

fn packaged() -> String {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/pmg/main.cf.in");
    let named = std::env::var_os("RCPTSYNC_TEST_PMG_TEMPLATE").map(PathBuf::from);
    std::fs::read_to_string(named.unwrap_or(ours)).expect("the template")
}

fn is_available() -> bool {
    if !require("perl") {
        return false;
    }
    let asked = command("perl").args(["-MTemplate", "-e", "1"]).output();
    asked.is_ok_and(|output| output.status.success()) || skip("libtemplate-perl not found")
}

#[test]
fn the_packaged_template_comes_through_with_the_check_in_its_place() {
    if !is_available() {
        return;
    }
    let tree = Tree::new();
    let before = tree.render().expect("the packaged template");
    let told = tree.install().expect("installed");
    assert!(
        told.contains("next    pmgconfig sync --restart 1\n"),
        "{told}"
    );
    let after = tree.render().expect("the override");
    let expected = before.replace(
        "reject_unauth_destination\n",
        "reject_unauth_destination reject_unlisted_recipient\n",
    );
    assert!(
        before != expected && after.starts_with(&expected),
        "{after}"
    );
    let ours = after.strip_prefix(&expected).expect("it begins so");
    let lines: Vec<&str> = ours
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    assert_eq!(lines, [format!("relay_recipient_maps = {}", tree.map())]);

    // Once more changes nothing; a setting of the package comes through.
    assert!(
        tree.install()
            .expect("installed")
            .contains("nothing was changed")
    );
    tree.package(&packaged().replace(
        "append_dot_mydomain = yes",
        "append_dot_mydomain = no\nsoft_bounce = no",
    ));
    assert!(
        tree.render()
            .expect("the override")
            .contains("append_dot_mydomain = no\nsoft_bounce = no\n")
    );
}

/// Whatever the package does with its restrictions: the check is placed right, or main.cf says that it is not, and the table
/// is named all the same.
#[track_caller]
fn check_changed(from: &str, to: &str, expected: &str, is_placed: bool) {
    let tree = Tree::new();
    tree.install().expect("installed");
    let changed = packaged().replace(from, to);
    assert_ne!(changed, packaged(), "{from}");
    tree.package(&changed);
    let text = tree.render().expect("the override");
    assert!(text.contains(expected), "{to}: {text}");
    let warning =
        "# rcptsync: reject_unauth_destination was not found in smtpd_recipient_restrictions";
    assert_eq!(text.contains(warning), !is_placed, "{to}: {text}");
    assert_eq!(
        text.matches("reject_unlisted_recipient").count(),
        usize::from(is_placed),
        "{text}"
    );
    let map = format!("\nrelay_recipient_maps = {}\n", tree.map());
    assert!(text.contains(&map), "{text}");
}

#[test]
fn a_changed_package_does_not_lose_the_check_in_silence() {
    if !is_available() {
        return;
    }
    let indented = "        permit_mynetworks\n        reject_unauth_destination\n        reject_non_fqdn_recipient\n";
    for (to, expected) in [
        // Another order, commas, one line, comments and empty lines between, a comment that names it.
        (
            "        reject_non_fqdn_recipient\n        permit_mynetworks\n        reject_unauth_destination\n",
            PLACED,
        ),
        (
            "        permit_mynetworks,\n        reject_unauth_destination,\n",
            "        reject_unauth_destination reject_unlisted_recipient,\n",
        ),
        (
            " permit_mynetworks, reject_unauth_destination, reject_non_fqdn_recipient\n",
            " permit_mynetworks, reject_unauth_destination reject_unlisted_recipient, reject_non_fqdn_recipient\n",
        ),
        (
            "        permit_mynetworks\n# reject_unauth_destination comes next\n\n  # reject_unauth_destination\n        reject_unauth_destination\n",
            "next\n\n  # reject_unauth_destination\n        reject_unauth_destination reject_unlisted_recipient\n",
        ),
        (
            "        check_recipient_access hash:/etc/reject_unauth_destination-not\n        reject_unauth_destination\n",
            "-not\n        reject_unauth_destination reject_unlisted_recipient\n",
        ),
    ] {
        check_changed(indented, to, expected, true);
    }
    // The name in another parameter is left alone.
    let relay = "smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\nsmtpd_recipient_restrictions =";
    check_changed("smtpd_recipient_restrictions =", relay, relay, true);
    // Not there any more, or under another name: the check at the end remains.
    check_changed(
        "        reject_unauth_destination\n",
        "        reject_all_others\n",
        "reject_all_others",
        false,
    );
    check_changed(
        "smtpd_recipient_restrictions =",
        "smtpd_rcpt_restrictions =",
        "smtpd_rcpt_restrictions =",
        false,
    );
    check_changed(
        "        reject_unauth_destination\n",
        "# reject_unauth_destination\n",
        "# reject_unauth_destination\n",
        false,
    );
}

/// In a cluster the template arrives before the table may be there, and a setting without its table is 451 for everybody.
#[test]
fn a_node_without_the_table_leaves_the_setting_out_and_says_so() {
    if !is_available() {
        return;
    }
    let tree = Tree::new();
    let before = tree.render().expect("the packaged template");
    tree.install().expect("installed");
    std::fs::remove_file(tree.path("table.cdb")).expect("removed");
    let text = tree.render().expect("the override");
    let ours = text.strip_prefix(&before).expect("the packaged text alone");
    let settings = |line: &&str| !line.starts_with('#') && !line.is_empty();
    assert_eq!(ours.lines().find(settings), None, "{ours}");
    assert!(
        ours.contains("# rcptsync: ") && ours.contains("/table.cdb is missing on this node"),
        "{ours}"
    );
    // With the table comes the setting, by itself.
    write_file(&tree.path("table.cdb"), "");
    assert!(
        tree.render()
            .expect("the override")
            .contains("relay_recipient_maps = ")
    );
}

/// Without the link there is no text to wrap: PMG stops with an error and keeps the main.cf that it has.
#[test]
fn without_the_link_nothing_is_rendered() {
    if !is_available() {
        return;
    }
    let tree = Tree::new();
    tree.install().expect("installed");
    std::fs::remove_file(tree.path("etc/pmg/templates/main.cf.in.packaged")).expect("removed");
    let error = tree.render().expect_err("no text");
    assert!(error.contains("main.cf.in.packaged: not found"), "{error}");
}

#[test]
fn no_template_of_somebody_else_is_overwritten() {
    let ours = "etc/pmg/templates/main.cf.in";
    let link = "etc/pmg/templates/main.cf.in.packaged";
    let lines = [
        "reject_unlisted_recipient",
        "relay_recipient_maps = cdb:",
        "pmgconfig sync",
    ];

    let tree = Tree::new();
    write_file(&tree.path(ours), "mine\n");
    let failure = tree.install().expect_err("occupied");
    assert_eq!(failure.exit, Exit::NotWritten);
    assert!(
        lines.iter().all(|line| failure.next.contains(line)),
        "{}",
        failure.next
    );
    assert_eq!(
        std::fs::read_to_string(tree.path(ours)).expect("it is there"),
        "mine\n"
    );
    assert!(tree.path(link).symlink_metadata().is_err());

    // A link that leads nowhere is somebody's, too.
    let tree = Tree::new();
    write_file(&tree.path("etc/pmg/templates/other"), "");
    symlink(tree.path("nowhere"), tree.path(ours)).expect("a link");
    tree.install().expect_err("occupied");
    assert!(!tree.path("nowhere").exists());

    let tree = Tree::new();
    write_file(&tree.path("etc/pmg/templates/other"), "");
    symlink("other", tree.path(link)).expect("a link");
    tree.install().expect_err("occupied");
    assert!(!tree.path(ours).exists());

    let tree = Tree::new();
    std::fs::remove_file(tree.path("var/lib/pmg/templates/main.cf.in")).expect("removed");
    let failure = tree.install().expect_err("no PMG");
    assert_eq!(failure.exit, Exit::Configuration);
    assert!(!tree.path("etc").exists());
}

/// A policy service that puts everybody off, as greylisting does with whom it does not know; ends with the test.
fn greylist() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a second descriptor");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if line.is_empty()
                        && writer
                            .write_all(b"action=defer_if_permit greylisted\n\n")
                            .is_err()
                    {
                        break;
                    }
                }
            });
        }
    });
    port
}

/// The text without the parameters that `others` set. Each one that is set twice is a warning of every process, and so many
/// of them before postlogd runs make all wait for each other.
fn without(text: &str, others: &str) -> String {
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let taken: Vec<String> = others.lines().map(name).collect();
    let mut is_dropped = false;
    let mut kept = String::new();
    for line in text.lines() {
        if !line.starts_with([' ', '\t', '#']) {
            is_dropped = taken.contains(&name(line));
        }
        if !is_dropped {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// A gateway with this main.cf and the table of `program`, but for what keeps it to its directory.
fn gateway(tree: &Tree, main_cf: &str) -> Gateway {
    // The policy service first: what it binds to afterwards might be the port that was found free.
    let policy_port = greylist();
    let port = free_port();
    let etc = tree.path("etc").display().to_string();
    let main_cf = main_cf
        .replace("/etc/pmg/", &format!("{etc}/pmg/"))
        .replace("/etc/postfix/", &format!("{etc}/postfix/"))
        .replace(":10022", &format!(":{policy_port}"));
    let instance = Instance::with_main_cf(port, |root| {
        let base = postfix::base(root);
        without(&main_cf, &base) + &base
    });
    // What the real postconf makes of it.
    let asked = command("postconf")
        .arg("-c")
        .arg(instance.config_directory())
        .arg("-n")
        .output();
    let asked = String::from_utf8(asked.expect("postconf runs").stdout).expect("text");
    assert!(asked.contains("recipient_delimiter = +\n"), "{asked}");
    for (name, content) in [
        ("pmg/domains", "example.com 1\n"),
        ("pmg/transport", ""),
        ("pmg/tls_inbound_domains", ""),
    ] {
        let path = tree.path("etc").join(name);
        write_file(&path, content);
        let built = instance.postmap(&[&format!("hash:{}", path.display())]);
        assert!(built.status.success(), "{built:?}");
    }
    for name in [
        "rcptaccess",
        "senderaccess",
        "clientaccess",
        "postscreen_access",
    ] {
        write_file(&tree.path("etc/postfix").join(name), "");
    }
    Gateway::start_instance(instance, port)
}

#[test]
fn an_unknown_recipient_gets_550_before_greylisting() {
    if !is_available() || !postfix::is_available() {
        return;
    }
    let tree = Tree::new();
    let program = Rcptsync::plain(
        "pmg",
        common::plain::STAFF,
        &format!(
            "[table.second]\npath = \"{}\"\nformats = [\"cdb\"]\n",
            tree.path("table").display()
        ),
    );
    std::fs::remove_file(tree.path("table.cdb")).expect("removed");
    program.staff("anna bob");
    program.run(&["sync"]).expect_code(0);
    let asked = [
        "anna@example.com",
        "anna+tag@example.com",
        "nobody-4711@example.com",
    ];
    let codes = |gateway: &Gateway| {
        let answers = gateway.rcpt(&asked);
        let texts: Vec<String> = answers
            .iter()
            .map(|answer| format!("{} {}", answer.code, answer.text))
            .collect();
        (
            answers.iter().map(|answer| answer.code).collect::<Vec<_>>(),
            texts.join("\n"),
        )
    };

    // What appending the setting alone would do: the unknown recipient is put off like everybody.
    let packaged = tree.render().expect("the packaged template");
    let appended = format!("{packaged}relay_recipient_maps = {}\n", tree.map());
    let (found, texts) = codes(&gateway(&tree, &appended));
    assert_eq!(found, [450, 450, 450], "{texts}");

    tree.install().expect("installed");
    let (found, texts) = codes(&gateway(&tree, &tree.render().expect("the override")));
    assert_eq!(found, [450, 450, 550], "{texts}");
    assert!(
        texts.contains("550 5.1.1 <nobody-4711@example.com>"),
        "{texts}"
    );
    assert!(
        succeed(
            command("postmap")
                .args(["-q", "anna@example.com", &tree.map()])
                .env(
                    "MAIL_CONFIG",
                    Instance::for_postmap(true).config_directory()
                )
        )
        .stdout
        .starts_with(b"OK")
    );
}
