//! A bind in several turns (RFC 4511 section 4.2): requests, answers, and what may follow what. Pure but for [`ask`].
//!
//! Not here: what the tokens mean (`gssapi`).
//!
//! Invariant: a success that comes before the server has sent its tokens is an error, not a shorter way.

use super::ber::{self, INTEGER, OCTET_STRING, SEQUENCE};
use super::failure::{Cause, KerberosError};
use super::filter::Lost;
use super::message::{self, BindAnswer, MessageError};
use super::wire::{self, Stream};

const BIND_REQUEST: u8 = 0x60;
const SASL: u8 = 0xa3;
const VERSION: u8 = 3;

/// The result code of every answer but the last.
const BIND_IN_PROGRESS: u32 = 14;

/// What the server owes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Its proof of who it is.
    Token,
    /// The layers that it offers.
    Offer,
    /// Success.
    Outcome,
}

/// A bind request; no name, because the mechanism tells it. The message id is below 128, so that it is one octet.
fn request(id: u8, mechanism: &str, credentials: &[u8]) -> Vec<u8> {
    let sasl = [
        ber::element(OCTET_STRING, mechanism.as_bytes()),
        ber::element(OCTET_STRING, credentials),
    ];
    let bind = [
        ber::element(INTEGER, &[VERSION]),
        ber::element(OCTET_STRING, &[]),
        ber::element(SASL, &sasl.concat()),
    ];
    let message = [
        ber::element(INTEGER, &[id]),
        ber::element(BIND_REQUEST, &bind.concat()),
    ];
    ber::element(SEQUENCE, &message.concat())
}

/// Sends one request and reads its answer.
pub async fn ask(
    stream: &mut dyn Stream,
    id: u8,
    mechanism: &str,
    credentials: &[u8],
) -> Result<BindAnswer, Cause> {
    let request = request(id, mechanism, credentials);
    let frame = wire::ask(stream, &request)
        .await
        .map_err(wire::cause_of_loss)?;
    message::bind_answer(&frame, id.into()).map_err(|error| {
        Cause::Lost(if let MessageError::Notice(outcome) = error {
            Lost::Notice(outcome)
        } else {
            Lost::Malformed(error)
        })
    })
}

/// The token of an answer; an empty one at the end.
pub fn token_of(answer: BindAnswer, awaited: Awaited) -> Result<Vec<u8>, Cause> {
    let wrong = |text| Err(Cause::Kerberos(KerberosError::Exchange(text)));
    match (awaited, answer.outcome.code, answer.credentials) {
        (Awaited::Token | Awaited::Offer, BIND_IN_PROGRESS, Some(token)) => Ok(token),
        (Awaited::Token | Awaited::Offer, BIND_IN_PROGRESS, None) => {
            wrong("the server sent no token where it owes one")
        }
        (Awaited::Token | Awaited::Offer, 0, _) => {
            wrong("the server said success before it had proven who it is")
        }
        (Awaited::Outcome, BIND_IN_PROGRESS, _) => {
            wrong("the server asks for more where nothing more belongs")
        }
        (Awaited::Outcome, 0, _) => Ok(Vec::new()),
        (Awaited::Token | Awaited::Offer | Awaited::Outcome, _, _) => {
            Err(Cause::Refused(answer.outcome))
        }
    }
}

/// The choice of no layer, from the server's offer (RFC 4752 section 3.1): a mask of layers and the most that it accepts.
pub fn without_layer(offer: &[u8]) -> Result<[u8; 4], &'static str> {
    const NO_LAYER: u8 = 1;
    let [layers, _, _, _] = offer else {
        return Err("the server's offer of layers is not four octets long");
    };
    if layers & NO_LAYER == 0 {
        return Err(
            "the server insists on a layer of its own, which does not go together with TLS",
        );
    }
    Ok([NO_LAYER, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::message::Outcome;

    #[test]
    fn a_request_is_what_the_filter_knows_as_one() {
        for length in [0, 1, 127, 128, 5_000, 70_000] {
            let frame = request(3, "GSSAPI", &vec![0x5a; length]);
            let limits = ber::Limits {
                depth_max: 4,
                elements_max: 8,
            };
            assert_eq!(ber::check_frame(&frame, &limits), Ok(()));
            let awaited = message::awaited_by(&frame).expect("a bind");
            assert_eq!((awaited.id, awaited.request), (3, message::Request::Bind));
            assert!(frame.len() >= length + 20);
        }
    }

    #[track_caller]
    fn check(awaited: Awaited, code: u32, token: Option<&str>, expected: &str) {
        let answer = BindAnswer {
            outcome: Outcome {
                code,
                ..Outcome::default()
            },
            credentials: token.map(|token| token.as_bytes().to_vec()),
        };
        let found = match token_of(answer, awaited) {
            Ok(token) => String::from_utf8(token).expect("text"),
            Err(cause) => cause.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn no_turn_is_left_out() {
        const EARLY: &str = "the server said success before it had proven who it is";
        check(Awaited::Token, 14, Some("proof"), "proof");
        check(Awaited::Offer, 14, Some("offer"), "offer");
        check(Awaited::Outcome, 0, None, "");
        check(Awaited::Token, 0, Some("proof"), EARLY);
        check(Awaited::Token, 0, None, EARLY);
        check(Awaited::Offer, 0, Some("offer"), EARLY);
        check(
            Awaited::Token,
            14,
            None,
            "the server sent no token where it owes one",
        );
        check(
            Awaited::Outcome,
            14,
            Some("more"),
            "the server asks for more where nothing more belongs",
        );
        for awaited in [Awaited::Token, Awaited::Offer, Awaited::Outcome] {
            check(awaited, 49, Some("x"), "invalidCredentials (49)");
            check(awaited, 8, None, "strongerAuthRequired (8)");
        }
    }

    #[test]
    fn no_layer_is_chosen_where_it_is_offered() {
        assert_eq!(without_layer(&[7, 0, 16, 0]), Ok([1, 0, 0, 0]));
        assert_eq!(without_layer(&[1, 0, 0, 0]), Ok([1, 0, 0, 0]));
        assert!(without_layer(&[6, 0, 16, 0]).is_err());
        assert!(without_layer(&[]).is_err());
        assert!(without_layer(&[1, 0, 0, 0, 0]).is_err());
    }
}
