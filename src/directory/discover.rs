//! Which controllers there are, as DNS says when a run begins (SRV records, RFC 2782).
//!
//! DNS is not authenticated. So what it names counts only where its name lies in the domain that the configuration names,
//! and is reached over TLS, where the certificate must show that very name. Ports are Active Directory's own, because the
//! records name the one without TLS. Not here: the address of a name, which `wire` asks for as of any other server.
//!
//! Invariant: every [`ServerAddress`] made here is at or below the configured domain.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ServerOrderingStrategy};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::timeout_at;

use crate::config::{Discovery, LdapSource, ServerAddress, Servers};

use super::failure::safe;

/// What the system reads too.
const RESOLVER_SETTINGS: &str = "/etc/resolv.conf";

/// Why DNS names nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("DNS, SRV {question}: {cause}")]
pub struct DiscoveryFailure {
    /// The name asked for.
    pub question: String,
    /// What came of it.
    pub cause: DiscoveryCause,
}

/// What can come of a question instead of servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryCause {
    /// `/etc/resolv.conf` is missing, damaged or names no server.
    #[error("{RESOLVER_SETTINGS} cannot be used: {0}")]
    Settings(String),
    /// NXDOMAIN.
    #[error("the name does not exist (NXDOMAIN)")]
    NoSuchName,
    /// The name exists.
    #[error("the name has no SRV record")]
    NoRecords,
    /// Nobody, in time.
    #[error("no answer within {} from {name_servers}", humantime::format_duration(*.within))]
    NoAnswer {
        /// The addresses asked.
        name_servers: String,
        /// `connect_timeout`.
        within: Duration,
    },
    /// `run_timeout`.
    #[error("the time for the whole run is used up")]
    Deadline,
    /// SERVFAIL, REFUSED and the like.
    #[error("the DNS server answered: {0}")]
    Refused(String),
    /// A single record with the root as its target (RFC 2782).
    #[error("the domain says that it does not offer this (the target is \".\")")]
    NotOffered,
    /// Records, and none that may be believed.
    #[error("every target was skipped: {}", Listed(.0))]
    AllSkipped(Vec<Skipped>),
    /// Whatever else.
    #[error("{0}")]
    Other(String),
}

/// A target that is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    target: String,
    domain: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, domain) = (safe(&self.target), &self.domain);
        write!(f, "{target} is no host name in {domain}")
    }
}

