//! Kerberos: tickets with the keys of a keytab, and the bind that uses them (RFC 4752). The only file that names the
//! Kerberos crate; a feature of the build.
//!
//! Tickets live in memory for one bind. The service is `ldap/` and the server's name as configured, never a name that DNS
//! gives back. The bind happens inside TLS before the LDAP crate gets the connection, is tied to the server's certificate
//! (RFC 5929, `tls-server-end-point`), and asks for no layer of its own. Not here: the turns of the exchange (`sasl`), the
//! format of keytabs (`keytab`).
//!
//! Invariant: a bind that ends well was made with a server that has proven to hold the key of its service.

use std::sync::Arc;

use krb5::initiator::{
    GSS_C_CHANNEL_BOUND_FLAG, GSS_C_MUTUAL_FLAG, GSS_C_REPLAY_FLAG, GSS_C_SEQUENCE_FLAG,
    InitOptions,
};
use krb5::{
    AsyncKdcClient, ChannelBindings, ClientError, ConfigError, EncType, InitiatorContext, Keytab,
    Krb5Conf, Principal, ServiceKey,
};

use crate::config::secret::SecretPlace;

use super::bind::{CredentialsError, Identity, secret};
use super::failure::{Cause, KerberosError, Step, Trouble};
use super::keytab;
use super::sasl::{self, Awaited};
use super::session::Patience;
use super::wire::Stream;

const MECHANISM: &str = "GSSAPI";
const SERVICE: &str = "ldap";

/// Who to be.
pub struct Kerberos(Arc<Account>);

/// A principal with its keys and what this machine knows of its realm.
struct Account {
    principal: Principal,
    keys: Keytab,
    settings: Krb5Conf,
}

impl Kerberos {
    /// Reads the keytab and krb5.conf.
    pub fn read(principal: &str, keytab: &SecretPlace) -> Result<Kerberos, CredentialsError> {
        let (path, file) = keytab.read_file().map_err(secret("keytab"))?;
        let unusable = |reason: String| CredentialsError::Keytab {
            path: path.clone(),
            reason,
        };
        let entries = keytab::read(file.reveal())
            .map_err(|error| unusable(format!("is no keytab: {error}")))?;
        let own: Vec<&keytab::Entry> = entries
            .iter()
            .filter(|entry| entry.principal == principal)
            .collect();
        if own.is_empty() {
            return Err(unusable(format!(
                "holds no key of {principal}; it is of {}",
                keytab::principals(&entries)
            )));
        }
        let parsed = Principal::parse(principal).map_err(|error| unusable(error.to_string()))?;
        let key = |entry: &&keytab::Entry| {
            let kind = EncType::from_i32(entry.encryption_type)?;
            let name = parsed.name();
            let key = entry.key.as_slice();
            Some(ServiceKey::new(
                name,
                &parsed.realm,
                entry.version,
                kind,
                key,
            ))
        };
        let keys: Vec<ServiceKey> = own.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(unusable(format!(
                "holds no AES key of {principal}, and weaker ones are not used; make it with /crypto AES256-SHA1"
            )));
        }
        let settings = Krb5Conf::load_default()
            .map_err(|error| CredentialsError::KerberosSettings(error.to_string()))?;
        Ok(Kerberos(Arc::new(Account {
            principal: parsed,
            keys: Keytab::from_keys(keys),
            settings,
        })))
    }

    /// Its name with its realm.
    pub fn principal(&self) -> String {
        self.0.principal.to_string()
    }

    /// A ticket for the LDAP service of a server. In a task of its own: whoever answers in place of a KDC must not end the
    /// run by an answer that the crate fails on.
    async fn ticket(&self, host: &str, patience: Patience) -> Result<krb5::Credentials, Trouble> {
        let (account, host) = (Arc::clone(&self.0), host.to_owned());
        let task = tokio::spawn(async move { account.ticket(&host, patience).await });
        match task.await {
            Ok(ticket) => ticket,
            Err(panic) => {
                let step = Step::Ticket {
                    principal: self.principal(),
                };
                let why = KerberosError::Message(format!("the Kerberos library failed: {panic}"));
                Err(Trouble::new(step, Cause::Kerberos(why)))
            }
        }
    }
}

