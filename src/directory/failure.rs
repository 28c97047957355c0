//! Why a directory could not be read completely, told so that somebody can act on it.
//!
//! A [`Trouble`] is one thing that went wrong on the way of one attempt: at which step, and for what cause. A
//! [`ReadFailure`] is all attempts of one read. Text that came from a server is made safe before it stands in an error.
//! Not here: what remains in force, which only the caller knows.

use std::fmt::{self, Write};
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use crate::error::Failure;
use crate::exit::Exit;
use crate::harmless::key;
use crate::records::SpoolError;
use crate::trust::TrustError;

use super::bind::{CredentialsError, Identity};
use super::discover::DiscoveryFailure;
use super::filter::Lost;
use super::message::Outcome;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("source {source_name}: {reason}")]
pub struct ReadFailure {
    /// The source's name in the configuration.
    pub source_name: String,
    /// What went wrong.
    pub reason: Reason,
}

/// What went wrong in the whole of a read.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Nothing was sent to any server.
    #[error("the {} of the account cannot be read: {_0}", _0.subject())]
    Credentials(CredentialsError),
    /// Nothing was sent to any server.
    #[error("the certificate authorities to trust cannot be loaded: {0}")]
    Trust(TrustError),
    /// Nothing was sent to any server.
    #[error("{server} is to be reached without TLS, and {why}")]
    WithoutTls {
        /// The server.
        server: String,
        /// Why that may not be (see `Bind::needs_tls`).
        why: &'static str,
    },
    /// This machine gives us no event queue.
    #[error("the network cannot be used: {0}")]
    Runtime(io::Error),
    /// Nobody is known whom to ask.
    #[error("no server is known: {0}")]
    Discovery(DiscoveryFailure),
    /// Every server was tried, or the first one that knows said that the account is refused.
    #[error("{}", Attempts(.0))]
    Servers(Vec<Attempt>),
}

/// One server, tried.
#[derive(Debug)]
pub struct Attempt {
    /// Its URL.
    pub server: String,
    /// How far it came and what stopped it.
    pub trouble: Trouble,
}

/// What stopped an attempt.
#[derive(Debug)]
pub struct Trouble {
    /// What was being done.
    pub step: Step,
    /// What went wrong with it.
    pub cause: Cause,
}

/// The steps of an attempt, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Name resolution and TCP.
    Connect,
    /// The extended request.
    StartTls,
    /// Certificates.
    TlsHandshake,
    /// Asking for the ticket that other tickets are asked for with.
    Ticket {
        /// The account.
        principal: String,
    },
    /// Asking for a ticket for the server.
    ServiceTicket {
        /// The server's service.
        service: String,
    },
    /// Authentication.
    Bind(Identity),
    /// Asking a global catalog what it shows.
    GlobalCatalog,
    /// Asking the server about itself.
    RootDse,
    /// Asking what changed.
    DirSync {
        /// In which naming context.
        naming_context: String,
    },
    /// Searching.
    Page {
        /// Of which base.
        base: String,
        /// Counted from 1 in each base.
        number: u64,
    },
    /// Looking whether something came behind the last answer.
    End,
    /// Fetching the rest of an attribute.
    Range {
        /// Of which entry.
        dn: String,
        /// The attribute.
        attribute: String,
    },
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// DNS.
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// TCP.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// `connect_timeout`.
    #[error("no connection within {}", humantime::format_duration(*.0))]
    ConnectTimeout(Duration),
    /// `timeout`.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    NoAnswer(Duration),
    /// `run_timeout`.
    #[error("the time for the whole run is used up")]
    Deadline,
    /// The host cannot be a name in a certificate.
    #[error("the host is neither a DNS name nor an address: {0}")]
    ServerName(String),
    /// Certificate or protocol.
    #[error("{0}")]
    Tls(rustls::Error),
    /// The connection is gone.
    #[error("{0}")]
    Lost(Lost),
    /// The server answered, and the answer is no.
    #[error("{}", Refusal(.0))]
    Refused(Outcome),
    /// No ticket, or none that the server takes.
    #[error("{0}")]
    Kerberos(KerberosError),
    /// `filter` is not one.
    #[error("the search filter cannot be parsed")]
    Filter,
    /// The LDAP crate gave up for a reason of its own.
    #[error("{0}")]
    Library(String),
    /// No base is configured and the server proposes none.
    #[error("the server names no default naming context")]
    NoNamingContext,
    /// The port is that of a global catalog; what answers is none, or not yet.
    #[error("what answers there is no global catalog, or not ready: it does not show {0}")]
    NoGlobalCatalog(&'static str),
    /// A global catalog would answer success, without them.
    #[error(
        "{} is not in the global catalog: the schema does not mark it as a member of the partial attribute set \
         (isMemberOfPartialAttributeSet: TRUE)",
        .0.join(", ")
    )]
    NotInGlobalCatalog(Vec<&'static str>),
    /// The global catalog keeps the marks back, and the same server could not be asked otherwise.
    #[error(
        "the global catalog does not show which attributes it has, and {server} does not say either: {}: {}",
        .trouble.step,
        .trouble.cause
    )]
    SchemaElsewhere {
        /// The ordinary port of the same server.
        server: String,
        /// What went wrong there.
        trouble: Box<Trouble>,
    },
    /// Success, but without the control that says whether more follows.
    #[error(
        "the server answered without the paging control, so nothing proves that nothing is missing"
    )]
    NoPagingControl,
    /// The paging control makes no sense.
    #[error("the paging control of the answer is damaged: {0}")]
    PagingControl(super::ber::BerError),
    /// `incremental = "dirsync"`, and it cannot be.
    #[error("changes cannot be followed: {0}")]
    NoDirSync(&'static str),
    /// Success, but without the control that says whether more follows.
    #[error(
        "the server answered without the DirSync control, so nothing proves that no change is missing"
    )]
    NoDirSyncControl,
    /// The DirSync control makes no sense.
    #[error("the DirSync control of the answer is damaged: {0}")]
    DirSyncControl(super::ber::BerError),
    /// An entry or reference makes no sense.
    #[error("the server sent {0}")]
    Entry(&'static str),
    /// Other than asked for.
    #[error("the server sent more than the {asked} entries that a page may have")]
    TooManyEntries {
        /// The page size asked for.
        asked: u32,
    },
    /// A cookie that leads nowhere.
    #[error("the server sent {0} pages in a row without an entry and says that more follow")]
    EmptyPages(u32),
    /// More than any forest has.
    #[error("the server refers to more than {0} other places")]
    TooManyReferences(usize),
    /// More than we are willing to hold.
    #[error("the entries take more than {0} bytes")]
    TooLarge(u64),
    /// What was read could not be kept; no server is to blame.
    #[error("the records could not be stored: {0}")]
    NotStored(Box<SpoolError>),
    /// Values between two ranges are missing, or come twice.
    #[error("the range {found} came where one from {expected_from} belongs")]
    RangeGap {
        /// The next value needed.
        expected_from: u32,
        /// The name of the attribute in the answer.
        found: String,
    },
    /// The range says another number of values than it has.
    #[error("the range {found} came with {count} values")]
    RangeCount {
        /// The name of the attribute in the answer.
        found: String,
        /// The values in it.
        count: usize,
    },
    /// The entry, or its attribute, changed or vanished between two ranges.
    #[error("the server did not give the values from {expected_from} on that it had announced")]
    RangeVanished {
        /// The next value needed.
        expected_from: u32,
    },
}

