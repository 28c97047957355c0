//! A real Postfix gateway: relays for our domains, and refuses whom the table does not know.
//!
//! It lives in a directory of its own, is asked up to `RCPT TO` and never given a message. Limits that would disturb a
//! client which asks for thousands of unknown recipients are raised; what decides about a recipient is as Postfix ships it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::directory::RELAY_DOMAINS;
use super::process::{Server, command, succeed};
use super::slapd::free_port;
use super::{require, require_root, temp_dir, write_file};

/// Recipients in one SMTP session; the tables are looked at anew between sessions only.
const RECIPIENTS_A_SESSION: usize = 500;
/// Recipients in one write. The refusals of so many fit into smtpd's buffer of 4,096 bytes: a second buffer would wait 40 ms
/// for the acknowledgement of the first (Nagle's algorithm against delayed acknowledgements).
const RECIPIENTS_A_WRITE: usize = 25;
/// Where Debian has the programs of Postfix that are not for people.
const DAEMON_DIRECTORY: &str = "/usr/lib/postfix/sbin";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What a gateway is set up with.
#[derive(Clone, Debug)]
pub struct Options {
    /// `smtputf8_enable`
    pub smtputf8: bool,
    /// `recipient_delimiter`
    pub recipient_delimiter: &'static str,
    /// `relay_domains`
    pub relay_domains: Vec<String>,
    /// `parent_domain_matches_subdomains`; without one, Postfix's own.
    pub parent_domain_matches_subdomains: Option<&'static str>,
    /// More parameters: name and value. They win over those above.
    pub more: Vec<(&'static str, String)>,
    /// Whether postscreen listens, and smtpd behind it.
    pub is_behind_postscreen: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            smtputf8: true,
            recipient_delimiter: "",
            relay_domains: RELAY_DOMAINS.map(str::to_owned).to_vec(),
            parent_domain_matches_subdomains: None,
            more: Vec::new(),
            is_behind_postscreen: false,
        }
    }
}

/// What a server said to `RCPT TO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: u16,
    /// What follows the code: `5.1.1 <a@example.com>: Recipient address rejected: …`.
    pub text: String,
}

/// Whether Postfix and its tools are there; see [`require`].
pub fn is_available() -> bool {
    require_root() && require("postfix") && require("postmap")
}

/// A configuration directory of Postfix, which `postmap` needs as well.
#[derive(Debug)]
pub struct Instance {
    directory: TempDir,
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    // In this order: the server ends before its directory goes.
    _server: Server,
    instance: Instance,
    port: u16,
}

impl Gateway {
    /// Starts a gateway that asks `map_type:table`. The table must be there: a smtpd that starts without it answers 451
    /// until it ends.
    pub fn start(table: &Path, map_type: &str, options: &Options) -> Gateway {
        let port = free_port();
        let map = format!("{map_type}:{}", table.display());
        Gateway::start_instance(Instance::new(&map, options, port), port)
    }

    /// Starts what was set up to listen on this port.
    pub fn start_instance(instance: Instance, port: u16) -> Gateway {
        // Makes the directories of the queue.
        succeed(
            command("postfix")
                .arg("-c")
                .arg(instance.config_directory())
                .arg("check"),
        );
        // Not `postfix start-fg`: that is a shell with master as its child, and the child survives the shell.
        let mut master = command(&format!("{DAEMON_DIRECTORY}/master"));
        master.arg("-c").arg(instance.config_directory()).arg("-s");
        let log = instance.directory.path().join("master.out");
        let mut server = Server::start(&master, &log, None);
        server.wait_until_ready("Postfix greets", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        Gateway {
            _server: server,
            instance,
            port,
        }
    }

    /// What the gateway says to each address, in their order. The addresses are in external form: quoted where needed.
    #[track_caller]
    pub fn rcpt<Text: AsRef<str>>(&self, addresses: &[Text]) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(addresses.len());
        for session_addresses in addresses.chunks(RECIPIENTS_A_SESSION) {
            let mut session = Session::open(self.port)
                .unwrap_or_else(|error| panic!("SMTP: {error}\n{}", self.mail_log()));
            answers.extend(
                session
                    .rcpt(session_addresses)
                    .unwrap_or_else(|error| panic!("SMTP: {error}\n{}", self.mail_log())),
            );
        }
        answers
    }

    /// An open SMTP session, which keeps its smtpd and the table that smtpd has open.
    pub fn session(&self) -> Session {
        Session::open(self.port)
            .unwrap_or_else(|error| panic!("SMTP: {error}\n{}", self.mail_log()))
    }

