//! Asking a server who its recipients are: a few questions a session, and a verdict on every answer.
//!
//! A session asks for few recipients, because a server that is asked for many that do not exist slows down and hangs up
//! (Postfix: after 10 and 20). One that ends a session early is asked the rest in another, as long as every session
//! brings an answer; two sessions without one end the asking. What replies mean is decided in [`verdict`], which
//! addresses are worth asking in [`sample`].
//!
//! Invariant: there is an answer for every question, in their order, or a failure that says why nobody could be asked.

pub mod sample;
pub mod verdict;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::domain::Domain;
use crate::error::{Failure, Result};
use crate::exit::Exit;
use crate::smtp::{self, Endpoint, Patience, Reply, Session, SmtpError};
use verdict::{Expected, Reason, Verdict};

const RECIPIENTS_A_SESSION: usize = 5;
const FRUITLESS_SESSIONS_MAX: usize = 2;

/// One address, and what the server should say to it.
#[derive(Clone, Debug)]
pub struct Question {
    /// The address.
    pub address: Address,
    /// The right answer.
    pub expected: Expected,
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who would send; nobody (`<>`) asks as a bounce does.
    pub sender: Option<Address>,
    /// Who asks; the name of this machine where nothing is said.
    pub helo: Option<Domain>,
    /// How long one reply may take, the greeting included.
    pub timeout: Duration,
    /// When the whole asking must be over.
    pub deadline: Instant,
}

/// What became of a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub question: Question,
    /// What the server said, if it did: to `RCPT TO`, or when it ended the session before.
    pub reply: Option<Reply>,
    /// Why it said nothing.
    pub trouble: Option<String>,
    /// What that means.
    pub verdict: Verdict,
}

/// All that a server said.
#[derive(Clone, Debug)]
pub struct Interview {
    /// How it greeted first.
    pub greeting: Option<Reply>,
    /// Per question, in their order.
    pub answers: Vec<Answer>,
}

/// Asks a server. It is a failure if it lets nobody ask.
pub fn ask(endpoint: &Endpoint, questions: &[Question], options: &Options) -> Result<Interview> {
    let mut asking = Asking {
        questions,
        options,
        greeting: None,
        answers: vec![None; questions.len()],
        waiting: (0..questions.len()).collect(),
        is_let_in: false,
    };
    let mut fruitless_count = 0;
    // Without a question, whether it greets is worth knowing.
    while asking.greeting.is_none() || !asking.waiting.is_empty() {
        let waiting_before = asking.waiting.len();
        let Err(stop) = asking.session(endpoint) else {
            continue;
        };
        let is_at_recipient = stop.step == Step::Recipient;
        if !is_at_recipient && !asking.is_let_in {
            return Err(Box::new(stop.failure(endpoint)));
        }
        // A session that brought something and was ended then: the question goes to the next one.
        if asking.waiting.len() < waiting_before && stop.is_end_of_session() {
            continue;
        }
        fruitless_count += 1;
        if is_at_recipient && let Some(number) = asking.waiting.pop_front() {
            asking.answer_without(number, &stop);
        }
        if fruitless_count == FRUITLESS_SESSIONS_MAX || stop.reason() == Reason::TimeIsUp {
            for number in std::mem::take(&mut asking.waiting) {
                asking.answer_without(number, &stop);
            }
        }
    }
    Ok(Interview {
        greeting: asking.greeting,
        answers: asking.answers.into_iter().flatten().collect(),
    })
}

/// A random number. The standard library takes what it seeds its hash maps with from the system.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

struct Asking<'run> {
    questions: &'run [Question],
    options: &'run Options,
    greeting: Option<Reply>,
    answers: Vec<Option<Answer>>,
    /// Numbers of questions.
    waiting: VecDeque<usize>,
    /// Whether a session ever came to the recipients.
    is_let_in: bool,
}