struct Listed<'skipped>(&'skipped [Skipped]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // More would bury the error.
        const TOLD_MAX: usize = 4;
        for (at, skipped) in self.0.iter().take(TOLD_MAX).enumerate() {
            let separator = if at > 0 { "; " } else { "" };
            write!(f, "{separator}{skipped}")?;
        }
        match self.0.len().saturating_sub(TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl DiscoveryFailure {
    /// What somebody can do about it.
    pub fn next(&self, source_name: &str) -> String {
        let question = &self.question;
        match &self.cause {
            DiscoveryCause::Settings(_) => format!(
                "name the DNS servers of the domain in {RESOLVER_SETTINGS}, or the controllers as `servers` in \
                 [source.{source_name}]"
            ),
            DiscoveryCause::NoSuchName | DiscoveryCause::NoRecords => format!(
                "check `discover` in [source.{source_name}] (global catalogs: the forest's root domain), and that this \
                 machine asks a DNS server that knows the domain: `host -t SRV {question}`"
            ),
            DiscoveryCause::NoAnswer { .. } => format!(
                "check the DNS servers in {RESOLVER_SETTINGS} and that a firewall lets this machine reach their port 53 \
                 (UDP and TCP); if they are slow, raise `connect_timeout`"
            ),
            DiscoveryCause::Deadline => {
                "the next run tries again; if it stays, raise `run_timeout`".into()
            }
            DiscoveryCause::Refused(_) | DiscoveryCause::Other(_) => format!(
                "the next run tries again; if it stays, see the log of the DNS server and `host -t SRV {question}`"
            ),
            DiscoveryCause::NotOffered => format!(
                "ask who runs the DNS of the domain, or name the controllers as `servers` in [source.{source_name}]"
            ),
            DiscoveryCause::AllSkipped(_) => format!(
                "if the controllers rightly have names outside of the domain, name them as `servers` in \
                 [source.{source_name}]; otherwise somebody else answers for your DNS"
            ),
        }
    }
}

/// What is asked for, in the order in which the answers count: the site first.
pub fn questions(discovery: &Discovery) -> Vec<String> {
    let domain = &discovery.domain;
    let (service, below) = if discovery.is_global_catalog {
        ("_gc._tcp", String::new())
    } else {
        ("_ldap._tcp", "dc._msdcs.".to_owned())
    };
    let of_site = discovery
        .site
        .iter()
        .map(|site| format!("{service}.{site}._sites.{below}{domain}"));
    of_site
        .chain([format!("{service}.{below}{domain}")])
        .collect()
}

/// The servers of a source in the order in which to try them: those of the configuration, or those that DNS names now.
pub async fn servers(
    source_name: &str,
    source: &LdapSource,
    deadline: Instant,
) -> Result<Vec<ServerAddress>, DiscoveryFailure> {
    let discovery = match &source.servers {
        Servers::Listed(servers) => return Ok(servers.clone()),
        Servers::Discovered(discovery) => discovery,
    };
    let questions = questions(discovery);
    let answers = ask_all(&questions, source.connect_timeout, deadline).await;
    let answers = questions.into_iter().zip(answers).collect();
    let (hosts, warnings) = choose(answers, &discovery.domain, random)?;
    for warning in warnings {
        tracing::warn!(source = source_name, "source {source_name}: {warning}");
    }
    let address = |host| address(host, discovery.is_global_catalog, source.starttls);
    Ok(hosts.into_iter().map(address).collect())
}

/// Good enough to share load by, and nothing else: a number that differs from run to run.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    priority: u16,
    weight: u16,
    /// As DNS wrote it, with the dot at its end.
    name: String,
}

type Answer = Result<Vec<Target>, DiscoveryCause>;

/// All questions at once, so that a slow site does not use up the time of the domain.
async fn ask_all(questions: &[String], patience: Duration, deadline: Instant) -> Vec<Answer> {
    let resolver = match resolver(patience) {
        Ok(resolver) => resolver,
        Err(cause) => return questions.iter().map(|_| Err(cause.clone())).collect(),
    };
    let own_end = Instant::now().checked_add(patience);
    let own_end = own_end.filter(|own_end| *own_end <= deadline);
    let asked: Vec<_> = questions
        .iter()
        .map(|question| {
            let (resolver, name) = (resolver.clone(), format!("{question}."));
            tokio::spawn(async move {
                let answer = resolver.ask(&name);
                match timeout_at(own_end.unwrap_or(deadline).into(), answer).await {
                    Ok(Ok(found)) => Ok(targets(found.answers().iter().map(|record| &record.data))),
                    Ok(Err(error)) => Err(resolver.cause(&error)),
                    Err(_) if own_end.is_none() => Err(DiscoveryCause::Deadline),
                    Err(_) => Err(resolver.no_answer()),
                }
            })
        })
        .collect();
    let mut answers = Vec::new();
    for answer in asked {
        let answer = answer.await;
        answers.push(answer.unwrap_or_else(|error| Err(DiscoveryCause::Other(error.to_string()))));
    }
    answers
}

fn targets<'record>(records: impl Iterator<Item = &'record RData>) -> Vec<Target> {
    let mut targets = Vec::new();
    for record in records {
        // Aliases stand in the answer too.
        if let RData::SRV(record) = record {
            targets.push(Target {
                priority: record.priority,
                weight: record.weight,
                name: record.target.to_ascii(),
            });
        }
    }
    targets
}