/// What can go wrong with Kerberos.
#[derive(Debug, thiserror::Error)]
pub enum KerberosError {
    /// No KDC is known, or none answered.
    #[error("{0}")]
    Unreachable(String),
    /// The KDC answered, and the answer is no (RFC 4120 section 7.5.9).
    #[error("the KDC answered {name} ({code}){}", said(.text))]
    Refused {
        /// The code.
        code: i32,
        /// Its name.
        name: &'static str,
        /// The KDC's own words.
        text: String,
    },
    /// Whoever answers does not hold the key of the service.
    #[error("the server has not proven who it is: {}", safe(.0))]
    NotProven(String),
    /// The turns of the exchange are not those of RFC 4752.
    #[error("{0}")]
    Exchange(&'static str),
    /// A message that makes no sense.
    #[error("{}", safe(.0))]
    Message(String),
}

impl From<SpoolError> for Cause {
    fn from(error: SpoolError) -> Cause {
        match error {
            SpoolError::TooLarge(bytes) => Cause::TooLarge(bytes),
            SpoolError::Io { .. } => Cause::NotStored(Box::new(error)),
        }
    }
}

impl Trouble {
    /// Whether it lies with this machine: no other server would do better.
    pub fn is_our_own(&self) -> bool {
        matches!(self.cause, Cause::NotStored(_))
    }

    /// Whether nothing is wrong with a server's certificate but that nobody trusted has issued it.
    pub fn is_unknown_authority(&self) -> bool {
        matches!(
            self.cause,
            Cause::Tls(rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer
            ))
        )
    }

    /// What went wrong at a step.
    pub fn new(step: Step, cause: Cause) -> Trouble {
        Trouble { step, cause }
    }

    /// Whether the directory refused the account, as opposed to a server that cannot answer now. The same name and
    /// password must then not be tried again in this run, on this server or another: that is how accounts get locked.
    pub fn is_refused_account(&self) -> bool {
        const REFUSALS: &[u32] = &[7, 8, 13, 19, 32, 34, 48, 49, 50, 53];
        if let Cause::SchemaElsewhere { trouble, .. } = &self.cause {
            return trouble.is_refused_account();
        }
        // Of the account, its password or its key; and not of clocks or of a KDC that cannot answer now.
        const KDC_REFUSALS: &[i32] = &[1, 6, 12, 14, 18, 23, 24, 25, 31, 68];
        if let (Step::Ticket { .. }, Cause::Kerberos(KerberosError::Refused { code, .. })) =
            (&self.step, &self.cause)
        {
            return KDC_REFUSALS.contains(code);
        }
        matches!(self.step, Step::Bind(_))
            && matches!(&self.cause, Cause::Refused(outcome) if REFUSALS.contains(&outcome.code))
    }

