//! Whom to ask: servers, the authority that vouches for them, the account.
//!
//! Invariant: no name and no password is sent to a server that is not trusted; nobody is trusted but through the system's
//! authorities, a file that a person names, or a fingerprint that a person has compared.

use std::net::IpAddr;
use std::path::PathBuf;

use super::files::is_free;
use super::terminal::{Question, Terminal};
use super::{Draft, SOURCE, from_here, words, wrong};
use crate::certificate::{self, Certificate};
use crate::command::init::{Method, refused};
use crate::config::ServerAddress;
use crate::config::secret::{Secret, SecretPlace};
use crate::directory::Credentials;
use crate::directory::introduction::{Met, Shown};
use crate::error::Result;
use crate::exit::Exit;
use crate::harmless;
use crate::templates::{BindNames, SecretNames};
use crate::trust;

/// Active Directory locks an account after a few wrong passwords; it is tried no more often than that.
const ATTEMPTS_MAX: u32 = 2;

/// Of the controllers that DNS names, so many are tried.
const DISCOVERED_MAX: usize = 3;

/// A server that answered.
pub struct Seen {
    server: ServerAddress,
    shown: Shown,
}

/// Somebody whom the directory let in.
pub struct SignedIn {
    pub credentials: Credentials,
    pub met: Met,
}

/// The servers, each of which was reached.
pub fn servers(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>) -> Result<Vec<Seen>> {
    let options = draft.options;
    // With a fingerprint it is where the authority is to be saved.
    if options.ca_fingerprint.is_none() && options.ca_file.is_some() {
        draft.names.source.ca_file = options.ca_file.as_deref().map(from_here);
        check_authority_file(draft)?;
    }
    let listed = (!options.servers.is_empty()).then(|| options.servers.join(" "));
    let given = options.discover.clone().or(listed);
    let question = Question {
        option: "--server or --discover",
        text: "Directory server: a name (dc1.corp.example) or a URL (ldap:// means StartTLS); \
               or the DNS domain of Active Directory, to find its controllers at each run",
        proposal: None,
    };
    terminal.ask(&question, given, |terminal, answer| {
        let servers = named(draft, terminal, answer)?;
        reach(draft, terminal, servers)
    })
}

/// The servers that an answer names, or those of the domain that it names.
fn named(
    draft: &mut Draft<'_>,
    terminal: &mut Terminal<'_>,
    answer: &str,
) -> Result<Vec<ServerAddress>> {
    let names: Vec<&str> = words(answer).collect();
    let must_be_domain = draft.options.discover.as_deref() == Some(answer);
    let may_be_domain = |name: &&str| {
        name.contains('.') && !name.contains([':', '/']) && name.parse::<IpAddr>().is_err()
    };
    if names.is_empty() {
        return Err(wrong("no server stands there"));
    }
    draft.names.source.servers.clear();
    if let [name] = names.as_slice()
        && (must_be_domain || may_be_domain(name))
    {
        draft.names.source.discover = Some((*name).to_owned());
        let source = draft.source();
        let found = source.and_then(|source| draft.introduction(&source).servers());
        match found {
            Ok(mut servers) => {
                let urls: Vec<&str> = servers.iter().map(|server| server.url.as_str()).collect();
                terminal.say(&format!("  DNS names {}", urls.join(", ")));
                servers.truncate(DISCOVERED_MAX);
                return Ok(servers);
            }
            Err(failure) if must_be_domain => return Err(failure),
            Err(_) => {}
        }
    }
    draft.names.source.discover = None;
    draft.names.source.servers = names
        .iter()
        .map(|name| match name.contains("://") {
            true => (*name).to_owned(),
            false => format!("ldaps://{name}"),
        })
        .collect();
    let source = draft.source()?;
    draft.introduction(&source).servers()
}