    /// The answers as `code: how often`, for an assertion with a short message.
    #[track_caller]
    pub fn rcpt_codes<Text: AsRef<str>>(&self, addresses: &[Text]) -> BTreeMap<u16, usize> {
        let mut codes = BTreeMap::new();
        for answer in self.rcpt(addresses) {
            *codes.entry(answer.code).or_default() += 1;
        }
        codes
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// For `MAIL_CONFIG`.
    pub fn config_directory(&self) -> PathBuf {
        self.instance.config_directory()
    }

    /// What Postfix logged.
    pub fn mail_log(&self) -> String {
        let log = self.instance.directory.path().join("mail.log");
        String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Runs postmap with this gateway's configuration.
    pub fn postmap(&self, arguments: &[&str]) -> Output {
        self.instance.postmap(arguments)
    }
}

impl Instance {
    /// A configuration for `postmap` alone: nothing is started.
    pub fn for_postmap(smtputf8: bool) -> Instance {
        let options = Options {
            smtputf8,
            ..Options::default()
        };
        Instance::new("static:OK", &options, 25)
    }

    /// A gateway that is set up and not started: it asks `map`, and its smtpd is open to strangers.
    pub fn for_settings(map: &str, options: &Options) -> Instance {
        let instance = Instance::new(map, options, 25);
        let open = "smtp inet n - n - - smtpd\n";
        let path = instance.config_directory().join("master.cf");
        write_file(&path, format!("{open}{}", master_cf(10_025, false)));
        instance
    }

    fn new(map: &str, options: &Options, port: u16) -> Instance {
        let instance = Instance::with_main_cf(port, |root| main_cf(root, map, options));
        let master_cf = master_cf(port, options.is_behind_postscreen);
        write_file(&instance.config_directory().join("master.cf"), master_cf);
        instance
    }

    /// A configuration of one's own; [`base`] has what every instance needs.
    pub fn with_main_cf(port: u16, main_cf: impl FnOnce(&Path) -> String) -> Instance {
        let directory = temp_dir("postfix");
        let root = directory.path();
        for name in ["queue", "data"] {
            std::fs::create_dir(root.join(name)).expect("a directory of our own");
        }
        let (user, group) = postfix_ids();
        chown(root.join("data"), Some(user), Some(group)).expect("root may give files away");
        write_file(&root.join("etc/main.cf"), main_cf(root));
        write_file(&root.join("etc/master.cf"), master_cf(port, false));
        Instance { directory }
    }

    /// Gives a parameter another value.
    pub fn set(&self, name: &str, value: &str) {
        let path = self.config_directory().join("main.cf");
        let text = std::fs::read_to_string(&path).expect("our own file");
        let others = text
            .lines()
            .filter(|line| !line.starts_with(&format!("{name} =")));
        let others: String = others.map(|line| format!("{line}\n")).collect();
        write_file(&path, format!("{others}{name} = {value}\n"));
    }

    /// For `MAIL_CONFIG` and `-c`.
    pub fn config_directory(&self) -> PathBuf {
        self.directory.path().join("etc")
    }

    /// Runs postmap. It warns about what it ignores and still ends with 0: look at its standard error.
    pub fn postmap(&self, arguments: &[&str]) -> Output {
        self.postmap_command(arguments)
            .output()
            .expect("postmap runs")
    }

    /// `type:path` built from the text at `path`, without any warning.
    #[track_caller]
    pub fn postmap_build(&self, map_type: &str, path: &Path) {
        let map = format!("{map_type}:{}", path.display());
        let output = succeed(&mut self.postmap_command(&[&map]));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "postmap {map}");
    }

    fn postmap_command(&self, arguments: &[&str]) -> Command {
        let mut postmap = command("postmap");
        postmap
            .env("MAIL_CONFIG", self.config_directory())
            .args(arguments);
        postmap
    }
}

fn main_cf(root: &Path, map: &str, options: &Options) -> String {
    let parents = options
        .parent_domain_matches_subdomains
        .map(|value| format!("parent_domain_matches_subdomains = {value}\n"));
    let text = format!(
        "{base}\
         mydestination =\n\
         # The client is a stranger, as every client from the Internet is.\n\
         mynetworks = 192.0.2.1/32\n\
         smtputf8_enable = {smtputf8}\n\
         recipient_delimiter = {delimiter}\n\
         relay_domains = {relay_domains}\n\
         relay_recipient_maps = {map}\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_recipient_restrictions =\n",
        base = base(root),
        smtputf8 = if options.smtputf8 { "yes" } else { "no" },
        delimiter = options.recipient_delimiter,
        relay_domains = options.relay_domains.join(", "),
    );
    let text = text + &parents.unwrap_or_default();
    // Of a parameter that stands there twice Postfix takes the last, and warns.
    let is_given = |line: &&str| {
        let name = line.split(" =").next();
        !options.more.iter().any(|(given, _)| name == Some(given))
    };
    let kept = text
        .lines()
        .filter(is_given)
        .map(|line| format!("{line}\n"));
    let more = (options.more.iter()).map(|(name, value)| format!("{name} = {value}\n"));
    kept.chain(more).collect()
}

/// What keeps an instance to its own directory, delivers nothing, and lets a client ask as often as it likes. Nothing of it
/// decides about a recipient.
pub fn base(root: &Path) -> String {
    let root = root.display();
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {root}/queue\n\
         data_directory = {root}/data\n\
         command_directory = /usr/sbin\n\
         daemon_directory = {DAEMON_DIRECTORY}\n\
         shlib_directory = /usr/lib/postfix\n\
         # Where dynamicmaps.cf is: without it cdb and lmdb are unknown types.\n\
         meta_directory = /etc/postfix\n\
         # No syslog: postlogd writes it.\n\
         maillog_file = {root}/mail.log\n\
         maillog_file_prefixes = {root}\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         myhostname = gateway.example.net\n\
         local_recipient_maps =\n\
         alias_maps =\n\
         alias_database =\n\
         smtpd_peername_lookup = no\n\
         disable_dns_lookups = yes\n\
         # Nothing is ever delivered.\n\
         default_transport = discard:\n\
         relay_transport = discard:\n\
         # Messages begin and none is delivered: the first recipient of each would be kept waiting a second.\n\
         in_flow_delay = 0\n\
         # A client may be wrong as often as it likes.\n\
         smtpd_error_sleep_time = 0\n\
         smtpd_soft_error_limit = 1000000\n\
         smtpd_hard_error_limit = 1000000\n\
         smtpd_junk_command_limit = 1000000\n\
         smtpd_recipient_limit = 1000000\n\
         smtpd_client_connection_count_limit = 0\n\
         smtpd_client_connection_rate_limit = 0\n\
         smtpd_client_recipient_rate_limit = 0\n",
    )
}