    fn what(&self) -> String {
        match &self.cause {
            Cause::Refused(outcome) => format!(
                "{} ended with {} ({})",
                self.step,
                code_name(outcome.code),
                outcome.code
            ),
            Cause::Resolve(_)
            | Cause::Connect(_)
            | Cause::ConnectTimeout(_)
            | Cause::NoAnswer(_)
            | Cause::Deadline
            | Cause::ServerName(_)
            | Cause::Tls(_)
            | Cause::Lost(_)
            | Cause::Kerberos(_)
            | Cause::Filter
            | Cause::Library(_)
            | Cause::NoNamingContext
            | Cause::NoGlobalCatalog(_)
            | Cause::NotInGlobalCatalog(_)
            | Cause::SchemaElsewhere { .. }
            | Cause::NoPagingControl
            | Cause::PagingControl(_)
            | Cause::NoDirSync(_)
            | Cause::NoDirSyncControl
            | Cause::DirSyncControl(_)
            | Cause::Entry(_)
            | Cause::TooManyEntries { .. }
            | Cause::EmptyPages(_)
            | Cause::TooManyReferences(_)
            | Cause::TooLarge(_)
            | Cause::NotStored(_)
            | Cause::RangeGap { .. }
            | Cause::RangeCount { .. }
            | Cause::RangeVanished { .. } => format!("{} failed", self.step),
        }
    }

    fn place(&self, server: &str) -> String {
        match &self.step {
            Step::Page { base, .. } if base.is_empty() => format!("{server}, the whole forest"),
            Step::Page { base, .. } => format!("{server}, base {}", safe(base)),
            Step::Range { dn, .. } => format!("{server}, entry {}", safe(dn)),
            Step::DirSync { naming_context } => format!("{server}, {}", safe(naming_context)),
            Step::Ticket { principal } => {
                let realm = principal.rsplit('@').next().unwrap_or_default();
                format!("the KDC of {}, for {server}", safe(realm))
            }
            Step::Connect
            | Step::StartTls
            | Step::TlsHandshake
            | Step::ServiceTicket { .. }
            | Step::Bind(_)
            | Step::GlobalCatalog
            | Step::RootDse
            | Step::End => server.to_owned(),
        }
    }

    fn next(&self, source_name: &str) -> String {
        match &self.cause {
            Cause::Refused(outcome) => self.next_after_refusal(outcome, source_name),
            Cause::Tls(rustls::Error::AlertReceived(alert)) if is_about_our_certificate(*alert) => {
                self.next_after_refused_certificate(*alert, source_name)
            }
            Cause::Tls(error) => next_after_tls(error, source_name),
            Cause::Resolve(_) => "check the name of the server and the DNS of this machine".into(),
            Cause::Connect(_) | Cause::ConnectTimeout(_) => {
                "check that the server is up and that a firewall lets this machine reach its port".into()
            }
            Cause::NoAnswer(_) => format!(
                "the next run tries again; if it stays, raise `timeout` or lower `page_size` in [source.{source_name}]"
            ),
            Cause::Deadline => "the next run tries again; if it stays, raise `run_timeout`".into(),
            Cause::ServerName(_) => "write the host in `servers` as it stands in the certificate".into(),
            Cause::Lost(lost) => next_after_loss(lost, &self.step),
            Cause::Kerberos(error) => self.next_after_kerberos(error).into(),
            Cause::Filter => format!("mend `filter` in [source.{source_name}] (RFC 4515)"),
            Cause::NoNamingContext => format!("set `base` in [source.{source_name}]"),
            Cause::NoGlobalCatalog(_) => format!(
                "ask another server, or a domain controller at port 636 with its domain as `base` in \
                 [source.{source_name}]"
            ),
            Cause::NotInGlobalCatalog(attributes) => format!(
                "read the domain controllers themselves (port 636, without `global_catalog`; one source for each domain), \
                 or let a schema administrator replicate {} to the global catalog (set isMemberOfPartialAttributeSet to \
                 TRUE)",
                attributes.join(", ")
            ),
            Cause::SchemaElsewhere { server, .. } => format!(
                "let this machine reach {server} as well: the schema is read there"
            ),
            Cause::NoPagingControl | Cause::PagingControl(_) | Cause::TooManyEntries { .. } => {
                "ask another server: this one, or a proxy before it, does not page results (RFC 2696)".into()
            }
            Cause::NoDirSync(_) | Cause::NoDirSyncControl | Cause::DirSyncControl(_) => format!(
                "set `incremental = \"off\"` in [source.{source_name}], or ask a domain controller that offers DirSync"
            ),
            Cause::EmptyPages(_) | Cause::TooManyReferences(_) | Cause::TooLarge(_) => {
                format!("check `base` and `filter` in [source.{source_name}]; they may reach too far")
            }
            Cause::NotStored(_) => "give state_dir free space; the next run reads the source again".into(),
            Cause::RangeGap { .. } | Cause::RangeCount { .. } | Cause::RangeVanished { .. } => {
                "the entry may have changed meanwhile: the next run reads it anew".into()
            }
            Cause::Library(_) | Cause::Entry(_) => {
                "the next run tries again; if it stays, report it with the server's make and version".into()
            }
        }
    }

