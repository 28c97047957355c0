//! A person at a terminal: the program runs in a pseudo terminal of util-linux' `script`, questions are waited for, answers typed.
//!
//! Behind the program `stty` tells how the terminal was left, and that is a part of what is shown.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::SERVER_DEADLINE;
use super::process::command;
use super::rcptsync::Rcptsync;

/// What the terminal says when the program has ended and left it as it was.
const LEFT_BEHIND: &str = "isig icanon";

/// A running dialogue.
pub struct Dialogue {
    script: Child,
    keyboard: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    /// What was waited for already.
    seen: usize,
}

/// How it ended.
pub struct Ended {
    pub code: i32,
    /// Everything that stood on the screen.
    pub shown: String,
}

impl Dialogue {
    /// Starts the program on a terminal.
    pub fn start(program: &Rcptsync, arguments: &[&str]) -> Dialogue {
        Dialogue::start_under(&[], program, arguments)
    }

    /// Starts it below another program.
    pub fn start_under(wrapper: &[&str], program: &Rcptsync, arguments: &[&str]) -> Dialogue {
        let words = program.words(arguments);
        let quoted: Vec<String> = wrapper
            .iter()
            .copied()
            .chain(words.iter().map(String::as_str))
            .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
            .collect();
        let line = format!(
            "stty cols 80 rows 24; {}; code=$?; stty -a; exit $code",
            quoted.join(" ")
        );
        let mut script = command("script");
        script
            .args([
                "--quiet",
                "--return",
                "--echo",
                "always",
                "--command",
                &line,
                "/dev/null",
            ])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .env_remove("RCPTSYNC_CONFIG")
            .envs(program.mail_config.iter().map(|path| ("MAIL_CONFIG", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut script = script.spawn().expect("script runs");
        let mut screen = script.stdout.take().expect("a pipe");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut octets) {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.extend_from_slice(&octets[..count]);
            }
        });
        Dialogue {
            keyboard: script.stdin.take(),
            script,
            shown,
            reader: Some(reader),
            seen: 0,
        }
    }

    fn text(&self) -> String {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).replace("\r\n", "\n")
    }

    /// Waits until this stands on the screen, behind what was waited for before; wherever its lines are broken.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) -> &mut Dialogue {
        let started = Instant::now();
        loop {
            let text = self.text();
            let on_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let behind = on_one_line.get(self.seen..).unwrap_or_default();
            if let Some(at) = behind.find(words) {
                self.seen += at + words.len();
                return self;
            }
            // Nothing more will come.
            let is_over = behind.contains(LEFT_BEHIND) || started.elapsed() > SERVER_DEADLINE;
            assert!(!is_over, "\"{words}\" was not shown:\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a question, and types a line.
    #[track_caller]
    pub fn answer(&mut self, question: &str, line: &str) -> &mut Dialogue {
        self.wait_for(question)
            .wait_for(">")
            .press(&format!("{line}\n"))
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) -> &mut Dialogue {
        let keyboard = self.keyboard.as_mut().expect("a keyboard");
        keyboard.write_all(keys.as_bytes()).expect("script reads");
        keyboard.flush().expect("script reads");
        self
    }

    /// Waits for the end. However it came, the terminal is as it was.
    #[track_caller]
    pub fn end(&mut self) -> Ended {
        self.wait_for(LEFT_BEHIND);
        drop(self.keyboard.take());
        let status = self.script.wait().expect("our own child");
        self.reader
            .take()
            .expect("not ended yet")
            .join()
            .expect("it only reads");
        let shown = self.text();
        let left = &shown[self.seen..];
        assert!(
            left.contains(" echo ") && !left.contains("-echo "),
            "{left}"
        );
        let modes = shown.rfind("speed ").map_or("", |at| &shown[at..]);
        assert!(modes.contains("eol = <undef>"), "{modes}");
        assert!(
            modes.contains(" echo ") && !modes.contains("-echo "),
            "{modes}"
        );
        Ended {
            code: status.code().expect("no signal"),
            shown,
        }
    }
}
