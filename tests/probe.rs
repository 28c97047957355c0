//! Servers that no real one can be made to be: hostile, broken, or in the middle of something when they are asked.
//!
//! Each is a few lines of a script at the other end of a real connection. Where one is silent, the client's patience is
//! short, and the answer is the same on a busy machine. What a real Postfix answers is tested in `verify.rs`.
#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and the message says what was expected"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcptsync::address::Address;
use rcptsync::error::Failure;
use rcptsync::probe::verdict::{Expected, Reason, Verdict};
use rcptsync::probe::{Interview, Options, Question, ask};
use rcptsync::smtp::Endpoint;

/// More than a busy machine needs to answer.
const PATIENT: Duration = Duration::from_secs(60);
/// For servers that do not answer at all, or not any more after they have greeted.
const IMPATIENT: Duration = Duration::from_secs(3);

/// The other end of a connection.
struct Conversation {
    reader: BufReader<TcpStream>,
    /// From 0.
    number: usize,
}

impl Conversation {
    /// Says something as it stands there. A client that has gone away is no failure of the server.
    fn say(&mut self, octets: impl AsRef<[u8]>) -> bool {
        self.reader.get_mut().write_all(octets.as_ref()).is_ok()
    }

    /// Says something and ends the conversation.
    fn leave(&mut self, octets: impl AsRef<[u8]>) -> bool {
        self.say(octets);
        false
    }

    /// The next command; empty once the client has gone.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        let _ = self.reader.read_line(&mut line);
        line.trim_end().to_owned()
    }

    /// Does until the client has gone.
    fn for_ever(&mut self, octets: impl AsRef<[u8]>, pause: Duration) {
        while self.say(octets.as_ref()) {
            std::thread::sleep(pause);
        }
    }

    /// Nothing any more, until the client has gone.
    fn be_silent(&mut self) {
        while !self.hear().is_empty() {}
    }

    /// Behaves; what it says to each recipient is the script's.
    fn behave(&mut self, mut recipient: impl FnMut(&mut Conversation, &str) -> bool) {
        self.say("220 mx.example ESMTP\r\n");
        loop {
            let command = self.hear();
            assert!(!command.starts_with("DATA"), "a message is sent");
            let is_going_on = match command.split([' ', ':']).next().unwrap_or_default() {
                "" => false,
                "EHLO" => self.say("250-mx.example\r\n250 PIPELINING\r\n"),
                "RCPT" => recipient(self, &command),
                "QUIT" => self.leave("221 bye\r\n"),
                _ => self.say("250 2.1.0 Ok\r\n"),
            };
            if !is_going_on {
                return;
            }
        }
    }
}

fn right_answer(command: &str) -> &'static str {
    if command.contains("<known") {
        "250 2.1.5 Ok\r\n"
    } else {
        "550 5.1.1 User unknown\r\n"
    }
}

/// Asks a server with this script for known and unknown addresses in turn. Gives what it said and how many sessions it led.
fn interview(
    script: fn(&mut Conversation),
    questions_count: usize,
    timeout: Duration,
) -> (Result<Interview, Box<Failure>>, usize) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let endpoint = listener.local_addr().expect("a bound port").to_string();
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let sessions_count = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sessions_count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let reader = BufReader::new(stream);
            std::thread::spawn(move || script(&mut Conversation { reader, number }));
        }
    });
    let question = |number: usize| {
        let (name, expected) = match number % 2 {
            0 => ("known", Expected::Accepted),
            _ => ("unknown", Expected::Refused),
        };
        let address = Address::parse(&format!("{name}{number}@x.example"));
        Question {
            address: address.expect("an address"),
            expected,
        }
    };
    let questions: Vec<Question> = (0..questions_count).map(question).collect();
    let options = Options {
        sender: None,
        helo: None,
        timeout,
        deadline: Instant::now() + Duration::from_secs(600),
    };
    let asked = ask(&endpoint, &questions, &options);
    (asked, sessions_count.load(Ordering::SeqCst))
}