    /// What a refusal means for somebody who showed a certificate instead of a password.
    fn advice_for_certificate(&self, code: u32) -> Option<&'static str> {
        let Step::Bind(Identity::Certificate(_)) = &self.step else {
            return None;
        };
        match code {
            7 => Some(
                "the server offers no EXTERNAL: let it ask clients for certificates (OpenLDAP: TLSVerifyClient)",
            ),
            48 | 49 | 53 => Some(
                "map the certificate to an account (Active Directory: altSecurityIdentities; OpenLDAP: authz-regexp); \
                 Active Directory wants StartTLS for this method: ldap:// with `starttls = true`",
            ),
            _ => None,
        }
    }

    /// What a refusal means for somebody who showed a ticket instead of a password.
    fn advice_for_ticket(&self, outcome: &Outcome) -> Option<&'static str> {
        let Step::Bind(Identity::Principal(_)) = &self.step else {
            return None;
        };
        match outcome.code {
            7 => Some("the server offers no GSSAPI: it is no domain controller"),
            8 | 13 => Some(
                "let the server take Kerberos inside TLS (Samba: `ldap server require strong auth = allow_sasl_over_tls`)",
            ),
            // SEC_E_BAD_BINDINGS
            49 if outcome.diagnostic.contains("80090346") => Some(
                "the server sees another certificate than this machine does: look for a proxy that ends TLS between them",
            ),
            48 | 49 => Some(
                "check the clocks of this machine and of the server, and that the server's own key is current (its log says \
                 more)",
            ),
            _ => None,
        }
    }

    fn next_after_kerberos(&self, error: &KerberosError) -> &'static str {
        const CLOCK_SKEW: i32 = 37;
        match (error, &self.step) {
            (KerberosError::Unreachable(_), _) => {
                "name the KDC of the realm in /etc/krb5.conf ([realms], kdc) or in DNS, and let this machine reach its port 88 \
                 (UDP and TCP)"
            }
            (
                KerberosError::Refused {
                    code: CLOCK_SKEW, ..
                },
                _,
            ) => {
                "set the clock of this machine, or that of the domain controller: they differ by more than five minutes"
            }
            (KerberosError::Refused { code, .. }, Step::Ticket { .. }) => match code {
                6 | 68 => "correct `principal`: no account of the realm has this name",
                14 => {
                    "let the account use AES (\"This account supports Kerberos AES 256 bit encryption\"), set its password anew \
                     and make a new keytab"
                }
                1 | 12 | 18 => "enable or unlock the account, or lift its date and its logon hours",
                23 => {
                    "set a new password for the account, let it not expire, and make a new keytab"
                }
                24 | 25 | 31 => {
                    "make a new keytab: the account's password has changed since this one was made; the account is not tried \
                     again in this run"
                }
                _ => "see the log of the KDC",
            },
            (KerberosError::Refused { code: 7, .. }, _) => {
                "write the server in `servers` by its own full name, or register this service for it (`setspn -S`, \
                 `samba-tool spn add`)"
            }
            (KerberosError::Refused { .. }, _) => "see the log of the KDC",
            (KerberosError::NotProven(_), _) => {
                "look for a server that answers in the name of another, and check the server's own key"
            }
            (KerberosError::Exchange(_) | KerberosError::Message(_), _) => {
                "the next run tries again; if it stays, report it with the server's make and version"
            }
        }
    }

    fn next_after_refused_certificate(&self, alert: AlertDescription, source_name: &str) -> String {
        if let AlertDescription::CertificateRequired | AlertDescription::NoCertificate = alert {
            return format!(
                "the server wants a client certificate: set [source.{source_name}.bind] method = \"external\""
            );
        }
        if let AlertDescription::CertificateExpired = alert {
            return "renew the client certificate; check the clocks of this machine and of the server".into();
        }
        if let AlertDescription::UnknownCA = alert {
            return "let the server trust the authority of the client certificate, or put the certificates between the two \
                    into `certificate_file`".into();
        }
        "use a client certificate that the server takes (its extended key usage is clientAuth); the server's log says more"
            .into()
    }

    fn next_after_refusal(&self, outcome: &Outcome, source_name: &str) -> String {
        let is_bind = matches!(self.step, Step::Bind(_));
        let advice = self.advice_for_certificate(outcome.code);
        if let Some(advice) = advice.or_else(|| self.advice_for_ticket(outcome)) {
            return advice.into();
        }
        match outcome.code {
            _ if self.step == Step::StartTls => {
                "the server offers no StartTLS (a domain controller without a certificate does not): give it a \
                 certificate, or use ldaps://".into()
            }
            1 => format!(
                "if this server answers accounts only, set [source.{source_name}.bind] method = \"simple\"; \
                 otherwise its event log says more"
            ),
            3 => "narrow `base` or `filter`, or lower `page_size`: the server's time for one answer (MaxQueryDuration) \
                  is used up".into(),
            4 | 11 => format!(
                "lower `page_size` in [source.{source_name}] to what the server allows (Active Directory: MaxPageSize, \
                 1000 unless changed; OpenLDAP: `limits`)"
            ),
            7 | 48 => "allow simple binds for this account, or use another account".into(),
            8 | 13 => "use ldaps:// or set `starttls = true`: the server wants this protected".into(),
            10 => format!(
                "ask a server that holds this base{}",
                outcome
                    .referrals
                    .first()
                    .map(|url| format!(" (it names {})", safe(url)))
                    .unwrap_or_default()
            ),
            12 => "ask another server: this one cannot page results (control 1.2.840.113556.1.4.319)".into(),
            32 | 34 if self.step == Step::GlobalCatalog => format!(
                "let the account read the schema of the forest, or read the domain controllers themselves (port 636) in \
                 [source.{source_name}]"
            ),
            32 if !is_bind => format!(
                "check `base` in [source.{source_name}]: it does not exist, or the account may not see it"
            ),
            34 if !is_bind => format!("mend `base` in [source.{source_name}]: it is not a distinguished name"),
            49 => format!("{}{NOT_TRIED_AGAIN}", bind_advice(&outcome.diagnostic)),
            50 => "give the account the right to read there".into(),
            51 | 52 => "the next run tries again".into(),
            53 if !is_bind => "the next run begins at the first page again".into(),
            _ => "see the server's own words and its log".into(),
        }
    }
}

