//! What a reply at `RCPT TO` means for an address of which the right answer is known. Pure: values in, a verdict out.
//!
//! Only two replies contradict: an unknown-recipient refusal of an address that the table has, and an acceptance of one
//! that it does not have. Everything else that is not the right answer decides nothing (greylisting, a table that does not
//! open, relaying denied …), and is told with its cause and its mend. Replies are recognised by their codes first, and by
//! their words where servers use one code for many things.
//!
//! Invariant: the address that was asked for is not among the words that decide, since whoever chose it is a stranger.

use std::time::Duration;

use serde::Serialize;

use crate::address::Address;
use crate::smtp::{Reply, SmtpError, said};

/// A reply that took longer is worth a sentence.
pub const SLOW: Duration = Duration::from_secs(2);

/// The right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// 250: the table has it.
    Accepted,
    /// 550 5.1.1: nobody has it.
    Refused,
}

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The gateway that reads our table.
    Gateway,
    /// The mail system that it relays to.
    Behind,
}

/// What an answer says about the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The right answer.
    Agrees,
    /// The wrong answer.
    Contradicts,
    /// No answer to the question.
    Undecided(Reason),
}

impl Verdict {
    /// Its name in JSON and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Agrees => "agrees",
            Verdict::Contradicts => "contradicts",
            Verdict::Undecided(_) => "undecided",
        }
    }

    /// What an administrator should know of it; nothing where all is well.
    pub fn sentence(self, expected: Expected, side: Side) -> Option<&'static str> {
        match self {
            Verdict::Agrees => None,
            Verdict::Contradicts => Some(contradiction(expected, side)),
            Verdict::Undecided(reason) => Some(reason.sentence()),
        }
    }
}

fn contradiction(expected: Expected, side: Side) -> &'static str {
    match (side, expected) {
        (Side::Gateway, Expected::Accepted) => {
            "it refuses a recipient that the table has, so mail is lost: it reads another table than this one (postconf \
             relay_recipient_maps; another host?), has not seen the new one, or refuses before it looks"
        }
        (Side::Gateway, Expected::Refused) => {
            "it accepts a recipient that does not exist and will have to bounce to a forged sender: relay_recipient_maps is \
             empty or another table, a row @domain stands in it, the domain is not a relay domain, or \
             smtpd_reject_unlisted_recipient = no"
        }
        (Side::Behind, Expected::Accepted) => {
            "the gateway accepts this recipient and the system behind refuses it, so the gateway must bounce (backscatter): \
             is the address newer or older here than there, or meant for another system?"
        }
        (Side::Behind, Expected::Refused) => {
            "it does not check recipients at RCPT TO, so nothing it accepts proves anything, and a callout \
             (reject_unverified_recipient) to it accepts everybody. Exchange 2013 and later do so on port 25 (Front End); ask \
             port 2525 (Transport), with the Recipient Filter agent on"
        }
    }
}

/// Why an answer decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// 450 4.2.0, 4.7.1 and words.
    Greylisted,
    /// 450 4.3.2 of postscreen.
    Postscreen,
    /// 451 4.3.0
    TableFailure,
    /// 450 4.1.1 of a callout that is not finished, or that defers.
    Unverified,
    /// 450 4.1.1 of a table.
    SoftRefusal,
    /// 454 or 554.
    RelayDenied,
    /// 421
    Closing,
    /// 530
    TlsNeeded,
    /// 530 5.7.57
    AuthenticationNeeded,
    /// It does not like who asks.
    ClientRefused,
    /// It does not like the sender.
    SenderRefused,
    /// Any other 4xx.
    OtherTemporary,
    /// Any other 5xx.
    OtherRefusal,
    /// No connection.
    Unreachable,
    /// Connected, and no greeting.
    NoGreeting,
    /// No reply in time.
    Silent,
    /// The connection ended.
    Lost,
    /// Something else than SMTP.
    NotSmtp,
    /// SMTPUTF8 is not offered.
    NoSmtputf8,
    /// The whole run was over.
    TimeIsUp,
}