#[derive(Clone)]
struct Resolver {
    over_udp_first: TokioResolver,
    over_tcp: TokioResolver,
    name_servers: String,
    patience: Duration,
}

/// Asks as the other programs of this machine do: the servers of resolv.conf one after the other, so that a public one
/// behind that of the company is not faster with its NXDOMAIN.
fn resolver(patience: Duration) -> Result<Resolver, DiscoveryCause> {
    let settings = |error: NetError| DiscoveryCause::Settings(error.to_string());
    let (config, mut options) = read_system_conf().map_err(settings)?;
    let name_servers: Vec<String> = config
        .name_servers()
        .iter()
        .map(|server| server.ip.to_string())
        .collect();
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.num_concurrent_reqs = 1;
    // Each must get its turn before our patience ends.
    let shares_count = u32::try_from(name_servers.len()).unwrap_or(u32::MAX);
    let share = patience / shares_count.saturating_add(1);
    options.timeout = options.timeout.min(share);
    let over_tcp = config.name_servers().iter();
    let over_tcp = over_tcp.map(|server| NameServerConfig::tcp(server.ip));
    let over_tcp = ResolverConfig::from_parts(None, vec![], over_tcp.collect());
    let build = |config| {
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options.clone())
            .build()
            .map_err(settings)
    };
    Ok(Resolver {
        over_udp_first: build(config)?,
        over_tcp: build(over_tcp)?,
        name_servers: name_servers.join(", "),
        patience,
    })
}

impl Resolver {
    async fn ask(&self, name: &str) -> Result<Lookup, NetError> {
        let answer = self.over_udp_first.srv_lookup(name).await;
        // Samba sends a long answer over UDP without the mark that says to come back over TCP, and it arrives cut.
        if let Err(NetError::Proto(_)) = answer {
            return self.over_tcp.srv_lookup(name).await;
        }
        answer
    }

    fn no_answer(&self) -> DiscoveryCause {
        DiscoveryCause::NoAnswer {
            name_servers: self.name_servers.clone(),
            within: self.patience,
        }
    }

    fn cause(&self, error: &NetError) -> DiscoveryCause {
        if error.is_nx_domain() {
            return DiscoveryCause::NoSuchName;
        }
        if error.is_no_records_found() {
            return DiscoveryCause::NoRecords;
        }
        if let NetError::Timeout | NetError::NoConnections | NetError::Io(_) = error {
            return self.no_answer();
        }
        if let NetError::Dns(DnsError::ResponseCode(code)) = error {
            return DiscoveryCause::Refused(code.to_string());
        }
        DiscoveryCause::Other(safe(&error.to_string()))
    }
}

/// The hosts to try, each once, and what somebody should know all the same. Fails when there is none, with what the last
/// question, that for the whole domain, came to.
fn choose(
    answers: Vec<(String, Answer)>,
    domain: &str,
    mut random: impl FnMut() -> u64,
) -> Result<(Vec<String>, Vec<String>), DiscoveryFailure> {
    let (mut hosts, mut warnings) = (Vec::new(), Vec::new());
    let mut last_failure = None;
    for (question, answer) in answers {
        let found = answer.and_then(|targets| believed(targets, domain, &mut random));
        match found {
            Ok((found, skipped)) => {
                let skipped = skipped.iter().map(|skipped| {
                    format!(
                        "DNS, SRV {question}: {skipped}: skipped, because DNS is not authenticated"
                    )
                });
                warnings.extend(skipped);
                for host in found {
                    if !hosts.contains(&host) {
                        hosts.push(host);
                    }
                }
            }
            Err(cause) => {
                let failure = DiscoveryFailure { question, cause };
                warnings.push(failure.to_string());
                last_failure = Some(failure);
            }
        }
    }
    match last_failure {
        Some(failure) if hosts.is_empty() => Err(failure),
        Some(_) | None => Ok((hosts, warnings)),
    }
}