impl ReadFailure {
    /// What kept the records from being stored, if that is what ended the read: this machine is at fault then.
    pub fn not_stored(&self) -> Option<&SpoolError> {
        if let Reason::Servers(attempts) = &self.reason
            && let Cause::NotStored(error) = &attempts.last()?.trouble.cause
        {
            return Some(error);
        }
        None
    }

    /// The five answers; `in_force` is for the caller to say.
    pub fn failure(&self, in_force: &str) -> Failure {
        let name = &self.source_name;
        let of = |exit, what: &str, place: String, why: String, next: String| Failure {
            exit,
            what: format!("source {name}: {what}"),
            place,
            why,
            in_force: in_force.to_owned(),
            next,
        };
        match &self.reason {
            Reason::Credentials(error) => of(
                credentials_exit(error),
                &format!("the {} of the account cannot be read", error.subject()),
                format!("[source.{name}.bind]"),
                error.to_string(),
                "mend the file; nothing was sent to a server".into(),
            ),
            Reason::Trust(error) => of(
                Exit::Configuration,
                "the certificate authorities to trust cannot be loaded",
                format!("[source.{name}]"),
                error.to_string(),
                "name a PEM file with the authority's certificate as `ca_file`".into(),
            ),
            Reason::WithoutTls { server, why } => of(
                Exit::Configuration,
                why,
                server.clone(),
                "the server is to be reached without TLS".into(),
                format!("use ldaps:// or set `starttls = true` in [source.{name}]"),
            ),
            Reason::Runtime(error) => of(
                Exit::SourceFrozen,
                "the network cannot be used",
                "this machine".into(),
                error.to_string(),
                "see the limits of this process (open files)".into(),
            ),
            Reason::Discovery(failure) => of(
                Exit::SourceFrozen,
                "no server is known to ask",
                format!("DNS, SRV {}", failure.question),
                failure.cause.to_string(),
                failure.next(name),
            ),
            Reason::Servers(attempts) => {
                let Some((told, others)) = most_telling(attempts) else {
                    return of(
                        Exit::Configuration,
                        "there is no server to ask",
                        format!("[source.{name}]"),
                        "`servers` is empty".into(),
                        "name at least one server".into(),
                    );
                };
                let mut why = told.trouble.cause.to_string();
                for other in others.take(ATTEMPTS_TOLD_MAX) {
                    let _ = write!(why, "; {other}");
                }
                let more = attempts.len().saturating_sub(1 + ATTEMPTS_TOLD_MAX);
                if more > 0 {
                    let _ = write!(why, "; and {more} more servers");
                }
                of(
                    told.trouble.exit(),
                    &told.trouble.what(),
                    told.trouble.place(&told.server),
                    why,
                    told.trouble.next(name),
                )
            }
        }
    }
}

fn credentials_exit(error: &CredentialsError) -> Exit {
    match error {
        CredentialsError::Secret { .. } | CredentialsError::Unreadable { .. } => Exit::Permission,
        CredentialsError::Damaged { .. }
        | CredentialsError::Mismatch { .. }
        | CredentialsError::Keytab { .. }
        | CredentialsError::KerberosSettings(_)
        | CredentialsError::NotBuilt => Exit::Configuration,
    }
}