impl Account {
    async fn ticket(&self, host: &str, patience: Patience) -> Result<krb5::Credentials, Trouble> {
        let service = Principal::host_service(SERVICE, host, &self.settings);
        let first = Step::Ticket {
            principal: self.principal.to_string(),
        };
        let second = Step::ServiceTicket {
            service: service.name(),
        };
        let no_ticket = |cause| Trouble::new(first.clone(), cause);
        let kdc = AsyncKdcClient::from_config(&self.settings, &self.principal.realm);
        let kdc = patience
            .wait(kdc)
            .await
            .map_err(no_ticket)?
            .map_err(|error| no_ticket(not_located(&error)))?;
        // Each of several KDCs gets its share; the whole is bounded by the wait below.
        let share = patience.answer / u32::try_from(kdc.client().kdcs().len().max(1)).unwrap_or(1);
        let kdc = AsyncKdcClient::new(kdc.into_client().with_timeout(share));
        let login = kdc.login_with_keytab(&self.principal, &self.keys);
        let granting = patience
            .wait(login)
            .await
            .map_err(no_ticket)?
            .map_err(|error| no_ticket(cause(error)))?;
        let no_ticket = |cause| Trouble::new(second.clone(), cause);
        patience
            .wait(kdc.service_ticket(&granting, &service))
            .await
            .map_err(no_ticket)?
            .map_err(|error| no_ticket(cause(error)))
    }
}

/// Gets a ticket and binds with it. Nothing may be under way on the stream; nothing is afterwards.
pub async fn bind(
    kerberos: &Kerberos,
    host: &str,
    stream: &mut dyn Stream,
    server_certificate: Option<&[u8]>,
    patience: Patience,
) -> Result<(), Trouble> {
    let bound = |cause| Trouble::new(Step::Bind(Identity::Principal(kerberos.principal())), cause);
    let bindings = server_certificate
        .and_then(ChannelBindings::tls_server_end_point)
        .ok_or_else(|| {
            bound(exchange_error(
                "the server's certificate is signed in a way for which no channel binding is defined (RFC 5929)",
            ))
        })?;
    let ticket = kerberos.ticket(host, patience).await?;
    exchange(&ticket, &bindings, stream, patience)
        .await
        .map_err(bound)
}

async fn exchange(
    ticket: &krb5::Credentials,
    bindings: &ChannelBindings,
    stream: &mut dyn Stream,
    patience: Patience,
) -> Result<(), Cause> {
    // Neither integrity nor confidentiality is asked for: a controller takes either for a layer, which it refuses in TLS.
    const FLAGS: u32 =
        GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_CHANNEL_BOUND_FLAG;
    let mut options = InitOptions::default();
    options.channel_bindings = Some(bindings);
    let (mut context, token) =
        InitiatorContext::with_options(ticket, FLAGS, options).map_err(cause)?;
    let reply = turn(stream, patience, 1, &token, Awaited::Token).await?;
    context.step(&reply).map_err(not_proven)?;
    let offer = turn(stream, patience, 2, &[], Awaited::Offer).await?;
    let tokens = context.per_message_tokens().map_err(not_proven)?;
    let offer = tokens
        .verify_wrap_unsealed(&offer)
        .or_else(|_| tokens.unwrap(&offer))
        .map_err(not_proven)?;
    let choice = sasl::without_layer(&offer.message)
        .map_err(|error| Cause::Kerberos(KerberosError::Exchange(error)))?;
    let choice = tokens
        .emit_wrap_unsealed(context.send_seq(), &choice, 0)
        .map_err(|error| Cause::Kerberos(KerberosError::Message(error.to_string())))?;
    turn(stream, patience, 3, &choice, Awaited::Outcome).await?;
    Ok(())
}

async fn turn(
    stream: &mut dyn Stream,
    patience: Patience,
    id: u8,
    token: &[u8],
    awaited: Awaited,
) -> Result<Vec<u8>, Cause> {
    let asked = sasl::ask(stream, id, MECHANISM, token);
    let answer = patience.wait(asked).await??;
    sasl::token_of(answer, awaited)
}

fn exchange_error(error: &'static str) -> Cause {
    Cause::Kerberos(KerberosError::Exchange(error))
}

fn not_proven(error: impl std::fmt::Display) -> Cause {
    Cause::Kerberos(KerberosError::NotProven(error.to_string()))
}

fn not_located(error: &ConfigError) -> Cause {
    Cause::Kerberos(KerberosError::Unreachable(error.to_string()))
}

fn cause(error: ClientError) -> Cause {
    Cause::Kerberos(if let ClientError::Kdc { code, text } = error {
        KerberosError::Refused {
            code,
            name: krb5::client::kdc_error_name(code),
            text: text.unwrap_or_default(),
        }
    } else if let ClientError::Unreachable { .. } | ClientError::Config(_) = error {
        KerberosError::Unreachable(error.to_string())
    } else {
        KerberosError::Message(error.to_string())
    })
}