impl Reason {
    /// What it means and what to do.
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::Greylisted => {
                "greylisting: it defers whoever it does not know yet, before it looks into the table. Ask again after its \
                 delay from the same address, or exempt this client; better, let unknown recipients be refused before \
                 (reject_unlisted_recipient in front of the policy service)"
            }
            Reason::Postscreen => {
                "postscreen tests this client and has not let it through to smtpd yet; ask again, it remembers who passed"
            }
            Reason::TableFailure => {
                "a lookup table does not work, so it defers everybody: the file is missing or broken, or its type is not \
                 installed; the mail log names it. A smtpd that started without the file goes on so until `postfix reload`"
            }
            Reason::Unverified => {
                "a callout (reject_unverified_recipient) is not finished, or the system behind does not answer it; ask again. \
                 If it stays, unverified_recipient_reject_code is still 450 instead of 550"
            }
            Reason::SoftRefusal => {
                "it does not know the recipient and defers instead of refusing, so senders try for days and bounce then: \
                 soft_bounce = yes, or unknown_relay_recipient_reject_code = 450"
            }
            Reason::RelayDenied => {
                "it does not relay for this domain (relay_domains; on Exchange: accepted domains) to whoever asks from here"
            }
            Reason::Closing => {
                "it ends the session (too many connections or errors, or it is stopping); ask later, or with fewer --samples"
            }
            Reason::TlsNeeded => {
                "it insists on TLS (STARTTLS), which rcptsync does not speak here; ask a port that does not, as strangers do"
            }
            Reason::AuthenticationNeeded => {
                "it wants whoever asks to log on: on Exchange, a receive connector that lets this address in anonymously"
            }
            Reason::ClientRefused => {
                "it refuses this client (a blocklist, its host name or the name it gave: --helo), not the recipient; ask from \
                 another host"
            }
            Reason::SenderRefused => {
                "it refuses the sender, not the recipient; choose another with --sender. The empty sender is that of every \
                 bounce, and a gateway must take it"
            }
            Reason::OtherTemporary => {
                "a temporary failure that is not about the recipient; ask again later"
            }
            Reason::OtherRefusal => {
                "a refusal, but not that of an unknown recipient (550 5.1.1): another rule speaks first"
            }
            Reason::Unreachable => {
                "nobody answers there: wrong host or port, a firewall, or the server is down"
            }
            Reason::NoGreeting => {
                "it takes the connection and does not greet: a smtpd that ends at once because a table is broken (a cut CDB \
                 does that; see the mail log), all processes busy, or postscreen with a longer wait than --timeout"
            }
            Reason::Silent => {
                "no answer in time: a tarpit, or a lookup, policy service or callout that hangs; a longer --timeout may tell"
            }
            Reason::Lost => {
                "the connection ended before the answer; the mail log of the server may say why"
            }
            Reason::NotSmtp => {
                "what answers there does not speak SMTP as it should; is it the right port?"
            }
            Reason::NoSmtputf8 => {
                "not asked: the address is not ASCII and the server does not offer SMTPUTF8, so nobody can ask it"
            }
            Reason::TimeIsUp => {
                "not asked any more: the time for the whole run (run_timeout) is up"
            }
        }
    }

    /// Why there was no reply.
    pub fn of_error(error: &SmtpError, before_greeting: bool) -> Reason {
        match error {
            SmtpError::Unresolved(_) | SmtpError::Unreachable(_) => Reason::Unreachable,
            SmtpError::Silent(_) | SmtpError::Closed if before_greeting => Reason::NoGreeting,
            SmtpError::Silent(_) | SmtpError::Dripping(_) => Reason::Silent,
            SmtpError::Closed | SmtpError::Broken(_) => Reason::Lost,
            SmtpError::TooMuch | SmtpError::NotSmtp(_) | SmtpError::Unasked => Reason::NotSmtp,
            SmtpError::TimeIsUp => Reason::TimeIsUp,
        }
    }

    /// Why a server does not let anybody ask: a reply to the connection, EHLO or MAIL that is no yes.
    pub fn of_beginning(reply: &Reply, is_sender: bool) -> Reason {
        let reason = reason(reply, &reply.text().to_lowercase());
        // Before there is a recipient, nothing can be wrong with one.
        match (reason.is_any_refusal(), is_sender) {
            (true, true) => Reason::SenderRefused,
            (true, false) if reply.code >= 500 => Reason::ClientRefused,
            (true, false) | (false, _) => reason,
        }
    }

    fn is_any_refusal(self) -> bool {
        matches!(
            self,
            Reason::OtherRefusal | Reason::OtherTemporary | Reason::RelayDenied
        )
    }
}

/// What a reply to `RCPT TO` says about an address.
pub fn judge(address: &Address, expected: Expected, reply: &Reply) -> Verdict {
    // Strangers choose addresses; what they wrote there must not be taken for words of the server.
    let words = reply.text().to_lowercase();
    let words = words.replace(&said(address).to_lowercase(), "");
    let found = match reply.code {
        250 | 251 => Expected::Accepted,
        _ if is_unknown(reply, &words) => Expected::Refused,
        _ => return Verdict::Undecided(reason(reply, &words)),
    };
    if found == expected {
        Verdict::Agrees
    } else {
        Verdict::Contradicts
    }
}