impl Trouble {
    fn exit(&self) -> Exit {
        let is_denied = matches!(&self.cause, Cause::Refused(outcome) if outcome.code == 50)
            || matches!(
                &self.cause,
                Cause::Tls(rustls::Error::AlertReceived(alert)) if is_about_our_certificate(*alert)
            );
        if is_denied || self.is_refused_account() {
            Exit::Permission
        } else {
            Exit::SourceFrozen
        }
    }
}

/// The attempt that tells most, and the others: a refusal of the account, else the one that came furthest.
fn most_telling(attempts: &[Attempt]) -> Option<(&Attempt, impl Iterator<Item = &Attempt>)> {
    let told = attempts.iter().enumerate().max_by_key(|(at, attempt)| {
        (
            attempt.trouble.is_refused_account(),
            attempt.trouble.step.order(),
            std::cmp::Reverse(*at),
        )
    });
    let (told_at, told) = told?;
    let others = attempts.iter().enumerate();
    Some((
        told,
        others.filter_map(move |(at, other)| (at != told_at).then_some(other)),
    ))
}

impl Step {
    fn order(&self) -> u8 {
        match self {
            Step::Connect => 0,
            Step::StartTls => 1,
            Step::TlsHandshake => 2,
            Step::Ticket { .. } => 3,
            Step::ServiceTicket { .. } => 4,
            Step::Bind(_) => 5,
            Step::RootDse | Step::GlobalCatalog => 6,
            Step::DirSync { .. } => 7,
            Step::Page { .. } => 8,
            Step::Range { .. } => 9,
            Step::End => 10,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Connect => f.write_str("the connection"),
            Step::StartTls => f.write_str("StartTLS"),
            Step::TlsHandshake => f.write_str("the TLS handshake"),
            Step::Ticket { principal } => write!(f, "the ticket of {}", safe(principal)),
            Step::ServiceTicket { service } => write!(f, "the ticket for {}", safe(service)),
            Step::Bind(Identity::Principal(name)) => {
                write!(f, "the Kerberos bind as {}", safe(name))
            }
            Step::Bind(Identity::Anonymous) => f.write_str("the anonymous bind"),
            Step::Bind(Identity::Account(name)) => write!(f, "the bind as {}", safe(name)),
            Step::Bind(Identity::Certificate(file)) => {
                write!(f, "the bind as the owner of {}", file.display())
            }
            Step::GlobalCatalog => f.write_str("the check of the global catalog"),
            Step::RootDse => f.write_str("the question about the server itself"),
            Step::DirSync { .. } => f.write_str("the search for changes"),
            Step::Page { number, .. } => write!(f, "page {number}"),
            Step::Range { attribute, .. } => write!(f, "the rest of {}", safe(attribute)),
            Step::End => f.write_str("the end of all answers"),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}",
            self.trouble.place(&self.server),
            self.trouble.step,
            self.trouble.cause
        )
    }
}

/// Beside the most telling one; DNS may name hundreds.
const ATTEMPTS_TOLD_MAX: usize = 8;

struct Attempts<'attempts>(&'attempts [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, attempt) in self.0.iter().take(1 + ATTEMPTS_TOLD_MAX).enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{attempt}")?;
        }
        match self.0.len().saturating_sub(1 + ATTEMPTS_TOLD_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more servers"),
        }
    }
}

struct Refusal<'outcome>(&'outcome Outcome);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = self.0;
        write!(f, "{} ({})", code_name(outcome.code), outcome.code)?;
        f.write_str(&said(&outcome.diagnostic))?;
        if !outcome.matched.is_empty() {
            write!(f, ", found as far as {}", safe(&outcome.matched))?;
        }
        for url in outcome.referrals.iter().take(REFERRALS_TOLD_MAX) {
            write!(f, ", refers to {}", safe(url))?;
        }
        Ok(())
    }
}

/// More would bury the error.
const REFERRALS_TOLD_MAX: usize = 4;

/// What a server said, for the end of a sentence; nothing when it said nothing.
pub(super) fn said(diagnostic: &str) -> String {
    let text = safe(diagnostic.trim_matches(['\0', ' ', '\r', '\n']));
    if text.is_empty() {
        text
    } else {
        format!(": \"{text}\"")
    }
}