/// The hosts of one answer in their order, and the targets skipped.
fn believed(
    targets: Vec<Target>,
    domain: &str,
    random: impl FnMut() -> u64,
) -> Result<(Vec<String>, Vec<Skipped>), DiscoveryCause> {
    match targets.as_slice() {
        [] => return Err(DiscoveryCause::NoRecords),
        [only] if only.name == "." => return Err(DiscoveryCause::NotOffered),
        _ => {}
    }
    let (mut hosts, mut skipped) = (Vec::new(), Vec::new());
    for target in ordered(targets, random) {
        match host_in(&target.name, domain) {
            Some(host) => hosts.push(host),
            None => skipped.push(Skipped {
                target: target.name,
                domain: domain.to_owned(),
            }),
        }
    }
    if hosts.is_empty() {
        return Err(DiscoveryCause::AllSkipped(skipped));
    }
    Ok((hosts, skipped))
}

/// The order of RFC 2782: lower priority numbers first; among equals by lot, a weight being the number of lots.
fn ordered(mut targets: Vec<Target>, mut random: impl FnMut() -> u64) -> Vec<Target> {
    // Those without a lot stand first: only a draw of zero finds them before others.
    targets.sort_by_key(|target| (target.priority, target.weight > 0));
    let mut ordered = Vec::with_capacity(targets.len());
    while let Some(first) = targets.first() {
        let priority = first.priority;
        let equals = targets
            .iter()
            .take_while(|target| target.priority == priority);
        let lots: u64 = equals.map(|target| u64::from(target.weight)).sum();
        let drawn = random() % (lots + 1);
        let mut running_sum = 0;
        let at = targets.iter().position(|target| {
            running_sum += u64::from(target.weight);
            running_sum >= drawn
        });
        ordered.push(targets.remove(at.unwrap_or(0)));
    }
    ordered
}

/// A target as a host name, if it is the domain itself or below it, label by label.
fn host_in(target: &str, domain: &str) -> Option<String> {
    let host = target
        .strip_suffix('.')
        .unwrap_or(target)
        .to_ascii_lowercase();
    let is_host_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_inside = host
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    (is_inside && host.bytes().all(is_host_byte)).then_some(host)
}