/// Whether it is a refusal because the recipient does not exist.
fn is_unknown(reply: &Reply, words: &str) -> bool {
    if !matches!(reply.code, 550..=559) {
        return false;
    }
    match reply.enhanced() {
        // 5.1.10: RecipientNotFound of newer Exchange.
        Some((5, 1, 1 | 10)) => true,
        // Exchange Online says so of addresses that its directory does not have.
        Some((5, 4, 1)) => words.contains("recipient address rejected: access denied"),
        Some(_) => false,
        None => UNKNOWN.iter().any(|known| words.contains(known)),
    }
}

/// Of servers without enhanced codes.
const UNKNOWN: [&str; 9] = [
    "user unknown",
    "unknown user",
    "no such user",
    "recipient unknown",
    "unknown recipient",
    "no such recipient",
    "mailbox unavailable",
    "unknown address",
    "unrouteable address",
];

fn reason(reply: &Reply, words: &str) -> Reason {
    let has = |some: &[&str]| some.iter().any(|word| words.contains(word));
    let is_temporary = reply.code / 100 == 4;
    match (reply.code, reply.enhanced()) {
        (421, _) => Reason::Closing,
        (_, Some((5, 7, 57))) => Reason::AuthenticationNeeded,
        (530, _) if has(&["starttls", "tls", "encrypt"]) => Reason::TlsNeeded,
        (530, _) => Reason::AuthenticationNeeded,
        (_, Some((4, 1, 1))) if has(&["verif", "undeliverable"]) => Reason::Unverified,
        (_, Some((4, 1, 1))) => Reason::SoftRefusal,
        _ if has(&["client host", "helo command", "ehlo", "blocked using"]) => {
            Reason::ClientRefused
        }
        _ if has(&["sender address", "sender denied", "sender rejected"]) => Reason::SenderRefused,
        _ if has(&["relay"]) => Reason::RelayDenied,
        (_, Some((4, 3, 0 | 5))) => Reason::TableFailure,
        _ if is_temporary && has(&["lookup failure", "configuration error"]) => {
            Reason::TableFailure
        }
        (450, Some((4, 3, 2))) => Reason::Postscreen,
        (_, Some((4, 2, 0) | (4, 7, 1))) => Reason::Greylisted,
        _ if is_temporary && has(&["greylist", "graylist", "grey list", "try later"]) => {
            Reason::Greylisted
        }
        _ if is_temporary => Reason::OtherTemporary,
        (500..600, _) => Reason::OtherRefusal,
        _ => Reason::NotSmtp,
    }
}

/// What a long time before an answer means.
pub fn pace(took: Duration) -> Option<&'static str> {
    (took >= SLOW).then_some(
        "it took its time: a tarpit (Exchange waits 5 s before each refusal, Postfix after some errors), a restriction that \
         sleeps, or a slow lookup, policy service or callout",
    )
}