/// Text from outside, for one line of a log or a terminal: harmless, and not endless.
pub(super) fn safe(text: &str) -> String {
    const CHARACTERS_MAX: usize = 500;
    let begin: String = text.chars().take(CHARACTERS_MAX).collect();
    let mut shown = key(begin.as_bytes());
    if begin.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The name of a result code (RFC 4511 appendix A).
pub(super) fn code_name(code: u32) -> &'static str {
    match code {
        0 => "success",
        1 => "operationsError",
        2 => "protocolError",
        3 => "timeLimitExceeded",
        4 => "sizeLimitExceeded",
        5 => "compareFalse",
        6 => "compareTrue",
        7 => "authMethodNotSupported",
        8 => "strongerAuthRequired",
        10 => "referral",
        11 => "adminLimitExceeded",
        12 => "unavailableCriticalExtension",
        13 => "confidentialityRequired",
        14 => "saslBindInProgress",
        16 => "noSuchAttribute",
        17 => "undefinedAttributeType",
        18 => "inappropriateMatching",
        19 => "constraintViolation",
        20 => "attributeOrValueExists",
        21 => "invalidAttributeSyntax",
        32 => "noSuchObject",
        33 => "aliasProblem",
        34 => "invalidDNSyntax",
        36 => "aliasDereferencingProblem",
        48 => "inappropriateAuthentication",
        49 => "invalidCredentials",
        50 => "insufficientAccessRights",
        51 => "busy",
        52 => "unavailable",
        53 => "unwillingToPerform",
        54 => "loopDetect",
        64 => "namingViolation",
        65 => "objectClassViolation",
        66 => "notAllowedOnNonLeaf",
        67 => "notAllowedOnRDN",
        68 => "entryAlreadyExists",
        69 => "objectClassModsProhibited",
        71 => "affectsMultipleDSAs",
        80 => "other",
        _ => "a code without a name",
    }
}

/// What a run does about a refusal.
pub(super) const NOT_TRIED_AGAIN: &str = "; the account is not tried again in this run";

/// What Active Directory's sub-code in `… AcceptSecurityContext error, data 52e, v2580` means.
fn bind_advice(diagnostic: &str) -> &'static str {
    let sub_code = diagnostic
        .split_once(", data ")
        .and_then(|(_, rest)| rest.split([',', ' ', '\0']).next())
        .unwrap_or_default();
    match sub_code.to_ascii_lowercase().as_str() {
        "525" => "the account does not exist (525): correct `name`",
        "52e" => {
            "the password is wrong, or the name (52e): correct it before the account is locked"
        }
        "530" => "the account may not log on at this hour (530): lift its logon hours",
        "531" => "the account may not log on from here (531): lift its list of workstations",
        "532" => "the password has expired (532): set a new one, and let this account's not expire",
        "533" => "the account is disabled (533): enable it",
        "701" => "the account has expired (701): lift its date",
        "773" => {
            "the password must be changed first (773): clear \"must change password at next logon\""
        }
        "775" => {
            "the account is locked (775): unlock it, and look for what else uses an old password"
        }
        _ => "name or password is wrong: correct it before the account is locked",
    }
}

fn next_after_tls(error: &rustls::Error, source_name: &str) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return "check that the port speaks TLS 1.2 or 1.3: ldaps:// means port 636, StartTLS port 389".into();
    };
    // A bad signature is what a renewed authority looks like: the old name with another key.
    if let CertificateError::UnknownIssuer | CertificateError::BadSignature = certificate {
        return format!(
            "set `ca_file` in [source.{source_name}] to a PEM file with the certificate of the authority that issued the \
             server's certificate"
        );
    }
    if let CertificateError::NotValidForNameContext { presented, .. } = certificate {
        return if presented.is_empty() {
            "give the server a certificate with a subjectAltName; this one has none".into()
        } else {
            format!(
                "write the server in `servers` by a name that its certificate has: {}",
                safe(&presented.join(", "))
            )
        };
    }
    if let CertificateError::Expired | CertificateError::ExpiredContext { .. } = certificate {
        return "renew the server's certificate; check the clock of this machine".into();
    }
    if let CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } = certificate
    {
        return "check the clock of this machine and of the server".into();
    }
    format!("mend the server's certificate, or `ca_file` in [source.{source_name}]")
}

/// Whether an alert says that the server does not take the client's certificate, or misses one.
fn is_about_our_certificate(alert: AlertDescription) -> bool {
    const ALERTS: &[AlertDescription] = &[
        AlertDescription::NoCertificate,
        AlertDescription::BadCertificate,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnknownCA,
        AlertDescription::AccessDenied,
        AlertDescription::CertificateRequired,
    ];
    ALERTS.contains(&alert)
}