/// Connects to each; one that cannot be reached, or whose certificate is wrong in itself, is no answer.
fn reach(
    draft: &Draft<'_>,
    terminal: &mut Terminal<'_>,
    servers: Vec<ServerAddress>,
) -> Result<Vec<Seen>> {
    let source = draft.source()?;
    let is_discovered = draft.names.source.discover.is_some();
    let mut seen: Vec<Seen> = Vec::new();
    let mut last_failure = None;
    for server in servers {
        let shown = draft.introduction(&source).shown_by(&server);
        tell_of(terminal, &server, &shown, seen.is_empty());
        match &shown.refusal {
            Some(failure) if !shown.is_authority_unknown => {
                if !is_discovered {
                    return Err(failure.clone());
                }
                terminal.tell(failure);
                last_failure = Some(failure.clone());
            }
            _ => seen.push(Seen { server, shown }),
        }
    }
    match last_failure {
        Some(failure) if seen.is_empty() => Err(failure),
        _ => Ok(seen),
    }
}

fn tell_of(terminal: &mut Terminal<'_>, server: &ServerAddress, shown: &Shown, is_first: bool) {
    let addresses: Vec<String> = shown.addresses.iter().map(ToString::to_string).collect();
    let trust = match &shown.refusal {
        None => "trusted",
        Some(_) if shown.is_authority_unknown => {
            "not trusted: nobody knows who issued its certificate"
        }
        Some(_) => "not usable",
    };
    let addresses = match addresses.is_empty() {
        true => String::new(),
        false => format!(" ({})", addresses.join(", ")),
    };
    terminal.say(&format!("  {}{addresses}: {trust}", server.url));
    if !is_first {
        return;
    }
    let count = shown.certificates.len();
    for (at, der) in shown.certificates.iter().enumerate() {
        terminal.say(&format!("  certificate {} of {count}", at + 1));
        match Certificate::read(der) {
            Ok(certificate) => tell_certificate(terminal, &certificate),
            Err(error) => terminal.say(&format!("    {error}")),
        }
    }
}

fn tell_certificate(terminal: &mut Terminal<'_>, certificate: &Certificate) {
    let day = |time: crate::time::Timestamp| time.to_string().chars().take(10).collect::<String>();
    let issuer = match certificate.is_self_issued {
        true => "itself",
        false => &certificate.issuer,
    };
    let mut lines = vec![
        ("subject", certificate.subject.as_str().to_owned()),
        ("issuer", issuer.to_owned()),
        ("names", certificate.names.join(", ")),
        (
            "good",
            format!(
                "from {} to {}",
                day(certificate.not_before),
                day(certificate.not_after)
            ),
        ),
        ("SHA-256", certificate.fingerprint.clone()),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    for (name, value) in lines {
        terminal.say(&format!("    {name:<8} {value}"));
    }
}

/// Whom to trust, where the system's authorities do not know the servers.
pub fn authority<'seen>(
    draft: &mut Draft<'_>,
    terminal: &mut Terminal<'_>,
    seen: &'seen [Seen],
) -> Result<()> {
    let untrusted = |seen: &'seen Seen| Some((seen, seen.shown.refusal.as_ref()?));
    let Some((first, refusal)) = seen.iter().find_map(untrusted) else {
        return Ok(());
    };
    let given = draft.options.ca_fingerprint.clone();
    if given.is_none() && !terminal.asks() {
        return Err(refusal.clone());
    }
    let place = draft.free_place("corp-ca", ".pem");
    let place = (draft.options.ca_file.as_ref())
        .filter(|_| draft.options.ca_fingerprint.is_some())
        .map_or(place, |file| PathBuf::from(from_here(file)));
    let shown = (first.shown.certificates.last()).filter(|_| first.shown.shows_its_authority);
    let shown = shown.and_then(|der| Some((der, Certificate::read(der).ok()?)));
    let text = match &shown {
        Some((_, certificate)) => {
            terminal.say(&format!(
                "\nThe last certificate is that of the authority. Trust it only if its own machine\n\
                 shows the same SHA-256. On a Windows authority:\n\
                 \x20   certutil -ca.cert ca.cer\n\
                 \x20   certutil -hashfile ca.cer SHA256\n\
                 Here:\n\
                 \x20   {}",
                certificate.fingerprint
            ));
            format!(
                "Paste what the authority shows, or type yes once you have compared, to save it as {}; \
                 or name a PEM file of yours",
                place.display()
            )
        }
        None => {
            terminal.say(
                "\nThe server does not send the certificate of its authority. On a Windows one:\n\
                 \x20   certutil -ca.cert ca.cer\n\
                 and here:\n\
                 \x20   openssl x509 -inform der -in ca.cer -out corp-ca.pem",
            );
            "PEM file with it".to_owned()
        }
    };
    let question = Question {
        option: "--ca-file, and --ca-fingerprint if it is to be saved",
        text: &text,
        proposal: None,
    };
    terminal.ask(&question, given, |terminal, answer| {
        let fingerprint = certificate::fingerprint(answer);
        draft.authority = None;
        draft.names.source.ca_file = None;
        if answer == "yes" || fingerprint.is_some() {
            let (der, certificate) = shown.as_ref().ok_or_else(|| {
                wrong("the server does not show a certificate that could be saved; name a file")
            })?;
            if fingerprint.is_some_and(|given| given != certificate.fingerprint) {
                return Err(another_authority(&certificate.fingerprint));
            }
            is_free(&place)?;
            draft.authority = Some((*der).clone());
            draft.names.source.ca_file = Some(place.display().to_string());
        } else {
            draft.names.source.ca_file = Some(from_here(answer));
            check_authority_file(draft)?;
        }
        check_all(draft, seen)?;
        terminal.say("  trusted");
        Ok(())
    })
}