/// What became of four questions, and in how many sessions.
#[track_caller]
fn check(
    script: fn(&mut Conversation),
    timeout: Duration,
    expected: [Verdict; 4],
    sessions_expected: usize,
) {
    let (asked, sessions_count) = interview(script, 4, timeout);
    let answers = asked.expect("it could be asked").answers;
    let verdicts: Vec<Verdict> = answers.iter().map(|answer| answer.verdict).collect();
    assert_eq!(verdicts, expected, "{answers:#?}");
    assert_eq!(sessions_count, sessions_expected);
}

/// Why nobody could ask.
#[track_caller]
fn check_failure(script: fn(&mut Conversation), timeout: Duration, place: &str, why: &str) {
    let (asked, _) = interview(script, 4, timeout);
    let failure = asked.expect_err("nobody could ask");
    assert!(failure.place.ends_with(place), "{failure:#?}");
    assert!(failure.why.contains(why), "{failure:#?}");
    assert_eq!(failure.exit.code(), 75);
}

use Verdict::{Agrees, Contradicts, Undecided};

#[test]
fn whoever_behaves_is_asked_in_one_session() {
    let behave = |it: &mut Conversation| it.behave(|it, command| it.say(right_answer(command)));
    check(behave, PATIENT, [Agrees; 4], 1);
    let (asked, sessions_count) = interview(behave, 12, PATIENT);
    let answers = asked.expect("it could be asked").answers;
    assert!(answers.iter().all(|answer| answer.verdict == Agrees));
    assert_eq!(
        (answers.len(), sessions_count),
        (12, 3),
        "five recipients a session"
    );
    let (asked, _) = interview(behave, 0, PATIENT);
    assert_eq!(
        asked
            .expect("it greets")
            .greeting
            .map(|greeting| greeting.code),
        Some(220)
    );
}

#[test]
fn a_contradiction_needs_a_clear_word() {
    check(
        |it| it.behave(|it, _| it.say("250 Ok\r\n")),
        PATIENT,
        [Agrees, Contradicts, Agrees, Contradicts],
        1,
    );
    check(
        |it| it.behave(|it, _| it.say("550 5.1.1 nobody\r\n")),
        PATIENT,
        [Contradicts, Agrees, Contradicts, Agrees],
        1,
    );
    check(
        |it| it.behave(|it, _| it.say("550 5.7.1 no\r\n")),
        PATIENT,
        [Undecided(Reason::OtherRefusal); 4],
        1,
    );
}

#[test]
fn replies_may_come_in_pieces_and_lines() {
    check(
        |it| {
            it.behave(|it, command| {
                let reply = right_answer(command);
                let (code, text) = reply.split_at(3);
                let reply = format!("{code}-more\r\n{code}-\r\n{code}{text}");
                reply.bytes().all(|octet| it.say([octet]))
            });
        },
        PATIENT,
        [Agrees; 4],
        1,
    );
    check(
        |it| it.behave(|it, command| it.say(right_answer(command).replace("\r\n", "\n"))),
        PATIENT,
        [Agrees; 4],
        1,
    );
}

#[test]
fn a_farewell_in_the_middle_is_no_answer() {
    // One answer a session: the others are asked for in sessions of their own.
    check(
        |it| {
            let mut asked = 0;
            it.behave(|it, command| {
                asked += 1;
                let reply = match asked {
                    1 => right_answer(command),
                    _ => "421 4.7.0 enough\r\n",
                };
                it.say(reply) && asked == 1
            });
        },
        PATIENT,
        [Agrees; 4],
        4,
    );
    // The farewell comes with the answer, as Postfix says it after too many errors.
    check(
        |it| {
            it.behave(|it, command| {
                it.leave(format!(
                    "{}421 4.7.0 too many errors\r\n",
                    right_answer(command)
                ))
            });
        },
        PATIENT,
        [Agrees; 4],
        4,
    );
    check(
        |it| it.behave(|_, _| false),
        PATIENT,
        [Undecided(Reason::Lost); 4],
        2,
    );
    check(
        |it| it.behave(|it, _| it.leave("421 4.3.2 shutting down\r\n")),
        PATIENT,
        [Undecided(Reason::Closing); 4],
        2,
    );
    // It was there, and then it is not any more.
    check(
        |it| {
            if it.number == 0 {
                it.behave(|it, command| it.leave(right_answer(command)));
            }
        },
        PATIENT,
        [
            Agrees,
            Undecided(Reason::NoGreeting),
            Undecided(Reason::NoGreeting),
            Undecided(Reason::NoGreeting),
        ],
        3,
    );
}