fn master_cf(port: u16, is_behind_postscreen: bool) -> String {
    let listener = if is_behind_postscreen {
        format!(
            "127.0.0.1:{port} inet n - n - 1 postscreen\n\
             smtpd    pass - - n - - smtpd\n"
        )
    } else {
        format!("127.0.0.1:{port} inet n - n - - smtpd\n")
    };
    format!(
        "{listener}\
         cleanup  unix n - n - 0 cleanup\n\
         qmgr     unix n - n 300 1 qmgr\n\
         rewrite  unix - - n - - trivial-rewrite\n\
         bounce   unix - - n - 0 bounce\n\
         defer    unix - - n - 0 bounce\n\
         error    unix - - n - - error\n\
         discard  unix - - n - - discard\n\
         smtp     unix - - n - - smtp\n\
         verify   unix - - n - 1 verify\n\
         trace    unix - - n - 0 bounce\n\
         anvil    unix - - n - 1 anvil\n\
         proxymap unix - - n - - proxymap\n\
         postlog  unix-dgram n - n - 1 postlogd\n"
    )
}

/// The numbers of the account `postfix`.
fn postfix_ids() -> (u32, u32) {
    let id = |option| {
        let output = succeed(command("id").args([option, "postfix"]));
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse().expect("id prints a number")
    };
    (id("-u"), id("-g"))
}

/// One SMTP session, after `MAIL FROM`.
#[derive(Debug)]
pub struct Session {
    reader: BufReader<TcpStream>,
    is_smtputf8: bool,
}

impl Session {
    /// A session with whatever listens on a port of this machine.
    pub fn open(port: u16) -> std::io::Result<Session> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let mut session = Session {
            reader: BufReader::new(stream),
            is_smtputf8: false,
        };
        session.expect(220)?;
        session.send("EHLO client.example.net\r\n")?;
        // 8-bit addresses need the extension.
        session.is_smtputf8 = session.expect(250)?.contains("SMTPUTF8");
        session.mail()?;
        Ok(session)
    }

    /// Begins another message in the same session.
    pub fn again(&mut self) -> std::io::Result<()> {
        self.send("RSET\r\n")?;
        self.expect(250)?;
        self.mail()
    }

    /// Ends the session as a client should.
    pub fn quit(mut self) -> std::io::Result<()> {
        self.send("QUIT\r\n")?;
        self.expect(221).map(drop)
    }

    fn mail(&mut self) -> std::io::Result<()> {
        // A bounce: the sender that a backscatter source would use.
        self.send(if self.is_smtputf8 {
            "MAIL FROM:<> SMTPUTF8\r\n"
        } else {
            "MAIL FROM:<>\r\n"
        })?;
        self.expect(250).map(drop)
    }

    /// What the server says to each address.
    pub fn rcpt<Text: AsRef<str>>(&mut self, addresses: &[Text]) -> std::io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(RECIPIENTS_A_WRITE) {
            let commands: String = part
                .iter()
                .map(|address| format!("RCPT TO:<{}>\r\n", address.as_ref()))
                .collect();
            self.send(&commands)?;
            for _ in part {
                answers.push(self.answer()?);
            }
        }
        Ok(answers)
    }

    fn send(&mut self, commands: &str) -> std::io::Result<()> {
        self.reader.get_mut().write_all(commands.as_bytes())
    }

    fn expect(&mut self, code: u16) -> std::io::Result<String> {
        let answer = self.answer()?;
        if answer.code == code {
            Ok(answer.text)
        } else {
            Err(std::io::Error::other(format!(
                "{} {} instead of {code}",
                answer.code, answer.text
            )))
        }
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let (code, rest) = line
                .split_at_checked(3)
                .and_then(|(code, rest)| Some((code.parse().ok()?, rest)))
                .ok_or_else(|| std::io::Error::other(format!("not an answer: {line:?}")))?;
            text.push_str(rest.get(1..).unwrap_or_default().trim_end());
            if !rest.starts_with('-') {
                return Ok(Answer { code, text });
            }
            text.push('\n');
        }
    }
}