fn another_authority(fingerprint: &str) -> Box<crate::error::Failure> {
    refused(
        Exit::Permission,
        "that is not the authority whose certificate the server shows",
        "the certificate of the authority",
        &format!("the server shows {fingerprint}"),
        "if you pasted what the authority itself shows, somebody stands between: trust nothing there",
    )
}

/// That the file with the authority can be read; only then can it be blamed for anything else.
fn check_authority_file(draft: &Draft<'_>) -> Result<()> {
    let source = draft.source()?;
    match trust::roots(source.ca_file.as_deref()) {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(
            Exit::Configuration,
            "that is no file with the certificate of an authority",
            "ca_file",
            &error.to_string(),
            "",
        )),
    }
}

/// That every server is trusted now.
fn check_all(draft: &Draft<'_>, seen: &[Seen]) -> Result<()> {
    let source = draft.source()?;
    for seen in seen {
        let shown = draft.introduction(&source).shown_by(&seen.server);
        shown.refusal.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// Who asks: tried at once, and not often.
pub fn account(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>) -> Result<SignedIn> {
    let method = method(draft, terminal)?;
    let mut attempt = 1;
    loop {
        let credentials = credentials(draft, terminal, method, attempt)?;
        let source = draft.source()?;
        match draft.introduction(&source).meet(&credentials) {
            Ok(met) => {
                terminal.say(&format!("  signed in to {}, {}", met.server, met.product));
                if met.offers_dirsync {
                    terminal.say("  it offers DirSync: runs read only what changed (`doctor` says whether deletions are seen)");
                }
                return Ok(SignedIn { credentials, met });
            }
            Err(refused) => {
                let may_try_again = refused.is_of_account && draft.is_password_typed;
                if !may_try_again || attempt == ATTEMPTS_MAX {
                    return Err(refused.failure);
                }
                terminal.tell(&refused.failure);
                attempt += 1;
                terminal.say(&format!(
                    "  This is attempt {attempt} of {ATTEMPTS_MAX}: directories lock an account after a few wrong passwords."
                ));
            }
        }
    }
}

fn method(draft: &Draft<'_>, terminal: &mut Terminal<'_>) -> Result<Method> {
    let given = draft.options.method.map(|method| method.name().to_owned());
    let given = given.or_else(|| {
        let is_keytab = draft.options.keytab.is_some();
        let method = if is_keytab {
            Method::Gssapi
        } else {
            Method::Simple
        };
        draft
            .options
            .name
            .as_ref()
            .map(|_| method.name().to_owned())
    });
    let gssapi = match cfg!(feature = "gssapi") {
        true => ", gssapi (a keytab)",
        false => "",
    };
    let question = Question {
        option: "--method",
        text: &format!("Sign in by: simple (name and password){gssapi}, anonymous"),
        proposal: Some(Method::Simple.name().to_owned()),
    };
    terminal.ask(&question, given, |_, answer| {
        Method::named(answer).ok_or_else(|| wrong(&format!("\"{answer}\" is none of them")))
    })
}

fn credentials(
    draft: &mut Draft<'_>,
    terminal: &mut Terminal<'_>,
    method: Method,
    attempt: u32,
) -> Result<Credentials> {
    match method {
        Method::Anonymous => {
            draft.names.source.bind = Some(BindNames::Anonymous);
            Ok(Credentials::Anonymous)
        }
        Method::Simple => simple(draft, terminal, attempt),
        Method::Gssapi => gssapi(draft, terminal),
    }
}

fn simple(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>, attempt: u32) -> Result<Credentials> {
    let before = match &draft.names.source.bind {
        Some(BindNames::Simple { name, .. }) if attempt > 1 => Some(name.clone()),
        _ => None,
    };
    let question = Question {
        option: "--name",
        text: "Account: name@corp.example, CORP\\name or a DN; an ordinary one without rights",
        proposal: before,
    };
    let given = draft.options.name.clone().filter(|_| attempt == 1);
    let place = secret_place(draft, draft.options.password_file.as_deref());
    let name = terminal.ask(&question, given, |_, answer| {
        draft.names.source.bind = Some(BindNames::Simple {
            name: answer.to_owned(),
            password: place.clone(),
        });
        draft.source()?;
        Ok(answer.to_owned())
    })?;
    let password = match &draft.options.password_file {
        Some(file) => read_password(file)?,
        None if !terminal.asks() => {
            return Err(wrong("the password is missing: give --password-file"));
        }
        None => {
            let prompt = format!("Password of {} (not shown)", harmless::key(name.as_bytes()));
            let password = typed_password(terminal, &prompt)?;
            draft.is_password_typed = true;
            password
        }
    };
    Ok(Credentials::Simple { name, password })
}

fn read_password(file: &str) -> Result<Secret> {
    SecretPlace::File(file.into()).read().map_err(|error| {
        refused(
            Exit::Permission,
            "the password cannot be read",
            file,
            &error.to_string(),
            "mend the file; nothing was sent to a server",
        )
    })
}

fn typed_password(terminal: &mut Terminal<'_>, prompt: &str) -> Result<Secret> {
    loop {
        match Secret::typed(terminal.secret(prompt)?) {
            Some(password) => return Ok(password),
            None => terminal.say("  an empty password would sign in as nobody; Ctrl-C ends it"),
        }
    }
}

fn gssapi(draft: &mut Draft<'_>, terminal: &mut Terminal<'_>) -> Result<Credentials> {
    let question = Question {
        option: "--name",
        text: "Principal: rcptsync@CORP.EXAMPLE",
        proposal: None,
    };
    let principal = terminal.ask(&question, draft.options.name.clone(), |_, answer| {
        draft.names.source.bind = Some(BindNames::Gssapi {
            principal: answer.to_owned(),
            keytab: SecretNames::Credential(format!("{SOURCE}.keytab")),
        });
        draft.source()?;
        Ok(answer.to_owned())
    })?;
    let question = Question {
        option: "--keytab",
        text: "Keytab, a file that is there",
        proposal: None,
    };
    terminal.ask(&question, draft.options.keytab.clone(), |_, answer| {
        let keytab = SecretNames::File(from_here(answer));
        let of = |keytab| BindNames::Gssapi {
            principal: principal.clone(),
            keytab,
        };
        draft.names.source.bind = Some(of(keytab));
        let credentials = Credentials::read(&draft.source()?.bind).map_err(|error| {
            let what = "the keytab cannot be used";
            refused(Exit::Permission, what, answer, &error.to_string(), "")
        })?;
        draft.names.source.bind = Some(of(secret_place(draft, Some(answer))));
        Ok(credentials)
    })
}

/// How the configuration names a secret that is there; one that is typed gets its place at the end.
fn secret_place(draft: &Draft<'_>, file: Option<&str>) -> SecretNames {
    match (&draft.options.credential, file) {
        (Some(name), _) => SecretNames::Credential(name.clone()),
        (None, Some(file)) => SecretNames::File(from_here(file)),
        (None, None) => SecretNames::Credential(format!("{SOURCE}.password")),
    }
}