#[test]
fn silence_ends() {
    check(
        |it| {
            it.behave(|it, _| {
                it.be_silent();
                false
            });
        },
        IMPATIENT,
        [Undecided(Reason::Silent); 4],
        2,
    );
    check_failure(
        Conversation::be_silent,
        IMPATIENT,
        ", at connecting",
        "no answer within 3s",
    );
}

#[test]
fn a_reply_that_never_ends_ends() {
    check_failure(
        |it| it.for_ever("2", Duration::from_millis(20)),
        IMPATIENT,
        ", at connecting",
        "an answer began and did not end within 3s",
    );
    check_failure(
        |it| it.for_ever("220-welcome\r\n", Duration::ZERO),
        PATIENT,
        ", at connecting",
        "longer than any answer",
    );
    check_failure(
        |it| it.for_ever([b'2'; 4096], Duration::ZERO),
        PATIENT,
        ", at connecting",
        "longer than any answer",
    );
    check(
        |it| {
            it.behave(|it, _| {
                it.for_ever("250-yes\r\n", Duration::ZERO);
                false
            });
        },
        PATIENT,
        [Undecided(Reason::NotSmtp); 4],
        2,
    );
}

#[test]
fn what_does_not_speak_smtp_is_told_so() {
    let not_smtp = "this is no answer of SMTP";
    check_failure(
        |it| {
            it.say("SSH-2.0-OpenSSH_9.2\r\n");
        },
        PATIENT,
        ", at connecting",
        not_smtp,
    );
    check_failure(
        |it| {
            it.say("220-mx.example\r\n550 changed my mind\r\n");
        },
        PATIENT,
        ", at connecting",
        not_smtp,
    );
    check_failure(
        |_| {},
        PATIENT,
        ", at connecting",
        "it closed the connection",
    );
    // Answers to questions that were not asked yet.
    check_failure(
        |it| {
            it.say("220 mx.example\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n");
            it.be_silent();
        },
        PATIENT,
        ", at EHLO",
        "it speaks without being asked",
    );
}

#[test]
fn whoever_lets_nobody_ask_says_why() {
    check_failure(
        |it| {
            it.say("554 5.7.1 no SMTP service here\r\n");
        },
        PATIENT,
        ", at connecting",
        "it answered 554 5.7.1 no SMTP service here",
    );
    check_failure(
        |it| {
            it.say("220 mx.example ESMTP\r\n");
            it.hear();
            it.say("250-mx.example\r\n250 STARTTLS\r\n");
            it.hear();
            it.say("530 5.7.0 Must issue a STARTTLS command first\r\n");
        },
        PATIENT,
        ", at MAIL FROM",
        "it answered 530",
    );
}

/// A server of before 1995.
#[test]
fn whoever_knows_no_ehlo_is_greeted_with_helo() {
    check(
        |it| {
            it.say("220 mx.example SMTP\r\n");
            while !matches!(it.hear().split(' ').next(), Some("HELO" | "")) {
                it.say("500 what?\r\n");
            }
            it.say("250 mx.example\r\n");
            loop {
                let command = it.hear();
                let reply = match command.split(' ').next() {
                    Some("RCPT") => right_answer(&command),
                    Some("") => return,
                    _ => "250 ok\r\n",
                };
                it.say(reply);
            }
        },
        PATIENT,
        [Agrees; 4],
        1,
    );
}

#[test]
fn a_port_where_nobody_listens_is_told() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let endpoint = listener.local_addr().expect("a bound port").to_string();
    drop(listener);
    let options = Options {
        sender: None,
        helo: None,
        timeout: PATIENT,
        deadline: Instant::now() + PATIENT,
    };
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let failure = ask(&endpoint, &[], &options).expect_err("nobody is there");
    assert!(
        failure.why.contains("cannot be connected to"),
        "{failure:#?}"
    );
    let over = Options {
        deadline: Instant::now(),
        ..options
    };
    let failure = ask(&endpoint, &[], &over).expect_err("no time");
    assert!(failure.why.contains("run_timeout"), "{failure:#?}");
}