fn address(host: String, is_global_catalog: bool, starttls: bool) -> ServerAddress {
    let [clear, over_tls] = if is_global_catalog {
        ServerAddress::GLOBAL_CATALOG_PORTS
    } else {
        [389, 636]
    };
    let (scheme, port) = if starttls {
        ("ldap", clear)
    } else {
        ("ldaps", over_tls)
    };
    let url = if is_global_catalog {
        format!("{scheme}://{host}:{port}")
    } else {
        format!("{scheme}://{host}")
    };
    ServerAddress {
        url,
        is_ldaps: !starttls,
        host,
        port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(priority: u16, weight: u16, name: &str) -> Target {
        Target {
            priority,
            weight,
            name: name.into(),
        }
    }

    fn names(targets: &[Target]) -> String {
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        names.join(" ")
    }

    #[track_caller]
    fn check_order(targets: &[(u16, u16, &str)], drawn: &[u64], expected: &str) {
        let mut drawn = drawn.iter().copied();
        let targets = targets
            .iter()
            .map(|(priority, weight, name)| target(*priority, *weight, name));
        let found = ordered(targets.collect(), || drawn.next().expect("a number"));
        assert_eq!(names(&found), expected);
        assert_eq!(drawn.next(), None, "a number too many");
    }

    #[test]
    fn priority_first_then_lots() {
        check_order(&[], &[], "");
        check_order(&[(5, 0, "a")], &[7], "a");
        check_order(
            &[(20, 9, "c"), (10, 0, "b"), (0, 0, "a")],
            &[0, 0, 0],
            "a b c",
        );
        // Lots 1 and 2 are a's, 3 to 5 are b's; the number is taken modulo 6.
        let two = [(0, 2, "a"), (0, 3, "b")];
        for (drawn, expected) in [
            (0, "a b"),
            (1, "a b"),
            (2, "a b"),
            (3, "b a"),
            (5, "b a"),
            (6, "a b"),
            (11, "b a"),
        ] {
            check_order(&two, &[drawn, 0], expected);
        }
        // Without a lot: first when a zero is drawn, else last.
        let with_none = [(0, 4, "a"), (0, 0, "none"), (0, 4, "b")];
        check_order(&with_none, &[0, 0, 0], "none a b");
        check_order(&with_none, &[8, 1, 0], "b a none");
        check_order(&with_none, &[4, 0, 1], "a none b");
        // A draw does not reach into the next priority.
        check_order(
            &[(1, 65535, "c"), (0, 1, "a"), (0, 1, "b")],
            &[2, 1, 65535],
            "b a c",
        );
    }

    /// The share of first places is the share of lots.
    #[test]
    fn weights_are_shares() {
        let targets = vec![target(0, 1, "a"), target(0, 3, "b")];
        let first_is_b = (0..5_000_u64)
            .filter(|number| {
                let found = ordered(targets.clone(), || *number);
                found.first().is_some_and(|first| first.name == "b")
            })
            .count();
        assert_eq!(first_is_b, 3_000);
        let mut seen = std::collections::HashSet::new();
        seen.extend((0..64).map(|_| random()));
        assert!(seen.len() > 60, "{seen:?}");
    }

    #[test]
    fn only_hosts_in_the_domain() {
        for (target, expected) in [
            ("dc1.corp.example.", Some("dc1.corp.example")),
            ("DC1.Corp.Example.", Some("dc1.corp.example")),
            ("dc1.corp.example", Some("dc1.corp.example")),
            ("dc_1.child.corp.example.", Some("dc_1.child.corp.example")),
            ("corp.example.", Some("corp.example")),
            ("dc1.corp.example.evil.", None),
            ("evilcorp.example.", None),
            ("example.", None),
            (".", None),
            ("", None),
            ("a\\032b.corp.example.", None),
            ("a/b.corp.example.", None),
            ("dc1.corp.example..", None),
            ("192.0.2.1.", None),
        ] {
            let found = host_in(target, "corp.example");
            assert_eq!(found.as_deref(), expected, "{target}");
        }
    }

    fn discovery(site: Option<&str>, is_global_catalog: bool) -> Discovery {
        Discovery {
            domain: "corp.example".into(),
            site: site.map(str::to_owned),
            is_global_catalog,
        }
    }

    #[test]
    fn what_is_asked_for() {
        for (discovery, expected) in [
            (
                discovery(None, false),
                vec!["_ldap._tcp.dc._msdcs.corp.example"],
            ),
            (
                discovery(Some("Berlin"), false),
                vec![
                    "_ldap._tcp.Berlin._sites.dc._msdcs.corp.example",
                    "_ldap._tcp.dc._msdcs.corp.example",
                ],
            ),
            (discovery(None, true), vec!["_gc._tcp.corp.example"]),
            (
                discovery(Some("Berlin"), true),
                vec![
                    "_gc._tcp.Berlin._sites.corp.example",
                    "_gc._tcp.corp.example",
                ],
            ),
        ] {
            assert_eq!(questions(&discovery), expected);
        }
    }

    #[test]
    fn always_inside_tls() {
        for (is_global_catalog, starttls, expected) in [
            (false, false, "ldaps://dc1 636"),
            (false, true, "ldap://dc1 389"),
            (true, false, "ldaps://dc1:3269 3269"),
            (true, true, "ldap://dc1:3268 3268"),
        ] {
            let found = address("dc1".into(), is_global_catalog, starttls);
            assert_eq!(format!("{} {}", found.url, found.port), expected);
            assert_eq!(found.is_ldaps, !starttls);
            assert_eq!(found.is_global_catalog(), is_global_catalog);
        }
    }

    /// Answers to the questions "site" and "domain", the hosts chosen, and words of the warnings or of the failure.
    #[track_caller]
    fn check_choice(answers: &[Answer], expected: Result<&str, &str>, words: &[&str]) {
        let questions = ["site", "domain"].map(str::to_owned);
        let from = questions.len() - answers.len();
        let answers = questions.into_iter().skip(from).zip(answers.to_vec());
        let found = choose(answers.collect(), "corp.example", || 0);
        let told = match (&found, expected) {
            (Ok((hosts, warnings)), Ok(expected)) => {
                assert_eq!(hosts.join(" "), expected);
                assert_eq!(warnings.is_empty(), words.is_empty(), "{warnings:?}");
                warnings.join("\n")
            }
            (Err(failure), Err(expected)) => {
                assert_eq!(failure.question, expected);
                format!("{failure}\n{}", failure.next("corp"))
            }
            (Ok(_) | Err(_), _) => format!("{found:?}"),
        };
        assert_eq!(found.is_ok(), expected.is_ok(), "{told}");
        for word in words {
            assert!(told.contains(word), "{word} is not in {told}");
        }
    }

    #[test]
    fn every_answer_gives_servers_or_says_why_not() {
        let dc1 = || vec![target(0, 100, "dc1.corp.example.")];
        let both = || {
            vec![
                target(0, 100, "DC2.corp.example."),
                target(0, 100, "dc1.corp.example."),
            ]
        };
        let foreign = || vec![target(0, 0, "dc1.evil.example.")];
        let no_answer = || DiscoveryCause::NoAnswer {
            name_servers: "192.0.2.53".into(),
            within: Duration::from_secs(5),
        };
        check_choice(&[Ok(dc1())], Ok("dc1.corp.example"), &[]);
        // Of the site first, then the others, each once.
        let two = Ok("dc1.corp.example dc2.corp.example");
        check_choice(&[Ok(dc1()), Ok(both())], two, &[]);
        // One question of two is enough, and told.
        let one = || Ok("dc1.corp.example");
        check_choice(
            &[Err(DiscoveryCause::NoSuchName), Ok(dc1())],
            one(),
            &["SRV site: the name does not exist"],
        );
        check_choice(
            &[Ok(dc1()), Err(no_answer())],
            one(),
            &["SRV domain: no answer within 5s from 192.0.2.53"],
        );
        // A stranger among others is skipped.
        check_choice(
            &[Ok([foreign(), dc1()].concat())],
            one(),
            &["dc1.evil.example. is no host name in corp.example: skipped"],
        );
        for (answer, words) in [
            (
                Err(DiscoveryCause::Settings("no nameservers".into())),
                ["/etc/resolv.conf cannot be used", "`servers`"],
            ),
            (
                Err(DiscoveryCause::NoSuchName),
                ["NXDOMAIN", "host -t SRV domain"],
            ),
            (
                Err(DiscoveryCause::NoRecords),
                ["no SRV record", "`discover` in [source.corp]"],
            ),
            (Ok(vec![]), ["no SRV record", "host -t SRV domain"]),
            (Err(no_answer()), ["no answer within 5s", "port 53"]),
            (
                Err(DiscoveryCause::Deadline),
                ["whole run", "`run_timeout`"],
            ),
            (
                Err(DiscoveryCause::Refused("Server Failure".into())),
                ["Server Failure", "the next run"],
            ),
            (Ok(vec![target(0, 0, ".")]), ["does not offer", "`servers`"]),
            (
                Ok(foreign()),
                [
                    "dc1.evil.example. is no host name in corp.example",
                    "somebody else answers",
                ],
            ),
            (
                Ok([foreign(), foreign(), foreign(), foreign(), foreign()].concat()),
                ["; and 1 more", "skipped"],
            ),
        ] {
            check_choice(
                &[Err(DiscoveryCause::NoSuchName), answer],
                Err("domain"),
                &words,
            );
        }
    }
}