impl Asking<'_> {
    /// Leads one session. What it did not come to goes on waiting.
    fn session(&mut self, endpoint: &Endpoint) -> std::result::Result<(), Stop> {
        let patience = Patience {
            reply: self.options.timeout,
            deadline: self.options.deadline,
        };
        let opened = Session::open(endpoint, patience);
        let (mut session, greeting) = opened.map_err(|error| Stop::at(Step::Greeting, error))?;
        let greeting = Step::Greeting.must_be(220, greeting)?;
        self.greeting.get_or_insert(greeting);
        let hello = session.hello(self.options.helo.as_ref());
        let hello = hello.map_err(|error| Stop::at(Step::Hello, error))?;
        Step::Hello.must_be(250, hello)?;

        if !session.offers_smtputf8() {
            self.answer_what_cannot_be_said();
        }
        let batch: Vec<usize> = (self.waiting.iter().copied())
            .take(RECIPIENTS_A_SESSION)
            .collect();
        if !batch.is_empty() {
            let needs_smtputf8 =
                |number: &usize| smtp::needs_smtputf8(&self.questions[*number].address);
            let with_smtputf8 = batch.iter().any(needs_smtputf8);
            let began = session.mail_from(self.options.sender.as_ref(), with_smtputf8);
            let began = began.map_err(|error| Stop::at(Step::Sender, error))?;
            Step::Sender.must_be(250, began)?;
            self.is_let_in = true;
        }
        for number in batch {
            let question = &self.questions[number];
            let said = session.rcpt_to(&question.address);
            let reply = said.map_err(|error| Stop::at(Step::Recipient, error))?;
            if reply.code == 421 {
                return Err(Stop::with(Step::Recipient, reply));
            }
            self.waiting.pop_front();
            self.answers[number] = Some(Answer {
                verdict: verdict::judge(&question.address, question.expected, &reply),
                question: question.clone(),
                reply: Some(reply),
                trouble: None,
            });
        }
        session.end();
        Ok(())
    }

    /// Addresses that this server understands nobody to say.
    fn answer_what_cannot_be_said(&mut self) {
        let questions = self.questions;
        let (cannot, can): (VecDeque<usize>, VecDeque<usize>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|number| smtp::needs_smtputf8(&questions[*number].address));
        self.waiting = can;
        for number in cannot {
            self.answers[number] = Some(Answer {
                question: questions[number].clone(),
                reply: None,
                trouble: None,
                verdict: Verdict::Undecided(Reason::NoSmtputf8),
            });
        }
    }

    fn answer_without(&mut self, number: usize, stop: &Stop) {
        let (reply, trouble) = match &stop.cause {
            Cause::Said(reply) => (Some(reply.clone()), None),
            Cause::Failed(error) => (None, Some(error.to_string())),
        };
        self.answers[number] = Some(Answer {
            question: self.questions[number].clone(),
            reply,
            trouble,
            verdict: Verdict::Undecided(stop.reason()),
        });
    }
}

/// How far a session came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    Sender,
    Recipient,
}

impl Step {
    fn must_be(self, code: u16, reply: Reply) -> std::result::Result<Reply, Stop> {
        if reply.code == code {
            Ok(reply)
        } else {
            Err(Stop::with(self, reply))
        }
    }

    fn name(self) -> &'static str {
        match self {
            Step::Greeting => "connecting",
            Step::Hello => "EHLO",
            Step::Sender => "MAIL FROM",
            Step::Recipient => "RCPT TO",
        }
    }
}

/// Why a session ended before its time.
#[derive(Debug)]
struct Stop {
    step: Step,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Said(Reply),
    Failed(SmtpError),
}

impl Stop {
    fn at(step: Step, error: SmtpError) -> Stop {
        let cause = Cause::Failed(error);
        Stop { step, cause }
    }

    fn with(step: Step, reply: Reply) -> Stop {
        let cause = Cause::Said(reply);
        Stop { step, cause }
    }

    fn reason(&self) -> Reason {
        match &self.cause {
            Cause::Said(reply) => Reason::of_beginning(reply, self.step == Step::Sender),
            Cause::Failed(error) => Reason::of_error(error, self.step == Step::Greeting),
        }
    }

    /// Whether the server ended the session, as it may at any time.
    fn is_end_of_session(&self) -> bool {
        matches!(self.reason(), Reason::Closing | Reason::Lost)
    }

    fn failure(self, endpoint: &Endpoint) -> Failure {
        let said = match &self.cause {
            Cause::Said(reply) => format!("it answered {reply}"),
            Cause::Failed(error) => error.to_string(),
        };
        Failure {
            exit: Exit::Undecided,
            what: format!("{endpoint} could not be asked"),
            place: format!("{endpoint}, at {}", self.step.name()),
            why: said,
            in_force: Failure::NOTHING_TOUCHED.into(),
            next: self.reason().sentence().into(),
        }
    }
}