/// What a long time before the greeting means.
pub fn pace_of_greeting(greeting: &Reply) -> Option<&'static str> {
    (greeting.took >= SLOW).then_some(
        "it took its time to greet: postscreen waits for clients that talk too early (postscreen_greet_wait), or the name of \
         this host is looked up slowly",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use Expected::{Accepted, Refused};
    use Verdict::{Agrees, Contradicts, Undecided};

    fn reply(text: &str) -> Reply {
        let (code, text) = text.split_once(' ').expect("a code");
        Reply {
            code: code.parse().expect("a number"),
            lines: text.split('\n').map(str::to_owned).collect(),
            took: Duration::ZERO,
        }
    }

    #[track_caller]
    fn check(text: &str, of_known: Verdict, of_unknown: Verdict) {
        let address = Address::parse("anna.relay@example.com").expect("an address");
        let judged = [Accepted, Refused].map(|expected| judge(&address, expected, &reply(text)));
        assert_eq!(judged, [of_known, of_unknown], "{text}");
    }

    #[track_caller]
    fn check_undecided(text: &str, reason: Reason) {
        check(text, Undecided(reason), Undecided(reason));
    }

    #[test]
    fn acceptance_and_refusal() {
        check("250 2.1.5 Ok", Agrees, Contradicts);
        check("250 ok", Agrees, Contradicts);
        check("251 User not local; will forward", Agrees, Contradicts);
        for text in [
            "550 5.1.1 <anna.relay@example.com>: Recipient address rejected: User unknown in relay recipient table",
            "550 5.1.1 <anna.relay@example.com>: Recipient address rejected: undeliverable address: host ex.example said: 550",
            "554 5.1.1 no such mailbox",
            "550 5.1.1 User unknown",
            "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
            "550 5.4.1 [anna.relay@example.com]: Recipient address rejected: Access denied. AS(201806281)",
            "550 Unrouteable address",
            "550 sorry, no such user here",
            "553 Unknown recipient",
        ] {
            check(text, Contradicts, Agrees);
        }
    }

    #[test]
    fn what_decides_nothing() {
        for (text, reason) in [
            (
                "450 4.2.0 <anna.relay@example.com>: Recipient address rejected: Greylisted, see http://postgrey.example",
                Reason::Greylisted,
            ),
            (
                "450 4.7.1 <anna.relay@example.com>: Recipient address rejected: Service is unavailable (try later)",
                Reason::Greylisted,
            ),
            ("451 Greylisted, please try again", Reason::Greylisted),
            (
                "450 4.3.2 Service currently unavailable",
                Reason::Postscreen,
            ),
            (
                "451 4.3.0 <anna.relay@example.com>: Temporary lookup failure",
                Reason::TableFailure,
            ),
            ("451 4.3.5 Server configuration error", Reason::TableFailure),
            (
                "450 4.1.1 <anna.relay@example.com>: Recipient address rejected: unverified address: Address verification in \
                 progress",
                Reason::Unverified,
            ),
            (
                "450 4.1.1 <anna.relay@example.com>: Recipient address rejected: undeliverable address: unknown",
                Reason::Unverified,
            ),
            (
                "450 4.1.1 <anna.relay@example.com>: Recipient address rejected: User unknown in relay recipient table",
                Reason::SoftRefusal,
            ),
            (
                "454 4.7.1 <anna.relay@example.com>: Relay access denied",
                Reason::RelayDenied,
            ),
            (
                "554 5.7.1 <anna.relay@example.com>: Relay access denied",
                Reason::RelayDenied,
            ),
            (
                "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain",
                Reason::RelayDenied,
            ),
            (
                "421 4.7.0 mx.example Error: too many errors",
                Reason::Closing,
            ),
            (
                "530 5.7.0 Must issue a STARTTLS command first",
                Reason::TlsNeeded,
            ),
            (
                "530 5.7.57 SMTP; Client was not authenticated to send anonymous mail",
                Reason::AuthenticationNeeded,
            ),
            (
                "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example",
                Reason::ClientRefused,
            ),
            (
                "450 4.7.1 <x>: Helo command rejected: Host not found",
                Reason::ClientRefused,
            ),
            (
                "450 4.1.8 <s@x.example>: Sender address rejected: Domain not found",
                Reason::SenderRefused,
            ),
            (
                "452 4.3.1 Insufficient system resources",
                Reason::OtherTemporary,
            ),
            (
                "452 4.5.3 Error: too many recipients",
                Reason::OtherTemporary,
            ),
            ("550 5.7.1 internal senders only", Reason::OtherRefusal),
            (
                "554 5.7.1 Recipient address rejected: Access denied",
                Reason::OtherRefusal,
            ),
            ("550 5.1.2 bad destination system", Reason::OtherRefusal),
            ("354 go ahead", Reason::NotSmtp),
        ] {
            check_undecided(text, reason);
        }
    }

    #[test]
    fn the_words_of_an_address_decide_nothing() {
        let address = Address::parse("user.unknown-relay-greylist@example.com").expect("ours");
        let text = format!("550 <{address}> denied");
        assert_eq!(
            judge(&address, Refused, &reply(&text)),
            Undecided(Reason::OtherRefusal)
        );
        let shouted = text.to_uppercase();
        assert_eq!(
            judge(&address, Refused, &reply(&shouted)),
            Undecided(Reason::OtherRefusal)
        );
    }

    #[test]
    fn a_server_that_lets_nobody_ask() {
        for (text, is_sender, expected) in [
            (
                "554 5.7.1 No SMTP service here",
                false,
                Reason::ClientRefused,
            ),
            ("421 4.7.0 too many connections", false, Reason::Closing),
            (
                "550 5.7.1 relaying denied by policy",
                false,
                Reason::ClientRefused,
            ),
            ("550 5.7.1 no bounces here", true, Reason::SenderRefused),
            (
                "451 4.1.8 domain of sender does not resolve",
                true,
                Reason::SenderRefused,
            ),
            (
                "530 5.7.0 Must issue a STARTTLS command first",
                true,
                Reason::TlsNeeded,
            ),
        ] {
            assert_eq!(
                Reason::of_beginning(&reply(text), is_sender),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn slowness_is_worth_a_sentence() {
        assert_eq!(pace(SLOW - Duration::from_millis(1)), None);
        assert!(pace(SLOW).is_some());
    }
}