fn next_after_loss(lost: &Lost, step: &Step) -> String {
    match lost {
        Lost::Closed | Lost::Broken(_) if matches!(step, Step::Bind(Identity::Certificate(_))) => {
            "look whether the server takes this client certificate (its log says so; some servers refuse one by hanging up): \
             its authority, its dates, its names".into()
        }
        Lost::Closed | Lost::ClosedInMessage { .. } | Lost::Broken(_)
            if *step == Step::StartTls || *step == Step::TlsHandshake =>
        {
            "check that the port speaks TLS and that the server has a certificate".into()
        }
        Lost::Closed | Lost::ClosedInMessage { .. } | Lost::Broken(_) | Lost::Notice(_) => {
            "the next run tries again; if it stays, see the server's event log and what stands between".into()
        }
        Lost::TooLong { .. } | Lost::Malformed(_) => {
            "check that `servers` names an LDAP server and its right port; a sound one does not send this".into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(step: Step, code: u32, diagnostic: &str) -> Trouble {
        Trouble::new(
            step,
            Cause::Refused(Outcome {
                code,
                diagnostic: diagnostic.into(),
                ..Outcome::default()
            }),
        )
    }

    fn page() -> Step {
        Step::Page {
            base: "DC=corp".into(),
            number: 7,
        }
    }

    fn bind() -> Step {
        Step::Bind(Identity::Account("sync@corp".into()))
    }

    #[track_caller]
    fn check(troubles: Vec<Trouble>, exit: Exit, parts: &[&str]) {
        let attempts = troubles
            .into_iter()
            .zip(1..)
            .map(|(trouble, number)| Attempt {
                server: format!("ldaps://dc{number}"),
                trouble,
            });
        let failure = ReadFailure {
            source_name: "corp".into(),
            reason: Reason::Servers(attempts.collect()),
        }
        .failure("all stays");
        assert_eq!(failure.exit, exit);
        let told = format!("{failure:?}");
        for part in parts {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }

    #[test]
    fn every_failure_answers_the_five_questions() {
        check(
            vec![refused(page(), 4, "")],
            Exit::SourceFrozen,
            &[
                "source corp: page 7 ended with sizeLimitExceeded (4)",
                "ldaps://dc1, base DC=corp",
                "lower `page_size`",
                "all stays",
            ],
        );
        check(
            vec![refused(
                bind(),
                49,
                "80090308: LdapErr: DSID-0C09044E, comment: AcceptSecurityContext error, data 775, v2580\0",
            )],
            Exit::Permission,
            &[
                "the bind as sync@corp ended with invalidCredentials (49)",
                "is locked (775)",
            ],
        );
        check(vec![refused(bind(), 51, "")], Exit::SourceFrozen, &["busy"]);
        check(
            vec![refused(page(), 50, "")],
            Exit::Permission,
            &["right to read"],
        );
        check(
            vec![refused(page(), 32, "")],
            Exit::SourceFrozen,
            &["check `base`"],
        );
        check(vec![], Exit::Configuration, &["no server"]);
    }

    #[test]
    fn failures_of_kerberos_say_whose_they_are() {
        let kdc = |code| {
            Cause::Kerberos(KerberosError::Refused {
                code,
                name: "NAME",
                text: "a\u{1b}b".into(),
            })
        };
        let ticket = || Step::Ticket {
            principal: "sync@CORP".into(),
        };
        let service = || Step::ServiceTicket {
            service: "ldap/dc1".into(),
        };
        let as_principal = || Step::Bind(Identity::Principal("sync@CORP".into()));
        for (step, code, exit, part) in [
            (ticket(), 24, Exit::Permission, "make a new keytab"),
            (ticket(), 14, Exit::Permission, "let the account use AES"),
            (ticket(), 23, Exit::Permission, "a new password"),
            (ticket(), 37, Exit::SourceFrozen, "set the clock"),
            (ticket(), 60, Exit::SourceFrozen, "the log of the KDC"),
            (service(), 7, Exit::SourceFrozen, "setspn -S"),
            (service(), 37, Exit::SourceFrozen, "set the clock"),
        ] {
            let told = format!("the KDC answered NAME ({code}): \\\"a\\\\u{{1b}}b\\\"");
            check(vec![Trouble::new(step, kdc(code))], exit, &[part, &told]);
        }
        let refused_bind = |code, text: &str, part: &str| {
            let told = ["the Kerberos bind as sync@CORP ended with", part];
            check(
                vec![refused(as_principal(), code, text)],
                Exit::Permission,
                &told,
            );
        };
        refused_bind(8, "", "allow_sasl_over_tls");
        refused_bind(
            49,
            "8009030C: …, data 80090346, v4563",
            "another certificate",
        );
        refused_bind(49, "", "check the clocks");
    }

    /// The server that came furthest is the one to mend; a refused account comes before all.
    #[test]
    fn all_attempts_are_told_and_the_best_one_first() {
        let closed = || Trouble::new(page(), Cause::Lost(Lost::Closed));
        let silent = || Trouble::new(Step::Connect, Cause::Deadline);
        check(
            vec![silent(), closed(), silent()],
            Exit::SourceFrozen,
            &[
                "page 7 failed",
                "place: \"ldaps://dc2",
                "; ldaps://dc1: ",
                "; ldaps://dc3: ",
            ],
        );
        check(
            (0..20).map(|_| silent()).collect(),
            Exit::SourceFrozen,
            &["; ldaps://dc9: ", "; and 11 more servers"],
        );
        check(
            vec![closed(), refused(bind(), 49, "")],
            Exit::Permission,
            &[
                "invalidCredentials",
                "; ldaps://dc1, base DC=corp: page 7: the server closed",
            ],
        );
    }

    #[test]
    fn foreign_text_cannot_draw_on_the_terminal() {
        assert_eq!(
            safe("a\u{1b}[2Jb\u{202e}c\u{e0041}"),
            "a\\u{1b}[2Jb\\u{202e}c\\u{e0041}"
        );
        assert_eq!(safe(&"x".repeat(9000)).chars().count(), 501);
        assert_eq!(said("gone\n\0"), ": \"gone\"");
        assert_eq!(said("\0"), "");
    }
}
